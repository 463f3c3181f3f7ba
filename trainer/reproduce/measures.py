"""What is measured on a trained subspace. A measure is a description that can be hashed, and a function of a run."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from subspace_serve.data import DataSet, Images, permutation
from subspace_serve.data.domains import corrupted_domains
from subspace_serve.errors import TrainingError
from subspace_serve.measure.evaluation import default_alphas, evaluate
from subspace_serve.measure.mixtures import mixture_accuracies
from subspace_serve.measure.networks import Candidate, Networks, combined
from subspace_serve.measure.plane import plane_errors, subspace_path, subspace_plane
from subspace_serve.network.calibration_data import CalibrationData, draw_calibration_data
from subspace_serve.network.network import Network
from subspace_serve.space.checkpoint import load_subspace
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace
from trainer.config import TrainingConfig
from trainer.proof import proven_skeleton
from trainer.reproduce.cache import data_of
from trainer.reproduce.calibrated import calibrated_log_likelihood

TEST_SEED = 0
"""Seed of the order in which test images are taken, where not all of them are."""


@dataclass(frozen=True)
class Trained:
    """A run that is measured.

    Attributes:
        config: its settings.
        folder: its folder.
        other: returns the folder of another run by its settings, training it if need be.
    """

    config: TrainingConfig
    folder: Path
    other: Callable[[TrainingConfig], Path]

    @cached_property
    def subspace(self) -> Subspace:
        return load_subspace(self.folder)

    @property
    def network(self) -> Network:
        """Its subspace on ONNX Runtime."""
        return self.network_of(self.subspace)

    def network_of(self, subspace: Subspace) -> Network:
        """Return a subspace of the run's architecture on ONNX Runtime."""
        skeleton = proven_skeleton(subspace.architecture, subspace.buffers)
        return Network.of(subspace, skeleton, self.data.preprocessing, device="auto")

    @cached_property
    def data(self) -> DataSet:
        """The data of the run.

        Raises:
            TrainingError: they have changed since it was trained.
        """
        data = data_of(self.config)
        if data.fingerprint != self.subspace.provenance_value("data", "fingerprint"):
            raise TrainingError(
                f"{self.config.data} has changed since {self.folder} was trained on it (its fingerprint differs); "
                "bring the old data back, or give another cache (--cache)"
            )
        return data

    def calibration(self, count: int) -> CalibrationData:
        """Return images that the run was trained on, for BatchNorm's statistics (appendix D.3)."""
        return draw_calibration_data(self.data.train, self.data.preprocessing, name="train", count=count)

    def test_images(self, count: int | None) -> Images:
        """Return `count` test images, drawn at random but always the same ones; all of them when None."""
        test = self.data.test
        if count is None or count >= len(test):
            return test
        return test.subset(permutation(len(test), TEST_SEED)[:count])


@dataclass(frozen=True)
class Measure(ABC):
    """A measurement that can be made on a run; its fields are what it depends on besides the run."""

    def key(self) -> dict[str, Any]:
        """Return what the measurement depends on, as JSON values."""
        return {"measure": type(self).__name__, **dataclasses.asdict(self)}

    @abstractmethod
    def of(self, run: Trained) -> dict[str, Any]:
        """Measure; return JSON values."""


