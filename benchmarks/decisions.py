"""Whether a bundle's promises hold: `python -m benchmarks.decisions BUNDLE --data SPEC`.

Asks the bundle about labelled images that had no part in it, and prints for each model how many sets hold the right
label and how large they are, how many images are answered at an error rate, and how many of these answers are wrong.
A model that promises nothing, as after `adapt` without labels, is listed without numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.promises import Promises
from subspace_serve.cli.output import json_option, percent, print_table, write_report
from subspace_serve.data import Images, load_images

_BATCH = 500


def images_for(predictor: Predictor, spec: str) -> Images:
    """Return labelled images in the size and with the labels of a bundle."""
    input = predictor.bundle.manifest.input
    return load_images(
        spec, height=input.height, width=input.width, channels=input.channels, label_names=predictor.bundle.labels
    )


def measure(predictor: Predictor, model: str, images: Images, promises: Promises) -> dict[str, float] | None:
    """Return how often a model's promises hold on labelled images; None where it makes none.

    Raises:
        SelectionError: the bundle cannot promise that.
    """
    selection = predictor.select(model)
    promises.check(selection)
    held, sizes, abstained, right = [], [], [], []
    for pixels, labels in images.batches(_BATCH):
        probabilities = predictor.predict(pixels, selection).probabilities
        promised = promises.of(selection, probabilities)
        if promised.sets is None or promised.abstained is None:
            return None
        held.append(promised.sets[np.arange(len(labels)), labels])
        sizes.append(promised.sets.sum(axis=1))
        abstained.append(promised.abstained)
        right.append(probabilities.argmax(axis=1) == labels)
    answered, wrong = ~np.concatenate(abstained), ~np.concatenate(right)
    return {
        "error": float(wrong.mean()),
        "coverage": float(np.concatenate(held).mean()),
        "size": float(np.concatenate(sizes).mean()),
        "answered": float(answered.mean()),
        "wrong": float(wrong[answered].mean()) if answered.any() else 0.0,
    }


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", metavar="SPEC", required=True, help="Labelled images.")
@click.option("--model", "models", multiple=True, help="By name.  [default: every point and ensemble]")
@click.option("--coverage", type=float, default=0.9, show_default=True)
@click.option("--max-risk", type=float, default=0.05, show_default=True)
@json_option
def main(
    bundle: Path, data: str, models: Sequence[str], coverage: float, max_risk: float, json_file: str | None
) -> None:
    """Measure a bundle's models."""
    predictor = Predictor(Bundle.open(bundle), device="cpu")
    images = images_for(predictor, data)
    promises = Promises(coverage, max_risk)
    names = models or [*predictor.points, *predictor.ensembles]
    document: dict[str, Any] = {name: measure(predictor, name, images, promises) for name in names}
    if write_report({"data": data, "coverage": coverage, "max_risk": max_risk, "models": document}, json_file):
        rows = [[name, *_cells(found)] for name, found in document.items()]
        print_table(["model", "error %", "sets that hold %", "labels", "answered %", "wrong of these %"], rows)


def _cells(found: dict[str, float] | None) -> list[str]:
    if found is None:
        return ["-"] * 5
    error, coverage, answered, wrong = (percent(found[key]) for key in ("error", "coverage", "answered", "wrong"))
    return [error, coverage, f"{found['size']:.2f}", answered, wrong]


if __name__ == "__main__":
    main()
