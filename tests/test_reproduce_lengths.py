"""Figures at several lengths: unfinished ones have no verdict, finished ones stand side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from trainer.reproduce.__main__ import main
from trainer.reproduce.by_length import QUESTIONS, leads
from trainer.reproduce.cache import Cache
from trainer.reproduce.figures import FIGURES
from trainer.reproduce.figures.lengths import PAPERS
from trainer.reproduce.hardware import hardware
from trainer.reproduce.page import picture_file, write_figure, write_page
from trainer.reproduce.scales import SCALES
from trainer.reproduce.work import tasks_of

DOCS = Path(__file__).parent.parent / "docs"


def draw(tmp_path: Path) -> str:
    options = ["17", "--scale", "smoke", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path), "--draw"]
    result = CliRunner().invoke(main, options, catch_exceptions=False)
    assert result.exit_code == 0
    return (tmp_path / "reproduction.md").read_text()


def test_a_missing_seed_leaves_a_figure_without_a_verdict(tmp_path: Path) -> None:
    tasks, cache = tasks_of(FIGURES["17"], SCALES["smoke"], {}), Cache(tmp_path / "cache")
    measured = {
        "points": [{"alpha": alpha, "metrics": {"accuracy": 0.5, "ece": 0.1}} for alpha in (0, 0.5, 1)],
        "endpoints_ensemble": {"members": [0, 1], "metrics": {"accuracy": 0.5}, "total_variation": 0.25},
        "endpoint_distances": [{"pair": [0, 1], "l2": 3.0, "cosine_squared": 0.5}],
        "epochs": [{"endpoint_l2": 1.0, "endpoint_cosine_squared": 0.5}],
    }
    *all_but_one, last = tasks
    for task in all_but_one:
        cache.measurement(task.config, task.measure.key(), lambda: measured)
    page = draw(tmp_path)
    count = f"{len(tasks) - 1} of {len(tasks)} measured"
    assert f"{count}, so there is no verdict yet" in page
    assert f"{last.case} (seeds 0)" in page
    row = next(line for line in page.splitlines() if line.startswith("| [17]"))
    assert [cell.strip() for cell in row.strip("|").split("|")][2:] == [count, "", ""]
    assert "| **" not in page.partition("## Figure 17")[2]
    assert not list((tmp_path / "reproduction").rglob("*.png"))
    cache.measurement(last.config, last.measure.key(), lambda: measured)
    page = draw(tmp_path)
    assert "no verdict yet" not in page
    assert f"`, seeds 0, 1, {hardware('cpu')}." in page
    assert page.partition("## Figure 17")[2].count("| **") == len(
        list(FIGURES["17"].claims(SCALES["smoke"], _results(tasks, measured)))
    )
    # Each measurement says what it was made on; those of earlier versions do not.
    file = cache.measured_file(last.config, last.measure.key())
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"hardware": "64 cores, a GPU"}))
    assert f"`, seeds 0, 1, {hardware('cpu')}; 64 cores, a GPU." in draw(tmp_path)
    del document["hardware"]
    file.write_text(json.dumps(document))
    page = draw(tmp_path)
    assert f"`, seeds 0, 1, {hardware('cpu')}; unrecorded hardware." in page
    # What was finished once is not taken back.
    cache.measured_file(last.config, last.measure.key()).unlink()
    assert draw(tmp_path) == page


def _results(tasks, measured):
    results: dict = {}
    for task in tasks:
        results.setdefault(task.case, []).append(measured)
    return results


def test_leads_by_length_are_those_of_the_claims() -> None:
    document = json.loads((DOCS / "reproduction" / "small" / "figure-10.json").read_text())
    accuracy, ece, ends = (leads(document, question, "line") for question in QUESTIONS)
    assert [lead.epochs for lead in accuracy] == [5, 10, 20, 40]
    claims = {claim["text"]: claim for claim in document["claims"]}
    for found, text, length in (
        (accuracy, "the midpoint of a line is at least as accurate as standard training.", 4),
        (ece, "the midpoint of a line is better calibrated than standard training.", 4),
        (ends, "the ends of a line together come within half a point of two independent networks.", 4),
    ):
        claim = claims[f"At {length} × the epochs, {text}"]
        assert 100 * found[-1].verdict.mean == pytest.approx(claim["mean"])
        assert found[-1].verdict.word == claim["word"]
        assert found[-1].verdict.lower < found[-1].verdict.mean
    standard = leads(document, QUESTIONS[0], "standard")
    assert [lead.verdict.mean for lead in standard] == [0, 0, 0, 0]
    assert leads(document, QUESTIONS[0], "another") == []


def test_a_scale_without_two_networks_has_no_panel_for_them(tmp_path: Path) -> None:
    """The paper's scale has only what the paper's figure has."""
    document = json.loads((DOCS / "reproduction" / "small" / "figure-10.json").read_text())
    (numbers,) = document["numbers"].values()
    papers = {f"{name} x {length:g}": numbers["line x 1"] for name in PAPERS for length in SCALES["paper"].lengths}
    document |= {"scale": "paper", "numbers": {"CIFAR-10, cResNet20": papers}}
    accuracy, _, ends = (leads(document, question, "line") for question in QUESTIONS)
    assert [lead.epochs for lead in accuracy] == [100, 200, 300]
    assert ends == []
    page = tmp_path / "reproduction.md"
    picture = picture_file(page, "paper", "10")
    picture.parent.mkdir(parents=True)
    write_figure(picture, document)
    write_page(page)
    assert (tmp_path / "reproduction" / "verdicts-by-length.png").exists()


def test_readme_counts_the_verdicts_of_the_page() -> None:
    def counts(title: str) -> list[str]:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {title} |")]
        return [cell.strip(" *") for cell in row.strip("|").split("|")[2:]]

    page = (DOCS / "reproduction.md").read_text()
    readme = " ".join((DOCS.parent / "README.md").read_text().split())
    (hold, within, fail, *long_counts), same = counts("all"), counts("judged at every scale")
    figures = SCALES["long"].figures
    assert all(picture_file(DOCS / "reproduction.md", "long", name).exists() for name in figures)
    assert f"{hold} claims hold, {within} hold within noise and {fail} do not" in readme
    assert f"the {len(figures)} figures that carry the paper were made again" in readme
    assert "{} hold, {} within noise and {} do not".format(*long_counts) in readme
    assert "{}, {} and {} do in short runs".format(*same[:3]) in readme
