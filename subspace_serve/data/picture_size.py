"""The side to which the image files of a folder are brought where the user names none."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from subspace_serve.data.decoding import FILE_FORMATS
from subspace_serve.data.folder import FolderImages
from subspace_serve.data.images import evenly_spaced

SMALL = 64
"""Pictures of this side or smaller are used at their own size."""
PHOTOGRAPH = 224
"""The side to which larger ones are brought, as is customary for ImageNet."""
_SAMPLED = 512


def typical_sizes(parts: Sequence[FolderImages]) -> list[tuple[int, int]]:
    """Return width and height of up to 512 evenly spaced files of each part, as their headers say.

    Files without a readable header are passed over: what cannot be read is another's concern.
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

    Their own where they are small, or all alike and no larger than a photograph's 224 px; otherwise 224 px. A picture's
    side is its shorter one, and the median speaks for all.
    """
    sides = sorted(min(size) for size in sizes)
    if not sides:
        return PHOTOGRAPH
    typical = sides[len(sides) // 2]
    alike = len(set(sizes)) == 1
    return typical if typical <= SMALL or (alike and typical <= PHOTOGRAPH) else PHOTOGRAPH
