from __future__ import annotations

import json
from pathlib import Path

import pytest

from subspace_serve import evaluate
from subspace_serve import select as module
from subspace_serve.cli.run import OpenRun
from subspace_serve.errors import CheckpointError, DataError
from subspace_serve.evaluate import recalibrated
from subspace_serve.geometry import Geometry, single_network
from subspace_serve.select import candidate_alphas, read_selections, select, store_selection


def test_candidates_cover_the_domain_and_hold_the_midpoint() -> None:
    assert candidate_alphas(Geometry("line", 2), 4) == pytest.approx([0, 1 / 3, 2 / 3, 1, 0.5])
    assert candidate_alphas(single_network(), 11) == [(1.0,)]
    triangle = candidate_alphas(Geometry("simplex", 3), 16)
    assert len(triangle) == 15 + 1
    assert (1.0, 0.0, 0.0) in triangle
    assert (1 / 3, 1 / 3, 1 / 3) in triangle
    assert all(sum(place) == pytest.approx(1) for place in triangle)


def run_select(line_run: Path, **settings) -> dict:
    run = OpenRun(line_run)
    return select(
        run.subspace,
        run.data.validation,
        preprocessing=run.preprocessing,
        calibration=run.calibration,
        points=3,
        **settings,
    )


@pytest.mark.parametrize(("metric", "better"), [("accuracy", max), ("nll", min)])
def test_the_best_place_of_the_grid_is_chosen_on_one_half_and_reported_on_the_other(
    line_run: Path, metric: str, better
) -> None:
    selection = run_select(line_run, metric=metric)
    values = {entry["alpha"]: entry[metric] for entry in selection["grid"]}
    assert set(values) == {0.0, 0.5, 1.0}
    assert values[selection["alpha"]] == better(values.values())
    count = len(OpenRun(line_run).data.validation)
    assert selection["chosen_on"] + selection["reported_on"] == count
    assert selection["reported"].keys() == {"accuracy", "nll", "ece", "brier"}
    assert json.loads(json.dumps(selection)) == selection


def test_equal_places_are_decided_for_the_one_nearest_to_the_midpoint(
    line_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flat(subspace, images, *, alphas, **rest):
        value = {"accuracy": 0.5, "nll": 1.0, "ece": 0.1, "brier": 0.2}
        return {"points": [{"alpha": alpha, "metrics": value} for alpha in alphas]}

    monkeypatch.setattr(module, "evaluate", flat)
    assert run_select(line_run)["alpha"] == 0.5


def test_only_the_candidates_and_what_is_reported_are_calibrated(
    line_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []

    def counted(subspace, alpha, calibration, **rest):
        places.append(alpha)
        return recalibrated(subspace, alpha, calibration, **rest)

    monkeypatch.setattr(evaluate, "recalibrated", counted)
    chosen = run_select(line_run)["alpha"]
    assert places == [0.0, 0.5, 1.0, *dict.fromkeys([chosen, 0.5])]


def test_an_unknown_metric_is_refused(line_run: Path) -> None:
    with pytest.raises(DataError, match="cannot choose by 'f1'; choose accuracy, nll, ece, brier"):
        run_select(line_run, metric="f1")


def test_selections_are_kept_by_name_and_bound_to_their_checkpoint(tmp_path: Path) -> None:
    assert read_selections(tmp_path, "a" * 64) == {}
    store_selection(tmp_path, "fog", {"alpha": 0.7}, "a" * 64)
    store_selection(tmp_path, "best", {"alpha": 0.1}, "a" * 64)
    store_selection(tmp_path, "fog", {"alpha": 0.6}, "a" * 64)
    assert {name: s["alpha"] for name, s in read_selections(tmp_path, "a" * 64).items()} == {"fog": 0.6, "best": 0.1}
    with pytest.raises(CheckpointError, match="'fog' .* was made for another checkpoint"):
        read_selections(tmp_path, "b" * 64)
    for damaged in ("{", "[]", '{"fog": {"checkpoint_sha256": "%s"}}' % ("a" * 64)):
        (tmp_path / "selections.json").write_text(damaged)
        with pytest.raises(CheckpointError, match="is damaged"):
            read_selections(tmp_path, "a" * 64)
