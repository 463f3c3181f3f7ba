"""Which images `export` calibrates prediction sets on, and what the bundle then says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import completed, invoke, run

from subspace_serve.abstention import levels_of
from subspace_serve.bundle import Bundle, Ensemble, Point
from subspace_serve.bundle.drift import DriftReference
from subspace_serve.bundle.predict import Predictor
from subspace_serve.data import Images
from subspace_serve.data.drawing import carve
from subspace_serve.drift import mean_intensities, values_of
from subspace_serve.measure.abstention import risk_coverage
from subspace_serve.prediction_sets import label_scores
from subspace_serve.run.domains import recorded_domain
from subspace_serve.run.images import labelled_images
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.selections import store_selections


def exported(run: Path, *words: object) -> Bundle:
    completed("export", run, "--points-only", *words)
    return Bundle.open(run / "bundle")


def models(bundle: Bundle) -> dict[str, Point | Ensemble]:
    return {**bundle.points, **bundle.ensembles}


def probabilities(bundle: Bundle, model: str, images: Images) -> np.ndarray:
    """Return what the bundle's graphs answer."""
    predictor = Predictor(bundle, device="cpu", threads=1)
    return predictor.predict(images.take(np.arange(len(images)))[0], predictor.select(model)).probabilities


def right_scores(bundle: Bundle, model: str, images: Images, method: str = "lac", **settings: float) -> np.ndarray:
    scores = label_scores(probabilities(bundle, model, images), method, **settings)  # type: ignore[arg-type]
    return np.sort(scores[np.arange(len(images)), images.labels])


