"""What a reproduction found, as one Markdown page with its pictures; several scales stand side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from subspace_serve.files import write_text
from subspace_serve.packages import versions
from trainer.reproduce.by_length import plot_by_length
from trainer.reproduce.description import Claim, Document, Figure, Results
from trainer.reproduce.introduction import introduction
from trainer.reproduce.numbers import numbers_of, values_table
from trainer.reproduce.overview import by_text, counts_table, finished_of, row, side_by_side, suffix
from trainer.reproduce.scales import SCALES, Scale
from trainer.reproduce.unfinished import unfinished_text
from trainer.reproduce.verdict import verdict

_BY_LENGTH = """\
How the verdicts move with length, over epochs, by the rule of the claims: a full marker holds, a half one holds within
noise, an empty one does not hold here; a bar reaches down to the end of the interval, and the grey line is where the
claim's side begins.

![Leads and verdicts by length of training]({picture})"""


def judge(figure: Figure, scale: Scale, panels: Mapping[str, Results]) -> list[Document]:
    """Test a figure's claims on each panel; return what each says and what was found, as JSON values."""
    return [_judge(claim, title) for title, results in panels.items() for claim in figure.claims(scale, results)]


def _judge(claim: Claim, panel: str) -> Document:
    differences = claim.differences.tolist()
    found = verdict(differences, claim.margin, strict=claim.strict)
    return {
        "panel": panel,
        "text": claim.text,
        "word": found.word,
        "differences": [round(claim.scale * value, 6) for value in differences],
        "mean": claim.scale * found.mean,
        "deviation": None if found.deviation is None else claim.scale * found.deviation,
        "unit": claim.unit,
        "of_paper": claim.of_paper,
    }


def claim_numbers(claim: Document) -> str:
    """Return a claim's numbers as text: mean, spread and unit."""
    spread = "" if claim["deviation"] is None else f" ± {claim['deviation']:.3g}"
    return f"{claim['mean']:+.3g}{spread} {claim['unit']}".rstrip()


def figure_document(
    figure: Figure,
    scale: Scale,
    panels: Mapping[str, Results],
    judged: Sequence[Document],
    command: str,
    hardware: Iterable[str],
) -> Document:
    """Return what is kept beside a figure's picture: claims, numbers and where they came from, as JSON values."""
    seeds = len(next(iter(next(iter(panels.values())).values())))
    return {
        "figure": figure.name,
        "title": figure.title,
        "scale": scale.name,
        "seeds": list(range(seeds)),
        "command": command,
        "note": figure.note,
        "claims": list(judged),
        "hardware": "; ".join(sorted(hardware)),
        "versions": versions(),
        "numbers": {title: {str(case): [numbers_of(run) for run in runs] for case, runs in results.items()}
                    for title, results in panels.items()},
    }  # fmt: skip


def write_figure(picture: Path, document: Document) -> None:
    """Write a figure's document beside its picture."""
    write_text(picture.with_suffix(".json"), json.dumps(document, indent=1) + "\n")


def picture_file(page: Path, scale: str, figure: str) -> Path:
    """Return where a page's picture of a figure lies."""
    return page.with_suffix("") / scale / f"figure-{int(figure):02d}.png"


def write_page(page: Path) -> None:
    """Write the page of all figures, of every scale, whose documents lie beside their pictures."""
    documents: dict[str, list[Document]] = {}
    for name in SCALES:
        for file in sorted(picture_file(page, name, "0").parent.glob("figure-[0-9][0-9].json")):
            document = json.loads(file.read_text(encoding="utf-8"))
            documents.setdefault(document["figure"], []).append(document)
    figures = [documents[figure] for figure in sorted(documents, key=int)]
    scales = [name for name in SCALES if any(each["scale"] == name for figure in figures for each in figure)]
    parts = ["# Reproduction of the paper's figures", introduction([SCALES[name] for name in scales])]
    parts += [
        counts_table(figures, scales),
        *side_by_side(figures, scales),
        *(_section(each, page) for each in figures),
    ]
    if lengths := finished_of(documents.get("10", [])):
        plot_by_length(lengths, _by_length_file(page))
    write_text(page, "\n\n".join(parts) + "\n")


def _by_length_file(page: Path) -> Path:
    return page.with_suffix("") / "verdicts-by-length.png"


def _section(documents: Sequence[Document], page: Path) -> str:
    """Return a figure's part of the page."""
    first, scales = documents[0], [document["scale"] for document in documents]
    finished = finished_of(documents)
    lines = [f"## Figure {first['figure']}", ""]
    made = [
        f"`{each['command']}`, seeds {', '.join(map(str, each['seeds']))}, {each['hardware']}." for each in finished
    ]
    lines.append(" ".join([f"{first['title']}.", *made]))
    lines += [line for each in documents if "unfinished" in each for line in ("", unfinished_text(each))]
    if first["note"]:
        lines += ["", first["note"]]
    if first["figure"] == "10" and finished:
        lines += ["", _BY_LENGTH.format(picture=_by_length_file(page).relative_to(page.parent).as_posix())]
    for scale in (document["scale"] for document in finished):
        picture = picture_file(page, scale, first["figure"]).relative_to(page.parent).as_posix()
        lines += ["", f"![{first['title']}{suffix(scale, scales)}]({picture})"]
    lines += _claims_table("the paper says", documents, of_paper=True)
    lines += _claims_table("beyond the paper", documents, of_paper=False)
    for document in finished:
        scale = document["scale"]
        summary = "the runs' own numbers" + suffix(scale, scales)
        lines += values_table(document["numbers"], SCALES[scale].metrics, summary)
    return "\n".join(lines)


def _claims_table(heading: str, documents: Sequence[Document], *, of_paper: bool) -> list[str]:
    """Return claims and their verdicts at each scale as a Markdown table; nothing where there are none."""
    rows: dict[str, dict[str, Document]] = {}
    for document in documents:
        for text, claim in by_text(document, of_paper=of_paper).items():
            rows.setdefault(text, {})[document["scale"]] = claim
    if not rows:
        return []
    scales = [document["scale"] for document in documents]
    headings = [word + suffix(scale, scales) for scale in scales for word in ("here", "verdict")]
    lines = ["", row(heading, *headings), "|---" * (1 + len(headings)) + "|"]
    for text, found in rows.items():
        cells = [cell for document in documents for cell in _verdict(document, found.get(document["scale"]))]
        lines.append(row(text, *cells))
    return lines


def _verdict(document: Document, claim: Document | None) -> tuple[str, str]:
    """Return a claim's numbers and verdict; empty where a scale does not test it."""
    if "unfinished" in document:
        return "", "not measured yet"
    return ("", "") if claim is None else (claim_numbers(claim), f"**{claim['word']}**")
