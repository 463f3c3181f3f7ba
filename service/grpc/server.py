"""The gRPC server of a worker process: its port, its limits, and how it stops."""

from __future__ import annotations

import asyncio

import grpc

from service.engine import Engine
from service.grpc.calls import Calls
from service.grpc.health import Health
from service.metrics import Metrics
from service.settings import Settings
from service.tracing import Tracing

_METADATA_BYTES = 64 * 1024
_CONNECTIONS = 256
_CALLS = 100  # of one connection, at least; a client queues those beyond
_HANDSHAKE_SECONDS = 10
_IDLE_SECONDS = 60
_AGE_SECONDS = 600
_KEEPALIVE_SECONDS = 60
_LOOK_SECONDS = 0.1


def _options(settings: Settings) -> list[tuple[str, int]]:
    """Return grpcio's options, which bound what clients may hold: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html.

    Answers that are not read cannot be given up one by one, only with their connection. So calls are bounded for each
    connection, which then harms itself alone, and connections by their number and age.
    """
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", settings.max_body),
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
        # As over HTTP; what a compressed message becomes could not be bounded.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_allowed_incoming_connections", _CONNECTIONS),
        ("grpc.max_concurrent_streams", max(_CALLS, settings.concurrency + settings.queue)),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_SECONDS * 1000),
        ("grpc.max_connection_idle_ms", _IDLE_SECONDS * 1000),
        ("grpc.max_connection_age_ms", _AGE_SECONDS * 1000),
        ("grpc.max_connection_age_grace_ms", int(settings.deadline * 1000)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
    ]


class GrpcServer:
    """Answers for an engine on `grpc_port`, which all workers share; to be used on the event loop."""

    def __init__(self, engine: Engine, metrics: Metrics, tracing: Tracing | None = None) -> None:
        settings = engine.settings
        self._engine = engine
        self._health = Health()
        self._following: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(options=_options(settings))
        self._server.add_generic_rpc_handlers((Calls(engine, self._health, metrics, tracing),))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port or 0}"
        if settings.tls_certificate is None or settings.tls_key is None:
            self.port = self._server.add_insecure_port(address)
        else:
            pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
            self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))

    async def start(self) -> None:
        """Listen; the health service says whether the engine is ready, until `stop`."""
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
                self._health.tell(told)
            await asyncio.sleep(_LOOK_SECONDS)
        self._health.tell(False)
        await asyncio.sleep(engine.settings.drain)
        await self._close()

    async def _close(self) -> None:
        self._health.close()
        await self._server.stop(self._engine.settings.grace - self._engine.settings.drain)
