"""The outermost layer of every call: its id, the token, early refusals, metrics, the access log and its trace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import unquote

import grpc

from service.authorization import allows
from service.bookkeeping import Bookkeeping, Ended
from service.engine import Engine, OverloadedError
from service.grpc.arrivals import Arrivals
from service.grpc.health import WATCH, Health
from service.grpc.messages import METHODS, SERVICE
from service.grpc.methods import Call, Method, Methods
from service.grpc.reflecting import REFLECT, Reflection
from service.grpc.refusing import Refusal, RefusedCall, refusal_of, refuse
from service.logs import logger
from service.metrics import Metrics
from service.record import Record
from service.refusals import REFUSALS
from service.tracing import Tracing

_Metadata = Sequence[tuple[str, str | bytes]]
_Stream = Callable[[grpc.aio.ServicerContext, Arrivals], Awaitable[None]]
_PATIENCE_SECONDS = 1.0
"""So long a message may be on its way even when others wait to be received."""
_PROBES = 16
"""How many messages to the health and reflection services are received at once."""


class Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every call, and refuses those that lack the token or that no service has.

    In metrics and the access log a call's status is that of the same answer over HTTP.
    """

    def __init__(self, engine: Engine, health: Health, metrics: Metrics, tracing: Tracing | None) -> None:
        settings = engine.settings
        self._engine = engine
        self._books = Bookkeeping(metrics, tracing, log=settings.access_log)
        self._arrivals = Arrivals(settings.concurrency + settings.queue, settings.deadline, _PATIENCE_SECONDS)
        # Anybody may send these; their small messages come with the call, and those that wait for none make room.
        self._probes = Arrivals(_PROBES, settings.deadline)
        self._handlers = {
            path: self._handler(path, method) for path, method in Methods(engine, health).by_path().items()
        }
        self._handlers[WATCH] = self._stream(WATCH, health.watch, needs_token=False)
        self._handlers[REFLECT] = self._stream(REFLECT, Reflection().answer, needs_token=True)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return what answers a call, of an unknown method too."""
        path = handler_call_details.method
        return self._handlers.get(path) or self._handler(path, None)

    def _handler(self, path: str, method: Method | None) -> grpc.RpcMethodHandler:
        # The message is read here, as if it were the first of a stream, so that much is refused before it is received.
        async def run(messages: object, context: grpc.aio.ServicerContext) -> bytes:
            return await self._run(path, method, context)

        return grpc.stream_unary_rpc_method_handler(run)

    def _stream(self, path: str, answer: _Stream, *, needs_token: bool) -> grpc.RpcMethodHandler:
        async def run(messages: object, context: grpc.aio.ServicerContext) -> None:
            try:
                if needs_token:
                    self._check_token(context.invocation_metadata() or ())
                await answer(context, self._probes)
                return
            except grpc.aio.BaseError:  # the client has left
                raise
            except Exception as error:
                refusal = self._refusal_of(error, path)
            self._books.note(Record.new(""), self._ended(path, None, refusal.status, 0, context))
            await refuse(context, refusal)

        return grpc.stream_stream_rpc_method_handler(run)

    async def _run(self, path: str, method: Method | None, context: grpc.aio.ServicerContext) -> bytes:
        metadata = context.invocation_metadata() or ()
        record = Record.new(next((value for name, value in metadata if name == "x-request-id"), ""))
        trailing = (("x-request-id", record.request_id),)
        status, answer = 500, b""
        try:
            outcome = await self._outcome(path, method, metadata, context, record)
            if isinstance(outcome, Refusal):
                status = outcome.status
                await refuse(context, outcome, trailing)
            else:
                status, answer = 200, outcome
                context.set_trailing_metadata(trailing)
            return answer
        except asyncio.CancelledError:
            status = 504 if context.time_remaining() == 0 else 499
            raise
        finally:
            self._books.note(record, self._ended(path, method, status, len(answer), context))

    async def _outcome(
        self, path: str, method: Method | None, metadata: _Metadata, context: grpc.aio.ServicerContext, record: Record
    ) -> bytes | Refusal:
        try:
            timeout = context.time_remaining()
            method = self._checked(path, method, metadata)
            arrivals = self._probes if method.is_probe else self._arrivals
            call = Call(await arrivals.only(context) if method.has_message else b"", record, timeout)
            return await method.answer(call)
        except Exception as error:
            return self._refusal_of(error, record.request_id)

    def _checked(self, path: str, method: Method | None, metadata: _Metadata) -> Method:
        """Return the method, unless a call is refused before its message is received."""
        if method is None or not method.is_probe:
            self._check_token(metadata)
        if method is None:
            raise RefusedCall(405, f"there is no method {path!r:.120}; {SERVICE} has {', '.join(METHODS)}")
        if method.is_inference and self._engine.full:
            raise OverloadedError
        return method

    def _check_token(self, metadata: _Metadata) -> None:
        own = next((value for name, value in metadata if name == "authorization"), b"")
        if not allows(self._engine.settings.token, own.encode() if isinstance(own, str) else own):
            raise RefusedCall(401, "the metadata authorization: Bearer TOKEN is missing or its token is wrong")

    @staticmethod
    def _refusal_of(error: Exception, name: str) -> Refusal:
        refusal = refusal_of(error)
        if refusal.status == 500:
            logger.error("request %s failed", name, exc_info=error)
        return refusal

    def _ended(
        self, path: str, method: Method | None, status: int, size: int, context: grpc.aio.ServicerContext
    ) -> Ended:
        name = path.rpartition("/")[2] if method else "unknown"

        def attributes() -> dict[str, str | int]:
            code = grpc.StatusCode[REFUSALS[status].code if status in REFUSALS else "OK"]
            service = SERVICE if method else "unknown"
            return {
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": name,
                "rpc.grpc.status_code": code.value[0],
            }

        def headers() -> list[tuple[bytes, bytes]]:
            metadata = context.invocation_metadata() or ()
            return [(key.encode(), value.encode()) for key, value in metadata if isinstance(value, str)]

        return Ended(
            route=f"grpc:{name}",
            method="POST",
            own_method="POST",
            path=path,
            status=status,
            size=size,
            client=_address(context.peer()),
            is_probe=method is not None and method.is_probe,
            attributes=attributes,
            headers=headers,
        )


def _address(peer: str) -> str:
    """Return the host of grpcio's name for a client, such as `ipv4:127.0.0.1:4711` or `ipv6:%5B::1%5D:4711`."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
