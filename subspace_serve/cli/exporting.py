"""The command that writes networks as graphs: `export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.export_images import calibrations_of, knot_images_of, temperature_data_of
from subspace_serve.cli.export_options import export_options, refuse_contradictions
from subspace_serve.cli.export_tables import print_bundle
from subspace_serve.cli.gate_images import gate_data_of
from subspace_serve.cli.options import run_options
from subspace_serve.cli.output import json_option, progress_line, write_report
from subspace_serve.cli.sets_images import sets_data_of
from subspace_serve.cli.skeletons import open_run, origin_of

if TYPE_CHECKING:
    from subspace_serve.space.ensemble import Ensemble


@click.command()
@run_options
@export_options
@json_option
def export(
    run: Path,
    alphas: tuple[str, ...],
    extrapolate: bool,
    calibrate_on: str | None,
    ensembles: list[tuple[str, Ensemble[str]]],
    aggregate: Any,
    default: str | None,
    input_dtype: Any,
    evaluated: bool,
    fit_temperatures: bool,
    temperature_data: str | None,
    with_sets: bool,
    sets_data: str | None,
    sets_method: Any,
    precisions: tuple[Any, ...],
    max_drop: float,
    gate_data: str | None,
    fused: bool,
    dynamic_alpha: bool,
    points_only: bool,
    layout: str,
    model_version: int | None,
    max_batch_size: int | None,
    out: Path | None,
    drop_domains: bool,
    json_file: str | None,
    **options: Any,
) -> None:
    """Collapse, recalibrate and export points as a verified ONNX bundle, or as a Triton model repository.

    Each graph is compared on real images with torch, or where that is not installed with the run's skeleton, which must
    reproduce the answers that training left. Each point's BatchNorm statistics are checked on other images. A bundle
    that fails is not written, and the old one stays; one with domains, which `adapt` and `select` write, is replaced
    with --drop-domains only. For Triton each ensemble becomes one graph, compared with the answers of the bundle's
    service; requests there cannot name another place or a domain, so give each with --alpha.
    """
    from subspace_serve.bundle import Bundle
    from subspace_serve.bundle.replacing import check_no_domains, check_outside_bundles, check_target
    from subspace_serve.export import BundlePlan, export_bundle
    from subspace_serve.files import pinned, temporary_folder
    from subspace_serve.space.alpha import parse_alphas
    from subspace_serve.space.use import recommended_use

    refuse_contradictions(click.get_current_context().params)
    opened = open_run(run, **options)
    target = pinned(out) if out else opened.folder / layout
    if layout == "triton":
        from subspace_serve.deploy.triton import MAX_BATCH_SIZE, write_triton_repository
        from subspace_serve.deploy.triton import check_target as check_repository

        check_outside_bundles(target)
        check_repository(target, model_version)
    else:
        check_target(target)
        if not drop_domains:
            check_no_domains(target)
    request = parse_alphas(
        alphas or recommended_use(opened.subspace),
        opened.subspace.geometry,
        opened.selections(),
        extrapolate=extrapolate or not alphas,
        aggregate=aggregate,
    )
    for name, ensemble in ensembles:
        request.add_ensemble(name, replace(ensemble, aggregate=aggregate))
    calibrations = calibrations_of(opened, request, calibrate_on)
    temperatures = temperature_data_of(opened, request, temperature_data) if fit_temperatures else {}
    # Triton answers with tensors alone.
    with_sets = with_sets and layout == "bundle"
    plan = BundlePlan.of(
        request,
        calibrations,
        temperatures,
        sets_data_of(opened, request, sets_data, sets_method, temperatures, calibrations) if with_sets else {},
        # Who asks for fewer bits is answered in them.
        default=default or "-".join([request.models[0], *precisions[:1]]),
        evaluation=opened.data.test if evaluated and opened.has_data else None,
        input_type=input_dtype,
        subspace=None if points_only or layout == "triton" else knot_images_of(opened, calibrate_on, calibrations),
        precisions=precisions,
        gate=gate_data_of(opened, request, gate_data, max_drop, calibrations) if precisions else None,
        fused=fused,
        dynamic=dynamic_alpha,
    )
    if layout == "bundle":
        bundle = Bundle.open(
            export_bundle(origin_of(opened), plan, target, drop_domains=drop_domains, progress=progress_line)
        )
    else:
        with temporary_folder(target) as folder:
            bundle = Bundle.open(export_bundle(origin_of(opened), plan, folder / "bundle", progress=progress_line))
            write_triton_repository(
                bundle,
                target,
                max_batch_size=max_batch_size or MAX_BATCH_SIZE,
                version=model_version,
                progress=progress_line,
            )
    if not write_report(bundle.manifest.model_dump(mode="json"), json_file):
        return
    print_bundle(bundle, temperatures=fit_temperatures)
    if layout == "triton":
        models = len(bundle.points) + len(bundle.ensembles)
        click.echo(f"Triton model repository: {target} (version {model_version or 1} of {models} models)")
    else:
        click.echo(f"bundle: {target} (default {bundle.default})")


COMMANDS = {"export": export}
