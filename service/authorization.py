"""The bearer token that requests must carry, over HTTP and gRPC."""

from __future__ import annotations

import hmac


def allows(token: str | None, header: bytes) -> bool:
    """Return whether a request with this value of `authorization` may come in, in constant time.

    Without a token everybody may.
    """
    if token is None:
        return True
    scheme, _, own = header.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(own, token.encode())
