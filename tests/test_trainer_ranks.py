"""Training on several ranks: what it equals in one process, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rank_processes import LIMIT, RankProcesses, run_ranks, run_script
from safetensors.numpy import load_file

from subspace_serve.data import ArrayImages, Augmentation, FolderImages, MemoryImages, load_data
from subspace_serve.data.decoding import Decoder
from subspace_serve.data.views import ResizedImages
from subspace_serve.errors import TrainingError
from subspace_serve.space.checkpoint import load_subspace
from subspace_serve.space.subspace import Weights
from trainer.config import TrainingConfig
from trainer.division import Division
from trainer.preparation import prepared_architecture, prepared_data, prepared_stepper, starting_points
from trainer.ranks import Ranks
from trainer.step import Stepper
from trainer.training import train

pytestmark = pytest.mark.slow

TINY = {
    "samples": 1,
    "data": "digits",
    "architecture": "cresnet8-4",
    "epochs": 2,
    "batch_size": 250,
    "train_images": 800,
}

TRAIN = """
import json, sys
from trainer.ranks import Ranks
from trainer.config import TrainingConfig
from trainer.training import train

with Ranks.current() as ranks:
    for settings, out in json.loads(sys.argv[1]):
        train(TrainingConfig(**settings), out, ranks=ranks)
"""


@pytest.fixture(autouse=True)
def _as_many_threads_as_the_ranks_have():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ranks_of(world_size: int) -> list[Ranks]:
    return [Ranks(rank, world_size) for rank in range(world_size)]


@pytest.mark.parametrize(("samples", "world_size"), [(1, 1), (1, 2), (1, 3), (2, 2), (4, 2), (6, 2), (2, 4), (2, 6)])
@pytest.mark.parametrize("count", [12, 13, 29])
def test_ranks_divide_a_batch_along_its_groups(samples: int, world_size: int, count: int) -> None:
    divisions = [Division(samples, ranks) for ranks in ranks_of(world_size)]
    batch = torch.arange(count)
    parts = [batch[division.part(count)] for division in divisions]
    assert torch.equal(torch.cat(parts), batch)
    groups = batch.tensor_split(samples)
    weights = [0.0] * samples
    for division, part in zip(divisions, parts, strict=True):
        assert torch.equal(torch.cat([groups[group] for group in division.groups])[: len(part)], part) or (
            division.sharers > 1
        )
        for group, own in zip(division.groups, part.tensor_split(len(division.groups)), strict=True):
            weights[group] += division.weight(count)
            assert set(own.tolist()) <= set(groups[group].tolist())
            assert division.weight(count) == pytest.approx(len(own) / len(groups[group]))
    assert weights == pytest.approx([1.0] * samples)


@pytest.mark.parametrize(("samples", "world_size"), [(3, 2), (2, 3), (4, 6)])
def test_samples_that_do_not_divide_are_refused(samples: int, world_size: int) -> None:
    with pytest.raises(TrainingError, match=rf"{samples} samples .* {world_size} ranks; give --samples {world_size}"):
        Division(samples, Ranks(0, world_size))


def test_a_rank_without_images_is_refused() -> None:
    with pytest.raises(TrainingError, match="a batch of 3 images cannot be divided among 4 ranks"):
        Division(1, Ranks(3, 4)).part(3)


def test_what_is_exchanged_does_not_grow_with_the_endpoints_for_one_place_and_is_the_smaller_for_several() -> None:
    assert not Division(1, Ranks(0, 2)).sums_endpoints(10)
    assert not Division(4, Ranks(0, 2)).sums_endpoints(2)
    assert Division(6, Ranks(0, 2)).sums_endpoints(2)
    assert not Division(6, Ranks()).sums_endpoints(2)


def test_feature_similarity_needs_two_groups_a_rank() -> None:
    config = TrainingConfig(**TINY | {"samples": 2, "feature_similarity": 1.0, "device": "cpu"})
    architecture = prepared_architecture(config, prepared_data(config, download=False))
    start = starting_points(config, architecture)
    with pytest.raises(TrainingError, match="with 2 ranks it needs --samples 4 or a multiple, not 2"):
        prepared_stepper(config, architecture, start, Ranks(0, 2))
    four = TrainingConfig(**config.to_json() | {"samples": 4})
    assert len(prepared_stepper(four, architecture, start, Ranks(1, 2)).networks) == 2


def image_folder(folder: Path) -> FolderImages:
    generator = np.random.default_rng(0)
    names = [f"{index}.png" for index in range(11)]
    for name in names:
        Image.fromarray(generator.integers(256, size=(24, 20, 3), dtype=np.uint8)).save(folder / name)
    return FolderImages(folder, names, np.arange(11), size=16, workers=0)


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("kind", ["memory", "array", "folder", "resized", "resized folder"])
def test_parts_of_batches_are_slices_of_whole_batches(
    kind: str, shuffled: bool, drop_last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder(tmp_path)
    pixels, labels = folder.take(np.arange(11))
    images = {
        "memory": MemoryImages(pixels, labels),
        "array": ArrayImages(pixels, labels),
        "folder": folder,
        "resized": ResizedImages(MemoryImages(pixels, labels), 12, 14),
        "resized folder": ResizedImages(folder, 12, 12),
    }[kind]
    augmentation = Augmentation(padding=2, flip=True, resized_crop="folder" in kind)
    decoded = []
    decode = Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda *arguments: decoded.append(1) or decode(*arguments))

    def read(part: Callable[[int], slice] | None) -> list[tuple[np.ndarray, np.ndarray]]:
        generator = np.random.default_rng(5) if shuffled else None
        return list(images.batches(4, generator=generator, augmentation=augmentation, drop_last=drop_last, part=part))

    whole = read(None)
    assert len(whole) == (2 if drop_last else 3)
    for ranks in ranks_of(2):
        division = Division(1, ranks)
        decoded.clear()
        for (part, part_labels), (batch, batch_labels) in zip(read(division.part), whole, strict=True):
            wanted = division.part(len(batch))
            assert np.array_equal(part, batch[wanted])
            assert np.array_equal(part_labels, batch_labels[wanted])
        counts = [len(labels[division.part(len(labels))]) for _, labels in whole]
        assert len(decoded) == (sum(counts) if "folder" in kind else 0)


def trained(out: Path) -> tuple[Weights, list[dict]]:
    """Return a run's endpoints and metrics, without how long it took."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        del record["seconds"]
    return load_file(out / "subspace.safetensors"), records


