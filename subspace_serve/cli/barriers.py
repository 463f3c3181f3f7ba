"""The barrier between imported networks, as `import` and `inspect` print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from subspace_serve.cli.output import metric_cells, percent, print_table
from subspace_serve.space.place import is_end, place_text

if TYPE_CHECKING:
    from subspace_serve.measure.barrier import Barrier


def print_barrier(barrier: Barrier) -> None:
    """Print the places with their metrics, the barrier, and what it means."""
    rows = [
        [place_text(alpha) + (" (source)" if is_end(alpha) else ""), *metric_cells(metrics)]
        for alpha, metrics in barrier.points
    ]
    print_table(["alpha", "accuracy %", "NLL", "ECE %", "Brier"], rows)
    click.echo(barrier_text(barrier))


def barrier_text(barrier: Barrier) -> str:
    """Return the barrier in words, with what can be done."""
    where = f" (at alpha {place_text(barrier.at)})" if barrier.accuracy else ""
    figure = (
        f"barrier {percent(barrier.accuracy)} points of accuracy{where}, {barrier.nll:.4f} of NLL, on "
        f"{barrier.images} images of {barrier.data}"
    )
    if barrier.connected:
        return f"{figure}: the networks can be mixed"
    return (
        f"{figure}: the networks are not linearly connected, and what lies between them is worse than they are. Use "
        "them as an ensemble (--alpha endpoints); to mix them, fine-tune them from one start, with a lower learning "
        "rate or for fewer epochs: networks of independent starts do not mix"
    )
