"""Whole training runs on digits: resumption to the bit, failures, and what lies in the folder."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from subspace_serve.data import label_noise, load_data
from subspace_serve.errors import DataError, TrainingError
from subspace_serve.space.checkpoint import load_subspace, save_subspace
from trainer import training
from trainer.architectures import build, building
from trainer.config import TrainingConfig
from trainer.initialise import initial_endpoints
from trainer.methods import NEUTRAL
from trainer.modules import collapsed
from trainer.parameters import EndpointMatrix, Layout
from trainer.presets import PRESETS
from trainer.progress import Progress
from trainer.randomness import derived_seed
from trainer.run_folder import RESUME_VERSION, RunFolder, TrainedOn
from trainer.training import train

pytestmark = pytest.mark.slow

TINY = {"data": "digits", "architecture": "cresnet8-4", "epochs": 3, "batch_size": 256}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "run"
    train(TrainingConfig(**TINY), folder)
    return folder


def contents(run: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return a checkpoint's metadata and every tensor's bytes (safetensors orders its header's keys at random)."""
    with safe_open(run / "subspace.safetensors", framework="np") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def test_a_run_leaves_settings_metrics_and_subspace(uninterrupted: Path) -> None:
    records = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert records[-1]["loss"] < records[0]["loss"]
    # Kaiming-normal weights have variance 2 / fan-in, so a layer with n outputs adds 2 * 2n to the squared distance of
    # two independent networks; this one has 94 outputs in all. Training changes it little.
    assert records[0]["endpoint_l2"] == pytest.approx(math.sqrt(4 * 94), rel=0.1)
    assert records[0]["endpoint_cosine_squared"] < 0.1
    assert set(records[-1]["validation"]) == {"accuracy", "nll", "ece", "brier"}
    assert json.loads((uninterrupted / "config.json").read_text())["architecture"] == "cresnet8-4"
    subspace = load_subspace(uninterrupted)
    assert subspace.geometry.name == "line"
    assert subspace.provenance["training"]["finished_epochs"] == 3
    assert subspace.provenance["labels"] == [str(digit) for digit in range(10)]


def test_another_seed_gives_other_weights(uninterrupted: Path, tmp_path: Path) -> None:
    train(TrainingConfig(**TINY, seed=1), tmp_path / "other")
    assert contents(tmp_path / "other") != contents(uninterrupted)


