"""What a method of training says of itself; it trains as a standard network does in all that it leaves unsaid."""

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
"""A simplex has no more endpoints."""

SUBSPACE_SETTINGS = ("beta_schedule", "layerwise", "samples", "feature_similarity", "spread", "scaled_gradients")
TAIL_SETTINGS = ("tail", "tail_learning_rate", "tail_schedule")
INTEGRAL_SETTINGS = ("epsilon",)
NOT_OF_ONE_NETWORK = ("beta", *SUBSPACE_SETTINGS, *INTEGRAL_SETTINGS)
"""Settings that mean nothing where one network is trained."""

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
        endpoints: how many it has unless told otherwise; None where it cannot be told.
        members: how many members are kept unless told otherwise; 0 where what is trained is the result.
        whole_trajectories: each member is the end of a trajectory of its own, not a state of the only one.
        foreign_settings: settings that mean nothing here and are refused.
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
        """Return the shape that is trained.

        Raises:
            TrainingError: it does not have so many endpoints.
            GeometryError: the same.
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
        """Return how many members are kept.

        Raises:
            TrainingError: there cannot be so many.
        """
        if self.members == 0:
            return 0
        wanted = self.members if endpoints is None else endpoints
        if not 2 <= wanted <= MOST_MEMBERS:
            raise TrainingError(f"{self.name} keeps 2 to {MOST_MEMBERS} members (endpoints), not {wanted}")
        return wanted

    def stepper(self) -> type[Stepper]:
        """Return what takes its training steps."""
        from trainer.step import Stepper

        return Stepper

    def learning_rate(self, schedule: Schedule, step: int) -> float:
        """Return the step size of a step, counted from 0: a warm-up and a cosine to zero (section 4)."""
        return warm_cosine(step, peak=schedule.config.learning_rate, total=schedule.steps, warmup=schedule.warmup_steps)

    def kept_after(self, schedule: Schedule) -> list[int]:
        """Return the steps, counted from 0, after which a member is kept; the same number as there are members.

        Empty where members are whole trajectories or the endpoints themselves.
        """
        return []

    def finished(self, members: Sequence[Weights], seed: int) -> Sequence[Weights]:
        """Return the endpoints of the result that all kept members make, of the run's seed."""
        return members
