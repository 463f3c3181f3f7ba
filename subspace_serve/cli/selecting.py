"""The command `select`: from labelled images of one or several domains to named points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.options import aggregate_option, calibrate_on_option, corruption_options, run_options
from subspace_serve.cli.output import (
    json_option,
    metric_cells,
    passing_progress,
    percent,
    print_table,
    write_report,
)
from subspace_serve.cli.recommending import described_use, midpoint_is_recommended
from subspace_serve.cli.skeletons import open_run
from subspace_serve.run.leakage import refuse_test_names
from subspace_serve.run.opened import OWN_PARTS, OpenRun, is_corrupted_set
from subspace_serve.run.selections import FILE_NAME

if TYPE_CHECKING:
    from subspace_serve.bundle.subspace import BundledSubspace
    from subspace_serve.data.domains import Domain


@click.command()
@run_options
@click.option(
    "--val-data",
    "specs",
    multiple=True,
    default=("validation",),
    show_default=True,
    metavar="SPEC",
    help="Labelled images from where the model will run, never the test set; several as NAME=SPEC (repeatable).",
)
@corruption_options
@click.option("--metric", type=click.Choice(["accuracy", "nll", "ece", "brier"]), default="accuracy", show_default=True)
@click.option(
    "--among",
    type=click.Choice(["points", "ensembles", "all"]),
    default="points",
    show_default=True,
    help="Choose a point, an ensemble (P(alpha) with P(1 - alpha), or some of ends and midpoint), or the best of both.",
)
@click.option("--points", type=click.IntRange(2), default=11, show_default=True, help="How fine the grid is.")
@click.option("--refine", type=click.IntRange(0), default=2, show_default=True, help="Halvings around the best.")
@aggregate_option()
@click.option("--greedy", is_flag=True, help="Take the best even where chance explains it.")
@calibrate_on_option(domain=True)
@click.option("--name", help="Store the choice under this name.  [default: best, or the corruption's name: fog:3]")
@json_option
def select(
    run: Path,
    specs: tuple[str, ...],
    corruptions: tuple[str, ...],
    severities: tuple[int, ...],
    preset: str | None,
    metric: str,
    among: str,
    points: int,
    refine: int,
    aggregate: str,
    greedy: bool,
    calibrate_on: str | None,
    name: str | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Choose a place on one half of validation images, report it on the other half, and store it.

    The midpoint is kept when nothing beats it beyond chance. Several domains, as several --val-data or --corruption,
    share the work. `export --alpha best:NAME` then exports a choice.
    """
    from subspace_serve.run.selections import store_selections
    from subspace_serve.select import DEFAULT_CALIBRATION, ON_DOMAIN
    from subspace_serve.select import select as choose

    opened = open_run(run, **options)
    opened.selections()
    if opened.bundled is not None and (among != "points" or calibrate_on):
        raise click.UsageError(
            "in a bundle points are chosen, with the statistics that it has: leave --among and --calibrate-on out; "
            "subspace-serve adapt recomputes statistics"
        )
    _say_midpoint_not_recommended(opened)
    domains = _domains(opened, specs, corruptions, severities, preset, name)
    if opened.bundled is not None:
        _check_names(opened.bundled, domains)
    on_domain = {}
    if calibrate_on == ON_DOMAIN:
        on_domain = {domain.name: opened.calibration_in(domain, options["seed"]) for domain in domains}
    elif calibrate_on:
        on_domain = dict.fromkeys([domain.name for domain in domains], opened.calibration_on(calibrate_on))
    with passing_progress() as say:
        selections = choose(
            opened.network,
            domains,
            calibration=opened.statistics,
            domain_calibration=on_domain,
            calibrated_on=calibrate_on or DEFAULT_CALIBRATION,
            metric=metric,
            kind=among,
            points=points,
            refine=refine,
            aggregate=aggregate,
            greedy=greedy,
            seed=options["seed"],
            progress=say,
        )
    if opened.bundled is None:
        file = store_selections(opened.folder, selections, opened.checkpoint_sha256)
    else:
        file = _store_in_bundle(opened.bundled, domains, selections)
    if write_report(selections, json_file):
        _print_selections(selections, metric, file)


def _say_midpoint_not_recommended(run: OpenRun) -> None:
    """Say where the midpoint, with which every choice is compared, is not what the run is meant for."""
    if not midpoint_is_recommended(run.subspace):
        click.echo(
            f"  the recommended use of this run is {described_use(run.subspace)}: the midpoint, with which places are "
            "compared here and which is kept where nothing beats it, is not part of it; export without --alpha takes "
            "what is recommended",
            err=True,
        )


