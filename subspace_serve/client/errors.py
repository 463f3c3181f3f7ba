"""What can go wrong when a service is asked."""

from __future__ import annotations

from subspace_serve.errors import SubspaceServeError


class ClientError(SubspaceServeError):
    """Base of every error of the client; raised itself for a call that no server could answer."""


class ConnectionFailed(ClientError):
    """Nobody could be reached at the address, or the connection broke."""


class Timeout(ClientError):
    """No answer within the time that a call may take."""


class UnexpectedAnswer(ClientError):
    """An answer that this service does not give: something else listens at the address, or a proxy answers."""


class _ErrorAnswer(ClientError):
    """`status` is the HTTP status, `reason` what the server said, `request_id` how its log names the request."""

    def __init__(self, message: str, *, status: int, reason: str, request_id: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.request_id = request_id


class RequestRefused(_ErrorAnswer):
    """The server answered with an error that a retry would not fix.

    `status` is the HTTP status, `reason` what the server said, `request_id` how its log names the request.
    """


class ServerBusy(_ErrorAnswer):
    """The server answered 429 or 503, to every retry as well. Attributes as for `RequestRefused`."""
