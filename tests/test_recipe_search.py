"""The search for a recipe: tricks by hand, and a search that goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import recipe_search
from benchmarks.recipe_search import CANDIDATES, DEFAULT, STANDARD, Candidate, best, jobs, lead, table
from benchmarks.tricks import Antithetic, EndsAndMiddle, Tricks, TrickStepper
from subspace_serve.space.architecture import Architecture
from trainer.config import TrainingConfig
from trainer.methods import RECIPE
from trainer.preparation import prepared_stepper, starting_points
from trainer.schedule import StepSettings

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
    places = EndsAndMiddle("line", 2)
    assert places.sample(np.random.default_rng(1), 4)[:3].tolist() == [0, 1, 0.5]
    assert np.array_equal(places.coefficients_of(np.array([0.0, 0.5])), [[1, 0], [0.5, 0.5]])
    with pytest.raises(ValueError, match="are 4 samples, not 2"):
        places.sample(np.random.default_rng(1), 2)
    uniform = take(stepper(None, samples=4), 2)
    assert not torch.equal(take(stepper(Tricks(places="ends-and-middle"), samples=4), 2), uniform)


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
    wanted = list(jobs(None, list(CANDIDATES), recipe_search.LENGTHS, range(3)))
    assert len(wanted) == 3 * 3 * 3 * len(CANDIDATES)
    assert len({job.panel for job in wanted}) == 9
    spreads = {job.config.epochs: job.config.spread for job in wanted if job.candidate.endswith("10 epochs")}
    assert spreads == {10: 1.0, 40: 0.25, 100: 0.1}
    keys = {(str(job.config.to_json()), str(job.key)) for job in wanted}
    # At 10 epochs the spread in 10 epochs is the default, and nothing else is another's.
    assert len(keys) == len(wanted) - 3 * 3
    default = next(job.config for job in wanted if job.candidate == DEFAULT)
    assert {name: getattr(default, name) for name in RECIPE} == RECIPE


def test_leads_are_paired_and_what_is_missing_is_said() -> None:
    def run(accuracy: float) -> dict[str, Any]:
        return {"midpoint": {"accuracy": accuracy}, "ends": {"accuracy": accuracy + 0.01}}

    rows: dict[str, list] = {
        STANDARD: [run(0.8), run(0.9)],
        DEFAULT: [run(0.83), run(0.91)],
        "default, pulled": [run(0.95), None],
        "standard, averaged": [run(0.8), run(0.91)],
    }
    found = {"digits": rows}
    assert lead(rows, DEFAULT) == pytest.approx([0.03, 0.01])
    assert lead(rows, "default, pulled") is None
    lines = table(found, list(rows)).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        DEFAULT, "standard, averaged", STANDARD, "default, pulled",
    ]  # fmt: skip
    assert lines[2] == "| default | +2.00 ± 1.41 | +2.00 | +3.00 |"
    assert "1 of 2 seeds" in lines[5]
    assert best(found) == [DEFAULT, "standard, averaged"]


@pytest.mark.slow
def test_a_search_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"data": "digits", "architecture": "cresnet8-4", "batch_size": 64, "train_images": 128, "device": "cpu"}
    monkeypatch.setattr(recipe_search, "sets", lambda mnist: {"digits": (tiny, ()), "Fashion-MNIST": (tiny, ())})
    tricks = Tricks(averaged=2)
    monkeypatch.setitem(CANDIDATES, "averaged", Candidate(RECIPE, tricks))
    names = ["--candidate", "default", "--candidate", "averaged"]
    monkeypatch.setattr(recipe_search.main.params[2].type, "choices", ("default", "averaged"))

    def search(*more: str) -> str:
        options = ["--set", "digits", "--epochs", "2", "--seeds", "1", "--cache", str(tmp_path), *names, *more]
        result = CliRunner().invoke(recipe_search.main, options, catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    assert "0 of 3 measured on validation images" in search("--minutes", "0")
    trained = search()
    assert "3 of 3 measured" in trained
    assert "seeds |" not in trained
    monkeypatch.setattr(recipe_search.Job, "measure", None)
    assert search() == trained
    with pytest.raises(TypeError):  # other seeds are not there yet
        search("--confirm")
