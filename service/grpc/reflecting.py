"""gRPC's reflection service, by which tools such as grpcurl learn the messages."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service.grpc.arrivals import Arrivals
from service.grpc.messages import POOL, SERVICE, parse_message

REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Reflection:
    """grpcio's own servicer, with limits on what it is sent."""

    def __init__(self) -> None:
        services = [SERVICE]
        for module in (health_pb2, reflection_pb2):
            with contextlib.suppress(TypeError):  # another server of this process has added it
                POOL.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
            services += [service.full_name for service in module.DESCRIPTOR.services_by_name.values()]
        self._servicer = reflection.aio.ReflectionServicer(services, pool=POOL)

    async def answer(self, context: grpc.aio.ServicerContext, arrivals: Arrivals) -> None:
        """Answer each request of a stream. Raises `RefusedCall` and `RequestError`."""
        async for response in self._servicer.ServerReflectionInfo(_requests(context, arrivals), context):
            await context.write(response.SerializeToString())


async def _requests(context: grpc.aio.ServicerContext, arrivals: Arrivals) -> AsyncIterator[Any]:
    while (message := await arrivals.next(context)) is not None:
        yield parse_message(reflection_pb2.ServerReflectionRequest, message)
