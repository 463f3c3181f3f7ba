from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawn_axes import noted
from evaluation_documents import by_calibration, changed, corruption, evaluation, measured, plane, records, selections
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subspace_serve.errors import SubspaceServeError
from subspace_serve.measure.results import Evaluation
from subspace_serve.show.plot import (
    check_picture,
    plot_changed_answers,
    plot_corruptions,
    plot_distances,
    plot_heatmap,
    plot_plane,
    plot_relative_change,
    plot_reliability,
    plot_selections,
    plot_subspace,
)
from subspace_serve.show.plot.reliability import reliability_diagrams
from subspace_serve.show.plot.series import Series, SeriesPanel, plot_series

BASELINE = {"accuracy": 0.5, "ece": 0.25}


def line(shift: float = 0.0, *, ensemble: bool = True, baseline: dict[str, float] | None = None) -> Evaluation:
    """Three points out of order; accuracies and calibration errors are round numbers."""
    points = []
    for alpha, value in ((1.0, 0.75), (0.0, 0.25), (0.5, 0.5)):
        metrics = {"accuracy": value + shift, "ece": 1 - value}
        better = {"accuracy": value + 0.125, "ece": 0.125} if ensemble else None
        points.append({"alpha": alpha, "metrics": metrics, "ensemble": better})
    document = {"geometry": "line", "count": 100, "points": points, "baseline": baseline}
    return Evaluation.from_json(document)


def simplex() -> dict[str, Any]:
    points = [
        {"alpha": alpha, "metrics": {"accuracy": 0.5, "ece": 0.25}}
        for alpha in ([1, 0], [0, 1], [0.5, 0.5], [0.125, 0.875])
    ]
    return {
        "geometry": "simplex",
        "count": 100,
        "points": points,
        "endpoints_ensemble": {"metrics": {"accuracy": 0.75, "ece": 0.125}},
    }


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What was drawn, in order: styles and values of curves, bounds of bands, heights of horizontal lines."""
    return noted(
        monkeypatch,
        plot=lambda arguments, options: (arguments[2], list(arguments[0]), list(arguments[1])),
        fill_between=lambda arguments, options: (arguments[1], arguments[2]),
        axhline=lambda arguments, options: arguments[0],
    )


def test_a_line_is_drawn_dashed_and_its_ensembles_solid(tmp_path: Path, drawn: dict[str, list[Any]]) -> None:
    plot_subspace(line(baseline=BASELINE), tmp_path / "line.png")
    assert drawn["plot"] == [
        ("--", [0.0, 0.5, 1.0], [25, 50, 75]),
        ("-", [0.0, 0.5, 1.0], [37.5, 62.5, 87.5]),
        ("--", [0.0, 0.5, 1.0], [75, 50, 25]),
        ("-", [0.0, 0.5, 1.0], [12.5, 12.5, 12.5]),
    ]
    assert drawn["axhline"] == [50, 25]
    assert drawn["fill_between"] == []


def test_several_runs_give_their_mean_and_sample_deviation(tmp_path: Path, drawn: dict[str, list[Any]]) -> None:
    baselines = [BASELINE, {"accuracy": 0.7, "ece": 0.35}, {"accuracy": 0.6, "ece": 0.3}]
    runs = [
        line(shift, ensemble=False, baseline=baseline)
        for shift, baseline in zip((-0.02, 0.0, 0.02), baselines, strict=True)
    ]
    plot_subspace(runs, tmp_path / "runs.svg")
    style, _, means = drawn["plot"][0]
    assert style == "--"
    assert means == pytest.approx([25, 50, 75])
    low, high = drawn["fill_between"][0]
    assert low == pytest.approx([23, 48, 73])
    assert high == pytest.approx([27, 52, 77])
    assert drawn["axhline"] == pytest.approx([60, 30])
    assert len(drawn["plot"]) == 2  # no ensembles in the document


def test_a_simplex_shows_its_points_by_name(tmp_path: Path, drawn: dict[str, list[Any]]) -> None:
    plot_subspace(Evaluation.from_json(simplex()), tmp_path / "simplex.svg")
    picture = (tmp_path / "simplex.svg").read_text()
    for name in ("endpoint-0", "endpoint-1", "midpoint", "0.12, 0.88"):
        assert picture.count(f"<!-- {name} -->") == 2  # once a panel
    assert drawn["axhline"] == [75, 12.5]
    assert drawn["plot"] == []


def test_a_document_from_memory_goes_with_one_from_a_file(tmp_path: Path) -> None:
    in_memory = Evaluation.from_json(simplex())
    in_a_file = json.loads(json.dumps(in_memory.to_json()))
    plot_subspace([Evaluation.from_json(in_a_file), in_memory], tmp_path / "simplex.png")
    assert (tmp_path / "simplex.png").exists()


def test_a_picture_is_900_pixels_wide(tmp_path: Path) -> None:
    plot_subspace(line(), tmp_path / "line.png")
    header = (tmp_path / "line.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:]) == (900, 360)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    plot_subspace(line(baseline=BASELINE), first)
    plot_subspace(line(baseline=BASELINE), second)
    assert first.read_bytes() == second.read_bytes()
    assert b"dc:date" not in first.read_bytes()
    plot_subspace(line(0.01, baseline=BASELINE), second)
    assert first.read_bytes() != second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SubspaceServeError, match=r"must end in .png or .svg; found 'line.jpg'"):
        plot_subspace(line(), tmp_path / "line.jpg")


def test_nothing_to_draw(tmp_path: Path) -> None:
    for nothing in ([], replace(line(), points=())):
        with pytest.raises(SubspaceServeError, match="no points"):
            plot_subspace(nothing, tmp_path / "line.png")
    assert not (tmp_path / "line.png").exists()


def test_runs_must_agree_on_their_alphas(tmp_path: Path) -> None:
    other = replace(line(), points=line().points[:-1])
    with pytest.raises(SubspaceServeError, match=r"number 2 has \[1.0, 0.0\]"):
        plot_subspace([line(), other], tmp_path / "line.png")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn, kept instead of being painted."""
    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *arguments, **options: kept.append(self))
    return kept


