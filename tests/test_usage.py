"""Options and values that would have no effect, or contradict others, are refused with what to do."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from command_line import completed, invoke, run

from subspace_serve.errors import CalibrationError, DataError
from subspace_serve.run.domains import corrupted_domains
from subspace_serve.run.opened import OpenRun


def refused(result: Result) -> str:
    """Return the message of wrong usage."""
    assert result.exit_code == 2, (result.output, result.exception)
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--alpha 0.5 --points 99", "--points says how fine the grid is, and --alpha names places instead of it"),
        ("--extrapolate", "--extrapolate says where a place of --alpha may lie; give both"),
        ("--points 3 --extrapolate", "--extrapolate says where a place"),
    ],
)
def test_a_grid_and_named_places_exclude_each_other(line_run: Path, options: str, message: str) -> None:
    assert message in refused(invoke("evaluate", line_run, *options.split()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("export --extrapolate", "--extrapolate allows places outside a line; name them with --alpha"),
        ("export --layout triton --sets-data digits:validation", "Triton answers without prediction sets"),
        ("bench http://127.0.0.1:9 --find-saturation --rate 1 --rate 2", "searches from one --rate on"),
    ],
)
def test_options_without_effect_are_refused(words: str, message: str) -> None:
    assert message in refused(invoke(*words.split()))


def test_frost_is_refused_before_the_work_where_it_cannot_be_made(
    line_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("photographs", "corrupt"):
        found = importlib.import_module(f"subspace_serve.data.corruptions.{module}")
        monkeypatch.setattr(found, "frost_photographs", lambda: ())
    run = OpenRun(line_run)
    assert len(corrupted_domains(run, "validation", ["fog, all"])) == 18
    with pytest.raises(DataError, match="found none installed"):
        corrupted_domains(run, "validation", ["all,frost"])


@pytest.mark.parametrize("name", ["skeleton", "dynamic"])
def test_a_point_has_no_name_of_a_bundles_own_graphs(line_run: Path, name: str) -> None:
    result = invoke("export", line_run, "--alpha", f"{name}=0.5", "--no-evaluate")
    assert f"{name} is the name of a graph that every bundle may have" in str(result.exception)


def test_int8_is_refused_before_the_search_where_it_cannot_be_made(
    own_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subspace_serve.network.reduced.is_installed", lambda package: False)
    monkeypatch.setattr("subspace_serve.select.selection.Networks", None)  # nothing is measured
    error = invoke("select", own_run, "--precision", "int8").exception
    assert "made with the package onnx, which is not installed" in str(error)


@pytest.mark.parametrize("command", ["evaluate", "select", "report"])
@pytest.mark.parametrize("names", ["", ",", " , "])
def test_a_list_of_no_corruptions_is_refused(line_run: Path, command: str, names: str) -> None:
    error = invoke(command, line_run, "--corruption", names).exception
    assert isinstance(error, DataError)
    assert str(error).startswith("no corruption is named; choose all or some of gaussian_noise, ")


@pytest.fixture
def without_severities(line_run: Path, tmp_path: Path) -> str:
    """Return a set in MNIST-C's layout, of digits."""
    pixels, labels = OpenRun(line_run).data.test.take(np.arange(40))
    for name in ("fog", "identity"):
        for part in ("train", "test"):
            (tmp_path / "mnist" / name).mkdir(parents=True, exist_ok=True)
            framed = np.pad(pixels, ((0, 0), (10, 10), (10, 10), (0, 0)))
            np.save(tmp_path / "mnist" / name / f"{part}_images.npy", framed)
            np.save(tmp_path / "mnist" / name / f"{part}_labels.npy", labels)
    return f"mnist-c:{tmp_path}/mnist"


def test_how_to_corrupt_is_refused_for_images_that_are_corrupted_already(
    line_run: Path, without_severities: str
) -> None:
    run = OpenRun(line_run, resize=True)
    with pytest.raises(DataError, match=r"corrupted already.*\(--preset nonsense\).*leave it out"):
        corrupted_domains(run, without_severities, ["fog"], preset="nonsense")
    with pytest.raises(DataError, match="has fog once, and not by severities; leave --severity out"):
        corrupted_domains(run, without_severities, ["fog"], [5])
    (fog,) = corrupted_domains(run, without_severities, ["fog"])
    assert (fog.name, fog.record["severity"], len(fog.images)) == ("fog", None, 40)


def test_a_severity_is_3_unless_it_is_given(line_run: Path) -> None:
    run = OpenRun(line_run)
    assert [domain.name for domain in corrupted_domains(run, "validation", ["contrast"])] == ["contrast:3"]
    assert [domain.name for domain in corrupted_domains(run, "validation", ["contrast"], [1, 1])] == ["contrast:1"]
    words = ("evaluate", line_run, "--points", 2, "--corruption", "contrast", "--json", "-")
    assert [entry["severity"] for entry in json.loads(completed(*words).stdout)["corruptions"]] == [3]


@pytest.mark.parametrize(
    "words", ["evaluate --points 2", "report --points 3", "select --val-data validation --points 2 --refine 0"]
)
def test_images_of_known_statistics_are_not_counted(whole_bundle: Path, words: str) -> None:
    command, *options = words.split()
    message = refused(invoke(command, whole_bundle, *options, "--calibration-count", 5))
    assert "--calibration-count is for images that recompute BatchNorm's statistics" in message
    assert "known of digits:train; leave it out" in message
    both = refused(invoke(command, whole_bundle, *options, "--calibration-batch", 5, "--calibration-count", 5))
    assert "--calibration-count, --calibration-batch is for images" in both


def test_images_of_a_baselines_statistics_are_counted(whole_bundle: Path, standard_run: Path) -> None:
    words = ("--points", 2, "--baseline", standard_run, "--calibration-count", 64, "--json", "-")
    run("evaluate", whole_bundle, *words)


def test_images_that_recompute_a_bundles_statistics_are_counted(whole_bundle: Path) -> None:
    words = ("--alpha", "1.05", "--extrapolate", "--calibrate-on", "validation", "--calibration-count", 64)
    document = json.loads(run("evaluate", whole_bundle, *words, "--json", "-"))
    assert (document["points"][0]["alpha"], document["calibration"]["count"]) == (1.05, 64)


def test_a_place_outside_has_no_known_statistics(whole_bundle: Path) -> None:
    error = invoke("evaluate", whole_bundle, "--alpha", "1.05", "--extrapolate").exception
    assert isinstance(error, CalibrationError)
    assert str(error) == (
        "alpha 1.05 lies outside the subspace, and statistics are known within it; recompute them from images of the "
        "kind (--calibrate-on SPEC)"
    )


def test_a_bundle_has_no_plane(whole_bundle: Path) -> None:
    assert "a bundle has none: leave it out, or report on the run" in refused(invoke("report", whole_bundle, "--plane"))
