"""The road after training, where torch cannot be imported; and with the base package alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stress.server import serving

from subspace_serve.bundle import Bundle

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TRAINING = ("torch", "torchvision", "onnx", "onnxscript", "onnx_ir")
MEASURING = ("cv2", "jinja2", "matplotlib", "scipy", "sklearn")
ASKING = ("anyio", "httpx")
PROGRAM = """
import sys
for name in {blocked}:
    sys.modules[name] = None
sys.path.insert(0, {root!r})
from subspace_serve.cli import main
main()
"""


def command(*arguments: object, blocked: tuple[str, ...] = TRAINING) -> list[str]:
    program = PROGRAM.format(blocked=blocked, root=str(ROOT))
    return [sys.executable, "-c", program, *map(str, arguments)]


@pytest.fixture
def run(line_run: Path, tmp_path: Path) -> Path:
    """A copy of a trained run, as it would come to another machine."""
    return Path(shutil.copytree(line_run, tmp_path / "runs" / "line"))


def test_the_road_after_training(run: Path, tmp_path: Path) -> None:
    def do(*arguments: object, torch: bool = False) -> str:
        words = command(*arguments, blocked=() if torch else TRAINING)
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "geometry" in do("inspect", run)
    measured = [do("evaluate", run, "--points", 3, "--json", "-", torch=torch) for torch in (False, True)]
    assert measured[0] == measured[1]
    do("corrupt", "--data", "digits", "--corruption", "contrast", "--out", "corrupted")
    do("select", run, "--val-data", "validation", "--points", 3, "--refine", 0, "--name", "best")
    published = ("--data", "corrupted:corrupted", "--corruption", "all")
    do("evaluate", run, *published, "--points", 2, "--plot", "line.png")
    do("export", run, "--alpha", "midpoint", "--alpha", "best", "--temperature")
    do("report", run, "--points", 3)
    assert "their full check needs the package onnx" in do("verify", run / "bundle")
    points = Bundle.open(run / "bundle").points
    assert {point.parity.reference for point in points.values()} == {"training"}
    assert all(point.parity.max_abs_diff <= point.parity.tolerance for point in points.values())
    assert points["midpoint"].metrics["accuracy"] > 0.5


def test_a_run_without_what_training_leaves(run: Path, tmp_path: Path) -> None:
    def fails(*arguments: object) -> str:
        done = subprocess.run(command(*arguments), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    for words in (("collapse", run), ("train",)):
        assert "needs torch, which the base package does not install: pip install 'subspace-serve[train]'" in fails(
            *words
        )
    (run / "golden.safetensors").unlink()
    done = subprocess.run(command("export", run, "--alpha", "midpoint"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Bundle.open(run / "bundle").points["midpoint"].parity.reference == "skeleton"
    (run / "skeleton.onnx").unlink()
    for words in ("evaluate", "export", "select"):
        assert "has no skeleton.onnx" in fails(words, run)
    assert Bundle.open(run / "bundle").points.keys() == {"midpoint"}


def test_the_base_package_alone(run: Path, line_bundle: Path, whole_bundle: Path, tmp_path: Path) -> None:
    from subspace_serve.run.opened import OpenRun

    blocked = TRAINING + MEASURING + ASKING
    opened = OpenRun(run)
    pixels = opened.data.test.take(np.arange(1))[0]
    Image.fromarray(pixels[0, ..., 0]).save(tmp_path / "digit.png")
    # The run's own test images, which these might be, cannot be read here.
    np.savez(tmp_path / "camera.npz", images=255 - opened.data.validation.take(np.arange(32))[0])
    answers = {}
    for name, words in {
        "inspect": ("inspect", run, "--json", "-"),
        "verify": ("verify", line_bundle, "--json", "-"),
        "adapt": ("adapt", whole_bundle, "--images", "camera.npz", "--out", tmp_path / "adapted", "--json", "-"),
        "predict": ("predict", line_bundle, "--image", tmp_path / "digit.png", "--json", "-"),
    }.items():
        done = subprocess.run(command(*words, blocked=blocked), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answers[name] = json.loads(done.stdout)
    assert answers["inspect"]["architecture"]["name"] == "cresnet8-4"
    assert answers["verify"]["onnx_checked"] is False
    assert (answers["adapt"]["images"]["count"], answers["adapt"]["written"]) == (32, True)
    label = answers["predict"]["predictions"][0]["labels"][0]["label"]
    with serving(line_bundle, tmp_path, command=command("serve", blocked=blocked)) as server:
        status, document = server.predict(pixels.tolist())
        assert (status, document["predictions"][0]["labels"][0]["label"]) == (200, label)
        assert server.stop() == 0
    for words, package, extra in (
        (("evaluate", run), "sklearn", "measure"),
        (("corrupt",), "cv2", "measure"),
        (("bench", "http://127.0.0.1:1"), "httpx", "client"),
    ):
        done = subprocess.run(command(*words, blocked=blocked), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        assert f"needs {package}, which the base package does not install" in done.stderr
        assert f"pip install 'subspace-serve[{extra}]'" in done.stderr
