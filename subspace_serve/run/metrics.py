"""What training recorded of each epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE_NAME = "metrics.jsonl"


def read_metrics(run: Path, epochs: int) -> list[dict[str, Any]]:
    """Return the metrics of a run's first `epochs` epochs; a line that a crash cut short is left out."""
    file = run / FILE_NAME
    if not file.exists():
        return []
    records = []
    for line in file.read_text(encoding="utf-8").splitlines()[:epochs]:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
