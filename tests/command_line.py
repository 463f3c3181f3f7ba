"""The command line, called in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from subspace_serve.cli import cli


def invoke(*words: object) -> Result:
    """Call `subspace-serve` with these words; the result also has the exception that ended it."""
    return CliRunner().invoke(cli, [str(word) for word in words])