@dataclass(frozen=True)
class Along(Measure):
    """Every network along a subspace, alone and with its opposite, and the ends together (`evaluate`).

    The midpoint and the ends together are also scored at their best temperature; measurements that were made before
    that was so lack `calibrated_log_likelihood`.

    Attributes:
        points: places along a line or curve; of a simplex, its vertices and midpoint are measured.
        images: number of test images; None for all.
        calibration: number of images for BatchNorm's statistics.
        beyond: how far beyond each end of a line one more network is measured (section 4.6); 0 for none.
    """

    points: int
    images: int | None
    calibration: int
    beyond: float = 0.0

    def of(self, run: Trained) -> dict[str, Any]:
        geometry = run.subspace.geometry
        alphas = default_alphas(geometry, self.points)
        if self.beyond:
            alphas = [-self.beyond, *alphas, 1 + self.beyond]
        if geometry.endpoints == 1:
            alphas = [geometry.midpoint]
        images, calibration = run.test_images(self.images), run.calibration(self.calibration)
        measured = evaluate(
            run.network, images, calibration=calibration, alphas=alphas, extrapolate=self.beyond > 0
        ).to_json()
        models = {"midpoint": Candidate.point(geometry.midpoint)}
        if geometry.endpoints > 1:
            models["ends"] = Candidate(tuple(geometry.ends))
        likelihoods = _calibrated(Networks(run.network, calibration), list(models.values()), images)
        return measured | {"calibrated_log_likelihood": dict(zip(models, likelihoods, strict=True))}


def _calibrated(networks: Networks, models: Sequence[Candidate], images: Images) -> list[float]:
    """Return each model's calibrated log-likelihood on the images."""
    blocks = networks.measure(models, images, lambda model, logits, _: combined(model, logits))
    return [calibrated_log_likelihood(np.concatenate(answers), images.labels) for answers in blocks]


@dataclass(frozen=True)
class EnsemblesBySize(Measure):
    """Calibrated log-likelihoods of 1, 2, 3, ... of a run's members together: of deep ensembles by their size.

    That of a size is the mean over all choices of so many members: one choice says as much of its members as of its
    size.

    Attributes:
        images: number of test images; None for all.
        calibration: number of images for BatchNorm's statistics.
    """

    images: int | None
    calibration: int

    def of(self, run: Trained) -> dict[str, Any]:
        ends = run.subspace.geometry.ends
        choices = [members for size in range(1, len(ends) + 1) for members in combinations(ends, size)]
        networks = Networks(run.network, run.calibration(self.calibration))
        found = _calibrated(networks, [Candidate(members) for members in choices], run.test_images(self.images))
        by_size: dict[int, list[float]] = {}
        for members, likelihood in zip(choices, found, strict=True):
            by_size.setdefault(len(members), []).append(likelihood)
        return {"by_size": [mean(likelihoods) for likelihoods in by_size.values()]}


@dataclass(frozen=True)
class Alone(Measure):
    """One network: the midpoint, or an end (an integral's result is its last).

    Attributes:
        images: number of test images; None for all.
        calibration: number of images for BatchNorm's statistics.
        end: which end; None for the midpoint.
    """

    images: int | None
    calibration: int
    end: int | None = None

    def of(self, run: Trained) -> dict[str, Any]:
        geometry = run.subspace.geometry
        alpha = geometry.midpoint if self.end is None else geometry.ends[self.end]
        networks = Networks(run.network, run.calibration(self.calibration))
        (scores,) = networks.score([Candidate.point(alpha)], run.test_images(self.images))
        return scores.metrics()


@dataclass(frozen=True)
class RandomEnsembles(Measure):
    """Ensembles of networks drawn uniformly from a subspace, as Algorithm 1 draws them (section 4.5).

    Attributes:
        members: number of networks in each ensemble.
        draws: number of ensembles.
        images: number of test images; None for all.
        calibration: number of images for BatchNorm's statistics.
    """

    members: int
    draws: int
    images: int | None
    calibration: int

    def of(self, run: Trained) -> dict[str, Any]:
        geometry, generator = run.subspace.geometry, np.random.default_rng(run.config.seed)
        accuracies = []
        for _ in range(self.draws):
            places: list[Alpha] = [
                float(place) if place.ndim == 0 else tuple(place.tolist())
                for place in geometry.sample(generator, self.members)
            ]
            networks = Networks(run.network, run.calibration(self.calibration))
            (scores,) = networks.score([Candidate(tuple(places))], run.test_images(self.images))
            accuracies.append(scores.metrics()["accuracy"])
        return {"accuracies": accuracies, "accuracy": float(np.mean(accuracies))}