def y_of(axes: Axes) -> list[list[float]]:
    return [list(line.get_ydata()) for line in axes.get_lines()]


def test_every_corruption_has_a_panel_beside_the_clean_one(tmp_path: Path, figures: list[Figure]) -> None:
    plot_corruptions(measured(), tmp_path / "corruptions.png")
    clean, fog, blur = (axes for axes in figures[0].axes if axes.get_title())
    assert [axes.get_title() for axes in (clean, fog, blur)] == ["clean", "fog 3", "motion blur 3"]
    assert y_of(clean) == [[75, 87.5, 50], [81.25, 93.75, 56.25], [75, 75]]
    assert y_of(fog) == [[37.5, 65.625, 37.5], [43.75, 71.875, 43.75], [37.5, 37.5]]
    assert [line.get_linestyle() for line in fog.get_lines()] == ["--", "-", ":"]
    assert y_of(blur)[0] == [37.5, 21.875, 12.5]


def test_corruptions_without_severities_have_their_name_alone_and_any_name_is_drawn(
    tmp_path: Path, figures: list[Figure]
) -> None:
    document = evaluation()
    document["corruptions"] = [corruption(name, None, 0.5) for name in ("fog", r"odd$\x$")]
    without = Evaluation.from_json(document)
    for draw in (plot_corruptions, plot_heatmap, plot_relative_change):
        draw(without, tmp_path / "picture.png")
    panels, heatmap, relative = figures
    assert [axes.get_title() for axes in panels.axes if axes.get_title()] == ["clean", "fog", r"odd\$\x\$"]
    assert [label.get_text() for label in heatmap.axes[0].get_yticklabels()] == ["clean", "fog", r"odd\$\x\$"]
    assert [label.get_text() for label in relative.axes[0].get_yticklabels()] == ["fog", r"odd\$\x\$"]


