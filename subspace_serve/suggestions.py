"""Names in messages: the first of many, and what a mistyped one may have been meant for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_LONGEST = 100
"""The longest name that is compared: clients may send names of megabytes."""


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """Return `did you mean a or b?` with the nearest known names, at most so many; empty when none is near."""
    import difflib  # imported here, since only errors need it and every --help would wait

    near = difflib.get_close_matches(name, known, n=most) if len(name) <= _LONGEST else []
    return f"did you mean {' or '.join(near)}?" if near else ""


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
