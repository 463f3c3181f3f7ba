"""The commands `verify` and `predict`: what they print, and how they fail."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import bundle_factory
import numpy as np
import pytest
from bundle_factory import LABELS, expected_logits, make_bundle, random_images
from command_line import ended
from PIL import Image

from subspace_serve.answers import softmax
from subspace_serve.cli import _exhausted, main


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{index}.png" for index in range(40)]
    for path, pixels in zip(paths, random_images(40), strict=True):
        Image.fromarray(pixels).save(path)
    return [str(path) for path in paths]


def test_verify_prints_every_point(bundle, tmp_path):
    status, output, _ = ended("verify", bundle, "--device", "cpu", "--json", tmp_path / "report.json")
    assert status == 0
    assert "4 files unchanged, graphs checked" in output
    assert [line.split()[0] for line in output.splitlines()[1:]] == ["point", "midpoint", "endpoint-0", "endpoint-1"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["points"]["midpoint"]["provider"] == "CPUExecutionProvider"


def test_json_on_standard_output_is_all_there_is(bundle):
    status, output, _ = ended("verify", bundle, "--json", "-")
    assert status == 0
    assert json.loads(output)["files"] == 4


def test_the_bundle_is_that_of_the_latest_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, error = ended("verify")
    assert status == 1
    assert "there is no bundle at runs/latest/bundle" in error
    make_bundle(tmp_path / "runs" / "latest" / "bundle")
    assert ended("verify")[0] == 0


def test_a_changed_bundle_is_one_message_and_status_1(tmp_path):
    folder = make_bundle(tmp_path / "bundle")
    (folder / "midpoint.onnx").write_bytes(b"x")
    for command in (["verify"], ["predict", "--image", __file__]):
        status, output, error = ended(command[0], folder, *command[1:])
        assert status == 1
        assert output == ""
        assert error.startswith("Error: ")
        assert "midpoint.onnx was changed" in error
        assert "Traceback" not in error


def test_predict_answers_as_numpy_does(bundle, images):
    arguments = [part for image in images for part in ("--image", image)]
    options = ["--members", "endpoint-0, midpoint", "--weights", "3,1", "--json", "-", "--top-k", 4]
    status, output, _ = ended("predict", bundle, *arguments, *options)
    assert status == 0
    document = json.loads(output)
    assert document["members"] == ["endpoint-0", "midpoint"]
    assert [entry["image"] for entry in document["predictions"]] == images
    pixels = random_images(40)
    first, second = (softmax(expected_logits(name, pixels)) for name in ("endpoint-0", "midpoint"))
    mixture = 0.75 * first + 0.25 * second
    for entry, expected in zip(document["predictions"], mixture, strict=True):
        found = {label["label"]: label["probability"] for label in entry["labels"]}
        np.testing.assert_allclose([found[label] for label in LABELS], expected, atol=1e-6)


def test_predict_prints_a_table(bundle, images):
    _, output, _ = ended("predict", bundle, "--image", images[0], "--image", images[1], "--top-k", "2")
    lines = output.splitlines()
    assert lines[0] == "midpoint"
    assert lines[1].split() == ["image", "label", "probability", "entropy"]
    expected = softmax(expected_logits("midpoint", random_images(40)))[0]
    best = int(expected.argmax())
    assert lines[2].split()[:3] == ["0.png", LABELS[best], f"{expected[best]:.3f}"]
    assert len(lines) == 6
    _, output, _ = ended("predict", bundle, "--image", images[0], "--model", "endpoints")
    assert output.splitlines()[0] == "endpoints: endpoint-0 (0.5), endpoint-1 (0.5), probabilities averaged"
    assert "disagreement" in output


def test_predict_takes_photographs_as_large_as_training_does(bundle, tmp_path):
    """A phone's 50 million pixels are more than a service takes from a stranger."""
    input = random_images(1).shape[1:3]
    for name, (height, width) in (("large.png", (6144, 8160)), ("small.png", input)):
        Image.new("RGB", (width, height), (200, 30, 90)).save(tmp_path / name, compress_level=1)
    files = [part for name in ("large.png", "small.png") for part in ("--image", tmp_path / name)]
    status, output, _ = ended("predict", bundle, *files, "--json", "-")
    assert status == 0
    large, small = json.loads(output)["predictions"]
    assert large["labels"] == small["labels"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--model", "nobody"], 1, "no model 'nobody'"),
        (["--members", "endpoint-0", "--weights", "1,2"], 1, "2 weights for 1 members"),
        (["--members", "2024,midpoint"], 1, "no point '2024'"),
        (["--members", "endpoint-0", "--weights", "one"], 2, "not a list of numbers"),
        (["--image", __file__], 1, "test_cli_asking.py: an image cannot be decoded"),
        (["--image", "/nowhere.png"], 2, "/nowhere.png"),
        (["--top-k", "0"], 2, "top-k"),
    ],
)
def test_predict_fails_with_a_message(bundle, images, options, status, message):
    found, output, error = ended("predict", bundle, "--image", images[0], *options)
    assert found == status
    assert message in error
    assert output == ""


