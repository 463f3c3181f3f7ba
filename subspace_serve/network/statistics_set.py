"""BatchNorm statistics of a whole subspace: exact at knots, for one set of images, interpolated between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from subspace_serve.errors import CalibrationError, CheckpointError
from subspace_serve.files import atomic_file
from subspace_serve.network.network import Network
from subspace_serve.network.sessions import cores, several_at_once
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.lattice import Degree, Lattice
from subspace_serve.space.place import Alpha, place_text

FORMAT = "subspace-serve-statistics"
VERSION = "1"


@dataclass(frozen=True, eq=False)
class StatisticsSet:
    """Statistics at the knots of a subspace for one set of images; gives those of any place.

    Means are interpolated linearly between knots. For fixed inputs the variance of a mixture of weights is quadratic
    in alpha (Jordan et al. 2023, REPAIR), so variances are interpolated by polynomials of degree one or two, whichever
    was found nearer to exact recalibration at export.

    Attributes:
        lattice: the knots.
        values: a row a knot, as `Skeleton.statistics` lays them out, float32 (knots, k).
        variances: which of a row's numbers are variances, bool (k,).
        images: from how many images they were computed.
        degree: of the variances' polynomials.
        noise: of training images, how far the statistics of one image would lie from these by chance, as
            `mixing.distances` measures it; float32 (layers,), None where it was not measured.
    """

    lattice: Lattice
    values: np.ndarray
    variances: np.ndarray
    images: int
    degree: Degree = 1
    noise: np.ndarray | None = None

    @property
    def knots(self) -> list[Alpha]:
        """The places whose statistics are exact."""
        return self.lattice.knots

    def at(self, alpha: Alpha) -> Statistics:
        """Return the statistics of one place.

        Raises:
            GeometryError: it lies outside the domain.
        """
        row = self.lattice.weights(alpha) @ self.values
        if self.degree == 2:
            # A quadratic may undershoot where the variance nearly vanishes; the lesser of the knots bounds it.
            quadratic = self.lattice.weights(alpha, 2) @ self.values
            row = np.where(self.variances, np.maximum(quadratic, self.values.min(axis=0)), row)
        return Statistics(row.astype(np.float32), self.images)

    def with_degree(self, degree: Degree) -> StatisticsSet:
        """Return the same knots, interpolated by other polynomials."""
        return replace(self, degree=degree)

    def save(self, file: Path, checkpoint_sha256: str) -> None:
        """Write the set as a safetensors file, bound to the checkpoint whose networks it belongs to; atomically."""
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "checkpoint": checkpoint_sha256,
            "document": json.dumps({"knots": self.knots, "images": self.images, "degree": self.degree}),
        }
        tensors = {"statistics": self.values} | ({} if self.noise is None else {"noise": self.noise})
        with atomic_file(file) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    @classmethod
    def load(cls, file: Path, geometry: Geometry, skeleton: Skeleton, checkpoint_sha256: str) -> StatisticsSet:
        """Read a set that `save` wrote.

        Raises:
            CheckpointError: the file is damaged or of another format, or belongs to another checkpoint or network.
        """
        try:
            with safe_open(file, framework="numpy") as opened:
                metadata = opened.metadata() or {}
                values = opened.get_tensor("statistics")
                noise = opened.get_tensor("noise") if "noise" in opened.keys() else None  # noqa: SIM118
            found = metadata["format"], metadata["version"]
            document = json.loads(metadata["document"])
            made = cls(
                Lattice.of(geometry), values, _variances(skeleton), int(document["images"]), document["degree"], noise
            )
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{file} holds no statistics that can be read ({error}); export again") from error
        if found != (FORMAT, VERSION):
            raise CheckpointError(f"{file} has the format {found[0]} {found[1]}, expected {FORMAT} {VERSION}")
        if metadata["checkpoint"] != checkpoint_sha256:
            raise CheckpointError(f"{file} holds the statistics of another checkpoint; export or adapt again")
        wanted = (len(made.knots), len(made.variances))
        if values.shape != wanted or values.dtype != np.float32 or not np.isfinite(values).all():
            raise CheckpointError(
                f"{file} holds {values.dtype} statistics of shape {values.shape}, expected finite float32 of shape "
                f"{wanted}; export or adapt again"
            )
        return made


@dataclass(frozen=True, eq=False)
class KnownStatistics:
    """A set in place of images to recalibrate with; `record` says what images it was computed from."""

    statistics_set: StatisticsSet
    record: dict[str, Any]

    def statistics(self, network: Network, alpha: Alpha, weights: np.ndarray) -> Statistics:
        """Return the statistics of one place."""
        return self.statistics_set.at(alpha)

    def to_json(self) -> dict[str, Any]:
        """Return what the images were."""
        return self.record


def compute_statistics(
    network: Network,
    images: Callable[[], Iterable[np.ndarray]],
    *,
    only: Sequence[Alpha] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> StatisticsSet:
    """Recompute the statistics of a subspace at its knots from images; their labels are not needed.

    Args:
        network: the subspace.
        images: gives batches of uint8 (N, H, W, C), the same ones at each call.
        only: these knots alone are computed; the others keep the statistics of a fresh network.
        progress: called with a line for each knot.

    Raises:
        CalibrationError: there are no images, or statistics that are not finite.
    """
    lattice = Lattice.of(network.geometry)
    skeleton = network.skeleton
    values = np.tile(skeleton.default_statistics(), (len(lattice.knots), 1))
    if not skeleton.batchnorms:
        return StatisticsSet(lattice, values, _variances(skeleton), 0)
    wanted = lattice.knots if only is None else list(only)
    if unknown := [alpha for alpha in wanted if alpha not in lattice.knots]:
        raise CalibrationError(f"alpha {place_text(unknown[0])} is no knot of the subspace")
    # One thread each, so that statistics do not depend on how many are computed at a time.
    single = network.with_threads(1)

    def compute(alpha: Alpha) -> Statistics:
        found = single.recalibrate(images(), alpha=alpha)
        progress(f"statistics at alpha {place_text(alpha)}")
        return found

    with several_at_once(min(cores() if network.on_cpu else 1, len(wanted))) as run:
        found = list(run(compute, wanted))
    for alpha, statistics in zip(wanted, found, strict=True):
        values[lattice.knots.index(alpha)] = statistics.values
    return StatisticsSet(lattice, values, _variances(skeleton), found[0].images)


def even_batches(images: np.ndarray, most: int = 128) -> list[np.ndarray]:
    """Divide images into batches of nearly equal size: a last batch of two would tell a poor variance."""
    return np.array_split(images, max(1, -(-len(images) // most)))


def _variances(skeleton: Skeleton) -> np.ndarray:
    """Return which of a network's statistics are variances, bool (k,)."""
    mask = np.zeros(len(skeleton.default_statistics()), bool)
    for layer in skeleton.batchnorms:
        mask[layer.variance.where] = True
    return mask


