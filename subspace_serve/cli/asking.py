"""The commands that ask a bundle without a server: `verify` and `predict`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from subspace_serve.cli.output import json_option, print_table, print_verification, say_note, write_report
from subspace_serve.errors import DataError

_BATCH = 32

bundle_argument = click.argument(
    "bundle",
    type=click.Path(path_type=Path),
    default="runs/latest/bundle",
    envvar="SUBSPACE_SERVE_BUNDLE",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    envvar="SUBSPACE_SERVE_DEVICE",
    show_default=True,
    help="Where to run; auto is CUDA where a session really gets it.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    envvar="SUBSPACE_SERVE_THREADS",
    help="Threads of ONNX Runtime (of each worker); 0, the default, shares out all cores.",
)


@click.command()
@bundle_argument
@device_option
@threads_option
@json_option
def verify(bundle: Path, device: Any, threads: int, json_file: str | None) -> None:
    """Check a bundle: hashes, graphs, and the answers that export recorded."""
    from subspace_serve.bundle.verify import verify_bundle

    report = verify_bundle(bundle, device=device, threads=threads).to_json()
    if write_report(report, json_file):
        print_verification(report)


@click.command()
@bundle_argument
@click.option(
    "--image",
    "images",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="An image file; may be repeated.",
)
@click.option("--model", help="A point or an ensemble; the bundle's default unless given.")
@click.option("--members", metavar="NAME,...", help="Only these points, as an ensemble; a number is a place.")
@click.option("--weights", metavar="W,...", help="One weight per member.")
@click.option("--aggregate", type=click.Choice(["probabilities", "logits"]), help="What an ensemble averages.")
@click.option("--alpha", metavar="A", help="The network at any place of the subspace: 0.3, or 0.2,0.3,0.5.")
@click.option("--domain", metavar="NAME", help="With the statistics of a domain; alone, at the domain's own place.")
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="C",
    help="Such as 0.9: also a set of labels for each image that holds the right one with this probability.",
)
@click.option(
    "--max-risk",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="R",
    help="Such as 0.05: also say which answers to leave out, so that at most this share of the others is wrong.",
)
@click.option("--top-k", type=click.IntRange(min=1), default=3, show_default=True, help="Labels shown for each image.")
@click.option("--resize/--no-resize", default=True, show_default=True, help="Fit images of another size.")
@device_option
@threads_option
@json_option
def predict(
    bundle: Path,
    images: Sequence[Path],
    model: str | None,
    members: str | None,
    weights: str | None,
    aggregate: Any,
    alpha: str | None,
    domain: str | None,
    coverage: float | None,
    max_risk: float | None,
    top_k: int,
    resize: bool,
    device: Any,
    threads: int,
    json_file: str | None,
) -> None:
    """Classify image files, without a server."""
    import numpy as np

    from subspace_serve.bundle import Bundle
    from subspace_serve.bundle.images import MAX_OWN_PIXELS, decode_image
    from subspace_serve.bundle.predict import Predictor
    from subspace_serve.bundle.promises import Promises
    from subspace_serve.space.place import place_or_name

    predictor = Predictor(Bundle.open(bundle), device=device, threads=threads)
    selection = predictor.select(
        model,
        [place_or_name(member) for member in members.split(",")] if members else None,
        _numbers(weights, "--weights") if weights else None,
        aggregate,
        place(alpha) if alpha else None,
        domain,
    )
    promises = Promises(coverage, max_risk)
    promises.check(selection)
    input = predictor.bundle.manifest.input
    document: dict[str, Any] = {}
    entries: list[dict[str, Any]] = []
    for start in range(0, len(images), _BATCH):
        files = images[start : start + _BATCH]
        pixels = []
        for file in files:
            try:
                pixels.append(decode_image(file.read_bytes(), input, resize=resize, max_pixels=MAX_OWN_PIXELS))
            except DataError as error:
                raise DataError(f"{file}: {error}") from None
        prediction = predictor.predict(np.stack(pixels), selection)
        document = prediction.to_json(predictor.bundle.labels, top_k=top_k, promises=promises)
        entries += [{"image": str(file), **entry} for file, entry in zip(files, document["predictions"], strict=True)]
    document["predictions"] = entries
    if write_report(document, json_file):
        _print_predictions(document)


def _print_predictions(document: dict[str, Any]) -> None:
    from subspace_serve.space.place import place_text

    names = [member if isinstance(member, str) else place_text(member) for member in document["members"]]
    who = ", ".join(f"{name} ({weight:.2g})" for name, weight in zip(names, document["weights"], strict=True))
    if document["aggregate"]:
        click.echo(f"{document['model'] or 'ensemble'}: {who}, {document['aggregate']} averaged")
    else:
        click.echo(document["model"] or f"alpha {place_text(document['alpha'])}, statistics {document['statistics']}")
    measures = ["entropy", *(["mutual_information", "disagreement"] if document["aggregate"] else [])]
    with_sets, with_risk = (name in document["predictions"][0] for name in ("set", "abstained"))
    rows = []
    for entry in document["predictions"]:
        first = [Path(entry["image"]).name, *(f"{entry[measure]:.3f}" for measure in measures)]
        if with_risk:
            first.append({None: "-", True: "yes", False: "no"}[entry["abstained"]])
        if with_sets:
            first.append("-" if entry["set"] is None else ", ".join(label["label"] for label in entry["set"]))
        for label in entry["labels"]:
            rows.append([first[0], label["label"], f"{label['probability']:.3f}", *first[1:]])
            first = [""] * len(first)
    header = ["image", "label", "probability", *(measure.replace("_", " ") for measure in measures)]
    print_table([*header, *(["abstains"] if with_risk else []), *(["set"] if with_sets else [])], rows)
    for reason in ("set_reason", "abstained_reason"):
        say_note(document.get(reason))


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers like 0.7,0.3", param_hint=option) from None


def place(text: str) -> float | list[float]:
    """Read a place of the subspace. Raises `click.BadParameter`."""
    numbers = _numbers(text, "--alpha")
    return numbers[0] if len(numbers) == 1 else numbers


COMMANDS = {"verify": verify, "predict": predict}