def largest_difference(first: Weights, second: Weights) -> float:
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def train_on_ranks(settings: dict[str, dict], folder: Path, world_size: int = 2) -> None:
    """Train several runs on ranks, one after another, into folders of their names."""
    jobs = json.dumps([[TINY | changes, str(folder / name)] for name, changes in settings.items()])
    ends = run_script(TRAIN, world_size, arguments=[jobs])
    assert [end.status for end in ends] == [0] * world_size, ends


def in_parts(parts: int) -> Callable:
    """Return a step's backward pass that computes each group in parts, with BatchNorm's statistics of each part."""

    def backward(self: Stepper, images, labels, weight, similar):
        samples = self.config.samples
        losses, correct = [], []
        for forward, group, answers in zip(
            self._forward, images.tensor_split(samples), labels.tensor_split(samples), strict=True
        ):
            for part, right in zip(group.tensor_split(parts), answers.tensor_split(parts), strict=True):
                logits = forward(part)
                loss = self._loss(logits, right) / samples * (len(part) / len(group))
                loss.backward()
                losses.append(loss)
                correct.append((logits.detach().argmax(1) == right).sum())
        return torch.stack(losses).detach().sum(), torch.stack(correct).sum()

    return backward


def test_places_of_their_own_on_two_ranks_equal_one_process_to_the_bit(tmp_path: Path) -> None:
    settings: dict[str, dict] = {
        "line": {"samples": 2},
        "clipped": {"samples": 4, "clip_gradient": 0.5, "layerwise": True, "spread": 0.5},
        "simplex": {"samples": 6, "subspace": "simplex", "endpoints": 3, "early_stopping": True},
    }
    train_on_ranks(settings, tmp_path)
    for name, changes in settings.items():
        train(TrainingConfig(**TINY | changes), tmp_path / "alone")
        alone, records = trained(tmp_path / "alone")
        shared, shared_records = trained(tmp_path / name)
        assert largest_difference(alone, shared) == 0.0
        for record, other in zip(records, shared_records, strict=True):
            assert other.pop("loss") == pytest.approx(record.pop("loss"), rel=1e-6)
            assert other == record
        assert "validation" in records[-1]
        (tmp_path / "alone").rename(tmp_path / f"{name} alone")
    assert not (tmp_path / "line" / "resume.pt.tmp").exists()
    assert sorted(path.name for path in (tmp_path / "line").iterdir()) == [
        "config.json", "golden.safetensors", "metrics.jsonl", "resume.pt", "skeleton.onnx", "subspace.safetensors",
    ]  # fmt: skip


