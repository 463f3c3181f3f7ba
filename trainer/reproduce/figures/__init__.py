"""The figures of the paper, each described once, by number."""

from __future__ import annotations

from trainer.reproduce.description import Figure
from trainer.reproduce.figures import corrupted, dynamics, ensembles, instability, lengths, lines, midpoints

FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in sorted(
        (
            figure
            for module in (dynamics, lines, midpoints, corrupted, ensembles, lengths, instability)
            for figure in module.FIGURES
        ),
        key=lambda figure: int(figure.name),
    )
}
"""Every figure by its number."""

__all__ = ["FIGURES"]
