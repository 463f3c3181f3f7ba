"""The images that the networks which one can deploy judge differently."""

from __future__ import annotations

from functools import partial

from subspace_serve.show import plot
from subspace_serve.show.report.content import DOTS_PER_INCH, LONG, Documents, Figure, Section, Table, percent


def changed(documents: Documents) -> Section:
    """Which answers change with what is deployed."""
    title, found = "Which answers change?", documents.changed
    introduction = (
        "The midpoint, the ensemble of the ends and the chosen place, where there is one, agree on most images. These "
        "are images where they do not."
    )
    if found is None:
        missing = (
            "Not looked for: a single network has nothing to differ from, and an evaluation that was read holds no "
            "images. Run `report` without --evaluation."
        )
        return Section("changed", title, introduction, missing=missing)
    counted = f"{found.count:,} of {found.images:,} images ({percent(found.count / found.images)} %)"
    if not found.shown:
        return Section("changed", title, f"{introduction} There are none: all {found.images:,} get the same answers.")
    rows = [
        [str(entry.index), entry.label, *(f"{name} {percent(probability)}" for name, probability in entry.answers)]
        for entry in found.shown
    ]
    shown = f"the {len(rows)} where two models are the surest of different answers"
    return Section(
        "changed",
        title,
        f"{introduction} {counted} get different answers; shown are {shown}.",
        [
            "Above each image stands what it is, below it what each model says and how surely. Bold answers are right. "
            "Look whether a person could tell, or whether the label itself is wrong.",
            "Where one model is right as often as the other, changing between them changes answers and not accuracy.",
        ],
        [
            Figure(
                "changed.png",
                f"Images that are judged differently by {', '.join(found.models)}: {counted}.",
                partial(plot.plot_changed_answers, found, dots_per_inch=DOTS_PER_INCH),
            )
        ],
        [
            Table(
                "Images with different answers, and the probability in percent that each model gives its own.",
                ["image", "true class", *found.models],
                rows,
                folded=len(rows) > LONG,
            )
        ],
    )
