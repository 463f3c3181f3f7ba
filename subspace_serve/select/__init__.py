"""Choosing the point or ensemble that suits a domain, on labelled images from there (section 4.4)."""

from __future__ import annotations

from subspace_serve.select.aim import split
from subspace_serve.select.candidates import candidates_of
from subspace_serve.select.mixture import Mixture
from subspace_serve.select.selection import DEFAULT_CALIBRATION, ON_DOMAIN, select

__all__ = ["DEFAULT_CALIBRATION", "ON_DOMAIN", "Mixture", "candidates_of", "select", "split"]
