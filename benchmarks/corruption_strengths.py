"""Strength of the corruptions beside the code that made CIFAR-10-C and Tiny-ImageNet-C.

`python -m benchmarks.corruption_strengths --original CLONE` runs the functions of a clone of hendrycks/robustness
on real images and this package on the same ones, and writes the mean absolute change in grey levels of both, for
every corruption, severity and preset; and, where both can be given the same random draws, how far apart single
images are. The clone's scripts build whole data sets on import and use interfaces that
NumPy, SciPy and scikit-image have since removed, so only their functions are taken, and the removed names given back.

Needs scikit-image, Wand and ImageMagick; without Wand, motion blur and snow are left out.
"""

from __future__ import annotations

import ast
import ctypes
import gzip
import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import cv2
import numpy as np
import scipy.ndimage
from PIL import Image

from benchmarks.corruption_replay import differences
from subspace_serve.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt

SCRIPTS = {"cifar": "make_cifar_c.py", "tiny": "make_tinyimagenet_c.py"}
SIDES = {"cifar": 32, "tiny": 64}
NEED_WAND = ("motion_blur", "snow")
SEED = 0
_HELPERS = ("disk", "plasma_fractal", "clipped_zoom")
_REPLAYS = 20
_OTHER_DRAWS = ("shot_noise", "impulse_noise")
_PACKAGES = ("numpy", "scipy", "scikit-image", "opencv-python-headless", "pillow", "wand", "imagecorruptions-imaug")

Strengths = dict[str, list[float]]
"""For every corruption, the mean absolute change in grey levels at severities 1 to 5."""


def photograph_patches(side: int) -> np.ndarray:
    """Return squares of scikit-learn's two sample photographs at half their size, uint8 (N, side, side, 3).

    120 of 32 pixels or 30 of 64: a grid over both.
    """
    from sklearn.datasets import load_sample_images

    patches = []
    for photograph in load_sample_images().images:
        small = np.asarray(Image.fromarray(photograph).reduce(2))
        rows, columns = (length // side for length in small.shape[:2])
        grid = small[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
        patches.append(grid.swapaxes(1, 2).reshape(-1, side, side, 3))
    return np.concatenate(patches)


def clothes(folder: Path, side: int, count: int) -> np.ndarray:
    """Return the first test images of Fashion-MNIST as RGB, enlarged, uint8 (count, side, side, 3)."""
    content = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    grey = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)[:count]
    enlarged = [cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR) for image in grey]
    return np.repeat(np.stack(enlarged)[..., None], 3, axis=-1)


def our_strengths(images: np.ndarray, preset: str, repeats: int) -> Strengths:
    """Return the strengths of this package, over seeds 0 to `repeats` - 1."""

    def strength(name: str, severity: int) -> float:
        runs = [corrupt(images, name, severity, preset=preset, seed=SEED + run) for run in range(repeats)]
        return float(np.mean([change(images, run) for run in runs]))

    return {name: [strength(name, severity) for severity in SEVERITIES] for name in CORRUPTIONS}


def original_strengths(functions: Mapping[str, Callable], images: np.ndarray, repeats: int) -> Strengths:
    """Return the strengths of the original code, each image corrupted `repeats` times."""
    strengths: Strengths = {}
    for name, function in functions.items():
        strengths[name] = []
        for severity in SEVERITIES:
            # The original draws from NumPy's global generator; `random_noise` was given the same above.
            np.random.seed(SEED)
            runs = [
                [np.asarray(function(Image.fromarray(image), severity)).astype(np.uint8) for image in images]
                for _ in range(repeats)
            ]
            strengths[name].append(float(np.mean([change(images, np.stack(run)) for run in runs])))
        click.echo(f"{name}: {', '.join(f'{value:.2f}' for value in strengths[name])}", err=True)
    return strengths


def change(images: np.ndarray, corrupted: np.ndarray) -> float:
    """Return the mean absolute change in grey levels."""
    return float(np.abs(images.astype(np.int16) - corrupted).mean())


