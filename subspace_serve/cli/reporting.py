"""The command `report`: gathers what is known of a run, and writes it as one page for people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.options import corruption_options, run_options
from subspace_serve.cli.output import json_option, passing_progress, progress_line, say_note, write_report
from subspace_serve.cli.recommending import recommended_candidates, recorded_use
from subspace_serve.cli.skeletons import open_run, with_skeleton
from subspace_serve.cli.usage import check_recalibrates
from subspace_serve.files import pinned
from subspace_serve.run.baseline import Baseline, comparable_run
from subspace_serve.run.domains import clean_part, corrupted_domains
from subspace_serve.run.images import OWN_PARTS, labelled_images
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.statistics import SOURCES, statistics_of_selection, usual_statistics

if TYPE_CHECKING:
    from subspace_serve.data import Images
    from subspace_serve.measure.changed import ChangedAnswers
    from subspace_serve.measure.results import Evaluation
    from subspace_serve.network.calibration_data import CalibrationData


@click.command()
@run_options
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="The report's folder.  [default: RUN/report]"
)
@click.option(
    "--data", "spec", default="test", show_default=True, metavar="SPEC", help="Labelled images to measure on."
)
@click.option("--points", type=click.IntRange(2), default=11, show_default=True, help="Places of a line or curve.")
@corruption_options
@click.option("--baseline", type=click.Path(path_type=Path), metavar="RUN", help="A standard network to compare with.")
@click.option(
    "--plane/--no-plane",
    default=None,
    help="Draw the error on the plane through three networks; for a line it takes --baseline.  [default: where it can]",
)
@click.option("--plane-resolution", type=click.IntRange(2, 101), default=9, show_default=True, help="Networks a side.")
@click.option(
    "--plane-images",
    type=click.IntRange(2),
    default=2000,
    show_default=True,
    help="Images, at most, that measure each network of the plane, and as many that recalibrate it.",
)
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show this evaluation (evaluate --json FILE) instead of measuring.",
)
@json_option
def report(
    run: Path,
    out: Path | None,
    spec: str,
    points: int,
    corruptions: tuple[str, ...],
    severities: tuple[int, ...],
    preset: str | None,
    baseline: Path | None,
    plane: bool | None,
    plane_resolution: int,
    plane_images: int,
    evaluation: Path | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Write one HTML page about a run, for readers who do not know the method.

    Measures the run along its subspace (on corrupted images too, with --corruption), and shows the results with its
    stored selections, its training and the landscape around it. The page contains its pictures and needs no network and
    no other file; the pictures are also written beside it.
    """
    from subspace_serve.bundle.replacing import check_outside_bundles
    from subspace_serve.show.report import Documents, check_target
    from subspace_serve.show.report import write_report as write_page

    if evaluation is not None and corruptions:
        raise click.UsageError("--evaluation brings its own corruptions; leave --corruption out, or measure anew")
    opened = open_run(run, **options)
    if plane and opened.bundled is not None:
        raise click.UsageError(
            "--plane recalibrates networks with training images, and a bundle has none: leave it out, or report on "
            "the run"
        )
    target = check_target(pinned(out) if out else opened.beside("report"))
    check_outside_bundles(target)
    clean = clean_part(opened, spec) if corruptions else spec
    other = with_skeleton(comparable_run(opened, baseline)) if baseline is not None else None
    if evaluation is not None:
        measured, changed = _read_evaluation(evaluation, opened), None
    else:
        domains = corrupted_domains(opened, spec, corruptions, severities, preset) if corruptions else []
        measured = _measure(opened, other, clean, points, domains)
        changed = _changed(opened, clean)
    landscape = None
    if plane is not False and opened.bundled is None:
        landscape = _plane(opened, other, clean, plane_resolution, plane_images, wanted=bool(plane))
    documents = Documents(
        run=_describe(opened),
        evaluation=measured,
        selections=opened.selections(),
        training=_training_records(opened),
        plane=landscape,
        changed=changed,
    )
    page = write_page(target, documents)
    words = write_report(documents.to_json(), json_file)
    click.echo(f"report: {page}", err=not words)


def _measure(run: OpenRun, baseline: OpenRun | None, spec: str, points: int, domains: list) -> Evaluation:
    """Return the evaluation that `evaluate` gives, with reliability diagrams.

    Raises:
        CalibrationError: BatchNorm's statistics are known of the ends alone.
    """
    from subspace_serve.errors import CalibrationError
    from subspace_serve.measure.evaluation import default_alphas, evaluate

    statistics = usual_statistics(run)
    if statistics.to_json()["data"] == SOURCES:
        named = "SPEC" if spec in OWN_PARTS else spec
        raise CalibrationError(
            f"{run.path} was imported without a data set, and a report measures places beside the ends, of which alone "
            f"the sources' own statistics are: first run `subspace-serve evaluate {run.path} --data {named} "
            "--calibrate-on SPEC --json FILE`, then report with --evaluation FILE"
        )
    images = labelled_images(run, spec)
    standard = None if baseline is None else Baseline.of(baseline)
    check_recalibrates(statistics, *([standard.statistics] if standard else []))
    with passing_progress() as say:
        evaluation = evaluate(
            run.network,
            images,
            calibration=statistics,
            alphas=default_alphas(run.subspace.geometry, points | 1),  # odd, so that the midpoint is among them
            recommended=recommended_candidates(run.subspace, "probabilities"),
            corrupted=domains,
            reliability=True,
            progress=say,
        )
    if standard is not None:
        evaluation = standard.beside(evaluation, images, domains, reliability=True)
    return replace(evaluation, data=spec, use=recorded_use(run.subspace))


