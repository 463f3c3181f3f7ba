"""BatchNorm statistics of a whole subspace for one set of images: exact at knots, interpolated between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from subspace_serve.errors import CalibrationError, CheckpointError, GeometryError
from subspace_serve.files import atomic_file
from subspace_serve.network.network import CALIBRATION_BATCH, Network
from subspace_serve.network.sessions import cores, several_at_once
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.lattice import Degree, Lattice
from subspace_serve.space.place import Alpha, place, place_text

FORMAT = "subspace-serve-statistics"
VERSION = "1"


@dataclass(frozen=True, eq=False)
class StatisticsSet:
    """Statistics at the knots of a subspace for one set of images; it gives those of any place.

    Means are interpolated linearly between knots. With fixed inputs to the layer, the variance under a linear mixture
    of weights is quadratic in alpha (Jordan et al. 2023, REPAIR), so variances are interpolated by polynomials of
    degree one or two, whichever export found nearer to exact recalibration.

    Attributes:
        lattice: the knots.
        values: one row per knot, as `Skeleton.statistics` lays them out, float32 (knots, k).
        variances: which of a row's numbers are variances, bool (k,).
        images: how many images they were computed from.
        degree: of the variances' polynomials.
        noise: for training images, how far the statistics of one image would lie from these by chance, as
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
            # A quadratic may undershoot where the variance nearly vanishes; the least value at any knot bounds it.
            quadratic = self.lattice.weights(alpha, 2) @ self.values
            row = np.where(self.variances, np.maximum(quadratic, self.values.min(axis=0)), row)
        return Statistics(row.astype(np.float32), self.images)

    @classmethod
    def of_ends(cls, geometry: Geometry, skeleton: Skeleton, ends: Sequence[Mapping[str, np.ndarray]]) -> StatisticsSet:
        """Return a set whose only knots are the ends of a line or simplex, with running averages of its sources.

        Args:
            geometry: whose endpoints these are.
            skeleton: of the networks.
            ends: each end's running means and variances by name, in the order of the endpoints.
        """
        lattice = Lattice(geometry, 1)
        values = np.tile(skeleton.default_statistics(), (len(ends), 1))
        for end, found in zip(geometry.ends, ends, strict=True):
            for name, slot in skeleton.statistics.items():
                values[lattice.knots.index(end), slot.where] = found[name]
        return cls(lattice, values, _variances(skeleton), 0)

    def with_degree(self, degree: Degree) -> StatisticsSet:
        """Return the set with its variances interpolated by polynomials of another degree."""
        return replace(self, degree=degree)

    def save(self, file: Path, checkpoint_sha256: str) -> None:
        """Write the set atomically as a safetensors file, bound to the checkpoint that it belongs to."""
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
    def load(
        cls, file: Path, geometry: Geometry, skeleton: Skeleton, checkpoint_sha256: str, *, ends_only: bool = False
    ) -> StatisticsSet:
        """Read a set that `save` wrote.

        Args:
            file: to read.
            geometry, skeleton: of the subspace.
            checkpoint_sha256: of its checkpoint.
            ends_only: whether it is a set made by `of_ends`.

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
            lattice = Lattice(geometry, 1) if ends_only else Lattice.of(geometry)
            made = cls(lattice, values, _variances(skeleton), int(document["images"]), document["degree"], noise)
        # The last two also for types that NumPy does not have.
        except (SafetensorError, OSError, KeyError, ValueError, OverflowError, TypeError, AttributeError) as error:
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
        """Return the statistics of one place.

        Raises:
            CalibrationError: the set knows the ends only, and this is another place; or the place lies outside the
                domain, where nothing is known.
        """
        lattice = self.statistics_set.lattice
        if not network.skeleton.batchnorms:  # there are none, wherever the place lies
            return self.statistics_set.at(lattice.knots[0])
        if lattice.parts == 1 and place(alpha) not in lattice.knots:
            raise CalibrationError(
                f"the sources' own statistics are those of the ends, and alpha {place_text(alpha)} is none; recompute "
                "statistics from images of the kind (--calibrate-on SPEC), or take the ends (--alpha endpoints)"
            )
        try:
            return self.statistics_set.at(alpha)
        except GeometryError as error:
            raise CalibrationError(
                f"alpha {place_text(alpha)} lies outside the subspace, and statistics are known within it; recompute "
                "them from images of the kind (--calibrate-on SPEC)"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return the record of the images."""
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
        CalibrationError: there are no images, the statistics are not finite, or a place in `only` is not a knot.
    """
    lattice = Lattice.of(network.geometry)
    skeleton = network.skeleton
    values = np.tile(skeleton.default_statistics(), (len(lattice.knots), 1))
    if not skeleton.batchnorms:
        return StatisticsSet(lattice, values, _variances(skeleton), 0)
    wanted = lattice.knots if only is None else list(only)
    if unknown := [alpha for alpha in wanted if alpha not in lattice.knots]:
        raise CalibrationError(f"alpha {place_text(unknown[0])} is no knot of the subspace")
    # One thread each, so that the statistics do not depend on how many are computed at a time.
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


def even_batches(images: np.ndarray) -> list[np.ndarray]:
    """Divide images into batches of nearly equal size, 128 at most: a last batch of two would give a poor variance."""
    return np.array_split(images, max(1, -(-len(images) // CALIBRATION_BATCH)))


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
        calibration: gives the images that it was computed from, in batches.
        images: uint8 (N, H, W, C), on which answers are compared.
        labels: (N,), for the difference in accuracy.
        places: where to compare.

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
