"""Figures of which not everything is measured yet: what there is of them, and no verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from subspace_serve.files import write_text
from trainer.reproduce.cache import Cache
from trainer.reproduce.description import Document, Figure
from trainer.reproduce.scales import Scale
from trainer.reproduce.work import Task, is_measured


def unfinished_document(figure: Figure, scale: Scale, tasks: Sequence[Task], store: Cache, command: str) -> Document:
    """Return what the page says of an unfinished figure, as JSON values: the seeds of each run that are measured."""
    several = len({task.panel for task in tasks}) > 1
    seeds: dict[str, list[int]] = {}
    for task in tasks:
        if is_measured(task, store):
            name = f"{task.case} ({task.panel})" if several else str(task.case)
            seeds.setdefault(name, []).append(task.config.seed)
    return {
        "figure": figure.name,
        "title": figure.title,
        "scale": scale.name,
        "command": command,
        "note": figure.note,
        "claims": [],
        "unfinished": {"measured": sum(map(len, seeds.values())), "of": len(tasks), "seeds": seeds},
    }


def write_unfinished(picture: Path, document: Document) -> None:
    """Write an unfinished figure's document where its picture will lie; a finished one is left alone."""
    file = picture.with_suffix(".json")
    if not file.exists() or "unfinished" in json.loads(file.read_text(encoding="utf-8")):
        write_text(file, json.dumps(document, indent=1) + "\n")


def unfinished_count(document: Document) -> str:
    """Return how much is measured, as text: `5 of 12 measured`."""
    return f"{document['unfinished']['measured']} of {document['unfinished']['of']} measured"


def unfinished_text(document: Document) -> str:
    """Return a sentence for the page: how much is measured, and of which runs."""
    runs = "; ".join(
        f"{name} (seeds {', '.join(map(str, seeds))})" for name, seeds in document["unfinished"]["seeds"].items()
    )
    text = f"`{document['command']}` is not finished: {unfinished_count(document)}, so there is no verdict yet."
    return f"{text} There are: {runs}." if runs else text
