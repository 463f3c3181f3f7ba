"""The command `subspace-serve`: parsing and printing around the library.

Commands are imported when they are called, and import heavy modules inside, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import importlib
import io
import re
import sys
from collections.abc import Callable
from typing import NamedTuple

import click

from subspace_serve import __version__
from subspace_serve.cli.numbers import explain_numbers
from subspace_serve.cli.ranks import as_one, refuse_ranks, several_ranks
from subspace_serve.errors import SubspaceServeError
from subspace_serve.suggestions import did_you_mean


class _Entry(NamedTuple):
    module: str
    summary: str


_COMMANDS = {
    "demo": _Entry("demo", "Run the whole road on bundled data in about a minute."),
    "train": _Entry("training", "Train a subspace, or a standard network, in one run."),
    "import": _Entry("importing", "Make a run of networks that were trained elsewhere."),
    "inspect": _Entry("evaluation", "Show what a run's subspace is and where it came from."),
    "evaluate": _Entry("evaluation", "Measure networks and ensembles along a subspace."),
    "select": _Entry("selecting", "Choose the point that suits labelled images from a domain."),
    "corrupt": _Entry("corrupting", "Write a corrupted copy of a data set in CIFAR-10-C's layout."),
    "report": _Entry("reporting", "Write one HTML page about a run, for people."),
    "collapse": _Entry("collapsing", "Write one point as an ordinary state dict."),
    "export": _Entry("exporting", "Write chosen points as a verified ONNX bundle."),
    "adapt": _Entry("adapting", "Fit a bundle to a domain by a few of its unlabelled images."),
    "verify": _Entry("asking", "Check a bundle: hashes, graphs and answers."),
    "predict": _Entry("asking", "Classify image files with a bundle, without a server."),
    "serve": _Entry("serving", "Start the HTTP service on a bundle."),
    "bench": _Entry("benching", "Measure a running service at given rates of requests."),
    "build": _Entry("building", "Package a bundle as a Bento, and as a container's context."),
}


_EXTRAS = (
    dict.fromkeys(("cv2", "jinja2", "matplotlib", "scipy", "sklearn"), "measure")
    | dict.fromkeys(("onnx", "onnxscript", "torch", "torchvision"), "train")
    | dict.fromkeys(("anyio", "httpx"), "client")
)
"""The extra that installs a package that the base package does not."""

_TRIED = re.compile(r"tried to allocate \S+ \w+", re.IGNORECASE)
"""How torch says what it found no memory for: `20.00 MiB` or `4000 bytes`."""
_TAKE_LESS = "take fewer or smaller images or a smaller batch (train: --batch-size), or allow more memory"
_GO_ON = "train --resume RUN goes on after the last epoch that it finished"


class _LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"subspace_serve.cli.{entry.module}")
        command = module.COMMANDS[cmd_name]
        explain_numbers(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchOption:  # click itself knows the nearest
            raise
        except click.UsageError as error:
            hint = did_you_mean(args[0], _COMMANDS).capitalize()
            raise click.UsageError(f"{error.message} {hint}".rstrip(), ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands, in the order of the road"):
            formatter.write_dl([(name, entry.summary) for name, entry in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="subspace-serve")
def cli() -> None:
    """Train networks in weight-space subspaces, export chosen points, and serve them.

    Without arguments every command takes the run that was trained last (runs/latest).
    """


def main() -> None:
    """Run the command line; a user's error is one message and exit status 1, never a traceback."""
    if several_ranks():
        _show_everything()
        with as_one() as say:
            _run(cli, say)
    else:
        run(cli)


def run(command: click.Command) -> None:
    """Run a command with the process's arguments; a user's error is one message and exit status 1."""
    _show_everything()
    _run(command, lambda message: click.echo(message, err=True))


def _show_everything() -> None:
    """Write characters that a terminal or a pipe cannot encode, as in a label, as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(command: click.Command, say: Callable[[str], None]) -> None:
    """Run a command; `say` shows its errors."""
    try:
        refuse_ranks()
        command.main(standalone_mode=False)
    except click.ClickException as error:
        message = io.StringIO()
        error.show(file=message)
        say(message.getvalue().rstrip("\n"))
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as interrupt:
        # Click turns an interrupt into an Abort; the command's own message is in its cause.
        say(str(interrupt.__cause__ or interrupt) or "stopped")
        sys.exit(130)
    except (SubspaceServeError, OSError) as error:
        say(f"Error: {_message(error)}")
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        exhausted = _exhausted(error)
        if exhausted is None:
            raise
        say(f"Error: {exhausted}")
        sys.exit(1)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        say(
            f"Error: this command needs {package}, which the base package does not install: "
            f"pip install 'subspace-serve[{_EXTRAS[package]}]'"
        )
        sys.exit(1)


def _exhausted(error: MemoryError | RuntimeError) -> str | None:
    """Return the message where the machine ran out of memory or threads, or links have no end; None otherwise."""
    text = str(error)
    tried = _TRIED.search(text)
    found = f" ({tried[0]})" if tried else ""
    # By name and text: torch is not imported here.
    if type(error).__name__ == "OutOfMemoryError" or text.startswith("CUDA error: out of memory"):
        return (
            f"the GPU's memory is used up{found}; take smaller images or a smaller batch (train: --batch-size), or end "
            f"what else runs on the GPU; {_GO_ON}"
        )
    if "DefaultCPUAllocator" in text:
        return f"the memory is used up{found}; {_TAKE_LESS}; {_GO_ON}"
    if isinstance(error, MemoryError):
        return f"the memory is used up{f' ({text})' if text else ''}; {_TAKE_LESS}"
    if text.startswith("Symlink loop from"):  # of Path.resolve() before Python 3.13
        return f"a symbolic link leads back to itself ({text}); remove it, or choose another path"
    if text == "can't start new thread":
        return "the system starts no more threads; end other work, or allow more (ulimit -u, or the container's limit)"
    return None


def _message(error: Exception) -> str:
    """Return an error's message; the operating system's own come with the file's name."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        remedy = "; make room and run the command again: nothing was replaced" if error.errno == errno.ENOSPC else ""
        return f"{error.strerror}{where}{remedy}"
    return str(error)
