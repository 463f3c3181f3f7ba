"""Commands under torchrun: the first rank speaks for all, and an error on any rank is shown once and ends them all."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

import click

from subspace_serve.errors import RankError

if TYPE_CHECKING:
    from trainer.ranks import Ranks

SHARED = ("train",)
"""The commands whose work is shared among ranks."""
ALONE = ("evaluate", "select")
"""The commands that run one network per core in one process: on two cores, two ranks took 1.07 times as long."""

_ENDED = (
    "Error: this run was told to end (SIGTERM), as torchrun tells every rank when one of them ended; a training run "
    "goes on with --resume RUN"
)
_PATIENCE = 3.0
"""How many seconds an error before the group exists waits for the first rank, which most likely has the same one."""


class _Terminated(BaseException):
    """SIGTERM arrived. Not an `Exception`, so that no handler mistakes it for a failure of the work in progress."""


def several_ranks() -> bool:
    """Return whether torchrun started this process as one of several that share a command's work."""
    return _world_size() != 1 and sys.argv[1:2] in [[name] for name in SHARED]


def refuse_ranks() -> None:
    """Refuse to start a command that would repeat all its work on every rank.

    Raises:
        RankError: several ranks were started.
    """
    if _world_size() > 1 and sys.argv[1:2] in [[name] for name in ALONE]:
        raise RankError(
            f"{sys.argv[1]} runs in one process, which uses every core, and was started as one of {_world_size()} "
            "(WORLD_SIZE); start it without torchrun"
        )


@contextlib.contextmanager
def as_one() -> Iterator[Callable[[str], None]]:
    """Silence all ranks but the first; yield a function that shows an error once, even if all ranks have it.

    SIGTERM becomes an exception, so that half-written files are cleaned up. On success this process leaves the group.
    """
    errors, process = sys.stderr, os.getpid()
    first = os.environ.get("RANK", "0") == "0"

    def terminate(*_: object) -> None:
        if os.getpid() != process:  # a worker that was forked from this one
            os._exit(128 + signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    def say(message: str) -> None:
        group = _group()
        if group is None and not first:
            # When the first rank ends, torchrun ends this one with SIGTERM.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(_PATIENCE)
        # From here on SIGTERM only means that torchrun ends the ranks because one ended, which needs no message.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if group is None or group.speaks():
            click.echo(message, file=errors)

    signal.signal(signal.SIGTERM, terminate)
    with contextlib.ExitStack() as stack:
        if not first:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8", errors="replace"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            yield say
        except _Terminated:
            say(_ENDED)
            _leave(1)
        except SystemExit as end:
            if end.code:
                _leave(int(end.code))
            raise
    if group := _group():
        group.close()


def _leave(status: int) -> NoReturn:
    """End this process; in a group, which may have lost a rank, without joining torch's threads, which can abort it."""
    if _group() is None:
        sys.exit(status)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(status)


def _world_size() -> int:
    """Return how many ranks were started; 0 where the variable is malformed, which `Ranks.current` then reports."""
    text = os.environ.get("WORLD_SIZE") or "1"
    return max(int(text), 1) if text.isdecimal() else 0


def _group() -> Ranks | None:
    """Return the group when this process has joined it; does not import torch for that."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    from trainer.ranks import Ranks

    return Ranks.current()
