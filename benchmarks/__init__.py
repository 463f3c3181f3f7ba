"""Benchmarks: they print or write the figures that the documentation quotes."""
