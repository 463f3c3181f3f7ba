"""A run's selections, kept by name in `selections.json` and bound to its checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from subspace_serve.bundle.locking import locked
from subspace_serve.errors import CheckpointError, DataError
from subspace_serve.files import write_text

FILE_NAME = "selections.json"
_PATIENCE_SECONDS = 5.0
"""Another `select` is done sooner; training is not, and its next epoch would be another checkpoint."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[1-5])?")


def check_selection_name(name: str) -> str:
    """Return a name that a selection can have: like a point's, with a severity behind a colon if need be.

    Raises:
        DataError: it is another.
    """
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{name!r} cannot name a selection; use letters, digits, '.', '_' and '-', and a severity as in fog:3"
        )
    return name


def read_selections(run: Path, checkpoint_sha256: str) -> dict[str, dict[str, Any]]:
    """Return a run's stored selections by name; empty when there are none.

    Raises:
        CheckpointError: the file is damaged, or a selection was made for another checkpoint.
    """
    file = run / FILE_NAME
    if not file.exists():
        return {}
    try:
        selections = json.loads(file.read_text(encoding="utf-8"))
        made_for = {name: selection["checkpoint_sha256"] for name, selection in selections.items()}
        for name, selection in selections.items():
            check_selection(name, selection)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); remove it and select again") from error
    stale = [name for name, sha256 in made_for.items() if sha256 != checkpoint_sha256]
    if stale:
        raise CheckpointError(
            f"the selection {stale[0]!r} in {file} was made for another checkpoint; remove the file and select again"
        )
    return selections


def check_selection(name: str, selection: Mapping[str, Any]) -> None:
    """Raise `ValueError` or `TypeError` where an entry is not what later commands will read."""
    places = selection["members"] if "members" in selection else [selection.get("alpha")]
    for place in places:
        if place is None or not np.isfinite(np.asarray(place, dtype=np.float64)).all():
            raise ValueError(f"{name} has no alpha")
    kinds = {"calibration": dict, "domain": dict, "domains": dict, "seed": int, "weights": list}
    for key, kind in kinds.items():
        if key in selection and not isinstance(selection[key], kind):
            raise TypeError(f"{name} has the {key} {selection[key]!r}")
    np.asarray(selection.get("weights", []), dtype=np.float64)
    if "domain" in selection and not isinstance(selection["domain"].get("data"), str):
        raise ValueError(f"{name} does not say which data it was chosen on")
    if "calibration" in selection and not isinstance(selection["calibration"].get("on"), str):
        raise ValueError(f"{name} does not say what it was calibrated on")


def store_selections(run: Path, selections: Mapping[str, Mapping[str, Any]], checkpoint_sha256: str) -> Path:
    """Add selections to a run's `selections.json`, in the place of older ones of their names.

    Raises:
        CheckpointError: what is there is damaged, or of another checkpoint.
        DataError: a name is none.
        BundleError: another process holds the run, such as one that trains it.
    """
    with locked(run, patience=_PATIENCE_SECONDS):
        kept = read_selections(run, checkpoint_sha256)
        for name, selection in selections.items():
            kept[check_selection_name(name)] = {**selection, "checkpoint_sha256": checkpoint_sha256}
        write_text(run / FILE_NAME, json.dumps(kept, indent=2, allow_nan=False) + "\n")
    return run / FILE_NAME


def check_unheld(run: Path) -> None:
    """Refuse before long work a run that another process trains: its selections could not be stored.

    Raises:
        BundleError: another process holds the run.
    """
    with locked(run, patience=_PATIENCE_SECONDS):
        pass
