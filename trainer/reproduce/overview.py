"""The verdicts of all figures at a glance, and those of several scales side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.reproduce.description import Document
from trainer.reproduce.unfinished import unfinished_count
from trainer.reproduce.verdict import FAILS, HOLDS, WITHIN_NOISE


def counts_table(figures: Sequence[Sequence[Document]], scales: Sequence[str]) -> str:
    """Return how many claims of the paper got which verdict, by figure and scale, as a Markdown table."""
    words = (HOLDS, WITHIN_NOISE, FAILS)
    columns = [(scale, word) for scale in scales for word in words]

    def counts(documents: Sequence[Document]) -> list[Any]:
        found = [(each["scale"], claim["word"]) for each in documents for claim in claims_of(each, of_paper=True)]
        return [found.count(column) for column in columns]

    headings = " | ".join(word + suffix(scale, scales) for scale, word in columns)
    lines = [f"| figure | | {headings} |", "|---" * (2 + len(columns)) + "|"]
    for documents in figures:
        number, cells = documents[0]["figure"], counts(documents)
        of_scale = {document["scale"]: document for document in documents}
        for at, scale in enumerate(scales):
            if scale not in of_scale:
                cells[3 * at : 3 * at + 3] = ["", "", ""]
            elif "unfinished" in of_scale[scale]:
                cells[3 * at : 3 * at + 3] = [unfinished_count(of_scale[scale]), "", ""]
        lines.append(row(f"[{number}](#figure-{number})", documents[0]["title"], *cells))
    totals = {"all": counts([document for documents in figures for document in documents])}
    if len(scales) > 1:
        both = [documents for documents in figures if len(finished_of(documents)) == len(scales)]
        totals["judged at every scale"] = counts([document for documents in both for document in documents])
    lines += [row(name, "", *(f"**{count}**" for count in found)) for name, found in totals.items()]
    return "\n".join(lines)


def side_by_side(figures: Sequence[Sequence[Document]], scales: Sequence[str]) -> list[str]:
    """Return the verdicts of all claims that several scales judge, side by side in one table; nothing for one scale."""
    if len(scales) < 2:
        return []
    lines = []
    for documents in figures:
        found = {document["scale"]: by_text(document, of_paper=True) for document in finished_of(documents)}
        # The lengths of figure 10 are multiples of other epochs at each scale; its picture shows them by epochs.
        if len(found) < 2 or documents[0]["figure"] == "10":
            continue
        for text in next(iter(found.values())):
            words = [found.get(scale, {}).get(text, {}).get("word", "") for scale in scales]
            if sum(map(bool, words)) > 1:
                lines.append(row(documents[0]["figure"], text, *words))
    heading = "## Verdicts side by side"
    if not lines:
        return [heading, f"No figure is measured completely at more than one of {', '.join(scales)} yet."]
    return [heading, "\n".join([row("figure", "the paper says", *scales), "|---" * (2 + len(scales)) + "|", *lines])]


def finished_of(documents: Sequence[Document]) -> list[Document]:
    """Return the documents of figures whose measurements are complete."""
    return [document for document in documents if "unfinished" not in document]


def claims_of(document: Document, *, of_paper: bool) -> list[Document]:
    """Return a document's claims that are the paper's, or the others."""
    return [claim for claim in document["claims"] if claim.get("of_paper", True) == of_paper]


def by_text(document: Document, *, of_paper: bool) -> dict[str, Document]:
    """Return a document's claims by what the page calls them: with the panel, where there are several."""
    claims = claims_of(document, of_paper=of_paper)
    several = len({claim["panel"] for claim in claims}) > 1
    return {f"{claim['text']} ({claim['panel']})" if several else claim["text"]: claim for claim in claims}


def suffix(scale: str, scales: Sequence[str]) -> str:
    """Return what tells a scale's part of the page from others'; nothing where there is only one."""
    return f" ({scale})" if len(scales) > 1 else ""


def row(*cells: object) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"