def _domains(
    run: OpenRun,
    specs: tuple[str, ...],
    corruptions: tuple[str, ...],
    severities: tuple[int, ...],
    preset: str | None,
    name: str | None,
) -> list[Domain]:
    """Return what is chosen for, checked to be no test images, under names that can be stored.

    Raises:
        DataError: test images, or two domains of one name.
    """
    from subspace_serve.errors import DataError
    from subspace_serve.run.selections import check_selection_name

    domains: list[Domain] = []
    for text in specs:
        given, equals, spec = text.partition("=")
        if not equals or "/" in given:
            given, spec = "", text
        refuse_test_names(spec)
        _refuse_training_images(run, spec)
        if spec not in OWN_PARTS and not is_corrupted_set(spec):
            run.refuse_test_images(run.images(spec))
        if is_corrupted_set(spec):
            click.echo(
                f"  {spec} holds corrupted copies of published test images: quote what is reported here, on the half "
                "that was not chosen on, and no other figure on those test images",
                err=True,
            )
        if corruptions:
            prefix = f"{given}-" if given else ""
            corrupted = run.corrupted_domains(spec, corruptions, severities, preset)
            domains += [replace(domain, name=prefix + domain.name) for domain in corrupted]
        else:
            domains.append(run.domain(spec, given or "best"))
    if name is not None:
        if len(domains) > 1:
            raise DataError(f"--name {name} names one choice and there are {len(domains)}; name them as NAME=SPEC")
        domains = [replace(domains[0], name=name)]
    names = [domain.name for domain in domains]
    if len(set(names)) < len(names):
        raise DataError("two domains have one name; tell them apart as --val-data NAME=SPEC")
    for domain in domains:
        check_selection_name(domain.name)
    return domains


def _refuse_training_images(run: OpenRun, spec: str) -> None:
    """Refuse the images that the networks were trained on, and a run without validation images.

    Raises:
        DataError: these are asked for.
    """
    from subspace_serve.errors import DataError

    trained_on = run.subspace.provenance["training"]["data"]
    if spec in ("train", f"{trained_on}:train"):
        raise DataError(f"the networks were trained on {spec}, where every place looks good; give other images")
    if spec == "validation" and len(run.data.validation) == 0:
        raise DataError("this run was trained without validation images; name others with --val-data")


def _store_in_bundle(subspace: BundledSubspace, domains: Sequence[Domain], selections: dict[str, Any]) -> Path:
    """Enter each choice into the bundle as a domain with the training images' statistics, and a point."""
    from subspace_serve.adapt.writing import write_choice

    for domain in domains:
        write_choice(subspace, replace(domain, name=_in_bundle(domain.name)), selections[domain.name])
    return subspace.bundle.folder


def _check_names(subspace: BundledSubspace, domains: Sequence[Domain]) -> None:
    """Check before any work that each choice can be entered into the bundle.

    Raises:
        BundleError: a name is taken.
        DataError: two names become one there.
    """
    from subspace_serve.adapt.writing import check_name
    from subspace_serve.errors import DataError

    names = [_in_bundle(domain.name) for domain in domains]
    if len(set(names)) < len(names):
        raise DataError("two domains have one name in a bundle, where ':' becomes '-'; tell them apart")
    for name in names:
        check_name(subspace.bundle, name, adapted=False)


def _in_bundle(name: str) -> str:
    """Return a selection's name as a bundle may have it: a model's has no colon."""
    return name.replace(":", "-")


def _print_selections(selections: dict[str, Any], metric: str, file: Path) -> None:
    rows = []
    for name, selection in selections.items():
        low, high = (_figure(metric, value) for value in selection["gain"]["interval"])
        interval = "-" if selection["kept_midpoint"] else f"{low} to {high}"
        gain = "-" if selection["kept_midpoint"] else _figure(metric, selection["gain"]["value"])
        taken = _place(selection) + (" (midpoint kept)" if selection["kept_midpoint"] else "")
        rows.append([name, taken, *metric_cells(selection["reported"]), gain, interval])
    gained = "squared ECE gain" if metric == "ece" else f"{metric} gain"
    print_table(["domain", "alpha", "accuracy %", "NLL", "ECE %", "Brier", gained, "95 % interval"], rows)
    for name, selection in selections.items():
        click.echo(f"{name}: {selection['reason']}")
        if selection["kept_midpoint"] and selection["p_value"] < 1:
            best = selection["best"]
            low, high = (_figure(metric, value) for value in best["gain"]["interval"])
            click.echo(
                f"  the best was {_place(best)}, on the reporting half {_figure(metric, best['gain']['value'])} "
                f"({low} to {high}); --greedy takes it"
            )
    recalibrated = {name: entry["recalibration"] for name, entry in selections.items() if "recalibration" in entry}
    if recalibrated:
        click.echo("\nBatchNorm recomputed from the usual images and from the domain's, accuracy %:")
        print_table(
            ["domain", "midpoint, usual", "midpoint, domain", "chosen, usual", "chosen, domain"],
            [
                [name, *(percent(table[on][which]["accuracy"]) for which in _WHICH for on in ("default", "domain"))]
                for name, table in recalibrated.items()
            ],
        )
    first = next(iter(selections))
    selection = selections[first]
    as_alpha = f"export it with --alpha best{'' if first == 'best' else ':' + first}"
    use = as_alpha if file.name == FILE_NAME else f"a domain and a point of the name {_in_bundle(first)}"
    click.echo(
        f"chosen by {metric} on {selection['chosen_on']} images, reported on {selection['reported_on']} others; stored "
        f"in {file}: {use}"
    )


_WHICH = ("midpoint", "chosen")


def _place(entry: dict[str, Any]) -> str:
    from subspace_serve.space.place import place_text

    return " + ".join(place_text(alpha) for alpha in entry.get("members", [entry.get("alpha")]))


def _figure(metric: str, value: float) -> str:
    return f"{100 * value:+.2f}" if metric == "accuracy" else f"{value:+.4f}"


COMMANDS = {"select": select}
