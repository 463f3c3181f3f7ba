"""Folders of image files to try the commands on: `python -m benchmarks.example_folders`.

`clothes/` has Fashion-MNIST's first training images as PNG files of 28x28, one folder per class. `places/` has JPEG
files cut at random out of six photographs that scikit-image and scikit-learn ship, 240 to 400 pixels a side, one folder
per photograph: enough to try every command, but no test of accuracy, since the cuts of a photograph overlap.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from subspace_serve.cli import run

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "china.jpg", "flower.jpg")
_SMALLEST, _LARGEST = 240, 400


def write_clothes(out: Path, data: str, each: int) -> int:
    """Write the first `each` training images of each class of Fashion-MNIST; return the number of files."""
    from subspace_serve.data import load_data

    train = load_data(data)
    for label, name in enumerate(train.label_names):
        folder = out / name.replace("/", "-")
        folder.mkdir(parents=True)
        chosen = np.flatnonzero(train.train.labels == label)[:each]
        for index, pixels in enumerate(train.train.take(chosen)[0]):
            Image.fromarray(pixels[..., 0]).save(folder / f"{index:04}.png")
    return each * train.classes


def write_places(out: Path, each: int) -> int:
    """Write `each` cuts of each photograph; return the number of files."""
    import skimage
    import sklearn

    shipped = (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images")
    rng = np.random.default_rng(0)
    for name in PHOTOGRAPHS:
        with Image.open(next(folder / name for folder in shipped if (folder / name).is_file())) as opened:
            photograph = opened.convert("RGB")
        folder = out / Path(name).stem
        folder.mkdir(parents=True)
        for index in range(each):
            width, height = rng.integers(_SMALLEST, np.minimum(_LARGEST, photograph.size), endpoint=True)
            left, top = rng.integers(0, np.subtract(photograph.size, (width, height)), endpoint=True)
            cut = photograph.crop((left, top, left + width, top + height))
            cut.save(folder / f"{index:03}.jpg", quality=90)
    return each * len(PHOTOGRAPHS)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("."), show_default=True)
@click.option("--data", default="fashion-mnist", show_default=True)
@click.option("--clothes", "clothes_each", default=200, show_default=True, help="Images of each class.")
@click.option("--places", "places_each", default=40, show_default=True, help="Cuts of each photograph.")
def main(out: Path, data: str, clothes_each: int, places_each: int) -> None:
    """Write the two folders."""
    click.echo(f"{out / 'clothes'}: {write_clothes(out / 'clothes', data, clothes_each)} files")
    click.echo(f"{out / 'places'}: {write_places(out / 'places', places_each)} files")


if __name__ == "__main__":
    run(main)
