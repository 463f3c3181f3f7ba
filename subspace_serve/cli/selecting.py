"""The command `select`: from labelled images of one or several domains to named points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.domains import domains_to_choose_on, under_names
from subspace_serve.cli.mixing import at_least_option, check_mixture, mixture_option, read_mixture
from subspace_serve.cli.options import aggregate_option, calibrate_on_option, corruption_options, run_options
from subspace_serve.cli.output import json_option, passing_progress, write_report
from subspace_serve.cli.recommending import described_use, midpoint_is_recommended
from subspace_serve.cli.selection_tables import print_selections
from subspace_serve.cli.skeletons import open_run
from subspace_serve.cli.usage import check_recalibrates
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.selections import FILE_NAME
from subspace_serve.run.statistics import calibration_in, statistics_on, usual_statistics

if TYPE_CHECKING:
    from subspace_serve.bundle.subspace import BundledSubspace
    from subspace_serve.data.domains import Domain
    from subspace_serve.measure.networks import StatisticsSource
    from subspace_serve.select import Mixture


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
@mixture_option
@at_least_option
@click.option("--metric", type=click.Choice(["accuracy", "nll", "ece", "brier"]), default="accuracy", show_default=True)
@click.option(
    "--method",
    type=click.Choice(["grid", "greedy-soup", "uniform-soup"]),
    default="grid",
    show_default=True,
    help="Choose on a grid, where the midpoint is kept unless a place beats it beyond chance; or take the average of "
    "those ends that make it no worse, or of all: a soup of a line or simplex, reported beside the grid's choice.",
)
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
@click.option(
    "--precision",
    type=click.Choice(["int8"]),
    help="Also measure the ends' ensemble in int8 beside the midpoint in float, and what each costs here.",
)
@calibrate_on_option(domain=True)
@click.option(
    "--name",
    help="Store the choice under this name.  [default: best, or the corruption's name: fog:3; mixture of several]",
)
@json_option
def select(
    run: Path,
    specs: tuple[str, ...],
    corruptions: tuple[str, ...],
    severities: tuple[int, ...],
    preset: str | None,
    mixture: tuple[str, ...],
    at_least: tuple[str, ...],
    metric: str,
    method: str,
    among: str,
    points: int,
    refine: int,
    aggregate: str,
    greedy: bool,
    precision: str | None,
    calibrate_on: str | None,
    name: str | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Choose a place on one half of validation images, report it on the other half, and store it.

    The midpoint is kept when nothing beats it beyond chance. Several domains, as several --val-data or --corruption,
    share the work; with --mixture or --at-least one place is chosen for all of them. `export --alpha best:NAME` then
    exports a choice.
    """
    from subspace_serve.run.selections import check_selection_name, check_unheld, store_selections
    from subspace_serve.select import DEFAULT_CALIBRATION
    from subspace_serve.select import select as choose

    mixed = read_mixture(mixture, at_least, name)
    if precision is not None and mixed is not None:
        raise click.UsageError("--precision measures on one domain at a time: leave --mixture and --at-least out")
    _check_usage(method, among, greedy, mixed, calibrate_on)
    opened = open_run(run, **options)
    opened.selections()
    if opened.bundled is None:
        check_unheld(opened.folder)
    if opened.bundled is not None and (among != "points" or calibrate_on or precision):
        raise click.UsageError(
            "in a bundle float points are chosen, with the statistics that it has: leave --among, --precision and "
            "--calibrate-on out; "
            "subspace-serve adapt recomputes statistics"
        )
    _say_midpoint_not_recommended(opened)
    domains = domains_to_choose_on(opened, specs, corruptions, severities, preset)
    if mixed is None:
        domains = under_names(domains, name)
        chosen_for = {domain.name: [domain] for domain in domains}
    else:
        check_mixture(mixed, domains)
        chosen_for = {check_selection_name(mixed.name): domains}
    if opened.bundled is not None:
        _check_names(opened.bundled, list(chosen_for))
    on_domain = _domain_calibration(opened, chosen_for, calibrate_on, options["seed"])
    # Imported without data a run has no usual statistics of all places.
    usual = usual_statistics(opened) if opened.has_data or not on_domain else next(iter(on_domain.values()))
    check_recalibrates(usual)
    with passing_progress() as say:
        selections = choose(
            opened.network,
            domains,
            calibration=usual,
            domain_calibration=on_domain,
            calibrated_on=calibrate_on or DEFAULT_CALIBRATION,
            metric=metric,
            method=method,
            kind=among,
            points=points,
            refine=refine,
            aggregate=aggregate,
            greedy=greedy,
            mixture=mixed,
            int8=precision == "int8",
            seed=options["seed"],
            progress=say,
        )
    if opened.bundled is None:
        file = store_selections(opened.folder, selections, opened.checkpoint_sha256)
    else:
        file = _store_in_bundle(opened.bundled, chosen_for, selections)
    if write_report(selections, json_file):
        print_selections(selections, metric)
        click.echo(_stored(selections, file))