@dataclass(frozen=True)
class Dynamics(Measure):
    """The run's metrics after each epoch, among them the endpoints' L2 distance and squared cosine (section 4.1)."""

    def of(self, run: Trained) -> dict[str, Any]:
        lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return {"epochs": [json.loads(line) for line in lines]}


@dataclass(frozen=True)
class Corrupted(Measure):
    """Networks along a subspace on corrupted images (section 4.4, appendix G).

    Attributes:
        corruptions: types, each measured at all the severities.
        severities: from 1 to 5.
        points: places along a line; a standard run has only one network.
        images: number of clean test images, from which each corruption is made; None for all.
        calibration: number of images for BatchNorm's statistics.
    """

    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    points: int
    images: int | None
    calibration: int

    def of(self, run: Trained) -> dict[str, Any]:
        images = run.test_images(self.images)
        geometry = run.subspace.geometry
        alphas = [geometry.midpoint] if geometry.endpoints == 1 else default_alphas(geometry, self.points)
        return evaluate(
            run.network,
            images,
            calibration=run.calibration(self.calibration),
            alphas=alphas,
            corrupted=corrupted_domains(images, run.config.data, self.corruptions, self.severities),
        ).to_json()


@dataclass(frozen=True)
class OnPlane(Measure):
    """Test error on the plane through three sets of weights (figure 2).

    Attributes:
        resolution: networks along each side of the plane.
        images: number of test images.
        calibration: number of images for BatchNorm's statistics.
        standard: whether the third is a standard network with the same settings, since a line has only two.
    """

    resolution: int
    images: int
    calibration: int
    standard: bool = False

    def of(self, run: Trained) -> dict[str, Any]:
        third = None
        if self.standard:
            settings = TrainingConfig(**run.config.to_json() | {"subspace": "standard"})
            third = load_subspace(run.other(settings)).endpoints[0]
        plane = subspace_plane(run.subspace, third)
        errors = plane_errors(
            plane,
            run.network,
            run.test_images(self.images),
            calibration=run.calibration(self.calibration),
            resolution=self.resolution,
        )
        return errors | {"path": subspace_path(run.subspace, plane)}


@dataclass(frozen=True)
class Branches(Measure):
    """Networks that share a beginning, averaged in weight and in output space, and mixed at random (appendix H).

    Attributes:
        members: how many of the run's members take part, from the first.
        mixtures: networks drawn for each kind of random mixture; 0 for none.
        images: number of test images; None for all.
        calibration: number of images for BatchNorm's statistics.
    """

    members: int
    mixtures: int
    images: int | None
    calibration: int

    def of(self, run: Trained) -> dict[str, Any]:
        whole = run.subspace
        first = Subspace(
            dataclasses.replace(whole.geometry, endpoints=self.members),
            whole.architecture,
            whole.endpoints[: self.members],
            whole.provenance,
        )
        images = run.test_images(self.images)
        measured = evaluate(run.network_of(first), images, calibration=run.calibration(self.calibration)).to_json()
        result: dict[str, Any] = {
            "members": [point["metrics"]["accuracy"] for point in measured["points"][:-1]],
            "weight_average": measured["points"][-1]["metrics"]["accuracy"],
            "ensemble": measured["endpoints_ensemble"]["metrics"]["accuracy"],
            "total_variation": measured["endpoints_ensemble"]["total_variation"],
        }
        if self.mixtures:
            line = first if self.members != 2 else dataclasses.replace(first, geometry=Geometry("line", 2))
            for scale in ("global", "layerwise", "weightwise"):
                drawn = mixture_accuracies(
                    line,
                    run.network_of(line),
                    images,
                    run.calibration(self.calibration),
                    scale=scale,
                    draws=self.mixtures,
                    seed=run.config.seed,
                )
                result[scale] = float(np.mean([metrics["accuracy"] for metrics in drawn]))
        return result
