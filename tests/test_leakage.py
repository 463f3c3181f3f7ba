"""What may not choose, calibrate or promise is told by what it holds, however it is named and wherever it lies."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import completed, invoke, refusal
from PIL import Image

from subspace_serve.bundle import Bundle
from subspace_serve.data import Images, load_data, load_images, sharing
from subspace_serve.files import sha256_of
from subspace_serve.run.images import labelled_images, unlabelled_images
from subspace_serve.run.leakage import corrupted_copy
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.checkpoint import save_subspace

QUICK = ("--points", "2", "--refine", "0")
TEST, TRAINING = "are test images of this run", "are training images of this run"


def write_files(folder: Path, images: Images, names: Sequence[str]) -> None:
    """Write images as files, one folder per class."""
    pixels, labels = images.take(np.arange(len(images)))
    for index, (picture, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[..., 0]).save(folder / names[label] / f"{index:03}.png")


@pytest.fixture
def here(line_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of digits in several forms, where the test works and which is its home, too."""
    data, names = OpenRun(line_run).data, OpenRun(line_run).labels
    train, test = data.train.subset(np.arange(200)), data.test.subset(np.arange(60))
    write_files(tmp_path / "parts/train", train, names)
    write_files(tmp_path / "parts/test", test, names)
    write_files(tmp_path / "whole", train, names)
    write_files(tmp_path / "others", data.validation.subset(np.arange(60)), names)
    pixels, labels = train.take(np.arange(200))
    np.savez(tmp_path / "digits.npz", images=pixels, labels=labels, label_names=names)
    for part, images in (("train", train), ("test", test)):
        pixels, labels = images.take(np.arange(len(images)))
        for name, changed in (("identity", pixels), ("negative", 255 - pixels)):
            (tmp_path / "mnist-c" / name).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "mnist-c" / name / f"{part}_images.npy", changed)
            np.save(tmp_path / "mnist-c" / name / f"{part}_labels.npy", labels)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def run_on(
    line_run: Path,
    spec: str,
    *,
    validation: float = 0.1,
    data_seed: int = 0,
    early_stopping: bool = False,
    image_size: int | None = None,
) -> Path:
    """Return a copy of the trained line, as a run that was trained on other digits."""
    run = Path(shutil.copytree(line_run, Path.cwd() / "run"))
    subspace = OpenRun(run).subspace
    data = load_data(spec, validation=validation, seed=data_seed, channels=1, image_size=image_size, decoded_size=8)
    training: dict[str, Any] = {
        "data": spec, "channels": 1, "validation": validation, "data_seed": data_seed, "early_stopping": early_stopping,
        "image_size": image_size,
    }  # fmt: skip
    provenance = subspace.provenance | {
        "training": subspace.provenance["training"] | training,
        "data": data.to_json(),
    }
    save_subspace(replace(subspace, provenance=provenance), run)
    return run


