"""Runs that are interrupted in the middle of an epoch, and early stopping: what is kept and what it resumes to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import completed
from trainer_runs import STEPS, TINY, records_of, run, same

from subspace_serve.errors import TrainingError
from subspace_serve.space.checkpoint import load_subspace
from subspace_serve.space.subspace import Subspace
from trainer import training
from trainer.config import TrainingConfig
from trainer.integral import IntegralStepper
from trainer.run_folder import RunFolder
from trainer.step import Stepper
from trainer.training import train

pytestmark = pytest.mark.slow

# Early stopping


def test_early_stopping_keeps_the_most_accurate_epoch(tmp_path: Path) -> None:
    # At this rate the accuracy goes up and down.
    found = run(tmp_path / "run", early_stopping=True, epochs=6, learning_rate=1.0, warmup_epochs=0)
    accuracies = [record["validation"]["accuracy"] for record in records_of(tmp_path / "run")]
    assert len(accuracies) == 6
    best = [int(np.argmax(accuracies[: epoch + 1])) + 1 for epoch in range(6)]
    assert [subspace.provenance["training"]["kept_epoch"] for subspace in found] == best
    assert len(set(accuracies)) > 2


def accuracy_is(accuracies: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def validate(subspace: Subspace, *_: Any) -> dict[str, float]:
        return {"accuracy": accuracies[subspace.provenance["training"]["finished_epochs"] - 1]}

    monkeypatch.setattr(training, "validate", validate)


def test_early_stopping_keeps_the_weights_of_its_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = run(tmp_path / "every", epochs=4)
    accuracy_is([0.2, 0.9, 0.9, 0.1], monkeypatch)
    found = run(tmp_path / "run", epochs=4, early_stopping=True)
    kept = [subspace.provenance["training"]["kept_epoch"] for subspace in found]
    assert kept == [1, 2, 2, 2]  # the first of equals
    for subspace, epoch in zip(found, kept, strict=True):
        assert [same(*pair) for pair in zip(subspace.endpoints, every[epoch - 1].endpoints, strict=True)] == [True] * 2
    assert not same(found[-1].endpoints[0], every[-1].endpoints[0])
    assert "kept_epoch" not in every[-1].provenance["training"]


def test_early_stopping_is_refused_without_validation_images(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="needs validation images and there are none; give --validation"):
        train(TrainingConfig(**TINY, early_stopping=True, validation=0.0), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# Interruptions

INTERRUPTED: dict[str, tuple[dict[str, Any], int]] = {
    # In the last epoch, which is the second of member 1.
    "ensemble": ({"subspace": "ensemble"}, 17),
    "parted ensemble": ({"subspace": "ensemble", "epochs": 3, "shared": 0.34}, 17),
    # One member is kept before epoch 3, another in it before the interruption.
    "swa": ({"subspace": "swa", "endpoints": 3, "epochs": 3, "tail": 0.6}, 13),
    "swag": ({"subspace": "swag", "endpoints": 3, "epochs": 3, "tail": 0.6}, 13),
    "snapshot": ({"subspace": "snapshot", "endpoints": 4, "epochs": 3}, 13),
    "fge": ({"subspace": "fge", "endpoints": 3, "epochs": 3, "tail": 0.8}, 13),
    "early stopping": ({"epochs": 4, "early_stopping": True}, 17),
    "parted line": ({"epochs": 3, "shared": 0.34, "spread": 0.5, "beta_schedule": "growing"}, 13),
    "integral": ({"subspace": "integral"}, 7),
}


def interrupted_run(folder: Path, steps: int, **settings: Any) -> None:
    """Train, and stop after so many steps."""
    stepper = IntegralStepper if settings.get("subspace") == "integral" else Stepper
    step, taken = stepper.step, []

    def interrupted(self, *arguments: Any) -> Any:
        taken.append(1)
        if len(taken) > steps:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(stepper, "step", interrupted)
        run(folder, **settings)


@pytest.mark.parametrize(("settings", "steps"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interrupted_run_resumes_to_the_same_bytes(
    settings: dict[str, Any], steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "early_stopping" in settings:
        accuracy_is([0.2, 0.9, 0.9, 0.1], monkeypatch)
    expected = run(tmp_path / "whole", **settings)[-1]
    interrupted_run(tmp_path / "run", steps, **settings)
    finished = len(records_of(tmp_path / "run"))
    assert finished == steps // STEPS
    train(RunFolder(tmp_path / "run").read_config(), tmp_path / "run", resume=True)
    found = load_subspace(tmp_path / "run")
    assert found.geometry == expected.geometry
    assert found.provenance == expected.provenance
    assert all(same(*pair) for pair in zip(found.endpoints, expected.endpoints, strict=True))
    assert records_of(tmp_path / "run") == records_of(tmp_path / "whole")


# What a run starts from


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A finished run that others start from; runs/latest points at it."""
    run(tmp_path / "runs" / "base", subspace="standard", epochs=1)
    return tmp_path / "runs" / "base"


def test_later_members_start_from_what_the_link_pointed_at_when_the_run_was_begun(base: Path) -> None:
    settings: dict[str, Any] = {"subspace": "ensemble", "epochs": 1}
    expected = run(base.parent.parent / "whole", initialisation=str(base), **settings)[-1]
    folder = base.parent / "run"
    interrupted_run(folder, STEPS + 2, initialisation=str(base.parent / "latest"), **settings)
    assert (base.parent / "latest").readlink() == Path("run")
    train(RunFolder(folder).read_config(), folder, resume=True)
    assert all(same(*pair) for pair in zip(load_subspace(folder).endpoints, expected.endpoints, strict=True))


def test_a_run_goes_on_without_the_weights_that_it_started_from(base: Path, tmp_path: Path) -> None:
    expected = run(tmp_path / "whole", initialisation=str(base))[-1]
    folder = tmp_path / "line"
    interrupted_run(folder, STEPS + 2, initialisation=str(base))
    interrupted_run(tmp_path / "ensemble", STEPS + 2, initialisation=str(base), subspace="ensemble", epochs=1)
    shutil.rmtree(base)
    completed("train", "--resume", folder)
    assert all(same(*pair) for pair in zip(load_subspace(folder).endpoints, expected.endpoints, strict=True))
    # Its second member has yet to start.
    with pytest.raises(TrainingError, match="cannot start from .*base"):
        train(RunFolder(tmp_path / "ensemble").read_config(), tmp_path / "ensemble", resume=True)
