"""The tables of docs/adaptation.md, from the documents of `benchmarks.adaptation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.tables import spread, table
from subspace_serve.show.plot.style import BASELINE, GREY, SUBSPACE, legend_below, picture

Documents = Mapping[str, Sequence[dict[str, Any]]]
"""One document per seed, by the method that was trained."""

MARKER = "<!-- What follows is written by benchmarks.adaptation. -->\n\n"
COUNTS = ("training", "8", "16", "32", "128", "512")
_NAMES = {"line": "line, midpoint", "standard": "standard network"}


def page(documents: Documents) -> str:
    """Return the tables as Markdown."""
    sizes, skewed = _with(documents, "sizes"), _with(documents, "skewed")
    parts = [
        _by_count(sizes),
        _by_domain(sizes),
        _by_rule(_with(documents, "rules")["line"]),
        _by_place(_with(documents, "chosen")["line"]),
        _by_stream(skewed),
        _by_knots(_with(documents, "interpolation")["line"]),
    ]
    return "\n".join(parts)


def _with(documents: Documents, part: str) -> dict[str, list[dict[str, Any]]]:
    """Return the documents in which a part was measured; an interrupted run's has only some parts."""
    return {method: [document for document in found if part in document] for method, found in documents.items()}


def _seeds(found: Sequence[object]) -> str:
    return f"{len(found)} seed{'s' if len(found) > 1 else ''}"


def draw_picture(documents: Documents, file: Path) -> None:
    """Draw mean accuracy over the corruptions against the number of images; bands are deviations over seeds."""
    documents = _with(documents, "sizes")
    with picture(file, (8, 4.2)) as figure:
        axes = figure.subplots()
        looks = (("o-", SUBSPACE), ("s--", BASELINE), ("^:", GREY))
        for (who, found), (look, color) in zip(_who(documents).items(), looks, strict=True):
            values = [[100 * _over_domains(document, count, "accuracy") for count in COUNTS] for document in found]
            means = [mean(column) for column in zip(*values, strict=True)]
            deviations = [stdev(column) if len(column) > 1 else 0.0 for column in zip(*values, strict=True)]
            axes.plot(range(len(COUNTS)), means, look, color=color, label=who)
            low, high = (
                [value + sign * deviation for value, deviation in zip(means, deviations, strict=True)]
                for sign in (-1, 1)
            )
            axes.fill_between(range(len(COUNTS)), low, high, color=color, alpha=0.14, linewidth=0)
        axes.set_xticks(range(len(COUNTS)), ["none", *COUNTS[1:]])
        axes.set_xlabel("unlabelled images of the place where it runs")
        axes.set_ylabel("accuracy %, mean over corruptions")
        legend_below(figure, *axes.get_legend_handles_labels())


def _by_count(documents: Documents) -> str:
    rows = []
    for who, found in _who(documents).items():
        for metric, scale in (("accuracy", 100.0), ("nll", 1.0), ("ece", 100.0)):
            cells = [spread([scale * _over_domains(document, count, metric) for document in found]) for count in COUNTS]
            rows.append([f"{who}: {metric}{' %' if scale == 100 else ''}", *cells])
    header = ["mean over the corruptions", *("training's" if count == "training" else count for count in COUNTS)]
    return f"## How many images\n\n{_of(documents)}" + table(header, rows)


def _by_domain(documents: Documents) -> str:
    rows = []
    for name in documents["line"][0]["sizes"]:
        row = [name]
        for found in _who(documents).values():
            for count in ("training", "16", "128"):
                row.append(spread([100 * _metric(document, name, count, "accuracy") for document in found]))
        rows.append(row)
    header = ["domain", *(f"{who}, {count}" for who in _who(documents) for count in ("training's", "16", "128"))]
    return f"\n## Domain by domain, accuracy %\n\n{_of(documents)}" + table(header, rows)


def _by_rule(lines: Sequence[dict[str, Any]]) -> str:
    kinds: dict[str, Callable[[str], bool]] = {
        "clean": lambda name: name == "clean",
        "severity 1": lambda name: name.endswith(":1"),
        "severity 3": lambda name: name.endswith(":3"),
    }
    rules = list(lines[0]["rules"]["clean"]["8"])
    rows = []
    for kind, belongs in kinds.items():
        for count in COUNTS[1:-1]:
            row = [f"{kind}, {count} images", _gain(lines, belongs, count, None)]
            row += [_gain(lines, belongs, count, rule) for rule in rules]
            rows.append(row)
    words = (
        f"The line's midpoint, {_seeds(lines)}; in brackets the least gain over training's statistics, of any domain "
        "and seed. `own` are the domain's statistics alone.\n\n"
    )
    return "\n## How statistics are mixed, accuracy %\n\n" + words + table(["", "training's", *rules], rows)


