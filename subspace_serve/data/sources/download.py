"""Fetching the files of a published data set, whole and unchanged or not at all."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from subspace_serve.errors import DataError
from subspace_serve.files import atomic_file

_SECONDS = 60
_CHUNK = 1 << 20


def md5_of(path: Path) -> str:
    """Return the MD5 of a file, which is what is published for these sets; it detects damage, not tampering."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(name: str, addresses: Sequence[str], md5: str, target: Path) -> None:
    """Fetch a file of the data set `name` from the first address that provides it.

    Args:
        name: of the data set, for the message.
        addresses: of the same file, at its publisher and at mirrors.
        md5: the published checksum, in hexadecimal digits.
        target: where to put the file; its folder is made.

    Raises:
        DataError: no address provides the file with that checksum.
    """
    reasons = []
    for address in addresses:
        try:
            with atomic_file(target) as temporary:
                with urllib.request.urlopen(address, timeout=_SECONDS) as answer, open(temporary, "wb") as file:
                    shutil.copyfileobj(answer, file, _CHUNK)
                found = md5_of(temporary)
                if found != md5:
                    raise OSError(f"its checksum should be {md5} and is {found}")
            return
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{address}: {error}")
    raise DataError(f"{name} cannot be downloaded to {target.parent} ({'; '.join(reasons)}); check the connection")
