"""The benchmark for a GPU, on a processor, where nothing can be imported that it does not need."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks import gpu
from benchmarks.in_memory import InMemory
from trainer.config import TrainingConfig
from trainer.preparation import prepared_data
from trainer.training import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
NEEDED = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "safetensors", "scikit-learn", "click", "pillow")
PROGRAM = """
import json, sys
for name in {blocked}:
    sys.modules[name] = None
sys.path.insert(0, {root!r})
from benchmarks import gpu
print(json.dumps(gpu.TrainingConfig(subspace="line", arguments={{"dropout": 0.1}}).to_json()))
gpu.main(["--tiny", "--workers", "1"], standalone_mode=False)
"""


def unneeded() -> list[str]:
    """Return the modules of all installed packages that the needed ones do not need."""
    wanted, seen = list(NEEDED), set()
    while wanted:
        if (name := canonicalize_name(wanted.pop())) in seen:
            continue
        seen.add(name)
        try:
            requirements = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue
        wanted += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    found = importlib.metadata.packages_distributions().items()
    return [module for module, owners in found if not seen & set(map(canonicalize_name, owners))]


def test_it_runs_with_the_packages_that_it_names() -> None:
    blocked = unneeded()
    assert {"pydantic", "onnxscript", "bentoml", "torchvision", "starlette", "cv2"} <= set(blocked)
    program = PROGRAM.format(blocked=blocked, root=str(ROOT))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    settings, *lines = map(json.loads, done.stdout.splitlines())
    # Settings that are not checked are the same settings.
    assert settings == TrainingConfig(subspace="line", arguments={"dropout": 0.1}).to_json()
    assert [line["figure"] for line in lines].count("trained") == len(gpu.KINDS) * len(gpu.SEEDS)
    by_figure = {line["figure"]: line for line in lines}
    agreement = {line["precision"]: line for line in lines if line["figure"] == "agreement"}
    assert agreement["float32"]["largest_relative_difference"] == 0
    assert 0 < agreement["bfloat16"]["largest_relative_difference"] < 0.05
    speeds = [(line["network"], line["precision"]) for line in lines if line["figure"] == "speed"]
    assert speeds == [(name, each) for name in gpu.TINY.networks for each in ("float32", "bfloat16")]
    assert by_figure["speed"]["line_over_standard"]["median"] > 0
    assert set(by_figure["trained"]["test"]) == {"midpoint", "ends"}
    assert by_figure["export"]["largest_difference"] < 1e-4
    assert by_figure["export"]["other_answers"] == 0


def test_a_run_that_is_cut_off_leaves_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "time_steps", lambda *arguments: None)
    monkeypatch.setattr(gpu.Report, "is_over", True)
    file = tmp_path / "figures.jsonl"
    file.write_text('{"figure": "earlier"}\n')
    result = CliRunner().invoke(gpu.main, ["--tiny", "--workers", "1", "--json", str(file)], catch_exceptions=False)
    assert result.exit_code == 0
    earlier, *lines = map(json.loads, file.read_text().splitlines())
    assert earlier == {"figure": "earlier"}
    assert [line["figure"] for line in lines] == ["environment", "agreement", "agreement"] + 6 * ["training"]
    assert {line["epoch"] for line in lines[3:]} == {1}


def test_data_are_asked_for() -> None:
    result = CliRunner().invoke(gpu.main, [])
    assert result.exit_code == 2
    assert "give Fashion-MNIST's folder as --data PATH" in result.output


def test_a_run_in_memory_trains_what_the_trainer_trains(tmp_path: Path) -> None:
    config = TrainingConfig(
        data="digits",
        architecture="cresnet8-4",
        subspace="line",
        epochs=2,
        batch_size=64,
        train_images=256,
        device="cpu",
    )
    whole = train(config, tmp_path / "run")
    run = InMemory.start(config, prepared_data(config, download=False))
    losses = list(run.losses())
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [np.mean(each) for each in losses] == pytest.approx([record["loss"] for record in records])
    for ours, theirs in zip(run.stepper.endpoints.endpoints(), whole.endpoints, strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    found = run.metrics(run.data.validation, 256)
    assert found["midpoint"]["accuracy"] == pytest.approx(records[-1]["validation"]["accuracy"], abs=0.02)
