"""How verdicts move with the length of training: figure 10's leads over epochs, of all scales in one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace_serve.show.plot.series import COLORS
from subspace_serve.show.plot.style import GREY, picture
from trainer.reproduce.figures.common import CLOSE
from trainer.reproduce.figures.lengths import DEFAULT, FIGURE_10, ONE_NETWORK, PAPER, TWO_NETWORKS
from trainer.reproduce.numbers import of_one_network
from trainer.reproduce.scales import SCALES
from trainer.reproduce.verdict import FAILS, HOLDS, WITHIN_NOISE, Verdict, verdict

FILLS = {HOLDS: "full", WITHIN_NOISE: "left", FAILS: "none"}
"""How a marker is filled for a verdict."""


@dataclass(frozen=True)
class Question:
    """What is compared at every length.

    Attributes:
        title: of its panel.
        metric: of the numbers that are kept of each run.
        other: the run that it is compared with.
        sign: 1 where more is better, -1 where less is.
        margin: how far below the other still counts.
        strict: whether no difference at all fails.
    """

    title: str
    metric: str
    other: str
    sign: int = 1
    margin: float = 0.0
    strict: bool = False


QUESTIONS = (
    Question("midpoint: accuracy less a standard network's", "accuracy", ONE_NETWORK),
    Question("midpoint: calibration error below a standard network's", "ece", ONE_NETWORK, -1, strict=True),
    Question("ends together: accuracy less two networks'", "ends_ensemble", TWO_NETWORKS, 1, CLOSE),
)


@dataclass(frozen=True)
class Lead:
    """What was found at one length.

    Attributes:
        epochs: the length.
        verdict: what the seeds say, by the rule of the claims.
    """

    epochs: float
    verdict: Verdict


def leads(document: Mapping[str, Any], question: Question, who: str) -> list[Lead]:
    """Return what a finished document of figure 10 says to a question, by length; empty without the runs for it."""
    scale = SCALES[document["scale"]]
    epochs = scale.panels[FIGURE_10.panels[0]].settings["epochs"]
    (numbers,) = document["numbers"].values()

    def values(name: str, length: float) -> list[float]:
        return [of_one_network(run)[question.metric] for run in numbers[f"{name} x {length:g}"]]

    lengths = [
        length for length in scale.lengths if all(f"{name} x {length:g}" in numbers for name in (who, question.other))
    ]
    return [
        Lead(
            length * epochs,
            verdict(
                [
                    question.sign * (ours - theirs)
                    for ours, theirs in zip(values(who, length), values(question.other, length), strict=True)
                ],
                question.margin,
                strict=question.strict,
            ),
        )
        for length in lengths
    ]


def plot_by_length(documents: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Draw, for each question, the lead by epochs, with the verdict as the marker's filling.

    A bar reaches down to the lower end of the 95 % interval: where it ends above zero (less what is allowed), the claim
    holds.
    """
    answered = {question: curves for question in QUESTIONS if (curves := list(_curves(documents, question)))}
    with picture(target, (12.4, 4.0)) as figure:
        every = figure.subplots(1, len(answered), squeeze=False)[0]
        for axes, (question, curves) in zip(every, answered.items(), strict=True):
            axes.axhline(-100 * question.margin, color=GREY, linewidth=1)
            lengths: set[float] = set()
            for label, colour, style, found in curves:
                places = [lead.epochs for lead in found]
                lengths.update(places)
                axes.plot(places, [100 * lead.verdict.mean for lead in found], style, color=colour, label=label)
                for lead in found:
                    mean = 100 * lead.verdict.mean
                    axes.vlines(lead.epochs, 100 * lead.verdict.lower, mean, color=colour, linewidth=1)
                    fill = FILLS[lead.verdict.word]
                    axes.plot(
                        lead.epochs, mean, "o", markersize=7, color=colour, fillstyle=fill, markerfacecoloralt="white"
                    )
            axes.set_xscale("log")
            axes.set_xticks(sorted(lengths), [f"{length:g}" for length in sorted(lengths)])
            axes.minorticks_off()
            axes.set_title(question.title, fontsize=9)
            axes.set_xlabel("epochs")
        every[0].set_ylabel("points")
        handles, labels = every[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def _curves(
    documents: Sequence[Mapping[str, Any]], question: Question
) -> Iterator[tuple[str, str, str, Sequence[Lead]]]:
    """Yield label, colour, line style and leads of each method at each scale."""
    for document, style in zip(documents, (":", "-", "--", "-."), strict=False):
        for who, colour in zip((PAPER, DEFAULT), COLORS, strict=False):
            if found := leads(document, question, who):
                yield f"{who} ({document['scale']})", colour, style, found
