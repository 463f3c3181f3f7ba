"""Weights that were trained elsewhere: read without running code, fitted to a network, and made a run of."""

from __future__ import annotations
