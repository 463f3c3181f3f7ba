"""The recommended use of a subspace: the `--alpha` specifications that its trainer recorded."""

from __future__ import annotations

from subspace_serve.errors import CheckpointError, GeometryError
from subspace_serve.space.alpha import parse_alphas
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace

USUAL = ("midpoint", "endpoints")
"""The use of a subspace whose checkpoint records none: what the paper uses lines, curves and simplexes for."""


def is_recorded(subspace: Subspace) -> bool:
    """Return whether the checkpoint records a recommended use; older ones do not."""
    return "use" in subspace.provenance


def recommended_use(subspace: Subspace) -> tuple[str, ...]:
    """Return the `--alpha` specifications to deploy, the first of them the default; `USUAL` where none is recorded.

    A single network is one model, whatever its name, so its use is one specification.

    Raises:
        CheckpointError: what is recorded is not a list of specifications, or they are not places in this subspace.
    """
    recorded = subspace.provenance.get("use", USUAL)
    if not isinstance(recorded, list | tuple) or not recorded or not all(isinstance(text, str) for text in recorded):
        raise CheckpointError(
            f"the checkpoint's recommended use is {recorded!r}, and no list of places such as ['midpoint']; name "
            "places with --alpha, or write the checkpoint again"
        )
    try:
        parse_alphas(tuple(recorded), subspace.geometry, {}, extrapolate=True)
    except GeometryError as error:
        raise CheckpointError(
            f"the checkpoint's recommended use is {', '.join(recorded)}, which does not fit its subspace ({error}); "
            "name places with --alpha, or write the checkpoint again"
        ) from error
    if subspace.geometry.endpoints == 1:
        alone = [text for text in recorded if text.rpartition("=")[2].strip() != "endpoints"]
        return (alone[0],) if alone else ("midpoint",)
    return tuple(dict.fromkeys(recorded))


def recommended_models(subspace: Subspace) -> dict[str, tuple[Alpha, ...]]:
    """Return the places of each recommended model by its name: one place for a point, several for an ensemble.

    The members of an ensemble are not listed on their own: `endpoints` is one model.

    Raises:
        CheckpointError: as `recommended_use`.
    """
    request = parse_alphas(recommended_use(subspace), subspace.geometry, {}, extrapolate=True)
    return {name: request.placed(name).members for name in request.models}