def _changed(run: OpenRun, spec: str) -> ChangedAnswers | None:
    """Return the images on which the midpoint, the ensemble of the ends and the chosen place give different answers.

    The chosen place is the first stored selection that moved away from the midpoint. One whose BatchNorm statistics
    cannot be had, such as where its images have gone since, is left out with a note.
    """
    from subspace_serve.errors import SubspaceServeError
    from subspace_serve.measure.changed import answers_of, changed_answers
    from subspace_serve.measure.networks import Candidate, Networks
    from subspace_serve.measure.point_results import candidate_from_json

    geometry, images = run.subspace.geometry, labelled_images(run, spec)
    if geometry.endpoints == 1:
        return None
    usual = [Candidate.point(geometry.midpoint), Candidate(tuple(geometry.ends))]
    found = answers_of(Networks(run.network, usual_statistics(run)), usual, images)
    models = dict(zip(("midpoint", "ends together"), found, strict=True))
    for name, selection in run.selections().items():
        if selection.get("kept_midpoint"):
            continue
        try:
            statistics = statistics_of_selection(run, name, selection)
        except SubspaceServeError as error:
            say_note(f"best:{name} is not compared with the other models image by image: {error}")
            continue
        (models[f"best:{name}"],) = answers_of(
            Networks(run.network, statistics), [candidate_from_json(selection)], images
        )
        break
    return changed_answers(models, images, run.labels)


def _read_evaluation(file: Path, run: OpenRun) -> Evaluation:
    """Read what `evaluate --json` wrote.

    Raises:
        DataError: it is no evaluation, or one of another run.
    """
    from subspace_serve.errors import DataError
    from subspace_serve.measure.metrics import METRICS
    from subspace_serve.measure.results import Evaluation

    try:
        evaluation = Evaluation.from_json(json.loads(file.read_text(encoding="utf-8")))
        complete = [point for point in evaluation.points if point.metrics.keys() >= METRICS.keys()]
        if not complete or len(complete) < len(evaluation.points) or evaluation.count < 1:
            raise ValueError("no points, or points without metrics")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{file} is no evaluation ({error}); write one with `subspace-serve evaluate --json {file}`"
        ) from error
    geometry = evaluation.geometry
    if geometry != run.subspace.geometry.name:
        raise DataError(f"{file} evaluates a {geometry} and {run.path} is a {run.subspace.geometry.name}; measure anew")
    if evaluation.checkpoint_sha256 not in (None, run.checkpoint_sha256):
        raise DataError(f"{file} evaluates another checkpoint than {run.file} (its SHA-256 differs); measure anew")
    return evaluation


def _plane(
    run: OpenRun, baseline: OpenRun | None, spec: str, resolution: int, count: int, *, wanted: bool
) -> dict[str, Any] | None:
    """Return errors on the plane through three networks.

    None where there is no such plane, or no images to recalibrate its networks with, and it was not asked for.
    """
    from subspace_serve.errors import DataError, GeometryError
    from subspace_serve.measure.plane import plane_errors, subspace_path, subspace_plane

    other = None if baseline is None else baseline.subspace
    standard = None if other is None else other.weights(other.geometry.midpoint)
    try:
        plane = subspace_plane(run.subspace, standard, buffers=None if other is None else other.buffers)
        calibration = _fewer(run.calibration, count)
    except (GeometryError, DataError) as error:
        if wanted:
            raise
        progress_line(f"no picture of the plane: {error}")
        return None
    with passing_progress() as say:
        measured = plane_errors(
            plane,
            run.network,
            _some(labelled_images(run, spec), count, run.seed),
            calibration=calibration,
            resolution=resolution,
            progress=say,
        )
    return measured | {"path": subspace_path(run.subspace, plane)}


def _some(images: Images, count: int, seed: int) -> Images:
    """Return at most `count` images, drawn at random."""
    from subspace_serve.data import permutation

    return images if len(images) <= count else images.subset(permutation(len(images), seed)[:count])


def _fewer(calibration: CalibrationData, count: int) -> CalibrationData:
    """Return at most the first `count` calibration images, in whole batches; they were drawn at random."""
    import numpy as np

    if len(calibration) <= count:
        return calibration
    batch_size = min(calibration.batch_size, count)
    images = calibration.images.subset(np.arange(count - count % batch_size))
    return replace(calibration, images=images, batch_size=batch_size)


def _training_records(run: OpenRun) -> list[dict[str, Any]]:
    """Return the lines of the run's metrics.jsonl; none for a checkpoint that the trainer did not write."""
    from subspace_serve.run.metrics import read_metrics

    return read_metrics(run.folder, run.subspace.provenance.get("training", {}).get("finished_epochs", 0))


def _describe(run: OpenRun) -> dict[str, Any]:
    from subspace_serve.packages import versions

    geometry = run.subspace.geometry
    return {
        "name": run.folder.resolve().name,
        "checkpoint": str(run.file),
        "sha256": run.checkpoint_sha256,
        "geometry": {"name": geometry.name, "endpoints": geometry.endpoints},
        "architecture": run.subspace.architecture.to_json(),
        "parameters": sum(array.size for array in run.subspace.endpoints[0].values()),
        "provenance": run.subspace.provenance,
        "versions": versions(),
    }


COMMANDS = {"report": report}
