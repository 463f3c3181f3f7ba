"""Options that contradict others, or that would have no effect beside them: refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from subspace_serve.measure.networks import StatisticsSource


def is_given(name: str) -> bool:
    """Return whether the running command was given a parameter, rather than that it has its default."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def check_one_kind(corruptions: tuple[str, ...], baseline: Path | None) -> None:
    """Check that nothing is asked for beside several domains that is of one set of images.

    Raises:
        UsageError: something is.
    """
    found = {"--data": is_given("spec"), "--corruption": bool(corruptions), "--baseline": baseline is not None}
    if wrong := [option for option, given in found.items() if given]:
        raise click.UsageError(
            f"--val-data names several domains, and {', '.join(wrong)} is for one set of images: leave one of the two "
            "out, or name that set too, as --val-data NAME=SPEC"
        )


def check_places(alphas: tuple[str, ...], extrapolate: bool) -> None:
    """Check that what is said of places fits those that are measured: named ones, or else a grid.

    Raises:
        UsageError: it does not.
    """
    if alphas and is_given("points"):
        raise click.UsageError("--points says how fine the grid is, and --alpha names places instead of it; give one")
    if extrapolate and not alphas:
        raise click.UsageError("--extrapolate says where a place of --alpha may lie; give both")


def check_recalibrates(statistics: StatisticsSource, *others: StatisticsSource) -> None:
    """Check that images recompute some BatchNorm's statistics where it is said how many they are to be.

    Raises:
        UsageError: all statistics are known, as a bundle's are, and no images are drawn.
    """
    from subspace_serve.network.statistics_set import KnownStatistics

    wrong = [f"--{name.replace('_', '-')}" for name in ("calibration_count", "calibration_batch") if is_given(name)]
    if wrong and all(isinstance(each, KnownStatistics) for each in (statistics, *others)):
        raise click.UsageError(
            f"{', '.join(wrong)} is for images that recompute BatchNorm's statistics, and here those are taken that "
            f"are known of {statistics.to_json()['data']}; leave it out"
        )