def _check_usage(method: str, among: str, greedy: bool, mixture: Mixture | None, calibrate_on: str | None) -> None:
    """Check that the options mean something together.

    Raises:
        UsageError: they do not.
    """
    if method != "grid" and (among != "points" or greedy):
        raise click.UsageError(
            f"--method {method} takes one place, whatever chance says: leave --among and --greedy out, or choose by "
            "--method grid"
        )
    if method != "grid" and mixture is not None:
        raise click.UsageError(
            f"--method {method} is for one domain at a time: leave --mixture and --at-least out, or choose by --method "
            "grid"
        )
    if mixture is not None and calibrate_on == "domain":
        raise click.UsageError(
            "a mixture's domains are several, and one network has one BatchNorm: leave --calibrate-on out, or name "
            "images with it"
        )


def _domain_calibration(
    run: OpenRun, chosen_for: Mapping[str, Sequence[Domain]], calibrate_on: str | None, seed: int
) -> dict[str, StatisticsSource]:
    """Return the images that `--calibrate-on` asks for, by the choice's name.

    Raises:
        CalibrationError: they are so few that `export` could not write the choice.
        DataError: they are test images.
    """
    from subspace_serve.network.calibration_data import SMALLEST_COUNT, CalibrationData
    from subspace_serve.select import ON_DOMAIN

    if calibrate_on is None:
        return {}
    found: dict[str, StatisticsSource]
    if calibrate_on == ON_DOMAIN:
        least = 2 * SMALLEST_COUNT  # one half of them chooses and calibrates
        found = {name: calibration_in(run, domains[0], seed) for name, domains in chosen_for.items()}
    else:
        least = SMALLEST_COUNT
        found = dict.fromkeys(chosen_for, statistics_on(run, calibrate_on))
    for name, source in found.items():
        if isinstance(source, CalibrationData):
            source.refuse_too_few(run.network, name, least=least)
    return found


def _say_midpoint_not_recommended(run: OpenRun) -> None:
    """Say where the midpoint, with which every choice is compared, is not what the run is meant for."""
    if not midpoint_is_recommended(run.subspace):
        click.echo(
            f"  the recommended use of this run is {described_use(run.subspace)}: the midpoint, with which places are "
            "compared here and which is kept where nothing beats it, is not part of it; export without --alpha takes "
            "what is recommended",
            err=True,
        )


def _store_in_bundle(
    subspace: BundledSubspace, chosen_for: Mapping[str, Sequence[Domain]], selections: Mapping[str, Any]
) -> Path:
    """Enter each choice into the bundle as a domain with the training images' statistics, and a point."""
    from subspace_serve.adapt.writing import write_choice

    for name, domains in chosen_for.items():
        write_choice(subspace, _in_bundle(name), domains, selections[name])
    return subspace.bundle.folder


def _check_names(subspace: BundledSubspace, selections: Sequence[str]) -> None:
    """Check before any work that each choice can be entered into the bundle.

    Raises:
        BundleError: a name is taken.
        DataError: two names become one there.
    """
    from subspace_serve.adapt.writing import check_name
    from subspace_serve.errors import DataError

    names = [_in_bundle(name) for name in selections]
    if len(set(names)) < len(names):
        raise DataError("two domains have one name in a bundle, where ':' becomes '-'; tell them apart")
    for name in names:
        check_name(subspace.bundle, name, adapted=False)


def _in_bundle(name: str) -> str:
    """Return a selection's name as a bundle may have it: a model's has no colon."""
    return name.replace(":", "-")


def _stored(selections: dict[str, Any], file: Path) -> str:
    """Return where choices were stored, and how the first of them is used."""
    first, selection = next(iter(selections.items()))
    as_alpha = f"export it with --alpha best{'' if first == 'best' else ':' + first}"
    use = as_alpha if file.name == FILE_NAME else f"a domain and a point of the name {_in_bundle(first)}"
    return (
        f"chosen by {selection['metric']} on {selection['chosen_on']} images, reported on {selection['reported_on']} "
        f"others; stored in {file}: {use}"
    )


COMMANDS = {"select": select}
