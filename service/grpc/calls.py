"""The outermost layer of every call: its id, the token, early refusals, metrics, the access log and its trace."""

from __future__ import annotations

import asyncio
import hmac
import sys
from urllib.parse import unquote

import grpc

from service.bookkeeping import Bookkeeping, Ended
from service.engine import Engine, OverloadedError
from service.grpc.messages import METHODS, SERVICE
from service.grpc.methods import Call, Method, Methods
from service.logs import logger
from service.metrics import Metrics
from service.record import Record
from service.refusals import REFUSALS, refused
from service.tracing import Tracing

_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection."
_PUSHBACK = "grpc-retry-pushback-ms"  # what Retry-After is in HTTP


class RefusedCall(Exception):
    """A call that is refused before a method takes it, with its status; `code` is that status's own unless given."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or REFUSALS[status].code


class Calls(grpc.GenericRpcHandler, grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Answers the calls of the protocol, and refuses those that lack the token or that no service has.

    In metrics and the access log a call's status is that of the same answer over HTTP.
    """

    def __init__(self, engine: Engine, metrics: Metrics, tracing: Tracing | None) -> None:
        self._engine = engine
        self._books = Bookkeeping(metrics, tracing, log=engine.settings.access_log)
        token = engine.settings.token
        self._token = token.encode() if token else None
        self._receiving = 0
        self._handlers = {
            f"/{SERVICE}/{name}": self._handler(f"/{SERVICE}/{name}", method)
            for name, method in Methods(engine).by_name().items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return what answers a call, of an unknown method too: this comes after all other services."""
        path = handler_call_details.method
        return self._handlers.get(path) or self._handler(path, None)

    async def intercept_service(self, continuation, handler_call_details):  # type: ignore[no-untyped-def]
        """Refuse reflection without the token; for the others, what is found here or is a probe decides."""
        path = handler_call_details.method
        if path.startswith(_REFLECTION) and not self._has_token(handler_call_details.invocation_metadata):
            return self._handler(path, None)
        return await continuation(handler_call_details)

    def _handler(self, path: str, method: Method | None) -> grpc.RpcMethodHandler:
        # The message is read here, as if it were the first of a stream, so that much is refused before it is received.
        async def run(messages: object, context: grpc.aio.ServicerContext) -> bytes:
            return await self._run(path, method, context)

        return grpc.stream_unary_rpc_method_handler(run)

    async def _run(self, path: str, method: Method | None, context: grpc.aio.ServicerContext) -> bytes:
        metadata = context.invocation_metadata() or ()
        record = Record.new(next((value for name, value in metadata if name == "x-request-id"), ""))
        timeout = context.time_remaining()
        status, size = 500, 0
        trailing = [("x-request-id", record.request_id)]
        try:
            method = self._checked(path, method, metadata)
            call = Call(await self._received(context), record, timeout)
            answer = await method.answer(call)
            status, size = 200, len(answer)
            context.set_trailing_metadata(trailing)
            return answer
        except asyncio.CancelledError:
            status = 504 if context.time_remaining() == 0 else 499
            raise
        except Exception as error:
            refusal = error if isinstance(error, RefusedCall) else RefusedCall(*refused(error))
            status = refusal.status
            if status == 500:
                logger.exception("request %s failed", record.request_id)
            if seconds := REFUSALS[status].headers.get("Retry-After"):
                trailing.append((_PUSHBACK, seconds + "000"))
            await context.abort(grpc.StatusCode[refusal.code], str(refusal), tuple(trailing))
            raise  # not reached, since aborting raises
        finally:
            self._books.note(record, self._ended(path, method, status, size, context))

    def _checked(self, path: str, method: Method | None, metadata: tuple[tuple[str, str | bytes], ...]) -> Method:
        """Return the method, unless a call is refused before its message is received."""
        if self._token is not None and not (method and method.is_probe) and not self._has_token(metadata):
            raise RefusedCall(401, "the metadata authorization: Bearer TOKEN is missing or its token is wrong")
        if method is None:
            raise RefusedCall(405, f"there is no method {path!r:.120}; {SERVICE} has {', '.join(METHODS)}")
        if method.is_inference and self._engine.full:
            raise OverloadedError
        return method

    def _has_token(self, metadata: tuple[tuple[str, str | bytes], ...]) -> bool:
        if self._token is None:
            return True
        own = next((value for name, value in metadata if name == "authorization"), "")
        scheme, _, token = (own if isinstance(own, str) else "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), self._token)

    async def _received(self, context: grpc.aio.ServicerContext) -> bytes:
        """Return a call's message. Raises `RefusedCall`, also when there is none."""
        settings = self._engine.settings
        if self._receiving >= settings.concurrency + settings.queue:
            raise RefusedCall(429, "too many messages are being received; try again later")
        self._receiving += 1
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        timer = loop.call_later(settings.deadline, task.cancel)
        try:
            message = await context.read()
        except asyncio.CancelledError:
            if timer.when() > loop.time():  # not the timer's doing, but the client's
                raise
            if sys.version_info >= (3, 11):
                task.uncancel()
            raise RefusedCall(408, "the message did not arrive in time") from None
        finally:
            timer.cancel()
            self._receiving -= 1
        if message is grpc.aio.EOF:
            # Nearly always grpcio has refused one over the limit, which it does not tell; no client omits it.
            raise RefusedCall(413, "the call has no message; send one", "INVALID_ARGUMENT")
        return bytes(message)

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
