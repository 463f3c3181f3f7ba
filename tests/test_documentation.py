"""The pages name what there is: paths, make targets, commands and their options."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from service.settings import Settings
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


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links to them are written."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_headings_that_a_page_links_to_exist(page: Path) -> None:
    linked = re.findall(r"\]\(([^):#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    absent = [f"{path}#{name}" for path, name in linked if name not in anchors(page.parent / path if path else page)]
    assert absent == []


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_modules_that_a_page_runs_exist(page: Path) -> None:
    own = "|".join(FOLDERS)
    named = re.findall(rf"-m ((?:{own})(?:\.\w+)*)", page.read_text(encoding="utf-8"))
    paths = {name: ROOT / name.replace(".", "/") for name in named}
    absent = [
        name
        for name, path in paths.items()
        if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file())
    ]
    assert absent == []


def test_files_that_the_contributors_table_of_tests_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`(?:tests/)?(test_\w+\.py)`", text)
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
    assert len(named) > 20


def test_the_table_of_settings_has_the_services_own_with_their_defaults() -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    table = text.partition("| setting | default | meaning |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[1:]]
    found = {}
    for names, defaults, _ in rows:
        names, defaults = names.replace("`", "").split(", "), defaults.replace("`", "").split(", ")
        found |= dict(zip(names, defaults if len(defaults) == len(names) else defaults * len(names), strict=True))
    assert found.keys() == Settings.model_fields.keys()
    numbers = {name: number(text) for name, text in found.items() if number(text) is not None}
    assert len(numbers) > 10
    assert numbers == {name: Settings.model_fields[name].default for name in numbers}


def number(text: str) -> float | None:
    """A number as the table writes it, such as `16 MiB` or `25 million`; None for other text."""
    units = {"": 1, "MiB": 1024**2, "million": 10**6}
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(MiB|million)?", text)
    return None if found is None else float(found[1]) * units[found[2] or ""]
