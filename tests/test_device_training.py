"""Training on a device, as far as a processor can show it: the same batches, and recorded steps that train the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from subspace_serve.data import Augmentation, MemoryImages, Preprocessing
from subspace_serve.data.array import ArrayImages
from subspace_serve.errors import SubspaceServeError
from subspace_serve.space.architecture import Architecture
from trainer.config import TrainingConfig
from trainer.device_images import DeviceImages, on_device
from trainer.preparation import prepared_stepper, starting_points
from trainer.preprocessing import preprocess
from trainer.ranks import Ranks
from trainer.replay import Replayed, run_again
from trainer.reproduce.cache import Cache
from trainer.schedule import StepSettings

CPU = torch.device("cpu")
GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(256, size=(50, 9, 7, 3), dtype=np.uint8)
LABELS = GENERATOR.integers(4, size=50)
NORMALISATION = Preprocessing((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("part", [None, lambda count: slice(count // 4, count // 2)])
def test_batches_are_the_same_bytes(padding, flip, part) -> None:
    augmentation = Augmentation(padding=padding, flip=flip)
    rows = np.random.default_rng(1).permutation(50)[:45]
    for images in (MemoryImages(PIXELS, LABELS), ArrayImages(PIXELS, LABELS[rows], rows)):
        options = {"augmentation": augmentation, "part": part}
        ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
        found = list(DeviceImages(images, CPU).batches(16, generator=ours, drop_last=True, **options))
        expected = list(images.batches(16, generator=theirs, drop_last=True, **options))
        assert len(found) == len(expected) == len(images) // 16
        for (pixels, labels), (their_pixels, their_labels) in zip(found, expected, strict=True):
            assert np.array_equal(pixels.numpy(), their_pixels)
            assert np.array_equal(labels.numpy(), their_labels)
            assert torch.equal(preprocess(pixels, NORMALISATION), preprocess(their_pixels, NORMALISATION))
        assert ours.random() == theirs.random()


def test_images_stay_where_they_are_without_a_gpu() -> None:
    images = MemoryImages(PIXELS, LABELS)
    assert on_device(images, Augmentation(), CPU) is images


def test_a_recording_reads_its_own_copies_and_gives_copies() -> None:
    calls: list[float] = []

    def function(x: torch.Tensor, *, factor: float) -> tuple[torch.Tensor]:
        calls.append(factor)
        return (x * factor,)

    recordings: list[int] = []

    def record(run):
        recordings.append(1)
        run()
        return run_again(run)

    replayed = Replayed(function, record)
    given = torch.tensor([1.0, 2.0])
    (first,) = replayed(given, factor=3.0)
    given[0] = 5.0
    (second,) = replayed(given, factor=3.0)
    assert (first.tolist(), second.tolist()) == ([3, 6], [15, 6])
    assert len(recordings) == 1
    # Another constant or another shape is another recording; one value is not spread over many.
    assert replayed(given, factor=2.0)[0].tolist() == [10, 4]
    assert replayed(torch.tensor([7.0]), factor=2.0)[0].tolist() == [14]
    assert len(recordings) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"subspace": "standard"},
        {"subspace": "line", "samples": 2},
        {"subspace": "simplex", "endpoints": 3, "samples": 1, "clip_gradient": 0.1},
        {"subspace": "line", "layerwise": True, "precision": "bfloat16"},
    ],
    ids=lambda settings: settings["subspace"],
)
@pytest.mark.parametrize("together", [False, True])
def test_a_recorded_step_trains_the_same(settings, together) -> None:
    architecture = Architecture("cresnet8-4", 4, 3, 9, 7)
    config = TrainingConfig(architecture="cresnet8-4", device="cpu", batch_size=16, **settings)
    weights = []
    for recorded in (False, True):
        stepper = prepared_stepper(config, architecture, starting_points(config, architecture))
        if recorded:
            stepper._run = Replayed(stepper._pass, run_again)
        generator, draws = np.random.default_rng(2), np.random.default_rng(3)
        images = DeviceImages(MemoryImages(PIXELS, LABELS), CPU)
        results = []
        for step, (pixels, labels) in enumerate(images.batches(16, generator=generator, augmentation=Augmentation())):
            taken = StepSettings(0.1, spread=step / 2, together=together)
            results.append(stepper.step(preprocess(pixels, NORMALISATION), labels, draws, taken))
        assert len({float(loss) for loss, _ in results}) == 3
        weights.append((stepper.endpoints.values, results))
    (plain, losses), (replayed, their_losses) = weights
    assert torch.equal(plain, replayed)
    assert [float(loss) for loss, _ in losses] == [float(loss) for loss, _ in their_losses]


def test_measurements_that_were_made_before_a_setting_existed_are_found() -> None:
    measured = Path(__file__).parent.parent / "docs" / "reproduction" / "measured"
    files = sorted(measured.iterdir())
    assert len(files) >= 8
    for file in files:
        document = json.loads(file.read_text())
        config = TrainingConfig(**document["settings"])
        assert Cache(measured, measurements=measured).measured_file(config, document["key"]) == file


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Pretend that there are two GPUs; return the list of those that are made the current one."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.parametrize(
    ("ranks", "name", "device"),
    [
        (Ranks(), "cuda:1", "cuda:1"),
        (Ranks(), "cuda:0", "cuda:0"),
        (Ranks(1, 2, 1), "cuda:0", "cuda:0"),
        (Ranks(1, 2, 1), "cuda", "cuda:1"),
        (Ranks(2, 3, 2), "auto", "cuda:0"),
    ],
)
def test_steps_are_recorded_on_the_gpu_that_is_named(
    two_gpus: list[torch.device], ranks: Ranks, name: str, device: str
) -> None:
    # A CUDA graph is recorded on the current device, whichever its tensors are on.
    assert ranks.device(name) == torch.device(device)
    assert two_gpus == [torch.device(device)]


def test_without_a_number_the_current_gpu_stays(two_gpus: list[torch.device]) -> None:
    assert Ranks().device("cuda") == torch.device("cuda")
    assert Ranks().device("cpu") == CPU
    assert two_gpus == []


@pytest.mark.parametrize("ranks", [Ranks(), Ranks(1, 2, 1)])
def test_a_gpu_that_is_not_there_is_refused(two_gpus: list[torch.device], ranks: Ranks) -> None:
    with pytest.raises(SubspaceServeError, match="cuda:9 was asked for and torch finds only cuda:0, cuda:1 here"):
        ranks.device("cuda:9")
    assert two_gpus == []
