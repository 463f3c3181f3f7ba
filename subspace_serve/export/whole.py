"""The subspace itself in a bundle: its graph, its endpoints, and BatchNorm statistics at its knots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from subspace_serve.bundle.manifest import TRAINING, Calibration, InterpolationError
from subspace_serve.bundle.writer import BundleWriter
from subspace_serve.errors import ExportError
from subspace_serve.export.plan import Origin
from subspace_serve.files import sha256_of
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.mixing import sampling_noise
from subspace_serve.network.statistics_set import StatisticsSet, compute_statistics, interpolation_error
from subspace_serve.space.place import Alpha

KNOT_IMAGES = 1024
"""At most this many images give the statistics at each knot, in whole batches (at least one)."""
_PLACES = 4


def export_subspace(
    bundle: BundleWriter,
    origin: Origin,
    checkpoint: Path,
    calibration: CalibrationData,
    *,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Add the subspace, with its training statistics, to a bundle.

    Variances are interpolated by polynomials of degree one or two, whichever answers are nearer to those with exact
    statistics at places between knots, on held-out images; how near is recorded.

    Raises:
        ExportError: the checkpoint's file is not the one that the points were collapsed from.
        CalibrationError: statistics are not finite.
    """
    if sha256_of(checkpoint) != origin.checkpoint_sha256:
        raise ExportError(f"{checkpoint} was changed while it was exported; export again")
    network = origin.network
    bundle.set_subspace(network.geometry.name, network.skeleton.data, checkpoint)

    def images() -> Iterator[np.ndarray]:
        return islice(calibration.pixels(), max(1, KNOT_IMAGES // calibration.batch_size))

    statistics = compute_statistics(network, images)
    error = None
    if network.skeleton.batchnorms:
        statistics = replace(statistics, noise=sampling_noise(network, statistics, np.concatenate(list(images()))))
        statistics, error = _interpolated(origin, statistics, calibration, images)
    count = min(len(calibration), KNOT_IMAGES // calibration.batch_size * calibration.batch_size or len(calibration))
    bundle.add_statistics(
        TRAINING,
        statistics,
        calibration=Calibration(**calibration.to_json() | {"count": statistics.images or count}),
        error=error,
    )
    if error is not None:
        progress(
            f"statistics at {len(statistics.knots)} knots; between them logits differ from exact ones by "
            f"{error.logits:.1e}, {100 * error.flips:.2f} % of top answers"
        )


def _interpolated(
    origin: Origin, statistics: StatisticsSet, calibration: CalibrationData, images: Callable[[], Iterator[np.ndarray]]
) -> tuple[StatisticsSet, InterpolationError | None]:
    """Return the set with the better of the two interpolations, and its error."""
    if len(statistics.knots) == 1:
        return statistics, None
    held_out, labels = calibration.held_out.take(np.arange(len(calibration.held_out)))
    places = _between(origin)
    found = [
        (
            statistics.with_degree(degree),
            interpolation_error(
                origin.network, statistics.with_degree(degree), images, held_out, labels, places=places
            ),
        )
        for degree in (1, 2)
    ]
    better, error = min(found, key=lambda pair: pair[1]["logits"])
    return better, InterpolationError(places=len(places), images=len(held_out), **error)


def _between(origin: Origin) -> list[Alpha]:
    """Return places that lie between knots."""
    geometry = origin.network.geometry
    if not geometry.barycentric:
        return [0.125, 0.375, 0.625, 0.875]
    return [tuple(place) for place in geometry.sample(np.random.default_rng(0), _PLACES).tolist()]
