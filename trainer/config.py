"""What a training run is told: one frozen, checked, serialisable description."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from subspace_serve.errors import TrainingError
from subspace_serve.space.geometry import Geometry
from trainer.methods import METHODS, NEUTRAL, Method

PRECISIONS = ("float32", "bfloat16")
TAIL_SCHEDULES = ("constant", "cyclic")
BETA_SCHEDULES = ("constant", "growing", "fading")

_METHODS_OWN: Any = None
"""A default that depends on the method: what suits a line does not suit a single network."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training run.

    Lines, curves and simplexes are trained by the recipe of docs/recipe.md unless told otherwise; the paper's own
    settings are the presets (`trainer.presets`). What is left at None becomes what the method recommends.

    Attributes:
        data: data set specification (see `subspace_serve.data`).
        architecture: name of the network.
        subspace: what is trained (see `trainer.methods`): `line`, `curve`, `simplex`; `standard` (one ordinary
            network) and the other baselines `ensemble`, `swa`, `swag`, `snapshot`, `fge`; `integral`.
        endpoints: of a simplex, or how many members a baseline keeps; the other subspaces have theirs.
        beta: strength of the regulariser cos^2(omega_j, omega_k) (equation 5).
        beta_schedule: `constant`; `growing` from zero or `fading` to zero, linearly over the run.
        layerwise: draw an independent alpha for each layer (section 3).
        samples: groups into which each batch is split, each with its own alpha (appendix B).
        feature_similarity: strength lambda of the feature-similarity term (equation 13); needs two samples or more.
        shared: fraction of the epochs that one trajectory is shared before the endpoints of a subspace, or the
            members of an `ensemble` (appendix H), part; rounded to whole epochs.
        spread: fraction of the run over which the places that are drawn spread from the midpoint to the whole
            subspace; 0 draws from all of it at once, as the paper does.
        scaled_gradients: multiply each endpoint's share of the gradient so that the midpoint moves as fast as a
            standard network would; in Algorithm 1 a line's moves half as fast.
        epsilon: step of the finite difference of an `integral` network (equation 17).
        tail: fraction of the run, at its end, from which `swa`, `swag` and `fge` keep members (appendix D.4).
        tail_learning_rate: learning rate there: constant, or where each cycle starts.
        tail_schedule: of `swa` and `swag`: `constant` or `cyclic`.
        early_stopping: keep the epoch that is most accurate on the validation images instead of the last.
        label_noise: fraction of the training labels replaced by fixed random ones (section 4.3).
        initialisation: `independent`, `shared` (all endpoints start from one initialisation, appendix E), or the
            path of a checkpoint that all endpoints start from.
        epochs: passes over the training images; of each member for an `ensemble`.
        batch_size: images a step.
        learning_rate: the peak, reached after warm-up.
        momentum: of stochastic gradient descent.
        weight_decay: L2 penalty, on every parameter of every endpoint.
        warmup_epochs: epochs of linear warm-up before the cosine; at most a quarter of the run is warmed up.
        label_smoothing: of the cross-entropy.
        clip_gradient: largest L2 norm of the collapsed network's gradient; 0 does not clip.
        validation: fraction of the training images set aside.
        train_images: how many of the other training images are used, drawn class by class; all when None.
        image_size: side to which images are brought; when None the data set's own, or what suits a folder's files.
        skip_unreadable: leave image files out that cannot be read, instead of refusing them.
        arguments: extra keyword arguments of the architecture.
        precision: `float32`, or `bfloat16` for autocast on CUDA.
        compile: run the network through `torch.compile`.
        device: `auto`, `cpu` or `cuda`.
        seed: of initialisation, data order, augmentation, alpha and dropout.
        data_seed: of the validation split, `train_images` and label noise; kept apart so that runs with other seeds
            share their data.
    """

    data: str = "digits"
    architecture: str = "cresnet8-8"
    subspace: str = "line"
    endpoints: int | None = None
    beta: float = 1.0
    beta_schedule: str = "constant"
    layerwise: bool = False
    samples: int = _METHODS_OWN
    feature_similarity: float = 0.0
    shared: float = _METHODS_OWN
    spread: float = _METHODS_OWN
    scaled_gradients: bool = _METHODS_OWN
    epsilon: float = 0.1
    tail: float = 0.25
    tail_learning_rate: float = 0.05
    tail_schedule: str = "constant"
    early_stopping: bool = False
    label_noise: float = 0.0
    initialisation: str = "independent"
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = _METHODS_OWN
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 5.0
    label_smoothing: float = 0.0
    clip_gradient: float = 0.0
    validation: float = 0.1
    train_images: int | None = None
    image_size: int | None = None
    skip_unreadable: bool = False
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    precision: str = "float32"
    compile: bool = False
    device: str = "auto"
    seed: int = 0
    data_seed: int = 0

    def __post_init__(self) -> None:
        self._check_choice("subspace", tuple(METHODS))
        for name, value in (NEUTRAL | self.method.recommended).items():
            if getattr(self, name) is None:
                fitting = min(value, self.batch_size) if name == "samples" else value
                object.__setattr__(self, name, fitting)
        self._check_choice("precision", PRECISIONS)
        self._check_choice("tail_schedule", TAIL_SCHEDULES)
        self._check_choice("beta_schedule", BETA_SCHEDULES)
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise TrainingError(f"{name} is {value}; it must lie between {low:g} and {high:g}")
        if self.feature_similarity and self.samples < 2:
            raise TrainingError("feature_similarity compares samples of one batch: it needs samples of 2 or more")
        if self.samples > self.batch_size:
            raise TrainingError(f"a batch of {self.batch_size} cannot be split into {self.samples} samples; take fewer")
        self._check_method()

    @property
    def method(self) -> Method:
        """How it is trained."""
        return METHODS[self.subspace]

    @property
    def geometry(self) -> Geometry:
        """The shape that is trained; one network for the baselines, whatever they keep of it."""
        return self.method.trained_geometry(self.endpoints)

    @property
    def members(self) -> int:
        """How many members a baseline keeps; 0 where the endpoints themselves are the result."""
        return self.method.kept_members(self.endpoints)

    @property
    def trajectories(self) -> int:
        """How many trajectories are trained, one after another: one for each member of an ensemble, else one."""
        return self.members if self.method.whole_trajectories else 1

    @property
    def shared_epochs(self) -> int:
        """Whole epochs that one trajectory is shared."""
        return round(self.shared * self.epochs)

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

    def _check_method(self) -> None:
        """Refuse settings that the method does not have, instead of ignoring them."""
        for name in self.method.foreign_settings:
            neutral = NEUTRAL.get(name, _DEFAULTS[name])
            if getattr(self, name) != neutral:
                raise TrainingError(f"{self.subspace} has no {name}: leave it at {neutral}")
        _ = self.geometry, self.members

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise TrainingError(f"{name} is {value!r}; choose {', '.join(choices)}")


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainingConfig)}
_RANGES = [
    ("beta", 0, 1e6),
    ("samples", 1, 1024),
    ("feature_similarity", 0, 1e6),
    ("shared", 0, 1),
    ("spread", 0, 1),
    ("epsilon", 1e-4, 1),
    ("tail", 0.01, 1),
    ("tail_learning_rate", 0, 1e6),
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
    ("train_images", 1, 1_000_000_000),
    ("seed", 0, 2**31),
    ("data_seed", 0, 2**31),
]
