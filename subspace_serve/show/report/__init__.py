"""A report for people: what a subspace is, how good it is and where, on one HTML page that needs nothing else."""

from __future__ import annotations

from subspace_serve.show.report.content import Documents
from subspace_serve.show.report.page import PAGE, check_target, write_report

__all__ = ["PAGE", "Documents", "check_target", "write_report"]
