"""The reproduction: verdicts by hand, a cache that resumes and refuses, figures at the smallest scale."""

from __future__ import annotations

import fcntl
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rank_processes import fork_server, run_script

from subspace_serve.errors import DataError, TrainingError
from subspace_serve.space.checkpoint import load_subspace
from trainer.config import TrainingConfig
from trainer.reproduce.__main__ import main
from trainer.reproduce.cache import BusyError, Cache
from trainer.reproduce.description import Case
from trainer.reproduce.figures import FIGURES
from trainer.reproduce.measures import Alone, Along, Branches
from trainer.reproduce.page import picture_file, write_figure, write_page
from trainer.reproduce.scales import SCALES, Panel
from trainer.reproduce.verdict import FAILS, HOLDS, WITHIN_NOISE, verdict
from trainer.reproduce.work import Task, perform_all, tasks_of

pytestmark = pytest.mark.slow

SMOKE = SCALES["smoke"]
TINY = TrainingConfig(
    data="digits", architecture="cresnet8-4", subspace="standard", epochs=2, batch_size=128, train_images=256
)


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_every_figure_from_2_to_21_is_described_once() -> None:
    assert list(FIGURES) == [str(number) for number in range(2, 22)]


@pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)
def test_every_run_of_every_figure_is_a_valid_training(scale) -> None:
    for figure in FIGURES.values():
        tasks = tasks_of(figure, scale, {})
        assert len({(task.panel, task.case, task.config.seed) for task in tasks}) == len(tasks)
        assert {task.case for task in tasks} == set(figure.runs(scale))
        assert len({str(task.case) for task in tasks}) == len(figure.runs(scale))


def test_figures_train_as_the_paper_does_whatever_the_trainers_own_defaults_are() -> None:
    """A standard network and a line of one panel differ in nothing but what is trained."""
    tasks = {str(task.case): task.config for task in tasks_of(FIGURES["4"], SCALES["paper"], {}, seeds=1)}
    line, standard = tasks["line"], tasks["standard network"]
    assert (line.samples, line.shared, line.spread, line.scaled_gradients, line.beta) == (1, 0, 0, False, 1)
    assert line.to_json() | {"subspace": "standard"} == standard.to_json()
    assert (line.learning_rate, line.epochs, line.batch_size, line.weight_decay) == (0.1, 160, 128, 1e-4)


@pytest.mark.parametrize("name", ["10", "12"])
def test_the_default_recipe_in_figures_is_the_trainers_own(name: str) -> None:
    tasks = [task for task in tasks_of(FIGURES[name], SCALES["small"], {}) if "default recipe" in task.case.name]
    assert tasks
    for task in tasks:
        found = task.config
        assert (found.samples, found.spread, found.scaled_gradients, found.learning_rate) == (2, None, True, 0.2)


@pytest.mark.parametrize(
    ("differences", "margin", "word"),
    [
        # t(0.95, 2 degrees) = 2.92: the mean 1 with deviation 0.1 has its bound at 1 - 2.92 * 0.1 / sqrt(3) = 0.83.
        ([0.9, 1.0, 1.1], 0.0, HOLDS),
        # ... and with deviation 1 at -0.69.
        ([0.0, 1.0, 2.0], 0.0, WITHIN_NOISE),
        ([0.0, 1.0, 2.0], 0.7, HOLDS),
        ([0.0, 1.0, 2.0], 0.68, WITHIN_NOISE),
        ([-1.0, -2.0, -3.0], 0.0, FAILS),
        ([-1.0, -2.0, -3.0], 1.9, FAILS),
        ([-0.1, -0.1, -0.1], 0.2, HOLDS),
        ([0.0, 0.0, 0.0], 0.0, FAILS),
        ([1.0], 0.0, WITHIN_NOISE),
        ([-1.0], 0.0, FAILS),
    ],
)
def test_verdicts_by_hand(differences: list[float], margin: float, word: str) -> None:
    found = verdict(differences, margin)
    assert found.word == word
    assert found.mean == pytest.approx(sum(differences) / len(differences))


def test_a_run_is_trained_once_and_found_again(cache_folder: Path) -> None:
    lines: list[str] = []
    cache = Cache(cache_folder, lines.append)
    folder = cache.run(TINY)
    assert len(lines) == 1
    written = (folder / "subspace.safetensors").stat().st_mtime_ns
    assert cache.run(TINY) == folder
    assert (folder / "subspace.safetensors").stat().st_mtime_ns == written
    assert cache.finished(TINY)
    assert load_subspace(folder).provenance["training"]["finished_epochs"] == 2
    other = TrainingConfig(**{**TINY.to_json(), "seed": 1})
    assert not cache.finished(other)