def test_many_places_are_summed_to_endpoints_and_equal_one_process_up_to_rounding(tmp_path: Path) -> None:
    changes = {"samples": 6, "layerwise": True, "clip_gradient": 2.0}
    train_on_ranks({"shared": changes}, tmp_path)
    train(TrainingConfig(**TINY | changes), tmp_path / "alone")
    alone, shared = trained(tmp_path / "alone")[0], trained(tmp_path / "shared")[0]
    assert 0 < largest_difference(alone, shared) < 1e-4


def test_one_place_for_all_ranks_equals_one_process_that_computes_the_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, dict] = {
        # 125 images a rank, and an odd batch: 64 and 63.
        "even": {},
        "odd": {"batch_size": 127, "clip_gradient": 0.5},
        "curve": {"subspace": "curve", "shared": 0.5, "label_smoothing": 0.1},
        "fge": {"subspace": "fge", "endpoints": 2},
    }
    train_on_ranks(settings, tmp_path)
    whole, _ = trained(tmp_path / "even")
    train(TrainingConfig(**TINY), tmp_path / "whole")
    # Statistics of whole batches are others.
    assert largest_difference(whole, trained(tmp_path / "whole")[0]) > 1e-3
    monkeypatch.setattr(Stepper, "_backward", in_parts(2))
    for name, changes in settings.items():
        train(TrainingConfig(**TINY | changes), tmp_path / f"{name} halves")
        (halves, records), (shared, shared_records) = trained(tmp_path / f"{name} halves"), trained(tmp_path / name)
        assert largest_difference(halves, shared) == 0.0
        assert [record["accuracy"] for record in shared_records] == [record["accuracy"] for record in records]
        assert [record["loss"] for record in shared_records] == pytest.approx(
            [record["loss"] for record in records], rel=1e-6
        )


def test_four_ranks_share_two_places_in_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"samples": 2, "epochs": 1, "batch_size": 127}
    train_on_ranks({"shared": changes}, tmp_path, 4)
    monkeypatch.setattr(Stepper, "_backward", in_parts(2))
    train(TrainingConfig(**TINY | changes), tmp_path / "alone")
    assert largest_difference(trained(tmp_path / "alone")[0], trained(tmp_path / "shared")[0]) == 0.0


def test_methods_with_other_steps_train_on_two_ranks(tmp_path: Path) -> None:
    settings: dict[str, dict] = {
        "integral": {"subspace": "integral"},
        "similar": {"samples": 4, "feature_similarity": 1.0},
        "ensemble": {"subspace": "ensemble", "shared": 0.5},
        "dropout": {"arguments": {"dropout": 0.2}, "samples": 2},
    }
    train_on_ranks(settings, tmp_path)
    for name in settings:
        subspace = load_subspace(tmp_path / name)
        records = trained(tmp_path / name)[1]
        assert all(np.isfinite(array).all() for endpoint in subspace.endpoints for array in endpoint.values())
        assert records[-1]["loss"] < records[0]["loss"] or name == "ensemble"