@pytest.mark.parametrize("finished", [1, 2])
def test_a_run_that_was_interrupted_between_writes_resumes_to_the_same_bytes(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    folder = tmp_path / "run"
    saved = training.save_subspace
    calls = []

    def interrupted_save(subspace, path):
        calls.append(path)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return saved(subspace, path)

    monkeypatch.setattr(training, "save_subspace", interrupted_save)
    with pytest.raises(KeyboardInterrupt):
        train(TrainingConfig(**TINY), folder)
    monkeypatch.undo()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == finished + 1
    train(RunFolder(folder).read_config(), folder, resume=True)
    assert contents(folder) == contents(uninterrupted)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = training.Stepper.step
    steps = []

    def failing(self, *arguments):
        steps.append(1)
        loss, correct = step(self, *arguments)
        return (loss * math.nan if len(steps) == 7 else loss), correct

    monkeypatch.setattr(training.Stepper, "step", failing)
    # 1294 training images make five steps of 256 an epoch: the seventh is the second of epoch 2.
    with pytest.raises(TrainingError, match=r"step 2 of epoch 2; the state after epoch 1 is kept.*--learning-rate"):
        train(TrainingConfig(**TINY), tmp_path / "run")
    assert load_subspace(tmp_path / "run").provenance["training"]["finished_epochs"] == 1
    assert (tmp_path / "run" / "resume.pt").exists()


def test_a_huge_learning_rate_is_reported_as_divergence(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) at step"):
        train(TrainingConfig(**TINY, learning_rate=1e6, subspace="standard", momentum=1.0), tmp_path / "run")


def test_a_folder_that_is_taken_is_not_overwritten_unless_asked(uninterrupted: Path, tmp_path: Path) -> None:
    before = (uninterrupted / "subspace.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"already holds a run.*--resume.*--overwrite"):
        train(TrainingConfig(**TINY), uninterrupted)
    assert (uninterrupted / "subspace.safetensors").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match="is not a run"):
        train(TrainingConfig(**TINY), tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"config.json": '{"model_type": "vit"}', "model.safetensors": ""},
            "settings of a run .*unknown .*: model_type",
        ),
        ({"config.json": '{"model_type": "vit"}', "resume.pt": ""}, "settings of a run .*unknown .*: model_type"),
        (
            {"config.json": '{"epochs": 10, "seed": 1}', "train.py": "", ".git": ""},
            "holds no checkpoint, and .git, train",
        ),
        ({"config.json": "{", "subspace.safetensors": ""}, "settings of a run .*config.json is damaged .*move it away"),
    ],
)
def test_a_folder_of_another_program_is_not_emptied(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(TrainingError, match=message):
        RunFolder(tmp_path).check_free(overwrite=True)
    assert {entry.name for entry in tmp_path.iterdir()} == files.keys()


def test_what_a_run_without_an_epoch_leaves_counts_as_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.create(TrainingConfig(**TINY))
    (tmp_path / "tensorboard").mkdir()
    for name in ("skeleton.onnx", "metrics.jsonl", ".subspace.safetensors.a1_b2c3d.tmp"):
        (tmp_path / name).touch()
    run.check_free(overwrite=False)


def test_a_disk_that_fills_up_while_progress_is_recorded(uninterrupted: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(uninterrupted, tmp_path / "run")))
    before = run.resume_file.read_bytes()
    trained = load_subspace(run.path)
    layout = Layout.of(build(trained.architecture))
    endpoints = EndpointMatrix(layout, trained.endpoints, torch.device("cpu"), layerwise=False)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limit[1]))
        with pytest.raises((TrainingError, OSError)):
            run.save_progress(endpoints, Progress(epochs=4), TrainedOn(8, "0"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert run.resume_file.read_bytes() == before
    assert run.load_progress(endpoints).epochs == 3


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "other"])
def test_a_damaged_resume_file_is_refused(uninterrupted: Path, tmp_path: Path, damage: str) -> None:
    run = RunFolder(tmp_path)
    run.config_file.write_text((uninterrupted / "config.json").read_text())
    whole = (uninterrupted / "resume.pt").read_bytes()
    if damage == "other":
        torch.save(
            {"version": RESUME_VERSION, "epochs": 1, "values": torch.zeros(2, 3), "velocity": torch.zeros(2, 3)},
            run.resume_file,
        )
    else:
        run.resume_file.write_bytes(
            {"truncated": whole[: len(whole) // 2], "garbage": b"\x80garbage", "empty": b""}[damage]
        )
    with pytest.raises(TrainingError, match=r"resume\.pt (is damaged|belongs to another network)"):
        train(run.read_config(), tmp_path, resume=True)


def test_a_pickle_in_the_resume_file_is_not_executed(uninterrupted: Path, tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    run = RunFolder(tmp_path)
    torch.save({"version": RESUME_VERSION, "epochs": 1, "values": Malicious()}, run.resume_file)
    with pytest.raises(TrainingError, match="is damaged"):
        train(TrainingConfig(**TINY), tmp_path, resume=True)
    assert not (tmp_path / "executed").exists()


def test_latest_points_at_the_run_that_finished_an_epoch_last(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("first", "second"):
        train(TrainingConfig(**TINY | {"epochs": 1}), runs / name)
        assert (runs / "latest").readlink() == Path(name)
    train(TrainingConfig(**TINY | {"epochs": 1}), tmp_path / "elsewhere" / "third")
    assert not (tmp_path / "elsewhere" / "latest").exists()
    train(TrainingConfig(**TINY | {"epochs": 1}), runs / "latest", overwrite=True)
    assert (runs / "latest").readlink() == Path("second")


def test_a_failed_start_hides_no_good_run_and_leaves_an_empty_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "runs" / "good", tmp_path / "runs" / "bad"
    train(TrainingConfig(**TINY | {"epochs": 1}), good)

    def interrupted(self, *arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training.Stepper, "step", interrupted)
        train(TrainingConfig(**TINY), bad)
    assert (tmp_path / "runs" / "latest").readlink() == Path("good")
    assert sorted(entry.name for entry in bad.iterdir()) == ["config.json", "skeleton.onnx"]
    # No epoch was finished, so there is nothing to replace.
    train(TrainingConfig(**TINY | {"epochs": 1}), bad)
    assert (tmp_path / "runs" / "latest").readlink() == Path("bad")
    with pytest.raises(DataError):
        train(TrainingConfig(**TINY | {"data": "nowhere"}), tmp_path / "runs" / "absent")
    assert not (tmp_path / "runs" / "absent").exists()


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").held(), pytest.raises(TrainingError, match="another process is training in"):
        train(TrainingConfig(**TINY), tmp_path / "run", overwrite=True)
    train(TrainingConfig(**TINY | {"epochs": 1}), tmp_path / "run")


def test_a_link_to_a_run_is_the_run(tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to("run")
    for choice in ({"overwrite": True}, {"resume": True}):
        with RunFolder(tmp_path / "run").held(), pytest.raises(TrainingError, match=r"is training in .*/run;"):
            train(TrainingConfig(**TINY), link, **choice)
    run = RunFolder(link)
    link.unlink()
    link.symlink_to("other")  # as another run moves it
    assert run.config_file == tmp_path / "run" / "config.json"


def test_a_run_goes_on_with_the_data_that_it_was_started_on_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"images": rng.integers(0, 256, (60, 8, 8, 1), np.uint8), "labels": np.arange(60) % 3}
    np.savez(tmp_path / "set.npz", **arrays)
    settings = TINY | {"data": str(tmp_path / "set.npz"), "epochs": 1}
    train(TrainingConfig(**settings), tmp_path / "run")
    arrays["images"][0] += 1
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(TrainingError, match="has changed since the run was started"):
        train(TrainingConfig(**settings), tmp_path / "run", resume=True)


def test_initialisations(uninterrupted: Path, tmp_path: Path) -> None:
    trained = load_subspace(uninterrupted)
    architecture = trained.architecture
    independent = initial_endpoints(architecture, 2, "independent", seed=3)
    assert not np.array_equal(independent[0]["conv.weight"], independent[1]["conv.weight"])
    first, second = initial_endpoints(architecture, 2, "shared", seed=3)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert np.array_equal(first["conv.weight"], independent[0]["conv.weight"])
    midpoint = trained.weights(0.5)
    (from_run,) = initial_endpoints(architecture, 1, str(uninterrupted), seed=0)
    save_file(collapsed(trained, 0.5).state_dict(), tmp_path / "state.safetensors")
    (from_state,) = initial_endpoints(architecture, 1, str(tmp_path / "state.safetensors"), seed=0)
    for name, wanted in midpoint.items():
        assert np.array_equal(from_run[name], wanted)
        assert np.array_equal(from_state[name], wanted)
    with pytest.raises(TrainingError, match="cannot start from"):
        initial_endpoints(architecture, 1, str(tmp_path / "absent"), seed=0)


def test_what_is_started_from_is_the_first_single_network_that_a_run_is_meant_as(
    uninterrupted: Path, tmp_path: Path
) -> None:
    trained = load_subspace(uninterrupted)

    def started(*use: str) -> Any:
        save_subspace(replace(trained, provenance=trained.provenance | {"use": list(use)}), tmp_path)
        return initial_endpoints(trained.architecture, 1, str(tmp_path), seed=0)[0]["conv.weight"]

    assert np.array_equal(started("endpoints", "integral=endpoint:1"), trained.weights(1.0)["conv.weight"])
    assert np.array_equal(started("midpoint", "endpoint:0"), trained.weights(0.5)["conv.weight"])
    with pytest.raises(TrainingError, match=r"meant to answer as endpoints.*collapse .* --alpha endpoint:0 .*--init"):
        started("endpoints")


def test_initialisation_leaves_the_global_generator_alone(uninterrupted: Path) -> None:
    architecture = load_subspace(uninterrupted).architecture
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    initial_endpoints(architecture, 2, "independent", seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_label_noise_is_what_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = training.Stepper.step

    def watching(self, images, labels, *rest):
        seen.append(labels)
        return step(self, images, labels, *rest)

    monkeypatch.setattr(training.Stepper, "step", watching)
    train(TrainingConfig(**(TINY | {"epochs": 1, "batch_size": 2000}), label_noise=0.5), tmp_path / "run")
    clean = load_data("digits").train.labels
    noisy = label_noise(clean, 0.5, 10, 0)
    assert seen[0].bincount(minlength=10).tolist() == np.bincount(noisy, minlength=10).tolist()
    assert not np.array_equal(np.bincount(noisy), np.bincount(clean))


def test_seeds_differ_by_purpose_and_index() -> None:
    seeds = {derived_seed(seed, purpose, i) for seed in (0, 1) for purpose in ("alpha", "order") for i in range(5)}
    assert len(seeds) == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subspace": "square"}, "choose standard, line, curve, simplex"),
        ({"subspace": "simplex", "endpoints": 11}, "2 to 10|1 to 10"),
        ({"subspace": "simplex", "endpoints": 1}, "2 to 10"),
        ({"subspace": "line", "endpoints": 3}, "a line has 2 endpoints"),
        ({"subspace": "standard", "endpoints": 2}, "leave endpoints out"),
        ({"epochs": 0}, "epochs is 0"),
        ({"label_noise": 1.5}, "label_noise is 1.5"),
        ({"beta": -1.0}, "beta is -1"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"feature_similarity": 1.0, "samples": 1}, "samples of 2 or more"),
        ({"samples": 300}, "cannot be split"),
        ({"epochs": "ten"}, "epochs is 'ten'; Input should be a valid integer"),
        ({"epochs": 10**6}, "epochs is 1000000; it must lie between 1 and 100000"),
        ({"beta": "strong"}, "beta is 'strong'; Input should be a valid number$"),
        ({"precision": "half"}, "precision is 'half'; choose float32 or bfloat16"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(Exception, match=message):
        TrainingConfig(**settings)


def test_unknown_settings_in_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"learningrate": 0.1}')
    with pytest.raises(TrainingError, match=r"config\.json: unknown training settings: learningrate"):
        RunFolder(tmp_path).read_config()


def test_settings_of_a_file_of_before_a_setting_was_there_are_read_as_they_were_trained(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"subspace": "line", "epochs": 3, "beta": 1, "endpoints": null}')
    found = RunFolder(tmp_path).read_config()
    assert {name: getattr(found, name) for name in NEUTRAL} == NEUTRAL
    # By these bytes kept measurements are found.
    assert json.dumps(found.to_json()).startswith(
        '{"data": "digits", "architecture": "cresnet8-8", "subspace": "line", "endpoints": null, "beta": 1, '
    )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_papers(name: str) -> None:
    config = TrainingConfig(**PRESETS[name])
    assert (config.momentum, config.learning_rate, config.warmup_epochs, config.beta) == (0.9, 0.1, 5.0, 1.0)
    expected = {
        # The method alone, of whatever length.
        "paper": (128, 1e-4, 30),
        "paper-cifar10": (128, 1e-4, 160),
        "paper-tiny-imagenet": (128, 1e-4, 160),
        "paper-imagenet": (256, 5e-5, 200),
    }
    assert (config.batch_size, config.weight_decay, config.epochs) == expected[name]
    assert (config.samples, config.shared, config.spread, config.scaled_gradients) == (1, 0, 0, False)


@pytest.mark.parametrize("subspace", ["line", "curve", "simplex"])
def test_subspaces_are_trained_by_the_recipe_unless_told_otherwise(subspace: str) -> None:
    config = TrainingConfig(subspace=subspace)
    assert (config.samples, config.scaled_gradients, config.learning_rate) == (2, True, 0.2)
    assert config.spread is None
    assert TrainingConfig(subspace=subspace, spread=0.0).spread == 0
    assert TrainingConfig(**config.to_json()) == config
    plain = TrainingConfig(subspace="standard")
    assert {name: getattr(plain, name) for name in NEUTRAL} == NEUTRAL


def test_parametrised_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find_builder = building.find_builder

    def normalised(name):
        def build_normalised(**arguments):
            model = find_builder(name)(**arguments)
            torch.nn.utils.parametrizations.weight_norm(model.fc)
            return model

        return build_normalised

    monkeypatch.setattr(building, "find_builder", normalised)
    with pytest.raises(TrainingError, match="parametrised weights"):
        train(TrainingConfig(**TINY), tmp_path / "run")


@pytest.mark.parametrize(
    "settings",
    [
        {"subspace": "simplex", "endpoints": 3, "layerwise": True},
        {"subspace": "curve", "label_smoothing": 0.1, "clip_gradient": 1.0},
        {"samples": 2, "feature_similarity": 0.5},
        {"precision": "bfloat16"},
        {"subspace": "standard", "arguments": {"dropout": 0.2}},
        {"initialisation": "shared"},
        {"validation": 0.0},
        {"image_size": 12},
    ],
    ids=str,
)
def test_every_setting_trains_and_leaves_a_subspace(settings: dict, tmp_path: Path) -> None:
    config = TrainingConfig(**(TINY | {"epochs": 1} | settings))
    records: list[dict] = []
    train(config, tmp_path, report=records.append)
    subspace = load_subspace(tmp_path)
    assert subspace.geometry == config.geometry
    assert math.isfinite(records[0]["loss"])
    assert ("validation" in records[0]) == (config.validation > 0)
    assert subspace.architecture.height == settings.get("image_size", 8)


def test_tensorboard_files_are_written_when_asked_for(tmp_path: Path) -> None:
    train(TrainingConfig(**(TINY | {"epochs": 1})), tmp_path / "run", tensorboard=True)
    assert [path.name for path in (tmp_path / "run" / "tensorboard").glob("events.out.*")]
