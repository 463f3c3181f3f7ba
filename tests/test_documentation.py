"""The pages name what there is: paths, make targets, commands and their options."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from subspace_serve.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("subspace_serve", "trainer", "service", "tests", "benchmarks", "deploy", "docs")
COMMANDS = {name: cli.get_command(click.Context(cli), name) for name in cli.list_commands(click.Context(cli))}


def options(command: click.Command) -> set[str]:
    """Every option of a command, in each of its spellings."""
    parameters = [*command.params, *command.get_params(click.Context(command))]
    return {text for parameter in parameters for text in (*parameter.opts, *parameter.secondary_opts)}


def page_ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_paths_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", text))
    linked = set(re.findall(r"\]\(([^):#\s]+)\)", text))
    absent = [path for path in named if not (ROOT / path).exists()]
    absent += [path for path in linked if not (page.parent / path).exists()]
    assert absent == []


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_make_targets_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|    )make ([a-z-]+)", page.read_text(encoding="utf-8")))
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_commands_and_options_that_a_page_names_exist(page: Path) -> None:
    wrong = []
    for line in page.read_text(encoding="utf-8").splitlines():
        for found in re.finditer(r"subspace-serve ([a-z]+)((?: [^`|#…;]*)?)", line):
            name, rest = found.groups()
            command = COMMANDS.get(name)
            if command is None:
                wrong += [name] if rest.startswith(" -") else []
                continue
            given = re.findall(r"(?<=\s)--[a-z][a-z-]*", rest.split(" && ")[0])
            wrong += [f"{name} {option}" for option in given if option not in options(command) | {"--help"}]
    assert wrong == []


def test_the_contributors_table_of_tests_names_each_file_once() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`(?:tests/)?(test_\w+\.py)`", text)
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
    assert len(named) > 20
