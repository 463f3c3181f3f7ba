"""A report for people: what a subspace is, how good it is and where, on one self-contained HTML page."""

from __future__ import annotations

from subspace_serve.show.report.content import Documents
from subspace_serve.show.report.page import check_target, write_report

__all__ = ["Documents", "check_target", "write_report"]