LONG = {"architecture": "cresnet8-4", "epochs": 20, "samples": 2, "train_images": 400}


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The endpoints of a run in one process that nobody killed."""
    folder = tmp_path_factory.mktemp("long") / "alone"
    train(TrainingConfig(**LONG), folder)
    return trained(folder)[0]


@pytest.mark.parametrize(
    ("killed", "by"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGTERM)], ids=["first", "second", "told"]
)
def test_a_rank_that_is_killed_ends_the_run_and_it_goes_on_in_one_process(
    tmp_path: Path, killed: int, by: signal.Signals, long_run: Weights
) -> None:
    run = tmp_path / "run"
    options = ["--arch", "cresnet8-4", "--epochs", "20", "--samples", "2", "--train-images", "400"]
    with RankProcesses(["train", *options, "--out", str(run)]) as ranks:
        deadline = time.monotonic() + LIMIT
        while not (run / "resume.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(ranks.processes[killed].pid, by)
        ends = ranks.ended()
    assert ends[killed].status == (-9 if by == signal.SIGKILL else 1)
    assert ends[1 - killed].status == 1
    message = ends[0].err + ends[1].err
    assert message.count("Error: ") == 1
    said = "another rank ended or cannot be reached" if by == signal.SIGKILL else "this run was told to end (SIGTERM)"
    assert f"Error: {said}" in message
    assert "--resume RUN" in message
    assert "Traceback" not in message
    finished = len((run / "metrics.jsonl").read_text().splitlines())
    assert 1 <= finished < 20
    assert load_subspace(run).provenance["training"]["finished_epochs"] <= finished
    train(TrainingConfig(**LONG), run, resume=True)
    assert largest_difference(long_run, trained(run)[0]) == 0.0


def test_a_run_of_one_process_goes_on_with_two_ranks_that_need_not_see_its_folder(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(record: dict) -> None:
        if record["epoch"] == 1:
            raise Stop

    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    config = TrainingConfig(**TINY | {"samples": 2})
    with pytest.raises(Stop):
        train(config, folders[0] / "run", report=stop)
    ends = run_ranks(["train", "--resume", "run", "--json", "report.json"], folders=folders)
    assert [end.status for end in ends] == [0, 0], ends
    assert ends[1].out == ends[1].err == ""
    train(config, tmp_path / "alone")
    assert largest_difference(trained(tmp_path / "alone")[0], trained(folders[0] / "run")[0]) == 0.0
    assert len(trained(folders[0] / "run")[1]) == 2
    assert (folders[0] / "report.json").exists()
    assert list(folders[1].iterdir()) == []


def test_a_rank_with_other_data_or_settings_ends_the_run_before_it_has_a_folder(tmp_path: Path) -> None:
    digits = load_data("digits").train
    folders = [tmp_path / "first", tmp_path / "second"]
    for index, folder in enumerate(folders):
        folder.mkdir()
        pixels, labels = digits.take(np.arange(300 + index))
        np.savez(folder / "images.npz", images=pixels, labels=labels)
    options = ["--data", "images.npz", "--arch", "cresnet8-4", "--epochs", "1", "--out", str(tmp_path / "run")]
    ends = run_ranks(["train", *options], folders=folders)
    assert [end.status for end in ends] == [1, 1], ends
    messages = ends[0].err + ends[1].err
    assert messages.count("Error:") == 1, messages
    assert "rank 1 has other data (their fingerprint) than rank 0" in messages
    assert "Traceback" not in messages
    assert not (tmp_path / "run").exists()


NOT_FINITE = """
import math
from trainer.ranks import Ranks
from trainer.config import TrainingConfig
from trainer.step import Stepper
from trainer.training import train

ranks = Ranks.current()
step = Stepper.step
def failing(self, *arguments):
    loss, correct = step(self, *arguments)
    return loss * math.nan, correct
if ranks.rank == 1:
    Stepper.step = failing
try:
    train(TrainingConfig(**{settings}), {out}, ranks=ranks)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_at_the_same_step(tmp_path: Path) -> None:
    ends = run_script(NOT_FINITE.format(settings=repr(TINY), out=repr(str(tmp_path / "run"))))
    assert [end.status for end in ends] == [0, 0], ends
    assert ends[0].out == ends[1].out
    assert ends[0].out.startswith("TrainingError the loss is nan at step 1 of epoch 1; no epoch was finished")
    assert not (tmp_path / "run" / "resume.pt").exists()
