"""The service compared with others, and its ensembles with their members."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import click
import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.http_load import Burst
from benchmarks.measure import at_least, at_most, interleaved, ratio, summary
from benchmarks.servers import Running, Server, bare_starlette, lit_server, plain_bentoml, running, subspace_serve
from benchmarks.servers.asking import (
    Candidate,
    binary,
    inference,
    nested_lists,
    png,
    read_bytes,
    read_labels,
    read_probabilities,
    upload,
)
from benchmarks.servers.plan import Plan
from subspace_serve.bundle import Bundle
from subspace_serve.client.wire import HttpRequest

OWN = "subspace_serve"
GRAPHS_AT_ONCE = 2  # the service's default
ENSEMBLE_IMAGES = 8

BINARY_TARGET = 0.9
BENTOML_TARGET = 2.0
LITSERVE_TARGET = 1.5
ENSEMBLE_LIMIT = 2.05
PROMISE_LIMIT = 1.03


def measure_binary(plan: Plan) -> dict[str, Any]:
    """Return the service's rate for raw pixels, over that of the faster of a bare server's two routes."""
    with plan.started(own=subspace_serve(), bare=bare_starlette()) as servers:
        candidates = {OWN: Candidate(servers["own"], inference(plan.image, plan.model), read_bytes)} | {
            f"starlette_{way}": Candidate(servers["bare"], binary(plan.image, f"/{way}"), read_bytes)
            for way in ("inline", "threadpool")
        }
        bursts = plan.bursts(candidates)
        figures = rates(candidates, bursts)
    faster = max(set(bursts) - {OWN}, key=lambda name: figures["requests_per_second"][name]["median"])
    return figures | {"reference": faster, "to_reference": at_least(BINARY_TARGET, over(bursts, faster))}


def measure_image(plan: Plan) -> dict[str, Any]:
    """Return the service's rate for uploaded image files, over that of plain BentoML."""
    request = upload(png(plan.image[0]))
    return _measure_against(plan, request, bentoml=plain_bentoml(), bentoml_threads=plain_bentoml(GRAPHS_AT_ONCE))


def measure_json(plan: Plan) -> dict[str, Any]:
    """Return the service's rate for images in JSON, over those of plain BentoML and, if installed, LitServe."""
    servers = {"bentoml": plain_bentoml(), "bentoml_threads": plain_bentoml(GRAPHS_AT_ONCE)}
    if find_spec("litserve"):
        servers["litserve"] = lit_server()
    else:
        click.echo("LitServe is left out; pip install litserve brings it", err=True)
    return _measure_against(plan, nested_lists(plan.image), **servers)


def _measure_against(plan: Plan, request: HttpRequest, **others: Server) -> dict[str, Any]:
    targets = {"bentoml": BENTOML_TARGET, "litserve": LITSERVE_TARGET}
    with plan.started(**{OWN: subspace_serve()}, **others) as servers:
        candidates = {
            name: Candidate(server, request, read_labels if name == OWN else read_probabilities)
            for name, server in servers.items()
        }
        bursts = plan.bursts(candidates)
        figures = rates(candidates, bursts)
    for name in others:
        figure = over(bursts, name)
        figures[f"to_{name}"] = at_least(targets[name], figure) if name in targets else figure
    return figures


def rates(candidates: Mapping[str, Candidate], bursts: Mapping[str, list[Burst]]) -> dict[str, Any]:
    """Return what every comparison reports about its candidates, which must still be running."""
    return {
        "requests_per_second": {name: summary([own.rate for own in each]) for name, each in bursts.items()},
        "median_seconds": {name: summary([own.p50 for own in each]) for name, each in bursts.items()},
        "uvicorn": {name: candidate.server.loop_and_parser() for name, candidate in candidates.items()},
    }


def over(bursts: Mapping[str, list[Burst]], reference: str) -> dict[str, Any]:
    """Return the service's rate over another's, round by round."""
    return ratio(*([burst.rate for burst in bursts[name]] for name in (OWN, reference)))