def test_predict_needs_an_image(bundle):
    assert ended("predict", bundle)[0] == 2


FOREIGN = ("Käse", "猫", "naïve", "\U0001f408")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """A bundle with labels that few terminals can show, and an image."""
    folder = tmp_path_factory.mktemp("foreign")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_factory, "LABELS", FOREIGN)
        make_bundle(folder / "bundle")
    Image.fromarray(random_images(1)[0]).save(folder / "wörter.png")
    return folder


@pytest.mark.parametrize(
    ("environment", "encoding", "shown"),
    [
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1", ["wörter.png", "Käse", "\\u732b", "naïve", "\\U0001f408"]),
        ({"PYTHONIOENCODING": "ascii"}, "utf-8", ["wörter.png", *FOREIGN]),
        ({"LC_ALL": "C"}, "utf-8", ["wörter.png", *FOREIGN]),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "utf-8", ["w??rter.png", *FOREIGN]),
    ],
)
def test_predict_prints_labels_that_a_terminal_cannot_show(foreign, environment, encoding, shown):
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    done = subprocess.run(
        [sys.executable, "-m", "subspace_serve", "predict", "bundle", "--image", "wörter.png", "--top-k", "4"],
        cwd=foreign,
        env=ours | environment,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.decode(encoding).splitlines()[2:]]
    assert {rows[0][0], rows[0][1], *(row[0] for row in rows[1:])} == set(shown)


def test_an_error_and_a_table_are_written_as_escapes_where_they_cannot_be_shown(foreign, monkeypatch):
    output, error = (io.TextIOWrapper(io.BytesIO(), "cp437") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", error)
    monkeypatch.chdir(foreign)
    for image, status in (("wörter.png", None), ("猫.png", 2)):
        monkeypatch.setattr(sys, "argv", ["subspace-serve", "predict", "bundle", "--image", image, "--top-k", "4"])
        if status is None:
            main()
            continue
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == status
    texts = []
    for stream in (output, error):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("cp437"))
    assert all(label in texts[0] for label in ("wörter.png", "Käse", "\\u732b", "naïve", "\\U0001f408"))
    assert "File '\\u732b.png' does not exist" in texts[1]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "Error: the memory is used up; take fewer or smaller images"),
        (MemoryError("Unable to allocate 5 GiB"), "Error: the memory is used up (Unable to allocate 5 GiB); take"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                "to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "Error: the memory is used up (tried to allocate 4000000000000 bytes); take fewer or smaller images or a "
            "smaller batch (train: --batch-size), or allow more memory; train --resume RUN goes on",
        ),
        (
            type("OutOfMemoryError", (RuntimeError,), {})(
                "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB"
            ),
            "Error: the GPU's memory is used up (Tried to allocate 20.00 MiB); take smaller images or a smaller batch "
            "(train: --batch-size), or end what else runs on the GPU; train --resume RUN goes on after the last epoch",
        ),
        (
            RuntimeError("CUDA error: out of memory\nCUDA kernel errors"),
            "Error: the GPU's memory is used up; take smaller",
        ),
        (RuntimeError("can't start new thread"), "Error: the system starts no more threads; end other work"),
    ],
)
def test_what_the_machine_has_no_more_of_is_one_message(bundle, images, monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("subspace_serve.bundle.images.decode_image", fail)
    status, output, said = ended("predict", bundle, "--image", images[0])
    assert (status, output) == (1, "")
    assert said.startswith(message)
    monkeypatch.setattr("subspace_serve.bundle.images.decode_image", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ended("predict", bundle, "--image", images[0])


def test_torch_that_finds_no_memory_says_so_in_the_words_that_are_looked_for():
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert (_exhausted(caught.value) or "").startswith(
        "the memory is used up (tried to allocate 4000000000000000 bytes)"
    )
    assert (_exhausted(torch.OutOfMemoryError("CUDA out of memory.")) or "").startswith("the GPU's memory is used up;")
    assert _exhausted(RuntimeError("shape mismatch")) is None
