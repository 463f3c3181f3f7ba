"""Tables of what is promised of a bundle's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from subspace_serve.cli.output import percent, print_table

if TYPE_CHECKING:
    from subspace_serve.bundle import Ensemble, Point


_RISK = 0.05


def print_sets(models: Mapping[str, Point | Ensemble]) -> None:
    """Print which coverage the models' prediction sets reach; nothing where there are none."""
    from subspace_serve.prediction_sets import largest_coverage

    rows = []
    for name, model in models.items():
        if (sets := model.sets) is None:
            continue
        measured = sets.measured
        cells = ["-"] * 4
        if measured is not None:
            worst = min(share for share in measured.class_coverage if share is not None)
            cells = [percent(measured.coverage), percent(worst), f"{measured.mean_size:.2f}", str(measured.images)]
        most = percent(largest_coverage(sets.count))
        rows.append([name, sets.method, f"{sets.count} of {sets.data}", most, *cells])
    if rows:
        header = ["prediction sets", "scores", "calibrated on", "largest coverage %"]
        print_table([*header, "at 90 %: held %", "worst class %", "labels", "on others"], rows)


def print_abstention(models: Mapping[str, Point | Ensemble]) -> None:
    """Print how many images are answered at an error rate of 5 %; nothing where nothing is known of it."""
    rows = []
    for name, model in models.items():
        if (abstention := model.abstention) is None or (measured := abstention.measured) is None:
            continue
        proven = abstention.choose(_RISK)
        rows.append(
            [
                name,
                f"{measured.aurc:.4f}",
                percent(measured.answered_at_5_percent),
                f"{measured.images} {'others' if measured.held_out else 'of them'}",
                percent(proven.answered / abstention.count) if proven else "none",
                f"{abstention.count} of {abstention.data}",
            ]
        )
    if rows:
        print_table(
            ["abstaining", "AURC", "answered % at 5 % errors", "measured on", "with the promise", "calibrated on"], rows
        )
