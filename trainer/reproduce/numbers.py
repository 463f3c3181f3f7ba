"""The numbers behind a figure: what is kept of each measurement, and their table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from trainer.reproduce.description import Measurement

_COLUMNS = ("accuracy (%)", "ECE (%)", "ends' ensemble (%)")


def numbers_of(run: Measurement) -> dict[str, Any]:
    """Return the few numbers of a measurement that fit on a page."""
    kept: dict[str, Any] = {key: value for key, value in run.items() if isinstance(value, int | float)}
    if "points" in run:
        kept["points"] = [
            {"alpha": point["alpha"], "accuracy": point["metrics"]["accuracy"], "ece": point["metrics"]["ece"]}
            for point in run["points"]
        ]
    if "endpoints_ensemble" in run:
        ensemble = run["endpoints_ensemble"]
        kept["ends_ensemble"] = ensemble["metrics"]["accuracy"]
        kept["total_variation"] = ensemble["total_variation"]
    if run.get("endpoint_distances"):
        kept["endpoint_distances"] = run["endpoint_distances"][0]
    if "epochs" in run and run["epochs"][-1].get("endpoint_l2") is not None:
        kept["last_epoch"] = {key: run["epochs"][-1][key] for key in ("endpoint_l2", "endpoint_cosine_squared")}
    if "corruptions" in run:
        kept["corruptions"] = [
            {
                "corruption": entry["corruption"],
                "severity": entry["severity"],
                "accuracy": [point["metrics"]["accuracy"] for point in entry["points"]],
            }
            for entry in run["corruptions"]
        ]
    return kept


def _row(runs: Sequence[dict[str, Any]]) -> list[str] | None:
    """Return a run's accuracy, calibration error and ends' ensemble, over seeds; None where it has no accuracy.

    Of a subspace, those of its midpoint; of Figure 21's branches, the weight average's and the ensemble's accuracy.
    """
    single = [_of_one_network(run) for run in runs]
    if any(entry is None for entry in single):
        return None
    columns = [[entry[index] for entry in single if entry is not None] for index in range(len(_COLUMNS))]
    return [_spread([value for value in column if value is not None]) for column in columns]


def _of_one_network(run: dict[str, Any]) -> tuple[float | None, ...] | None:
    if "weight_average" in run:
        return run["weight_average"], None, run["ensemble"]
    if "points" in run:
        simplex = isinstance(run["points"][0]["alpha"], list)
        middle = run["points"][-1 if simplex else len(run["points"]) // 2]
        return middle["accuracy"], middle["ece"], run.get("ends_ensemble")
    return (run["accuracy"], run.get("ece"), None) if "accuracy" in run else None


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{deviation}"


def values_table(numbers: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    """Return the runs' own numbers, by panel and label, as a Markdown table that opens at a click.

    Empty where no run has an accuracy.
    """
    several = len(numbers) > 1
    rows = [
        (f"{label} ({title})" if several else label, row)
        for title, results in numbers.items()
        for label, runs in results.items()
        if (row := _row(runs)) is not None
    ]
    if not rows:
        return []
    return [
        "",
        "<details><summary>the runs' own numbers</summary>",
        "",
        f"| run | {' | '.join(_COLUMNS)} |",
        "|---" * (1 + len(_COLUMNS)) + "|",
        *(f"| {label} | {' | '.join(row)} |" for label, row in rows),
        "",
        "</details>",
    ]
