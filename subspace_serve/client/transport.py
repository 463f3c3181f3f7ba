"""What both clients share around httpx: its arguments for a step, and its responses and errors as outcomes."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from subspace_serve import __version__
from subspace_serve.client.errors import ClientError
from subspace_serve.client.exchange import Lost, Reply, Send

LATE = Lost("no answer in time", "late")


def standing_headers(token: str | None) -> dict[str, str]:
    """Return the headers of every request. Raises `ClientError` for a token that does not fit into one."""
    headers = {"User-Agent": f"subspace-serve/{__version__}"}
    if token is not None:
        if not token or not all("!" <= character <= "~" for character in token):
            # The message leaves the token out: messages are logged.
            raise ClientError("the token is empty, or has spaces or characters that a header cannot hold; check it")
        headers["Authorization"] = f"Bearer {token}"
    return headers


def arguments(url: str, step: Send) -> dict[str, Any]:
    """Return a step as the arguments of httpx's `request` and `stream`."""
    request = step.request
    return {
        "method": request.method,
        "url": url + request.path,
        "content": request.body or None,
        "headers": request.headers,
        "timeout": step.timeout,
    }


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """Return an answer that has been received."""
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def lost(error: httpx.RequestError) -> Lost:
    """Return why there is no answer."""
    if isinstance(error, httpx.TimeoutException):
        return LATE
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        return Lost(reason, "final" if _is_distrust(error) else "unsent")
    return Lost(reason, "broken" if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError) else "final")


def _is_distrust(error: BaseException | None) -> bool:
    """Whether the error came from TLS, such as a certificate, which a retry does not fix."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None
