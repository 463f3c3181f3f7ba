"""The search for a recipe: tricks by hand, and a search that goes on where it stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import recipe, recipe_candidates, recipe_job, recipe_page
from benchmarks.recipe import jobs, wanted_by
from benchmarks.recipe_candidates import CANDIDATES, DEFAULT, LENGTHS, SEEDS, SPREADING, STANDARD, Candidate
from benchmarks.recipe_goals import goal_counts, goals
from benchmarks.recipe_job import Kept
from benchmarks.recipe_leads import COLUMNS, CRITERION, leads
from benchmarks.recipe_page import FINALISTS, length_table
from benchmarks.tricks import Antithetic, EndsAndMiddle, Middle, Tricks, TrickStepper
from subspace_serve.space.architecture import Architecture
from trainer.config import TrainingConfig
from trainer.methods import NEUTRAL
from trainer.preparation import prepared_stepper, starting_points
from trainer.schedule import Schedule, StepSettings

ARCHITECTURE = Architecture("cresnet8-4", 4, 1, 8, 8)
IMAGES, LABELS = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4


def stepper(tricks: Tricks | None, steps: int = 10, **settings: Any):
    config = TrainingConfig(architecture="cresnet8-4", device="cpu", batch_size=8, **settings)
    plain = prepared_stepper(config, ARCHITECTURE, starting_points(config, ARCHITECTURE))
    return plain if tricks is None else TrickStepper(plain, tricks, steps)


def take(stepper, count: int) -> torch.Tensor:
    places = np.random.default_rng(0)
    for _ in range(count):
        stepper.step(IMAGES, LABELS, places, StepSettings(0.1))
    return stepper.endpoints.values


def test_without_tricks_steps_are_the_trainers() -> None:
    assert torch.equal(take(stepper(None), 3), take(stepper(Tricks()), 3))


def test_shuffling_moves_coordinates_with_their_momenta_and_no_mean() -> None:
    found = stepper(Tricks(shuffled=0.3), subspace="simplex", endpoints=3)
    take(found, 1)
    values, velocity = found.endpoints.values, found.endpoints.velocity
    before, momentum = values.clone(), velocity.clone()
    found._shuffle()
    moved = (values != before).any(0)
    # Of three endpoints a permutation leaves all where they are once in six times.
    assert moved.float().mean() == pytest.approx(0.3 * 5 / 6, abs=0.03)
    assert torch.equal(values.sort(0).values, before.sort(0).values)
    pairs = torch.stack([values, velocity]).permute(2, 1, 0).tolist()
    expected = torch.stack([before, momentum]).permute(2, 1, 0).tolist()
    assert [sorted(each) for each in pairs] == [sorted(each) for each in expected]


def test_pulling_moves_the_ends_towards_their_mean() -> None:
    pulled, plain = take(stepper(Tricks(pulled=0.5)), 10), take(stepper(None), 10)
    torch.testing.assert_close(pulled.mean(0), plain.mean(0))
    # At half the peak rate, the line's 0.2, half of what is asked for.
    torch.testing.assert_close(pulled[0] - pulled[1], 0.75 * (plain[0] - plain[1]))


def test_places_by_hand() -> None:
    drawn = Antithetic("line", 2).sample(np.random.default_rng(1), 4)
    first = np.random.default_rng(1).random(2)
    assert drawn == pytest.approx([*first, *(1 - first)])
    middle, random = Middle("line", 2).sample(np.random.default_rng(1), 2)
    assert (middle, random) == (0.5, first[0])
    places = EndsAndMiddle("line", 2)
    assert places.sample(np.random.default_rng(1), 4)[:3].tolist() == [0, 1, 0.5]
    assert np.array_equal(places.coefficients_of(np.array([0.0, 0.5])), [[1, 0], [0.5, 0.5]])
    with pytest.raises(ValueError, match="are 4 samples, not 2"):
        places.sample(np.random.default_rng(1), 2)
    for name, samples in {"middle": 2, "ends-and-middle": 4}.items():
        uniform = take(stepper(None, samples=samples), 2)
        assert not torch.equal(take(stepper(Tricks(places=name), samples=samples), 2), uniform)


def test_sharpness_aware_steps_take_the_gradient_of_where_the_loss_rises() -> None:
    """Only in the last tenth: of ten steps, the tenth."""
    settings: dict[str, Any] = {"subspace": "standard", "momentum": 0.0, "weight_decay": 0.0}
    plain, sharp = stepper(None, **settings), stepper(Tricks(radius=0.1), **settings)
    assert torch.equal(take(plain, 9), take(sharp, 9))
    start = plain.endpoints.values[0].clone()
    take(sharp, 1)
    network = plain.networks[0]

    def gradient(weights: torch.Tensor) -> torch.Tensor:
        network.values.copy_(weights)
        network.gradient.zero_()
        torch.nn.functional.cross_entropy(network.model(IMAGES), LABELS).backward()
        return network.gradient.clone()

    first = gradient(start)
    expected = start - 0.1 * gradient(start + 0.1 * first / first.norm())
    torch.testing.assert_close(sharp.endpoints.values[0], expected)
    assert (expected - (start - 0.1 * first)).abs().max() > 1e-4


def test_every_candidate_is_a_valid_training() -> None:
    wanted = list(jobs(Path("mnist.npz"), list(CANDIDATES), LENGTHS, range(SEEDS)))
    assert len(wanted) == 6 * 3 * 3 * len(CANDIDATES)
    assert len(list(jobs(None, list(CANDIDATES), LENGTHS, [0]))) == 4 * 3 * len(CANDIDATES)
    spreads = {job.config.epochs: job.config.spread for job in wanted if job.candidate == DEFAULT}
    assert spreads == {10: 1.0, 40: 0.25, 100: 0.1}
    # The default is what the trainer does unless told otherwise.
    for job in wanted:
        if job.candidate == DEFAULT:
            untold = TrainingConfig(**{**job.config.to_json(), **dict.fromkeys(NEUTRAL)})
            assert untold == TrainingConfig(**{**job.config.to_json(), "spread": None})
            steps = {Schedule(config, 32).spreading_steps for config in (untold, job.config)}
            assert len(steps) == 1
    # At 10 epochs the spread in 10 or 20 epochs is the whole run's (six candidates), and at 40 the one in 20 epochs
    # that in half the run; nothing else is another's.
    assert len({job.identity for job in wanted}) == len(wanted) - 7 * 6 * 3
    assert {job.config.label_noise for job in wanted if job.panel.endswith("noisy")} == {0.4}


def test_the_search_trains_every_candidate_once_and_the_finalists_with_every_seed() -> None:
    wanted = wanted_by("search", Path("mnist.npz"), (), (), SEEDS)
    seeds: dict[str, set[int]] = {}
    for job in wanted:
        seeds.setdefault(job.candidate, set()).add(job.config.seed)
    assert len(wanted) == 6 * 3 * (len(CANDIDATES) + 2 * 3)
    assert {name for name, found in seeds.items() if found == {0, 1, 2}} == set(FINALISTS)
    assert all(seeds[name] == {0} for name in set(CANDIDATES) - set(FINALISTS))


def test_a_training_is_known_wherever_its_data_lie_and_on_which_images_it_was_judged() -> None:
    here, there = (list(jobs(Path(name), [STANDARD], [10], [0, SEEDS]))[4] for name in ("here.npz", "there.npz"))
    assert here.panel == "MNIST"
    assert here.config != there.config
    assert here.identity == there.identity
    assert {job.part for job in jobs(None, [STANDARD], [10], range(SEEDS))} == {"validation"}
    assert {job.part for job in jobs(None, [STANDARD], [10], range(SEEDS, 2 * SEEDS))} == {"test"}


def test_what_another_process_writes_is_kept_and_shared_trainings_count_once(tmp_path: Path) -> None:
    first, second, same, other = (
        next(jobs(None, [name], [10], [seed]))
        for name, seed in ((DEFAULT, 0), (SPREADING, 1), (SPREADING, 0), (STANDARD, 0))
    )
    ours, theirs = Kept.read(tmp_path / "recipe.jsonl"), Kept.read(tmp_path / "recipe.jsonl")
    ours.add(first, {"midpoint": {"accuracy": 0.5}})
    theirs.add(second, {"midpoint": {"accuracy": 0.25}})
    theirs.write()
    ours.write()
    kept = Kept.read(tmp_path / "recipe.jsonl")
    assert kept.get(first) == {"midpoint": {"accuracy": 0.5}}
    assert kept.get(second) == {"midpoint": {"accuracy": 0.25}}
    # At 10 epochs the spread in 10 epochs is that over the whole run.
    assert kept.count([first, second, same]) == (2, 2)
    assert kept.count([same, other]) == (1, 2)


def test_lengths_that_a_study_does_not_have_are_refused() -> None:
    for options, message in (
        (["--epochs", "20"], "'20' is not one of '10', '40', '100'"),
        (["large-batches", "--epochs", "10"], "large batches are trained for 40 epochs; leave out --epochs"),
    ):
        result = CliRunner().invoke(recipe.main, options)
        assert result.exit_code == 2
        assert message in result.output


def row(accuracy: float, ends: float | None = None, nll: float = 0.5) -> dict[str, Any]:
    found = {"midpoint": {"accuracy": accuracy, "nll": nll, "ece": 0.1}}
    return found if ends is None else found | {"ends": {"accuracy": ends, "nll": nll, "ece": 0.1}}


def test_leads_are_paired_means_over_panels_of_the_seeds_that_have_all() -> None:
    panels: dict[str, dict[str, list]] = {
        "digits": {STANDARD: [row(0.8), row(0.9)], SPREADING: [row(0.83, 0.81, 0.4), row(0.91, 0.92)]},
        "digits, noisy": {STANDARD: [row(0.6), row(0.6)], SPREADING: [row(0.65, 0.7), None]},
    }
    clean, likelihood = COLUMNS[0], COLUMNS[1]
    # The second seed lacks a panel, so that no column may use it.
    assert leads(panels, SPREADING, clean) == pytest.approx([3])
    assert leads(panels, STANDARD, COLUMNS[3]) == []  # one network has no ends
    assert length_table(panels, 1).splitlines()[2:] == [
        "| spreading | +3.00 | -0.100 | +0.00 | +1.00 | -0.100 | +5.00 | +10.00 | +4.00 |",
        "| standard | +0.00 | +0.000 | +0.00 |  |  | +0.00 |  | +0.00 |",
    ]
    (only,) = length_table(panels, 2).splitlines()[2:]
    assert only.startswith("| standard |")
    panels["digits, noisy"][SPREADING][1] = row(0.61, 0.7)
    assert leads(panels, SPREADING, clean) == pytest.approx([3, 1])
    assert leads(panels, SPREADING, likelihood) == pytest.approx([-0.1, 0])
    assert leads(panels, SPREADING, CRITERION) == pytest.approx([4, 1])
    assert length_table(panels, 2).splitlines()[2] == (
        "| spreading | +2.00 ± 1.41 | -0.050 ± 0.071 | +0.00 ± 0.00 | +1.50 ± 0.71 | -0.050 ± 0.071 "
        "| +3.00 ± 2.83 | +10.00 ± 0.00 | +2.50 ± 2.12 |"
    )


def test_goals_are_reached_or_missed_beyond_chance_or_neither() -> None:
    standard = [row(0.80), row(0.81), row(0.82)]
    found = {
        10: {
            "digits": {
                STANDARD: standard,
                DEFAULT: [row(0.82, 0.79, 0.4), row(0.83, 0.79, 0.3), row(0.84, 0.80, 0.35)],
            },
            "digits, noisy": {STANDARD: standard, DEFAULT: [row(0.84, 0.8), row(0.82, 0.8), row(0.86, 0.8)]},
        }
    }
    assert goals(found, DEFAULT).splitlines()[2] == (
        "| digits | 10 | +2.00 ± 0.00 ✓ | -0.150 ± 0.050 ✓ | +0.00 ± 0.00 ~ | -1.67 ± 0.58 ✗ | -0.150 ± 0.050 ✓ "
        "| +3.00 ± 1.73 ~ |"
    )
    assert goal_counts(found, [DEFAULT, STANDARD]).splitlines()[2:] == [
        f"| {DEFAULT} | 3 | 2 | 1 |",
        # It is level with itself, has no ends, and misses what it would have to lead by under noise.
        f"| {STANDARD} | 0 | 3 | 1 |",
    ]


def test_what_is_kept_of_a_set_is_shown_without_its_file(tmp_path: Path) -> None:
    docs = Path(__file__).parent.parent / "docs"
    shutil.copy(docs / "recipe.jsonl", tmp_path)
    options = ["--minutes", "0", "--cache", str(tmp_path / "cache"), "--docs", str(tmp_path)]
    assert CliRunner().invoke(recipe.main, options, catch_exceptions=False).exit_code == 0
    tables = [
        [line for line in (folder / "recipe.md").read_text().splitlines() if "|" in line] for folder in (docs, tmp_path)
    ]
    assert tables[0] == tables[1]
    assert len(tables[0]) > 20


@pytest.mark.slow
def test_a_search_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"data": "digits", "architecture": "cresnet8-4", "batch_size": 64, "train_images": 128}
    monkeypatch.setattr(recipe_candidates, "NETWORK", {"device": "cpu"})
    monkeypatch.setattr(recipe_candidates, "SETS", {"digits": tiny})
    monkeypatch.setitem(CANDIDATES, SPREADING, Candidate(CANDIDATES[SPREADING].settings, Tricks(averaged=2)))
    monkeypatch.setattr(recipe, "LENGTHS", (2,))

    def search(*more: str) -> str:
        options = ["--seeds", "1", "--cache", str(tmp_path / "cache"), "--docs", str(tmp_path)]
        names = ["--candidate", STANDARD, "--candidate", SPREADING]
        result = CliRunner().invoke(recipe.main, [*options, *names, *more], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    def section(title: str) -> str:
        return (tmp_path / "recipe.md").read_text().split(f"## {title}")[1].split("##")[0]

    kept = tmp_path / "recipe.jsonl"
    search("--minutes", "0")
    assert kept.read_text() == ""
    trained = search()
    assert "| spreading |" in trained
    assert len(kept.read_text().splitlines()) == 4
    assert trained.split("\n\n")[1] in (tmp_path / "recipe.md").read_text()
    # Of large batches the page says more, and the search's own tables stay as they are.
    for module in (recipe, recipe_page):
        monkeypatch.setattr(module, "LARGE_BATCHES_EPOCHS", 2)
    assert "| spreading |" in search("large-batches")
    assert len(kept.read_text().splitlines()) == 8
    assert section("2 epochs").strip().startswith(f"One seed:\n\n{trained.split(chr(10) * 2)[1].strip()}")
    # Without its cache, the file is enough.
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(recipe_job.Job, "measure", None)
    assert search() == trained
    with pytest.raises(TypeError):  # other seeds are not there yet
        search("confirm")
