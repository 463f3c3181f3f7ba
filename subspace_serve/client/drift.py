"""Whether the images that a model answers have changed: the answer of GET /models/{model}/drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Drift:
    """What the drift alarm knows of one model's stream of images.

    Attributes:
        model: whose answers are watched.
        images: how many were, since the stream began.
        alarm: whether there was one; without a change there ever is with a probability of at most 5 %.
        since: when, and `since_image` after which image, counted from 1; both None without an alarm.
        p_value: a bound on how probable so much evidence is, ever, if nothing has changed.
        log10_wealth: the evidence now, and `statistics` by the statistic's name; there is an alarm at log10 20.
        calibration_images: how many images of the bundle the stream is compared with, 0 where there are none.
        advice: what to do.
    """

    model: str
    images: int
    alarm: bool
    since: datetime | None
    since_image: int | None
    p_value: float
    log10_wealth: float
    statistics: Mapping[str, float]
    calibration_images: int
    advice: str

    @classmethod
    def from_json(cls, document: Any) -> Drift:
        """Read the server's document. Raises `KeyError`, `TypeError` or `ValueError` for another one."""
        since, calibration = document["since"], document["calibration"]
        return cls(
            model=document["model"],
            images=int(document["images"]),
            alarm=bool(document["alarm"]),
            since=datetime.fromisoformat(since["time"].replace("Z", "+00:00")) if since else None,
            since_image=int(since["image"]) if since else None,
            p_value=float(document["p_value"]),
            log10_wealth=float(document["log10_wealth"]),
            statistics={entry["name"]: float(entry["log10_wealth"]) for entry in document["statistics"]},
            calibration_images=int(calibration["images"]) if calibration else 0,
            advice=document["advice"],
        )
