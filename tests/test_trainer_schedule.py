"""The settings of every step, the members that are kept, and what each method refuses: no training here."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from subspace_serve.errors import TrainingError
from subspace_serve.space.geometry import Geometry
from trainer.config import TrainingConfig
from trainer.methods import METHODS
from trainer.schedule import Schedule
from trainer.step import draw
from trainer.trajectory import Epoch, planned_epochs

CPU = torch.device("cpu")
KEPT = ("swa", "swag", "snapshot", "fge")


def schedule(steps_per_epoch: int = 10, **settings) -> Schedule:
    return Schedule(
        TrainingConfig(**({"epochs": 10, "warmup_epochs": 1, "learning_rate": 0.1} | settings)), steps_per_epoch
    )


def rates(of: Schedule) -> list[float]:
    return [of.at(step).learning_rate for step in range(of.steps)]


def warm_cosine_by_hand(step: int) -> float:
    """Return the rate of the runs above: 10 of 100 steps of warm-up to 0.1, then the cosine."""
    return 0.1 * (step + 1) / 10 if step < 10 else 0.05 * (1 + math.cos(math.pi * (step - 10) / 90))


@pytest.mark.parametrize("subspace", ["standard", "line", "curve", "simplex", "integral", "ensemble"])
def test_subspaces_and_ensembles_have_a_warm_cosine(subspace: str) -> None:
    assert rates(schedule(subspace=subspace)) == pytest.approx([warm_cosine_by_hand(step) for step in range(100)])
    assert schedule(subspace=subspace).kept_after() == []


@pytest.mark.parametrize("subspace", ["swa", "swag"])
def test_a_constant_tail_follows_the_cosine_until_it_starts(subspace: str) -> None:
    tailed = schedule(subspace=subspace, endpoints=5)
    cosine = [warm_cosine_by_hand(step) for step in range(75)]
    assert rates(tailed) == pytest.approx(cosine + [0.05] * 25)
    assert tailed.kept_after() == [79, 84, 89, 94, 99]
    assert rates(schedule(subspace=subspace, tail=0.5, tail_learning_rate=0.2))[50:] == [0.2] * 50


def test_a_cyclic_tail_falls_to_a_hundredth_with_the_last_step_of_each_cycle() -> None:
    tailed = schedule(subspace="swa", endpoints=4, tail=0.2, tail_schedule="cyclic", tail_learning_rate=0.4)
    # Izmailov et al. 2018: (1 - t) a + t b with t = 1/c, 2/c, ... 1.
    cycle = [0.4 * (1 - t) + 0.004 * t for t in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert rates(tailed)[80:] == pytest.approx(cycle * 4)
    assert rates(tailed)[:80] == pytest.approx([warm_cosine_by_hand(step) for step in range(80)])
    assert tailed.kept_after() == [84, 89, 94, 99]


def test_fast_geometric_ensembles_are_kept_in_the_middle_of_triangular_cycles() -> None:
    tailed = schedule(subspace="fge", endpoints=4, tail=0.4, tail_learning_rate=0.4)
    # Garipov et al. 2018, section 5: down until t = 1/2, kept there, and up again.
    down = [0.4 * (1 - t) + 0.004 * t for t in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert rates(tailed)[60:] == pytest.approx([*down, *down[3::-1], 0.4] * 4)
    assert tailed.kept_after() == [64, 74, 84, 94]
    assert [rates(tailed)[step] for step in tailed.kept_after()] == pytest.approx([0.004] * 4)


def test_snapshots_are_kept_where_each_cosine_ends() -> None:
    cycles = schedule(subspace="snapshot", endpoints=4, epochs=12)
    found = rates(cycles)
    # 120 steps make four cycles of 30, of which a quarter is the most that the first one warms up.
    assert found[:7] == pytest.approx([0.1 * (step + 1) / 7 for step in range(7)])
    for first in (30, 60, 90):
        assert found[first : first + 30] == pytest.approx(
            [0.05 * (1 + math.cos(math.pi * step / 30)) for step in range(30)]
        )
    assert cycles.kept_after() == [29, 59, 89, 119]
    assert max(found[step] for step in cycles.kept_after()) < 0.1 / 100


@pytest.mark.parametrize("steps", [23, 60, 121])
@pytest.mark.parametrize("tail", [0.01, 0.25, 0.37, 1.0])
@pytest.mark.parametrize("subspace", KEPT)
def test_each_member_is_kept_once_and_where_the_rate_is_lowest(subspace: str, tail: float, steps: int) -> None:
    settings = {"tail": tail} if subspace != "snapshot" else {}
    if subspace in ("swa", "swag"):
        settings["tail_schedule"] = "cyclic"
    for members in range(2, 11):
        found = schedule(1, subspace=subspace, endpoints=members, epochs=steps, **settings)
        kept, every = found.kept_after(), rates(found)
        start = 0 if subspace == "snapshot" else min(round((1 - tail) * steps), steps - members)
        bounds = [round(start + index * (steps - start) / members) for index in range(members + 1)]
        assert len(kept) == members
        assert subspace == "fge" or kept[-1] == steps - 1
        for step, first, end in zip(kept, bounds, bounds[1:], strict=False):
            assert first <= step < end
            assert every[step] == pytest.approx(min(every[first:end]))


def test_beta_is_constant_or_grows_from_nothing_or_fades_to_it() -> None:
    for name, at_half in (("constant", 3.0), ("growing", 1.5), ("fading", 1.5)):
        found = schedule(beta=3.0, beta_schedule=name)
        assert found.at(50).beta == pytest.approx(at_half)
    assert schedule(beta=3.0, beta_schedule="growing").at(0).beta == 0
    assert schedule(beta=3.0, beta_schedule="fading").at(0).beta == 3
    assert schedule(beta=3.0, beta_schedule="fading").at(90).beta == pytest.approx(0.3)


def test_places_spread_linearly_from_where_the_endpoints_part() -> None:
    found = schedule(shared=0.3, spread=0.4)
    assert [found.at(step).together for step in (0, 29, 30, 99)] == [True, True, False, False]
    assert [found.at(step).spread for step in (0, 29, 30)] == [0, 0, 0]
    assert [found.at(step).spread for step in (31, 40, 50, 69, 70, 99)] == pytest.approx(
        [0.025, 0.25, 0.5, 0.975, 1, 1]
    )


@pytest.mark.parametrize(("steps_per_epoch", "epochs", "steps"), [(40, 30, 400), (8, 100, 300), (40, 5, 200)])
def test_places_spread_in_ten_epochs_and_no_fewer_than_300_steps(steps_per_epoch: int, epochs: int, steps: int) -> None:
    found = Schedule(TrainingConfig(epochs=epochs), steps_per_epoch)
    last = found.steps - 1
    assert found.at(steps // 4).spread == pytest.approx(0.25)
    assert found.at(min(steps, last)).spread == pytest.approx(min(1, last / steps))
    fraction = TrainingConfig(epochs=epochs, spread=steps / found.steps)
    given = Schedule(fraction, steps_per_epoch)
    assert [found.at(step).spread for step in range(found.steps)] == [
        given.at(step).spread for step in range(found.steps)
    ]


def test_nothing_is_shared_and_everything_spread_unless_asked() -> None:
    plain = schedule(spread=0.0)
    assert all(plain.at(step).spread == 1 and not plain.at(step).together for step in range(100))
    # Members of an ensemble share a trajectory, whose steps are those of one network.
    ensemble = schedule(subspace="ensemble", shared=0.5)
    assert not any(ensemble.at(step).together for step in range(100))


@pytest.mark.parametrize("geometry", [Geometry("line", 2), Geometry("curve", 3), Geometry("simplex", 4)])
def test_places_are_drawn_from_the_domain_shrunk_towards_the_midpoint(geometry: Geometry) -> None:
    def alphas(spread: float) -> np.ndarray:
        return draw(geometry, np.random.default_rng(0), samples=500, layers=2, device=CPU, spread=spread).alphas

    middle = np.asarray(geometry.midpoint)
    assert np.array_equal(alphas(0.0), np.broadcast_to(middle, alphas(0.0).shape))
    # Towards the midpoint of a line by half: [0.25, 0.75], and not less.
    assert alphas(0.5) == pytest.approx(middle + 0.5 * (alphas(1.0) - middle))
    low, high = (0.25, 0.75) if geometry.name != "simplex" else (0.125, 0.625)
    assert low <= alphas(0.5).min() < low + 0.01
    assert high - 0.1 < alphas(0.5).max() <= high


def test_a_draw_without_spread_has_the_midpoints_coefficients() -> None:
    drawn = draw(Geometry("curve", 3), np.random.default_rng(0), samples=2, layers=3, device=CPU, spread=0.0)
    for coefficients in drawn.coefficients:
        assert torch.equal(coefficients, torch.tensor([0.25, 0.25, 0.5])[:, None].expand(3, 3))


def test_an_ensemble_is_planned_as_a_shared_beginning_and_one_trajectory_after_another() -> None:
    config = TrainingConfig(subspace="ensemble", endpoints=3, epochs=3, shared=0.4)
    assert planned_epochs(config) == [Epoch(0, 0)] + [Epoch(member, i) for member in range(3) for i in (1, 2)]
    independent = TrainingConfig(subspace="ensemble", epochs=2)
    assert planned_epochs(independent) == [Epoch(0, 0), Epoch(0, 1), Epoch(1, 0), Epoch(1, 1)]
    assert planned_epochs(TrainingConfig(subspace="swa", epochs=2)) == [Epoch(0, 0), Epoch(0, 1)]
    assert [epoch.purpose("order") for epoch in (Epoch(0, 4), Epoch(1, 4), Epoch(2, 0))] == [
        "order",
        "order:1",
        "order:2",
    ]


OTHER_VALUES = {
    "beta_schedule": "growing",
    "layerwise": True,
    "samples": 2,
    "feature_similarity": 1.0,
    "spread": 0.5,
    "scaled_gradients": True,
    "epsilon": 0.2,
    "tail": 0.5,
    "tail_learning_rate": 0.1,
    "tail_schedule": "cyclic",
    "shared": 0.5,
    "early_stopping": True,
}
SUBSPACE_SETTINGS = {"beta_schedule", "layerwise", "samples", "feature_similarity", "spread", "scaled_gradients"}
TAIL_SETTINGS = {"tail", "tail_learning_rate", "tail_schedule"}
OWN_SETTINGS = {
    "standard": {"early_stopping"},
    "line": SUBSPACE_SETTINGS | {"shared", "early_stopping"},
    "curve": SUBSPACE_SETTINGS | {"shared", "early_stopping"},
    "simplex": SUBSPACE_SETTINGS | {"shared", "early_stopping"},
    "integral": {"epsilon"},
    "ensemble": {"shared"},
    "swa": TAIL_SETTINGS,
    "swag": TAIL_SETTINGS,
    "snapshot": set(),
    "fge": TAIL_SETTINGS - {"tail_schedule"},
}


@pytest.mark.parametrize("setting", OTHER_VALUES)
@pytest.mark.parametrize("method", METHODS)
def test_a_setting_that_a_method_does_not_have_is_refused_by_name(method: str, setting: str) -> None:
    settings = {"subspace": method, setting: OTHER_VALUES[setting]}
    if setting in OWN_SETTINGS[method]:
        if setting == "feature_similarity":
            settings["samples"] = 2
        assert getattr(TrainingConfig(**settings), setting) == OTHER_VALUES[setting]
        return
    if setting == "feature_similarity":  # which alone is refused everywhere
        settings["samples"] = 2
    with pytest.raises(TrainingError, match=rf"{method} has no ({setting}|samples): leave it at "):
        TrainingConfig(**settings)


@pytest.mark.parametrize("method", ["ensemble", *KEPT])
def test_baselines_keep_two_to_ten_members(method: str) -> None:
    for few_or_many in (1, 11):
        with pytest.raises(TrainingError, match=f"{method} keeps 2 to 10 members .*, not {few_or_many}"):
            TrainingConfig(subspace=method, endpoints=few_or_many)
    assert [TrainingConfig(subspace=method, endpoints=count).members for count in (2, 10)] == [2, 10]
    assert TrainingConfig(subspace=method).members == (2 if method == "ensemble" else 6)
    assert TrainingConfig(subspace=method).geometry == Geometry("simplex", 1)
