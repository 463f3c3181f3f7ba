"""The tables that `select` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.output import metric_cells, percent, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

_WHICH = ("midpoint", "chosen")
_METRICS = ["accuracy %", "NLL", "ECE %", "Brier"]


def print_selections(selections: Mapping[str, Any], metric: str) -> None:
    """Print a row for each choice, why it was made, and what else was measured beside it."""
    rows = []
    for name, selection in selections.items():
        kept = selection["kept_midpoint"]
        gained = ["-", "-"] if kept else _gain_cells(metric, selection["gain"])
        is_test = selection["method"] == "grid"
        taken = _place(selection) + (f" (midpoint{' kept' if is_test else ''})" if kept else "")
        rows.append([name, taken, *metric_cells(selection["reported"]), *gained])
    print_table(["domain", "alpha", *_METRICS, _gain_title(metric), "95 % interval"], rows)
    for name, selection in selections.items():
        click.echo(f"{name}: {selection['reason']}")
        if selection["kept_midpoint"] and selection["p_value"] < 1:
            best = selection["best"]
            value, interval = _gain_cells(metric, best["gain"])
            click.echo(f"  the best was {_place(best)}, on the reporting half {value} ({interval}); --greedy takes it")
        _print_domains(name, selection, metric)
        _print_soups(name, selection, metric)
        _print_int8(name, selection, metric)
    _print_recalibration({name: found for name, found in selections.items() if "recalibration" in found})


def _print_domains(name: str, selection: Mapping[str, Any], metric: str) -> None:
    """Print what a mixture's choice is on each domain, on the images that were not chosen on."""
    if "domains" not in selection:
        return
    click.echo(f"\n{name} on each domain, on the images that were not chosen on:")
    rows = []
    for domain, found in selection["domains"].items():
        bound = "-"
        if "at_least" in found:
            bound = f"{percent(found['at_least'])}, {'holds' if found['holds'] else 'FAILS'}"
        gained = ["-", "-"] if selection["kept_midpoint"] else _gain_cells(metric, found["gain"])
        rows.append([domain, f"{found['weight']:.3g}", *metric_cells(found["reported"]), *gained, bound])
    print_table(["domain", "weight", *_METRICS, _gain_title(metric), "95 % interval", "at least %"], rows)


def _print_int8(name: str, selection: Mapping[str, Any], metric: str) -> None:
    """Print how the ends' int8 ensemble does against the float midpoint."""
    if "int8" not in selection:
        return
    found = selection["int8"]
    value, interval = _gain_cells(metric, found["gain"])
    lower, upper = found["cost"]["quartiles"]
    click.echo(
        f"{name}: the ends' ensemble in int8 against the midpoint in float, on the reporting half {value} "
        f"({interval}), in {found['cost']['median']:.2f} times its time here ({lower:.2f} to {upper:.2f}); "
        "export --alpha endpoints --precision int8 writes it"
    )


def _print_soups(name: str, selection: Mapping[str, Any], metric: str) -> None:
    """Print how good the soups, the best single end and the grid's choice are, on the reporting half."""
    if "soups" not in selection:
        return
    click.echo(f"\n{name}, on the {selection['reported_on']} images that were not chosen on, gains over the best end:")
    rows = []
    for row, found in selection["soups"].items():
        gained = ["-", "-"] if row == "best-single" else _gain_cells(metric, found["gain"])
        rows.append([_ROWS[row], _place(found), *metric_cells(found["reported"]), *gained])
    print_table(["soup", "alpha", *_METRICS, _gain_title(metric), "95 % interval"], rows)
    taken = " + ".join(_place({"alpha": step["member"]}) for step in selection["steps"] if step["taken"])
    click.echo(f"greedy soup of {taken}")


_ROWS = {
    "best-single": "best single end",
    "uniform-soup": "uniform soup",
    "greedy-soup": "greedy soup",
    "grid": "grid's choice",
}


def _print_recalibration(selections: Mapping[str, Any]) -> None:
    """Print midpoint and choice with BatchNorm from the usual images and from the domain's."""
    if not selections:
        return
    click.echo("\nBatchNorm recomputed from the usual images and from the domain's, accuracy %:")
    print_table(
        ["domain", "midpoint, usual", "midpoint, domain", "chosen, usual", "chosen, domain"],
        [
            [
                name,
                *(
                    percent(found["recalibration"][on][which]["accuracy"])
                    for which in _WHICH
                    for on in ("default", "domain")
                ),
            ]
            for name, found in selections.items()
        ],
    )


def _gain_title(metric: str) -> str:
    return "squared ECE gain" if metric == "ece" else f"{metric} gain"


def _gain_cells(metric: str, gain: Mapping[str, Any]) -> list[str]:
    """Return a gain and its interval."""
    low, high = (_figure(metric, value) for value in gain["interval"])
    return [_figure(metric, gain["value"]), f"{low} to {high}"]


def _figure(metric: str, value: float) -> str:
    value += 0.0  # and not -0.0
    return f"{100 * value:+.2f}" if metric == "accuracy" else f"{value:+.4f}"


def _place(entry: Mapping[str, Any]) -> str:
    from subspace_serve.space.place import place_text

    return " + ".join(place_text(alpha) for alpha in entry.get("members", [entry.get("alpha")]))
