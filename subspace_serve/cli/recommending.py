"""The recommended use of a run's networks, as commands describe, measure and mark it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from subspace_serve.space.ensemble import Ensemble
from subspace_serve.space.place import Alpha, place

if TYPE_CHECKING:
    from subspace_serve.measure.point_results import NamedResult
    from subspace_serve.measure.results import Evaluation
    from subspace_serve.space.subspace import Subspace

MARK = " *"


def described_use(subspace: Subspace) -> str:
    """Return the recommended use in words."""
    from subspace_serve.space.use import is_recorded, recommended_use

    use = ", ".join(recommended_use(subspace))
    return use if is_recorded(subspace) else f"{use} (as usual; the checkpoint records none)"


def midpoint_is_recommended(subspace: Subspace) -> bool:
    """Return whether the midpoint is part of a run's recommended use; for older runs, which record none, it is.

    The midpoint of independently trained networks, for example, is never a good network.
    """
    from subspace_serve.space.use import is_recorded, recommended_models

    return not is_recorded(subspace) or (subspace.geometry.midpoint,) in recommended_models(subspace).values()


def recommended_candidates(subspace: Subspace, aggregate: str) -> dict[str, Ensemble[Alpha]]:
    """Return what `evaluate` measures besides its grid, by name; empty where no use is recorded.

    A candidate that is on the grid too is measured once.
    """
    from subspace_serve.space.use import is_recorded, recommended_models

    if not is_recorded(subspace):
        return {}
    # Without `aggregate`, a point equals the grid's candidate for the same place.
    return {
        name: Ensemble(members, aggregate=aggregate) if len(members) > 1 else Ensemble.point(members[0])
        for name, members in recommended_models(subspace).items()
    }


def recorded_use(subspace: Subspace) -> tuple[str, ...]:
    """Return a run's recommended use; empty where it records none."""
    from subspace_serve.space.use import is_recorded, recommended_use

    return recommended_use(subspace) if is_recorded(subspace) else ()


class Marks:
    """Which rows of a table are recommended, and which recommended models have no row yet."""

    def __init__(self, evaluation: Evaluation, subspace: Subspace) -> None:
        from subspace_serve.space.use import recommended_models

        models = recommended_models(subspace) if evaluation.use else {}
        self._names = {_places(members): name for name, members in models.items()}
        self._shown: set[tuple[Alpha, ...]] = set()
        self._evaluation = evaluation

    def label(self, text: str, members: Any) -> str:
        """Return a row's label, marked where the model at these places is recommended."""
        places = _places(members)
        self._shown.add(places)
        return text + MARK if places in self._names else text

    def missing(self) -> dict[str, NamedResult]:
        """Return the recommended models that were measured and have no row yet, by name."""
        shown = {self._names[places] for places in self._shown if places in self._names}
        return {name: entry for name, entry in self._evaluation.recommended.items() if name not in shown}

    def footer(self, subspace: Subspace) -> str | None:
        """Return what the marks mean; None where no use is recorded."""
        if not self._evaluation.use:
            return None
        limit = "" if midpoint_is_recommended(subspace) else "; the midpoint is not part of it"
        return f"recommended use of this run (*): {', '.join(self._evaluation.use)}{limit}"


def _places(members: Any) -> tuple[Alpha, ...]:
    """Return places as a sorted key, since the order of an ensemble's members does not matter."""
    return tuple(sorted((place(alpha) for alpha in members), key=str))
