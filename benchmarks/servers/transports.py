"""The service asked over gRPC, compared with the same requests as binary tensors over HTTP."""

from __future__ import annotations

from typing import Any

import click
import grpc
import numpy as np

from benchmarks import grpc_load
from benchmarks.http_load import Burst
from benchmarks.measure import at_least, interleaved, ratio, summary
from benchmarks.servers import free_port, running, subspace_serve
from benchmarks.servers.asking import Candidate, inference, read_bytes
from benchmarks.servers.plan import CONNECTIONS, Plan
from service.grpc.messages import REQUESTS, RESPONSES, SERVICE

GRPC_TARGET = 0.9
_METHOD = f"/{SERVICE}/ModelInfer"


def measure_grpc(plan: Plan) -> dict[str, Any]:
    """Return the rate over gRPC over that over HTTP, and the processors' seconds that the server takes for each."""
    port = free_port()
    message = _message(plan)
    with running(subspace_serve(f"--grpc-port={port}"), plan.bundle) as server:
        candidate = Candidate(server, inference(plan.image, plan.model), read_bytes)
        candidate.check(plan.bundle, plan.image)
        _check_equal(candidate, port, message)
        bursts: dict[str, list[Burst]] = {"http": [], "grpc": []}
        processor: dict[str, list[float]] = {"http": [], "grpc": []}

        def turn(name: str) -> None:
            before = _processor_seconds(server.processes())
            if name == "http":
                burst = plan.burst(server, candidate.request)
            else:
                burst = grpc_load.burst(port, _METHOD, message, seconds=plan.seconds, in_flight=CONNECTIONS)
            bursts[name].append(burst)
            processor[name].append((_processor_seconds(server.processes()) - before) / burst.requests)

        turns = {name: lambda name=name: turn(name) for name in bursts}
        interleaved(turns, rounds=plan.rounds, warm_up=1)
    rates = {name: [own.rate for own in each[1:]] for name, each in bursts.items()}
    return {
        "requests_per_second": {name: summary(each) for name, each in rates.items()},
        "median_seconds": {name: summary([own.p50 for own in each[1:]]) for name, each in bursts.items()},
        "processor_seconds_per_request": {name: summary(each[1:]) for name, each in processor.items()},
        "to_http": at_least(GRPC_TARGET, ratio(rates["grpc"], rates["http"])),
    }


def _message(plan: Plan) -> bytes:
    request = REQUESTS["ModelInfer"](model_name=plan.model, raw_input_contents=[plan.image.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=plan.image.shape)
    request.outputs.add(name="probabilities")
    serialized: bytes = request.SerializeToString()
    return serialized


def _check_equal(candidate: Candidate, port: int, message: bytes) -> None:
    """Raise `click.ClickException` unless the answer over gRPC is that over HTTP."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = RESPONSES["ModelInfer"].FromString(channel.unary_unary(_METHOD)(message, timeout=30))
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    with candidate.server.client() as client:
        request = candidate.request
        response = client.post(request.path, content=request.body, headers=request.headers)
    if (int(found.argmax()), float(found.max())) != read_bytes(response):
        raise click.ClickException("the service answers otherwise over gRPC than over HTTP")


def _processor_seconds(processes: list[Any]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
