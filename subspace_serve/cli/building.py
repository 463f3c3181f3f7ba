"""The command `build`: packages a bundle for deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from subspace_serve.cli.asking import bundle_argument
from subspace_serve.cli.output import json_option, print_verification, write_report


@click.command()
@bundle_argument
@click.option("--bento/--no-bento", default=True, show_default=True, help="Build a Bento in BentoML's store.")
@click.option("--name", default="subspace-serve", show_default=True, help="The Bento's name.")
@click.option("--version", help="The Bento's version; a hash of what it holds unless given.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.bento", help="Also the Bento as one file."
)
@click.option(
    "--context",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also a folder for `docker build`, with the bundle inside.",
)
@json_option
def build(
    bundle: Path,
    bento: bool,
    name: str,
    version: str | None,
    out: Path | None,
    context: Path | None,
    json_file: str | None,
) -> None:
    """Package a bundle as a Bento, and as a container's context.

    The bundle is verified first. Nothing is downloaded: the Bento lists what the service needs, in the versions that
    are installed here, and its image installs them when it is built.
    """
    from subspace_serve.bundle.reader import Bundle
    from subspace_serve.bundle.verify import verify_bundle
    from subspace_serve.deploy.packaging import build_bento, check_context, export_bento, write_container_context

    if not bento and (out or not context):
        raise click.UsageError("--no-bento leaves nothing to build; give --context DIR, and no --out")
    if out and out.suffix != ".bento":
        raise click.BadParameter(f"{out.name} does not end in .bento", param_hint="--out")
    if context:
        check_context(context)  # before the work
    report = verify_bundle(bundle).to_json()
    if json_file != "-":
        print_verification(report)
    opened = Bundle.open(bundle)
    document: dict[str, Any] = {"bundle": report}
    lines = []
    if bento:
        built = build_bento(opened, name=name, version=version)
        document["bento"] = {"tag": built.tag, "folder": str(built.folder)}
        lines.append(f"Bento: {built.tag}; start it with: bentoml serve {built.folder}")
        if out:
            export_bento(built, out)
            document["bento"]["archive"] = str(out)
            lines.append(f"archive: {out}; take it in elsewhere with: bentoml import {out}")
    if context:
        write_container_context(opened, context)
        document["context"] = str(context)
        lines.append(f"context: {context}; make an image of it with: docker build -t {name} {context}")
    if write_report(document, json_file):
        click.echo("\n".join(lines))


COMMANDS = {"build": build}
