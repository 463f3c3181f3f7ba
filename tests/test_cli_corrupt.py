"""The command `corrupt`: what it writes, how it is read back, and how it fails."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, refusal, run
from folder_contents import contents
from PIL import Image

from subspace_serve.data import (
    CorruptedImages,
    MemoryImages,
    corrupted_copy,
    corruptions_in,
    decoding,
    load_data,
    load_images,
    write_corrupted_copy,
)
from subspace_serve.data.corruptions import CORRUPTIONS, corrupt
from subspace_serve.data.sources.copy_record import read_record
from subspace_serve.errors import DataError

DIGITS = [str(digit) for digit in range(10)]


def read(spec: str, **options) -> MemoryImages:
    images = load_images(spec, height=8, width=8, channels=1, label_names=DIGITS, **options)
    return MemoryImages(*images.take(np.arange(len(images))))


def test_what_is_written_is_read_back_as_corrupted_test_images(tmp_path):
    printed = run(f"corrupt --corruption fog,gaussian_noise --corruption brightness --seed 4 --out {tmp_path}/copy")
    assert "3 type(s) of corruption at severity 1, 2, 3, 4, 5 of 360 test images of digits, 0.3 MB" in printed
    assert f"use it with --data corrupted:{tmp_path}/copy:gaussian_noise:5" in printed
    assert sorted(contents(tmp_path / "copy")) == sorted(
        ["brightness.npy", "corruptions.json", "fog.npy", "gaussian_noise.npy", "labels.npy"]
    )
    test = load_data("digits").test
    plain, labels = test.take(np.arange(360))
    for name, severity in (("fog", 1), ("gaussian_noise", 5), ("brightness", 3)):
        images = read(f"corrupted:{tmp_path}/copy:{name}:{severity}")
        assert np.array_equal(images.pixels, corrupt(plain, name, severity, seed=4))
        assert np.array_equal(images.labels, labels)
    with pytest.raises(DataError, match="no training images"):
        load_data(f"corrupted:{tmp_path}/copy:fog:1")


def test_the_layout_is_that_of_cifar10_c(tmp_path):
    run(f"corrupt --corruption fog --out {tmp_path}/copy")
    pixels, labels = np.load(tmp_path / "copy" / "fog.npy"), np.load(tmp_path / "copy" / "labels.npy")
    assert (pixels.dtype, pixels.shape, labels.dtype, labels.shape) == (np.uint8, (1800, 8, 8, 1), np.uint8, (1800,))
    plain, expected = load_data("digits").test.take(np.arange(360))
    assert labels.tolist() == expected.tolist() * 5
    for severity in range(1, 6):
        rows = pixels[(severity - 1) * 360 : severity * 360]
        assert np.array_equal(rows, corrupt(plain, "fog", severity))


def test_the_record_says_how_the_copy_was_made(tmp_path):
    printed = run(f"corrupt --corruption snow,fog --severity 4 --severity 2 --seed 3 --out {tmp_path}/copy --json -")
    document = json.loads((tmp_path / "copy" / "corruptions.json").read_text())
    assert document == {
        "format": "subspace-serve corruptions",
        "version": 1,
        "data": "digits",
        "split": "test",
        "fingerprint": load_data("digits").test.fingerprint(),
        "label_names": DIGITS,
        "count": 360,
        "shape": [8, 8, 1],
        "preset": "cifar",
        "seed": 3,
        "severities": [2, 4],
        "corruptions": ["snow", "fog"],
        "created_by": document["created_by"],
    }
    size = sum(map(len, contents(tmp_path / "copy").values()))
    assert json.loads(printed) == {"out": f"{tmp_path}/copy", "bytes": size, "left_out": {}, **document}


def test_fewer_severities_are_found_where_the_record_says(tmp_path):
    run(f"corrupt --corruption fog --severity 4 --severity 2 --out {tmp_path}/copy")
    assert np.load(tmp_path / "copy" / "fog.npy").shape == (720, 8, 8, 1)
    assert corruptions_in(f"corrupted:{tmp_path}/copy") == {"fog": (2, 4)}
    plain, _ = load_data("digits").test.take(np.arange(360))
    for severity in (2, 4):
        images = read(f"corrupted:{tmp_path}/copy:fog:{severity}")
        assert np.array_equal(images.pixels, corrupt(plain, "fog", severity))
    with pytest.raises(DataError, match="has the severities 2, 4; there is no severity '3'"):
        read(f"corrupted:{tmp_path}/copy:fog:3")


def test_parts_sizes_and_presets_are_those_asked_for(tmp_path):
    run(
        f"corrupt --corruption contrast --severity 1 --split validation --validation 0.2 --data-seed 5 --image-size 16 "
        f"--preset imagenet --out {tmp_path}/copy"
    )
    data = load_data("digits", validation=0.2, seed=5, image_size=16)
    images = load_images(f"corrupted:{tmp_path}/copy:contrast:1", height=16, width=16, channels=1, label_names=DIGITS)
    expected = CorruptedImages(data.validation, "contrast", 1, preset="imagenet")
    everything = np.arange(len(data.validation))
    assert len(images) == 287
    assert all(map(np.array_equal, images.take(everything), expected.take(everything)))


def test_all_are_written_by_default_and_frost_left_out_aloud_without_its_photographs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in ("subspace_serve.data.corruptions.corrupt", "subspace_serve.data.corruptions.photographs"):
        monkeypatch.setattr(importlib.import_module(module), "frost_photographs", lambda: ())
    printed = run("corrupt --severity 1")
    assert "left out: the corruption frost needs photographs" in printed
    assert list(corruptions_in("corrupted:data/digits-c")) == sorted(set(CORRUPTIONS) - {"frost"})
    assert "frost needs photographs of frost; found none" in refusal("corrupt --corruption frost --out other")
    assert "frost needs photographs of frost; found none" in refusal("corrupt --corruption all,frost --out other")
    assert not Path("other").exists()


def test_folders_of_images_are_decoded_once_and_streamed(tmp_path, monkeypatch):
    for label, name in enumerate(("eel", "fox")):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for index in range(5):
            Image.new("RGB", (12, 10), (40 * label, 10 * index, 0)).save(tmp_path / "animals" / name / f"{index}.png")
    decoded = []
    plainly = decoding._opened
    monkeypatch.setattr(decoding, "_opened", lambda path, *wanted: decoded.append(path.name) or plainly(path, *wanted))
    monkeypatch.setattr(corrupted_copy, "_BATCH_BYTES", 3 * 16 * 16 * 3)
    run(
        f"corrupt --data {tmp_path}/animals --split train --validation 0 --image-size 16 --corruption fog,brightness "
        f"--out {tmp_path}/copy"
    )
    # Of ten images two are carved out to test.
    assert len(decoded) == 8
    train = load_data(f"{tmp_path}/animals", validation=0, image_size=16).train
    images = load_images(
        f"corrupted:{tmp_path}/copy:fog:5", height=16, width=16, channels=3, label_names=["eel", "fox"]
    )
    everything = np.arange(8)
    assert np.array_equal(images.take(everything)[0], CorruptedImages(train, "fog", 5).take(everything)[0])
    assert np.array_equal(images.labels, train.labels)


def test_labels_are_wide_enough_for_many_classes(tmp_path):
    for classes, dtype in ((256, np.uint8), (257, np.int64)):
        images = MemoryImages(np.zeros((3, 8, 8, 1), np.uint8), np.array([0, 1, classes - 1]))
        write_corrupted_copy(
            images,
            tmp_path / str(classes),
            corruptions=["brightness"],
            severities=[1, 2],
            label_names=[str(number) for number in range(classes)],
            data="many",
            split="test",
        )
        labels = np.load(tmp_path / str(classes) / "labels.npy")
        assert (labels.dtype, labels.tolist()) == (dtype, [0, 1, classes - 1] * 2)


def test_a_copy_of_images_whose_path_is_no_text_in_utf_8_is_recorded(tmp_path):
    data = f"folder:/data/{os.fsdecode(bytes([0xE9]))}"
    images = MemoryImages(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2))
    record = write_corrupted_copy(
        images, tmp_path / "copy", corruptions=["fog"], label_names=["a", "b"], data=data, split="test"
    )
    assert record.data == read_record(tmp_path / "copy").data == data


def test_an_earlier_copy_is_replaced_and_anything_else_refused(tmp_path):
    run(f"corrupt --corruption fog,snow --severity 1 --out {tmp_path}/copy")
    run(f"corrupt --corruption fog --severity 2 --out {tmp_path}/copy")
    assert sorted(contents(tmp_path / "copy")) == ["corruptions.json", "fog.npy", "labels.npy"]
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    assert "found notes.txt; choose another folder" in refusal(f"corrupt --corruption fog --out {tmp_path}/copy")
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "fog.npy", np.zeros(3))
    assert "no corrupted copy that could be replaced; found fog.npy" in refusal(f"corrupt --out {tmp_path}/arrays")
    (tmp_path / "file").write_text("mine")
    assert "found a file at" in refusal(f"corrupt --out {tmp_path}/file")
    (tmp_path / "empty").mkdir()
    run(f"corrupt --corruption fog --severity 1 --out {tmp_path}/empty")
    assert (tmp_path / "file").read_text() == (tmp_path / "copy" / "notes.txt").read_text() == "mine"


def test_a_copy_of_other_images_is_never_replaced(tmp_path):
    fog = f"corrupt --corruption fog --severity 1 --out {tmp_path}/copy"
    run(fog)
    before = contents(tmp_path / "copy")
    message = refusal(f"{fog} --split validation")
    assert "other images, which would be lost: 360 test images of digits; choose another folder" in message
    np.save(tmp_path / "copy" / "mine.npy", np.zeros(3))
    assert "found mine.npy; choose another folder" in refusal(fog)
    (tmp_path / "copy" / "mine.npy").unlink()
    assert contents(tmp_path / "copy") == before
    # Another division has other validation images.
    validation = f"corrupt --corruption fog --severity 1 --split validation --out {tmp_path}/validation"
    run(validation)
    assert "144 validation images of digits; choose another folder" in refusal(f"{validation} --data-seed 1")
    run(f"{validation} --severity 2")
    (tmp_path / "copy" / "corruptions.json").write_text("{")
    assert "no corrupted copy that could be replaced; found corruptions.json, fog.npy, labels.npy" in refusal(fog)


def test_copies_of_different_images_have_different_places_by_default(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    for name in ("first", "second"):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(20) % 2)
    for label in ("eel", "fox"):
        (tmp_path / "animals" / label).mkdir(parents=True)
        for index in range(5):
            Image.new("L", (8, 8), 9 * index).save(tmp_path / "animals" / label / f"{index}.png")

    def place_of(arguments: str) -> str:
        return json.loads(run(f"corrupt {arguments} --corruption contrast --severity 1 --json -"))["out"]

    assert place_of("--data digits") == place_of("--data digits --split test") == "data/digits-c"
    assert place_of("--data digits --split validation") == "data/digits-validation-c"
    assert place_of("--data ../first.npz") == "data/first-c"
    assert place_of("--data npz:../second.npz --split train") == "data/second-train-c"
    assert place_of("--data folder:../animals") == "data/animals-c"
    assert place_of("--data folder:../animals/../animals/ --split train") == "data/animals-train-c"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_copy_that_cannot_be_finished_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch, error):
    run(f"corrupt --corruption fog --severity 1 --out {tmp_path}/copy")
    before = contents(tmp_path / "copy")
    made = []
    change = CorruptedImages.change

    def change_twice(self, pixels):
        made.append(self.severity)
        if len(made) > 2:
            raise error
        return change(self, pixels)

    monkeypatch.setattr(CorruptedImages, "change", change_twice)
    for place in ("copy", "new"):
        made.clear()
        assert invoke(f"corrupt --corruption snow --out {tmp_path}/{place}").exit_code == 1
        assert made == [1, 2, 3]
    assert contents(tmp_path / "copy") == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["copy"]


def test_a_copy_that_the_disk_cannot_hold_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(corrupted_copy.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100_000}))
    message = refusal(f"corrupt --corruption fog --out {tmp_path}/copy")
    assert "needs 0.1 MB; found 0.1 MB free" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--corruption fogg", "no corruption 'fogg'; did you mean fog"),
        ("--corruption fog,", "no corruption ''"),
        ("--severity 6", "integer from 1 to 5; found 6"),
        ("--data digitz", "did you mean digits"),
        ("--split validation --validation 0", "is empty"),
        ("--data digits --image-size 7", "8 pixels wide and high at least"),
    ],
)
def test_a_users_mistake_is_refused_and_nothing_written(tmp_path, arguments, message):
    assert re.search(message, refusal(f"corrupt {arguments} --out {tmp_path}/copy"))
    assert list(tmp_path.iterdir()) == []


def spoil_record(folder: Path, **change: object) -> None:
    path = folder / "corruptions.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "corruptions.json").unlink(), "is no corrupted copy: it has no corruptions.json"),
        (lambda folder: (folder / "corruptions.json").write_text("{"), "corruptions.json is not what version 1"),
        (lambda folder: (folder / "corruptions.json").write_text("[]"), "corruptions.json is not what version 1"),
        (lambda folder: spoil_record(folder, version=2), "version 2"),
        (lambda folder: spoil_record(folder, severities=["1"]), "severities"),
        (lambda folder: spoil_record(folder, severities=7), "corruptions.json is not what version 1"),
        (lambda folder: spoil_record(folder, severities=[1, 2, 3]), "should repeat the same|severities of equally"),
        (lambda folder: spoil_record(folder, corruptions=["snow", "fog"]), "there is no file .*snow.npy"),
        (lambda folder: spoil_record(folder, label_names=["a", "b"]), "has 2 classes, numbered from 0; found"),
        (lambda folder: (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:-9]), "truncated"),
    ],
)
def test_a_damaged_copy_is_refused(tmp_path, spoil, message):
    run(f"corrupt --corruption fog --severity 1 --severity 2 --out {tmp_path}/copy")
    spoil(tmp_path / "copy")
    name = "snow" if "snow" in message else "fog"
    with pytest.raises(DataError, match=message):
        read(f"corrupted:{tmp_path}/copy:{name}:1")


def test_another_networks_classes_are_refused(tmp_path):
    run(f"corrupt --corruption fog --severity 1 --out {tmp_path}/copy")
    with pytest.raises(DataError, match="has other classes than the network: 0, 1, 2"):
        load_images(f"corrupted:{tmp_path}/copy:fog:1", height=8, width=8, channels=1, label_names=list("abcdefghij"))
