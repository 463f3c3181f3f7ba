"""Which score ranks a run's answers best, for abstaining: `python -m benchmarks.scores RUN`.

Prints the area under the risk-coverage curve (AURC, in thousandths; smaller is better) of the midpoint and of the ends
as an ensemble, on clean and on corrupted images, when their answers are ranked by the largest probability, by the
entropy, and for the ensemble by the members' mutual information and disagreement. `best possible` ranks all mistakes
last. Exported bundles abstain by the largest probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.measure import environment
from subspace_serve.answers import Answer, entropy_of
from subspace_serve.cli.output import json_option, print_table, progress_line, write_report
from subspace_serve.data import Images
from subspace_serve.measure.abstention import risk_coverage
from subspace_serve.measure.networks import Candidate, Networks
from subspace_serve.run.domains import corrupted_domains
from subspace_serve.run.images import labelled_images
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.statistics import usual_statistics
from subspace_serve.space.geometry import Geometry

CORRUPTIONS = ("gaussian_noise", "motion_blur", "fog", "contrast", "pixelate")
SCORES = ("max probability", "entropy", "mutual information", "disagreement")


def candidates_of(geometry: Geometry) -> dict[str, Candidate]:
    """Return the midpoint, and the ends as an ensemble where there are several."""
    ends = tuple(geometry.ends)
    found = {"midpoint": Candidate.point(geometry.midpoint)}
    if len(ends) > 1:
        found["ends"] = Candidate(ends)
    return found


def scores_of(answer: Answer) -> dict[str, np.ndarray]:
    """Return each score of the answers, higher where they are surer; the last two of ensembles alone. Shapes (N,)."""
    found = [answer.probabilities.max(axis=1), -entropy_of(answer.probabilities)]
    if len(answer.logits) > 1:
        found += [-answer.mutual_information, -answer.disagreement]
    return dict(zip(SCORES, found, strict=False))


def aurcs(answer: Answer, labels: np.ndarray) -> dict[str, float]:
    """Return the error rate, the smallest area that it allows, and the area by each score."""
    right = answer.probabilities.argmax(axis=1) == labels
    found = {"error": float((~right).mean()), "best possible": risk_coverage(right.astype(float), right).aurc}
    return found | {name: risk_coverage(score, right).aurc for name, score in scores_of(answer).items()}


def measure(networks: Networks, candidates: Mapping[str, Candidate], images: Images) -> dict[str, dict[str, float]]:
    """Return the areas of each candidate on labelled images."""

    def logits(candidate: Candidate, own: dict[Any, np.ndarray], labels: np.ndarray) -> np.ndarray:
        return np.stack([own[alpha] for alpha in candidate.members])

    parts = networks.measure(list(candidates.values()), images, logits)
    return {
        name: aurcs(
            Answer(np.concatenate(part, axis=1), np.full(len(candidate.members), 1 / len(candidate.members))),
            images.labels,
        )
        for (name, candidate), part in zip(candidates.items(), parts, strict=True)
    }


def rows_of(document: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[list[str]]:
    """Return the table's rows: a candidate on each set of images, and on all corrupted ones on average."""
    rows = []
    for model in next(iter(document.values())):
        measured = {kind: found[model] for kind, found in document.items()}
        if corrupted := [found for kind, found in measured.items() if kind != "clean"]:
            measured["corrupted, mean"] = {
                name: sum(found[name] for found in corrupted) / len(corrupted) for name in corrupted[0]
            }
        for kind, found in measured.items():
            cells = [f"{1000 * found[name]:.1f}" if name in found else "-" for name in ("best possible", *SCORES)]
            rows.append([model, kind, f"{100 * found['error']:.1f}", *cells])
    return rows


@click.command(help=__doc__)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", default="test", show_default=True, help="Labelled images; nothing is chosen on them.")
@click.option("--corruption", "corruptions", multiple=True, default=CORRUPTIONS, show_default=True)
@click.option("--severity", type=click.IntRange(1, 5), default=3, show_default=True)
@json_option
def main(run: Path, data: str, corruptions: Sequence[str], severity: int, json_file: str | None) -> None:
    """Measure every score on a run's images."""
    opened = OpenRun(run, device="cpu")
    networks = Networks(opened.network, usual_statistics(opened))
    candidates = candidates_of(opened.subspace.geometry)
    domains = corrupted_domains(opened, data, corruptions, [severity]) if corruptions else []
    document = {}
    sets = {"clean": labelled_images(opened, data)} | {domain.name: domain.images for domain in domains}
    for name, images in sets.items():
        document[name] = measure(networks, candidates, images)
        progress_line(name)
    if write_report({"environment": environment(), "run": str(run), "aurc": document}, json_file):
        print_table(["model", "images", "error %", "best possible", *SCORES], rows_of(document))


if __name__ == "__main__":
    main()
