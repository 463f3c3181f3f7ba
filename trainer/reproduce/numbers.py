"""The numbers behind a figure: what is kept of each measurement, and their table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from math import inf
from typing import Any

from trainer.reproduce.calibrated import deep_ensemble_equivalent
from trainer.reproduce.description import Measurement, middle

_COLUMNS = {
    "accuracy": ("accuracy (%)", 100, 2),
    "ece": ("ECE (%)", 100, 2),
    "nll": ("NLL", 1, 3),
    "brier": ("Brier score", 1, 3),
    "ends_ensemble": ("ends' ensemble (%)", 100, 2),
    "ends_calibrated": ("its calibrated log-likelihood", 1, 3),
}
"""Each column's heading, factor and decimals."""

_NETWORKS = "independent networks that reach it"


def numbers_of(run: Measurement) -> dict[str, Any]:
    """Return the part of a measurement that is kept beside the picture."""
    kept: dict[str, Any] = {key: value for key, value in run.items() if isinstance(value, int | float)}
    if "points" in run:
        kept["points"] = [{"alpha": point["alpha"]} | point["metrics"] for point in run["points"]]
    if "endpoints_ensemble" in run:
        ensemble = run["endpoints_ensemble"]
        kept["ends_ensemble"] = ensemble["metrics"]["accuracy"]
        kept["total_variation"] = ensemble["total_variation"]
    if "by_size" in run:
        kept["by_size"] = run["by_size"]
    if likelihoods := run.get("calibrated_log_likelihood"):
        kept["calibrated_log_likelihood"] = likelihoods
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


def of_one_network(run: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a run's single network, and the accuracy of its ends together; empty if it has none.

    For a subspace the network is its midpoint; for figure 21's branches it is the weight average.
    """
    if "weight_average" in run:
        return {"accuracy": run["weight_average"], "ends_ensemble": run["ensemble"]}
    if "points" in run:
        return middle(run) | {
            "ends_ensemble": run.get("ends_ensemble"),
            "ends_calibrated": run.get("calibrated_log_likelihood", {}).get("ends"),
        }
    return run if "accuracy" in run else {}


def _spread(runs: Sequence[dict[str, Any]], name: str) -> str:
    """Return a number's mean over seeds and its sample standard deviation, as text; empty if a run lacks it."""
    _, factor, decimals = _COLUMNS[name]
    if any(run.get(name) is None for run in runs):
        return ""
    values = [factor * run[name] for run in runs]
    deviation = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{decimals}f}{deviation}"


def _deep(runs: Sequence[dict[str, Any]]) -> bool:
    """Return whether these are runs of independent networks, measured by their number."""
    return all("by_size" in run for run in runs)


def _counted(runs: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]]) -> str:
    """Return each seed's deep-ensemble equivalent of the ends together, as text: `1.8, 2.1, > 5`.

    It is empty if a run was not scored at its best temperature.
    """
    if any(run.get("ends_calibrated") is None for run in runs):
        return ""
    equivalents = [
        (deep_ensemble_equivalent(run["ends_calibrated"], deep["by_size"]), len(deep["by_size"]))
        for run, deep in zip(runs, reference, strict=True)
    ]
    return ", ".join(f"> {largest}" if networks == inf else f"{networks:.1f}" for networks, largest in equivalents)


def values_table(
    numbers: dict[str, dict[str, list[dict[str, Any]]]], metrics: Sequence[str], summary: str
) -> list[str]:
    """Return the runs' own numbers, by panel and case, as a collapsible Markdown table.

    Cases whose runs have no accuracy are left out; without any the result is empty. Metrics are of one network, the
    last columns are of the ends together; where deep ensembles were measured, the very last counts them in independent
    networks, a number for each seed.
    """
    several = len(numbers) > 1
    deep = {title: next(filter(_deep, results.values()), None) for title, results in numbers.items()}
    rows = [
        (f"{name} ({title})" if several else name, own, deep[title])
        for title, results in numbers.items()
        for name, runs in results.items()
        if all(own := [of_one_network(run) for run in runs])
    ]
    if not rows:
        return []
    columns = [*metrics, "ends_ensemble"]
    if any(all(run.get("ends_calibrated") is not None for run in runs) for _, runs, _ in rows):
        columns.append("ends_calibrated")
    headings = [_COLUMNS[name][0] for name in columns] + [_NETWORKS] * any(deep.values())
    lines = []
    for name, runs, reference in rows:
        counted = [_counted(runs, reference) if reference else ""] * any(deep.values())
        lines.append(f"| {' | '.join([name, *(_spread(runs, column) for column in columns), *counted])} |")
    return [
        "",
        f"<details><summary>{summary}</summary>",
        "",
        f"| run | {' | '.join(headings)} |",
        "|---" * (1 + len(headings)) + "|",
        *lines,
        "",
        "</details>",
    ]
