"""Points chosen for corruptions of Fashion-MNIST on trained lines: `python -m benchmarks.domains`.

For each seed's line (trained by `python -m benchmarks.fashion_mnist`), chooses a place for every type of corruption on
one half of the validation images and reports it on the other. Writes docs/selection.json, and puts the tables into
docs/selection.md. Finished seeds are kept in the JSON file and not measured again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.adaptation import CORRUPTIONS
from benchmarks.measure import environment
from benchmarks.tables import replace_tables
from subspace_serve.files import write_text
from subspace_serve.run.domains import corrupted_domains, labelled_domain
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.statistics import calibration_in
from subspace_serve.select import select
from subspace_serve.space.place import place_text

RUNS = "runs/fashion-mnist-cresnet8-16-line-seed{seed}-8epochs"
DOCUMENT, TABLES = Path("docs/selection.json"), Path("docs/selection.md")
RECALIBRATED = ("gaussian_noise", "defocus_blur", "fog", "contrast")
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def measure(seed: int, severity: int) -> dict[str, Any]:
    """Choose for every corruption, and for some also among networks recalibrated on the domain."""
    run = OpenRun(Path(RUNS.format(seed=seed)), device="cpu")
    clean = labelled_domain(run, "validation", "clean")
    domains = [clean, *corrupted_domains(run, "validation", CORRUPTIONS, [severity])]
    shifted = [domain for domain in domains if domain.record.get("corruption") in RECALIBRATED]

    def progress(line: str) -> None:
        click.echo(f"seed {seed}: {line}", err=True)

    # One halving only, so that the domains also share the networks next to their best places.
    usual = select(run.network, domains, calibration=run.calibration, refine=1, seed=seed, progress=progress)
    on_domain = select(
        run.network,
        shifted,
        calibration=run.calibration,
        domain_calibration={domain.name: calibration_in(run, domain, seed) for domain in shifted},
        calibrated_on="domain",
        refine=0,
        seed=seed,
        progress=progress,
    )
    return {"seed": seed, "checkpoint_sha256": run.checkpoint_sha256, "default": usual, "domain": on_domain}


def gains_table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of choices: a row per domain, a column per seed."""
    lines = [
        "| domain | " + " | ".join(f"seed {run['seed']}" for run in runs) + " |",
        "|---|" + "---|" * len(runs),
    ]
    for name in runs[0]["default"]:
        cells = [choice(run["default"][name]) for run in runs]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def choice(selection: Mapping[str, Any]) -> str:
    """Return what was chosen and its gain; if the midpoint was kept, what the best place would have gained."""
    if not selection["kept_midpoint"]:
        return f"**{place_text(selection['alpha'])}**: {gain(selection['gain'])}"
    best = selection["best"]
    if best["alpha"] == selection["alpha"]:
        return "0.5 kept: the best"
    return f"0.5 kept; {place_text(best['alpha'])}: {gain(best['gain'])}"


def gain(figures: Mapping[str, Any]) -> str:
    low, high = figures["interval"]
    return f"{100 * figures['value']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def recalibration_table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of the mean accuracy over seeds of midpoint and choice, recalibrated both ways."""
    lines = [
        "| domain | midpoint, training images | midpoint, domain | chosen, training images | chosen, domain |",
        "|---|---|---|---|---|",
    ]
    for name in runs[0]["domain"]:
        cells = []
        for which in ("midpoint", "chosen"):
            for on in ("default", "domain"):
                values = [100 * run["domain"][name]["recalibration"][on][which]["accuracy"] for run in runs]
                cells.append(f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def summary_lines(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how often another place than the midpoint was taken, and what that gained."""
    entries = [entry for run in runs for entry in run["default"].values()]
    moved = [entry for entry in entries if not entry["kept_midpoint"]]
    above = [entry for entry in moved if entry["gain"]["interval"][0] > 0]
    below = [entry for entry in moved if entry["gain"]["interval"][1] < 0]
    lines = [
        f"Of {len(entries)} choices (domains × seeds) {len(entries) - len(moved)} keep the midpoint and {len(moved)} "
        f"move. Of those that move, {len(above)} gain on the reporting half with an interval above zero, "
        f"{len(below)} lose with one below, {len(moved) - len(above) - len(below)} are open."
    ]
    if moved:
        values = [100 * entry["gain"]["value"] for entry in moved]
        lines.append(
            f"Their mean gain is {statistics.fmean(values):+.2f} points "
            f"(from {min(values):+.2f} to {max(values):+.2f})."
        )
    return lines


def tables(document: Mapping[str, Any]) -> str:
    runs = document["runs"]
    one = next(iter(runs[0]["default"].values()))
    return "\n".join(
        [
            f"Chosen on {one['chosen_on']} validation images, reported on {one['reported_on']} others; points of "
            "accuracy gained over the midpoint, with the 95 % bootstrap interval. Bold: the place that was taken. "
            "Where the midpoint was kept, the place with the best value on the choosing half follows.",
            "",
            *gains_table(runs),
            "",
            *summary_lines(runs),
            "",
            "Accuracy (%) on the reporting half, mean ± sample standard deviation over seeds, with BatchNorm "
            "recomputed from training images and from the unlabelled half of the domain on which is chosen:",
            "",
            *recalibration_table(runs),
        ]
    )


@click.command()
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--severity", type=click.IntRange(1, 5), default=3, show_default=True)
def main(seeds: str, severity: int) -> None:
    """Choose for every corruption with each seed's line; write docs/selection.json and the tables."""
    runs = json.loads(DOCUMENT.read_text(encoding="utf-8"))["runs"] if DOCUMENT.exists() else []
    for seed in (int(seed) for seed in seeds.split(",")):
        if all(run["seed"] != seed for run in runs):
            runs.append(measure(seed, severity))
            write_text(DOCUMENT, json.dumps({"runs": runs, **environment()}, indent=1) + "\n")
    replace_tables(TABLES, f"\n\n{tables({'runs': runs})}\n\n", BEGIN, END)


if __name__ == "__main__":
    main()
