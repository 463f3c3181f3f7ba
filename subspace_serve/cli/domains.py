"""What `--val-data NAME=SPEC` and `--corruption` mean: labelled images of one or several domains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from subspace_serve.run.domains import corrupted_domains, is_corrupted_set, labelled_domain
from subspace_serve.run.images import labelled_images
from subspace_serve.run.leakage import corrupted_copy, refuse_seen_images
from subspace_serve.run.opened import OpenRun

if TYPE_CHECKING:
    from subspace_serve.data.domains import Domain


def named_spec(text: str) -> tuple[str, str]:
    """Return the name, empty where none is given, and the specification of NAME=SPEC or SPEC.

    What holds a slash before its first `=` is a path and no name.
    """
    given, equals, spec = text.partition("=")
    return (given, spec) if equals and "/" not in given else ("", text)


def domains_to_choose_on(
    run: OpenRun,
    specs: Sequence[str],
    corruptions: Sequence[str] = (),
    severities: Sequence[int] = (),
    preset: str | None = None,
) -> list[Domain]:
    """Return labelled images to choose on, by their names, by the corruptions' or as `best`.

    Raises:
        DataError: they are test images, or the networks were trained on them.
    """
    domains: list[Domain] = []
    for text in specs:
        given, spec = named_spec(text)
        if corruptions:
            prefix = f"{given}-" if given else ""
            corrupted = corrupted_domains(run, spec, corruptions, severities, preset)
            found = [replace(domain, name=prefix + domain.name) for domain in corrupted]
        else:
            found = [labelled_domain(run, spec, given or "best")]
        check_may_choose(run, spec, found)
        domains += found
    return domains


def check_may_choose(run: OpenRun, spec: str, domains: Sequence[Domain]) -> None:
    """Refuse images that nothing may be chosen or fitted on; say what may be quoted of published corrupted ones.

    Args:
        run: the run, or a bundle of it.
        spec: what the images are called.
        domains: what it names, as they are or under corruptions.

    Raises:
        DataError: they are test images, or the networks were trained on them; or there are none.
    """
    from subspace_serve.data.sharing import uncorrupted
    from subspace_serve.errors import DataError

    for images in dict.fromkeys(uncorrupted(domain.images) for domain in domains):
        refuse_seen_images(run, spec, images)
    if spec == "validation" and len(run.data.validation) == 0:
        raise DataError("this run was trained without validation images; name others with --val-data")
    if is_corrupted_set(spec) and corrupted_copy(spec) is None:
        click.echo(
            f"  {spec} holds corrupted copies of published test images: quote what is reported here, on the half "
            "that was not chosen on, and no other figure on those test images",
            err=True,
        )


def domains_to_evaluate(run: OpenRun, specs: Sequence[str]) -> list[Domain]:
    """Return labelled images to report on, test images among them, by their names or their specifications.

    Raises:
        UsageError: two have one name.
    """
    from subspace_serve.data.domains import Domain

    named = {}
    for name, spec in map(named_spec, specs):
        if (name or spec) in named:
            raise click.UsageError(f"two domains have the name {name or spec}; tell them apart as --val-data NAME=SPEC")
        named[name or spec] = spec
    return [Domain(name, labelled_images(run, spec), {"data": spec}) for name, spec in named.items()]


def under_names(domains: Sequence[Domain], name: str | None) -> list[Domain]:
    """Return domains under names that their choices can be stored by.

    Args:
        domains: one or more.
        name: of the only one, instead of its own.

    Raises:
        DataError: two have one name, or one has a name that cannot be stored.
    """
    from subspace_serve.errors import DataError
    from subspace_serve.run.selections import check_selection_name

    if name is not None:
        if len(domains) > 1:
            raise DataError(f"--name {name} names one choice and there are {len(domains)}; name them as NAME=SPEC")
        domains = [replace(domains[0], name=name)]
    names = [domain.name for domain in domains]
    if len(set(names)) < len(names):
        raise DataError("two domains have one name; tell them apart as --val-data NAME=SPEC")
    for domain in domains:
        check_selection_name(domain.name)
    return list(domains)
