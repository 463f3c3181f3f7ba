"""The process that keeps the workers: starts them, replaces those that die, reloads and stops.

Workers are uvicorn's, with the BentoML service as their application. BentoML's own process manager notices a dead
worker only after ten seconds, and in a container never; it restarts every worker on SIGHUP, and waits a day for one
that does not end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from service.http import BoundedProtocol
from service.logs import configure_logging, logger
from service.settings import CONFIG_VARIABLE, Settings
from service.staging import BusyError, State, reload
from subspace_serve.errors import SubspaceServeError

if TYPE_CHECKING:
    from service.metrics import Metrics

_HEALTH_SECONDS = 30
_BACKLOG = 2048
_MARGIN_SECONDS = 1.0  # beyond `grace`, for the last steps of a worker that ends in time


def supervise(settings: Settings, state: State, listener: socket.socket) -> None:
    """Serve the staged bundle on a bound socket until SIGTERM or SIGINT; SIGHUP reloads."""
    os.environ.update(settings.to_environment() | state.environment())
    os.environ.pop(CONFIG_VARIABLE, None)  # its settings are among the variables now
    os.environ.setdefault("BENTOML_HOME", str(state.folder / "bentoml"))  # it writes there on import
    configure_logging()
    # Not before: on import prometheus_client reads from the environment whether it is one process of several.
    from service.metrics import Metrics

    config = Config(
        "service.bento:asgi_app",
        factory=True,
        workers=settings.workers,
        backlog=_BACKLOG,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=max(1, int(settings.grace - settings.drain)),
        timeout_worker_healthcheck=_HEALTH_SECONDS,
    )
    _Supervisor(config, listener, settings, state, Metrics()).run()


class _Supervisor(Multiprocess):
    def __init__(
        self, config: Config, listener: socket.socket, settings: Settings, state: State, metrics: Metrics
    ) -> None:
        super().__init__(config, [listener])
        self._settings = settings
        self._state = state
        self._metrics = metrics

    def handle_hup(self) -> None:
        """Stage the bundle again on another thread, while this one goes on watching the workers, which then follow."""
        threading.Thread(target=self._reload, name="reload", daemon=True).start()

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers, and remove them from the sums of gauges."""
        for process in self.processes:
            # The worker's end of the pipe, of which this process has a copy. Without it the death of a worker that has
            # yet to answer is seen at once, and not when its time to answer is over.
            process.child_conn.close()
        before = {process.pid for process in self.processes if process.pid is not None}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            logger.warning("worker %s died and was replaced", pid)
            self._metrics.forget(pid)

    def join_all(self) -> None:
        """Wait for the workers to end; kill those that take longer than `grace`, since nothing else would."""
        end = time.monotonic() + self._settings.grace + _MARGIN_SECONDS
        for worker in self.processes:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                logger.error("worker %s did not end within %g s and was killed", worker.pid, self._settings.grace)
                worker.process.kill()
                worker.process.join()

    def _reload(self) -> None:
        try:
            sha256 = asyncio.run(reload(self._settings, self._state))
        except BusyError as error:  # nothing failed; the other reload counts itself
            logger.warning("not reloaded: %s", error)
        except SubspaceServeError as error:
            self._metrics.reloads("failed").inc()
            logger.error("still serving the old bundle: %s", error)
        else:
            self._metrics.reloads("done").inc()
            logger.info("reloaded %s (%s)", self._settings.bundle, sha256[:12])
