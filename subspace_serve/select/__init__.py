"""Choosing the point or ensemble that suits a domain, on labelled images from there (section 4.4)."""

from __future__ import annotations

from subspace_serve.select.candidates import KINDS, candidates_of
from subspace_serve.select.selection import DEFAULT_CALIBRATION, METRICS, ON_DOMAIN, raced, select, split
from subspace_serve.select.store import FILE_NAME, check_selection_name, read_selections, store_selections

__all__ = [
    "DEFAULT_CALIBRATION",
    "FILE_NAME",
    "KINDS",
    "METRICS",
    "ON_DOMAIN",
    "candidates_of",
    "check_selection_name",
    "raced",
    "read_selections",
    "select",
    "split",
    "store_selections",
]
