"""The service at places of a subspace: at cached ones, at new ones, and at very many of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.export import Exporter
from benchmarks.measure import at_least, at_most, interleaved, ratio, summary
from benchmarks.servers import Running, running, subspace_serve
from benchmarks.servers.asking import inference
from benchmarks.servers.plan import Plan
from subspace_serve.bench.load import run_load
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.subspace import BundledSubspace
from subspace_serve.client.wire import HttpRequest

STEP = 1e-6
KEPT_PLACES = 4
FLOOD_PLACES = 200
SETTLED = 500  # evictions after which memory is first compared
EVERY = 500

CACHED_TARGET = 0.97
FIRST_LIMIT, LARGE_FIRST_LIMIT = 0.04, 0.5
FLOOD_LIMIT = 1.5
GROWTH_LIMIT = 0.03


@dataclass(frozen=True)
class Networks:
    """What is measured, how often and for how long. Bundles are made in the folder `bundles` unless they exist."""

    bundles: Path
    folder: Path
    architecture: str
    large: str
    large_side: int
    small: str
    rounds: int
    seconds: int
    places: int
    evictions: int

    @cached_property
    def usual_bundle(self) -> Path:
        """The bundle for most parts, with images of 32 pixels a side."""
        return self._bundle(self.architecture, 32, 128)

    @cached_property
    def large_bundle(self) -> Path | None:
        """The bundle of the large network; None if it is left out."""
        return self._bundle(self.large, self.large_side, 16) if self.large else None

    @cached_property
    def small_bundle(self) -> Path:
        """The bundle for the evictions."""
        return self._bundle(self.small, 8, 128)

    def plan(self, bundle: Path) -> Plan:
        return Plan(bundle, self.folder, self.rounds, self.seconds, 0)

    def _bundle(self, architecture: str, side: int, images: int) -> Path:
        bundle = self.bundles / f"{architecture}-{side}"
        if bundle.exists():
            return bundle
        torch.manual_seed(0)
        click.echo(f"exporting {architecture} at {side} pixels", err=True)
        exporter = Exporter(architecture, side=side, images=2 * images, calibration=images)
        exporter.export(bundle, "midpoint", "endpoints", checkpoint=bundle.with_suffix(".safetensors"))
        return bundle


def measure_cached(networks: Networks) -> dict[str, Any]:
    """Return the rate at a cached place, over that of a named point."""
    plan = networks.plan(networks.usual_bundle)
    requests = {"point": inference(plan.image, plan.model), "place": inference(plan.image, plan.model, alpha=0.3)}
    rates: dict[str, list[float]] = {name: [] for name in requests}
    processor: dict[str, list[float]] = {name: [] for name in requests}
    with running(subspace_serve(), plan.bundle) as server:
        worker = server.worker()

        def turn(name: str) -> None:
            before = sum(worker.cpu_times()[:2])
            burst = plan.burst(server, requests[name])
            rates[name].append(burst.rate)
            processor[name].append((sum(worker.cpu_times()[:2]) - before) / burst.requests)

        interleaved({name: partial(turn, name) for name in requests}, rounds=plan.rounds, warm_up=1)
    place, point = rates["place"][1:], rates["point"][1:]
    return {
        "requests_per_second": {"point": summary(point), "place": summary(place)},
        "processor_seconds": {name: summary(values[1:]) for name, values in processor.items()},
        "processor_ratio": ratio(processor["place"][1:], processor["point"][1:]),
        "cached place to named point, requests a second": at_least(CACHED_TARGET, ratio(place, point)),
    }


def measure_first(networks: Networks) -> dict[str, Any]:
    """Return the seconds of requests at new places."""
    bundles = {networks.usual_bundle: FIRST_LIMIT} | (
        {networks.large_bundle: LARGE_FIRST_LIMIT} if networks.large_bundle else {}
    )
    figures = {}
    for bundle, limit in bundles.items():
        plan = networks.plan(bundle)
        with running(subspace_serve("--threads=0", f"--alpha-step={STEP}"), bundle) as server:
            asked = _asked(server, plan)
            # The very first request also parses the skeleton.
            after_start, before = next(asked), sum(server.worker().cpu_times()[:2])
            seconds = list(islice(asked, networks.places))
            processor = sum(server.worker().cpu_times()[:2]) - before
        figures[f"{bundle.name}, first answer at a new place, s"] = at_most(limit, summary(seconds)) | {
            "p90": float(f"{np.percentile(seconds, 90):.4g}"),
            "after_start": float(f"{after_start:.4g}"),
            "processor_seconds": float(f"{processor / len(seconds):.4g}"),
        }
    return figures


def _asked(server: Running, plan: Plan) -> Iterator[float]:
    """Ask for one new place after another; yield the seconds of each answer."""
    with server.client() as client:
        for alpha in new_places():
            request = inference(plan.image, plan.model, alpha=alpha)
            started = time.perf_counter()
            client.post(request.path, content=request.body, headers=request.headers).raise_for_status()
            yield time.perf_counter() - started


def new_places() -> Iterator[float]:
    """Yield places of a line, none twice and none close to the previous one."""
    golden = (5**0.5 - 1) / 2
    return (round((0.1 + golden * index) % 1, 6) for index in count())


def measure_flood(networks: Networks) -> dict[str, Any]:
    """Return a named point's 99th percentile of latency while new places are built, over that without builds."""
    plan = networks.plan(networks.usual_bundle)
    request = inference(plan.image, plan.model)
    flood = [inference(plan.image, plan.model, alpha=alpha) for alpha in islice(new_places(), FLOOD_PLACES)]
    tails: dict[str, list[float]] = {"alone": [], "beside builds": []}
    built: list[float] = []
    # Room for one network only: each place of the flood is new whenever its turn comes.
    with running(subspace_serve("--alpha-memory=1", f"--alpha-step={STEP}"), plan.bundle) as server:
        rate = plan.burst(server, request).rate / 4

        def alone() -> None:
            tails["alone"].append(_tail(server, request, rate, plan.seconds))

        def beside() -> None:
            with ThreadPoolExecutor(1) as pool:
                # Outlasts the load it runs beside, which takes twice `seconds`.
                longer = replace(plan, seconds=2 * plan.seconds + 2)
                building = pool.submit(longer.burst, server, *flood, connections=1)
                tails["beside builds"].append(_tail(server, request, rate, plan.seconds))
                built.append(building.result().rate)

        interleaved({"alone": alone, "beside builds": beside}, rounds=plan.rounds, warm_up=1)
    return {
        "requests_per_second": rate,
        "places_built_per_second": summary(built[1:]),
        "p99_seconds": {name: summary(values[1:]) for name, values in tails.items()},
        "p99 of a named point while places are built, to without": at_most(
            FLOOD_LIMIT, ratio(tails["beside builds"][1:], tails["alone"][1:])
        ),
    }


