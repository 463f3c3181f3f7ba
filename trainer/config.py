"""The settings of a training run: one frozen, checked, serialisable description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from subspace_serve.errors import TrainingError
from subspace_serve.space.geometry import Geometry
from trainer.methods import METHODS, NEUTRAL, Method

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]


def _between(low: float, high: float) -> AfterValidator:
    """Return a validator for numbers from `low` to `high`, where there is one."""

    def check(value: float | None) -> float | None:
        if value is not None and not low <= value <= high:
            raise ValueError(f"it must lie between {low:g} and {high:g}")
        return value

    return AfterValidator(check)


# Keeps whole numbers whole: a setting given as 1 is written to the file as 1, not 1.0.
Real = int | float
Fraction = Annotated[Real, _between(0, 1)]
Strength = Annotated[Real, _between(0, 1e6)]
# `--help` shows the bounds of `Field`, and not those of `_between`, which keeps absurdly large ones out of it.
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0), _between(0, 2**31)]


class TrainingConfig(BaseModel):
    """Settings of one training run.

    Lines, curves and simplexes are trained by the recipe of docs/recipe.md unless told otherwise; the paper's own
    settings are the presets (`trainer.presets`). What is not given, or None, becomes what the method recommends.

    Raises:
        TrainingError: a setting is unknown, out of range, or does not fit the others.
        GeometryError: the subspace cannot have that many endpoints.
    """

    # A setting's docstring is its description, which `train --help` shows.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    data: str = "digits"
    """digits, mnist[:PATH], fashion-mnist[:PATH], cifar10[:PATH], cifar100[:PATH], tiny-imagenet:PATH, imagenet:PATH,
    FILE.npz, or a folder with one folder per class."""
    architecture: str = "cresnet8-8"
    """cresnet20-32, tiny-resnet18, a torchvision classifier, one of timm as timm/NAME, or your own MODULE:FUNCTION, a
    function (*, classes, channels, height, width) that returns a torch.nn.Module; `collapse` needs --arch for it
    again."""
    subspace: MethodName = Field(
        "line",
        description=f"What to train: {'; '.join(f'{name}, {method.summary}' for name, method in METHODS.items())}.",
    )
    endpoints: int | None = None
    """Endpoints of a simplex [default: 3], or members of a baseline; for the others the number is fixed."""
    # cos^2(omega_j, omega_k), equation 5.
    beta: Strength = 1.0
    """Strength of the term that keeps endpoints diverse."""
    beta_schedule: Literal["constant", "growing", "fading"] = "constant"
    """Whether beta grows from zero, or fades to zero, linearly over the run."""
    layerwise: bool = False
    """Draw a separate place for each layer (section 3)."""
    # Each place has a group of the batch's images (appendix B).
    samples: Annotated[Count, _between(1, 1024)] = NEUTRAL["samples"]
    """Places drawn per batch.  [default: 2 for line, curve and simplex]"""
    # Lambda of equation 13.
    feature_similarity: Strength = 0.0
    """Strength of the feature-similarity term; needs two samples or more."""
    shared: Fraction = NEUTRAL["shared"]
    """Fraction of the epochs before endpoints, or an ensemble's members (appendix H), part."""
    spread: Annotated[Real | None, _between(0, 1)] = NEUTRAL["spread"]
    """Fraction of the run in which drawn places spread from the midpoint; 0 draws from all of the subspace at once.
    [default: that of 10 epochs, or of 300 steps where that is more]"""
    # In Algorithm 1 as it stands a line's midpoint moves half as fast.
    scaled_gradients: bool = NEUTRAL["scaled_gradients"]
    """Whether the midpoint moves as fast as one network.  [default: scaled]"""
    epsilon: Annotated[Real, _between(1e-4, 1)] = 0.1
    """Step of an integral's finite difference (equation 17)."""
    tail: Annotated[Real, _between(0.01, 1)] = 0.25
    """Last part of the run, where swa, swag and fge keep members."""
    tail_learning_rate: Strength = 0.05
    """Learning rate in that part: constant, or where each cycle starts."""
    tail_schedule: Literal["constant", "cyclic"] = "constant"
    """Learning-rate schedule of that part, for swa and swag."""
    early_stopping: bool = False
    """Keep the epoch that validates best, not the last."""
    label_noise: Fraction = 0.0
    """Fraction of labels replaced by random ones, which stay the same (section 4.3)."""
    initialisation: str = "independent"
    """independent, shared (all from one initialisation, appendix E), or weights to start from: a run, or a file of one
    network that import takes; a classifier of another size starts anew."""
    epochs: Annotated[Count, _between(1, 100_000)] = 30
    """Passes over the training images; of each member for an ensemble."""
    batch_size: Annotated[Count, _between(1, 1_000_000)] = 128
    """Images per step."""
    learning_rate: Strength = NEUTRAL["learning_rate"]
    """Peak learning rate, after warm-up.  [default: 0.2 for line, curve and simplex, else 0.1]"""
    momentum: Fraction = 0.9
    """Momentum of stochastic gradient descent."""
    weight_decay: Annotated[Real, _between(0, 1e3)] = 1e-4
    """L2 penalty, on every parameter of every endpoint."""
    warmup_epochs: Annotated[Real, _between(0, 100_000)] = 5.0
    """Epochs of linear warm-up before the cosine.  [default: 5, at most a quarter of the run]"""
    label_smoothing: Fraction = 0.0
    """Label smoothing of the cross-entropy."""
    clip_gradient: Annotated[Real, _between(0, 1e9)] = 0.0
    """Largest L2 norm of the collapsed network's gradient; 0 does not clip."""
    validation: Annotated[Real, _between(0, 0.9)] = 0.1
    """Fraction of the training images set aside."""
    train_images: Annotated[int | None, Field(ge=1), _between(1, 1_000_000_000)] = None
    """How many training images to use, drawn class by class.  [default: all]"""
    image_size: Annotated[int | None, Field(ge=1)] = None
    """Side to which images are resized.  [default: the data's own; of a folder of files its own up to 64 px, or up to
    224 where all are alike, else 224]"""
    channels: Annotated[int | None, _between(1, 3)] = None
    """Channels of every image; grey ones are repeated, for weights of three channels.  [default: the data's own]"""
    normalisation: Literal["data", "start", "published"] = "data"
    """Of pixels: as of the data; as of the run that it starts from (--init); or as torchvision or timm records it for
    their weights of the architecture."""
    skip_unreadable: bool = False
    """Leave image files out that cannot be read, and record them."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Extra argument of the architecture, such as dropout=0.1."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16, by autocast, is for CUDA."""
    compile: bool = False
    """Run the network through torch.compile."""
    graphs: bool = True
    """On CUDA, record a step's kernels once and replay them; not for networks that wait for the device."""
    device: str = "auto"
    """auto, cpu or cuda."""
    seed: Seed = 0
    """Seed of initialisation, data order, augmentation, alpha and dropout."""
    # Apart from `seed`, so that runs with other seeds share their data.
    data_seed: Seed = 0
    """Seed of the validation split, drawn training images and label noise."""

    def __init__(self, **settings: Any) -> None:
        given = {name: value for name, value in settings.items() if value is not None}
        if method := METHODS.get(given.get("subspace", "line")):
            # A batch of one image is one sample.
            fitting = {"samples": 1} if given.get("batch_size") == 1 else {}
            given = method.recommended | fitting | given
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise TrainingError(_explained(error)) from None
        if self.feature_similarity and self.samples < 2:
            raise TrainingError("feature_similarity compares samples of one batch: it needs samples of 2 or more")
        if self.samples > self.batch_size:
            raise TrainingError(f"a batch of {self.batch_size} cannot be split into {self.samples} samples; take fewer")
        # Settings that the method does not have are refused rather than ignored.
        for name in self.method.foreign_settings:
            neutral = type(self).model_fields[name].default
            if getattr(self, name) != neutral:
                raise TrainingError(f"{self.subspace} has no {name}: leave it at {neutral}")
        _ = self.geometry, self.members

    @property
    def method(self) -> Method:
        """The training method."""
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
        """How many epochs, rounded, are trained as one trajectory before endpoints or members part."""
        return round(self.shared * self.epochs)

    @property
    def run_name(self) -> str:
        """A readable name for the run's folder."""
        data = self.data.rstrip("/").rsplit("/", 1)[-1].split(":")[0].removesuffix(".npz")
        subspace = self.subspace if self.endpoints is None else f"{self.subspace}{self.endpoints}"
        return f"{data}-{self.architecture.replace(':', '.').replace('/', '-')}-{subspace}-seed{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return self.model_dump(warnings=False)


def _explained(error: ValidationError) -> str:
    """Return one sentence for each setting that is wrong."""
    found = error.errors(include_url=False)
    if unknown := sorted(str(item["loc"][0]) for item in found if item["type"] == "extra_forbidden"):
        return f"unknown training settings: {', '.join(unknown)}; this program does not know them"
    complaints = {}
    for item in found:
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "literal_error":
            message = f"choose {item['ctx']['expected'].replace(chr(39), '')}"
        # A value that is neither int nor float has a complaint for each; the last one, for float, is kept.
        complaints[item["loc"][0]] = f"{item['loc'][0]} is {item['input']!r:.100}; {message}"
    return ". ".join(complaints.values())
