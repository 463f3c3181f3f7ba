"""The drift alarm: false alarms, delays and cost: `python -m benchmarks.drift BUNDLE --data SPEC`.

Clean images are answered once by each model; calibration images and streams are drawn from their statistics, with
replacement, so that they are exchangeable by construction. Prints one JSON document, or tables.

- `false`: the share of streams of clean images that ever raise an alarm, with Clopper and Pearson's interval of 95 %.
- `delay`: how many corrupted images an alarm takes, for each corruption and severity, after so many clean ones. No
  stream is watched for more than `--patience` corrupted images.
- `slow`: the same for a corruption whose share grows linearly from nothing to all.
- `disorder`: alarms over clean images in an order that is not exchangeable: sorted by class, each several times in a
  row, and one image for ever.
- `cost`: the processor time of a request to a running service with random weights, over that without the alarm.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from scipy.stats import binomtest

from benchmarks.decisions import images_for
from benchmarks.drift_streams import Draw, Streams, drawn_from
from benchmarks.export import Exporter
from benchmarks.measure import at_most, environment, interleaved, ratio, summary
from benchmarks.servers import Running, subspace_serve
from benchmarks.servers.asking import inference
from benchmarks.servers.plan import Plan, awake
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Predictor
from subspace_serve.cli.output import json_option, print_table, progress_line, write_report
from subspace_serve.client.wire import HttpRequest
from subspace_serve.data import Images
from subspace_serve.data.corruptions import available
from subspace_serve.data.domains import corrupted_domains
from subspace_serve.drift import bins_of, mean_intensities, values_of

PARTS = ("false", "delay", "slow", "disorder", "cost")
BEFORE = (0, 1_000, 10_000)
SLOW = ("brightness:3", "gaussian_noise:3", "jpeg_compression:3")
SLOW_IMAGES = (1_000, 10_000, 100_000)
IN_A_ROW = 10
COST_LIMIT = 1.02
_BATCH = 250


def binned(predictor: Predictor, models: Sequence[str], images: Images) -> dict[str, np.ndarray]:
    """Return the bins (S, N) of the statistics of each model's answers."""
    found: dict[str, list[np.ndarray]] = {model: [] for model in models}
    for pixels, _ in images.batches(_BATCH):
        intensities = mean_intensities(pixels)
        for model in models:
            answer = predictor.predict(pixels, predictor.select(model))
            found[model].append(bins_of(values_of(answer.probabilities, answer.disagreement, intensities)))
    return {model: np.concatenate(parts, axis=1) for model, parts in found.items()}


def begun(pool: np.ndarray, streams: int, calibration: int, random: np.random.Generator) -> Streams:
    """Return streams that are compared with calibration images of the pool."""
    return Streams.begin(drawn_from(pool, streams, random)(0, calibration))


def false_alarms(pool: np.ndarray, streams: int, calibration: int, images: int, seed: int) -> dict[str, Any]:
    """Return the share of streams of clean images that ever raise an alarm."""
    random = np.random.default_rng(seed)
    after = begun(pool, streams, calibration, random).after(images, drawn_from(pool, streams, random), random)
    return alarmed(after.alarms > 0) | {"images": images}


def alarmed(raised: np.ndarray) -> dict[str, Any]:
    """Return the share of streams that raised an alarm, and its interval."""
    count = int(raised.sum())
    interval = binomtest(count, len(raised)).proportion_ci(0.95)
    return {
        "streams": len(raised),
        "alarms": count,
        "share": count / len(raised),
        "interval": [interval.low, interval.high],
    }


