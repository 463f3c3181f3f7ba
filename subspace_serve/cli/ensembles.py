"""What `--ensemble` takes: a name and members, where either every member has a weight or none has."""

from __future__ import annotations

import click

from subspace_serve.errors import GeometryError
from subspace_serve.space.alpha import check_weights
from subspace_serve.space.ensemble import Ensemble

SYNTAX = "NAME=POINT,POINT… or, with weights of any sum, NAME=POINT:0.7,POINT:0.3…"


def read_ensembles(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> list[tuple[str, Ensemble[str]]]:
    """Read every value of the option, each with its name; a click callback."""
    return [_read(text) for text in texts]


def _read(text: str) -> tuple[str, Ensemble[str]]:
    name, equals, members = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not {SYNTAX}")
    # A point's name cannot contain a colon.
    parts = [[word.strip() for word in part.partition(":")] for part in members.split(",")]
    names = tuple(member for member, _, _ in parts)
    if not any(colon for _, colon, _ in parts):
        return name, Ensemble(names)
    weights = []
    for member, colon, weight in parts:
        if not colon:
            raise click.BadParameter(f"{text!r}: {member or 'a member'} has no weight; give every member one, or none")
        try:
            weights.append(float(weight))
        except ValueError:
            raise click.BadParameter(
                f"{text!r}: the weight of {member} is {weight!r}; give a number, as in {member}:0.7"
            ) from None
    try:
        check_weights(name, names, weights)
    except GeometryError as error:
        raise click.BadParameter(str(error)) from None
    return name, Ensemble(names, tuple(weights))
