"""Pillow's images, as files to send. Pillow is imported only when the caller passes one."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from subspace_serve.client.errors import ClientError
from subspace_serve.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_IN_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_WITHOUT_LOSS = {"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


def is_picture(value: Any) -> bool:
    """Whether a value is one of Pillow's images."""
    module = sys.modules.get("PIL.Image")  # where it was never imported, nobody has one
    return module is not None and isinstance(value, module.Image)


def png(picture: Image) -> bytes:
    """Return an image as a PNG file that gives the server the same pixels as the file that it was opened from.

    It is upright and in 8 bits, as the server would make it; transparency is kept, and other modes become grey or RGB
    as they do there. Raises `ClientError` for an image that cannot be read or written, or whose pixel values have no
    known range, which the server refuses in files too.
    """
    from PIL.Image import getmodebase

    from subspace_serve.pixels import upright

    buffer = io.BytesIO()
    try:
        seen = upright(picture)
        mode = seen.mode
        if mode not in _IN_PNG:
            seen = seen.convert(_WITHOUT_LOSS.get(mode) or getmodebase(mode))
        # The server ignores colour profiles, and the camera's orientation has been applied.
        seen.save(buffer, "PNG", compress_level=1, icc_profile=None, exif=b"")
    except DataError:
        raise ClientError(
            f"a Pillow image of mode {picture.mode} has numbers without a known range; convert it to 8 or 16 bits"
        ) from None
    except Exception as error:  # the file behind it is decoded here, and decoders raise errors of every kind
        raise ClientError(
            f"a Pillow image ({picture.mode}, {picture.width}x{picture.height}) cannot be sent ({error}); "
            "give one that Pillow can save as PNG, or the image file itself"
        ) from None
    return buffer.getvalue()