def original_functions(script: Path) -> dict[str, Callable]:
    """Return the corruptions that a script of the original defines, those that can run here."""
    kept = [node for node in ast.parse(script.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    names = _namespace()
    if "WandImage" not in names:
        kept = [node for node in kept if node.name not in ("MotionImage", *NEED_WAND)]
    kept = [node for node in kept if node.name in ("MotionImage", *CORRUPTIONS) or node.name in _HELPERS]
    exec(compile(ast.Module([*kept], type_ignores=[]), str(script), "exec"), names)
    return {name: names[name] for name in CORRUPTIONS if name in names}


def _namespace() -> dict[str, Any]:
    """Return what the original imports, with the names that were removed since."""
    import skimage
    import skimage.color
    import skimage.filters
    import skimage.util

    def gaussian(image: np.ndarray, sigma: float, multichannel: bool = False, **options: Any) -> np.ndarray:
        return skimage.filters.gaussian(image, sigma, channel_axis=-1 if multichannel else None, **options)

    def random_noise(image: np.ndarray, **options: Any) -> np.ndarray:
        return skimage.util.random_noise(image, rng=np.random.randint(2**31), **options)

    numpy_then = SimpleNamespace(**{name: getattr(np, name) for name in dir(np) if not name.startswith("_")})
    numpy_then.float_ = np.float64
    numpy_then.fromstring = np.frombuffer
    names = {
        "np": numpy_then,
        "sk": SimpleNamespace(color=skimage.color, util=SimpleNamespace(random_noise=random_noise)),
        "gaussian": gaussian,
        "BytesIO": BytesIO,
        "PILImage": Image,
        "cv2": cv2,
        "scizoom": scipy.ndimage.zoom,
        "map_coordinates": scipy.ndimage.map_coordinates,
        "ctypes": ctypes,
    }
    try:
        from wand.api import library
        from wand.image import Image as WandImage
    except ImportError:
        return names
    library.MagickMotionBlurImage.argtypes = (ctypes.c_void_p, ctypes.c_double, ctypes.c_double, ctypes.c_double)
    return names | {"wandlibrary": library, "WandImage": WandImage}


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    """The original reads its photographs of frost from the working directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def compare(original: Path, fashion_mnist: Path | None, count: int, repeats: int) -> dict[str, Any]:
    """Return the strengths of both, for the presets of 32 and 64 pixels, on photographs and on clothes."""
    folder = original / "ImageNet-C" / "create_c"
    strengths: dict[str, Any] = {}
    for preset, script in SCRIPTS.items():
        functions = original_functions(folder / script)
        sets = {"photographs": (photograph_patches(SIDES[preset]), repeats)}
        if fashion_mnist is not None:
            sets["clothes"] = (clothes(fashion_mnist, SIDES[preset], count), 1)
        strengths[preset] = {}
        for kind, (images, runs) in sets.items():
            click.echo(f"{preset}, {kind}, {len(images)} images, {runs} times", err=True)
            with _within(folder), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = original_strengths(functions, images, runs)
            ours = our_strengths(images, preset, runs)
            strengths[preset][kind] = {
                "images": len(images),
                "repeats": runs,
                "original": _rounded(theirs),
                "ours": _rounded(ours),
            }
    return strengths


def same_draws(original: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return how far single images are from the original's under the same random draws.

    For every preset and corruption, over the severities and the first photographs: the largest and the mean
    difference in grey levels.
    """
    folder = original / "ImageNet-C" / "create_c"
    found: dict[str, dict[str, dict[str, float]]] = {}
    for preset, script in SCRIPTS.items():
        functions = original_functions(folder / script)
        images = photograph_patches(SIDES[preset])[:_REPLAYS]
        found[preset] = {}
        for name in (name for name in CORRUPTIONS if name in functions and name not in _OTHER_DRAWS):
            with _within(folder), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                apart = [differences(functions[name], images, name, severity, preset) for severity in SEVERITIES]
            found[preset][name] = {"largest": int(np.max(apart)), "mean": round(float(np.mean(apart)), 4)}
            click.echo(f"{preset}, {name}, same draws: {found[preset][name]}", err=True)
    return found


def table(strengths: dict[str, Any]) -> str:
    """Return the ratios, ours to the original's, a line for each preset, set and corruption."""
    lines = [f"{'preset':8}{'images':13}{'corruption':20}{'ours / original at severities 1 to 5':40}original"]
    for preset, kinds in strengths.items():
        for kind, both in kinds.items():
            for name, theirs in both["original"].items():
                pairs = zip(both["ours"][name], theirs, strict=True)
                ratios = "".join(f"{ours / other:8.3f}" if other else f"{'-':>8}" for ours, other in pairs)
                values = "".join(f"{value:7.2f}" for value in theirs)
                lines.append(f"{preset:8}{kind:13}{name:20}{ratios}{values}")
    return "\n".join(lines)


def _rounded(strengths: Strengths) -> Strengths:
    return {name: [round(value, 4) for value in values] for name, values in strengths.items()}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@click.command(help=inspect.cleandoc(__doc__ or "").replace("`", ""))
@click.option("--original", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--fashion-mnist", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of it.")
@click.option("--count", default=300, show_default=True, help="Images of Fashion-MNIST.")
@click.option("--repeats", default=8, show_default=True, help="How often each photograph is corrupted.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the strengths.")
def main(original: Path, fashion_mnist: Path | None, count: int, repeats: int, json_file: Path | None) -> None:
    strengths = compare(original.resolve(), fashion_mnist, count, repeats)
    document = {
        "command": "python -m benchmarks.corruption_strengths --original CLONE"
        + (f" --fashion-mnist FOLDER --count {count}" if fashion_mnist else "")
        + f" --repeats {repeats}",
        "original": "hendrycks/robustness, ImageNet-C/create_c",
        "unit": "mean absolute change in grey levels, severities 1 to 5",
        "seed": SEED,
        "not_compared": [
            name
            for name in CORRUPTIONS
            if any(name not in kind["original"] for p in strengths.values() for kind in p.values())
        ],
        "versions": _versions(),
        "same_draws": same_draws(original.resolve()),
        "strengths": strengths,
    }
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1) + "\n")
    click.echo(table(strengths))


if __name__ == "__main__":
    main()
