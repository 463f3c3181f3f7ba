"""The tables and the picture of docs/import.md, from the documents of `benchmarks.imports`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.tables import spread, table
from subspace_serve.show.plot.style import BASELINE, SUBSPACE, picture

Documents = Sequence[dict[str, Any]]
Answers = dict[str, dict[str, float]]
"""Metrics in the new domain and in the old one."""


MARKER = "<!-- What follows is written by benchmarks.imports. -->\n\n"
TITLES = {
    "impulse_noise": "Fine-tuned on images with impulse noise",
    "classes": "Fine-tuned on other class frequencies",
}
_COLUMNS = [
    (where, metric, scale)
    for where in ("new", "old")
    for metric, scale in (("accuracy", 100.0), ("nll", 1.0), ("ece", 100.0))
]
_NAMES = {"accuracy": "accuracy %", "nll": "NLL", "ece": "ECE %"}
_HEADER = [f"{where}: {_NAMES[metric]}" for where, metric, _ in _COLUMNS]


def page(documents: Documents) -> str:
    """Return the tables as Markdown."""
    parts = []
    for name, title in TITLES.items():
        found = [document for document in documents if document["domain"] == name]
        if found:
            parts += [f"## {title}\n", _together(found), _between(found), _ends(found)]
    return "\n".join([*parts, _barriers(documents)])


def _row(title: str, documents: Documents, metrics: Callable[[dict[str, Any]], Answers]) -> list[str]:
    """Return one network's metrics in both domains over seeds."""
    found = [metrics(document) for document in documents]
    return [title, *(spread([scale * one[where][metric] for one in found]) for where, metric, scale in _COLUMNS)]


def _together(documents: Documents) -> str:
    """What three fine-tuned networks, and a line trained from their start, are worth together."""

    def soups(name: str) -> Callable[[dict[str, Any]], Answers]:
        return lambda document: document["soups"]["measured"][name]

    def best(document: dict[str, Any]) -> Answers:
        # By test accuracy, which is kind to single networks: nobody can choose so well.
        singles = [found for name, found in document["soups"]["measured"].items() if name.startswith("single")]
        return max(singles, key=lambda found: found["new"]["accuracy"])

    rows = [
        _row("the start", documents, lambda document: document["wise"]["along"]["0"]),
        *(
            _row(f"fine-tuned, rate {rate:g}", documents, soups(f"single {i}"))
            for i, rate in enumerate((0.01, 0.03, 0.1))
        ),
        _row("the best of the three on test images", documents, best),
        _row("uniform soup", documents, soups("uniform soup")),
        _row("greedy soup", documents, soups("greedy soup")),
        _row("the three as an ensemble", documents, soups("ensemble")),
        *(
            _row(f"line from the start, {name}", documents, lambda document, key=key: document["line"]["measured"][key])  # type: ignore[misc]
            for name, key in (("midpoint", "midpoint"), ("one end", "end"), ("ends' ensemble", "ensemble"))
        ),
    ]
    taken = ", ".join(str(document["soups"]["taken"]) for document in documents)
    words = f"{len(documents)} seeds; the greedy soups are of {taken} networks.\n\n"
    return words + table(["", *_HEADER], rows)


def _between(documents: Documents) -> str:
    """The line from the start to a fine-tuned network."""
    places = list(documents[0]["wise"]["along"])
    rows = [
        _row(f"α = {alpha}", documents, lambda document, alpha=alpha: document["wise"]["along"][alpha])  # type: ignore[misc]
        for alpha in places
    ]
    rows.append(_row("chosen", documents, lambda document: document["wise"]["measured"]))
    chosen = ", ".join(f"{document['wise']['chosen']:g}" for document in documents)
    kept = sum(document["wise"]["measured"]["old"]["accuracy"] >= document["wise"]["bound"] for document in documents)
    words = (
        "From the start (0) to the network that was fine-tuned with rate 0.03 (1), BatchNorm's statistics from both "
        "domains' images alike. The choice is the best mean of both domains of which the old one loses at most 2 "
        f"points: α = {chosen}; on test images the bound holds in {kept} of {len(documents)}.\n\n"
    )
    return words + table(["", *_HEADER], rows)


def _ends(documents: Documents) -> str:
    """The sources' own BatchNorm statistics against new ones."""
    rows = []
    for title, key in (("their own", "own"), ("recomputed", "recomputed")):
        means = [
            {
                metric: mean(end[metric] for end in document["soups"]["statistics"][key])
                for metric in ("accuracy", "nll")
            }
            for document in documents
        ]
        rows.append(
            [title, spread([100 * found["accuracy"] for found in means]), spread([found["nll"] for found in means])]
        )
    return "BatchNorm's statistics of the fine-tuned networks, mean of the three:\n\n" + table(
        ["statistics", "accuracy %", "NLL"], rows
    )


def _barriers(documents: Documents) -> str:
    rows = []
    kinds: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "three fine-tunings of one start": lambda document: document["soups"]["barrier"],
        "two independent starts": lambda document: document["independent"],
    }
    for title, barrier in kinds.items():
        found = [barrier(document) for document in documents]
        rows.append([title, spread([100 * one["accuracy"] for one in found]), spread([one["nll"] for one in found])])
    return "## Barriers\n\n" + table(["between", "points of accuracy", "NLL"], rows)


def draw_picture(documents: Documents, file: Path) -> None:
    """Draw accuracy on the old against the new domain along the lines from start to fine-tuned network."""
    names = [name for name in TITLES if any(document["domain"] == name for document in documents)]
    with picture(file, (5.2 * len(names), 4.4)) as figure:
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            found = [document for document in documents if document["domain"] == name]

            def accuracy(metrics: Callable[[dict[str, Any]], Any], found: Documents = found) -> tuple[float, float]:
                return tuple(100 * mean(metrics(one)[where]["accuracy"] for one in found) for where in ("old", "new"))  # type: ignore[return-value]

            along = [
                accuracy(lambda one, alpha=alpha: one["wise"]["along"][alpha])  # type: ignore[misc]
                for alpha in found[0]["wise"]["along"]
            ]
            axes.plot(*zip(*along, strict=True), "o-", color=SUBSPACE, label="start to fine-tuned")
            for alpha, where in zip(found[0]["wise"]["along"], along, strict=True):
                if alpha in ("0", "0.5", "1"):
                    axes.annotate(f"α = {alpha}", where, textcoords="offset points", xytext=(6, 6))
            for title, key, marker in (("uniform soup", "uniform soup", "s"), ("ensemble of three", "ensemble", "^")):
                where = accuracy(lambda one, key=key: one["soups"]["measured"][key])  # type: ignore[misc]
                axes.plot(*where, marker, color=BASELINE, label=title)
            axes.set(title=TITLES[name], xlabel="accuracy on the old domain, %", ylabel="accuracy on the new domain, %")
            axes.legend(frameon=False)