def _gain(lines: Sequence[dict[str, Any]], belongs: Callable[[str], bool], count: str, rule: str | None) -> str:
    """Return the mean accuracy over domains and seeds, and in brackets the least gain over training's statistics."""
    means, least = [], []
    for document in lines:
        entries = [entry for name, entry in document["rules"].items() if belongs(name)]
        found = [entry["training"] if rule is None else entry[count][rule] for entry in entries]
        means.append(100 * mean(found))
        least += [100 * (value - entry["training"]) for value, entry in zip(found, entries, strict=True)]
    return f"{mean(means):.1f}" + ("" if rule is None else f" ({min(least):+.1f})")


def _by_place(lines: Sequence[dict[str, Any]]) -> str:
    picks = list(lines[0]["chosen"]["clean"])
    rows = []
    for pick in picks:
        row = [pick]
        for metric, scale in (("accuracy", 100.0), ("nll", 1.0), ("ece", 100.0)):
            row.append(
                spread(
                    [
                        scale
                        * mean(entry[pick][metric] for name, entry in document["chosen"].items() if name != "clean")
                        for document in lines
                    ]
                )
            )
        rows.append(row)
    words = f"The line, {_seeds(lines)}; labels are of 256 other images: half choose, by the rules of `select`.\n\n"
    header = ["place", "accuracy %", "NLL", "ECE %"]
    return "\n## Which place, on statistics of 128 images\n\n" + words + table(header, rows)


def _by_stream(documents: Documents) -> str:
    rows = []
    for classes in ("1", "2", "5", "10"):
        row = [classes]
        for found in documents.values():
            for rule in ("own", "default"):
                values = [
                    mean(mean(draw[rule] for draw in entry[classes]) for entry in _corrupted(document))
                    for document in found
                ]
                row.append(spread([100 * value for value in values]))
            clean = [mean(draw["default"] for draw in document["skewed"]["clean"][classes]) for document in found]
            row.append(spread([100 * value for value in clean]))
        rows.append(row)
    usual = ["training's statistics"]
    for found in documents.values():
        corrupted = [100 * mean(entry["training"] for entry in _corrupted(document)) for document in found]
        clean = [100 * document["skewed"]["clean"]["training"] for document in found]
        usual += ["", spread(corrupted), spread(clean)]
    rows.append(usual)
    header = ["classes in the stream"]
    for method in documents:
        header += [f"{method}: own", "mixed", "mixed, clean"]
    return f"\n## Streams of few classes, 128 images, accuracy %\n\n{_of(documents)}" + table(header, rows)


def _by_knots(lines: Sequence[dict[str, Any]]) -> str:
    rows = []
    for setting in lines[0]["interpolation"]:
        found = [document["interpolation"][setting] for document in lines]
        rows.append(
            [
                setting,
                f"{max(entry['logits'] for entry in found):.4f}",
                f"{100 * max(entry['flips'] for entry in found):.2f}",
                f"{100 * max(entry['accuracy'] for entry in found):.2f}",
            ]
        )
    header = ["", "logits (root mean square)", "top answers that differ, %", "accuracy, points"]
    return f"\n## Between knots, the worst of eight places and of {_seeds(lines)}\n\n" + table(header, rows)


def _of(documents: Documents) -> str:
    """Return how many seeds a table covers."""
    return "; ".join(f"{method}: {_seeds(found)}" for method, found in documents.items()) + ".\n\n"


def _who(documents: Documents) -> dict[str, list[dict[str, Any]]]:
    """Return documents by the name in the tables; `as` in each says whether its midpoint or its ends are meant."""
    found = {}
    for method, name in _NAMES.items():
        found[name] = [document | {"as": "midpoint"} for document in documents[method]]
    found["line, ends' ensemble"] = [document | {"as": "ends"} for document in documents["line"]]
    return found


def _metric(document: dict[str, Any], name: str, count: str, metric: str) -> float:
    return mean(draw[document["as"]][metric] for draw in document["sizes"][name][count])


def _over_domains(document: dict[str, Any], count: str, metric: str) -> float:
    return mean(_metric(document, name, count, metric) for name in document["sizes"] if name != "clean")


def _corrupted(document: dict[str, Any]) -> list[Any]:
    return [entry for name, entry in document["skewed"].items() if name != "clean"]
