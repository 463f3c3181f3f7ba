"""The command `build`: what lies in the Bento and in the container's context, and that the Bento answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import LABELS, expected_logits, make_bundle, random_images
from ports import free_port

from subspace_serve.answers import softmax
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.verify import verify_bundle
from subspace_serve.cli import main
from subspace_serve.deploy.packaging import PackagingError, check_context

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
# Whoever asks a network here fails at once.
OFFLINE = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "PIP_NO_INDEX": "1"}
BUNDLE_FILES = {"manifest.json", "golden.npz", "midpoint.onnx", "endpoint-0.onnx", "endpoint-1.onnx"}


def environment(home: Path) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SUBSPACE_SERVE_") and name.lower() not in ("no_proxy", "pip_find_links")
    }
    return clean | OFFLINE | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "true", "NO_PROXY": "127.0.0.1"}


def build(folder: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, without a network, with a BENTOML_HOME of its own."""
    command = [sys.executable, "-c", "from subspace_serve.cli import main; main()", "build", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment(folder / "home") | variables, capture_output=True, text=True, check=False
    )


@pytest.fixture
def build_here(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Run the command in this process, up to where BentoML begins; return its exit status and standard error."""

    def call(folder: Path, *arguments: object) -> tuple[int, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("BENTOML_HOME", str(folder / "home"))
        monkeypatch.setattr(sys, "argv", ["subspace-serve", "build", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return status, capsys.readouterr().err

    return call


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Return a folder with a bundle, its Bento in `home` and as an archive, its context, and the report."""
    folder = tmp_path_factory.mktemp("build")
    make_bundle(folder / "runs" / "latest" / "bundle")
    # A misspelt setting of a server is nothing to a build.
    done = build(
        folder, "--out", "service.bento", "--context", "context", "--json", "report.json", SUBSPACE_SERVE_WROKERS="2"
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def bento(built) -> Path:
    return Path(json.loads((built / "report.json").read_text())["bento"]["folder"])


def tree(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_the_bento_holds_the_service_the_bundle_and_nothing_else(bento):
    source = tree(bento / "src")
    assert {name.split("/")[0] for name in source} == {
        "subspace_serve", "service", "bundle", "entry.py", "bentofile.yaml",
    }  # fmt: skip
    for package in ("subspace_serve", "service"):
        expected = {f"{package}/{name}" for name in tree(ROOT / package) if "__pycache__" not in name}
        assert {name for name in source if name.startswith(package + "/")} == expected
    assert {file.name for file in (bento / "src" / "bundle").iterdir()} == BUNDLE_FILES
    verify_bundle(bento / "src" / "bundle")


def test_the_bento_asks_for_what_is_installed_here_and_not_for_torch(bento):
    lines = (bento / "env" / "python" / "requirements.txt").read_text().splitlines()
    names = {re.split(r"[=<>; ]", line)[0] for line in lines}
    assert f"numpy=={np.__version__}" in lines
    assert {"bentoml", "pydantic", "starlette", "pillow"} <= names
    assert not names & {"torch", "torchvision", "onnx", "pytest", "subspace-serve"}
    assert not any("/" in line or "@" in line for line in lines)


def test_the_report_names_the_bundle_that_is_inside(built, bento):
    report = json.loads((built / "report.json").read_text())
    tag = report["bento"]["tag"]
    assert re.fullmatch(r"subspace-serve:[0-9a-f]{16}", tag)
    assert bento == built / "home" / "bentos" / tag.replace(":", "/")
    assert report["bundle"]["points"].keys() == {"midpoint", "endpoint-0", "endpoint-1"}
    assert report["context"] == "context"


def test_the_archive_is_the_bento(built, bento):
    with tarfile.open(built / "service.bento") as archive:
        names = {member.name.removeprefix("./") for member in archive.getmembers() if member.isfile()}
    assert names == tree(bento)


def test_the_same_content_is_the_same_version(built, bento):
    again = build(built, "runs/latest/bundle", "--json", "-")
    assert again.returncode == 0, again.stderr
    # Standard output is the document and nothing else.
    assert json.loads(again.stdout)["bento"]["folder"] == str(bento)
    assert [entry.name for entry in bento.parent.iterdir() if entry.is_dir()] == [bento.name]


def test_name_and_version_are_those_asked_for(built):
    first = build(built, "--name", "digits", "--version", "1.2.0")
    assert first.returncode == 0, first.stderr
    folder = built / "home" / "bentos" / "digits" / "1.2.0"
    assert f"Bento: digits:1.2.0; start it with: bentoml serve {folder}" in first.stdout
    assert (folder / "src" / "bundle" / "manifest.json").is_file()
    second = build(built, "--name", "digits", "--version", "1.2.0")
    assert second.returncode == 1
    assert "there is a Bento digits:1.2.0 already" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--name", "Digits"], 1, "the Bento's name is 'Digits'"),
        (["--name", ".."], 1, "the Bento's name is '..'"),
        (["--version", "a:b"], 1, "the Bento's version is 'a:b'"),
        (["--out", "service.zip"], 2, "service.zip does not end in .bento"),
        (["--no-bento"], 2, "--no-bento leaves nothing to build"),
        (["--no-bento", "--context", "."], 1, "holds something else than a container's context"),
        (["nowhere"], 1, "there is no bundle at nowhere"),
    ],
)
def test_what_cannot_be_built_is_one_message(built, build_here, arguments, status, message):
    before = tree(built)
    found, error = build_here(built, *arguments)
    assert found == status
    assert message in error
    assert "Traceback" not in error
    assert tree(built) == before


def test_a_changed_bundle_is_not_packaged(build_here, tmp_path):
    make_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "midpoint.onnx").write_bytes(b"x")
    status, error = build_here(tmp_path, "bundle", "--context", "context")
    assert status == 1
    assert "midpoint.onnx was changed" in error
    assert {entry.name for entry in tmp_path.iterdir()} == {"bundle"}


