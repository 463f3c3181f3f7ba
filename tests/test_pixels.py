"""Image files to pixels: one way for training, for the service and for `predict`."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import input_of
from image_files import turned
from PIL import Image, features

from subspace_serve.bundle.images import decode_image
from subspace_serve.data import Augmentation, FolderImages, load_images
from subspace_serve.data.decoding import decoded_size
from subspace_serve.errors import DataError
from subspace_serve.pixels import prepared, random_area, resize


def scene(width: int, height: int, channels: int = 3) -> Image.Image:
    """A picture with smooth parts and edges, nowhere symmetric."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    k = np.arange(channels)
    waves = 1 + np.sin(9 * x[..., None] * (k + 1) + 5 * y[..., None] ** 2)
    edges = 0.4 + 0.6 * (x[..., None] > 0.3 + 0.2 * k)
    pixels = (127 * waves * edges).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def write_jpegs(folder: Path) -> None:
    scene(300, 200).save(folder / "photograph.jpg", quality=90)
    for orientation in range(1, 9):
        scene(300, 200).save(folder / f"turned {orientation}.jpg", exif=turned(orientation))
    scene(300, 200).save(folder / "two.jpg", "MPO", save_all=True, append_images=[scene(30, 20)], exif=turned(6))
    scene(300, 200).convert("CMYK").save(folder / "cmyk.jpg")
    scene(200, 333, 1).save(folder / "grey.jpg")


def write_pngs(folder: Path) -> None:
    deep = (np.asarray(scene(220, 180, 1)).astype(np.uint16) * 257 + 99).clip(0, 65535).astype(np.uint16)
    Image.fromarray(deep).save(folder / "16 bits.png")
    Image.fromarray(deep).save(folder / "16 bits turned.png", exif=turned(6))
    scene(150, 140).quantize(9).save(folder / "palette.png", transparency=2)
    scene(150, 140).quantize(9).save(folder / "palette.gif")
    alpha = scene(150, 140)
    alpha.putalpha(scene(150, 140, 1))
    alpha.save(folder / "alpha.png")
    scene(140, 140).convert("LA").save(folder / "grey and alpha.png")
    scene(140, 140).convert("1").save(folder / "black and white.png")


def write_shapes(folder: Path) -> None:
    for width, height in ((64, 64), (65, 63), (1000, 30), (31, 700), (128, 128), (224, 224), (256, 256), (1, 1)):
        scene(width, height).save(folder / f"{width}x{height}.png")
    scene(120, 70).save(folder / "picture.bmp")
    scene(120, 70).save(folder / "picture.tif", exif=turned(6))
    if features.check("webp"):
        scene(120, 70).save(folder / "picture.webp", lossless=True)


@pytest.mark.parametrize("write", [write_jpegs, write_pngs, write_shapes])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 64, 128, 224])
def test_training_sees_the_pixels_that_the_service_sees(tmp_path, write, channels, side):
    write(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    trained, _ = FolderImages(tmp_path, names, np.arange(len(names)), size=side, channels=channels).take(
        np.arange(len(names))
    )
    input = input_of(side, side, channels)
    for name, pixels in zip(names, trained, strict=True):
        np.testing.assert_array_equal(decode_image((tmp_path / name).read_bytes(), input), pixels, err_msg=name)


def test_an_orientation_turns_the_picture_and_its_size(tmp_path):
    write_jpegs(tmp_path)
    plain = np.asarray(Image.open(tmp_path / "turned 1.jpg"))
    views = {1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1]}
    views |= {5: views[1].swapaxes(0, 1), 6: views[4].swapaxes(0, 1)}
    views |= {7: views[3].swapaxes(0, 1), 8: views[2].swapaxes(0, 1)}
    for orientation, expected in views.items():
        path = tmp_path / f"turned {orientation}.jpg"
        np.testing.assert_array_equal(np.asarray(prepared(Image.open(path), 3)), expected)
        assert decoded_size(path) == expected.shape[1::-1]


def test_a_damaged_note_of_the_camera_leaves_the_picture_as_it_lies(tmp_path):
    scene(30, 20).save(tmp_path / "damaged.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04nonsense")
    assert prepared(Image.open(tmp_path / "damaged.jpg"), 3).size == (30, 20)


