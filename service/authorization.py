"""The bearer token that requests must carry, over HTTP and gRPC."""

from __future__ import annotations

import hmac


class Authorization:
    """Lets requests in: all of them without a token, else those that carry it.

    Args:
        token: what they must carry; None lets everybody in.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()

    def allows(self, header: bytes) -> bool:
        """Return whether a request with this value of `authorization` may come in, in constant time."""
        if self._token is None:
            return True
        scheme, _, token = header.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token, self._token)
