"""How large a reproduction is: data, networks, lengths and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.presets import PAPER_METHOD, PRESETS


@dataclass(frozen=True)
class Panel:
    """One combination of data and network on which a figure is made.

    Attributes:
        title: as it is shown.
        settings: training settings.
    """

    title: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """The size of a reproduction.

    Attributes:
        name: as `--scale` takes it.
        panels: by the name of the paper's panel that each stands for.
        seeds: how many, from 0.
        figures: those that `all` means; every figure when empty.
        metrics: columns of the table of a figure's runs, each of one network.
        points: places along a line or curve.
        test_images: how many images are measured on, the first of a shuffled test set; None for all of them.
        corrupted_images: the same for each corruption.
        calibration: how many images BatchNorm's statistics are computed from.
        plane: networks along each side of a plane.
        plane_images: how many test images each of those is measured on.
        lengths: of training in figure 10, in multiples of a panel's epochs.
        long: of the longer training in figure 12, likewise.
        beyond_paper: whether figures 10 and 12 also show the default recipe, and figure 10 ensembles.
        label_noise: levels besides 0.
        sweep: values of dropout and of label smoothing.
        shared: fractions of the epochs that are shared before members part (figure 21).
        mixtures: networks drawn for each random mixture (figure 21).
        sizes: endpoints of the simplexes of figure 7; the last is the most in any figure.
        deep_ensemble: independent networks in the ensembles by which others are counted; 0 does not count any.
        remark: what its figures are evidence of, for the page.
    """

    name: str
    panels: dict[str, Panel]
    seeds: int = 3
    figures: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy", "ece")
    points: int = 11
    test_images: int | None = None
    corrupted_images: int | None = None
    calibration: int = 2048
    plane: int = 15
    plane_images: int = 2000
    lengths: tuple[float, ...] = (1, 2, 3)
    long: float = 3
    beyond_paper: bool = True
    label_noise: tuple[float, ...] = (0.2, 0.4, 0.8)
    sweep: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
    shared: tuple[float, ...] = (0, 0.05, 0.1, 0.25, 0.5, 0.75)
    mixtures: int = 5
    sizes: tuple[int, ...] = (2, 3, 4, 5, 6)
    deep_ensemble: int = 0
    remark: str = ""


_SMALL = PAPER_METHOD | {
    "data": "fashion-mnist",
    "image_size": 14,
    "train_images": 4000,
    "architecture": "cresnet8-8",
    "validation": 0.02,
    "batch_size": 64,
    "epochs": 10,
    "device": "cpu",
}
# With three seeds 204 runs, 20,775 epochs, of which 2,325 are part of others (`contained`). An epoch of a standard
# network or a line takes 3.0 to 4.7 s of one core, with four samples 4.7 to 5.8 s: some 17 to 22 hours of one core,
# measuring apart.
_LONG = _SMALL | {"architecture": "cresnet8-32", "epochs": 100}
_SMOKE = PAPER_METHOD | {
    "data": "digits",
    "architecture": "cresnet8-4",
    "batch_size": 128,
    "epochs": 4,
    "train_images": 512,
    "device": "cpu",
}


def _all_panels(title: str, settings: dict[str, Any]) -> dict[str, Panel]:
    """Return panels that are all one combination of data and network, in place of the paper's several."""
    return dict.fromkeys(("cifar10", "mnist", "imagenet", "imagenet-wide"), Panel(title, settings))


SCALES: dict[str, Scale] = {
    scale.name: scale
    for scale in (
        Scale(
            "smoke",
            _all_panels("digits, cresnet8-4", _SMOKE),
            seeds=2,
            points=3,
            corrupted_images=64,
            calibration=256,
            plane=3,
            plane_images=64,
            lengths=(0.5, 1),
            long=1.5,
            label_noise=(0.4,),
            sweep=(0.1,),
            shared=(0, 0.5),
            mixtures=2,
            sizes=(2, 3),
            deep_ensemble=2,
        ),
        Scale(
            "small",
            _all_panels("Fashion-MNIST, cresnet8-8", _SMALL),
            test_images=5000,
            corrupted_images=2000,
            plane=9,
            plane_images=1000,
            lengths=(0.5, 1, 2, 4),
            sweep=(0.1, 0.4),
            shared=(0, 0.1, 0.2, 0.5),
            remark="These networks are small and trained briefly; they do not fit their training images, and the\n"
            "paper's claims are about networks that do. `small` shows what the method does then, and that everything\n"
            "runs. It does not test the claims in runs as long as theirs; `long` comes closer.",
        ),
        Scale(
            "long",
            _all_panels("Fashion-MNIST, cresnet8-32", _LONG),
            figures=("4", "5", "6", "7", "8", "10", "12", "13", "17"),
            metrics=("accuracy", "ece", "nll", "brier"),
            test_images=5000,
            corrupted_images=2000,
            lengths=(0.25, 0.5, 1),
            long=1.5,
            label_noise=(0.4, 0.8),
            sweep=(0.1, 0.4),
            sizes=(2, 3, 6),
            deep_ensemble=5,
            remark="Four times as wide and ten times as long as `small`, on the same images.",
        ),
        Scale(
            "paper",
            {
                "cifar10": Panel("CIFAR-10, cResNet20", PRESETS["paper-cifar10"]),
                "tiny-imagenet": Panel("TinyImageNet, ResNet18", PRESETS["paper-tiny-imagenet"]),
                "tiny-imagenet-50": Panel(
                    "TinyImageNet, ResNet50", PRESETS["paper-tiny-imagenet"] | {"architecture": "tiny-resnet50"}
                ),
                "mnist": Panel(
                    "MNIST, cresnet8", PRESETS["paper-cifar10"] | {"data": "mnist", "architecture": "cresnet8"}
                ),
                "imagenet": Panel("ImageNet, ResNet50", PRESETS["paper-imagenet"]),
                "imagenet-wide": Panel(
                    "ImageNet, WideResNet50",
                    PRESETS["paper-imagenet"] | {"architecture": "wide_resnet50_2", "epochs": 100},
                ),
            },
            calibration=10_000,
            plane=21,
            plane_images=10_000,
            lengths=(0.5, 1, 1.5),
            beyond_paper=False,
        ),
    )
}
"""Every scale by name."""