def test_a_picture_of_the_wanted_size_is_taken_as_it_is(tmp_path):
    scene(224, 224).save(tmp_path / "whole.png")
    pixels, _ = FolderImages(tmp_path, ["whole.png"], np.array([0]), size=224).take(np.array([0]))
    np.testing.assert_array_equal(pixels[0], np.asarray(scene(224, 224)))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_known_range_are_refused_by_name(tmp_path, mode):
    scene(30, 20, 1).convert(mode).save(tmp_path / "numbers.tif")
    message = f"an image has pixels of mode {mode}, .* without a known range; save it with 8 or 16 bits"
    with pytest.raises(DataError, match=message):
        prepared(Image.open(tmp_path / "numbers.tif"), 3)
    assert f"mode {mode}" in decoded_size(tmp_path / "numbers.tif")
    input = input_of(8, 8, 1)
    with pytest.raises(DataError, match=message):
        decode_image((tmp_path / "numbers.tif").read_bytes(), input)


def test_portable_maps_of_sixteen_bits_are_scaled(tmp_path):
    (tmp_path / "map.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0x80, 0x80, 0xFF, 0xFF]))
    assert np.asarray(prepared(Image.open(tmp_path / "map.pgm"), 1)).tolist() == [[128, 255]]


def grey_tiff(values: list[int], bits: int, *, white_is_zero: bool) -> bytes:
    """A TIFF file of one row of grey values of 12 or 16 bits."""
    if bits == 12:
        number = sum(value << (12 * place) for place, value in enumerate(reversed(values)))
        row = number.to_bytes(len(values) * 12 // 8, "big")
    else:
        row = np.array(values, "<u2").tobytes()
    tags = {256: len(values), 257: 1, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 8, 277: 1, 278: 1}
    tags[279] = len(row)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(row)) + row + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("bits", "white_is_zero", "values"),
    [
        (12, False, [0, 2048, 4095, 1024]),
        (16, False, [0, 32896, 65535, 16448]),
        (16, True, [0, 32896, 65535, 16448]),
    ],
)
def test_deep_tiff_files_are_scaled_by_their_own_white(tmp_path, bits, values, white_is_zero):
    (tmp_path / "deep.tif").write_bytes(grey_tiff(values, bits, white_is_zero=white_is_zero))
    expected = [255, 127, 0, 191] if white_is_zero else [0, 128, 255, 64]
    assert np.asarray(prepared(Image.open(tmp_path / "deep.tif"), 1)).tolist() == [expected]
    input = input_of(1, 4, 1)
    assert decode_image((tmp_path / "deep.tif").read_bytes(), input).ravel().tolist() == expected


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "I;16", "I;16B", "RGB"])
def test_tiff_files_are_turned_once_from_disk_and_from_bytes(tmp_path, mode, orientation):
    """Uncompressed ones, which Pillow would map into memory, as they lie, when it is given their path."""
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    if mode.startswith("I"):
        data = (grey.astype(np.uint16) * 257).astype(">u2" if mode == "I;16B" else "<u2").tobytes()
        picture = Image.frombytes(mode, (8, 8), data)
    else:
        picture = Image.fromarray(grey).convert(mode)
    picture = picture.crop((0, 0, 8, 4))
    picture.save(tmp_path / "a.tif", exif=turned(orientation))
    views = {1: grey[:4], 2: grey[:4, ::-1], 3: grey[3::-1, ::-1], 4: grey[3::-1]}
    views |= {5: views[1].T, 6: views[4].T, 7: views[3].T, 8: views[2].T}
    Image.fromarray(views[orientation]).save(tmp_path / "expected.png")
    files = FolderImages(tmp_path, ["a.tif", "expected.png"], np.array([0, 1]), size=4, channels=1)
    (found, expected), _ = files.take(np.arange(2))
    np.testing.assert_array_equal(found, expected)
    input = input_of(4, 4, 1)
    np.testing.assert_array_equal(decode_image((tmp_path / "a.tif").read_bytes(), input), expected)


