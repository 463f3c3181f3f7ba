"""The options that make one choice for several domains: `--mixture` and `--at-least`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from subspace_serve.data.domains import Domain
    from subspace_serve.select import Mixture


mixture_option = click.option(
    "--mixture", multiple=True, metavar="NAME:WEIGHT,...",
    help="Choose one place for all domains, by the mean of their metrics with these weights, such as old:1,new:3. By "
    "--method grid only.  [default: a place for each domain]",
)  # fmt: skip
at_least_option = click.option(
    "--at-least", multiple=True, metavar="NAME=ACCURACY",
    help="Choose one place for all domains, among those of at least this accuracy on one of them, such as old=0.9 "
    "(repeatable); the weights are equal without --mixture.",
)  # fmt: skip


def read_mixture(weights: Sequence[str], bounds: Sequence[str], name: str | None) -> Mixture | None:
    """Return what the options ask for; None without them.

    Raises:
        UsageError: one is malformed, or names a domain twice.
    """
    if not weights and not bounds:
        return None
    from subspace_serve.select.mixture import DEFAULT_NAME, Mixture

    parts = [part.strip() for text in weights for part in text.split(",")]
    return Mixture(
        _numbers("--mixture", parts, ":", "old:1,new:3"),
        _numbers("--at-least", bounds, "=", "old=0.9"),
        DEFAULT_NAME if name is None else name,
    )


def check_mixture(mixture: Mixture, domains: Sequence[Domain]) -> None:
    """Check that a mixture is one of these domains.

    Raises:
        UsageError: it is not (`Mixture.check`).
    """
    from subspace_serve.errors import DataError

    try:
        mixture.check([domain.name for domain in domains])
    except DataError as error:
        raise click.UsageError(str(error)) from error


def _numbers(option: str, texts: Sequence[str], separator: str, example: str) -> dict[str, float]:
    """Read names with a number each; a name may hold a colon itself, as fog:3 does."""
    numbers: dict[str, float] = {}
    for text in texts:
        name, found, number = text.rpartition(separator)
        try:
            value = float(number)
        except ValueError:
            found = ""
        if not found or not name:
            raise click.UsageError(f"{option} takes a domain's name and a number, as {example}; found {text!r}")
        if name in numbers:
            raise click.UsageError(f"{option} names {name} twice; say once what it is")
        numbers[name] = value
    return numbers
