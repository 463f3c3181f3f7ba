"""How a training method is described: what it leaves unsaid is done as for a standard network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from subspace_serve.errors import TrainingError
from subspace_serve.space.geometry import Geometry, single_network
from subspace_serve.space.subspace import Weights
from trainer.schedule import Schedule, warm_cosine

if TYPE_CHECKING:
    from trainer.step import Stepper

MOST_MEMBERS = 10
"""As many as a simplex may have endpoints."""

SUBSPACE_SETTINGS = ("beta_schedule", "layerwise", "samples", "feature_similarity", "spread", "scaled_gradients")
TAIL_SETTINGS = ("tail", "tail_learning_rate", "tail_schedule")
INTEGRAL_SETTINGS = ("epsilon",)
NOT_OF_ONE_NETWORK = ("beta", *SUBSPACE_SETTINGS, *INTEGRAL_SETTINGS)
"""Settings that have no meaning where a single network is trained."""

NEUTRAL: dict[str, Any] = {
    "samples": 1,
    "shared": 0.0,
    "spread": 0.0,
    "scaled_gradients": False,
    "learning_rate": 0.1,
}
"""Algorithm 1 as it stands in the paper: settings for which a method may recommend others."""


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        name: what it is called.
        summary: what it does, in a line.
        use: what its result is for, as specifications that `--alpha` takes; the first is served unless another is
            named.
        geometry: of what is trained; None for one network.
        endpoints: how many the geometry has unless told otherwise; None for one network.
        members: how many members are kept unless told otherwise; 0 where what is trained is the result.
        whole_trajectories: whether each member is the end of its own trajectory, not a state of the only one.
        foreign_settings: settings that have no meaning here and are refused.
        recommended: settings that differ from `NEUTRAL` unless told otherwise.
    """

    name: str
    summary: str
    use: tuple[str, ...]
    geometry: str | None = None
    endpoints: int | None = None
    members: int = 0
    whole_trajectories: bool = False
    foreign_settings: tuple[str, ...] = ()
    recommended: dict[str, Any] = field(default_factory=dict)

    def trained_geometry(self, endpoints: int | None) -> Geometry:
        """Return the shape that is trained; None takes the default number of endpoints.

        Raises:
            TrainingError: a single network is given endpoints, or a simplex fewer than two.
            GeometryError: any other number that the shape cannot have.
        """
        if self.geometry is None:
            if self.members == 0 and endpoints is not None:
                raise TrainingError(f"a {self.name} network has one set of weights: leave endpoints out")
            return single_network()
        wanted = endpoints or self.endpoints or 0
        if self.geometry == "simplex" and wanted < 2:
            raise TrainingError(f"a simplex has 2 to {MOST_MEMBERS} endpoints, not {wanted}")
        return Geometry(self.geometry, wanted)

    def kept_members(self, endpoints: int | None) -> int:
        """Return how many members are kept; None takes the default.

        Raises:
            TrainingError: the number is not from 2 to `MOST_MEMBERS`.
        """
        if self.members == 0:
            return 0
        wanted = self.members if endpoints is None else endpoints
        if not 2 <= wanted <= MOST_MEMBERS:
            raise TrainingError(f"{self.name} keeps 2 to {MOST_MEMBERS} members (endpoints), not {wanted}")
        return wanted

    def stepper(self) -> type[Stepper]:
        """Return the class that takes its training steps."""
        from trainer.step import Stepper

        return Stepper

    def learning_rate(self, schedule: Schedule, step: int) -> float:
        """Return the learning rate of a step, counted from 0: a warm-up and a cosine to zero (section 4)."""
        return warm_cosine(step, peak=schedule.config.learning_rate, total=schedule.steps, warmup=schedule.warmup_steps)

    def kept_after(self, schedule: Schedule) -> list[int]:
        """Return the steps, counted from 0, after which a member is kept: one for each member.

        Empty where the members are whole trajectories, and where the endpoints themselves are the result.
        """
        return []

    def finished(self, members: Sequence[Weights], seed: int) -> Sequence[Weights]:
        """Return the endpoints of the result, made of all kept members; `seed` is the run's."""
        return members
