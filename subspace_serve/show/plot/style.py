"""What all pictures share: colours, fonts, and files that are written whole and are the same for the same numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subspace_serve.errors import SubspaceServeError
from subspace_serve.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; line styles and hatches do the same in grey.
SUBSPACE, BASELINE = "#0072B2", "#D55E00"
GREY = "#555555"
COLOR_MAP = "cividis"
"""A sequential map, from dark to light, that looks similar with any kind of colour vision and is monotonic in grey."""

DOTS_PER_INCH = 100
_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11,
    "grid.alpha": 0.3,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "svg.hashsalt": "subspace-serve",  # the same picture gives the same bytes
}
_METADATA: dict[str, dict[str, str | None]] = {".png": {"Software": None}, ".svg": {"Date": None}}


def check_picture(target: Path | str) -> Path:
    """Return `target` as a path; call this before the work whose result the picture shows.

    Raises:
        SubspaceServeError: its suffix is neither `.png` nor `.svg`.
    """
    target = Path(target)
    if target.suffix not in _METADATA:
        raise SubspaceServeError(f"A picture's name must end in .png or .svg; found {target.name!r}.")
    return target


@contextlib.contextmanager
def picture(target: Path | str, size: tuple[float, float], *, dots_per_inch: int = DOTS_PER_INCH) -> Iterator[Figure]:
    """Yield an empty figure of `size` inches; `target` is written, whole, when the block succeeds.

    Raises:
        SubspaceServeError: the suffix of `target` is neither `.png` nor `.svg`.
    """
    target = check_picture(target)
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        with atomic_file(target) as temporary:
            figure.savefig(temporary, format=target.suffix[1:], dpi=dots_per_inch, metadata=_METADATA[target.suffix])


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend below all panels; of one panel `axes.get_legend_handles_labels()` gives both."""
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)


def plain(name: str) -> str:
    """Return a name that a user gave so that matplotlib draws it as it is: a `$` begins no formula."""
    return name.replace("$", r"\$")
