"""What imported networks are worth together: `python -m benchmarks.imports`.

Trains a network on clean Fashion-MNIST images with three seeds, fine-tunes it three times with other seeds and learning
rates on images of another domain, and once as a line from the same start; imports the fine-tuned networks as a simplex
and start and fine-tuned network as a line, and measures soups, the line between start and end (WiSE-FT), the trained
line, single networks and ensembles on test images of both domains. Writes one JSON document a seed and a domain, so
that what was interrupted goes on; the tables and the picture of docs/import.md with

    python -m benchmarks.imports --page docs/import.md
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.imports_page import MARKER, draw_picture, page
from benchmarks.measure import environment
from benchmarks.tables import replace_tables
from subspace_serve.data import load_data
from subspace_serve.data.corruptions import corrupt
from subspace_serve.data.dataset import DataSet
from subspace_serve.data.domains import Domain
from subspace_serve.data.images import Images
from subspace_serve.files import atomic_file, write_text
from subspace_serve.measure.networks import Candidate, Networks
from subspace_serve.run.opened import OpenRun
from subspace_serve.select import Mixture, select
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import save_weights
from trainer.config import TrainingConfig
from trainer.foreign.importing import Description, import_weights
from trainer.modules import as_module
from trainer.training import train

NETWORK: dict[str, Any] = {"architecture": "cresnet8-16", "image_size": 14, "device": "cpu"}
START: dict[str, Any] = {
    "subspace": "standard", "data": "fashion-mnist", "train_images": 10_000, "validation": 0.2, "epochs": 20,
}  # fmt: skip
TUNED: dict[str, Any] = {"epochs": 10, "batch_size": 64, "warmup_epochs": 1, "normalisation": "start"}
MEMBERS = ((0.01, 0), (0.03, 1), (0.1, 2))
"""Learning rate and seed of each fine-tuning."""
LINE_RATE = 0.03
DOMAINS = ("impulse_noise", "classes")
IMAGES = {"train": 4000, "val": 2000, "test": 5000}
FAVOURED = 5
"""Classes that nine of ten images are of in the domain `classes`."""
BOUND = 0.02
"""By how much less than the start a network may know the old domain, in the bounded mixture."""


def write_domain(file: Path, name: str, *, with_old: bool = False) -> None:
    """Write a domain's images, none of which the start was trained on; with `with_old` also as many clean ones."""
    if file.exists():
        return
    whole = load_data("fashion-mnist", validation=0.2)
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"label_names": np.array(whole.label_names)}
    # The start's validation images are its own; those of the domain are halves of them that it never trained on.
    pools = {"train": (whole.validation, slice(0, 9000)), "val": (whole.validation, slice(9000, None))}
    for part, count in IMAGES.items():
        images, where = pools.get(part, (whole.test, slice(None)))
        pixels, labels = images.take(np.arange(len(images))[where])
        chosen = generator.permutation(len(labels))
        kept = chosen[_favoured(labels[chosen], generator)][:count] if name == "classes" else chosen[:count]
        new = pixels[kept] if name == "classes" else corrupt(pixels[kept], name, 3)
        arrays |= {f"{part}_images": new, f"{part}_labels": labels[kept]}
        if with_old:
            old = chosen[-count:]
            arrays[f"{part}_images"] = np.concatenate([new, pixels[old]])
            arrays[f"{part}_labels"] = np.concatenate([labels[kept], labels[old]])
    with atomic_file(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]