def test_an_interrupted_run_goes_on(tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import training

    whole = load_subspace(Cache(cache_folder).run(TINY))
    save, calls = training.save_subspace, []

    def interrupted(subspace, path):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return save(subspace, path)

    monkeypatch.setattr(training, "save_subspace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).run(TINY)
    monkeypatch.undo()
    assert not Cache(tmp_path).finished(TINY)
    lines: list[str] = []
    again = load_subspace(Cache(tmp_path, lines.append).run(TINY))
    assert len(lines) == 1  # the second epoch only
    assert all(np.array_equal(again.endpoints[0][name], array) for name, array in whole.endpoints[0].items())


def test_a_measurement_is_made_once_and_belongs_to_its_settings(cache_folder: Path) -> None:
    cache = Cache(cache_folder)
    calls = []

    def measure() -> dict:
        calls.append(1)
        return {"accuracy": 0.5}

    for _ in range(2):
        assert cache.measurement(TINY, {"measure": "it", "images": 5}, measure) == {"accuracy": 0.5}
    assert len(calls) == 1
    cache.measurement(TINY, {"measure": "it", "images": 6}, measure)
    assert len(calls) == 2


def test_an_entry_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry = cache._entry(TINY) / "entry.json"
    entry.write_text(json.dumps({"version": 0, "settings": {}}))
    with pytest.raises(
        TrainingError, match=r"made by version 0 of the cache.*makes version \d+; remove it, or.*--cache"
    ):
        cache.run(TINY)
    entry.write_text("{")
    with pytest.raises(TrainingError, match="is damaged"):
        cache.run(TINY)


def test_measurements_are_kept_without_the_runs(tmp_path: Path) -> None:
    """What lies in the folder of measurements needs no run, says what it is of, and is small."""
    task = Task("panel", Case("standard"), TINY, Alone(64, 128))
    kept = tmp_path / "kept"
    found = task.perform(Cache(tmp_path / "one", measurements=kept))
    (file,) = kept.iterdir()
    assert file.stat().st_size < 4000
    document = json.loads(file.read_text())
    assert TrainingConfig(**document["settings"]) == TINY
    assert document["key"] == task.measure.key()
    assert document["hardware"].startswith(f"{os.cpu_count()} cores, ")
    assert task.perform(Cache(tmp_path / "two", measurements=kept)) == found
    assert not (tmp_path / "two").exists()


def test_a_damaged_measurement_is_refused_by_name(cache_folder: Path) -> None:
    key = {"measure": "damaged"}
    file = Cache(cache_folder).measured_file(TINY, key)
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"measured"')
    with pytest.raises(TrainingError, match=r"measured/.*json is damaged.*remove .*measured/"):
        Cache(cache_folder).measurement(TINY, key, dict)


def test_an_entry_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    descriptor = os.open(cache._entry(TINY), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(BusyError):
        cache.run(TINY)
    os.close(descriptor)
    assert cache.run(TINY).is_dir()


def test_two_processes_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Processes with torch loaded; the next test's start from nothing.
    context = fork_server()
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)
    tasks = [
        Task("panel", Case(f"seed {seed}"), TrainingConfig(**{**TINY.to_json(), "seed": seed}), Alone(64, 128))
        for seed in range(3)
    ]
    perform_all(tasks, Cache(tmp_path), 2)
    assert all(Cache(tmp_path).finished(task.config) for task in tasks)
    assert len(list((tmp_path / "measured").iterdir())) == 3
    lines: list[str] = []
    perform_all(tasks, Cache(tmp_path, lines.append), 1)
    assert lines == []  # nothing is left to train or to measure


def test_an_error_of_a_process_is_one_message(tmp_path: Path) -> None:
    missing = TrainingConfig(**{**TINY.to_json(), "data": str(tmp_path / "absent.npz")})
    tasks = [Task("panel", Case(f"{count}"), missing, Alone(count, 128)) for count in (8, 9)]
    with pytest.raises(DataError, match=r"there is no file .*absent\.npz"):
        perform_all(tasks, Cache(tmp_path / "cache"), 2)


def test_branches_of_a_shared_trajectory(tmp_path: Path) -> None:
    """With everything shared, members, averages and mixtures are one network."""
    config = TrainingConfig(**{**TINY.to_json(), "subspace": "ensemble", "endpoints": 3, "shared": 1.0})
    task = Task("panel", Case("all shared"), config, Branches(2, 1, 64, 128))
    found = task.perform(Cache(tmp_path))
    assert len(found["members"]) == 2
    expected = pytest.approx(found["members"][0], abs=1 / 64)
    assert [found[key] for key in ("weight_average", "ensemble", "global", "layerwise", "weightwise")] == [expected] * 5
    assert found["total_variation"] == pytest.approx(0, abs=1e-6)


def test_measuring_beyond_the_ends_of_a_line(tmp_path: Path) -> None:
    config = TrainingConfig(**{**TINY.to_json(), "subspace": "line"})
    found = Task("panel", Case("line"), config, Along(3, 64, 128, beyond=0.05)).perform(Cache(tmp_path))
    assert [point["alpha"] for point in found["points"]] == pytest.approx([-0.05, 0, 0.5, 1, 1.05])
    assert found["points"][0]["ensemble"] == found["points"][-1]["ensemble"]


@pytest.mark.parametrize(
    ("case", "text", "settings"),
    [
        (Case("dropout", 0.1, noise=0.4), "dropout 0.1 at 0.4", {"label_noise": 0.4}),
        (Case("simplex", size=3), "simplex 3", {}),
        (Case("line", length=0.5), "line x 0.5", {}),
        (Case(size=2, shared=0), "2 from 0", {"shared": 0}),
        (Case("line", variant="2 samples"), "line, 2 samples", {}),
        (Case("line", beta=0.0), "line, beta = 0", {"beta": 0.0}),
    ],
)
def test_a_case_is_data_and_gives_text_and_settings(case: Case, text: str, settings: dict) -> None:
    assert str(case) == text
    assert case.settings == settings


def test_the_page_of_the_documentation_is_what_its_numbers_say(tmp_path: Path) -> None:
    docs = Path(__file__).parent.parent / "docs"
    shutil.copytree(docs / "reproduction", tmp_path / "reproduction")
    write_page(tmp_path / "reproduction.md")
    assert (tmp_path / "reproduction.md").read_text() == (docs / "reproduction.md").read_text()


def test_two_scales_stand_side_by_side(tmp_path: Path) -> None:
    """One table of claims with the numbers of both; a claim that one scale does not test leaves its cells empty."""
    page = tmp_path / "reproduction.md"
    source = Path(__file__).parent.parent / "docs" / "reproduction" / "small" / "figure-04.json"
    document = json.loads(source.read_text())
    first, second, _ = document["claims"]
    first_there = first | {"mean": 1.0, "deviation": 0.25, "word": HOLDS}
    other = document | {"scale": "long", "claims": [first_there, second | {"word": WITHIN_NOISE}]}
    for scale, written in (("small", document), ("long", other)):
        picture = picture_file(page, scale, "4")
        picture.parent.mkdir(parents=True)
        write_figure(picture, written)
    write_page(page)
    lines = page.read_text().splitlines()
    assert "| [4](#figure-4) | Accuracy of the models along lines and curves | 0 | 0 | 3 | 1 | 1 | 0 |" in lines
    start = lines.index("| the paper says | here (small) | verdict (small) | here (long) | verdict (long) |")
    cells = [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines[start + 2 : start + 5]]
    assert cells == [
        ["-3.09 ± 0.636 points", "**does not hold here**", "+1 ± 0.25 points", "**holds**"],
        ["-3.96 ± 1.4 points", "**does not hold here**", "-3.96 ± 1.4 points", "**holds within noise**"],
        ["-4.78 ± 1.18 points", "**does not hold here**", "", ""],
    ]
    assert "| run | accuracy (%) | ECE (%) | NLL | Brier score | ends' ensemble (%) |" in lines
    assert sum("(reproduction/long/figure-04.png)" in line for line in lines) == 1
    start = lines.index("| figure | the paper says | small | long |")
    assert lines[start + 2 : start + 5] == [
        f"| 4 | {first['text']} | {FAILS} | {HOLDS} |",
        f"| 4 | {second['text']} | {FAILS} | {WITHIN_NOISE} |",
        "",
    ]
    assert "| judged at every scale |  | **0** | **0** | **3** | **1** | **1** | **0** |" in lines


def test_the_long_scale_is_planned() -> None:
    """Hours of training: how many runs and epochs, before any of them starts."""
    scale = SCALES["long"]
    runs = {
        json.dumps(task.config.to_json(), sort_keys=True): task.config
        for name in scale.figures
        for task in tasks_of(FIGURES[name], scale, {})
    }
    assert {(config.data, config.image_size, config.train_images) for config in runs.values()} == {
        ("fashion-mnist", 14, 4000)
    }
    assert {config.architecture for config in runs.values()} == {"cresnet8-32"}
    assert {config.seed for config in runs.values()} == {0, 1, 2}
    assert {config.label_noise for config in runs.values()} == {0.0, 0.4, 0.8}
    assert {config.epochs for config in runs.values()} == {25, 50, 100, 150}
    assert {case.size for case in FIGURES["7"].runs(scale)} == {None, 2, 3, 6}
    assert scale.metrics == ("accuracy", "ece", "nll", "brier")
    assert len(runs) == 204
    # An ensemble's members are each trained for so many epochs.
    assert sum(config.epochs * config.samples for config in runs.values()) == 23_175


def test_a_figure_is_drawn_judged_and_found_again(tmp_path: Path) -> None:
    options = ["--scale", "smoke", "--cache", tmp_path / "cache", "--out", tmp_path / "docs", "--workers", "1"]
    code, output = run("3", *options)
    assert code == 0
    assert "figures: 1; 4 of 4 measurements to make" in output
    document = json.loads((tmp_path / "docs" / "reproduction" / "smoke" / "figure-03.json").read_text())
    assert document["seeds"] == [0, 1]
    by_text = {claim["text"]: claim for claim in document["claims"]}
    claim = next(claim for text, claim in by_text.items() if "farther apart" in text)
    last = document["numbers"]["digits, cresnet8-4"]
    differences = [
        one["last_epoch"]["endpoint_l2"] - zero["last_epoch"]["endpoint_l2"]
        for one, zero in zip(last["beta = 1"], last["beta = 0"], strict=True)
    ]
    assert claim["differences"] == pytest.approx(differences, abs=1e-5)
    assert claim["mean"] == pytest.approx(math.fsum(differences) / 2, abs=1e-5)
    page = (tmp_path / "docs" / "reproduction.md").read_text()
    assert "python -m trainer.reproduce 3 --scale smoke" in page
    assert f"**{claim['word']}**" in page
    assert (tmp_path / "docs" / "reproduction" / "smoke" / "figure-03.png").stat().st_size > 10_000
    code, output = run("3", *options)
    assert "figures: 1; 0 of 4 measurements to make" in output
    code, output = run("3", "--list", *options)
    assert output.split()[:4] == ["3", "4", "of", "4"]


def test_all_figures_at_the_smallest_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 52 runs nothing but the figures is looked at.
    panels = {name: Panel(panel.title, panel.settings | {"epochs": 2}) for name, panel in SMOKE.panels.items()}
    monkeypatch.setitem(SCALES, "smoke", replace(SMOKE, panels=panels))
    code, _ = run(
        "all", "--scale", "smoke", "--seeds", "1", "--cache", tmp_path / "c", "--out", tmp_path, "--workers", "1"
    )
    assert code == 0
    page = (tmp_path / "reproduction.md").read_text()
    for number in range(2, 22):
        assert f"## Figure {number}\n" in page
        assert (tmp_path / "reproduction" / "smoke" / f"figure-{number:02d}.png").exists()
    assert page.count("| **") >= 60


def test_ranks_share_the_runs_and_the_first_draws(tmp_path: Path) -> None:
    options = ["3", "--scale", "smoke", "--seeds", "1", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
    program = "import runpy; runpy.run_module('trainer.reproduce', run_name='__main__')"
    ends = run_script(program, arguments=options)
    assert [end.status for end in ends] == [0, 0], ends
    assert sum(end.out.count("figure 3, ") for end in ends) == 1
    assert sum(end.err.count("measured Dynamics") for end in ends) == 2  # each run once, by whichever rank
    assert (tmp_path / "reproduction" / "smoke" / "figure-03.png").exists()


def test_an_unknown_figure_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no figure '22' to reproduce.*2, 3, 4.*or all"):
        run("3", "22", "--scale", "smoke", "--cache", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_error_is_one_paragraph_whatever_the_terminal_can_show(tmp_path: Path) -> None:
    absent = f"cifar10=cifar10:{tmp_path / '大'}"
    options = ["4", "--scale", "paper", "--seeds", "1", "--workers", "1", "--cache", str(tmp_path), "--data", absent]
    run = subprocess.run(
        [sys.executable, "-m", "trainer.reproduce", *options],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 1
    *_, message = run.stderr.splitlines()
    assert message.startswith("Error: ")
    assert r"\u5927" in run.stderr
    assert message.endswith("(here as --data NAME=SPEC, such as --data cifar10=cifar10:PATH)")
    assert "Traceback" not in run.stderr


def test_a_missing_data_set_says_where_it_looked_and_leaves_nothing(tmp_path: Path) -> None:
    options = ["--scale", "paper", "--seeds", "1", "--cache", tmp_path / "cache", "--workers", "1"]
    options += ["--out", tmp_path / "docs"]
    with pytest.raises(DataError, match=r"tiny-imagenet|cifar"):
        run("4", "--data", f"cifar10=cifar10:{tmp_path / 'absent'}", *options)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert not (tmp_path / "docs").exists()
    code, output = run("4", "--data", "cifar10", *options)
    assert code == 2
    assert "NAME=SPEC" in output
