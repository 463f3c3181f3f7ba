"""Writes a report's folder: one self-contained HTML page, and its pictures as files as well."""

from __future__ import annotations

import base64
import struct
from importlib import resources
from pathlib import Path

from subspace_serve import __version__
from subspace_serve.files import atomic_folder, check_replaceable
from subspace_serve.show.plot.documents import check_same_points
from subspace_serve.show.report import changed, chosen, measured, provenance, shape, spoilt
from subspace_serve.show.report.content import DOTS_PER_INCH, Documents, Section
from subspace_serve.show.report.summary import summary

PAGE = "report.html"
PICTURES = (
    "accuracy.png", "reliability.png", "changed.png", "heatmap.png", "corruptions.png", "relative-change.png",
    "plane.png", "distances.png", "selections.png",
)  # fmt: skip


def write_report(target: Path | str, documents: Documents) -> Path:
    """Write a report into a folder, and return its page.

    The page needs nothing else: its pictures are embedded, nothing is fetched and no script runs. The same documents
    give the same bytes.

    Args:
        target: the folder, written whole; an older report in it is replaced.
        documents: what the report shows.

    Raises:
        SubspaceServeError: the folder cannot be replaced (`check_target`), or the evaluation has no points.
    """
    target = check_target(target)
    check_same_points([documents.evaluation])
    sections = [build(documents) for build in _SECTIONS]
    with atomic_folder(target) as folder:
        pictures = {}
        for figure in (figure for section in sections for figure in section.figures):
            figure.draw(folder / figure.file)
            pictures[figure.file] = (folder / figure.file).read_bytes()
        # Not every path is text in UTF-8.
        page = render(documents, sections, pictures)
        (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    return target / PAGE


def check_target(target: Path | str) -> Path:
    """Return a report's folder as a path; call this before the work that the report shows.

    Raises:
        SubspaceServeError: there is a file or a mount point of that name, or a folder that holds something else.
    """
    target = Path(target)
    check_replaceable(
        target,
        lambda names: [name for name in names if name not in (PAGE, *PICTURES)],
        "{target} is not a report's folder: found {found} in it, which writing a report would remove; choose another "
        "folder (--out)",
    )
    return target


def render(documents: Documents, sections: list[Section], pictures: dict[str, bytes]) -> str:
    """Return the page; `pictures` holds the PNG bytes of every figure, by file name."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files("subspace_serve.show.report").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        run=documents.run,
        geometry=documents.run["geometry"],
        imported=(documents.run.get("provenance") or {}).get("import"),
        sections=sections,
        pictures={name: base64.b64encode(content).decode("ascii") for name, content in pictures.items()},
        widths={name: _width(content) for name, content in pictures.items()},
        version=__version__,
    )


def _width(png: bytes) -> int:
    """Return how wide a picture is on the page, in CSS pixels: 100 per inch of a figure."""
    (pixels,) = struct.unpack(">I", png[16:20])
    return round(100 * pixels / DOTS_PER_INCH)


_SECTIONS = (
    summary, measured.along, measured.reliability, changed.changed, spoilt.corruptions, chosen.selections, shape.plane,
    shape.distances, provenance.provenance,
)  # fmt: skip