def _favoured(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return which images are kept so that nine of ten are of the favoured classes."""
    return (labels < FAVOURED) | (generator.random(len(labels)) < 1 / 9)


def trained(folder: Path, say: Callable[[str], None], **settings: Any) -> Path:
    """Train a run unless it is there; return its folder."""
    config = TrainingConfig(**NETWORK | settings)
    if not (folder / "golden.safetensors").exists():
        say(f"training {folder.name}")
        train(config, folder, resume=(folder / "resume.pt").exists(), overwrite=True)
    return folder


def state_dict(run: Path) -> Path:
    """Return a file with a run's midpoint as an ordinary state dict, with BatchNorm statistics of its own data."""
    file = run / "midpoint.safetensors"
    if not file.exists():
        opened = OpenRun(run, device="cpu")
        model = as_module(opened.subspace, opened.subspace.geometry.midpoint, opened.calibration)
        save_weights({name: tensor.numpy() for name, tensor in model.state_dict().items()}, file, {})
    return file


def imported(files: list[Path], spec: Path | str, out: Path) -> OpenRun:
    """Import networks with a data set of 14 px; return the run."""
    drawn = {"validation": 0.1, "data_seed": 0, "image_size": NETWORK["image_size"], "channels": None}
    data: DataSet = load_data(str(spec), image_size=NETWORK["image_size"])
    start = load_data("fashion-mnist", image_size=NETWORK["image_size"])
    architecture = Architecture(NETWORK["architecture"], 10, 1, *data.shape[:2])
    # Normalised as the start was: a network that was fine-tuned expects it.
    description = Description(architecture, data.label_names, start.preprocessing, data, drawn)
    import_weights(files, description, out, overwrite=True)
    return OpenRun(out, device="cpu")


def measured(run: OpenRun, candidates: dict[str, Candidate], sets: dict[str, Images]) -> dict[str, dict[str, Any]]:
    """Return each candidate's metrics on each set of images."""
    networks = Networks(run.network, run.calibration)
    found: dict[str, dict[str, Any]] = {name: {} for name in candidates}
    for where, images in sets.items():
        for name, scores in zip(candidates, networks.score(list(candidates.values()), images), strict=True):
            found[name][where] = scores.metrics()
    return found


def measure(folder: Path, seed: int, name: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Return all that is measured with one start in one domain."""
    new, both = folder / f"{name}.npz", folder / f"{name}-both.npz"
    write_domain(new, name)
    write_domain(both, name, with_old=True)
    run = trained(folder / f"start-{seed}", say, **START, seed=seed)
    start = state_dict(run)
    other = state_dict(trained(folder / f"start-{seed + 100}", say, **START, seed=seed + 100))
    tuning = TUNED | {"data": str(new), "initialisation": str(run)}
    ends = [
        state_dict(
            trained(
                folder / f"{name}-{seed}-tuned-{index}",
                say,
                **tuning,
                subspace="standard",
                learning_rate=rate,
                seed=10 * seed + draw,
            )
        )
        for index, (rate, draw) in enumerate(MEMBERS)
    ]
    line = trained(
        folder / f"{name}-{seed}-line", say, **tuning, subspace="line", learning_rate=LINE_RATE, seed=10 * seed
    )
    soup = imported(ends, new, folder / f"{name}-{seed}-soup")
    sets = {"new": soup.data.test, "old": load_data("fashion-mnist", image_size=14).test}
    say(f"{name}, seed {seed}: measuring")
    wise = imported([start, ends[1]], both, folder / f"{name}-{seed}-wise")
    independent = imported([start, other], "fashion-mnist", folder / f"{name}-{seed}-independent")
    return {
        "seed": seed,
        "domain": name,
        "soups": _soups(soup, sets, seed),
        "line": _line(OpenRun(line, device="cpu"), sets),
        "wise": _wise(wise, sets, soup, seed),
        "independent": independent.subspace.provenance["import"]["barrier"],
        "environment": environment(),
    }


def _soups(run: OpenRun, sets: dict[str, Images], seed: int) -> dict[str, Any]:
    """Return single networks, both soups and the ensemble; the greedy one is made on validation images."""
    chosen = select(
        run.network,
        [Domain("new", run.data.validation, {"data": "validation"})],
        calibration=run.calibration,
        method="greedy-soup",
        seed=seed,
    )["new"]
    geometry = run.subspace.geometry
    candidates = {f"single {index}": Candidate.point(end) for index, end in enumerate(geometry.ends)}
    candidates |= {
        "uniform soup": Candidate.point(geometry.midpoint),
        "greedy soup": Candidate.point(tuple(chosen["alpha"])),
        "ensemble": Candidate(tuple(geometry.ends)),
    }
    record = run.subspace.provenance["import"]
    return {
        "measured": measured(run, candidates, sets),
        "taken": sum(step["taken"] for step in chosen["steps"]),
        "barrier": record["barrier"],
        "statistics": record["statistics"],
    }


def _line(run: OpenRun, sets: dict[str, Images]) -> dict[str, Any]:
    """Return the midpoint and the ends of a line that was trained from the start."""
    ends = run.subspace.geometry.ends
    candidates = {
        "midpoint": Candidate.point(run.subspace.geometry.midpoint),
        "end": Candidate.point(ends[0]),
        "ensemble": Candidate(tuple(ends)),
    }
    return {"measured": measured(run, candidates, sets), "distances": run.network.endpoint_distances()}


def _wise(run: OpenRun, sets: dict[str, Images], new: OpenRun, seed: int) -> dict[str, Any]:
    """Return places between start and fine-tuned network, and the one that a bounded mixture of domains chooses."""
    places = [round(float(alpha), 10) for alpha in np.linspace(0, 1, 11)]
    candidates = {f"{alpha:g}": Candidate.point(alpha) for alpha in places}
    along = measured(run, candidates, sets)
    old = load_data("fashion-mnist", image_size=14, validation=0.2).validation
    # As many images as of the new domain, that neither the start nor the fine-tuning has seen.
    domains = [
        Domain("old", old.subset(np.arange(9000, 9000 + IMAGES["val"])), {"data": "old"}),
        Domain("new", new.data.validation, {"data": "new"}),
    ]
    bound = along["0"]["old"]["accuracy"] - BOUND
    mixture = Mixture({"old": 1.0, "new": 1.0}, {"old": bound}, "wise")
    chosen = select(run.network, domains, calibration=run.calibration, mixture=mixture, seed=seed)["wise"]
    at = measured(run, {"chosen": Candidate.point(chosen["alpha"])}, sets)["chosen"]
    return {"along": along, "bound": bound, "chosen": chosen["alpha"], "measured": at}


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("runs/imports"), show_default=True)
@click.option("--only", multiple=True, type=click.Choice(DOMAINS), help="A domain (repeatable).")
@click.option("--page", "page_file", type=click.Path(path_type=Path), help="Write the tables into this page.")
def main(seeds: int, folder: Path, only: tuple[str, ...], page_file: Path | None) -> None:
    """Measure what is missing, and write the page."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = []
    for name in only or DOMAINS:
        for seed in range(seeds):
            file = folder / f"{name}-{seed}.json"
            if not file.exists():
                write_text(file, json.dumps(measure(folder, seed, name, click.echo)) + "\n")
            documents.append(json.loads(file.read_text()))
    text = page(documents)
    if page_file is None:
        click.echo(text)
    else:
        replace_tables(page_file, text, MARKER)
        draw_picture(documents, page_file.with_suffix(".png"))


if __name__ == "__main__":
    main()
