"""Tables of the docs: means and standard deviations over seeds, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from subspace_serve.files import write_text


def spread(values: Sequence[float]) -> str:
    """Return a mean, and with several seeds their standard deviation."""
    digits = 3 if max(map(abs, values)) < 3.2 else 1
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, its first column left and the others right aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def replace_tables(page: Path, text: str, begin: str, end: str = "") -> None:
    """Write text between two markers of a page, or from one on, in the place of what is there.

    Raises:
        ValueError: a marker is not there.
    """
    whole = page.read_text(encoding="utf-8")
    before, _, rest = whole.partition(begin)
    if begin not in whole or end not in rest:
        raise ValueError(f"{page} has no markers {begin!r} and {end!r} between which its tables are")
    after = end + rest.partition(end)[2] if end else ""
    write_text(page, before + begin + text + after)
