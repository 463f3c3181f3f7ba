from __future__ import annotations

from pathlib import Path

import pytest
import torch

from subspace_serve.cli.run import OpenRun
from subspace_serve.errors import DataError, GeometryError
from subspace_serve.evaluate import default_alphas, evaluate, predict_logits, recalibrated
from subspace_serve.geometry import Geometry, single_network
from subspace_serve.metrics import classification_metrics


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
        run.subspace,
        images,
        preprocessing=run.preprocessing,
        calibration=run.calibration,
        alphas=[0.0, 0.25],
        aggregate=aggregate,
    )
    logits = {
        alpha: predict_logits(recalibrated(run.subspace, alpha, run.calibration), images, run.preprocessing)
        for alpha in (0.0, 0.25, 0.75, 1.0)
    }

    def averaged(*members: torch.Tensor) -> dict[str, float]:
        stacked = torch.stack(members)
        mean = stacked.softmax(2).mean(0) if aggregate == "probabilities" else stacked.mean(0).softmax(1)
        return classification_metrics(mean, images.labels)

    first, second = document["points"]
    assert first["alpha"] == 0.0
    assert first["metrics"] == pytest.approx(averaged(logits[0.0]), abs=1e-6)
    assert first["ensemble"] == pytest.approx(averaged(logits[0.0], logits[1.0]), abs=1e-6)
    assert second["ensemble"] == pytest.approx(averaged(logits[0.25], logits[0.75]), abs=1e-6)
    assert document["endpoints_ensemble"]["metrics"] == pytest.approx(first["ensemble"])
    variation = 0.5 * (logits[0.0].softmax(1) - logits[1.0].softmax(1)).abs().sum(1).mean()
    assert document["endpoints_ensemble"]["total_variation"] == pytest.approx(variation.item(), abs=1e-6)
    assert first["ensemble"]["accuracy"] != first["metrics"]["accuracy"]
    assert document["count"] == len(images)
    assert document["endpoint_distances"][0]["cosine_squared"] < 0.1


def test_images_of_classes_that_the_network_does_not_have_are_refused(line_run: Path) -> None:
    run = OpenRun(line_run)
    images = run.data.test.with_labels(torch.full((len(run.data.test),), 10))
    with pytest.raises(DataError, match="a label is 10 and the network has classes 0 to 9"):
        evaluate(run.subspace, images, preprocessing=run.preprocessing, calibration=run.calibration)
    with pytest.raises(DataError, match="no images"):
        empty = run.data.test.subset(torch.arange(0))
        evaluate(run.subspace, empty, preprocessing=run.preprocessing, calibration=run.calibration)


def test_places_outside_are_refused_before_any_work(line_run: Path) -> None:
    run = OpenRun(line_run)
    with pytest.raises(GeometryError, match="outside"):
        evaluate(
            run.subspace, run.data.test, preprocessing=run.preprocessing, calibration=run.calibration, alphas=[2.0]
        )