def test_random_areas_are_uniform_in_size_and_log_uniform_in_ratio():
    generator = np.random.default_rng(0)
    boxes = np.array([random_area(400, 600, generator) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= 600
    assert bottom.max() <= 400
    wide, tall = right - left, bottom - top
    share = wide * tall / (400 * 600)
    ratio = np.log(wide / tall)
    assert 0.078 < share.min() < 0.09
    assert ratio.min() == pytest.approx(math.log(3 / 4), abs=0.02)
    assert ratio.max() == pytest.approx(math.log(4 / 3), abs=0.02)
    # The largest areas do not fit into this picture and are drawn again, so sizes are uniform below them.
    counts, _ = np.histogram(share, bins=5, range=(0.08, 0.58))
    assert counts.min() > 0.85 * counts.max()
    counts, _ = np.histogram(ratio[share < 0.5], bins=4)
    assert counts.min() > 0.85 * counts.max()


def test_random_areas_of_long_pictures_are_their_middles():
    generator = np.random.default_rng(0)
    assert random_area(10, 1000, generator) == (493, 0, 506, 10)
    assert random_area(1000, 10, generator) == (0, 493, 10, 506)


def test_random_areas_are_cut_where_they_are_drawn(tmp_path):
    picture = scene(90, 70)
    picture.save(tmp_path / "a.png")
    files = FolderImages(tmp_path, ["a.png"], np.array([0]), size=16)
    crop = Augmentation(resized_crop=True)
    ((pixels, _),) = files.batches(1, generator=np.random.default_rng(4), augmentation=crop)
    seed = int(np.random.default_rng(4).integers(2**62, size=1)[0])
    box = random_area(70, 90, np.random.default_rng(seed))
    expected = picture.resize((16, 16), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_array_equal(pixels[0], np.asarray(expected))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_are_resized_a_channel_at_a_time(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7, channels), dtype=np.uint8)
    resized = resize(pixels, 5, 12)
    assert resized.shape == (3, 5, 12, channels)
    tall = 7 * 5 / 12  # of the nine rows, so many have the proportions wanted
    middle = (0, (9 - tall) / 2, 7, (9 + tall) / 2)
    for image, original in zip(resized, pixels, strict=True):
        for channel in range(channels):
            plane = Image.fromarray(original[..., channel]).resize((12, 5), Image.Resampling.BILINEAR, box=middle)
            np.testing.assert_array_equal(image[..., channel], np.asarray(plane))


@pytest.mark.parametrize(("side", "wanted"), [(28, 14), (8, 12), (33, 32), (300, 150)])
def test_arrays_of_the_same_proportions_are_resized_whole(side, wanted):
    pixels = np.stack([np.asarray(scene(side, side)), np.asarray(scene(side, side).rotate(90))])
    for image, original in zip(resize(pixels, wanted, wanted), pixels, strict=True):
        plain = Image.fromarray(original).resize((wanted, wanted), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(image, np.asarray(plain))


@pytest.mark.parametrize(("height", "width"), [(16, 32), (32, 16), (32, 32)])
def test_evaluation_makes_the_pixels_that_are_served_whatever_the_proportions(tmp_path, height, width):
    pictures = [scene(80, 40), scene(50, 70)]
    for index, picture in enumerate(pictures):
        (tmp_path / "folder" / f"{index}").mkdir(parents=True)
        picture.save(tmp_path / "folder" / f"{index}" / "a.png")
        np.savez(tmp_path / f"{index}.npz", images=np.asarray(picture)[np.newaxis], labels=[index])
    input = input_of(height, width)
    wanted = {"height": height, "width": width, "channels": 3, "label_names": ["0", "1"]}
    files = load_images(str(tmp_path / "folder"), **wanted).take(np.arange(2))[0]
    for index, file in enumerate(files):
        served = decode_image((tmp_path / "folder" / f"{index}" / "a.png").read_bytes(), input)
        np.testing.assert_array_equal(file, served)
        array = load_images(str(tmp_path / f"{index}.npz"), **wanted, resize=True).take(np.arange(1))[0]
        np.testing.assert_array_equal(array[0], served)
