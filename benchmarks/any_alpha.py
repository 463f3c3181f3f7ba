"""The cost of answering at any place of a subspace, and of adding a domain: `python -m benchmarks.any_alpha`.

Prints a table of figures and targets. Every server runs on this machine with one worker, on a bundle of untrained
weights with its subspace; requests have one image, as the Open Inference Protocol's binary tensors both ways.

- `cached`: requests per second at a place that was built before, over those of a named point; they take turns.
- `first`: seconds of a request at a new place, with all cores; one after another.
- `flood`: the 99th percentile of a named point at a quarter of what the service takes, while another client asks for
  one new place after another, over the same without that client; they take turns.
- `evictions`: how the resident set grows while a cache with room for four networks takes in one new place after
  another.
- `adapt`: seconds to adapt to a domain's 128 images, at all knots of a line and at one.
- `sizes`: the bytes of a set of statistics, over those of the rest of the bundle.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.measure import at_most, environment, interleaved, summary, synthetic_images
from benchmarks.servers.places import Networks, measure_cached, measure_evictions, measure_first, measure_flood
from subspace_serve.adapt import adapt
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.manifest import TRAINING
from subspace_serve.bundle.subspace import BundledSubspace
from subspace_serve.cli.output import write_json
from subspace_serve.network.statistics_set import compute_statistics, even_batches

DOMAIN_IMAGES = 128

ADAPT_LIMIT, KNOT_LIMIT = 30.0, 2.0
SIZE_LIMIT = 0.05


def measure_adapt(networks: Networks) -> dict[str, Any]:
    """Return the seconds that adapting to a domain's images takes."""
    subspace = BundledSubspace(Bundle.open(networks.usual_bundle), device="cpu")
    images = synthetic_images(DOMAIN_IMAGES, *subspace.bundle.manifest.input.shape, subspace.network.classes)
    seconds = interleaved(
        {
            "all": lambda: adapt(subspace, images, name="noise", data="noise"),
            "one": lambda: compute_statistics(subspace.network, lambda: even_batches(images.pixels), only=[0.5]),
        },
        rounds=networks.rounds,
        warm_up=1,
    )
    return {
        f"adapt with {DOMAIN_IMAGES} images, all knots, s": at_most(ADAPT_LIMIT, summary(seconds["all"])),
        f"statistics of {DOMAIN_IMAGES} images at one knot, s": at_most(KNOT_LIMIT, summary(seconds["one"])),
    }


def measure_sizes(networks: Networks) -> dict[str, Any]:
    """Return what a set of statistics adds to a bundle."""
    bundle = networks.large_bundle or networks.usual_bundle
    record = Bundle.open(bundle).manifest.subspace
    assert record is not None
    own = (bundle / record.statistics[TRAINING].file).stat().st_size
    whole = sum(file.stat().st_size for file in bundle.iterdir())
    return {
        "statistics_bytes": own,
        "bundle_bytes": whole,
        f"{bundle.name}, a set of statistics to the bundle without, bytes": at_most(
            SIZE_LIMIT, summary([own / (whole - own)])
        ),
    }


PARTS: dict[str, Callable[[Networks], dict[str, Any]]] = {
    "cached": measure_cached,
    "first": measure_first,
    "flood": measure_flood,
    "evictions": measure_evictions,
    "adapt": measure_adapt,
    "sizes": measure_sizes,
}


def table(document: dict[str, Any]) -> list[str]:
    """Return the figures that have a target, as Markdown."""
    lines = ["| figure | median (quartiles) | target | reached |", "|---|---|---|---|"]
    for part in PARTS:
        for name, figure in document.get(part, {}).items():
            if not (isinstance(figure, dict) and "met" in figure):
                continue
            target = f"at most {figure['at_most']:g}" if "at_most" in figure else f"at least {figure['at_least']:g}"
            low, high = figure["quartiles"]
            tail = f", p90 {figure['p90']:g}, of a core {figure['processor_seconds']:g}" if "p90" in figure else ""
            spread = "" if low == high else f" ({low:g} to {high:g}{tail})"
            lines.append(f"| {name} | {figure['median']:g}{spread} | {target} | {'yes' if figure['met'] else 'no'} |")
    return lines


@click.command()
@click.option("--only", metavar="PART,…", help=f"Of {', '.join(PARTS)}; all unless given.")
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True, help="10 or more to quote.")
@click.option("--seconds", type=click.IntRange(1), default=3, show_default=True, help="Of each burst.")
@click.option("--places", type=click.IntRange(1), default=50, show_default=True, help="New ones, for the first answer.")
@click.option("--evictions", type=click.IntRange(2), default=10_000, show_default=True)
@click.option("--architecture", default="cresnet20-16", show_default=True)
@click.option("--large", default="resnet50", show_default=True, help="Measured too; an empty word leaves it out.")
@click.option("--large-side", type=click.IntRange(1), default=224, show_default=True, help="Pixels of its images.")
@click.option("--small", default="cresnet8-8", show_default=True, help="Whose places make room for each other.")
@click.option("--bundles", type=click.Path(path_type=Path), help="Keep the bundles here, and take up those that are.")
@click.option("--json", "json_file", metavar="FILE", help="Write all figures to a file, too.")
def main(only: str | None, bundles: Path | None, json_file: str | None, **settings: Any) -> None:
    """Measure the cost of any place of a subspace, in the service and in adapting to a domain; print a table."""
    parts = only.split(",") if only else list(PARTS)
    if unknown := set(parts) - set(PARTS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", param_hint="--only")
    document: dict[str, Any] = {"benchmark": "any_alpha", **environment(), "settings": settings}
    with tempfile.TemporaryDirectory() as name:
        networks = Networks(bundles or Path(name), Path(name), **settings)
        networks.bundles.mkdir(parents=True, exist_ok=True)
        for part in parts:
            document[part] = PARTS[part](networks)
    click.echo("\n".join(table(document)))
    if json_file:
        write_json(document, json_file)


if __name__ == "__main__":
    main()
