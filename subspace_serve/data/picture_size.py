"""The side to which a folder's image files are resized where the user gives none."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from subspace_serve.data.decoding import FILE_FORMATS
from subspace_serve.data.folder import FolderImages
from subspace_serve.data.images import evenly_spaced

SMALL = 64
"""Pictures of this side or smaller are used at their own size."""
PHOTOGRAPH = 224
"""The side to which larger ones are resized, as is customary for ImageNet."""
_SAMPLED = 512


def typical_sizes(parts: Sequence[FolderImages]) -> list[tuple[int, int]]:
    """Return width and height of up to 512 evenly spaced files of each part, from their headers.

    Files without a readable header are skipped here: `file_check` reports them.
    """
    sizes = []
    for part in parts:
        for index in evenly_spaced(len(part), _SAMPLED).tolist():
            try:
                with Image.open(part.path_of(index), formats=FILE_FORMATS) as picture:
                    sizes.append(picture.size)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                continue
    return sizes


def fitting_side(sizes: Sequence[tuple[int, int]]) -> int:
    """Return the side that suits pictures of these widths and heights.

    Their own where they are at most 64 px, or all alike and at most 224 px; otherwise 224 px. A picture's side is its
    shorter one, and the median stands for all.
    """
    sides = sorted(min(size) for size in sizes)
    if not sides:
        return PHOTOGRAPH
    typical = sides[len(sides) // 2]
    alike = len(set(sizes)) == 1
    return typical if typical <= SMALL or (alike and typical <= PHOTOGRAPH) else PHOTOGRAPH
