"""Tables of a bundle that was written: its models, how they passed their gates, and what is promised of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from subspace_serve.cli.output import percent, print_table
from subspace_serve.cli.sets_tables import print_abstention, print_sets

if TYPE_CHECKING:
    from subspace_serve.bundle import Bundle, Ensemble, Point


def print_bundle(bundle: Bundle, *, temperatures: bool) -> None:
    """Print what an export measured of a bundle's models; with `temperatures`, also what was fitted."""
    models: dict[str, Point | Ensemble] = {**bundle.points, **bundle.ensembles}
    _print_models(bundle)
    _print_gates(bundle)
    if temperatures:
        _print_temperatures(bundle)
    print_sets(models)
    print_abstention(models)


def _print_models(bundle: Bundle) -> None:
    from subspace_serve.space.place import place_text

    def accuracy(metrics: dict[str, float]) -> str:
        return percent(metrics["accuracy"]) if metrics else "-"

    rows = [
        [name, "-" if point.alpha is None else place_text(point.alpha), accuracy(point.metrics)]
        for name, point in bundle.points.items()
    ]
    rows += [[name, _mixture(entry), accuracy(entry.metrics)] for name, entry in bundle.ensembles.items()]
    print_table(["model", "alpha or members", "test accuracy %"], rows)


def _print_gates(bundle: Bundle) -> None:
    rows = []
    for name, point in bundle.points.items():
        if point.reduction is None:
            continue
        gate = point.reduction.gate
        changes = (gate.reduced.accuracy - gate.float32.accuracy, gate.reduced.ece - gate.float32.ece)
        rows.append(
            [
                name,
                *(f"{100 * change:+.2f}" for change in changes),
                f"{gate.reduced.nll - gate.float32.nll:+.4f}",
                percent(gate.flips),
                f"{gate.images} of {gate.data}",
            ]
        )
    if rows:
        print_table(["in fewer bits", "accuracy, points", "ECE, points", "NLL", "flips %", "gated on"], rows)


def _mixture(ensemble: Ensemble) -> str:
    """Return an ensemble's members, with their weights where they differ."""
    if len(set(ensemble.weights)) == 1:
        return "+".join(ensemble.members)
    return "+".join(f"{name}:{weight:g}" for name, weight in zip(ensemble.members, ensemble.weights, strict=True))


def _print_temperatures(bundle: Bundle) -> None:
    rows = []
    for name, entry in (bundle.points | bundle.ensembles).items():
        fit = entry.temperature_fit
        assert fit is not None
        rows.append(
            [
                name,
                f"{entry.temperature:.3f}" + (" (open)" if fit.at_bound else ""),
                *(f"{part.nll:.4f}" for part in (fit.before, fit.after)),
                *(percent(part.ece) for part in (fit.before, fit.after)),
                f"{fit.count} of {fit.data}",
                str(fit.reported_on),
            ]
        )
    header = ["model", "temperature", "NLL before", "after", "ECE % before", "after", "fitted on", "reported on others"]
    print_table(header, rows)
    if any("(open)" in row[1] for row in rows):
        click.echo("(open): its images leave the temperature open, and it is chosen on the side of doubt; give more")