def test_many_panels_stand_in_rows_of_four(tmp_path: Path, figures: list[Figure]) -> None:
    document = evaluation(baseline=False)
    document["corruptions"] = [corruption("fog", severity, 0.5, baseline=False) for severity in (1, 2, 3, 4, 5)]
    plot_corruptions(Evaluation.from_json(document), tmp_path / "corruptions.png")
    assert figures[0].axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 4)
    assert [axes.get_title() for axes in figures[0].axes if axes.axison][-1] == "fog 5"
    assert len(y_of(figures[0].axes[0])) == 2  # no standard network


def test_the_heat_map_has_its_numbers_in_the_cells(tmp_path: Path, figures: list[Figure]) -> None:
    plot_heatmap([measured(), measured()], tmp_path / "heatmap.png")
    axes = figures[0].axes[0]
    assert axes.get_images()[0].get_array().tolist() == [
        [75, 87.5, 50, 75],
        [37.5, 65.625, 37.5, 37.5],
        [37.5, 21.875, 12.5, 37.5],
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.5", "1", "standard"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["clean", "fog 3", "motion blur 3"]
    assert [text.get_text() for text in axes.texts if text.get_weight() == "bold"] == ["87.5", "65.6", "37.5"]


def test_relative_change_is_drawn_less_the_standard_networks(tmp_path: Path, figures: list[Figure]) -> None:
    plot_relative_change(measured(), tmp_path / "relative.png")
    midpoint, best = figures[0].axes
    assert midpoint.get_title() == "Midpoint"
    # Fog takes a quarter of the midpoint's accuracy and motion blur three quarters; half of the standard network's.
    assert [bar.get_width() for bar in midpoint.patches] == pytest.approx([25, -25])
    assert [bar.get_width() for bar in best.patches] == pytest.approx([25, 0])
    assert midpoint.patches[0].get_facecolor() != midpoint.patches[1].get_facecolor()
    assert midpoint.patches[1].get_hatch() == "///"


def test_reliability_shows_accuracy_gaps_and_shares(tmp_path: Path, figures: list[Figure]) -> None:
    plot_reliability(reliability_diagrams(measured()), tmp_path / "reliability.png")
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_title()]
    assert titles == [
        f"{name}\nECE 15.62 %"  # (25 * 0.25 + 75 * 0.125) / 100
        for name in (
            "midpoint (α = 0.5)",
            "endpoint-0 (α = 0)",
            "endpoint-1 (α = 1)",
            "ensemble of the ends",
            "standard network",
        )
    ]
    above = next(axes for axes in figures[0].axes if axes.get_title())
    accuracies, gaps = above.containers
    assert [bar.get_height() for bar in accuracies] == [25, 87.5]  # the empty bin has no bar
    assert [(bar.get_y(), bar.get_height()) for bar in gaps] == [(25, 25), (87.5, -12.5)]
    assert [bar.get_x() for bar in accuracies] == pytest.approx([0, 200 / 3])
    below = figures[0].axes[3]  # two rows of panels, each of three diagrams and three counts
    assert [bar.get_height() for bar in below.patches] == [25, 0, 75]


def test_distances_are_drawn_over_epochs(tmp_path: Path, figures: list[Figure]) -> None:
    longer = [*records(), records()[-1] | {"epoch": 4}]
    plot_distances(longer, tmp_path / "one.png")
    plot_distances([records(), [record | {"endpoint_l2": 13.0} for record in longer]], tmp_path / "two.png")
    one, two = figures
    assert [y_of(axes)[0] for axes in one.axes] == [[11, 12, 13, 13], [0.5, 0.25, 0.125, 0.125], [25, 50, 75, 75]]
    assert y_of(two.axes[0])[0] == [12, 12.5, 13]  # the epochs that both have
    assert len(two.axes[0].collections) == 1  # the band
    assert all(axes.get_ylim()[0] == 0 for axes in one.axes)


