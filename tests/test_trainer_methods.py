"""Whole runs of every method on digits: what is kept of them, against networks trained by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from trainer_runs import STEPS, TINY, records_of, run, same, unlike

from subspace_serve.errors import TrainingError
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace, Weights
from trainer.config import TrainingConfig
from trainer.gaussian import fit_gaussian
from trainer.initialise import initial_endpoints
from trainer.methods import METHODS, NEUTRAL
from trainer.preparation import prepared_architecture, prepared_data, prepared_stepper, starting_points
from trainer.preprocessing import preprocess
from trainer.randomness import numpy_generator, torch_generator
from trainer.schedule import StepSettings, warm_cosine
from trainer.training import train

pytestmark = pytest.mark.slow


def by_hand(rates: list[float], keep: list[int], *, second_member_from: int | None = None) -> list[Weights]:
    """Train one network step by step at these rates; return its weights after the steps to keep.

    From the epoch `second_member_from` images come in the order of an ensemble's member 1.
    """
    config = TrainingConfig(**TINY, subspace="standard")
    data = prepared_data(config, download=False)
    architecture = prepared_architecture(config, data)
    stepper = prepared_stepper(config, architecture, starting_points(config, architecture))
    stepper.networks[0].model.train()
    kept = []
    for step, rate in enumerate(rates):
        epoch, within = divmod(step, STEPS)
        if within == 0:
            purpose = "order" if second_member_from is None or epoch < second_member_from else "order:1"
            batches = data.train.batches(
                256, generator=numpy_generator(0, purpose, epoch), augmentation=data.augmentation, drop_last=True
            )
        images, labels = next(batches)
        pixels = preprocess(images, data.preprocessing, "cpu")
        stepper.step(pixels, torch.from_numpy(labels), np.random.default_rng(0), StepSettings(rate))
        kept += [stepper.endpoints.endpoints()[0]] if step in keep else []
    return kept


def cosine(steps: int) -> list[float]:
    return [warm_cosine(step, peak=0.1, total=steps, warmup=steps) for step in range(steps)]


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> list[Subspace]:
    """A standard network after each of two epochs."""
    return run(tmp_path_factory.mktemp("standard") / "run", subspace="standard")


# Every method

SHAPES = {
    "standard": Geometry("simplex", 1),
    "line": Geometry("line", 2),
    "curve": Geometry("curve", 3),
    "simplex": Geometry("simplex", 3),
    "integral": Geometry("line", 2),
    "ensemble": Geometry("simplex", 2),
    "swa": Geometry("simplex", 6),
    "swag": Geometry("simplex", 6),
    "snapshot": Geometry("simplex", 6),
    "fge": Geometry("simplex", 6),
}


@pytest.mark.parametrize("method", SHAPES)
def test_every_method_leaves_a_subspace_after_every_epoch_and_says_what_it_is_for(method: str, tmp_path: Path) -> None:
    found = run(tmp_path / "run", subspace=method, batch_size=128)
    assert [subspace.provenance["training"]["finished_epochs"] for subspace in found] == list(range(1, len(found) + 1))
    assert len(found) == (4 if method == "ensemble" else 2)
    assert found[-1].geometry == SHAPES[method]
    for subspace in found:
        assert subspace.provenance["use"] == list(METHODS[method].use)
        assert all(np.isfinite(array).all() for end in subspace.endpoints for array in end.values())
    ends = found[-1].endpoints
    assert not any(same(ends[i], ends[j]) for i in range(len(ends)) for j in range(i))
    records = records_of(tmp_path / "run")
    assert records[1]["loss"] < records[0]["loss"]
    assert ["validation" in record for record in records] == [False] * (len(found) - 1) + [True]


def test_what_each_method_is_for() -> None:
    assert {name for name, method in METHODS.items() if method.use == ("midpoint",)} == {"standard", "swa"}
    assert {name for name, method in METHODS.items() if method.use == ("midpoint", "endpoints")} == {
        "line",
        "curve",
        "simplex",
    }
    assert METHODS["integral"].use == ("integral=endpoint:1",)
    assert METHODS.keys() == SHAPES.keys()


# Members of one trajectory


def test_swas_members_are_a_networks_weights_along_its_tail_and_its_midpoint_is_their_mean(tmp_path: Path) -> None:
    unfinished, subspace = run(tmp_path / "run", subspace="swa", endpoints=3, tail=0.6, tail_learning_rate=0.03)
    expected = by_hand(cosine(10)[:4] + [0.03] * 6, keep=[5, 7, 9])
    assert [same(*pair) for pair in zip(subspace.endpoints, expected, strict=True)] == [True] * 3
    # No member was kept in the first five steps: the network in training stood in for them.
    assert unfinished.geometry == Geometry("simplex", 1)
    middle = subspace.weights(subspace.geometry.midpoint)
    for name, array in middle.items():
        torch.testing.assert_close(array, np.mean([member[name] for member in expected], axis=0))


def test_snapshots_are_a_networks_weights_after_each_cosine(tmp_path: Path) -> None:
    unfinished, subspace = run(tmp_path / "run", subspace="snapshot", endpoints=3, warmup_epochs=0)
    rates = [warm_cosine(step, peak=0.1, total=total, warmup=0) for total in (3, 4, 3) for step in range(total)]
    expected = by_hand(rates, keep=[2, 6, 9])
    assert [same(*pair) for pair in zip(subspace.endpoints, expected, strict=True)] == [True] * 3
    assert unfinished.geometry == Geometry("simplex", 1)
    assert same(unfinished.endpoints[0], expected[0])


def test_swags_endpoints_are_samples_of_the_gaussian_of_swas_members(tmp_path: Path) -> None:
    settings = {"endpoints": 3, "tail_schedule": "cyclic", "tail": 0.6, "seed": 5}
    members = run(tmp_path / "swa", subspace="swa", **settings)[-1].endpoints
    unfinished, subspace = run(tmp_path / "swag", subspace="swag", **settings)
    gaussian = fit_gaussian(members)
    for index, endpoint in enumerate(subspace.endpoints):
        assert same(endpoint, gaussian.sample(torch_generator(5, "gaussian", index)))
    assert unfinished.geometry == Geometry("simplex", 1)


@pytest.mark.parametrize("method", ["swa", "swag", "snapshot", "fge"])
def test_a_run_too_short_for_its_members_is_refused_before_anything_is_written(method: str, tmp_path: Path) -> None:
    settings = TINY | {"subspace": method, "epochs": 1}
    with pytest.raises(TrainingError, match=f"5 steps is too short for 6 members of {method}; train for more epochs"):
        train(TrainingConfig(**settings), tmp_path / "runs" / "run")
    assert list(tmp_path.iterdir()) == []
    train(TrainingConfig(**settings, endpoints=5), tmp_path / "runs" / "run")
    before = (tmp_path / "runs" / "run" / "subspace.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="too short"):
        train(TrainingConfig(**settings), tmp_path / "runs" / "run", overwrite=True)
    assert (tmp_path / "runs" / "run" / "subspace.safetensors").read_bytes() == before


# Ensembles


def test_an_ensembles_first_member_is_the_standard_network_and_the_second_another(
    standard: list[Subspace], tmp_path: Path
) -> None:
    found = run(tmp_path / "run", subspace="ensemble")
    assert [record["member"] for record in records_of(tmp_path / "run")] == [0, 0, 1, 1]
    first, second = found[-1].endpoints
    assert same(first, standard[-1].endpoints[0])
    assert unlike(first, second)
    assert [subspace.geometry.endpoints for subspace in found] == [1, 1, 1, 2]
    assert same(found[0].endpoints[0], standard[0].endpoints[0])


def test_independent_members_start_from_initialisations_of_their_own(tmp_path: Path) -> None:
    subspace = run(tmp_path / "run", subspace="ensemble", endpoints=3, epochs=1, learning_rate=0.0)[-1]
    expected = initial_endpoints(subspace.architecture, 3, "independent", seed=0)
    assert [same(*pair) for pair in zip(subspace.endpoints, expected, strict=True)] == [True] * 3
    assert not np.array_equal(expected[1]["conv.weight"], expected[2]["conv.weight"])


def test_members_from_one_initialisation_differ_by_the_order_of_images(
    standard: list[Subspace], tmp_path: Path
) -> None:
    first, second = run(tmp_path / "run", subspace="ensemble", initialisation="shared")[-1].endpoints
    assert same(first, standard[-1].endpoints[0])
    assert same(second, *by_hand(cosine(10), keep=[9], second_member_from=0))
    assert unlike(first, second)


def test_members_that_share_half_the_run_part_there(standard: list[Subspace], tmp_path: Path) -> None:
    found = run(tmp_path / "run", subspace="ensemble", shared=0.5)
    assert [record["member"] for record in records_of(tmp_path / "run")] == [0, 0, 1]
    first, second = found[-1].endpoints
    assert same(first, standard[-1].endpoints[0])
    # From the first epoch of member 0, momentum and all, on with images in an order of its own.
    assert same(second, *by_hand(cosine(10), keep=[9], second_member_from=1))
    assert unlike(first, second)


def test_members_that_share_the_whole_run_are_one_network(standard: list[Subspace], tmp_path: Path) -> None:
    found = run(tmp_path / "run", subspace="ensemble", endpoints=3, shared=1.0)
    assert len(found) == 2
    assert [same(end, standard[-1].endpoints[0]) for end in found[-1].endpoints] == [True] * 3


# Endpoints that part


@pytest.mark.parametrize("method", ["line", "curve", "simplex"])
def test_endpoints_are_the_standard_network_until_they_part(
    standard: list[Subspace], method: str, tmp_path: Path
) -> None:
    shared, parted = run(tmp_path / "run", **NEUTRAL | {"subspace": method, "shared": 0.5})
    assert all(same(end, standard[0].endpoints[0]) for end in shared.endpoints)
    ends = parted.endpoints
    assert all(unlike(ends[i], ends[j]) for i in range(len(ends)) for j in range(i))
    assert [record["endpoint_l2"] > 0 for record in records_of(tmp_path / "run")] == [False, True]
