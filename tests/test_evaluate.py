from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_documents import evaluation, measured

from subspace_serve.answers import softmax
from subspace_serve.data import MemoryImages
from subspace_serve.data.domains import Domain, corrupted_domains, parse_corruptions
from subspace_serve.errors import DataError, GeometryError
from subspace_serve.measure.changed import Answers, answers_of, changed_answers
from subspace_serve.measure.evaluation import default_alphas, evaluate, relative_change
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.networks import Candidate, Networks
from subspace_serve.measure.results import Evaluation
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.geometry import Geometry, single_network
from trainer.modules import as_module, predict_logits


def test_default_places() -> None:
    assert default_alphas(Geometry("line", 2), 3) == [0.0, 0.5, 1.0]
    assert default_alphas(Geometry("curve", 3))[3] == 0.3
    assert default_alphas(Geometry("simplex", 2)) == [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    assert default_alphas(single_network()) == [(1.0,)]


@pytest.mark.parametrize("aggregate", ["probabilities", "logits"])
def test_an_evaluation_equals_its_parts_put_together_by_hand(line_run: Path, aggregate: str) -> None:
    run = OpenRun(line_run)
    images = run.data.test
    document = evaluate(
        run.network,
        images,
        calibration=run.calibration,
        alphas=[0.0, 0.25],
        aggregate=aggregate,
    ).to_json()
    logits = {
        alpha: predict_logits(as_module(run.subspace, alpha, run.calibration), images, run.preprocessing)
        for alpha in (0.0, 0.25, 0.75, 1.0)
    }

    def averaged(*members: np.ndarray) -> dict[str, float]:
        stacked = torch.from_numpy(np.stack(members))
        mean = stacked.softmax(2).mean(0) if aggregate == "probabilities" else stacked.mean(0).softmax(1)
        return classification_metrics(mean.numpy(), images.labels)

    first, second = document["points"]
    assert first["alpha"] == 0.0
    assert first["metrics"] == pytest.approx(averaged(logits[0.0]), abs=1e-6)
    assert first["ensemble"] == pytest.approx(averaged(logits[0.0], logits[1.0]), abs=1e-6)
    assert second["ensemble"] == pytest.approx(averaged(logits[0.25], logits[0.75]), abs=1e-6)
    assert document["endpoints_ensemble"]["metrics"] == pytest.approx(first["ensemble"])
    variation = 0.5 * np.abs(softmax(logits[0.0]) - softmax(logits[1.0])).sum(1).mean()
    assert document["endpoints_ensemble"]["total_variation"] == pytest.approx(variation, abs=1e-6)
    assert first["ensemble"]["accuracy"] != first["metrics"]["accuracy"]
    assert document["count"] == len(images)
    assert document["endpoint_distances"][0]["cosine_squared"] < 0.1


def test_images_of_classes_that_the_network_does_not_have_are_refused(line_run: Path) -> None:
    run = OpenRun(line_run)
    images = run.data.test.with_labels(np.full(len(run.data.test), 10))
    with pytest.raises(DataError, match="a label is 10 and the network has classes 0 to 9"):
        evaluate(run.network, images, calibration=run.calibration)
    with pytest.raises(DataError, match="no images"):
        empty = run.data.test.subset(np.arange(0))
        evaluate(run.network, empty, calibration=run.calibration)


def test_places_outside_are_refused_before_any_work(line_run: Path) -> None:
    run = OpenRun(line_run)
    with pytest.raises(GeometryError, match="outside"):
        evaluate(run.network, run.data.test, calibration=run.calibration, alphas=[2.0])


def test_corruptions_are_measured_on_the_networks_of_the_clean_images(line_run: Path) -> None:
    run = OpenRun(line_run)
    images = run.data.test
    domains = corrupted_domains(images, "test", ["gaussian_noise", "contrast"], [1, 5], seed=3)
    document = evaluate(
        run.network, images, calibration=run.calibration, alphas=[0.5], ensembles=False, corrupted=domains
    ).to_json()
    assert [(c["corruption"], c["severity"]) for c in document["corruptions"]] == [
        ("gaussian_noise", 1),
        ("gaussian_noise", 5),
        ("contrast", 1),
        ("contrast", 5),
    ]
    clean = document["points"][0]["metrics"]["accuracy"]
    logits = predict_logits(as_module(run.subspace, 0.5, run.calibration), domains[3].images, run.preprocessing)
    by_hand = classification_metrics(softmax(logits), images.labels)
    worst = document["corruptions"][3]["points"][0]
    assert worst["metrics"] == pytest.approx(by_hand, abs=1e-6)
    assert worst["relative_change"] == pytest.approx((by_hand["accuracy"] - clean) / clean)
    errors = [1 - c["points"][0]["metrics"]["accuracy"] for c in document["corruptions"]]
    assert document["mean_corruption_error"]["points"] == [{"alpha": 0.5, "error": pytest.approx(sum(errors) / 4)}]


def test_corrupted_images_that_are_not_the_clean_ones_are_refused_before_any_work(line_run: Path) -> None:
    run = OpenRun(line_run)
    images = MemoryImages(*run.data.test.take(np.arange(60)))
    record = {"data": "mnist-c:published:fog", "corruption": "fog", "severity": None}

    def accuracy_on(others: MemoryImages) -> float:
        one = Domain("fog", others, record)
        asked = {"calibration": run.calibration, "alphas": [0.5], "ensembles": False}
        return evaluate(run.network, images, corrupted=[one], **asked).corruptions[0].points[0].accuracy

    # The published sets of files list the same images in an order of their own.
    turned = images.subset(np.arange(60)[::-1])
    assert accuracy_on(turned) == accuracy_on(images)
    with pytest.raises(DataError, match="of mnist-c:published:fog are not the clean ones, corrupted: found 59 instead"):
        accuracy_on(images.subset(np.arange(59)))
    labels = np.where(np.arange(60) == 7, (images.labels + 1) % 10, images.labels)
    with pytest.raises(DataError, match="found 60, with other numbers of each class; .* as --data mnist-c:published"):
        accuracy_on(images.with_labels(labels))


def test_mean_corruption_error_is_normalised_by_type_as_published() -> None:
    def measured(errors: dict[tuple[str, int], float]) -> Evaluation:
        document = {
            "geometry": "line",
            "count": 100,
            "points": [{"alpha": 0.5, "metrics": {"accuracy": 0.9}}],
            "corruptions": [
                {
                    "corruption": name,
                    "severity": severity,
                    "points": [{"alpha": 0.5, "metrics": {"accuracy": 1 - error}, "relative_change": -error}],
                }
                for (name, severity), error in errors.items()
            ],
        }
        return Evaluation.from_json(document)

    document = measured({("fog", 1): 0.1, ("fog", 2): 0.3, ("snow", 1): 0.2})
    baseline = measured({("fog", 1): 0.2, ("fog", 2): 0.6, ("snow", 1): 0.1})
    error = document.with_baseline(baseline).to_json()["mean_corruption_error"]
    (point,) = error["points"]
    assert point["error"] == pytest.approx(((0.1 + 0.3) / 2 + 0.2) / 2)
    assert point["normalised"] == pytest.approx((0.4 / 0.8 + 0.2 / 0.1) / 2)
    assert error["baseline"]["error"] == pytest.approx((0.4 + 0.1) / 2)


def test_the_document_is_what_it_was_read_from() -> None:
    for document in (evaluation(), evaluation(baseline=False), evaluation(corruptions=False, reliability=False)):
        for entry in document.get("corruptions", []):
            entry["endpoints_ensemble"]["members"] = [0.0, 1.0]
        written = Evaluation.from_json(document).to_json()
        assert written == document
        assert json.loads(json.dumps(written)) == written


def test_points_are_found_by_what_they_are() -> None:
    found = measured()
    shuffled = replace(found, points=tuple(reversed(found.points)))
    assert shuffled.midpoint is not None
    assert shuffled.midpoint.alpha == 0.5
    assert [point.alpha for point in shuffled.ordered] == [0.0, 0.5, 1.0]
    assert [point.alpha for point in shuffled.ends] == [1.0, 0.0]
    assert shuffled.best.alpha == 0.5
    assert replace(found, points=found.points[:1]).midpoint is None


def test_the_ends_under_their_own_name_are_measured_once(line_run: Path) -> None:
    run = OpenRun(line_run)
    ends = Candidate((0.0, 1.0))
    found = evaluate(
        run.network,
        run.data.test,
        calibration=run.calibration,
        alphas=[0.5],
        named={"endpoints": ends, "pair": ends},
        recommended={"endpoints": ends},
    )
    assert list(found.ensembles) == ["pair"]
    assert list(found.recommended) == ["endpoints"]
    assert found.endpoints_ensemble is not None
    assert found.ensembles["pair"].metrics == found.endpoints_ensemble.metrics


def test_changed_answers_come_with_the_surest_difference_first() -> None:
    images = MemoryImages(np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1), np.array([0, 1, 1, 0, 1]))
    models = {
        "a": Answers(np.array([0, 0, 0, 0, 1]), np.array([0.9, 0.75, 0.6, 0.5, 1.0])),
        "b": Answers(np.array([0, 1, 1, 1, 1]), np.array([0.8, 0.9, 0.6, 0.875, 1.0])),
        "c": Answers(np.array([0, 1, 1, 0, 1]), np.array([0.8, 0.5, 0.7, 0.875, 1.0])),
    }
    found = changed_answers(models, images, ["cat", "dog"], most=2)
    assert (found.models, found.count, found.images) == (("a", "b", "c"), 3, 5)
    # Image 3: b and c are both 0.875 sure of different classes; image 1: a and b, 0.75; image 2: 0.6.
    assert [entry.index for entry in found.shown] == [3, 1]
    first = found.shown[0]
    assert (first.label, first.pixels.tolist()) == ("cat", [[[3]]])
    assert first.answers == (("cat", 0.5), ("dog", 0.875), ("cat", 0.875))
    assert found.to_json()["shown"][1]["answers"][1] == {"class": "dog", "probability": 0.9}