def test_the_plane_has_its_three_networks_and_the_subspace(tmp_path: Path, figures: list[Figure]) -> None:
    plot_plane(plane(), tmp_path / "plane.png")
    axes, bar = figures[0].axes
    assert [text.get_text() for text in axes.texts] == ["endpoint-0", "endpoint-1", "standard network"]
    marks = [line.get_xydata().tolist() for line in axes.get_lines() if line.get_marker() == "o"]
    assert marks == [[[0, 0]], [[4, 0]], [[2, 4]]]
    (path,) = (line for line in axes.get_lines() if line.get_linestyle() == "-")
    assert path.get_xydata().tolist() == [[0, 0], [4, 0]]
    assert bar.get_ylim() == pytest.approx((12.5, 87.5))
    assert axes.get_aspect() == 1


def test_a_plane_without_error_can_be_drawn(tmp_path: Path) -> None:
    plot_plane(plane() | {"error": [[0.0] * 3] * 3, "path": None}, tmp_path / "plane.png")
    assert (tmp_path / "plane.png").stat().st_size > 0


def test_selections_show_gains_and_what_was_chosen_from(tmp_path: Path, figures: list[Figure]) -> None:
    plot_selections(selections(), tmp_path / "selections.png")
    accuracy, nll, fog, night = figures[0].axes
    interval, mark, _ = accuracy.get_lines()
    assert list(interval.get_xdata()) == pytest.approx([2.5, 7.5])
    assert list(mark.get_xdata()) == pytest.approx([5])
    assert mark.get_markerfacecolor() != "white"
    # The midpoint was kept at night: what is shown is the gain of the best candidate, which was not taken.
    interval, mark, _ = nll.get_lines()
    assert (list(interval.get_xdata()), list(mark.get_xdata())) == ([-0.0625, 0.125], [0.0625])
    assert mark.get_markerfacecolor() == "white"
    assert nll.get_yticklabels()[0].get_text() == "night (not taken)"
    curve = fog.containers[0]
    assert curve.lines[0].get_xydata().tolist() == [[0.25, 87.5], [0.5, 75]]
    bars = [segment[:, 1].tolist() for segment in curve.lines[2][0].get_segments()]
    assert bars == [[84.375, 90.625], [68.75, 81.25]]
    rings = [line.get_xydata().tolist() for line in fog.get_lines() if line.get_markersize() == 12]
    assert rings == [[[0.25, 87.5]]]
    assert [label.get_text() for label in night.get_xticklabels()] == ["0.5", "0 + 1"]


def test_gains_by_calibration_error_are_drawn_in_what_they_are_of(tmp_path: Path, figures: list[Figure]) -> None:
    plot_selections({"new": by_calibration(), "old": by_calibration(None)}, tmp_path / "selections.png")
    new, old = figures[0].axes[:2]
    assert list(new.get_lines()[0].get_xdata()) == [-0.0025, 0.005]
    assert "95 % interval, debiased squared calibration error;" in new.get_title()
    assert list(old.get_lines()[0].get_xdata()) == [-0.25, 0.5]
    assert "95 % interval, percentage points;" in old.get_title()


def test_changed_answers_are_thumbnails_with_what_each_model_says(tmp_path: Path, figures: list[Figure]) -> None:
    plot_changed_answers(changed(), tmp_path / "changed.png")
    first, second, third = figures[0].axes
    assert [axes.get_title() for axes in (first, second, third)] == ["cat"] * 3
    assert [text.get_text() for text in first.texts] == ["midpoint: cat 88 %", "ends together: dog 75 %"]
    assert [text.get_weight() for text in first.texts] == ["bold", "normal"]
    assert second.get_images()[0].get_array().tolist() == [[3, 3], [3, 3]]


