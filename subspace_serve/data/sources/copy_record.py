"""corruptions.json: what a corrupted copy of a data set holds and how it was made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from subspace_serve.errors import DataError

FILE_NAME = "corruptions.json"
_FORMAT = "subspace-serve corruptions"
_VERSION = 1


@dataclass(frozen=True)
class CopyRecord:
    """What a corrupted copy holds.

    Attributes:
        data: the data set's specification.
        split: the part of it that was corrupted.
        fingerprint: of that part before it was corrupted.
        label_names: one per class.
        count: images at each severity.
        shape: height, width and channels.
        preset: the table of strengths.
        seed: of what is random in a corruption.
        severities: in the order in which each file holds them.
        corruptions: the types, one file each.
        created_by: the version that wrote it.
    """

    data: str
    split: str
    fingerprint: str
    label_names: tuple[str, ...]
    count: int
    shape: tuple[int, int, int]
    preset: str
    seed: int
    severities: tuple[int, ...]
    corruptions: tuple[str, ...]
    created_by: str

    def to_json(self) -> dict[str, Any]:
        return {"format": _FORMAT, "version": _VERSION, **asdict(self)}

    def to_text(self) -> str:
        """Return what the file holds."""
        return json.dumps(self.to_json(), indent=2) + "\n"


def read_record(folder: Path) -> CopyRecord:
    """Read the record of a corrupted copy.

    Raises:
        DataError: it is missing, damaged, or of another version.
    """
    path = folder / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT or document["version"] != _VERSION:
            raise ValueError(f"format {document['format']!r}, version {document['version']!r}")
        fields = {name: document[name] for name in CopyRecord.__dataclass_fields__}
        for name, kind in (("label_names", str), ("shape", int), ("severities", int), ("corruptions", str)):
            fields[name] = tuple(fields[name])
            if not fields[name] or not all(type(value) is kind for value in fields[name]):
                raise ValueError(f"{name} {fields[name]}")
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} is no corrupted copy: it has no {FILE_NAME}; give a folder that `subspace-serve corrupt` wrote"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not what version {_VERSION} of a corrupted copy has there (found {error}); write the copy again"
        ) from error
    return CopyRecord(**fields)
