"""The introduction of the page, above the figures."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.reproduce.scales import Scale

_MADE = """\
Made by `python -m trainer.reproduce all --scale {scale}`: {what}.
{seeds} seeds unless a figure says otherwise, mean ± one sample standard deviation; in pictures the band. Accuracies are
on {images} test images ({corrupted} for each corruption); networks are recalibrated on {calibration:,} training images.
"""

_READING = """\
A claim is tested by one paired difference per seed: both sides share data, order and seed. It **holds** where the mean
difference lies on its side and a one-sided 95 % t-interval over the seeds does too; it **holds within noise** where
only the mean does; it **does not hold here** where not even the mean does. Claims of the form "comes near" have the
margin that they name. With three seeds the interval is wide, so "within noise" often means that more seeds would tell;
and of so many claims some land on either side by chance. Claims "beyond the paper" are ours and not counted. A figure
whose measurements are not complete, with every seed, has no verdicts. The rule is the same at every scale."""


def introduction(scales: Sequence[Scale]) -> str:
    """Return the introduction to the figures of some scales, in Markdown."""
    return "\n\n".join([*map(_made, scales), _READING])


def _made(scale: Scale) -> str:
    panels = {panel.title: panel.settings for panel in scale.panels.values()}
    what = "; ".join(
        f"{title}, {settings['epochs']} epochs"
        + (f" of {settings['train_images']:,} images" if "train_images" in settings else "")
        + (f" of {settings['image_size']} pixels a side" if "image_size" in settings else "")
        + f", batch {settings['batch_size']}"
        for title, settings in panels.items()
    )
    text = _MADE.format(
        scale=scale.name,
        what=what,
        seeds=scale.seeds,
        images=_count(scale.test_images),
        corrupted=_count(scale.corrupted_images),
        calibration=scale.calibration,
    )
    return f"{text.rstrip()}\n{scale.remark}".rstrip()


def _count(images: int | None) -> str:
    return "all" if images is None else f"{images:,}"