def measure_ensemble(plan: Plan) -> dict[str, Any]:
    """Return what an ensemble of two costs, over what one of its members costs."""
    name, ensemble = next(
        (name, ensemble) for name, ensemble in Bundle.open(plan.bundle).ensembles.items() if len(ensemble.members) == 2
    )
    images = plan.pixels[:ENSEMBLE_IMAGES]
    requests = {"member": inference(images, ensemble.members[0]), "ensemble": inference(images, name)}
    bursts: dict[str, list[Burst]] = {which: [] for which in requests}
    alone: dict[str, list[Burst]] = {which: [] for which in requests}
    graph_seconds: dict[str, list[float]] = {which: [] for which in requests}
    decodes: dict[str, list[float]] = {which: [] for which in requests}
    with running(subspace_serve(), plan.bundle) as server:

        def turn(which: str) -> None:
            before = counted(server)
            bursts[which].append(plan.burst(server, requests[which]))
            after = counted(server)
            requests_seen = after["requests"] - before["requests"]
            graph_seconds[which].append((after["inference_seconds"] - before["inference_seconds"]) / requests_seen)
            decodes[which].append((after["decodes"] - before["decodes"]) / requests_seen)
            alone[which].append(plan.burst(server, requests[which], connections=1))

        turns = {which: lambda which=which: turn(which) for which in requests}
        interleaved(turns, rounds=plan.rounds, warm_up=1)

    def compared(values: Callable[[str], list[float]]) -> dict[str, Any]:
        return at_most(ENSEMBLE_LIMIT, ratio(values("ensemble")[1:], values("member")[1:]))

    return {
        "images_per_request": ENSEMBLE_IMAGES,
        "requests_per_second": {which: summary([own.rate for own in each[1:]]) for which, each in bursts.items()},
        "seconds_per_request": compared(lambda which: [1 / own.rate for own in bursts[which]]),
        "graph_seconds": compared(lambda which: graph_seconds[which]),
        "latency_of_one_client": compared(lambda which: [own.p50 for own in alone[which]]),
        "decodes_per_request": {which: summary(each[1:]) for which, each in decodes.items()},
    }


def measure_promises(plan: Plan) -> dict[str, Any]:
    """Return what prediction sets and abstaining cost, over the same request without."""
    options = {"neither": {}, "coverage": {"coverage": 0.9}, "max_risk": {"max_risk": 0.2}}
    requests = {which: inference(plan.image, plan.model, **asked) for which, asked in options.items()}
    bursts: dict[str, list[Burst]] = {which: [] for which in requests}
    seconds: dict[str, list[float]] = {which: [] for which in requests}
    with running(subspace_serve(), plan.bundle) as server:
        worker = server.worker()

        def turn(which: str) -> None:
            before, begin = counted(server), worker.cpu_times()
            bursts[which].append(plan.burst(server, requests[which]))
            after, end = counted(server), worker.cpu_times()
            used = end.user + end.system - begin.user - begin.system
            seconds[which].append(used / (after["requests"] - before["requests"]))

        with server.client() as client:
            for which, request in requests.items():
                answer = client.post(request.path, content=request.body, headers=request.headers).raise_for_status()
                if which != "neither" and "_reason" in answer.text:
                    raise click.ClickException(f"the bundle promises nothing: {answer.text[:500]}")
        interleaved({which: partial(turn, which) for which in requests}, rounds=plan.rounds, warm_up=1)
    return {
        "cpu_seconds_per_request": {which: summary(each[1:]) for which, each in seconds.items()},
        "requests_per_second": {which: summary([own.rate for own in each[1:]]) for which, each in bursts.items()},
    } | {
        f"cpu_{which}": at_most(PROMISE_LIMIT, ratio(seconds[which][1:], seconds["neither"][1:]))
        for which in requests
        if which != "neither"
    }


def counted(server: Running) -> dict[str, float]:
    """Return sums of the service's own metrics: inference requests, decodes, and seconds in graphs."""
    with server.client() as client:
        # wrk ends without waiting for the answers to its last requests, which the service still works on.
        while (sums := _metric_sums(client.get("/metrics")))["subspace_serve_requests_held"]:
            pass
    return {
        "requests": sums["subspace_serve_requests_total"],
        "decodes": sums["subspace_serve_decode_seconds_count"],
        "inference_seconds": sums["subspace_serve_inference_seconds_sum"],
    }


def _metric_sums(scraped: httpx.Response) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(scraped.raise_for_status().text):
        for sample in family.samples:
            if sample.name != "subspace_serve_requests_total" or sample.labels["route"].endswith("/infer"):
                sums[sample.name] += sample.value
    return sums
