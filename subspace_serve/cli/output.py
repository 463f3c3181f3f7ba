"""How commands give their reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from subspace_serve.files import write_text


def write_json(document: Any, destination: Path | str) -> None:
    """Write a JSON document to a file (whole or not at all), or to standard output when `destination` is "-".

    Numbers that JSON cannot hold (NaN, infinities) raise `ValueError`.
    """
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    if str(destination) == "-":
        click.echo(text, nl=False)
    else:
        write_text(Path(destination), text)