def halves(images: Images, seed: int = 0) -> tuple[Images, Images]:
    """Return the half that chooses or fits, and the other."""
    other, choosing = carve(images.labels, len(images) // 2, seed)
    return images.subset(choosing), images.subset(other)


def test_by_default_all_validation_images_calibrate_and_the_test_images_measure(own_run: Path) -> None:
    bundle, data = exported(own_run), OpenRun(own_run).data
    for name, model in models(bundle).items():
        sets = model.sets
        assert sets is not None
        assert (sets.method, sets.data, sets.count) == ("lac", "digits:validation", len(data.validation))
        np.testing.assert_allclose(sets.scores, right_scores(bundle, name, data.validation), atol=1e-5)
        assert sets.measured is not None
        own = probabilities(bundle, name, data.test)
        threshold = sorted(sets.scores)[int(np.ceil(0.9 * (sets.count + 1))) - 1]
        held = label_scores(own, "lac") <= threshold
        right = held[np.arange(len(own)), data.test.labels]
        assert sets.measured.images == len(data.test)
        assert sets.measured.coverage == pytest.approx(right.mean(), abs=2 / len(own))
        assert sets.measured.mean_size == pytest.approx(held.sum(axis=1).mean(), abs=2 / len(own))
        assert sets.measured.class_coverage[3] == pytest.approx(right[data.test.labels == 3].mean(), abs=0.05)
        # A binomial band around the promise, of the calibration's and the test's images.
        assert sets.measured.coverage > 0.9 - 4 * np.sqrt(0.09 * (1 / sets.count + 1 / len(own)))


def test_the_same_images_say_when_to_abstain_and_the_test_images_how_well(own_run: Path) -> None:
    bundle, data = exported(own_run, "--temperature"), OpenRun(own_run).data
    _, others = halves(data.validation)
    for name, model in models(bundle).items():
        abstention = model.abstention
        assert abstention is not None
        assert (abstention.score, abstention.count, abstention.delta) == ("max_probability", len(others), 0.05)
        assert abstention.data == model.sets.data
        own = probabilities(bundle, name, others)
        right = own.argmax(axis=1) == others.labels
        expected = levels_of(own.max(axis=1), right)
        assert [level.answered for level in abstention.levels] == [level.answered for level in expected]
        assert [level.wrong for level in abstention.levels] == [level.wrong for level in expected]
        thresholds = [level.threshold for level in expected]
        np.testing.assert_allclose([level.threshold for level in abstention.levels], thresholds, atol=1e-5)
        own = probabilities(bundle, name, data.test)
        curve = risk_coverage(own.max(axis=1), own.argmax(axis=1) == data.test.labels)
        measured = abstention.measured
        assert (measured.images, measured.held_out) == (len(data.test), True)
        assert measured.aurc == pytest.approx(curve.aurc, abs=1e-3)
        assert measured.answered_at_5_percent == pytest.approx(curve.answered_at(0.05), abs=0.01)


def test_the_same_images_are_what_drift_is_compared_with(own_run: Path) -> None:
    bundle, data = exported(own_run, "--temperature"), OpenRun(own_run).data
    _, others = halves(data.validation)
    pixels, _ = others.take(np.arange(len(others)))
    predictor = Predictor(bundle, device="cpu", threads=1)
    for name, model in models(bundle).items():
        answer = predictor.predict(pixels, predictor.select(name))
        expected = DriftReference.of(
            values_of(answer.probabilities, answer.disagreement, mean_intensities(pixels)), model.sets.data
        )
        assert (model.drift.data, model.drift.count, model.drift.bins.keys()) == (
            expected.data, len(others), expected.bins.keys(),
        )  # fmt: skip
        for statistic, counts in expected.bins.items():
            # A value on the edge of two bins may be rounded into the other one.
            assert np.abs(np.cumsum(np.subtract(counts, model.drift.bins[statistic]))).max() <= 1


def test_images_that_fitted_a_temperature_are_left_out(own_run: Path) -> None:
    bundle, data = exported(own_run, "--temperature", "--sets-method", "aps"), OpenRun(own_run).data
    _, others = halves(data.validation)
    for name, model in models(bundle).items():
        assert model.sets is not None
        assert model.sets.data == "digits:validation, those that chose nothing"
        assert model.sets.count == len(others) == model.temperature_fit.reported_on
        np.testing.assert_allclose(model.sets.scores, right_scores(bundle, name, others, "aps"), atol=1e-5)
    assert not np.allclose(bundle.points["midpoint"].temperature, 1)


def test_images_that_chose_a_place_are_left_out_also_for_ensembles_of_it(own_run: Path) -> None:
    chosen = {"alpha": 0.3, "domain": {"data": "validation"}, "seed": 5}
    store_selections(own_run, {"best": chosen}, OpenRun(own_run).checkpoint_sha256)
    bundle = exported(own_run, "--alpha", "best", "--alpha", "midpoint", "--ensemble", "both=best,midpoint")
    validation = OpenRun(own_run).data.validation
    _, others = halves(validation, 5)
    counts = {name: model.sets.count for name, model in models(bundle).items() if model.sets}
    assert counts == {"best": len(others), "midpoint": len(validation), "both": len(others)}
    np.testing.assert_allclose(bundle.points["best"].sets.scores, right_scores(bundle, "best", others), atol=1e-5)
    # Its temperature has the same halves; those of the run's seed would leave a quarter.
    bundle = exported(own_run, "--alpha", "best", "--temperature")
    assert bundle.points["best"].sets.count == len(others)
    bundle = exported(own_run, "--alpha", "best", "--temperature", "--temperature-data", "validation")
    assert bundle.points["best"].sets.count < 0.7 * len(others)


def test_a_mixture_leaves_out_what_each_of_its_parts_chose_on(own_run: Path) -> None:
    parts = {
        "old": {"domain": {"data": "validation"}, "weight": 0.5},
        "new": {"domain": {"data": "elsewhere.npz", "fingerprint": "0"}, "weight": 0.5},
    }
    store_selections(own_run, {"both": {"alpha": 0.4, "domains": parts, "seed": 2}}, OpenRun(own_run).checkpoint_sha256)
    bundle = exported(own_run, "--alpha", "best:both")
    assert bundle.points["both"].sets.count == len(halves(OpenRun(own_run).data.validation, 2)[1])


def test_what_was_selected_for_a_domain_has_the_sets_of_the_domain(own_run: Path) -> None:
    domain = {"data": "validation", "corruption": "contrast", "severity": 5, "preset": "cifar", "seed": 0}
    store_selections(own_run, {"dim": {"alpha": 0.4, "domain": domain, "seed": 0}}, OpenRun(own_run).checkpoint_sha256)
    bundle = exported(own_run, "--alpha", "best:dim", "--alpha", "midpoint", "--ensemble", "both=dim,midpoint")
    opened = OpenRun(own_run)
    _, others = halves(recorded_domain(opened, domain).images)
    sets = bundle.points["dim"].sets
    assert (sets.data, sets.count) == ("digits:validation, contrast:5, those that chose nothing", len(others))
    assert sets.measured is None  # the test images are of another kind
    np.testing.assert_allclose(sets.scores, right_scores(bundle, "dim", others), atol=1e-5)
    # An ensemble of it is asked about clean images, but not those whose corrupted copies chose its member.
    assert bundle.ensembles["both"].sets.data == "digits:validation, those that chose nothing"


def test_other_images_can_be_named(own_run: Path, tmp_path: Path) -> None:
    pixels, labels = OpenRun(own_run).data.validation.take(np.arange(60))
    np.savez(tmp_path / "own.npz", images=255 - pixels, labels=labels)
    bundle = exported(own_run, "--sets-data", tmp_path / "own.npz", "--sets-method", "raps", "--alpha", "midpoint")
    sets = bundle.points["midpoint"].sets
    assert (sets.method, sets.data) == ("raps", str(tmp_path / "own.npz"))
    assert (sets.count, sets.tuned_on) == (48, 12)
    rest, _ = carve(labels, 12, 0)
    images = labelled_images(OpenRun(own_run), str(tmp_path / "own.npz")).subset(rest)
    expected = right_scores(bundle, "midpoint", images, "raps", k_reg=sets.k_reg, penalty=sets.penalty)
    np.testing.assert_allclose(sets.scores, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("test", "nothing is chosen or fitted on test images"),
        ("digits:test", "nothing is chosen or fitted on test images"),
        ("train", "images that the networks were trained on"),
        ("digits:train", "images that the networks were trained on"),
    ],
)
def test_test_and_training_images_are_refused(own_run: Path, spec: str, message: str) -> None:
    result = invoke("export", own_run, "--sets-data", spec)
    assert result.exit_code == 1
    assert message in str(result.exception)
    assert not (own_run / "bundle").exists()


