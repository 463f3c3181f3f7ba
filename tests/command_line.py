"""The command line, called in this process. Its words are given one by one, or all of them in one text."""

from __future__ import annotations

import contextlib
import io
import sys
from unittest import mock

from click.testing import CliRunner, Result

from subspace_serve.cli import cli, main
from subspace_serve.errors import DataError


def _split(words: tuple[object, ...]) -> list[str]:
    return words[0].split() if len(words) == 1 and isinstance(words[0], str) else [str(word) for word in words]


def invoke(*words: object) -> Result:
    """Call `subspace-serve` with these words; the result also has the exception that ended it."""
    return CliRunner().invoke(cli, _split(words))


def completed(*words: object) -> Result:
    """Call a command that must succeed."""
    result = invoke(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def run(*words: object) -> str:
    """Call a command that must succeed; return its standard output."""
    return completed(*words).stdout


def refusal(*words: object, error: type[Exception] = DataError) -> str:
    """Call a command that must end with this error; return the error's message."""
    result = invoke(*words)
    assert isinstance(result.exception, error), (result.output, result.exception)
    return str(result.exception)


def ended(*words: object) -> tuple[int, str, str]:
    """Call the real entry point; return its exit status, standard output and standard error."""
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["subspace-serve", *_split(words)]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return status, output.getvalue(), errors.getvalue()


def fails(*words: object) -> tuple[int, str]:
    """Call, through the real entry point, a command that must fail; return its exit status and message."""
    status, _, message = ended(*words)
    assert status
    assert "Traceback" not in message
    return status, message
