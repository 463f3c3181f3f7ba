"""Pillow's images, as files to send. Pillow is imported only once somebody hands one over."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from subspace_serve.client.errors import ClientError

if TYPE_CHECKING:
    from PIL.Image import Image

_IN_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_WITHOUT_LOSS = {
    "I": "I;16",
    "I;16B": "I;16",
    "I;16L": "I;16",
    "I;16N": "I;16",
    "La": "LA",
    "PA": "RGBA",
    "RGBa": "RGBA",
}
# Of these modes only such files have a known range, 16 bits.
_WITHOUT_RANGE = ("I", "F")
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")


def is_picture(value: Any) -> bool:
    """Whether a value is one of Pillow's images."""
    module = sys.modules.get("PIL.Image")  # where it was never imported, nobody has one
    return module is not None and isinstance(value, module.Image)


def png(picture: Image) -> bytes:
    """Return an image as a PNG file that the server takes for the file that it was opened from.

    The orientation stored by cameras is applied, 16-bit grey and transparency are kept, other modes become grey or RGB
    as they do in the server. Raises `ClientError` for an image that cannot be read or written, or whose numbers have no
    known range, which the server refuses in files too.
    """
    from PIL.Image import getmodebase
    from PIL.ImageOps import exif_transpose

    if picture.mode in _WITHOUT_RANGE and picture.format not in _SIXTEEN_BIT_FORMATS:
        raise ClientError(
            f"a Pillow image of mode {picture.mode} has numbers without a known range; convert it to 8 or 16 bits"
        )
    buffer = io.BytesIO()
    try:
        upright = exif_transpose(picture)
        if upright.mode not in _IN_PNG:
            upright = upright.convert(_WITHOUT_LOSS.get(upright.mode) or getmodebase(upright.mode))
        # A profile of colours has no effect in the server.
        upright.save(buffer, "PNG", compress_level=1, icc_profile=None)
    except Exception as error:  # the file behind it is decoded here, and decoders raise errors of every kind
        raise ClientError(
            f"a Pillow image ({picture.mode}, {picture.width}x{picture.height}) cannot be sent ({error}); "
            "give one that Pillow can save as PNG, or the image file itself"
        ) from None
    return buffer.getvalue()
