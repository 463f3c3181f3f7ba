"""gRPC's health service: https://github.com/grpc/grpc/blob/master/doc/health-checking.md.

grpcio's own tells all who watch a service under one lock, so one that reads nothing holds up the others and the server.
"""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from service.grpc.arrivals import Arrivals
from service.grpc.messages import SERVICE, parse_message
from service.grpc.refusing import RefusedCall

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
WATCHES = 100
"""How many calls may watch at once."""
_SERVICES = ("", SERVICE)


class Health:
    """Whether the server should be sent calls, for those that ask once and those that watch."""

    def __init__(self) -> None:
        self._status = HealthCheckResponse.NOT_SERVING
        self._changed = asyncio.Event()  # replaced at each change
        self._closed = False
        self._watches = 0

    def tell(self, ready: bool) -> None:
        """Change the status, and tell it to those who watch."""
        self._status = HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        self._wake()

    def close(self) -> None:
        """End the calls that watch."""
        self._closed = True
        self._wake()

    def check(self, message: bytes) -> bytes:
        """Answer a HealthCheckRequest. Raises `RefusedCall` and `RequestError`."""
        service = parse_message(HealthCheckRequest, message).service
        if service not in _SERVICES:
            raise RefusedCall(404, f"there is no service {service!r:.60}; there is {SERVICE}")
        return _serialized(self._status)

    async def watch(self, context: grpc.aio.ServicerContext, arrivals: Arrivals) -> None:
        """Answer a HealthCheckRequest now and at every change. Raises `RefusedCall` and `RequestError`."""
        if self._watches >= WATCHES:
            raise RefusedCall(429, f"{WATCHES} calls are watching already; try again later, or use Check")
        self._watches += 1
        try:
            request = parse_message(HealthCheckRequest, await arrivals.only(context))
            known = request.service in _SERVICES
            told = None
            while not self._closed:
                changed = self._changed
                status = self._status if known else HealthCheckResponse.SERVICE_UNKNOWN
                if status != told:
                    await context.write(_serialized(status))
                    told = status
                await changed.wait()
        finally:
            self._watches -= 1

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _serialized(status: HealthCheckResponse.ServingStatus) -> bytes:
    serialized: bytes = HealthCheckResponse(status=status).SerializeToString()
    return serialized
