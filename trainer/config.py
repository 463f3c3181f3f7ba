"""What a training run is told: one frozen, checked, serialisable description."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from subspace_serve.errors import TrainingError
from subspace_serve.geometry import Geometry, single_network

SUBSPACES = ("standard", "line", "curve", "simplex")
INITIALISATIONS = ("independent", "shared")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training run. The defaults are the paper's for CIFAR-10, but for the length (section 4).

    Attributes:
        data: data set specification (see `subspace_serve.data`).
        architecture: name of the network.
        subspace: `standard` (one ordinary network, the baseline), `line`, `curve` or `simplex`.
        endpoints: how many endpoints a simplex has; the other subspaces have theirs.
        beta: strength of the regulariser cos^2(omega_j, omega_k) (equation 5).
        layerwise: draw an independent alpha for each layer (section 3).
        samples: groups into which each batch is split, each with its own alpha (appendix B).
        feature_similarity: strength lambda of the feature-similarity term (equation 13); needs two samples or more.
        label_noise: fraction of the training labels replaced by fixed random ones (section 4.3).
        initialisation: `independent`, `shared` (all endpoints start from one initialisation, appendix E), or the
            path of a checkpoint that all endpoints start from.
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: the peak, reached after warm-up.
        momentum: of stochastic gradient descent.
        weight_decay: L2 penalty, on every parameter of every endpoint.
        warmup_epochs: epochs of linear warm-up before the cosine; at most a quarter of the run is warmed up.
        label_smoothing: of the cross-entropy.
        clip_gradient: largest L2 norm of the collapsed network's gradient; 0 does not clip.
        validation: fraction of the training images set aside.
        image_size: side to which a folder's images are brought; the data set's own when None.
        arguments: extra keyword arguments of the architecture.
        precision: `float32`, or `bfloat16` for autocast on CUDA.
        compile: run the network through `torch.compile`.
        device: `auto`, `cpu` or `cuda`.
        seed: of initialisation, data order, augmentation, alpha and dropout.
        data_seed: of the validation split; kept apart so that runs with other seeds share their split.
    """

    data: str = "digits"
    architecture: str = "cresnet8-8"
    subspace: str = "line"
    endpoints: int | None = None
    beta: float = 1.0
    layerwise: bool = False
    samples: int = 1
    feature_similarity: float = 0.0
    label_noise: float = 0.0
    initialisation: str = "independent"
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 5.0
    label_smoothing: float = 0.0
    clip_gradient: float = 0.0
    validation: float = 0.1
    image_size: int | None = None
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    precision: str = "float32"
    compile: bool = False
    device: str = "auto"
    seed: int = 0
    data_seed: int = 0

    def __post_init__(self) -> None:
        self._check_choice("subspace", SUBSPACES)
        self._check_choice("precision", PRECISIONS)
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise TrainingError(f"{name} is {value}; it must lie between {low:g} and {high:g}")
        if self.feature_similarity and self.samples < 2:
            raise TrainingError("feature_similarity compares samples of one batch: it needs samples of 2 or more")
        if self.samples > self.batch_size:
            raise TrainingError(f"a batch of {self.batch_size} cannot be split into {self.samples} samples")
        if self.endpoints is not None and self.subspace not in ("simplex", "line", "curve"):
            raise TrainingError("a standard network has one set of weights: leave endpoints out")
        _ = self.geometry

    @property
    def geometry(self) -> Geometry:
        """The shape that is trained."""
        if self.subspace == "standard":
            return single_network()
        default = {"line": 2, "curve": 3, "simplex": 3}[self.subspace]
        endpoints = self.endpoints or default
        if self.subspace == "simplex" and endpoints < 2:
            raise TrainingError(f"a simplex has 2 to 10 endpoints, not {endpoints}")
        return Geometry(self.subspace, endpoints)

    @property
    def run_name(self) -> str:
        """A readable name for the run's folder."""
        data = self.data.rstrip("/").rsplit("/", 1)[-1].split(":")[0].removesuffix(".npz")
        subspace = self.subspace if self.endpoints is None else f"{self.subspace}{self.endpoints}"
        return f"{data}-{self.architecture.replace(':', '.')}-{subspace}-seed{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(document: dict[str, Any]) -> TrainingConfig:
        """Read settings.

        Raises:
            TrainingError: a setting is unknown or out of range.
        """
        known = {field.name for field in dataclasses.fields(TrainingConfig)}
        unknown = sorted(document.keys() - known)
        if unknown:
            raise TrainingError(f"unknown training settings: {', '.join(unknown)}; this program does not know them")
        return TrainingConfig(**document)

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise TrainingError(f"{name} is {value!r}; choose {', '.join(choices)}")


_RANGES = [
    ("beta", 0, 1e6),
    ("samples", 1, 1024),
    ("feature_similarity", 0, 1e6),
    ("label_noise", 0, 1),
    ("epochs", 1, 100_000),
    ("batch_size", 1, 1_000_000),
    ("learning_rate", 0, 1e6),
    ("momentum", 0, 1),
    ("weight_decay", 0, 1e3),
    ("warmup_epochs", 0, 100_000),
    ("label_smoothing", 0, 1),
    ("clip_gradient", 0, 1e9),
    ("validation", 0, 0.9),
    ("seed", 0, 2**31),
    ("data_seed", 0, 2**31),
]

_PAPER = {
    "subspace": "line",
    "beta": 1.0,
    "epochs": 160,
    "batch_size": 128,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "warmup_epochs": 5.0,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper-cifar10": _PAPER | {"data": "cifar10", "architecture": "cresnet20"},
    "paper-tiny-imagenet": _PAPER | {"data": "tiny-imagenet", "architecture": "tiny-resnet18"},
    # "Following Xie et al. (2019)": batch size 256 and weight decay 5e-5; 100 epochs for WideResNet50, 200 for
    # ResNet50 (section 4.4).
    "paper-imagenet": _PAPER
    | {"data": "imagenet", "architecture": "resnet50", "epochs": 200, "batch_size": 256, "weight_decay": 5e-5},
}
"""The paper's settings (section 4 and appendix D), by name."""
