"""How fast the service is, and what it withstands: `python -m benchmarks.serving`.

Prints one JSON document. Every server runs on this machine with one worker and one thread of ONNX Runtime per graph,
without a log line for each request, and on the event loop and the HTTP parser that uvicorn finds installed, which the
document names. All serve the same bundle: random weights of `--architecture` on 32x32 pixels. Servers take turns, and
are suspended between them. Before it is measured, each must give the network's own answer.

- `binary`: one image as raw pixels, by the Open Inference Protocol's binary tensors both ways, against Starlette with
  ONNX Runtime and nothing else: the faster of running the graph on the event loop and on a thread.
- `grpc`: the same image over gRPC, 16 calls at once on one connection, against the service's own `binary`.
- `image`: one PNG file in a form, against a plain BentoML service; `json`: one image as nested lists, against the same
  and against LitServe. `bentoml` runs its methods on one thread, its default, `bentoml_threads` on as many as this
  service runs graphs at once.
- `promises`: a point asked as in `binary`, with `coverage`, with `max_risk` and with neither: seconds of the worker's
  processor a request, and requests a second.
- `ensemble`: requests of several images to an ensemble of two, against one of its members: requests a second, seconds
  of graphs by the service's own metrics, latency of one client; and how often a request's images were decoded.
- `latency`: the 99th percentile over the median, for single images that arrive at random times, at half the rate that
  the service can take.
- `overload`: at four times the rate that it can take, how many requests are still answered, over that rate; the others
  must get 429. Requests have many images, so that sending them costs little compared with answering them.
- `memory`: seconds from `subspace-serve serve` to `/readyz`, the worker's resident bytes when every model has answered,
  and their growth over many requests of all kinds, faulty ones among them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.export import CHANNELS, CLASSES, SIDE, Exporter
from benchmarks.measure import environment, report, synthetic_images
from benchmarks.servers.comparisons import (
    measure_binary,
    measure_ensemble,
    measure_image,
    measure_json,
    measure_promises,
)
from benchmarks.servers.endurance import measure_latency, measure_memory, measure_overload
from benchmarks.servers.plan import CONNECTIONS, Plan
from benchmarks.servers.transports import measure_grpc
from subspace_serve.data import MemoryImages

LABELLED = 2000
"""Images that the bundle's promises are calibrated on."""
PACKAGES = ("bentoml", "grpc", "h11", "httptools", "litserve", "onnxruntime", "starlette", "uvicorn", "uvloop")

PARTS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "binary": measure_binary,
    "grpc": measure_grpc,
    "image": measure_image,
    "json": measure_json,
    "promises": measure_promises,
    "ensemble": measure_ensemble,
    "latency": measure_latency,
    "overload": measure_overload,
    "memory": measure_memory,
}


def installed_versions() -> dict[str, str]:
    """Return the versions of those packages that serve and are installed."""
    found = metadata.packages_distributions()
    return {name: metadata.version(found[name][0]) for name in PACKAGES if name in found}


def labelled_by(exporter: Exporter, side: int = SIDE) -> MemoryImages:
    """Return images labelled as the midpoint answers them, but for a tenth: sets are then as small as in use."""
    network = exporter.network
    images = synthetic_images(LABELLED, side, side, CHANNELS, CLASSES)
    statistics = network.recalibrate(exporter.calibration.pixels(), alpha=0.5)
    labels = network.at(0.5, statistics).logits_of(images).argmax(axis=1)
    labels[::10] = images.labels[::10]
    return MemoryImages(images.pixels, labels)


@click.command()
@click.option("--only", metavar="PART,…", help=f"Of {', '.join(PARTS)}; all unless given.")
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True, help="10 or more to quote.")
@click.option("--seconds", type=click.IntRange(1), default=3, show_default=True, help="Of each burst.")
@click.option("--requests", type=click.IntRange(1), default=100_000, show_default=True, help="For the memory's growth.")
@click.option("--architecture", default="cresnet20-16", show_default=True)
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), help="Serve this bundle and export none.")
@click.option("--json", "json_file", metavar="FILE", help="Write the report to a file, too.")
def main(
    only: str | None,
    rounds: int,
    seconds: int,
    requests: int,
    architecture: str,
    bundle: Path | None,
    json_file: str | None,
) -> None:
    """Measure the service against others, its ensembles, latency and memory, and overload; print JSON."""
    parts = only.split(",") if only else list(PARTS)
    if unknown := set(parts) - set(PARTS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", param_hint="--only")
    document: dict[str, Any] = {"benchmark": "serving", **environment()}
    document["versions"] |= installed_versions()
    document["settings"] = {
        "model": "the given bundle's" if bundle else architecture,
        "rounds": rounds,
        "seconds": seconds,
        "connections": CONNECTIONS,
        "workers": 1,
        "threads_per_graph": 1,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if bundle is None:
            torch.manual_seed(0)
            bundle = folder / "bundle"
            exporter = Exporter(architecture)
            exporter.export(bundle, "midpoint", "endpoints", labelled=labelled_by(exporter))
        plan = Plan(bundle.absolute(), folder, rounds, seconds, requests)
        for part in parts:
            document[part] = PARTS[part](plan)
    report(document, json_file)


if __name__ == "__main__":
    main()
