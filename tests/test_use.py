"""What a run is recommended to be used as, and what the commands make of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import completed
from untrained import save_untrained, untrained_like

from subspace_serve.answers import ensemble_probabilities
from subspace_serve.bundle import Bundle
from subspace_serve.errors import CheckpointError
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.checkpoint import load_subspace, save_subspace
from subspace_serve.space.geometry import Geometry, single_network
from subspace_serve.space.use import is_recorded, recommended_models, recommended_use
from trainer.modules import as_module, predict_logits

LINE, TRIANGLE = Geometry("line", 2), Geometry("simplex", 3)
MIDDLE = (1 / 3, 1 / 3, 1 / 3)
CORNERS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def with_use(line_run: Path, folder: Path, *use: str) -> Path:
    """Copy the trained line and record another use, or none."""
    shutil.copytree(line_run, folder)
    trained = load_subspace(folder)
    provenance = {key: value for key, value in trained.provenance.items() if key != "use"}
    save_subspace(replace(trained, provenance=provenance | ({"use": list(use)} if use else {})), folder)
    return folder


def evaluated(*words: object) -> dict[str, Any]:
    return json.loads(completed("evaluate", *words, "--json", "-").stdout)


@pytest.mark.parametrize(
    ("geometry", "recorded", "use", "models"),
    [
        (LINE, (), ("midpoint", "endpoints"), {"midpoint": (0.5,), "endpoints": (0.0, 1.0)}),
        (TRIANGLE, ("midpoint",), ("midpoint",), {"midpoint": (MIDDLE,)}),
        (TRIANGLE, ("endpoints", "endpoints"), ("endpoints",), {"endpoints": CORNERS}),
        (LINE, ("integral=endpoint:1",), ("integral=endpoint:1",), {"integral": (1.0,)}),
        (single_network(), (), ("midpoint",), {"midpoint": ((1.0,),)}),
        (single_network(), ("endpoints",), ("midpoint",), {"midpoint": ((1.0,),)}),
        (single_network(), ("endpoints", "whole=midpoint", "endpoint:0"), ("whole=midpoint",), {"whole": ((1.0,),)}),
    ],
)
def test_the_use_is_what_is_recorded_or_the_usual(
    line_run: Path, geometry: Geometry, recorded: tuple, use: tuple, models: dict
) -> None:
    found = untrained_like(line_run, geometry, *recorded)
    assert is_recorded(found) == bool(recorded)
    assert recommended_use(found) == use
    assert recommended_models(found) == models


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ([], "no list of places"),
        ("midpoint", "no list of places"),
        ([0.5], "no list of places"),
        (["endpoint:2"], r"endpoint:2, which does not fit its subspace .*ends 0 to 1.*--alpha"),
        (["best:fog"], "no selection named 'fog'"),
    ],
)
def test_a_use_that_cannot_be_is_refused(line_run: Path, recorded: Any, message: str) -> None:
    found = untrained_like(line_run, LINE)
    with pytest.raises(CheckpointError, match=message):
        recommended_use(replace(found, provenance={"use": recorded}))


@pytest.mark.parametrize(
    ("use", "points", "ensembles", "default"),
    [
        ((), ["midpoint", "endpoint-0", "endpoint-1"], ["endpoints"], "midpoint"),
        (("midpoint",), ["midpoint"], [], "midpoint"),
        (("endpoints",), ["endpoint-0", "endpoint-1"], ["endpoints"], "endpoints"),
        (("integral=endpoint:1",), ["integral"], [], "integral"),
        (("midpoint", "random:2"), ["midpoint", "random-2-0", "random-2-1"], ["random-2"], "midpoint"),
    ],
)
def test_export_takes_the_recommended_use(
    line_run: Path, tmp_path: Path, use: tuple, points: list, ensembles: list, default: str
) -> None:
    run = with_use(line_run, tmp_path / "run", *use)
    completed("export", run, "--no-evaluate")
    bundle = Bundle.open(run / "bundle")
    assert (list(bundle.points), list(bundle.ensembles)) == (points, ensembles)
    assert bundle.manifest.default == default


@pytest.mark.parametrize(
    ("words", "models", "default"),
    [
        (["--alpha", "midpoint"], {"midpoint"}, "midpoint"),
        (["--default", "endpoint-1"], {"endpoint-0", "endpoint-1", "endpoints"}, "endpoint-1"),
        (["--alpha", "endpoints"], {"endpoint-0", "endpoint-1", "endpoints"}, "endpoints"),
        (
            ["--alpha", "0.3", "--alpha", "endpoints"],
            {"alpha-0.3", "endpoint-0", "endpoint-1", "endpoints"},
            "alpha-0.3",
        ),
        (["--alpha", "random:2:5"], {"random-2-seed-5", "random-2-seed-5-0", "random-2-seed-5-1"}, "random-2-seed-5"),
    ],
)
def test_what_is_asked_for_goes_before_what_is_recommended(
    line_run: Path, tmp_path: Path, words: list[str], models: set, default: str
) -> None:
    run = with_use(line_run, tmp_path / "run", "endpoints")
    completed("export", run, "--no-evaluate", *words)
    bundle = Bundle.open(run / "bundle")
    assert bundle.points.keys() | bundle.ensembles.keys() == models
    assert bundle.manifest.default == default


@pytest.mark.parametrize("use", [(), ("midpoint",), ("endpoints",), ("midpoint", "endpoints")])
def test_a_single_network_is_exported_once(line_run: Path, tmp_path: Path, use: tuple) -> None:
    run = save_untrained(line_run, tmp_path / "run", single_network(), *use)
    completed("export", run, "--no-evaluate")
    bundle = Bundle.open(run / "bundle")
    assert list(bundle.points) == ["midpoint"]
    assert bundle.ensembles == {}
    completed("evaluate", run)


def test_whatever_a_single_network_is_called_it_is_exported_once(line_run: Path, tmp_path: Path) -> None:
    run = save_untrained(line_run, tmp_path / "run", single_network())
    words = [word for text in ("endpoints", "midpoint", "endpoint:0", "whole=midpoint") for word in ("--alpha", text)]
    completed("export", run, "--no-evaluate", *words)
    bundle = Bundle.open(run / "bundle")
    assert (list(bundle.points), bundle.ensembles, bundle.default) == (["endpoint-0", "whole"], {}, "endpoint-0")


def test_inspect_shows_the_use(line_run: Path, tmp_path: Path) -> None:
    integral = with_use(line_run, tmp_path / "integral", "integral=endpoint:1")
    (row,) = (line for line in completed("inspect", integral).stdout.splitlines() if line.startswith("recommended use"))
    assert row.split(maxsplit=2)[2] == "integral=endpoint:1"
    assert json.loads(completed("inspect", integral, "--json", "-").stdout)["use"] == ["integral=endpoint:1"]
    older = with_use(line_run, tmp_path / "older")
    assert "midpoint, endpoints (as usual; the checkpoint records none)" in completed("inspect", older).stdout


def test_evaluate_marks_what_is_recommended_and_says_so(line_run: Path, tmp_path: Path) -> None:
    run = save_untrained(line_run, tmp_path / "run", TRIANGLE, "endpoints")
    output = completed("evaluate", run).stdout
    marked = [line for line in output.splitlines() if " *  " in line]
    assert [line.partition(" *")[0] for line in marked] == ["ensemble of the ends"]
    assert "recommended use of this run (*): endpoints; the midpoint is not part of it" in output
    document = evaluated(run)
    assert document["use"] == ["endpoints"]
    assert document["recommended"]["endpoints"]["metrics"] == document["endpoints_ensemble"]["metrics"]
    assert "ensembles" not in document


def test_evaluate_measures_what_is_recommended_beside_its_grid(line_run: Path, tmp_path: Path) -> None:
    run = with_use(line_run, tmp_path / "run", "midpoint", "endpoints", "edge=0.1")
    words = (run, "--points", 2, "--corruption", "contrast", "--severity", 1)
    document = evaluated(*words)
    assert [point["alpha"] for point in document["points"]] == [0.0, 1.0]
    assert list(document["recommended"]) == ["midpoint", "endpoints", "edge"]
    alone = evaluated(run, "--alpha", "midpoint", "--alpha", "0.1", "--corruption", "contrast", "--severity", 1)
    assert "recommended" not in alone
    for measured, expected in [(document, alone), (document["corruptions"][0], alone["corruptions"][0])]:
        for name, point in zip(("midpoint", "edge"), expected["points"], strict=True):
            assert measured["recommended"][name]["metrics"] == pytest.approx(point["metrics"])
            assert measured["recommended"][name]["alpha"] == point["alpha"]
    output = completed("evaluate", *words).stdout
    marked = [line.partition(" *")[0] for line in output.splitlines() if " *  " in line]
    assert marked == ["ensemble of the ends", "midpoint", "edge"]
    assert "recommended use of this run (*): midpoint, endpoints, edge=0.1\n" in output


def test_older_checkpoints_are_evaluated_as_before(line_run: Path, tmp_path: Path) -> None:
    run = with_use(line_run, tmp_path / "run")
    document = evaluated(run, "--points", 2)
    assert document.keys().isdisjoint({"use", "recommended", "ensembles"})
    output = completed("evaluate", run, "--points", 2).stdout
    assert " *" not in output
    assert "recommended" not in output


def test_random_ensembles_are_evaluated_by_hand(line_run: Path) -> None:
    document = evaluated(line_run, "--alpha", "crowd=random:3:4", "--alpha", "pair=endpoints", "--alpha", "endpoints")
    assert list(document["ensembles"]) == ["crowd", "pair"]
    assert document["ensembles"]["pair"]["metrics"] == document["endpoints_ensemble"]["metrics"]
    opened = OpenRun(line_run)
    members = document["ensembles"]["crowd"]["members"]
    logits = [
        predict_logits(as_module(opened.subspace, alpha, opened.calibration), opened.data.test, opened.preprocessing)
        for alpha in members
    ]
    expected = classification_metrics(ensemble_probabilities(logits), opened.data.test.labels)
    assert document["ensembles"]["crowd"]["metrics"] == pytest.approx(expected, abs=1e-5)
    assert [point["alpha"] for point in document["points"]] == [*members, 0.0, 1.0]
    output = completed("evaluate", line_run, "--alpha", "random:2").stdout
    assert "ensemble random-2 " in output


def test_a_named_ensemble_of_a_single_networks_end_is_shown(line_run: Path, tmp_path: Path) -> None:
    run = save_untrained(line_run, tmp_path / "run", single_network())
    output = completed("evaluate", run, "--alpha", "alone=endpoints").stdout
    assert "ensemble alone " in output


def test_select_says_where_the_midpoint_means_nothing(line_run: Path, tmp_path: Path) -> None:
    run = save_untrained(line_run, tmp_path / "run", TRIANGLE, "endpoints")
    words = ("select", run, "--points", 2, "--refine", 0)
    said = "the recommended use of this run is endpoints: the midpoint"
    assert said in completed(*words).stderr
    assert json.loads((run / "selections.json").read_text()).keys() == {"best"}
    usual = with_use(line_run, tmp_path / "usual", "midpoint", "endpoints")
    assert "recommended use" not in completed("select", usual, *words[2:]).stderr
    older = with_use(line_run, tmp_path / "older")
    assert "recommended use" not in completed("select", older, *words[2:]).stderr
