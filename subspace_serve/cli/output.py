"""How commands report: tables, JSON, progress."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from subspace_serve.errors import SubspaceServeError
from subspace_serve.files import descriptor_of, write_text

_CLEARED = "\r\033[K"
_BETWEEN_LINES = 10.0
"""Seconds between two lines of progress where stderr is not a terminal."""


def _writable(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a file that could not be written, before the work whose report it is to hold."""
    if not value or value == "-":
        return value
    target = Path(value)
    in_place = descriptor_of(target) is not None or not (target.is_file() or target.is_dir())
    if target.exists() and in_place:  # an open file, a device or a pipe
        return value
    target = target.resolve()
    if target.is_dir():
        raise SubspaceServeError(f"--json {value} is a folder; name a file, such as {target / 'report.json'}")
    nearest = next(folder for folder in target.parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".tmp", dir=nearest):
            pass
    except OSError as error:
        raise SubspaceServeError(
            f"--json {value} cannot be written ({error.strerror}: {nearest}); name a file elsewhere"
        ) from error
    return value


json_option = click.option(
    "--json", "json_file", metavar="FILE", callback=_writable,
    help="Write the report as JSON to FILE (- for standard output).",
)  # fmt: skip


def write_json(document: Any, destination: Path | str) -> None:
    """Write a JSON document to a file (whole or not at all), or to standard output when `destination` is "-".

    Numbers that JSON cannot hold (NaN, infinities) raise `ValueError`.
    """
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    if str(destination) == "-":
        click.echo(text, nl=False)
    else:
        write_text(Path(destination), text)


def write_report(document: Any, json_file: str | None) -> bool:
    """Write a command's report where `--json` says; return whether standard output is free for text."""
    if json_file:
        write_json(document, json_file)
    return json_file != "-"


def percent(value: float) -> str:
    """Return a fraction as a percentage."""
    return f"{100 * value:.2f}"


def metric_cells(metrics: Mapping[str, float]) -> list[str]:
    """Return accuracy, NLL, ECE and Brier score as a table shows them."""
    return [percent(metrics["accuracy"]), f"{metrics['nll']:.4f}", percent(metrics["ece"]), f"{metrics['brier']:.4f}"]


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print a table with the first column left and the others right aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        click.echo("  ".join(cells).rstrip())


def progress_line(line: str) -> None:
    """Report progress on standard error."""
    click.echo(f"  {line}", err=True)


@contextlib.contextmanager
def passing_progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows transient progress, for work that ends with a table of its numbers.

    A terminal shows the last line only, and clears it when the work is done; elsewhere, such as in a log, there is at
    most one line every 10 seconds.
    """
    terminal, said = sys.stderr.isatty(), time.monotonic()

    def say(line: str) -> None:
        nonlocal said
        if terminal:
            click.echo(f"{_CLEARED}  {line}", err=True, nl=False)
        elif time.monotonic() - said >= _BETWEEN_LINES:
            said = time.monotonic()
            progress_line(line)

    try:
        yield say
    finally:
        if terminal:
            click.echo(_CLEARED, err=True, nl=False)


def say_note(text: str | None) -> None:
    """Print a note for the user on standard error; None prints nothing."""
    if text is not None:
        click.echo(f"note: {text}", err=True)


def track(batches: Iterable, length: int, label: str) -> Iterable:
    """Iterate with a progress bar on a terminal, and without one elsewhere."""
    if not sys.stderr.isatty():
        yield from batches
        return
    with click.progressbar(batches, length=length, label=label, file=sys.stderr) as bar:
        yield from bar


def print_verification(report: Mapping[str, Any]) -> None:
    """Print the report of `verify_bundle`, given as its JSON document."""
    graphs = "checked" if report["onnx_checked"] else "loaded (their full check needs the package onnx)"
    click.echo(f"{report['bundle']}: {report['files']} files unchanged, graphs {graphs}")
    rows = [
        [
            name,
            point["provider"],
            f"{point['max_abs_diff']:.2e}",
            f"{point['tolerance']:.0e}",
            str(point["top1_flips"]),
        ]
        for name, point in report["points"].items()
    ]
    print_table(["point", "provider", "difference to export", "tolerance", "flips"], rows)
    passed = {name: gate for name, gate in report["gates"].items() if gate["failure"] is None}
    rows = [
        [name, gate["precision"], f"{gate['drop']:.2f}", f"{gate['allowed']:.2f}", percent(gate["flips"])]
        for name, gate in passed.items()
    ]
    if rows:
        click.echo(f"gates, repeated here on {next(iter(passed.values()))['images']} labelled images:")
        print_table(["point", "precision", "points of accuracy lost", "allowed", "flips %"], rows)
    for name in report["gates"].keys() - passed.keys():
        click.echo(f"{report['gates'][name]['failure']}: its float point answers")
    for name, difference in report["fused"].items():
        click.echo(f"{name}.fused.onnx: answers as its members do, to {difference:.1e}")
    if report["dynamic"] is not None:
        click.echo(f"dynamic.onnx: answers at any alpha as the service does, to {report['dynamic']:.1e}")
    if report["statistics"]:
        click.echo(f"subspace: answers between its points too, with the statistics {', '.join(report['statistics'])}")
