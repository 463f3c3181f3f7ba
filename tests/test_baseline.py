"""A standard network beside a run: what is measured of it, and what is refused before anything is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import invoke

from subspace_serve.errors import CheckpointError, DataError
from subspace_serve.space.checkpoint import load_subspace, save_subspace
from subspace_serve.space.subspace import Subspace
from trainer.architectures import build
from trainer.modules import weights_of


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where anything is measured."""

    def measure(*arguments: object, **options: object) -> None:
        raise AssertionError("measured before the baseline was checked")

    monkeypatch.setattr("subspace_serve.measure.evaluation.evaluate", measure)


def changed(standard: Path, folder: Path, **architecture: int) -> Path:
    """Write the run of a standard network with another architecture."""
    known = load_subspace(standard)
    other = replace(known.architecture, **architecture)
    save_subspace(Subspace(known.geometry, other, (weights_of(build(other)),), known.provenance), folder)
    return folder


def test_a_baseline_is_measured_on_the_same_images(line_run: Path, standard_run: Path) -> None:
    beside = json.loads(invoke("evaluate", line_run, "--points", 2, "--baseline", standard_run, "--json", "-").stdout)
    alone = json.loads(invoke("evaluate", standard_run, "--json", "-").stdout)
    assert beside["baseline"] == pytest.approx(alone["points"][0]["metrics"])


def test_statistics_are_recomputed_for_the_baseline_too(line_run: Path, standard_run: Path) -> None:
    words = ("--calibrate-on", "validation", "--json", "-")
    beside = json.loads(invoke("evaluate", line_run, "--points", 2, "--baseline", standard_run, *words).stdout)
    alone = json.loads(invoke("evaluate", standard_run, *words).stdout)
    usual = json.loads(invoke("evaluate", standard_run, "--json", "-").stdout)
    assert beside["baseline"] == pytest.approx(alone["points"][0]["metrics"])
    assert beside["baseline"]["nll"] != pytest.approx(usual["points"][0]["metrics"]["nll"])


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("command", ["evaluate", "report"])
@pytest.mark.parametrize(
    ("architecture", "found"), [({"channels": 3}, "8x8, 3 channel(s)"), ({"height": 16, "width": 16}, "16x16, 1")]
)
def test_a_baseline_of_another_image_size_is_refused(
    line_run: Path, standard_run: Path, tmp_path: Path, command: str, architecture: dict[str, int], found: str
) -> None:
    other = changed(standard_run, tmp_path / "other", **architecture)
    error = invoke(command, line_run, "--baseline", other).exception
    assert isinstance(error, DataError)
    assert f"takes images of {found}" in str(error)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_a_baseline_is_one_network(line_run: Path, command: str) -> None:
    error = invoke(command, line_run, "--baseline", line_run).exception
    assert isinstance(error, DataError)
    assert "is a line of 2 endpoints and no standard network" in str(error)


@pytest.mark.usefixtures("unmeasured")
def test_statistics_that_the_baseline_cannot_have_are_refused_before_the_measurement(
    line_run: Path, standard_run: Path, tmp_path: Path
) -> None:
    known = load_subspace(standard_run)
    imported = {key: value for key, value in known.provenance.items() if key != "data"} | {"import": {"members": []}}
    without = tmp_path / "without"
    save_subspace(Subspace(known.geometry, known.architecture, known.endpoints, imported), without)
    error = invoke("evaluate", line_run, "--baseline", without).exception
    assert isinstance(error, CheckpointError)
    assert "has no BatchNorm statistics of its sources" in str(error)
