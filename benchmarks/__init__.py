"""Measurements: each module prints or writes figures that the documentation quotes."""
