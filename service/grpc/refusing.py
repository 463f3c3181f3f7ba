"""How a call is refused, and that nothing of a refused call is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from traceback import clear_frames

import grpc

from service.refusals import REFUSALS, refused

_PUSHBACK = "grpc-retry-pushback-ms"  # what Retry-After is in HTTP


class RefusedCall(Exception):
    """A call that is refused before a method takes it, with its status; `code` is that status's own unless given."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or REFUSALS[status].code


@dataclass(frozen=True)
class Refusal:
    """What a refused call is told: the status of the same answer over HTTP, gRPC's code, and the message."""

    status: int
    code: str
    message: str


def refusal_of(error: Exception) -> Refusal:
    """Return what an exception is answered with, and let go of what its frames hold: the call's message above all.

    A future and the frame that waited for it hold each other through the exception's traceback.
    """
    clear_frames(error.__traceback__)
    if isinstance(error, RefusedCall):
        return Refusal(error.status, error.code, str(error))
    status, message = refused(error)
    return Refusal(status, REFUSALS[status].code, message)


async def refuse(context: grpc.aio.ServicerContext, refusal: Refusal, trailing: Sequence[tuple[str, str]] = ()) -> None:
    """End a call with a refusal; to be called where no exception is being handled. What returns next is not sent."""
    metadata = list(trailing)
    if seconds := REFUSALS[refusal.status].headers.get("Retry-After"):
        metadata.append((_PUSHBACK, seconds + "000"))
    try:
        await context.abort(grpc.StatusCode[refusal.code], refusal.message, tuple(metadata))
    except grpc.aio.AbortError as error:
        # The context keeps the error, which would keep the context by this frame. grpcio raises it again by itself.
        error.__traceback__ = None
