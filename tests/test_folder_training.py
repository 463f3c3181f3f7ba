"""Training on a folder of image files, as on somebody's first day: sizes, bad files, interruptions, own networks."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import completed, fails, invoke, run
from image_files import save_noise
from PIL import Image

from subspace_serve.bundle import Bundle
from subspace_serve.data import Augmentation, load_checked, load_data, summary
from subspace_serve.data.picture_size import fitting_side
from subspace_serve.errors import DataError
from subspace_serve.space.checkpoint import load_subspace

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "subspace_serve"]
DIGITS = "train --data digits --arch cresnet8-4 --out runs/x"
FLAT = Augmentation(padding=2, flip=True)


def folder(root: Path, *, classes: int = 3, each: int = 10, size: tuple[int, int] = (16, 16)) -> Path:
    for label in range(classes):
        for index in range(each):
            save_noise(root / f"class-{label}" / f"{index:02}.png", 100 * label + index, size)
    return root


def command(words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words.split()], cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(("size", "side"), [((64, 64), 64), ((300, 240), 224)])
def test_the_default_command_trains_on_a_folder(tmp_path: Path, size: tuple[int, int], side: int) -> None:
    """In a process of its own: narrow networks once corrupted memory here, and ended without a word."""
    files = folder(tmp_path / "pictures", each=20, size=size)
    if side == 224:
        save_noise(files / "class-0" / "00.png", 1, (260, 250))  # photographs are not all alike
    done = command("train --data pictures --epochs 2", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"3 classes, images of {side}x{side} pixels" in done.stderr
    assert len(re.findall(r"^epoch ", done.stdout, re.MULTILINE)) == 2
    architecture = load_subspace(tmp_path / "runs" / "latest").architecture
    assert (architecture.name, architecture.height, architecture.width) == ("cresnet8-8", side, side)
    assert ("--arch resnet18" in done.stderr) == (side == 224)


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(28, 28)] * 3, 28),
        ([(96, 96)] * 3, 96),
        ([(224, 224)] * 3, 224),
        ([(512, 512)] * 3, 224),
        ([(4000, 3000)] * 3, 224),
        ([(40, 30), (50, 64), (64, 64)], 50),
        ([(30, 40), (33, 33), (300, 200)], 33),
        ([(100, 120), (90, 90), (110, 100)], 224),
        ([(640, 480), (480, 640), (500, 375)], 224),
        ([], 224),
    ],
)
def test_the_size_that_suits_the_files(sizes: list[tuple[int, int]], side: int) -> None:
    assert fitting_side(sizes) == side


def test_small_pictures_keep_their_size_and_are_shifted(tmp_path: Path) -> None:
    data = load_data(str(folder(tmp_path / "icons")))
    assert (data.shape, data.augmentation) == ((16, 16, 3), FLAT)
    assert load_data(str(tmp_path / "icons"), image_size=32).shape == (32, 32, 3)
    # As a run recorded that was trained before sizes were chosen.
    assert load_data(str(tmp_path / "icons"), decoded_size=224).shape == (224, 224, 3)
    photographs = load_data(str(folder(tmp_path / "photographs", each=4, size=(320, 300))))
    assert (photographs.shape, photographs.augmentation) == ((224, 224, 3), Augmentation(flip=True, resized_crop=True))


def test_the_summary_names_classes_counts_sizes_and_what_is_amiss(tmp_path: Path) -> None:
    files = folder(tmp_path / "icons", classes=2)
    save_noise(files / "class-1" / "10.png", 0, (20, 18))
    save_noise(files / "rare" / "00.png", 1000, (16, 16))
    save_noise(files / "rare" / "01.png", 1001, (16, 16))
    assert summary(load_checked(str(files))).splitlines() == [
        "3 classes, images of 16x16 pixels, 3 channels, from files of 2 sizes, shorter side 16 to 18",
        "class     train  validation  test",
        "class-0       7           1     2",
        "class-1       8           1     2",
        "rare          1           0     1",
        "together     16           2     5",
        "note: no validation images of rare: too few images to be divided, so validation figures leave them out",
    ]


def test_the_summary_names_copies_of_training_images(tmp_path: Path) -> None:
    """Equal bytes and not equal sizes or ends; a carved part is looked at like a published one."""
    for part, each in (("train", 6), ("val", 2), ("test", 3)):
        for name in ("class-0", "class-1"):
            for index in range(each):
                path = tmp_path / "shared" / part / name / f"{index}.bmp"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.zeros((16, 16, 3), np.uint8)
                # All have one size, and the first rows, which are black, come last in the file.
                pixels[4:] = np.random.default_rng([len(part), int(name[-1]), index]).integers(0, 256, (12, 16, 3))
                Image.fromarray(pixels).save(path)
    train, test = tmp_path / "shared" / "train" / "class-0", tmp_path / "shared" / "test" / "class-1"
    assert "copies" not in summary(load_checked(str(tmp_path / "shared")))
    shutil.copy(train / "4.bmp", test / "1.bmp")
    copied = load_checked(str(tmp_path / "shared"))
    assert copied.files is not None
    assert copied.files.copies == {"validation": {}, "test": {test / "1.bmp": train / "4.bmp"}}
    assert summary(copied).splitlines()[-1] == (
        f"note: 1 of 6 test images are byte-for-byte copies of training images, for example {test / '1.bmp'} of "
        f"{train / '4.bmp'}: what was trained on shows in test figures; take the copies away"
    )
    whole = folder(tmp_path / "whole", classes=2)
    for copy in range(10, 30):
        shutil.copy(whole / "class-0" / "00.png", whole / "class-0" / f"{copy}.png")
    assert "test images are byte-for-byte copies of training images" in summary(load_checked(str(whole)))


def test_numbered_folders_are_measured_alike_as_folders_and_as_arrays(tmp_path: Path, monkeypatch) -> None:
    """Folders 0 to 10 are the classes 0, 1, 10, 2 and so on; labels 0 to 10 without names are these numbers."""
    monkeypatch.chdir(tmp_path)
    pixels, labels = [], []
    for label in range(11):
        for index in range(8):
            colour = np.random.default_rng(label).integers(0, 240, 3) + index
            picture = np.full((8, 8, 3), colour, np.uint8)
            file = tmp_path / "numbers" / str(label) / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)
            pixels.append(picture)
            labels.append(label)
    np.savez(tmp_path / "numbers.npz", images=np.array(pixels), labels=np.array(labels))
    run("train --data numbers --arch cresnet8-4 --subspace standard --epochs 12 --batch-size 4 --learning-rate 0.05")
    for data in ("numbers", "numbers.npz"):
        run(f"evaluate --data {data} --json {data}.json")
    folders, arrays = (json.loads(Path(f"{data}.json").read_text())["points"] for data in ("numbers", "numbers.npz"))
    assert folders[0]["metrics"]["accuracy"] > 0.4
    for first, second in zip(folders, arrays, strict=True):
        assert second["metrics"] == pytest.approx(first["metrics"])


def test_a_folder_with_one_image_a_class_leaves_nothing_to_test_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class with two images"):
        load_data(str(folder(tmp_path / "few", each=1)))


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """A folder with three parts, in which every part has files that cannot be read."""
    root = tmp_path / "spoilt"
    for part, each in (("train", 12), ("val", 4), ("test", 4)):
        folder(root / part, each=each)
    for number in range(10):
        (root / "train" / "class-1" / f"bad-{number}.png").write_bytes(b"no picture")
    whole = (root / "val" / "class-0" / "00.png").read_bytes()
    (root / "val" / "class-0" / "00.png").write_bytes(whole[: len(whole) // 2])
    (root / "test" / "class-2" / "empty.jpg").touch()
    return root


def test_files_that_cannot_be_read_are_named_before_the_first_step(spoilt: Path, tmp_path: Path) -> None:
    done = command("train --data spoilt --epochs 1", tmp_path)
    assert done.returncode == 1
    assert "Error: 12 of 71 image files of spoilt cannot be read:" in done.stderr
    assert done.stderr.count("bad-") + done.stderr.count("00.png") + done.stderr.count("empty.jpg") == 10
    assert "bad-0.png (not an image)" in done.stderr
    assert "and 2 more\n" in done.stderr
    assert "--skip-unreadable" in done.stderr
    assert "Traceback" not in done.stderr
    assert "epoch" not in done.stdout
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []


def test_skipped_files_are_recorded_and_left_out_ever_after(
    spoilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = completed("train --data spoilt --arch cresnet8-4 --epochs 1 --skip-unreadable").output
    assert "note: 12 files that cannot be read are left out: train/class-1/bad-0.png" in said
    left_out = load_subspace(tmp_path / "runs" / "latest").provenance["data"]["left_out"]
    assert {part: len(files) for part, files in left_out.items()} == {"train": 10, "validation": 1, "test": 1}
    assert left_out["validation"] == ["class-0/00.png"]
    assert "12 images of test" in run("evaluate --points 2")
    for file in spoilt.rglob("bad-*.png"):  # to take them away changes nothing
        file.unlink()
    assert "11 images of validation" in run("evaluate --points 2 --data validation")


def test_a_stopped_run_says_how_to_go_on(tmp_path: Path) -> None:
    folder(tmp_path / "icons")
    words = "train --data icons --arch cresnet8-4 --epochs 100000 --out runs/long"
    process = subprocess.Popen(
        [*COMMAND, *words.split()], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("epoch   1 ")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert re.search(r"stopped; \d+ finished epochs are kept: go on with .* train --resume runs/long$", said.strip())
    assert "Traceback" not in said


def test_a_run_that_is_stopped_at_once_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def interrupted(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.training.Stepper.step", interrupted)
    status, message = fails(DIGITS)
    assert status == 130
    assert "stopped before the first epoch was finished: nothing is kept" in message


def test_a_half_trained_run_is_used_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from trainer.training import Stepper

    step, steps = Stepper.step, []

    def stopping(self, *arguments):
        steps.append(1)
        if len(steps) > 5:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr("trainer.training.Stepper.step", stopping)
        invoke(f"{DIGITS} --epochs 3 --batch-size 256")
    name = Path("runs/latest").resolve().name
    note = f"note: runs/{name} was trained for 1 of 3 epochs; go on with subspace-serve train --resume runs/{name}"
    assert note in completed("evaluate --points 2").output
    assert note in completed("export --alpha midpoint --no-evaluate").output
    assert "1 of 3" in run("inspect")
    manifest = json.loads(Path("runs/latest/bundle/manifest.json").read_text())
    assert manifest["source"]["unfinished"] == {"finished_epochs": 1, "planned_epochs": 3}
    assert Bundle.open("runs/latest/bundle").manifest.source.unfinished is not None
    assert "epoch   3" in run("train --resume runs/latest")
    assert "note:" not in completed("export --alpha midpoint --no-evaluate").output
    assert "unfinished" not in json.loads(Path("runs/latest/bundle/manifest.json").read_text())["source"]


def test_a_network_of_ones_own_is_told_how_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_first_hour.py").write_text(
        "from torch import nn\n"
        "def wrong(classes): return nn.Linear(1, classes)\n"
        "def right(*, classes, channels, height, width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))\n"
    )
    wrong = invoke("train --arch own_first_hour:wrong --epochs 1 --out runs/w")
    assert "it is called as (*, classes, channels, height, width)" in str(wrong.exception)
    said = completed("train --arch own_first_hour:right --epochs 1 --out runs/r").output
    assert "collapse needs your network again: --arch own_first_hour:right" in said
    assert "(*, classes," in run("train --help")
    refused = invoke("collapse")
    assert "--arch own_first_hour:right" in str(refused.exception)
    run("evaluate --points 2")
    for trust, reference in (("", "training"), (" --arch own_first_hour:right", None)):
        run("export --alpha midpoint" + trust)
        assert Bundle.open("runs/latest/bundle").points["midpoint"].parity.reference == reference
