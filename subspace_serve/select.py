"""Choosing the place in a subspace that suits a domain, on labelled images from there (section 4.4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subspace_serve.calibration_data import CalibrationData
from subspace_serve.data import Images, Preprocessing
from subspace_serve.errors import CheckpointError, DataError
from subspace_serve.evaluate import default_alphas, evaluate
from subspace_serve.files import write_text
from subspace_serve.geometry import Alpha, Geometry
from subspace_serve.subspace import Subspace

FILE_NAME = "selections.json"
METRICS = {"accuracy": max, "nll": min, "ece": min, "brier": min}
"""What can be chosen by, and whether more or less of it is better."""


def candidate_alphas(geometry: Geometry, points: int) -> list[Alpha]:
    """Return the places that are compared: a grid on a line or curve, a lattice on a simplex (with its midpoint)."""
    if not geometry.barycentric:
        grid = default_alphas(geometry, points)
        return list(dict.fromkeys([*grid, geometry.midpoint]))
    parts = max(2, round(points ** (1 / max(geometry.endpoints - 1, 1))))
    lattice = [tuple(count / parts for count in counts) for counts in _compositions(parts, geometry.endpoints)]
    return list(dict.fromkeys([*lattice, geometry.midpoint]))


def _compositions(total: int, length: int) -> list[tuple[int, ...]]:
    """Return all ways to write `total` as `length` ordered non-negative whole numbers."""
    if length == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1) for rest in _compositions(total - first, length - 1)]


def select(
    subspace: Subspace,
    images: Images,
    *,
    preprocessing: Preprocessing,
    calibration: CalibrationData,
    metric: str = "accuracy",
    points: int = 11,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Choose the place with the best metric on one half of the images, and report it on the other half.

    Equal places are decided for the one nearest to the midpoint.

    Args:
        subspace: where to choose.
        images: labelled images of the domain; never the test set.
        preprocessing: the networks' normalisation.
        calibration: images for BatchNorm's statistics.
        metric: `accuracy`, `nll`, `ece` or `brier`.
        points: how fine the grid is.
        seed: of the division into halves.
        progress: called with a line for each place.

    Returns:
        JSON values: `alpha`, `metric`, `seed`, `grid` (each place with its value on the choosing half), and on the
        reporting half `reported` and `midpoint`, the metrics of the chosen place and of the midpoint; `chosen_on` and
        `reported_on` count the images.

    Raises:
        DataError: the metric is unknown, or there are fewer than two images.
    """
    if metric not in METRICS:
        raise DataError(f"cannot choose by {metric!r}; choose {', '.join(METRICS)}")
    if len(images) < 2:
        raise DataError(f"selection chooses on one half of the images and reports on the other; got {len(images)}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    choosing, reporting = images.subset(order[: len(order) // 2]), images.subset(order[len(order) // 2 :])

    def measured(part: Images, alphas: Sequence[Alpha]) -> list[dict[str, Any]]:
        document = evaluate(
            subspace,
            part,
            preprocessing=preprocessing,
            calibration=calibration,
            alphas=alphas,
            ensembles=False,
            progress=progress,
        )
        return document["points"]

    midpoint = subspace.geometry.midpoint
    grid = measured(choosing, candidate_alphas(subspace.geometry, points))
    best = METRICS[metric](point["metrics"][metric] for point in grid)
    tied = [point["alpha"] for point in grid if point["metrics"][metric] == best]
    alpha = min(tied, key=lambda place: float(np.abs(np.subtract(place, midpoint)).sum()))
    reported = {_key(point["alpha"]): point["metrics"] for point in measured(reporting, [alpha, midpoint])}
    return {
        "alpha": alpha,
        "metric": metric,
        "seed": seed,
        "chosen_on": len(choosing),
        "reported_on": len(reporting),
        "calibration": calibration.to_json(),
        "grid": [{"alpha": point["alpha"], metric: point["metrics"][metric]} for point in grid],
        "reported": reported[_key(alpha)],
        "midpoint": reported[_key(midpoint)],
    }


def _key(alpha: Alpha) -> str:
    return json.dumps(alpha)


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
        damaged = [name for name, selection in selections.items() if "alpha" not in selection]
        if damaged:
            raise ValueError(f"{damaged[0]} has no alpha")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); remove it and select again") from error
    stale = [name for name, sha256 in made_for.items() if sha256 != checkpoint_sha256]
    if stale:
        raise CheckpointError(
            f"the selection {stale[0]!r} in {file} was made for another checkpoint; remove the file and select again"
        )
    return selections


def store_selection(run: Path, name: str, selection: dict[str, Any], checkpoint_sha256: str) -> Path:
    """Add a selection to a run's `selections.json`, in the place of an older one of that name."""
    selections = read_selections(run, checkpoint_sha256)
    selections[name] = selection | {"checkpoint_sha256": checkpoint_sha256}
    write_text(run / FILE_NAME, json.dumps(selections, indent=2) + "\n")
    return run / FILE_NAME
