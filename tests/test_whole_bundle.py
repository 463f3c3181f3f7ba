"""Bundles that hold their subspace, of every geometry: what is built at a place answers as the subspace itself does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from untrained import exported

from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.verify import verify_bundle
from subspace_serve.errors import ExportError
from subspace_serve.export import BundlePlan, Origin, export_bundle
from subspace_serve.network.served import InputType, as_served
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.alpha import parse_alphas
from subspace_serve.space.geometry import Geometry, single_network

GEOMETRIES = [Geometry("line", 2), Geometry("curve", 3), Geometry("simplex", 3), single_network()]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("input_type", ["uint8", "float"])
def test_what_is_built_answers_as_the_subspace_does(
    geometry: Geometry, input_type: InputType, line_run: Path, tmp_path: Path
) -> None:
    folder, network = exported(geometry, line_run, tmp_path, input_type)
    predictor = Predictor(Bundle.open(folder), device="cpu", threads=1)
    assert predictor.subspace is not None
    images = OpenRun(line_run).data.test.take(np.arange(20))[0]
    for alpha in geometry.sample(np.random.default_rng(0), 3).tolist():
        statistics = predictor.subspace.statistics().at(alpha)
        found = predictor.predict(as_served(images, input_type), predictor.select(alpha=alpha))
        expected = network.at(alpha, statistics).logits(images)
        np.testing.assert_allclose(found.logits - found.logits.mean(1, keepdims=True),
                                   expected - expected.mean(1, keepdims=True), atol=1e-4)  # fmt: skip
    record = predictor.bundle.manifest.subspace
    assert record is not None
    error = record.statistics["training"].error
    if geometry.endpoints == 1:
        assert error is None
    else:
        assert error is not None
        assert (error.places, error.images) == (4, 258)
        assert error.logits < 0.1
    assert verify_bundle(folder, device="cpu").statistics == ("training",)


def test_a_checkpoint_that_changes_while_it_is_exported_is_refused(line_run: Path, tmp_path: Path) -> None:
    run = OpenRun(line_run, calibration_count=128)
    request = parse_alphas(["midpoint"], run.subspace.geometry, {})
    origin = Origin(
        run.subspace, run.network, run.preprocessing, run.labels, "0" * 64, run.data.test, checkpoint=run.file
    )
    with pytest.raises(ExportError, match="was changed while it was exported"):
        export_bundle(
            origin, BundlePlan.of(request, {"midpoint": run.calibration}, subspace=run.calibration), tmp_path / "bundle"
        )
    assert not (tmp_path / "bundle").exists()
