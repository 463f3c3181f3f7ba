"""The subspace in a bundle: builds any network of it on the machine that serves the bundle."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from subspace_serve.bundle.manifest import TRAINING, SubspaceRecord
from subspace_serve.bundle.reader import Bundle
from subspace_serve.bundle.session import PointSession, checked_session
from subspace_serve.data import Preprocessing
from subspace_serve.errors import BundleError
from subspace_serve.network.network import Network
from subspace_serve.network.served import ServedGraph
from subspace_serve.network.sessions import Device
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics_set import StatisticsSet
from subspace_serve.space.checkpoint import load_subspace
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace

_GRAPH_BYTES = 1 << 19


class BundledSubspace:
    """Networks at any place of a bundle's subspace, with the statistics of any of its domains.

    Args:
        bundle: an open bundle of version 2 that was exported with its subspace.
        device: `auto`, `cpu` or `cuda`.
        threads: within an operator on a CPU; 0 for all cores.

    Raises:
        BundleError: the bundle holds points only.
    """

    def __init__(self, bundle: Bundle, *, device: Device = "auto", threads: int = 0) -> None:
        record = bundle.manifest.subspace
        if record is None:
            raise BundleError(
                f"the bundle {bundle.folder} holds its named points only, without the subspace between them; export "
                "it again without --points-only"
            )
        self.bundle = bundle
        self.record: SubspaceRecord = record
        self._device: Device = device
        self._threads = threads
        self._statistics: dict[str, StatisticsSet] = {}

    @property
    def subspace(self) -> Subspace:
        """The checkpoint, read again each time, so that memory holds the endpoints only once, in `network`.

        Raises:
            CheckpointError: its file is damaged.
        """
        return load_subspace(self.bundle.folder / self.record.endpoints.file)

    @cached_property
    def network(self) -> Network:
        """The subspace on ONNX Runtime."""
        preprocessing = self.bundle.manifest.input.preprocessing
        skeleton = Skeleton((self.bundle.folder / self.record.skeleton.file).read_bytes())
        network = Network.of(
            self.subspace, skeleton, Preprocessing(preprocessing.mean, preprocessing.std), device=self._device
        )
        return network.with_threads(self._threads)

    @property
    def geometry(self) -> Geometry:
        """How a place turns into coefficients."""
        return self.network.geometry

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of the statistics sets."""
        return tuple(self.record.statistics)

    def statistics(self, name: str = TRAINING) -> StatisticsSet:
        """Return a statistics set.

        Raises:
            BundleError: there is none of that name.
            CheckpointError: its file is damaged or belongs to another checkpoint.
        """
        if name not in self.record.statistics:
            raise BundleError(f"the bundle has no statistics {name!r}; it has {', '.join(self.sets)}")
        if name not in self._statistics:
            self._statistics[name] = StatisticsSet.load(
                self.bundle.folder / self.record.statistics[name].file,
                self.geometry,
                self.network.skeleton,
                self.bundle.manifest.source.checkpoint_sha256,
            )
        return self._statistics[name]

    def prepare(self) -> None:
        """Read everything that building a network needs, so that the first is built as fast as the others."""
        for name in self.sets:
            self.statistics(name)
        _ = self._graph

    def session(self, alpha: Alpha, statistics: str = TRAINING) -> PointSession:
        """Build the network at a place, which answers as an exported point does; `check_answers` checks it.

        Raises:
            GeometryError: the place lies outside the domain.
            BundleError: there are no such statistics, or CUDA was asked for and the session did not get it.
            CheckpointError: the statistics' file is damaged or belongs to another checkpoint.
        """
        weights = self.network.weights(alpha)
        session = self._graph.session(weights, self.statistics(statistics).at(alpha))
        return checked_session(session, self.bundle.manifest.input, self._device, f"the network at alpha {alpha}")

    @property
    def session_bytes(self) -> int:
        """About how much memory a built network takes: its weights, plain and packed for the kernels, and its graph."""
        return int(2 * self.network.endpoints[0].nbytes) + _GRAPH_BYTES

    @cached_property
    def _graph(self) -> ServedGraph:
        return ServedGraph(self.network, "uint8" if self.bundle.manifest.input.dtype == "uint8" else "float")


def check_answers(session: PointSession, images: np.ndarray, what: str) -> None:
    """Raise `BundleError` unless a network's answers to golden images are finite."""
    if not np.isfinite(session.logits(images)).all():
        raise BundleError(f"{what} answers with numbers that are not finite; compute its statistics again")