@pytest.mark.parametrize(("part", "kind"), [("test", "test"), ("train", "training")])
def test_images_under_another_name_are_refused(own_run: Path, tmp_path: Path, part: str, kind: str) -> None:
    pixels, labels = getattr(OpenRun(own_run).data, part).take(np.arange(50))
    np.savez(tmp_path / "own.npz", images=pixels, labels=labels)
    result = invoke("export", own_run, "--sets-data", tmp_path / "own.npz")
    assert result.exit_code == 1
    assert f"50 of the 50 images are {kind} images of this run" in str(result.exception)


@pytest.mark.parametrize("spelling", ["cam.npz", "./cam.npz", "twin.npz"])
def test_images_that_chose_are_left_out_whatever_they_are_called(
    own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels, labels = OpenRun(own_run).data.validation.take(np.arange(60))
    for name in ("cam.npz", "twin.npz"):
        np.savez(name, images=255 - pixels, labels=labels)
    run("select", own_run, "--val-data", "cam.npz", "--name", "cam", "--points", 3)
    point = exported(own_run, "--alpha", "best:cam", "--sets-data", spelling).points["cam"]
    assert point.sets.count == 60 - json.loads((own_run / "selections.json").read_text())["cam"]["chosen_on"]
    assert point.sets.data == f"{spelling}, those that chose nothing"
    # The test images are not of that kind, and tell nothing of these.
    assert (point.sets.measured, point.abstention.measured.held_out) == (None, False)


def test_where_a_corruption_chose_its_clean_images_had_a_part(own_run: Path, tmp_path: Path) -> None:
    copy = ("corrupt", "--split", "validation", "--corruption", "contrast", "--severity", 3)
    run(*copy, "--out", tmp_path / "dull")
    spec = f"corrupted:{tmp_path / 'dull'}:contrast:3"
    run("select", own_run, "--val-data", spec, "--name", "dull", "--points", 3)
    chosen_on = json.loads((own_run / "selections.json").read_text())["dull"]["chosen_on"]
    sets = exported(own_run, "--alpha", "best:dull", "--sets-data", "validation").points["dull"].sets
    assert sets.count == len(OpenRun(own_run).data.validation) - chosen_on


def test_sets_can_be_left_out(own_run: Path) -> None:
    bundle = exported(own_run, "--no-sets")
    assert all(model.sets is None for model in models(bundle).values())
    text = (own_run / "bundle" / "manifest.json").read_text()
    assert not any(f'"{name}"' in text for name in ("sets", "abstention", "drift"))
    assert invoke("export", own_run, "--no-sets", "--sets-data", "validation").exit_code == 2


def test_where_every_image_had_a_part_there_are_no_sets_and_a_note(own_run: Path) -> None:
    result = completed("export", own_run, "--points-only", "--alpha", "midpoint", "--calibrate-on", "validation")
    assert "midpoint gets no prediction sets: there are no images left that chose nothing" in result.stderr
    assert Bundle.open(own_run / "bundle").points["midpoint"].sets is None


def test_the_manifest_keeps_them_on_one_line_and_the_table_shows_them(own_run: Path) -> None:
    result = invoke("export", own_run, "--points-only", "--alpha", "midpoint")
    (line,) = (line for line in (own_run / "bundle/manifest.json").read_text().splitlines() if '"scores"' in line)
    sets = Bundle.open(own_run / "bundle").points["midpoint"].sets
    assert json.loads("{" + line.rstrip(",") + "}")["scores"] == list(sets.scores)
    row = next(line.split() for line in result.output.splitlines() if line.startswith("midpoint") and "lac" in line)
    risk = next(line.split() for line in result.output.splitlines() if line.startswith("midpoint") and "others" in line)
    abstention = Bundle.open(own_run / "bundle").points["midpoint"].abstention
    assert risk[1:3] == [
        f"{abstention.measured.aurc:.4f}", f"{100 * abstention.measured.answered_at_5_percent:.2f}",
    ]  # fmt: skip
    proven = abstention.choose(0.05)
    assert risk[5] == ("none" if proven is None else f"{100 * proven.answered / abstention.count:.2f}")
    worst = min(sets.measured.class_coverage)
    assert row[2:5] == [str(sets.count), "of", "digits:validation"]
    assert row[6:] == [
        f"{100 * sets.measured.coverage:.2f}", f"{100 * worst:.2f}", f"{sets.measured.mean_size:.2f}",
        str(sets.measured.images),
    ]  # fmt: skip
