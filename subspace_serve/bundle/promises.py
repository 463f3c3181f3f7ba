"""What a request wants promised of its answers, and what the answers say of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from subspace_serve.abstention import images_for
from subspace_serve.bundle.selection import Selection, SelectionError
from subspace_serve.prediction_sets import complaint_about, label_scores

_ANOTHER = (
    "belongs to a point or an ensemble as it was exported: its members, weights, aggregate and statistics, with every "
    "member answering; this answer is another"
)
_WITHOUT = (
    "takes labelled images that chose nothing, and the bundle keeps none for this model; export it with --sets-data "
    "(with --ensemble too, if it is one of the server's own settings), or adapt with --val-data"
)


@dataclass(frozen=True)
class Promised:
    """What is promised of N answers.

    Attributes:
        sets: which labels each set holds, bool (N, classes); None where there are none.
        set_reason: why there are none.
        abstained: which answers are too unsure, bool (N,); None where nothing is promised of errors.
        abstained_reason: why nothing is, or why all of them are.
    """

    sets: np.ndarray | None = None
    set_reason: str | None = None
    abstained: np.ndarray | None = None
    abstained_reason: str | None = None

    def reasons(self) -> dict[str, str]:
        """Return the reasons that there are, by their names in an answer."""
        found = {"set_reason": self.set_reason, "abstained_reason": self.abstained_reason}
        return {name: reason for name, reason in found.items() if reason is not None}


@dataclass(frozen=True)
class Promises:
    """What a request wants promised.

    Attributes:
        coverage: in (0, 1): sets that hold the right label with this probability.
        max_risk: in (0, 1): at most this share of the answers that do not abstain is wrong.
    """

    coverage: float | None = None
    max_risk: float | None = None

    def check(self, selection: Selection) -> None:
        """Raise `SelectionError` for what the images behind a selection's answers cannot promise."""
        if self.max_risk is not None and not 0 < self.max_risk < 1:
            raise SelectionError(f"max_risk lies between 0 and 1, such as 0.05; got {self.max_risk}")
        if self.coverage is None:
            return
        sets = selection.source and selection.source.sets
        if complaint := complaint_about(self.coverage, sets.count if sets else None):
            raise SelectionError(complaint)

    def of(self, selection: Selection, probabilities: np.ndarray) -> Promised:
        """Return what is promised of a selection's answers (N, classes), at its temperature."""
        sets, set_reason = (None, None) if self.coverage is None else _sets(selection, probabilities, self.coverage)
        if self.max_risk is None:
            return Promised(sets, set_reason)
        return Promised(sets, set_reason, *_abstained(selection, probabilities, self.max_risk))


NOTHING = Promises()


def _sets(selection: Selection, probabilities: np.ndarray, coverage: float) -> tuple[np.ndarray | None, str | None]:
    """Return the sets (N, classes), or why there are none."""
    if selection.source is None:
        return None, f"a prediction set {_ANOTHER}"
    if (sets := selection.source.sets) is None:
        return None, f"a prediction set {_WITHOUT}"
    scores = label_scores(probabilities, sets.method, k_reg=sets.k_reg, penalty=sets.penalty)
    return scores <= sets.threshold(coverage), None


def _abstained(
    selection: Selection, probabilities: np.ndarray, max_risk: float
) -> tuple[np.ndarray | None, str | None]:
    """Return which answers abstain (N,), and why all of them do, or why none can say."""
    if selection.source is None:
        return None, f"a promised error rate {_ANOTHER}"
    if (abstention := selection.source.abstention) is None:
        return None, f"a promised error rate {_WITHOUT}"
    level = abstention.choose(max_risk)
    if level is None:
        return np.ones(len(probabilities), dtype=bool), (
            f"on {abstention.count} images no threshold proves an error rate of at most {max_risk} with a "
            f"probability of {1 - abstention.delta:g}, for which {images_for(max_risk, abstention.delta):.0f} answers "
            "without a mistake are the least"
        )
    return probabilities.max(axis=1) <= level.threshold, None