def _tail(server: Running, request: HttpRequest, rate: float, seconds: float) -> float:
    load = run_load(f"http://127.0.0.1:{server.port}", [request], rate=rate, duration=2 * seconds)
    if load.errors or set(load.statuses) - {200, 429}:
        raise click.ClickException(f"{rate:.0f} requests a second: {dict(load.statuses)} {dict(load.errors)}")
    return load.latency["p99"]


def measure_evictions(networks: Networks) -> dict[str, Any]:
    """Return how the resident set grows while new places evict old ones."""
    bundle = networks.small_bundle
    memory = KEPT_PLACES * BundledSubspace(Bundle.open(bundle), device="cpu").session_bytes
    settled = min(SETTLED, networks.evictions // 2)
    held = []
    with running(subspace_serve(f"--alpha-memory={memory}", f"--alpha-step={STEP}"), bundle) as server:
        worker = server.worker()
        asked = islice(_asked(server, networks.plan(bundle)), KEPT_PLACES, KEPT_PLACES + networks.evictions)
        for number, _ in enumerate(asked, start=1):
            if number % EVERY == 0 or number in (settled, networks.evictions):
                held.append((number, worker.memory_info().rss))
                click.echo(f"{held[-1][0]} evictions: {held[-1][1]} bytes", err=True)
    growth = held[-1][1] / dict(held)[settled] - 1
    return {
        "evictions": networks.evictions,
        "worker_bytes": held,
        f"resident set's growth from eviction {settled} on": at_most(GROWTH_LIMIT, summary([growth])),
    }
