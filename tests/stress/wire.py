"""Requests as bytes, and connections that send them as they are, however wrong, and read what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PATIENCE = 60.0  # seconds for one answer
_HEAD_LIMIT = 1 << 20
JSON = "application/json"


class BrokenError(Exception):
    """The connection was closed before a whole answer had come."""


@dataclass(frozen=True)
class Reply:
    """One answer. Headers have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the document."""
        return json.loads(self.body)


def request(
    path: str,
    body: bytes = b"",
    content_type: str | None = JSON,
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    length: bool = True,
) -> bytes:
    """Return a request; `length` says whether it has a Content-Length."""
    fields = {"host": "stress"} | ({"content-type": content_type} if content_type is not None else {})
    fields |= {"content-length": str(len(body))} if length and method == "POST" else {}
    fields |= headers or {}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode("latin-1") + b"\r\n" + body


def document(path: str, value: Any, **headers: str) -> bytes:
    """Return a request with a JSON document."""
    return request(path, json.dumps(value).encode(), headers=headers)


def chunked(path: str, *chunks: bytes, content_type: str = JSON) -> bytes:
    """Return a request whose body comes in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return request(path, body, content_type, headers={"transfer-encoding": "chunked"}, length=False)


def form(*parts: tuple[str, str | None, bytes], boundary: str = "limit") -> tuple[bytes, str]:
    """Return a multipart body and its content type; parts are (name, file name or None, content)."""
    body = b""
    for name, file, content in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
        body += f"--{boundary}\r\ncontent-disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


@dataclass
class Connection:
    """A connection that is opened when it is needed, and used until it is closed."""

    port: int
    _reader: asyncio.StreamReader | None = field(default=None, init=False)
    _writer: asyncio.StreamWriter | None = field(default=None, init=False)

    async def ask(self, data: bytes) -> Reply:
        """Send bytes and return the answer. Raises `BrokenError`."""
        try:
            return await asyncio.wait_for(self._ask(data), _PATIENCE)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            self.close()
            raise BrokenError(f"{type(error).__name__}: {error}") from None
        except BaseException:
            self.close()
            raise

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait for nothing but their leaving. Raises `ConnectionError`."""
        _, writer = await self._opened()
        writer.write(data)
        await writer.drain()

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _ask(self, data: bytes) -> Reply:
        reader, writer = await self._opened()
        try:
            writer.write(data)
            await writer.drain()
        except ConnectionError:
            pass  # what is refused by its head need not be received to its end; there may be an answer
        reply = await _read(reader)
        if reply.headers.get("connection", "").lower() == "close":
            self.close()
        return reply

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, limit=_HEAD_LIMIT)
        return self._reader, self._writer


async def _read(reader: asyncio.StreamReader) -> Reply:
    status = 100
    while status < 200:  # 100 Continue
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Reply(status, headers, await reader.readexactly(int(headers["content-length"])))
