"""The subspace itself in a bundle: its graph, its endpoints, and BatchNorm statistics at its knots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.bundle.dynamic import TOLERANCE, compare_dynamic, compared_places
from subspace_serve.bundle.manifest import TRAINING, Calibration, InterpolationError
from subspace_serve.bundle.reduced import GraphParity
from subspace_serve.bundle.session import load_graph
from subspace_serve.bundle.verify import check_graph
from subspace_serve.bundle.writer import DYNAMIC_FILE, BundleWriter
from subspace_serve.errors import BundleError, ExportError
from subspace_serve.export.plan import Origin
from subspace_serve.files import sha256_of
from subspace_serve.network.calibration_data import CalibrationData
from subspace_serve.network.dynamic import dynamic_graph
from subspace_serve.network.mixing import sampling_noise
from subspace_serve.network.network import Network
from subspace_serve.network.served import InputType, ServedGraph, as_served
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
) -> StatisticsSet:
    """Add the subspace, with its training statistics, to a bundle; return the statistics.

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
    return statistics


def export_dynamic(
    bundle: BundleWriter,
    network: Network,
    statistics: StatisticsSet,
    input_type: InputType,
    pixels: np.ndarray,
    *,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Add the subspace as one graph with alpha as an input, compared with networks built at several places.

    Args:
        bundle: that is being written; it holds the subspace.
        network: the subspace.
        statistics: of training images.
        input_type: what the bundle's graphs take.
        pixels: to compare on, uint8 (N, H, W, C).
        progress: called with a line.

    Raises:
        ExportError: the graph is not valid, or does not answer as those networks do.
    """
    file = bundle.folder / DYNAMIC_FILE
    file.write_bytes(dynamic_graph(network, statistics, input_type))
    served = ServedGraph(network, input_type)

    def build(alpha: Alpha) -> Any:
        return served.session(network.weights(alpha), statistics.at(alpha))

    places = compared_places(network.geometry)
    try:
        check_graph(file)
        session = load_graph(file, device="cpu")
        difference = compare_dynamic(session, build, as_served(pixels, input_type), places)
    except BundleError as error:
        raise ExportError(f"{error}; the bundle was not written") from error
    size = network.geometry.endpoints if network.geometry.barycentric else 1
    parity = GraphParity(max_relative_difference=difference, tolerance=TOLERANCE)
    bundle.set_dynamic(size=size, places=len(places), parity=parity)
    progress(
        f"alpha as an input: at {len(places)} places the graph differs from networks built there by {difference:.1e}"
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
