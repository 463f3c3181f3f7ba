"""The figures of the paper, each described once, by number."""

from __future__ import annotations

from trainer.reproduce.description import Figure
from trainer.reproduce.figures import corrupted, dynamics, ensembles, instability, lengths, lines, midpoints

_MODULES = (dynamics, lines, midpoints, corrupted, ensembles, lengths, instability)
FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in sorted((figure for module in _MODULES for figure in module.FIGURES), key=lambda each: int(each.name))
}
"""Every figure by its number."""