class TestFoldersOfFiles:
    @pytest.mark.parametrize("options", [("--val-data",), ("--calibrate-on",), ("--corruption", "fog", "--val-data")])
    @pytest.mark.parametrize("spec", ["parts/test", "folder:parts/../parts/test", "link", "copies"])
    def test_test_images_choose_and_calibrate_nothing(
        self, here: Path, line_run: Path, options: tuple[str, ...], spec: str
    ) -> None:
        (here / "link").symlink_to(here / "parts" / "test")
        for file in (here / "parts/test").glob("*/*.png"):
            (here / "copies" / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, here / "copies" / file.parent.name / f"copy-of-{file.name}")
        assert f"60 of the 60 images {TEST}" in refusal("select", run_on(line_run, "parts"), *options, spec)
        assert not (here / "run/selections.json").exists()

    def test_files_are_read_once_and_themselves_not_at_all(
        self, here: Path, line_run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree("parts/test", "copies")
        own, copies = (
            OpenRun(run_on(line_run, "parts")).data.test,
            load_images("copies", height=8, width=8, channels=1, label_names=OpenRun(line_run).labels),
        )
        read: list[Path] = []
        monkeypatch.setattr(sharing, "sha256_of", lambda path: [read.append(path), sha256_of(path)][1])
        assert sharing.shared(own, own).all()
        assert not read
        for _ in range(2):
            assert sharing.shared(copies, own).all()
        assert len(read) == len(set(read)) == len(own) + len(copies)

    def test_of_a_folder_without_parts_the_whole_chooses_nothing(self, here: Path, line_run: Path) -> None:
        run = run_on(line_run, "whole")
        held = len(OpenRun(run).data.test)
        assert f"{held} of the 200 images {TEST}" in refusal("select", run, "--val-data", "whole")
        assert f"{held} of the 200 images {TEST}" in refusal("select", run, "--calibrate-on", "./whole")

    def test_training_images_choose_fit_and_promise_nothing(self, here: Path, line_run: Path) -> None:
        run = run_on(line_run, "parts")
        trained_on = len(OpenRun(run).data.train)
        message = f"{trained_on} of the 200 images {TRAINING}"
        export = ("export", run, "--alpha", "midpoint", "--points-only")
        assert message in refusal("select", run, "--val-data", "parts/train")
        assert message in refusal(*export, "--sets-data", "parts/train")
        assert message in refusal(*export, "--temperature", "--temperature-data", "parts/train")
        assert message in refusal(*export, "--precision", "fp16", "--max-drop", "2", "--gate-data", "parts/train")
        assert not (here / "run/bundle").exists()

    def test_other_images_do(self, here: Path, line_run: Path) -> None:
        run = run_on(line_run, "parts")
        completed("select", run, "--val-data", "others", "--calibrate-on", "others", *QUICK)


class TestTrainingImages:
    @pytest.mark.parametrize("spec", ["digits.npz:train", "./digits.npz:train", "npz:digits.npz:train", "train"])
    def test_nothing_is_chosen_or_fitted_on_them_however_they_are_named(
        self, here: Path, line_run: Path, spec: str
    ) -> None:
        run = run_on(line_run, "digits.npz")
        trained_on = len(OpenRun(run).data.train)
        by_name = spec in ("train", "digits.npz:train")
        message = f"were trained on {spec}" if by_name else f"{trained_on} of the {trained_on} images {TRAINING}"
        assert message in refusal("select", run, "--val-data", spec)
        export = ("export", run, "--alpha", "midpoint", "--points-only", "--no-sets")
        assert message in refusal(*export, "--temperature", "--temperature-data", spec)
        assert not (here / "run/selections.json").exists()

    def test_a_corrupted_copy_of_them_chooses_nothing(self, here: Path, line_run: Path) -> None:
        run = run_on(line_run, "digits.npz")
        made = ("--data", "digits.npz", "--corruption", "contrast", "--severity", "1")
        for split in ("train", "validation"):
            completed("corrupt", *made, "--split", split, "--out", split)
        message = refusal("select", run, "--val-data", "corrupted:train:contrast:1")
        assert "corrupted:train:contrast:1 holds corrupted training images of this run" in message
        whole = ("--val-data", "corrupted:train", "--corruption", "contrast", "--severity", 1)
        assert "corrupted:train holds corrupted training images of this run" in refusal("select", run, *whole)
        # There are too few of these to choose on, which is another matter.
        assert "training" not in refusal("select", run, "--val-data", "corrupted:validation:contrast:1")

    def test_nor_does_one_of_validation_images_of_another_division(self, here: Path, line_run: Path) -> None:
        """Most of those are training images of the run."""
        run = run_on(line_run, "digits.npz", data_seed=1)
        made = ("--data", "digits.npz", "--corruption", "contrast", "--severity", "1", "--split", "validation")
        for seed in (0, 1):
            completed("corrupt", *made, "--data-seed", seed, "--out", f"copy-{seed}")
        message = refusal("select", run, "--val-data", "corrupted:copy-0:contrast:1")
        assert "copy-0:contrast:1 holds other validation images of digits.npz than this run's" in message
        assert "make the copy with the run's --validation and --data-seed" in message
        # There are too few of these to choose on, which is another matter.
        assert "trained on" not in refusal("select", run, "--val-data", "corrupted:copy-1:contrast:1")

    def test_nor_does_one_of_what_the_run_resized(self, here: Path, line_run: Path) -> None:
        with np.load("digits.npz") as arrays:
            large = dict(arrays) | {"images": arrays["images"].repeat(2, 1).repeat(2, 2)}
        np.savez("large.npz", **large)
        run = run_on(line_run, "large.npz", image_size=8)
        made = ("--data", "large.npz", "--corruption", "contrast", "--severity", "1")
        completed("corrupt", *made, "--split", "train", "--out", "copy")
        message = refusal("select", run, "--val-data", "corrupted:copy:contrast:1")
        assert "corrupted:copy:contrast:1 holds corrupted training images of this run" in message


class TestCorruptedSets:
    def test_a_copy_in_the_home_folder_is_the_same_copy(self, here: Path, line_run: Path) -> None:
        run = shutil.copytree(line_run, "run")
        completed("corrupt", "--data", "digits", "--corruption", "contrast", "--out", "copy")
        for option in ("--val-data", "--calibrate-on"):
            for spec in (f"corrupted:{here}/copy:contrast:3", "corrupted:~/copy:contrast:3"):
                assert f"{spec} holds corrupted test images" in refusal("select", run, option, spec)
        # Whoever reads it in the layout that it has.
        assert corrupted_copy("cifar10-c:~/copy:contrast:3") == corrupted_copy(f"corrupted:{here}/copy")
        assert corrupted_copy("corrupted:~/elsewhere:contrast:3") is None

    @pytest.mark.parametrize("spec", ["mnist-c:mnist-c:identity", "mnist-c:~/mnist-c:identity"])
    def test_a_published_set_is_compared_with_what_the_run_has(self, here: Path, line_run: Path, spec: str) -> None:
        run = run_on(line_run, "mnist-c:mnist-c:identity")
        message = f"60 of the 60 images {TEST}"
        assert message in refusal("select", run, "--val-data", spec)
        assert message in refusal("select", run, "--calibrate-on", spec)
        whole = spec.removesuffix(":identity")
        assert message in refusal("select", run, "--val-data", whole, "--corruption", "negative,identity")

    def test_and_is_taken_where_it_holds_something_else(self, here: Path, line_run: Path) -> None:
        run = run_on(line_run, "mnist-c:mnist-c:identity")
        done = completed("select", run, "--val-data", "mnist-c:mnist-c:negative", *QUICK)
        assert "holds corrupted copies of published test images" in done.stderr


class TestWhatHadAPart:
    """Two files of negatives: `few.npz` has 60 of the 120 of `all.npz`, and nothing but their pixels says so."""

    @pytest.fixture
    def run(self, line_run: Path, here: Path) -> Path:
        pixels, labels = OpenRun(line_run).data.validation.take(np.arange(120))
        np.savez("all.npz", images=255 - pixels, labels=labels)
        np.savez("few.npz", images=255 - pixels[::2], labels=labels[::2])
        return Path(shutil.copytree(line_run, "run"))

    def exported(self, run: Path, *words: object) -> Bundle:
        completed("export", run, "--alpha", "midpoint", "--points-only", "--no-evaluate", *words)
        return Bundle.open(run / "bundle")

    def test_a_gate_takes_no_images_that_gave_statistics(self, run: Path) -> None:
        words = ("--calibrate-on", "./few.npz", "--precision", "fp16", "--max-drop", 40, "--no-sets", "--gate-data")
        done = invoke("export", run, "--alpha", "midpoint", "--points-only", *words, "few.npz")
        assert (done.exit_code, "few.npz calibrated the networks" in done.output) == (2, True), done.output
        gate = self.exported(run, *words, "all.npz").points["midpoint-fp16"].reduction.gate
        assert (gate.data, gate.images) == ("all.npz, those that calibrated nothing", 60)

    def test_nor_do_prediction_sets(self, run: Path) -> None:
        words = ("--calibrate-on", "./few.npz", "--sets-data")
        assert self.exported(run, *words, "few.npz").points["midpoint"].sets is None
        sets = self.exported(run, *words, "all.npz").points["midpoint"].sets
        assert (sets.data, sets.count) == ("all.npz, those that chose nothing", 60)

    def test_nor_any_that_fitted_the_temperature(self, run: Path) -> None:
        words = ("--temperature", "--temperature-data", "few.npz", "--sets-data", "all.npz")
        midpoint = self.exported(run, *words).points["midpoint"]
        assert midpoint.sets.count == 120 - midpoint.temperature_fit.count

    def test_nor_any_that_chose_the_place(self, run: Path) -> None:
        completed("select", run, "--val-data", "few.npz", "--name", "few", *QUICK)
        chosen_on = OpenRun(run).selections()["few"]["chosen_on"]
        words = ("--alpha", "best:few", "--sets-data", "all.npz")
        assert self.exported(run, *words).points["few"].sets.count == 120 - chosen_on

    def test_nor_any_on_which_training_stopped(self, here: Path, line_run: Path) -> None:
        run = run_on(line_run, "digits.npz", validation=0.5, early_stopping=True)
        for spec in ("validation", "./digits.npz:validation"):
            assert self.exported(run, "--sets-data", spec).points["midpoint"].sets is None


def test_a_part_holds_the_same_images_with_labels_and_without(here: Path, line_run: Path) -> None:
    """As the run divided its data."""
    run = OpenRun(run_on(line_run, "digits", validation=0.3, data_seed=5))
    for part in ("train", "validation", "test"):
        own = getattr(run.data, part).take(np.arange(20))[0]
        for load in (labelled_images, unlabelled_images):
            images = load(run, f"digits:{part}")
            assert len(images) == len(getattr(run.data, part))
            np.testing.assert_array_equal(images.take(np.arange(20))[0], own)
