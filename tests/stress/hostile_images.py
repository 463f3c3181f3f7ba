"""Files that are not images, are broken ones, or grow too large; and odd ones that are good."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from image_files import encoded, png
from PIL import Image

from stress.bundles import sound_images

_SIDE = 5400  # squared, more pixels than the limit


def broken_files() -> dict[str, bytes]:
    """Return files that cannot be decoded."""
    whole, photograph = png(sound_images(1)[0]), _saved("JPEG", (64, 64))
    tiff, gif = _saved("TIFF", (16, 16)), _saved("GIF", (16, 16))
    growing = zlib.compress(bytes(80_000_000), 9)
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 0xFF
    return {
        "an empty file": b"",
        "nothing but zeros": bytes(5000),
        "a text": "kein Bild \N{SNOWMAN}".encode(),
        "half a PNG": whole[: len(whole) // 2],
        "the head of a PNG": whole[:40],
        "a damaged PNG": bytes(damaged),
        "a PNG without an end of its pixels": whole[: whole.index(b"IDAT") + 6],
        "a PNG of no width": _with_size(whole, 0, 5),
        "a PNG with a text that grows": _with_chunk(whole, b"zTXt", b"note\0\0" + growing),
        "a PNG with a colour profile that grows": _with_chunk(whole, b"iCCP", b"profile\0\0" + growing),
        "a PNG with a chunk that lies about its length": whole[:33] + b"\x7f\xff\xff\xfftEXt" + whole[33:],
        "half a JPEG": photograph[: len(photograph) // 2],
        "a JPEG without tables": photograph[:20] + photograph[-40:],
        "a JPEG of many scans": _many_scans(),
        "half a GIF": gif[:20],
        "a TIFF whose directory is elsewhere": tiff[:4] + b"\xff\xff\xff\x7f" + tiff[8:],
        "a TIFF whose directory is endless": tiff[:4] + struct.pack("<I", 8) + b"\xff\xff" + bytes(40),
        "half a WebP": _saved("WEBP", (64, 64))[:60],
        "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n(/etc/passwd) (r) file\n",
        "a PDF": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << /Root 1 0 R >>\n",
        "a Windows icon": _saved("ICO", (16, 16)),
        "a pickle": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x93.",
    }


def large_files() -> dict[str, bytes]:
    """Return small files of images with more pixels than the limit."""
    small = png(sound_images(1)[0])
    return {
        "a PNG that grows": png(np.zeros((_SIDE, _SIDE), np.uint8), compress_level=1),
        "a JPEG that grows": _saved("JPEG", (_SIDE, _SIDE)),
        "a GIF that grows": _saved("GIF", (_SIDE, _SIDE)),
        "a PNG that says it is huge": _with_size(small, 2**31 - 1, 2**31 - 1),
        "a PNG that says it is long": _with_size(small, 2**31 - 1, 1),
        "a BMP that says it is huge": _bmp(60_000, 60_000),
        "a BMP of a negative width": _bmp(-5, 4),
    }


def odd_files() -> dict[str, tuple[bytes, np.ndarray]]:
    """Return files that must be taken, with the (4, 5, 3) pixels that they hold."""
    pixels = sound_images(1, seed=5)[0]
    grey = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    one = np.array([[[7, 200, 31]]], np.uint8)
    return {
        "a PNG": (png(pixels), pixels),
        "a grey PNG of 16 bits": (png(grey), np.repeat((grey // 257).astype(np.uint8)[..., None], 3, axis=2)),
        "an image of one pixel": (png(one), np.broadcast_to(one, (4, 5, 3))),
        "an image of 100000 pixels in a row": (
            png(np.full((1, 100_000), 9, np.uint8)),
            np.full((4, 5, 3), 9, np.uint8),
        ),
        "a JPEG in CMYK": _cmyk(),
        "a TIFF": (encoded(Image.fromarray(pixels), "TIFF", compression="tiff_lzw"), pixels),
        "a BMP": (encoded(Image.fromarray(pixels), "BMP"), pixels),
        "a WebP": (encoded(Image.fromarray(pixels), "WEBP", lossless=True), pixels),
        "an animation": _animation(),
    }


def _saved(format: str, size: tuple[int, int], **options: Any) -> bytes:
    return encoded(Image.new("L" if format == "GIF" else "RGB", size), format, **options)


def _many_scans() -> bytes:
    """Return a small JPEG file of 5000 passes over all of its pixels, each of which takes time."""
    file = _saved("JPEG", (4000, 4000), progressive=True, quality=50)
    start = file.rindex(b"\xff\xda")
    return file[:start] + file[start:-2] * 5000 + file[-2:]


def _cmyk() -> tuple[bytes, np.ndarray]:
    ink = np.random.default_rng(3).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    file = encoded(Image.fromarray(ink, "CMYK"), "JPEG", quality=100)
    return file, np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def _animation() -> tuple[bytes, np.ndarray]:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    file = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    return file, np.broadcast_to(np.array([255, 0, 0], np.uint8), (4, 5, 3))


def _with_chunk(file: bytes, kind: bytes, data: bytes) -> bytes:
    """Put a chunk after a PNG's head."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return file[:33] + struct.pack(">I", len(data)) + kind + data + checksum + file[33:]


def _with_size(file: bytes, width: int, height: int) -> bytes:
    """Let a PNG say that it has another size, with a checksum that fits."""
    head = b"IHDR" + struct.pack(">II", width, height) + file[24:29]
    return file[:12] + head + struct.pack(">I", zlib.crc32(head)) + file[33:]


def _bmp(width: int, height: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100)
    )
