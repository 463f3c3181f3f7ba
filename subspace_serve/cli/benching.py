"""The command `bench`: measures a running service under open-loop load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.asking import place
from subspace_serve.cli.output import json_option, print_table, progress_line, write_report

if TYPE_CHECKING:
    from subspace_serve.bench.load import LoadReport
    from subspace_serve.bench.saturation import Saturation

_DEFAULT_RATE = 50.0
_RANDOM = "random"
_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("url", metavar="URL")
@click.option(
    "--rate",
    "rates",
    type=_POSITIVE,
    multiple=True,
    metavar="R",
    help="Requests a second; may be repeated.  [default: 50]",
)
@click.option("--duration", type=_POSITIVE, default=10.0, show_default=True, metavar="S", help="Of each rate.")
@click.option(
    "--warm-up",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Before each rate; not reported.",
)
@click.option("--uniform", is_flag=True, help="Requests evenly spaced, and not at random (a Poisson process).")
@click.option("--find-saturation", is_flag=True, help="Search for the highest rate that holds, from --rate on.")
@click.option(
    "--objective",
    type=_POSITIVE,
    default=100.0,
    show_default=True,
    metavar="MS",
    help="The highest p99 that --find-saturation accepts.",
)
@click.option(
    "--protocol",
    type=click.Choice(["binary", "json", "image"]),
    help="How images travel.  [default: image where some are given, else binary]",
)
@click.option(
    "--image",
    "--images",
    "images",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="An image file to send; may be repeated. Random pixels unless given.",
)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Images a request.")
@click.option("--model", help="A point or an ensemble; the server's default unless given.")
@click.option("--members", metavar="NAME,...", help="Only these points, as an ensemble; a number is a place.")
@click.option(
    "--alpha",
    metavar="A",
    help="The network at a place of the subspace: 0.3, or 0.2,0.3,0.5; `random` draws one anew for each request.",
)
@click.option("--domain", metavar="NAME", help="With the statistics of a domain; alone, at the domain's own place.")
@click.option(
    "--connections",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    metavar="N",
    help="Open at once, at most.",
)
@click.option(
    "--timeout",
    type=_POSITIVE,
    default=10.0,
    show_default=True,
    metavar="S",
    help="A request that takes longer has failed.",
)
@click.option(
    "--token",
    envvar="SUBSPACE_SERVE_TOKEN",
    help="Bearer token; in the variable SUBSPACE_SERVE_TOKEN nobody else sees it.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of arrivals, pixels and places.")
@json_option
def bench(
    url: str,
    rates: Sequence[float],
    find_saturation: bool,
    objective: float,
    protocol: Any,
    images: Sequence[Path],
    batch: int,
    model: str | None,
    members: str | None,
    alpha: str | None,
    domain: str | None,
    token: str | None,
    seed: int,
    json_file: str | None,
    **how: Any,
) -> None:
    """Measure the service at URL at given rates of requests.

    Requests are sent when they are due, as users send them, whether or not earlier ones have been answered. Latency
    counts from then, so that queueing shows, and is that of the answers 200.
    """
    from subspace_serve.bench.load import run_load
    from subspace_serve.bench.saturation import find_saturation as search
    from subspace_serve.bench.workload import places_workload, workload
    from subspace_serve.client import Client
    from subspace_serve.client.wire import Options
    from subspace_serve.space.place import place_or_name

    if find_saturation and len(rates) > 1:
        raise click.UsageError("--find-saturation searches from one --rate on; give one")
    options = Options(
        model=model,
        members=[place_or_name(member) for member in members.split(",")] if members else None,
        alpha=place(alpha) if alpha and alpha != _RANDOM else None,
        domain=domain,
    )
    with Client(url, token=token, timeout=how["timeout"]) as client:
        catalogue = client.models()
        files = [file.read_bytes() for file in images]
        make = places_workload if alpha == _RANDOM else workload
        requests = make(catalogue, options, protocol=protocol, files=files, batch=batch, seed=seed)
        # A request that the server refuses should fail here, with the reason, and not look like a fast server.
        client.check(next(iter(requests)))
    quiet = json_file == "-"
    reports: list[LoadReport] = []

    def measure(rate: float) -> LoadReport:
        report = run_load(url, requests, rate=rate, seed=seed + len(reports), token=token, **how)
        reports.append(report)
        if not quiet:
            progress_line(f"{rate:g}/s: {report.throughput:.1f}/s answered, p99 {_milliseconds(report, 'p99')} ms")
        return report

    document: dict[str, Any] = {
        "url": url,
        "protocol": protocol or ("image" if files else "binary"),
        "model": model or (None if members or alpha or domain else catalogue.default),
        "members": options.members,
        "alpha": _RANDOM if alpha == _RANDOM else options.alpha,
        "domain": domain,
        "batch": batch,
        "arrivals": "uniform" if how["uniform"] else "poisson",
        "warm_up": how["warm_up"],
        "connections": how["connections"],
        "timeout": how["timeout"],
        "seed": seed,
        "bundle": catalogue.sha256,
    }
    rates = rates or [_DEFAULT_RATE]
    found: Saturation | None = None
    if find_saturation:
        found = search(measure, objective=objective / 1e3, start=rates[0])
        document["saturation"] = {"rate": found.rate, "found": found.found, "objective_ms": objective}
    else:
        for rate in rates:
            measure(rate)
    document["rates"] = [report.to_json() for report in reports]
    if write_report(document, json_file):
        _print(reports)
        if found is not None:
            click.echo(_described(found, objective))


def _print(reports: Sequence[LoadReport]) -> None:
    from subspace_serve.bench.load import PERCENTILES

    header = ["rate/s", "offered/s", "200s/s", *(f"{name} ms" for name in PERCENTILES), "answers", "errors"]
    rows = [
        [
            f"{report.rate:g}",
            f"{report.offered:.1f}",
            f"{report.throughput:.1f}",
            *(_milliseconds(report, name) for name in PERCENTILES),
            " ".join(f"{status}:{count}" for status, count in report.statuses.items()) or "-",
            str(sum(report.errors.values())),
        ]
        for report in reports
    ]
    print_table(header, rows)
    for report in reports:
        for line in _remarks(report):
            click.echo(f"at {report.rate:g}/s {line}")


def _remarks(report: LoadReport) -> list[str]:
    """Return what a reader of the report's figures must know."""
    lines = [f"{count} times: {error}" for error, count in report.errors.items()]
    if report.waited:
        lines.append(f"{report.waited} requests waited until a connection was free; --connections allows more")
    if report.fell_behind:
        lines.append(
            f"the generator itself fell behind ({1e3 * report.late['p99']:.1f} ms late at p99, "
            f"{100 * report.processor:.0f} % of a core): the figures are partly its own; give it a core or a lower rate"
        )
    return lines


def _milliseconds(report: LoadReport, name: str) -> str:
    return f"{1e3 * report.latency[name]:.2f}" if report.latency else "-"


def _described(found: Saturation, objective: float) -> str:
    if not found.rate:
        return f"no rate that was tried holds: answers fall short, or p99 is over {objective:g} ms"
    line = f"saturation: {found.rate:.0f}/s hold (98 of 100 answered in time, p99 within {objective:g} ms)"
    if not found.found:
        line += ", perhaps more: the generator fell behind first, or its highest rate was reached"
    return line


COMMANDS = {"bench": bench}
