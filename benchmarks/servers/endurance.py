"""What the service withstands: load, overload, and many requests."""

from __future__ import annotations

from typing import Any

import click

from benchmarks.measure import at_least, at_most, ratio, summary
from benchmarks.servers import Running, running, subspace_serve
from benchmarks.servers.asking import inference, nested_lists, png, post, upload
from benchmarks.servers.plan import Plan
from subspace_serve.bench.load import LoadReport, run_load
from subspace_serve.bundle import Bundle
from subspace_serve.client.wire import HttpRequest

OVERLOAD_IMAGES = 32
OVERLOAD = 4.0
BEYOND = 1.5
SETTLED = 0.02  # fraction of the requests after which memory is first compared

TAIL_LIMIT = 5.0
GOODPUT_TARGET = 0.9
READY_LIMIT = 4.0
WORKER_LIMIT = 250e6
GROWTH_LIMIT = 0.03


def measure_latency(plan: Plan) -> dict[str, Any]:
    """Return the 99th percentile of latency over the median, at half the load that the service can take."""
    _, loads = loaded_beside(plan, inference(plan.image, plan.model), share=0.5)
    latencies = [load.latency for load in loads]
    tails, medians = ([latency[name] for latency in latencies] for name in ("p99", "p50"))
    return {
        "median_seconds": summary(medians),
        "p99_seconds": summary(tails),
        "refused_share": summary([load.statuses.get(429, 0) / load.requests for load in loads]),
        "generator_fell_behind": sum(load.fell_behind for load in loads),
        "p99_over_median": at_most(TAIL_LIMIT, ratio(tails, medians)),
    }


def measure_overload(plan: Plan) -> dict[str, Any]:
    """Return the rate of answers under four times the load that the service can take, over that load."""
    saturations, loads = loaded_beside(plan, inference(plan.pixels[:OVERLOAD_IMAGES], plan.model), share=OVERLOAD)
    return {
        "images_per_request": OVERLOAD_IMAGES,
        "saturation_per_second": summary(saturations),
        "refused_share": summary([load.statuses.get(429, 0) / load.requests for load in loads]),
        "generator_fell_behind": sum(load.fell_behind for load in loads),
        "goodput_over_saturation": at_least(GOODPUT_TARGET, ratio([load.throughput for load in loads], saturations)),
    }


def loaded_beside(plan: Plan, request: HttpRequest, *, share: float) -> tuple[list[float], list[LoadReport]]:
    """Return, for each round, the rate that the service can take, and what it does with `share` times that rate.

    What it can take is the higher of two rates of answers: to clients that wait for each answer, and to requests that
    arrive at random times, 1.5 times as often, since a server may be idle between an answer and the next request.
    """
    saturations, loads = [], []
    with running(subspace_serve(), plan.bundle) as server:
        plan.burst(server, request)
        for index in range(plan.rounds):
            waiting = plan.burst(server, request).rate
            beyond = _loaded(server, request, BEYOND * waiting, plan.seconds, seed=index)
            saturations.append(max(waiting, beyond.throughput))
            loads.append(_loaded(server, request, share * saturations[-1], 2 * plan.seconds, seed=index))
            click.echo(f"round {index + 1} of {plan.rounds}: {share:g} of {saturations[-1]:.0f} a second", err=True)
    return saturations, loads


def _loaded(server: Running, request: HttpRequest, rate: float, seconds: float, *, seed: int) -> LoadReport:
    """Send requests at a rate. Raises `click.ClickException` unless each was answered 200 or refused with 429."""
    load = run_load(f"http://127.0.0.1:{server.port}", [request], rate=rate, duration=seconds, seed=seed)
    if load.errors or set(load.statuses) - {200, 429}:
        raise click.ClickException(f"{request.path}, {rate:.0f} a second: {dict(load.statuses)} {dict(load.errors)}")
    return load


def measure_memory(plan: Plan) -> dict[str, Any]:
    """Return how soon the service is ready, how much memory its worker holds, and how that grows."""
    ready, resident = [], []
    for index in range(plan.rounds):
        with running(subspace_serve(), plan.bundle) as server:
            ready.append(server.ready_seconds)
            ask_every_model(server, plan)
            resident.append(float(server.worker().memory_info().rss))
        click.echo(f"round {index + 1} of {plan.rounds}: start", err=True)
    with running(subspace_serve(), plan.bundle) as server:
        ask_every_model(server, plan)
        worker = server.worker()
        held = [(0, worker.memory_info().rss)]
        while held[-1][0] < plan.requests:
            seen = plan.burst(server, *requests_of_all_kinds(plan), may_refuse=True)
            held.append((held[-1][0] + seen.requests, worker.memory_info().rss))
            click.echo(f"{held[-1][0]} of {plan.requests} requests: {held[-1][1]} bytes", err=True)
    settled = next(held_bytes for count, held_bytes in held if count >= SETTLED * plan.requests)
    return {
        "ready_seconds": at_most(READY_LIMIT, summary(ready)),
        "worker_bytes": at_most(WORKER_LIMIT, summary(resident)),
        "requests": held[-1][0],
        "growth": at_most(GROWTH_LIMIT, summary([held[-1][1] / settled - 1])),
        "worker_bytes_after_requests": held,
    }


def ask_every_model(server: Running, plan: Plan) -> None:
    """Have every point and ensemble answer once."""
    bundle = Bundle.open(plan.bundle)
    with server.client() as client:
        for model in (*bundle.points, *bundle.ensembles):
            request = inference(plan.pixels[:16], model)
            client.post(request.path, content=request.body, headers=request.headers).raise_for_status()


def requests_of_all_kinds(plan: Plan) -> list[HttpRequest]:
    """Return requests of every kind that the service answers, and of some that it refuses."""
    bundle = Bundle.open(plan.bundle)
    file = png(plan.image[0])
    return [
        *(
            inference(plan.pixels[:count], model)
            for count in (1, 3, 8)
            for model in (*bundle.points, *bundle.ensembles)
        ),
        nested_lists(plan.image),
        nested_lists(plan.pixels[:2], members=list(bundle.points), return_members=True),
        upload(file),
        upload(file, model=next(iter(bundle.ensembles)), top_k="3"),
        upload(file[:-20]),
        nested_lists(plan.image[:, :-1]),
        nested_lists(plan.image, model="nobody"),
        post("/predict", b'{"images": [', "application/json"),
        post("/nowhere", b"{}", "application/json"),
    ]
