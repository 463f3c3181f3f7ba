"""The server's log on standard error, and its access log on standard output: one line of JSON per request."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any

logger = logging.getLogger("subspace_serve.service")
_access = logging.getLogger("subspace_serve.access")


def configure_logging() -> None:
    """Send both logs to their streams; to be called once in each process of a server."""
    _add_handler(logger, sys.stderr, "%(asctime)s %(levelname)s %(message)s")
    _add_handler(
        logging.getLogger("uvicorn.error"), sys.stderr, "%(asctime)s %(levelname)s %(message)s", logging.WARNING
    )
    _add_handler(_access, sys.stdout, "%(message)s")


def log_access(**values: Any) -> None:
    """Write one request to the access log, leaving out values that are None."""
    values = {name: value for name, value in values.items() if value is not None}
    _access.info(json.dumps({"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **values}))


def _add_handler(target: logging.Logger, stream: Any, template: str, level: int = logging.INFO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(template))
    target.handlers = [handler]
    target.setLevel(level)
    target.propagate = False