def test_answers_are_those_of_the_networks(line_run: Path) -> None:
    run = OpenRun(line_run)
    images = run.data.test
    point, ends = Candidate.point(0.5), Candidate((0.0, 1.0))
    alone, together = answers_of(Networks(run.network, run.calibration), [point, ends], images)
    found = evaluate(run.network, images, calibration=run.calibration, alphas=[0.5])
    assert found.midpoint is not None
    assert found.endpoints_ensemble is not None
    for answers, result in ((alone, found.midpoint), (together, found.endpoints_ensemble)):
        assert (answers.classes == images.labels).mean() == pytest.approx(result.accuracy)
    changed = changed_answers({"midpoint": alone, "ends": together}, images, run.labels)
    assert changed.count == np.count_nonzero(alone.classes != together.classes)
    assert len(changed.shown) == min(changed.count, 24)


def test_relative_change_of_appendix_g() -> None:
    assert relative_change(0.8, 0.6) == pytest.approx(-0.25)
    assert relative_change(0.0, 0.5) == 0


def test_corruptions_on_the_command_line() -> None:
    known = ("fog", "frost", "snow")
    assert parse_corruptions(["snow,fog", "fog"], known) == ["snow", "fog"]
    assert parse_corruptions(["all"], known) == list(known)
    with pytest.raises(DataError, match="no corruption 'fogg'; did you mean fog"):
        parse_corruptions(["fogg"], known)


def test_networks_are_made_once_and_threads_change_nothing(line_run: Path) -> None:
    run = OpenRun(line_run)
    candidates = [Candidate.point(0.3), Candidate((0.3, 1 - 0.3)), Candidate.point(0.7)]
    made: list[str] = []
    alone = Networks(run.network, run.calibration, workers=1, progress=made.append)
    together = Networks(run.network, run.calibration, workers=3)
    for first, second in zip(
        alone.score(candidates, run.data.test), together.score(candidates, run.data.test), strict=True
    ):
        assert first.nll.tolist() == second.nll.tolist()
    alone.score(candidates, run.data.validation)
    assert made == ["alpha 0.3", "alpha 0.7"]