PICTURES = {
    plot_changed_answers: changed(),
    plot_corruptions: measured(),
    plot_heatmap: measured(),
    plot_relative_change: measured(),
    plot_reliability: reliability_diagrams(measured()),
    plot_distances: records(),
    plot_plane: plane(),
    plot_selections: selections(),
}


@pytest.mark.parametrize("draw", PICTURES)
def test_the_same_document_gives_the_same_bytes(tmp_path: Path, draw: Callable[..., None]) -> None:
    for suffix in (".png", ".svg"):
        first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
        draw(PICTURES[draw], first)
        draw(copy.deepcopy(PICTURES[draw]), second)
        assert first.read_bytes() == second.read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("draw", PICTURES)
def test_every_picture_refuses_other_kinds_of_file(tmp_path: Path, draw: Callable[..., None]) -> None:
    with pytest.raises(SubspaceServeError, match=r"must end in .png or .svg; found 'a.pdf'"):
        draw(PICTURES[draw], tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


def test_a_name_is_checked_before_there_is_anything_to_draw() -> None:
    assert check_picture("a/line.svg") == Path("a/line.svg")
    with pytest.raises(SubspaceServeError, match="found 'line.PNG'"):
        check_picture("line.PNG")


@pytest.mark.parametrize(
    ("draw", "document", "message"),
    [
        (plot_corruptions, measured(corruptions=False), "no corruptions to draw"),
        (plot_heatmap, [measured(), measured(corruptions=False)], "the same corruptions"),
        (plot_relative_change, measured(baseline=False), "--baseline RUN"),
        (plot_reliability, reliability_diagrams(measured(reliability=False)), "no reliability bins"),
        (plot_distances, [], "no distances to draw"),
        (plot_distances, [{"epoch": 1, "endpoint_l2": None}], "one endpoint only"),
        (plot_selections, {}, "no selections to draw"),
        (plot_changed_answers, replace(changed(), shown=()), "every image gets the same answer"),
    ],
)
def test_what_is_not_there_is_not_drawn(tmp_path: Path, draw: Callable[..., None], document: Any, message: str) -> None:
    with pytest.raises(SubspaceServeError, match=message):
        draw(document, tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())


def test_a_simplex_is_drawn_under_corruption_too(tmp_path: Path, figures: list[Figure]) -> None:
    document = simplex()
    document["corruptions"] = [{"corruption": "fog", "severity": 1, **simplex()}]
    plot_corruptions(Evaluation.from_json(document), tmp_path / "corruptions.png")
    plot_heatmap(Evaluation.from_json(document), tmp_path / "heatmap.png")
    assert y_of(figures[0].axes[1])[-1] == [75, 75]
    names = [label.get_text() for label in figures[1].axes[0].get_xticklabels()]
    assert names == ["endpoint-0", "endpoint-1", "midpoint", "0.12, 0.88"]


def panel(values: list[list[float]], **settings) -> SeriesPanel:
    series = [Series("one", values, [0.0, 1.0]), Series("level", [[70.0], [72.0]], style=":")]
    return SeriesPanel("title", series, "x", "y", **settings)


def test_series_are_drawn_the_same_for_the_same_numbers(tmp_path: Path) -> None:
    for name, values in (
        ("a", [[1.0, 2.0], [3.0, 4.0]]),
        ("b", [[1.0, 2.0], [3.0, 4.0]]),
        ("c", [[1.0, 2.0], [3.0, 9.0]]),
    ):
        plot_series([panel(values), panel(values, ticks={0: "zero", 1: "one"})], tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    with pytest.raises(SubspaceServeError, match=r"must end in \.png or \.svg"):
        plot_series([panel([[1.0, 2.0]])], tmp_path / "a.gif")


def test_series_of_one_name_are_explained_once(tmp_path: Path) -> None:
    plot_series([panel([[1.0, 2.0]]) for _ in range(4)], tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().count("<!-- level -->") == 1
