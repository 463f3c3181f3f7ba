"""The gRPC server of a worker process: its port, its limits, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service.engine import Engine
from service.grpc.calls import Calls
from service.grpc.messages import POOL, SERVICE
from service.metrics import Metrics
from service.tracing import Tracing

_METADATA_BYTES = 64 * 1024
_IDLE_CALLS = 1000
"""Calls besides those that the engine bounds: waiting for the health to change, for example."""
_LOOK_SECONDS = 0.1


class GrpcServer:
    """Answers for an engine on `grpc_port`, which all workers share; to be used on the event loop."""

    def __init__(self, engine: Engine, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._engine = engine
        self._health = health.aio.HealthServicer()
        self._following: asyncio.Task[None] | None = None
        calls = Calls(engine, metrics, tracing)
        settings = engine.settings
        self._server = grpc.aio.server(
            interceptors=[calls] if settings.token else None,
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", settings.max_body),
                ("grpc.max_metadata_size", _METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
                # As over HTTP; what a compressed message becomes could not be bounded.
                ("grpc.compression_enabled_algorithms_bitset", 1),
            ],
            maximum_concurrent_rpcs=settings.concurrency + settings.queue + _IDLE_CALLS,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = [SERVICE]
        for module in (health_pb2, reflection_pb2):
            with contextlib.suppress(TypeError):  # another server of this process has added it
                POOL.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
            services += [service.full_name for service in module.DESCRIPTOR.services_by_name.values()]
        reflection.enable_server_reflection(services, self._server, POOL)
        self._server.add_generic_rpc_handlers((calls,))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port or 0}"
        if settings.tls_certificate is None or settings.tls_key is None:
            self.port = self._server.add_insecure_port(address)
        else:
            pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
            self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))

    async def start(self) -> None:
        """Listen; the health service says whether the engine is ready, until `stop`."""
        await self._tell(ready=False)
        await self._server.start()
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Take no more calls, and return when those in flight have ended, at the latest when `grace` is over."""
        if self._following is not None and self._engine.draining:
            await self._following
        elif self._following is not None:
            self._following.cancel()
            await self._close()

    async def _follow(self) -> None:
        """Tell the engine's health, and once it drains, close the port when that of HTTP is closed."""
        engine, told = self._engine, False
        while not engine.draining:
            if engine.ready != told:
                told = engine.ready
                await self._tell(told)
            await asyncio.sleep(_LOOK_SECONDS)
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(engine.settings.drain)
        await self._close()

    async def _close(self) -> None:
        await self._server.stop(self._engine.settings.grace - self._engine.settings.drain)

    async def _tell(self, ready: bool) -> None:
        states = health_pb2.HealthCheckResponse
        for service in ("", SERVICE):
            await self._health.set(service, states.SERVING if ready else states.NOT_SERVING)
