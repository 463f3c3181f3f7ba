"""What a reproduction found, as one Markdown page with its pictures."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace_serve.files import write_text
from subspace_serve.packages import versions
from trainer.reproduce.description import Claim, Figure, Results
from trainer.reproduce.numbers import numbers_of, values_table
from trainer.reproduce.scales import Scale
from trainer.reproduce.verdict import FAILS, HOLDS, WITHIN_NOISE, verdict


@dataclass(frozen=True)
class Judged:
    """A claim as it was found on one panel, as JSON values."""

    panel: str
    text: str
    word: str
    differences: tuple[float, ...]
    mean: float
    deviation: float | None
    unit: str
    of_paper: bool = True

    @property
    def numbers(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.3g}"
        return f"{self.mean:+.3g}{spread} {self.unit}".rstrip()


def judge(figure: Figure, scale: Scale, panels: Mapping[str, Results]) -> list[Judged]:
    """Test a figure's claims on each panel."""
    return [_judge(claim, title, results) for title, results in panels.items() for claim in figure.claims(scale)]


def _judge(claim: Claim, panel: str, results: Results) -> Judged:
    differences = list(claim.difference(results))
    found = verdict(differences, claim.margin, strict=claim.strict)
    scaled = tuple(round(claim.scale * value, 6) for value in differences)
    deviation = None if found.deviation is None else claim.scale * found.deviation
    return Judged(
        panel, claim.text, found.word, scaled, claim.scale * found.mean, deviation, claim.unit, claim.of_paper
    )


def figure_document(
    figure: Figure, scale: Scale, panels: Mapping[str, Results], judged: Sequence[Judged], command: str
) -> dict[str, Any]:
    """Return what is kept of a figure beside its picture: claims, numbers and where they came from."""
    seeds = len(next(iter(next(iter(panels.values())).values())))
    return {
        "figure": figure.name,
        "title": figure.title,
        "scale": scale.name,
        "seeds": list(range(seeds)),
        "command": command,
        "note": figure.note,
        "claims": [claim.__dict__ for claim in judged],
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": versions(),
        "numbers": {title: {label: [numbers_of(run) for run in runs] for label, runs in results.items()}
                    for title, results in panels.items()},
    }  # fmt: skip


def write_figure(folder: Path, document: dict[str, Any]) -> None:
    """Write a figure's document beside its picture."""
    write_text(folder / f"figure-{int(document['figure']):02d}.json", json.dumps(document, indent=1) + "\n")


def write_page(target: Path, pictures: Path, introduction: str) -> None:
    """Write the page of all figures whose documents lie in `pictures`.

    Args:
        target: the page.
        pictures: the folder of pictures and documents, below the page's own.
        introduction: what stands above the figures, in Markdown.
    """
    documents = [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted(pictures.glob("figure-[0-9][0-9].json"))
    ]
    parts = ["# Reproduction of the paper's figures", introduction, _counts(documents)]
    where = os.path.relpath(pictures, target.parent)
    for document in documents:
        parts.append(_section(document, where))
    write_text(target, "\n\n".join(parts) + "\n")


def _counts(documents: Sequence[dict[str, Any]]) -> str:
    words = [claim["word"] for document in documents for claim in document["claims"] if claim.get("of_paper", True)]
    rows = [
        f"| [{document['figure']}](#figure-{document['figure']}) | {document['title']} | "
        + " | ".join(
            str(sum(claim["word"] == word for claim in document["claims"] if claim.get("of_paper", True)))
            for word in (HOLDS, WITHIN_NOISE, FAILS)
        )
        + " |"
        for document in documents
    ]
    total = " | ".join(f"**{words.count(word)}**" for word in (HOLDS, WITHIN_NOISE, FAILS))
    return "\n".join(
        [f"| figure | | {HOLDS} | {WITHIN_NOISE} | {FAILS} |", "|---|---|---|---|---|", *rows, f"| all | | {total} |"]
    )


def _section(document: dict[str, Any], where: str) -> str:
    number = document["figure"]
    seeds = ", ".join(map(str, document["seeds"]))
    lines = [
        f"## Figure {number}",
        "",
        f"{document['title']}. `{document['command']}`, seeds {seeds}, {document['hardware']}.",
        *(["", document["note"]] if document["note"] else []),
        "",
        f"![{document['title']}]({where}/figure-{int(number):02d}.png)",
        *_claims_table("the paper says", [claim for claim in document["claims"] if claim.get("of_paper", True)]),
        *_claims_table("beyond the paper", [claim for claim in document["claims"] if not claim.get("of_paper", True)]),
        *values_table(document["numbers"]),
    ]
    return "\n".join(lines)


def _claims_table(heading: str, claims: Sequence[dict[str, Any]]) -> list[str]:
    """Return claims and their verdicts as a Markdown table; nothing where there are none."""
    if not claims:
        return []
    several = len({claim["panel"] for claim in claims}) > 1
    rows = [
        f"| {claim['text']}{_panel(claim) if several else ''} | {_numbers_of(claim)} | **{claim['word']}** |"
        for claim in claims
    ]
    return ["", f"| {heading} | here | verdict |", "|---|---|---|", *rows]


def _panel(claim: dict[str, Any]) -> str:
    return f" ({claim['panel']})"


def _numbers_of(claim: dict[str, Any]) -> str:
    return Judged(**{**claim, "differences": tuple(claim["differences"])}).numbers