def delays(
    clean: np.ndarray, changed: Mapping[str, np.ndarray], streams: int, calibration: int, patience: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return the delays for each kind of changed images, by how many clean ones there were before."""
    found: dict[str, dict[str, Any]] = {name: {} for name in changed}
    for before in BEFORE:
        random = np.random.default_rng(seed)
        streams_then = begun(clean, streams, calibration, random).after(
            before, drawn_from(clean, streams, random), random
        )
        for name, pool in changed.items():
            own = np.random.default_rng([seed, before])
            found[name][str(before)] = late(streams_then.delays(patience, drawn_from(pool, streams, own), own))
    return found


def late(delay: np.ndarray) -> dict[str, Any]:
    """Return the median and the 90 % quantile of delays, None beyond patience, and how many streams had an alarm."""
    median, most = (float(value) for value in np.quantile(delay, [0.5, 0.9], method="higher"))
    return {
        "median": None if np.isinf(median) else int(median),
        "90 %": None if np.isinf(most) else int(most),
        "alarms": int(np.isfinite(delay).sum()),
    }


def growing(clean: Draw, changed: Draw, images: int, random: np.random.Generator) -> Draw:
    """Draw changed images with a probability that grows from 0 to 1 over so many images."""

    def draw(begin: int, end: int) -> np.ndarray:
        own, other = clean(begin, end), changed(begin, end)
        share = np.minimum(np.arange(begin, end) / images, 1)
        return np.where(random.random((len(own), 1, end - begin)) < share, other, own)

    return draw


def slow_drift(
    clean: np.ndarray, changed: Mapping[str, np.ndarray], streams: int, calibration: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return the delays for a share of changed images that grows, by how long it does, and so long once it is 1."""
    found: dict[str, dict[str, Any]] = {name: {} for name in changed}
    for name, pool in changed.items():
        for images in SLOW_IMAGES:
            random = np.random.default_rng([seed, images])
            draw = growing(drawn_from(clean, streams, random), drawn_from(pool, streams, random), images, random)
            delay = begun(clean, streams, calibration, random).delays(images, draw, random)
            found[name][str(images)] = late(delay)
    return found


def disordered(
    pool: np.ndarray, labels: np.ndarray, streams: int, calibration: int, images: int, seed: int
) -> dict[str, Any]:
    """Return the alarms over clean images in orders that are not exchangeable."""
    found = {}
    for kind in ("sorted by class", f"each {IN_A_ROW} times in a row", "one image for ever"):
        random = np.random.default_rng(seed)
        start = begun(pool, streams, calibration, random)
        chosen = random.integers(0, len(labels), (streams, images))
        if kind.startswith("sorted"):
            chosen = np.take_along_axis(chosen, np.argsort(labels[chosen], axis=1, kind="stable"), axis=1)
        elif kind.startswith("each"):
            chosen = np.repeat(chosen, IN_A_ROW, axis=1)[:, :images]
        else:
            chosen = np.repeat(chosen[:, :1], images, axis=1)
        bins = np.moveaxis(pool[:, chosen], 0, 1)
        delay = start.delays(images, lambda begin, end, bins=bins: bins[..., begin:end], random)  # type: ignore[misc]
        found[kind] = late(delay) | alarmed(np.isfinite(delay))
    return found


def cost(rounds: int, seconds: int, architecture: str) -> dict[str, Any]:
    """Return the processor time of a request of 1 and of 16 images, and what it is over that without the alarm.

    Unlike the time that passes, it hardly depends on what else the machine does.
    """
    found: dict[str, Any] = {"architecture": architecture, "rounds": rounds}
    with tempfile.TemporaryDirectory() as name:
        torch.manual_seed(0)
        bundle = Path(name) / "bundle"
        Exporter(architecture).export(bundle, "midpoint", "endpoints")
        plan = Plan(bundle, Path(name), rounds, seconds, 0)
        with plan.started(on=subspace_serve(), off=subspace_serve("--no-drift")) as servers:
            for model in ("midpoint", "endpoints"):
                for images in (1, 16):
                    request = inference(plan.pixels[:images], model)
                    spent = _spent(plan, servers, request)
                    found[f"{model}, {images}"] = {
                        "ratio": at_most(COST_LIMIT, ratio(spent["on"], spent["off"])),
                        "seconds": {key: summary(own) for key, own in spent.items()},
                    }
    return found


def _spent(plan: Plan, servers: Mapping[str, Running], request: HttpRequest) -> dict[str, list[float]]:
    """Return the seconds of a processor that each server spends on a request, one figure a round; they take turns."""
    spent: dict[str, list[float]] = {name: [] for name in servers}

    def turn(name: str) -> None:
        with awake(servers[name]) as server:
            before = sum(server.worker().cpu_times()[:2])
            requests = plan.burst(server, request, connections=2).requests
            spent[name].append((sum(server.worker().cpu_times()[:2]) - before) / requests)

    interleaved({name: lambda name=name: turn(name) for name in servers}, rounds=plan.rounds, warm_up=1)  # type: ignore[misc]
    return {name: own[1:] for name, own in spent.items()}


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", "specs", metavar="SPEC", multiple=True, required=True, help="Clean images that chose nothing.")
@click.option("--only", metavar="PART,…", help=f"Of {', '.join(PARTS)}; all unless given.")
@click.option("--model", "models", multiple=True, default=("midpoint", "endpoints"), show_default=True)
@click.option("--streams", type=click.IntRange(1), default=200, show_default=True, help="Of clean images.")
@click.option("--images", type=click.IntRange(1), default=100_000, show_default=True, help="In each of these.")
@click.option("--changes", type=click.IntRange(1), default=50, show_default=True, help="Streams for each change.")
@click.option("--calibration", type=click.IntRange(0), default=6000, show_default=True, help="Calibration images.")
@click.option("--corrupted", type=click.IntRange(1), default=1000, show_default=True, help="Different ones of a kind.")
@click.option("--patience", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--corruption", "corruptions", multiple=True, help="[default: all that are available]")
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True, help="Of the cost.")
@click.option("--seconds", type=click.IntRange(1), default=3, show_default=True, help="Of each of these.")
@click.option("--architecture", default="cresnet8-16", show_default=True, help="Of the cost.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def main(
    bundle: Path,
    specs: Sequence[str],
    only: str | None,
    models: Sequence[str],
    streams: int,
    images: int,
    changes: int,
    calibration: int,
    corrupted: int,
    patience: int,
    corruptions: Sequence[str],
    rounds: int,
    seconds: int,
    architecture: str,
    seed: int,
    json_file: str | None,
) -> None:
    """Measure a bundle's alarms."""
    parts = only.split(",") if only else list(PARTS)
    if unknown := set(parts) - set(PARTS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", param_hint="--only")
    document: dict[str, Any] = {"data": list(specs), "calibration": calibration, "seed": seed, **environment()}
    if "cost" in parts:
        document["cost"] = cost(rounds, seconds, architecture)
    if set(parts) != {"cost"}:
        predictor = Predictor(Bundle.open(bundle), device="cpu", threads=1)
        sets = [images_for(predictor, spec) for spec in specs]
        labels = np.concatenate([own.labels for own in sets])
        by_set = [binned(predictor, models, own) for own in sets]
        clean = {model: np.concatenate([own[model] for own in by_set], axis=1) for model in models}
        progress_line(f"{len(labels)} clean images answered")
        changed: dict[str, dict[str, np.ndarray]] = {model: {} for model in models}
        if {"delay", "slow"} & set(parts):
            chosen = np.random.default_rng(seed).choice(len(sets[0]), min(corrupted, len(sets[0])), replace=False)
            kinds = corruptions or available()
            for domain in corrupted_domains(sets[0].subset(np.sort(chosen)), specs[0], kinds, (1, 2, 3, 4, 5)):
                for model, own in binned(predictor, models, domain.images).items():
                    changed[model][domain.name] = own
                progress_line(f"{domain.name} answered")
    for part in (part for part in PARTS if part in parts and part != "cost"):
        document[part] = {}
        for model in models:
            own = clean[model]
            if part == "false":
                found = false_alarms(own, streams, calibration, images, seed)
            elif part == "delay":
                found = delays(own, changed[model], changes, calibration, patience, seed)
            elif part == "slow":
                slow = {name: changed[model][name] for name in SLOW if name in changed[model]}
                found = slow_drift(own, slow, changes, calibration, seed)
            else:
                found = disordered(own, labels, changes, calibration, min(images, 10_000), seed)
            document[part][model] = found
            progress_line(f"{part}: {model}")
    if write_report(document, json_file):
        _print(document)


def _print(document: Mapping[str, Any]) -> None:
    for model, own in document.get("false", {}).items():
        low, high = own["interval"]
        click.echo(
            f"{model}: {own['alarms']} of {own['streams']} streams of {own['images']} clean images raised an alarm "
            f"({100 * own['share']:.1f} %; {100 * low:.1f} to {100 * high:.1f} %)"
        )
    for part, column in (("delay", "clean images before"), ("slow", "images until all are changed")):
        for model, own in document.get(part, {}).items():
            columns = list(next(iter(own.values())))
            click.echo(f"{model}: median (90 %) delay in images, by {column}")
            print_table(
                ["", *columns], [[name, *(_delay(found[key]) for key in columns)] for name, found in own.items()]
            )
    for model, own in document.get("disorder", {}).items():
        click.echo(f"{model}: clean images, not exchangeable")
        rows = [[name, f"{found['alarms']} of {found['streams']}", _delay(found)] for name, found in own.items()]
        print_table(["", "alarms", "median (90 %) image"], rows)
    if "cost" in document:
        click.echo(f"cost: {document['cost']}")


def _delay(found: Mapping[str, Any]) -> str:
    median, most = ("–" if found[key] is None else str(found[key]) for key in ("median", "90 %"))
    return f"{median} ({most})"


if __name__ == "__main__":
    main()