def interpolation_error(
    network: Network,
    statistics: StatisticsSet,
    calibration: Callable[[], Iterable[np.ndarray]],
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    places: Sequence[Alpha],
) -> dict[str, Any]:
    """Return how far answers with interpolated statistics are from those with exact ones, at places between knots.

    Args:
        network: the subspace.
        statistics: the set that is interpolated.
        calibration: gives the images from which it was computed, in batches.
        images: uint8 (N, H, W, C), on which answers are compared.
        labels: (N,), for the difference in accuracy.
        places: where.

    Returns:
        The worst over the places: `logits`, the root mean square difference; `flips`, the share of images whose top
        answer differs; with labels `accuracy`, the absolute difference.
    """
    worst = {"logits": 0.0, "flips": 0.0} | ({} if labels is None else {"accuracy": 0.0})
    for alpha in places:
        exact = network.at(alpha, network.recalibrate(calibration(), alpha=alpha)).logits(images)
        between = network.at(alpha, statistics.at(alpha)).logits(images)
        found = {
            "logits": float(np.sqrt(np.square(between - exact).mean())),
            "flips": float((between.argmax(1) != exact.argmax(1)).mean()),
        }
        if labels is not None:
            right = [(answers.argmax(1) == labels).mean() for answers in (between, exact)]
            found["accuracy"] = float(abs(right[0] - right[1]))
        worst = {name: max(value, found[name]) for name, value in worst.items()}
    return worst
