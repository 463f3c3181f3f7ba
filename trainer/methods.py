"""What can be trained: the paper's subspaces and its baselines (appendix D.4), one entry each.

Every result is a subspace on disk. A line's endpoints are what is trained; a baseline trains one network and keeps
members of its trajectory, which span a simplex. What is meant to be done with the result is recorded with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from subspace_serve.errors import TrainingError
from subspace_serve.space.geometry import Geometry, single_network

MOST_MEMBERS = 10
"""A simplex has no more endpoints."""

_SUBSPACE_SETTINGS = ("beta_schedule", "layerwise", "samples", "feature_similarity", "spread", "scaled_gradients")
_TAIL_SETTINGS = ("tail", "tail_learning_rate", "tail_schedule")
_INTEGRAL_SETTINGS = ("epsilon",)

NEUTRAL: dict[str, Any] = {
    "samples": 1,
    "shared": 0.0,
    "spread": 0.0,
    "scaled_gradients": False,
    "learning_rate": 0.1,
}
"""Algorithm 1 as it stands in the paper: settings for which a method may recommend others."""

RECIPE: dict[str, Any] = {"samples": 2, "spread": 1.0, "scaled_gradients": True, "learning_rate": 0.2}
"""What makes the midpoint of a line as good as a standard network of the same length (docs/recipe.md)."""


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
        foreign_settings: settings that mean nothing here and are refused.
        recommended: settings that differ from `NEUTRAL` unless told otherwise.
    """

    name: str
    summary: str
    use: tuple[str, ...]
    geometry: str | None = None
    endpoints: int | None = None
    members: int = 0
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


_MIDPOINT, _ENDS = ("midpoint",), ("endpoints",)
_TRAINED = (*_INTEGRAL_SETTINGS, *_TAIL_SETTINGS)
_ONE_NETWORK = ("beta", *_SUBSPACE_SETTINGS, *_INTEGRAL_SETTINGS)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "standard",
            "one ordinary network",
            _MIDPOINT,
            foreign_settings=(*_ONE_NETWORK, *_TAIL_SETTINGS, "shared"),
        ),
        Method(
            "line",
            "a line between two endpoints",
            (*_MIDPOINT, *_ENDS),
            "line",
            2,
            foreign_settings=_TRAINED,
            recommended=RECIPE,
        ),
        Method(
            "curve",
            "a quadratic Bezier curve with one bend",
            (*_MIDPOINT, *_ENDS),
            "curve",
            3,
            foreign_settings=_TRAINED,
            recommended=RECIPE,
        ),
        Method(
            "simplex",
            "the convex hull of several endpoints",
            (*_MIDPOINT, *_ENDS),
            "simplex",
            3,
            foreign_settings=_TRAINED,
            recommended=RECIPE,
        ),
        Method(
            "integral",
            "a line whose networks are all averaged by one (appendix C)",
            ("integral=endpoint:1",),
            "line",
            2,
            # Clipping would cut each of its three networks, whose large gradients nearly cancel; and the small
            # difference of two outputs is lost in bfloat16.
            foreign_settings=(
                *_SUBSPACE_SETTINGS,
                *_TAIL_SETTINGS,
                "shared",
                "early_stopping",
                "clip_gradient",
                "precision",
            ),
        ),
        Method(
            "ensemble",
            "networks trained one after another, independently or from a shared beginning (appendix H)",
            _ENDS,
            members=2,
            foreign_settings=(*_ONE_NETWORK, *_TAIL_SETTINGS, "early_stopping"),
        ),
        Method(
            "swa",
            "Stochastic Weight Averaging (Izmailov et al. 2018)",
            _MIDPOINT,
            members=6,
            foreign_settings=(*_ONE_NETWORK, "shared", "early_stopping"),
        ),
        Method(
            "swag",
            "samples of a Gaussian fitted to SWA's members (Maddox et al. 2019)",
            _ENDS,
            members=6,
            foreign_settings=(*_ONE_NETWORK, "shared", "early_stopping"),
        ),
        Method(
            "snapshot",
            "a Snapshot Ensemble: cosine cycles with a member at the end of each (Huang et al. 2017)",
            _ENDS,
            members=6,
            foreign_settings=(*_ONE_NETWORK, *_TAIL_SETTINGS, "shared", "early_stopping"),
        ),
        Method(
            "fge",
            "Fast Geometric Ensembling: short cycles at the end of the run (Garipov et al. 2018)",
            _ENDS,
            members=6,
            foreign_settings=(*_ONE_NETWORK, "tail_schedule", "shared", "early_stopping"),
        ),
    )
}
"""Every method by name."""
