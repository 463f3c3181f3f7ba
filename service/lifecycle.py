"""How a worker process ends: drained, orphaned, or because it cannot serve."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from types import FrameType

from service.engine import Engine

_ORPHAN_SECONDS = 1.0


def drain_on_sigterm(engine: Engine) -> None:
    """Let readiness fail for `drain` seconds before the server's own handler of SIGTERM closes the port.

    In that time a load balancer can stop sending requests here, while those that still arrive are answered. To be
    called on the main thread with the event loop running, after the server has installed its handler.
    """
    loop = asyncio.get_running_loop()
    close = signal.getsignal(signal.SIGTERM)

    def begin(number: int, frame: FrameType | None) -> None:
        if engine.draining or not callable(close):
            return
        engine.draining = True
        loop.call_soon_threadsafe(loop.call_later, engine.settings.drain, close, number, frame)

    signal.signal(signal.SIGTERM, begin)
    # The parent reloads on SIGHUP; and a terminal that closes must not end the workers one by one.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def end_when_orphaned() -> None:
    """Drain and end this process when its parent has died, since nothing else would end or replace it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_ORPHAN_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="orphan", daemon=True).start()


def end_worker() -> None:
    """End this process at once, so that its supervisor starts another."""
    os._exit(1)
