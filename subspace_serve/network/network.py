"""A subspace on ONNX Runtime: any network of it, without torch."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.data import Images, Preprocessing
from subspace_serve.data.images import in_chunks
from subspace_serve.data.preprocessing import scale_and_shift
from subspace_serve.errors import CalibrationError, CheckpointError
from subspace_serve.network.measuring import batches_graph, images_graph
from subspace_serve.network.sessions import known_device, providers, session_options
from subspace_serve.network.skeleton import IMAGE, LOGITS, PARAMETERS, PREPROCESSING, STATISTICS, Skeleton
from subspace_serve.network.statistics import Averages, LayerAgreement, Statistics, agreements
from subspace_serve.space.checkpoint import load_subspace
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace, Weights, distances, weighted_sum

import onnxruntime  # isort: skip -- after `sessions`, which turns its telemetry off

BATCH = 64
"""Images per run of a graph: a CPU's caches hold the activations of small batches."""
BLOCK = 512
"""Images of a set that are read at a time."""
CALIBRATION_BATCH = 128


@dataclass(frozen=True)
class Answering:
    """One network, ready to answer.

    Attributes:
        session: ONNX Runtime's.
        provider: the execution provider that it runs on.
    """

    session: Any
    provider: str

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of images, uint8 (N, H, W, C). Shape (N, classes), float32."""
        parts = in_chunks(images, BATCH)
        return np.concatenate([self.session.run([LOGITS], {IMAGE: np.ascontiguousarray(part)})[0] for part in parts])

    def logits_of(self, images: Images) -> np.ndarray:
        """Return the logits of a set of images. Shape (N, classes), float32."""
        return np.concatenate([self.logits(pixels) for pixels, _ in images.batches(BLOCK)])


class Network:
    """The networks of one subspace: weights at any place, their BatchNorm statistics, and their answers.

    For example::

        network = Network.open("runs/latest")
        statistics = network.recalibrate(images, alpha=0.5)       # uint8 (N, H, W, C)
        logits = network.at(0.5, statistics).logits(images)       # float32 (N, classes)

    Args:
        skeleton: the architecture's graph.
        geometry: how a place turns into coefficients.
        endpoints: the parameters of each endpoint by name, float32.
        mean, std: the normalisation of pixels scaled to [0, 1], one number per channel.
        device: `auto`, `cpu` or `cuda`.
        threads: within an operator on a CPU; 0 for all cores.

    Raises:
        CheckpointError: the number of endpoints is not the geometry's, or they are not of the skeleton's network.
        DataError: the normalisation is not one mean and one positive standard deviation a channel.
        BundleError: the device is unknown or not available.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        geometry: Geometry,
        endpoints: Iterable[Weights],
        *,
        mean: Iterable[float],
        std: Iterable[float],
        device: str = "auto",
        threads: int = 0,
    ) -> None:
        self.skeleton = skeleton
        self.geometry = geometry
        self.endpoints = np.stack([skeleton.vector(endpoint) for endpoint in endpoints])
        if len(self.endpoints) != geometry.endpoints:
            raise CheckpointError(
                f"a {geometry.name} of {geometry.endpoints} endpoints was given {len(self.endpoints)}; give as many"
            )
        self._device = known_device(device)
        # In the order of the skeleton: scale, then shift.
        self._preprocessing = np.concatenate(scale_and_shift(Preprocessing(tuple(mean), tuple(std))))
        self._threads = threads

    @classmethod
    def open(cls, run: str | Path, *, device: str = "auto") -> Network:
        """Open the subspace of a run's folder.

        Args:
            run: the folder, such as `runs/latest`.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            CheckpointError: the checkpoint or the skeleton is missing or damaged, or they do not belong together.
            BundleError: the device is unknown or not available.
        """
        subspace = load_subspace(run)
        preprocessing = Preprocessing.from_json(subspace.provenance_value("preprocessing"))
        return cls.of(subspace, Skeleton.read(Path(run)), preprocessing, device=device)

    @classmethod
    def of(
        cls, subspace: Subspace, skeleton: Skeleton, preprocessing: Preprocessing, *, device: str = "auto"
    ) -> Network:
        """Return a subspace on ONNX Runtime.

        Raises:
            CheckpointError: the skeleton belongs to another architecture.
            BundleError: the device is unknown or not available.
        """
        if skeleton.architecture != subspace.architecture.to_json():
            raise CheckpointError(
                f"the skeleton is of {skeleton.architecture['name']}, with other settings than the subspace's "
                f"{subspace.architecture.name}; take the run's own"
            )
        return cls(
            skeleton,
            subspace.geometry,
            subspace.endpoints,
            mean=preprocessing.mean,
            std=preprocessing.std,
            device=device,
        )

    @property
    def classes(self) -> int:
        """How many logits there are."""
        classes: int = self.skeleton.architecture["classes"]
        return classes

    @property
    def on_cpu(self) -> bool:
        """Whether the networks run on a CPU."""
        return len(providers(self._device)) == 1

    def with_threads(self, threads: int) -> Network:
        """Return the same networks with another number of threads within an operator on a CPU; 0 for all cores."""
        other = copy.copy(self)
        other._threads = threads
        return other

    def weights(self, alpha: Alpha, *, extrapolate: bool = False) -> np.ndarray:
        """Return P(alpha) = sum of c_i(alpha) * omega_i (section 3), float32 (n,).

        At an end this is that endpoint, bit for bit.

        Raises:
            GeometryError: alpha lies outside the domain or has the wrong length.
        """
        return self.mixture(self.geometry.coefficients(alpha, extrapolate=extrapolate))

    def mixture(self, coefficients: Iterable[float]) -> np.ndarray:
        """Return a weighted sum of the endpoints, float32 (n,)."""
        return weighted_sum(coefficients, self.endpoints)

    def endpoint_distances(self) -> list[dict[str, Any]]:
        """Return, for each pair of endpoints, their L2 distance and squared cosine similarity.

        Both are over the weights with two or more dimensions (convolutions and linear layers): BatchNorm's parameters
        have no direction worth comparing (appendix D.3).
        """
        compared = [slot.where for slot in self.skeleton.parameters.values() if len(slot.shape) >= 2]
        return distances([np.concatenate([row[where] for where in compared]) for row in self.endpoints])

    def recalibrate(
        self,
        images: np.ndarray | Iterable[np.ndarray],
        *,
        alpha: Alpha | None = None,
        weights: np.ndarray | None = None,
    ) -> Statistics:
        """Compute the BatchNorm statistics of one network from images; their labels are not needed.

        Args:
            images: uint8 (N, H, W, C), or batches of these, 2 images or more each.
            alpha: which network; or
            weights: its parameters.

        Raises:
            CalibrationError: there are no images, a batch has only one, or the statistics are not finite.
            GeometryError: alpha lies outside the domain.
        """
        averages = Averages(self.skeleton)
        if not self.skeleton.batchnorms:
            return Statistics(self.skeleton.default_statistics(), 0)
        session = self.session(batches_graph(self.skeleton), self.numbers(self._chosen(alpha, weights), None))
        names = [output.name for output in session.get_outputs()]
        for batch in _batches(images):
            if len(batch) < 2:
                raise CalibrationError(f"a calibration batch has 2 images or more, for a variance; got {len(batch)}")
            averages.add(len(batch), dict(zip(names, session.run(names, {IMAGE: batch}), strict=True)))
        return averages.statistics()

    def check(
        self,
        statistics: Statistics,
        images: np.ndarray | Iterable[np.ndarray],
        *,
        alpha: Alpha | None = None,
        weights: np.ndarray | None = None,
    ) -> list[LayerAgreement]:
        """Check that statistics are those of one network, on images that they were not computed from.

        Raises:
            CalibrationError: a layer's are not, or there are fewer than 16 images (see `statistics.agreements`).
        """
        if not self.skeleton.batchnorms:
            return []
        session = self.session(images_graph(self.skeleton), self.numbers(self._chosen(alpha, weights), statistics))
        names = [output.name for output in session.get_outputs()]
        measured = (dict(zip(names, session.run(names, {IMAGE: batch}), strict=True)) for batch in _batches(images))
        return agreements(self.skeleton, statistics, measured)

    def at(self, alpha: Alpha, statistics: Statistics, *, extrapolate: bool = False) -> Answering:
        """Return the network P(alpha).

        Raises:
            GeometryError: alpha lies outside the domain.
            CheckpointError: the statistics belong to other layers.
        """
        return self.with_weights(self.weights(alpha, extrapolate=extrapolate), statistics)

    def with_weights(self, weights: np.ndarray, statistics: Statistics) -> Answering:
        """Return the network with any weights, float32 (n,)."""
        session = self.session(self.skeleton.data, self.numbers(weights, statistics))
        return Answering(session, session.get_providers()[0])

    def _chosen(self, alpha: Alpha | None, weights: np.ndarray | None) -> np.ndarray:
        if (alpha is None) == (weights is None):
            raise TypeError("one network is meant: give alpha or weights")
        return self.weights(alpha, extrapolate=True) if alpha is not None else weights  # type: ignore[return-value]

    def numbers(self, weights: np.ndarray, statistics: Statistics | None) -> dict[str, np.ndarray]:
        """Return what a skeleton's graph takes: its three flat vectors by name, float32; default statistics for None.

        Raises:
            CheckpointError: the weights or the statistics belong to another network.
        """
        values = self.skeleton.default_statistics()
        if statistics is not None and statistics.values.shape != values.shape:
            raise CheckpointError(
                f"the statistics are of other BatchNorm layers: {statistics.values.size} numbers, the network has "
                f"{values.size}; compute them for this network"
            )
        if weights.shape != self.endpoints.shape[1:]:
            raise CheckpointError(f"the network has {self.endpoints.shape[1]} parameters; got {weights.size}")
        return {
            PARAMETERS: weights,
            STATISTICS: values if statistics is None else statistics.values,
            PREPROCESSING: self._preprocessing,
        }

    def session(self, graph: bytes, numbers: dict[str, np.ndarray], *, arena: bool = True) -> Any:
        """Return an ONNX Runtime session of a skeleton's graph, or of one made from it, with its numbers.

        With an arena it keeps the memory that its largest batch took, which may be many times that of its weights.
        """
        options = session_options(self._threads)
        options.enable_cpu_mem_arena = arena
        # Kept alive until the session is built: ONNX Runtime reads them only then, and silently reads freed memory.
        held = {
            name: np.ascontiguousarray(values, np.float32).view(np.uint8)
            for name, values in numbers.items()
            if len(values)
        }
        options.add_external_initializers_from_files_in_memory(
            list(held), list(held.values()), [len(values) for values in held.values()]
        )
        session = onnxruntime.InferenceSession(graph, sess_options=options, providers=providers(self._device))
        del held
        return session


def _batches(images: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield contiguous batches of images; an array is divided into batches of 128.

    A last single image has no variance of its own, so it joins the batch before it.
    """
    if isinstance(images, np.ndarray):
        batches = in_chunks(images, CALIBRATION_BATCH)
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [images[-CALIBRATION_BATCH - 1 :]]
        images = batches
    for batch in images:
        yield np.ascontiguousarray(batch)
