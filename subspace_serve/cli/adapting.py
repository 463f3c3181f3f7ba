"""The command `adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subspace_serve.cli.asking import bundle_argument, device_option, threads_option
from subspace_serve.cli.domains import check_may_choose
from subspace_serve.cli.options import sets_method_option
from subspace_serve.cli.output import (
    json_option,
    metric_cells,
    passing_progress,
    percent,
    print_table,
    say_note,
    write_report,
)
from subspace_serve.files import pinned
from subspace_serve.run.domains import labelled_domain
from subspace_serve.run.images import images_from_outside
from subspace_serve.run.leakage import refuse_test_names
from subspace_serve.run.opened import OpenRun

if TYPE_CHECKING:
    from subspace_serve.adapt import Adaptation
    from subspace_serve.bundle.subspace import BundledSubspace


@click.command()
@bundle_argument
@click.option(
    "--images",
    "spec",
    metavar="SPEC",
    required=True,
    help="Images of the domain, 16 or more, labelled or not, never the test set: a folder, FILE.npz, or whatever "
    "--data of train takes.",
)
@click.option("--name", default="adapted", show_default=True, help="Of the domain, and of its point.")
@click.option(
    "--alpha", metavar="SPEC", help="The domain's place.  [default: chosen with --val-data, else the midpoint]"
)
@click.option(
    "--val-data",
    metavar="SPEC",
    help="Labelled images of the domain, never the test set: choose its place and its temperature.",
)
@click.option(
    "--metric",
    type=click.Choice(["accuracy", "nll", "ece", "brier"]),
    default="accuracy",
    show_default=True,
    help="What the place is chosen by on --val-data.",
)
@sets_method_option
@click.option(
    "--prior",
    type=click.FloatRange(0),
    default=16,
    show_default=True,
    help="How many images the training statistics count as; 0 takes the domain's alone.",
)
@click.option("--keep-better", is_flag=True, help="Write nothing where labels say that the domain is answered worse.")
@click.option("--resize", is_flag=True, help="Bring images of another size to the network's.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of random draws.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Write the bundle with its new domain here, and leave the one that is adapted as it is. A bundle that has "
    "other domains is not replaced.  [default: the bundle itself]",
)
@device_option
@threads_option
@json_option
def adapt(
    bundle: Path,
    spec: str,
    name: str,
    alpha: str | None,
    val_data: str | None,
    metric: str,
    sets_method: Any,
    prior: float,
    keep_better: bool,
    resize: bool,
    seed: int,
    out: Path | None,
    device: Any,
    threads: int,
    json_file: str | None,
) -> None:
    """Fit a bundle to the domain where it runs, by a few unlabelled images from there; no training data, no torch.

    BatchNorm's statistics are recomputed from the images along the whole subspace and mixed with those of training. The
    bundle gets a domain of this name, whose statistics work at any place, and a point. With labelled images the place
    is chosen by the rules of `select`.
    """
    from subspace_serve.adapt import Labels, write_adaptation
    from subspace_serve.adapt import adapt as compute
    from subspace_serve.adapt.writing import check_name
    from subspace_serve.bundle import Bundle
    from subspace_serve.bundle.replacing import check_domains_kept, check_target
    from subspace_serve.bundle.subspace import BundledSubspace

    if keep_better and val_data is None:
        raise click.UsageError("--keep-better compares on labelled images; give --val-data too")
    bundle = pinned(bundle)
    opened = Bundle.open(bundle)
    subspace = BundledSubspace(opened, device=device, threads=threads)
    check_name(opened, name)
    target = pinned(out) if out else bundle
    check_target(target)
    check_domains_kept(opened, target, renewed=name)
    run = OpenRun(bundle, seed=seed, resize=resize)
    # By name alone: what a run was trained on is not read for a few images, and seldom lies where a bundle is adapted.
    refuse_test_names(spec)
    images = images_from_outside(run, spec)
    labels = None
    if val_data is not None:
        domain = labelled_domain(run, val_data, "domain")
        check_may_choose(run, val_data, [domain])
        labels = Labels(domain, metric, seed, sets_method)
    with passing_progress() as say:
        found = compute(
            subspace,
            images,
            name=name,
            data=spec,
            alpha=_place(alpha, subspace) if alpha else None,
            labels=labels,
            prior=prior,
            seed=seed,
            progress=say,
        )
    for warning in found.warnings:
        say_note(warning)
    written = not (keep_better and found.is_worse)
    if json_file != "-":
        _print(found)
    if written:
        write_adaptation(subspace, found, target)
    if not write_report(found.to_json() | {"written": written}, json_file):
        return
    if written:
        click.echo(f"{target}: domain and point {name}; ask for it by its name, or any place by alpha and domain")
    else:
        click.echo(f"{target} is unchanged: {name} would answer less accurately than before")


def _place(text: str, subspace: BundledSubspace) -> Any:
    from subspace_serve.space.alpha import parse_alphas

    places = parse_alphas([text], subspace.geometry, {}).points
    if len(places) > 1:
        raise click.UsageError(f"a domain has one place; {text} names {len(places)}")
    return next(iter(places.values()))


def _print(found: Adaptation) -> None:
    from subspace_serve.prediction_sets import largest_coverage
    from subspace_serve.space.place import place_text

    entropy = found.entropy
    click.echo(
        f"{found.name}: alpha {place_text(found.alpha)}, statistics of {found.images.count} images of "
        f"{found.images.data}"
    )
    click.echo(
        f"on them {percent(found.agreement)} % of the answers stay the same; their mean entropy goes from "
        f"{entropy['before']:.3f} to {entropy['after']:.3f} nats"
    )
    if found.labelled and found.fit is not None:
        rows = [[when, *metric_cells(found.labelled[when])] for when in ("before", "after")]
        print_table([f"on {found.fit.reported_on} labelled images", "accuracy %", "NLL", "ECE %", "Brier"], rows)
        reason = found.chosen["reason"] if found.chosen else "as --alpha says"
        click.echo(f"place: {reason}; temperature {found.fit.temperature:.3f}")
    if (sets := found.record.sets) is not None:
        most = percent(largest_coverage(sets.count))
        click.echo(
            f"prediction sets of a coverage up to {most} %, from {sets.count} labelled images that chose nothing"
        )


COMMANDS = {"adapt": adapt}
