"""A place in a subspace, alpha: as a key, as text, and from JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

Alpha = float | Sequence[float]
"""A place in a subspace: a number for a line or a curve, one non-negative number per endpoint for a simplex."""

_DIGITS = 9
_PLACE = re.compile(r"[01]?\.[0-9]+|[01]|[0-9](\.[0-9]+)?[eE]-[0-9]+|[+-][0-9]*\.?[0-9]+([eE]-[0-9]+)?")
"""A place in a text, such as 0.3, .5, 1 or 1e-05. Other numbers may be names, unless they have a sign."""


def place(alpha: Alpha) -> Alpha:
    """Return alpha as a key, rounded to 9 digits: 1 - 0.7 is the same place as 0.3."""
    if isinstance(alpha, Sequence):
        return tuple(round(value, _DIGITS) for value in alpha)
    return round(alpha, _DIGITS) + 0.0  # and not -0.0


def place_text(alpha: Alpha) -> str:
    """Return alpha for people, rounded: what `--alpha` is to take is `exact_place_text`."""
    return ",".join(f"{value:.4g}" for value in alpha) if isinstance(alpha, Sequence) else f"{alpha:g}"


def exact_place_text(alpha: Alpha) -> str:
    """Return alpha as it is written on the command line, with all its digits: read again, it is the same place."""
    values = alpha if isinstance(alpha, Sequence) else (alpha,)
    return ",".join(repr(float(value)).removesuffix(".0") for value in values)


def place_or_name(text: str) -> float | str:
    """Read a member, with or without blanks around it: a place such as 0.3, or else a point's name, such as 2024."""
    text = text.strip()
    return float(text) if _PLACE.fullmatch(text) else text


def place_from_json(value: Any) -> Alpha:
    """Return alpha from a JSON value; whether it lies in the domain is for the geometry to check."""
    return tuple(value) if isinstance(value, list) else cast(float, value)


def is_midpoint(alpha: Alpha) -> bool:
    """Return whether a place is the centre of its geometry's domain."""
    if isinstance(alpha, Sequence):
        return max(alpha) - min(alpha) < 1e-9
    return abs(alpha - 0.5) < 1e-9


def is_end(alpha: Alpha) -> bool:
    """Return whether a place coincides with an endpoint."""
    return max(alpha) == 1 if isinstance(alpha, Sequence) else alpha in (0, 1)