def test_the_context_holds_all_that_its_dockerfile_copies(built):
    context = built / "context"
    assert {entry.name for entry in context.iterdir()} == {
        "Dockerfile", "pyproject.toml", "README.md", "LICENSE", "subspace_serve", "service", "trainer", "bundle",
    }  # fmt: skip
    recipe = (ROOT / "Dockerfile").read_text()
    dockerfile = (context / "Dockerfile").read_text()
    assert recipe.startswith(dockerfile)
    # The stage that is built is the one with the bundle inside, which is where the server looks.
    assert re.findall(r"^FROM .*", dockerfile, re.M)[-1] == "FROM server AS with-bundle"
    assert dockerfile.rstrip().endswith("ARG BUNDLE=bundle\nCOPY ${BUNDLE} /bundle")
    assert "SUBSPACE_SERVE_BUNDLE=/bundle" in dockerfile
    for line in re.findall(r"^COPY (.*)", dockerfile, re.M):
        for source in line.split()[:-1]:
            assert (context / source.replace("${BUNDLE}", "bundle")).exists(), source
    assert Bundle.open(context / "bundle").points.keys() == {"midpoint", "endpoint-0", "endpoint-1"}
    assert not any("__pycache__" in name for name in tree(context))
    # The server runs as another user than who built.
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in context.rglob("*") if file.is_file())


def test_a_context_is_replaced_whole(build_here, tmp_path):
    make_bundle(tmp_path / "bundle")
    words = ("bundle", "--no-bento", "--context", "context")
    assert build_here(tmp_path, *words) == (0, "")
    (tmp_path / "context" / "service" / "left").touch()
    assert build_here(tmp_path, *words) == (0, "")
    assert not (tmp_path / "context" / "service" / "left").exists()
    assert not (tmp_path / "home").exists()


def test_a_folder_with_a_dockerfile_and_a_bundle_of_its_own_is_no_context(built, tmp_path):
    checkout = Path(shutil.copytree(built / "context", tmp_path / "checkout"))
    (checkout / ".git").mkdir()
    with pytest.raises(PackagingError, match=r"holds something else than a container's context \(.git\)"):
        check_context(checkout)
    project = tmp_path / "project"
    shutil.copytree(built / "context" / "bundle", project / "bundle")
    (project / "Dockerfile").touch()
    with pytest.raises(PackagingError, match=r"\(Dockerfile, bundle\); name a new folder"):
        check_context(project)


@contextlib.contextmanager
def serving(bento: Path, folder: Path, **variables: str) -> Iterator[str]:
    """Start a Bento as BentoML does, in a home that has never seen it; yield its address."""
    port = free_port()
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        env=environment(folder / "home") | {"TMPDIR": str(folder / "tmp"), "SUBSPACE_SERVE_DRAIN": "0"} | variables,
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(url: str, document: object = None) -> tuple[int, bytes]:
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def wait_until_ready(address: str, log: Path) -> None:
    end = time.monotonic() + 25
    while True:
        with contextlib.suppress(OSError):
            if ask(f"{address}/readyz")[0] == 200:
                return
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def test_the_bento_answers_from_the_bundle_inside(built, bento, tmp_path):
    # Away from where it was built, and with nothing else of the installation's sources in reach.
    shutil.copytree(bento, tmp_path / "elsewhere")
    images = random_images(3)
    with serving(tmp_path / "elsewhere", tmp_path) as address:
        wait_until_ready(address, tmp_path / "log")
        status, body = ask(
            f"{address}/predict", {"images": images.tolist(), "top_k": len(LABELS), "model": "endpoints"}
        )
    assert status == 200, body
    answer = json.loads(body)
    assert answer["members"] == ["endpoint-0", "endpoint-1"]
    expected = sum(softmax(expected_logits(name, images)) for name in answer["members"]) / 2
    for entry, probabilities in zip(answer["predictions"], expected, strict=True):
        found = {label["label"]: label["probability"] for label in entry["labels"]}
        np.testing.assert_allclose([found[label] for label in LABELS], probabilities, atol=1e-6)
    assert f"serving {tmp_path / 'elsewhere' / 'src' / 'bundle'}" in (tmp_path / "log").read_text()
