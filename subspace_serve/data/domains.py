"""Where a network may have to run: labelled images as they are, or under a corruption."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from subspace_serve.data import CorruptedImages, Images
from subspace_serve.errors import DataError
from subspace_serve.suggestions import did_you_mean


@dataclass(frozen=True)
class Domain:
    """Labelled images from one place.

    Attributes:
        name: the name under which results are kept; `fog:3` for a corruption and its severity.
        images: the images.
        record: what is needed to load them again: `data`, and for a corruption `corruption`, `severity`, `preset` and
            `seed`; of files that may change also the `fingerprint` of the images in them.
    """

    name: str
    images: Images
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What the images are, for people (`described`)."""
        return described(self.record)


def described(record: Mapping[str, Any]) -> str:
    """Return what the images of a domain are, from its record: their specification, and a corruption if any."""
    # For images that are stored corrupted, `data` already names the corruption.
    corruption = f", {record['corruption']}:{record['severity']}" if "preset" in record else ""
    return f"{record['data']}{corruption}"


def corrupted_domains(
    images: Images,
    spec: str,
    corruptions: Iterable[str],
    severities: Sequence[int],
    *,
    preset: str | None = None,
    seed: int = 0,
) -> list[Domain]:
    """Return a domain for each type and severity; images are corrupted when they are read (section 4.4).

    Args:
        images: clean images.
        spec: their specification, for the record.
        corruptions: types of `subspace_serve.data.corruptions.CORRUPTIONS`.
        severities: from 1 to 5.
        preset: the severity table `cifar`, `tiny` or `imagenet`; by the images' size when None.
        seed: of the noise.

    Raises:
        DataError: a type, a severity or a preset does not exist.
    """
    from subspace_serve.data.corruptions import preset_for

    table = preset or preset_for(*images.shape[:2])
    return [
        Domain(
            f"{name}:{severity}",
            CorruptedImages(images, name, severity, preset=table, seed=seed),
            {"data": spec, "corruption": name, "severity": severity, "preset": table, "seed": seed},
        )
        for name in corruptions
        for severity in severities
    ]


def parse_corruptions(texts: Iterable[str], known: Sequence[str]) -> list[str]:
    """Read types as the command line takes them: names, lists with commas, or `all`.

    Raises:
        DataError: a name is not among `known`; the message suggests similar ones. Or none is given.
    """
    names: list[str] = []
    for name in (part.strip() for text in texts for part in text.split(",") if part.strip()):
        if name == "all":
            names += known
        elif name in known:
            names.append(name)
        else:
            hint = did_you_mean(name, known, 3) or f"choose all or some of {', '.join(known)}"
            raise DataError(f"there is no corruption {name!r}; {hint}")
    if not names:
        raise DataError(f"no corruption is named; choose all or some of {', '.join(known)}")
    return list(dict.fromkeys(names))
