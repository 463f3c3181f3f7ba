"""Data sets of corrupted images, by type and severity: what their readers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from subspace_serve.data.sources.source import Options, Source
from subspace_serve.errors import DataError
from subspace_serve.suggestions import did_you_mean

SEVERITIES = (1, 2, 3, 4, 5)
Contents = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class CorruptedReader:
    """How a set of corrupted images is read.

    Attributes:
        contents: returns the types found in a folder and the severities of each; empty where the set has none.
        read: reads one type at one severity (0 where there are none) from that folder.
        trains: whether training images are published too, and not only test images.
    """

    contents: Callable[[Path], Contents]
    read: Callable[[Path, str, int, Options], Source]
    trains: bool = False


def listed_contents(name: str, reader: CorruptedReader, path: Path) -> Contents:
    """Return what is in a folder of corrupted images, the types sorted by name, without hidden ones.

    Raises:
        DataError: the folder does not exist or holds nothing of the kind.
    """
    if not path.is_dir():
        raise DataError(f"{name} lies in a folder; found none at {path}; write {name}:PATH:TYPE:SEVERITY")
    contents = {name: found for name, found in reader.contents(path).items() if not name.startswith(".")}
    if not contents:
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise DataError(f"{path} holds no corrupted images in the layout of {name}; found {found}; correct the path")
    return dict(sorted(contents.items()))


def read_corrupted(
    name: str, reader: CorruptedReader, path: Path, corruption: str | None, severity: str | None, options: Options
) -> Source:
    """Read one type at one severity.

    Raises:
        DataError: the type or severity is not given or not there; the message lists what is there.
    """
    contents = listed_contents(name, reader, path)
    types = ", ".join(contents)
    if corruption is None:
        first, found = next(iter(contents.items()))
        example = ":".join([name, str(path), first, *(str(found[-1]) for _ in found[:1])])
        raise DataError(f"{name} needs a type of corruption; found {types} in {path}; write for example {example}")
    if corruption not in contents:
        hint = did_you_mean(corruption, contents, 2) or "choose one of these"
        raise DataError(f"there is no corruption {corruption!r} in {path}; found {types}; {hint}")
    severities = contents[corruption]
    if not severities and severity is not None:
        raise DataError(
            f"{name} has no severities; found severity {severity!r}; write {name}:{path}:{corruption} without it"
        )
    known = [str(level) for level in severities]
    if severities and severity not in known:
        given = "found no severity" if severity is None else f"there is no severity {severity!r}"
        raise DataError(
            f"{corruption} in {path} has the severities {', '.join(known)}; {given}; "
            f"write for example {name}:{path}:{corruption}:{known[-1]}"
        )
    return reader.read(path, corruption, int(severity or 0), options)


def check_rows(path: Path, rows: int, severities: int) -> int:
    """Return how many images each severity has, in an array of `rows` images that holds one after another.

    Raises:
        DataError: the rows cannot be divided evenly, or there are none.
    """
    count, rest = divmod(rows, severities)
    if rest or not count:
        raise DataError(
            f"{path} should hold {severities} severities of equally many images; found {rows} images; get it again"
        )
    return count
