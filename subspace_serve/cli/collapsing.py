"""The command that writes one network as weights: `collapse`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from subspace_serve.cli.export_images import calibrations_of
from subspace_serve.cli.export_options import calibrate_points_on_option
from subspace_serve.cli.options import extrapolate_option, run_options
from subspace_serve.cli.skeletons import open_run
from subspace_serve.files import pinned
from subspace_serve.space.alpha import SYNTAX


@click.command()
@run_options
@click.option("--alpha", default="midpoint", show_default=True, metavar="SPEC", help=SYNTAX + ".")
@extrapolate_option
@calibrate_points_on_option
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="[default: RUN/NAME.safetensors; beside a bundle]"
)
def collapse(
    run: Path, alpha: str, extrapolate: bool, calibrate_on: str | None, out: Path | None, **options: Any
) -> None:
    """Write one point as an ordinary state dict (safetensors), with recalibrated BatchNorm."""
    from subspace_serve.space.alpha import parse_alphas
    from subspace_serve.space.checkpoint import save_weights
    from subspace_serve.space.place import exact_place_text, place_text
    from trainer.modules import collapsed, with_statistics

    opened = open_run(run, **options)
    request = parse_alphas([alpha], opened.subspace.geometry, opened.selections(), extrapolate=extrapolate)
    if len(request.points) > 1:
        places = "; ".join(exact_place_text(place) for place in request.points.values())
        raise click.UsageError(f"collapse writes one point; {alpha} is the places {places}: collapse each")
    name, place = next(iter(request.points.items()))
    # As the run itself: a link in the way to it may soon point elsewhere.
    target = pinned(out.parent) / out.name if out else opened.beside(f"{name}.safetensors")
    _check_target(target)
    calibration = calibrations_of(opened, request, calibrate_on)[name]
    # A selected place may lie outside the line, if that was allowed when it was selected.
    model = collapsed(opened.subspace, place, extrapolate=True, architecture=opened.arch)
    weights = opened.network.weights(place, extrapolate=True)
    statistics = calibration.statistics(opened.network, place, weights)
    with_statistics(model, opened.network.skeleton, statistics)
    save_weights(
        {name: tensor.numpy() for name, tensor in model.state_dict().items()},
        target,
        {
            "architecture": opened.subspace.architecture.name,
            "alpha": exact_place_text(place),
            "calibration": calibration.to_json()["data"],
            "checkpoint_sha256": opened.checkpoint_sha256,
        },
    )
    click.echo(f"{target}: {opened.subspace.architecture.name} at alpha {place_text(place)}")


def _check_target(target: Path) -> None:
    """Refuse a file that would damage a run or a bundle, or replace anything but an earlier result of `collapse`."""
    from subspace_serve.bundle.replacing import check_outside_bundles
    from subspace_serve.errors import SubspaceServeError
    from subspace_serve.export.golden import FILE_NAME as GOLDEN_FILE
    from subspace_serve.run.statistics import SOURCES_FILE
    from subspace_serve.space.checkpoint import FILE_NAME as CHECKPOINT_FILE

    # What a run keeps as safetensors: also where it is absent, a point's name must not make its file one of them.
    if target.name in (CHECKPOINT_FILE, GOLDEN_FILE, SOURCES_FILE):
        raise click.UsageError(f"{target.name} is a file of the run itself; choose another with --out")
    check_outside_bundles(target)
    if target.exists() and not _is_collapsed(target):
        raise SubspaceServeError(
            f"{target} exists and collapse did not write it; move it away, or choose another file with --out"
        )


def _is_collapsed(file: Path) -> bool:
    """Return whether `collapse` wrote a file, by what its metadata record."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return False
    try:
        with safe_open(file, framework="numpy") as opened:
            return {"alpha", "checkpoint_sha256"} <= (opened.metadata() or {}).keys()
    except (SafetensorError, OSError):
        return False


COMMANDS = {"collapse": collapse}
