"""The images that the deployable networks classify differently."""

from __future__ import annotations

from functools import partial

from subspace_serve.show import plot
from subspace_serve.show.report.content import DOTS_PER_INCH, LONG, Documents, Figure, Section, Table, percent


def changed(documents: Documents) -> Section:
    """Return the section on which answers change with what is deployed."""
    title, found = "Which answers change?", documents.changed
    introduction = (
        "The midpoint, the ensemble of the ends and the chosen place, where there is one, agree on most images. These "
        "are images where they do not."
    )
    if found is None:
        missing = (
            "Not compared: a single network has nothing to differ from, and an evaluation read from a file holds no "
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
            "Above each image is its true class, below it each model's answer and its probability. Bold answers are "
            "right. Check whether a person could tell, or whether the label itself is wrong.",
            "Where one model is right as often as the other, switching between them changes answers but not accuracy.",
        ],
        [
            Figure(
                "changed.png",
                f"Images that are classified differently by {', '.join(found.models)}: {counted}.",
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
