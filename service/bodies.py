"""Receives bodies, with limits on the size and time of each and on the size of all. Checks headers before reading."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from service.documents import RequestError
from service.settings import Settings

_MAX_FIELDS = 100
_MAX_FIELD_BYTES = 64 * 1024


class _FormParser(MultiPartParser):
    """Keeps files in memory, where the whole body is limited; a disk may be full or read-only."""

    spool_max_size = sys.maxsize
    ended = False
    """Whether the final boundary was read; the parser silently drops a part in which the body breaks off."""

    def on_end(self) -> None:
        self.ended = True


class Bodies:
    """Reads requests' bodies within the limits on one body and on all that are being received at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._received = 0

    async def read(self, request: Request, content_types: Sequence[str]) -> bytes:
        """Return a request's body. Raises `HTTPException` 408, 413, 415, 429, `RequestError`, `ClientDisconnect`."""
        check_headers(request, content_types)
        parts = []
        with _Buffer(self, request) as buffer:
            while True:
                message = await buffer.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    return b"".join(parts)

    async def read_form(self, request: Request) -> list[tuple[str, str | bytes]]:
        """Return a form's fields and files in order. Raises what `read` raises."""
        check_headers(request, ["multipart/form-data"])
        _check_charset(request)
        with _Buffer(self, request) as buffer:
            parser = _FormParser(
                request.headers,
                Request(request.scope, buffer.receive).stream(),
                max_files=self._settings.max_images,
                max_fields=_MAX_FIELDS,
                max_part_size=_MAX_FIELD_BYTES,
            )
            try:
                form = await parser.parse()
            except (MultiPartException, FormParserError) as error:
                raise RequestError(f"the form cannot be read: {error}") from None
            if not parser.ended:
                raise RequestError(
                    "the form breaks off before the boundary that ends it; send it whole, with a right Content-Length"
                )
            return [
                (name, await value.read() if isinstance(value, UploadFile) else value)
                for name, value in form.multi_items()
            ]

    def reserve(self, count: int) -> None:
        """Count `count` more bytes as being received; a negative number gives them back. Raises `HTTPException` 429."""
        if count > 0 and self._received + count > self._settings.max_buffer:
            raise HTTPException(429, "too many bytes are being received; try again later")
        self._received += count


class _Buffer:
    """One body while it is being received; refused as soon as it is known to exceed a limit, or to take too long.

    Leaving the block in which it is received raises `HTTPException` 408 where the time is up. (asyncio's own `timeout`
    needs Python 3.11; anyio's costs as much as the rest of receiving a small body.)
    """

    def __init__(self, bodies: Bodies, request: Request) -> None:
        self._bodies = bodies
        self._limit = bodies._settings.max_body
        self._source = request
        self._reserved = 0
        self._is_late = False

    def __enter__(self) -> _Buffer:
        # The announced length is not reserved: a client that then sends nothing would block it for others.
        self._check(int(self._source.headers.get("content-length", 0)))
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(self._bodies._settings.deadline, self._end)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._timer.cancel()
        self._bodies.reserve(-self._reserved)
        if self._is_late and kind is asyncio.CancelledError:
            if sys.version_info >= (3, 11):
                self._task.uncancel()
            raise HTTPException(408, "the body did not arrive in time") from None

    async def receive(self) -> Message:
        """Return the next ASGI message, counted."""
        part = await self._source.receive()
        size = len(part.get("body", b""))
        self._check(self._reserved + size)
        self._bodies.reserve(size)
        self._reserved += size
        return part

    def _check(self, count: int) -> None:
        if count > self._limit:
            raise HTTPException(413, f"the body is over the limit of {self._limit} bytes")

    def _end(self) -> None:
        self._is_late = True
        self._task.cancel()


def check_headers(request: Request, content_types: Sequence[str]) -> None:
    """Refuse other content types, content encodings, and query strings.

    An empty string among `content_types` allows a request without one. Raises `HTTPException` 415, `RequestError`.
    """
    headers = request.headers
    content_type = headers.get("content-type", "")
    if content_type.split(";")[0].strip().lower() not in content_types:
        expected = " or ".join(name for name in content_types if name)
        raise HTTPException(415, f"got the content type {content_type!r:.120}, expected {expected}")
    # One header or several, each a list whose elements may be empty (RFC 9110, section 5.6.1).
    encoding = ", ".join(headers.getlist("content-encoding"))
    if encoding and not {part.strip().lower() for part in encoding.split(",")} <= {"", "identity"}:
        raise HTTPException(415, f"got the content encoding {encoding!r:.120}; send the body as it is")
    if request.scope["query_string"]:
        raise RequestError("options go into the body; got some in the address, where they would have no effect")


def _check_charset(request: Request) -> None:
    """Refuse charsets of a form but UTF-8: some that Python knows take very long. Raises `HTTPException` 415."""
    # Read as the form's parser reads it, which decodes with what it finds.
    _, parameters = parse_options_header(request.headers["content-type"])
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in ("utf-8", "utf8"):
        raise HTTPException(415, f"got a form in the charset {charset!r:.120}; send it in utf-8")


async def disconnected(receive: Receive) -> None:
    """Return when ASGI says that the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
