"""The outermost layer of every request: its id, the token, early refusals, metrics, the access log and its trace."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.authorization import allows
from service.bookkeeping import Bookkeeping, Ended
from service.endpoints import OPERATIONS
from service.engine import Engine
from service.logs import logger
from service.metrics import Metrics
from service.record import Record
from service.refusals import FULL, refuse
from service.tracing import Tracing

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_PROBES = frozenset(operation.path for operation in OPERATIONS if operation.is_probe)
_OPEN = frozenset(operation.path for operation in OPERATIONS if operation.is_open)


class Envelope:
    """Wraps the application. In metrics, requests are labelled with route templates, never with their paths."""

    def __init__(self, app: ASGIApp, engine: Engine, metrics: Metrics, tracing: Tracing | None) -> None:
        self._app = app
        self._engine = engine
        self._books = Bookkeeping(metrics, tracing, log=engine.settings.access_log)
        routes = [operation.path for operation in OPERATIONS]
        self._plain = frozenset(route for route in routes if "{" not in route)
        self._templates = [(re.compile(re.sub(r"{\w+}", "[^/]+", route)), route) for route in routes if "{" in route]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is not HTTP."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = Record.attach(scope)
        status, size = 500, 0

        async def watch(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._headers(record)]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            refusal = self._refusal(scope)
            await (refusal or self._app)(scope, receive, watch)
        except Exception:
            # The application has already answered 500; what is left is to log why.
            logger.exception("request %s failed", record.request_id)
        finally:
            self._books.note(record, self._ended(scope, status, size))

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """Return the answer to a request that is refused before its body is read, or None."""
        path = scope["path"]
        if path not in _OPEN:
            own = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not allows(self._engine.settings.token, own):
                return refuse(401, "the header Authorization: Bearer TOKEN is missing or its token is wrong")
        if scope["method"] == "POST" and self._engine.full and path != "/admin/reload":
            # Before the body is read, since reading is most of the work under a flood of requests.
            return refuse(429, FULL)
        return None

    def _headers(self, record: Record) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", record.request_id.encode()), (b"x-content-type-options", b"nosniff")]
        if self._engine.draining:
            headers.append((b"connection", b"close"))
        return headers

    def _ended(self, scope: Scope, status: int, size: int) -> Ended:
        path, method = scope["path"], scope["method"]
        route, client = self._route(path), scope.get("client")

        def attributes() -> dict[str, str | int]:
            return {"http.request.method": method[:20], "http.route": route, "http.response.status_code": status}

        return Ended(
            route=route,
            method=method if method in _METHODS else "other",
            own_method=method,
            path=path,
            status=status,
            size=size,
            client=client[0] if client else None,
            is_probe=path in _PROBES,
            attributes=attributes,
            headers=lambda: scope["headers"],
        )

    def _route(self, path: str) -> str:
        """Return a path's route template; all unknown paths share one."""
        if path in self._plain:
            return path
        return next((route for pattern, route in self._templates if pattern.fullmatch(path)), "unknown")
