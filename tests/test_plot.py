from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from subspace_serve.errors import SubspaceServeError
from subspace_serve.plot import plot_subspace

BASELINE = {"accuracy": 0.5, "ece": 0.25}


def line(shift: float = 0.0, *, ensemble: bool = True) -> dict[str, Any]:
    """Three points out of order; accuracies and calibration errors are round numbers."""
    points = []
    for alpha, value in ((1.0, 0.75), (0.0, 0.25), (0.5, 0.5)):
        metrics = {"accuracy": value + shift, "ece": 1 - value}
        better = {"accuracy": value + 0.125, "ece": 0.125} if ensemble else None
        points.append({"alpha": alpha, "metrics": metrics, "ensemble": better})
    return {"points": points}


def simplex() -> dict[str, Any]:
    points = [
        {"alpha": alpha, "metrics": {"accuracy": 0.5, "ece": 0.25}}
        for alpha in ([1, 0], [0, 1], [0.5, 0.5], [0.125, 0.875])
    ]
    return {"points": points, "endpoints_ensemble": {"metrics": {"accuracy": 0.75, "ece": 0.125}}}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What was drawn, in order: styles and values of curves, bounds of bands, heights of horizontal lines."""
    calls: dict[str, list[Any]] = {"plot": [], "fill_between": [], "axhline": []}

    def spy(method: str, key: str, keep: Any) -> None:
        original = getattr(Axes, method)

        def record(self: Axes, *arguments: Any, **options: Any) -> Any:
            calls[key].append(keep(arguments, options))
            return original(self, *arguments, **options)

        monkeypatch.setattr(Axes, method, record)

    spy("plot", "plot", lambda arguments, options: (arguments[2][:-1], list(arguments[0]), list(arguments[1])))
    spy("fill_between", "fill_between", lambda arguments, options: (arguments[1], arguments[2]))
    spy("axhline", "axhline", lambda arguments, options: arguments[0])
    return calls


def test_a_line_is_drawn_dashed_and_its_ensembles_solid(tmp_path: Path, drawn: dict[str, list[Any]]) -> None:
    plot_subspace(line(), tmp_path / "line.png", BASELINE)
    assert drawn["plot"] == [
        ("--", [0.0, 0.5, 1.0], [25, 50, 75]),
        ("-", [0.0, 0.5, 1.0], [37.5, 62.5, 87.5]),
        ("--", [0.0, 0.5, 1.0], [75, 50, 25]),
        ("-", [0.0, 0.5, 1.0], [12.5, 12.5, 12.5]),
    ]
    assert drawn["axhline"] == [50, 25]
    assert drawn["fill_between"] == []


def test_several_runs_give_their_mean_and_sample_deviation(tmp_path: Path, drawn: dict[str, list[Any]]) -> None:
    runs = [line(shift, ensemble=False) for shift in (-0.02, 0.0, 0.02)]
    plot_subspace(runs, tmp_path / "runs.svg", [BASELINE, {"accuracy": 0.7, "ece": 0.35}])
    style, _, means = drawn["plot"][0]
    assert style == "--"
    assert means == pytest.approx([25, 50, 75])
    low, high = drawn["fill_between"][0]
    assert low == pytest.approx([23, 48, 73])
    assert high == pytest.approx([27, 52, 77])
    assert drawn["axhline"] == pytest.approx([60, 30])
    assert len(drawn["plot"]) == 2  # no ensembles in the document


def test_a_simplex_shows_its_points_by_name(tmp_path: Path, drawn: dict[str, list[Any]]) -> None:
    plot_subspace(simplex(), tmp_path / "simplex.svg")
    picture = (tmp_path / "simplex.svg").read_text()
    for name in ("endpoint-0", "endpoint-1", "midpoint", "0.12, 0.88"):
        assert picture.count(f"<!-- {name} -->") == 2  # once a panel
    assert drawn["axhline"] == [75, 12.5]
    assert drawn["plot"] == []


def test_a_document_from_memory_goes_with_one_from_a_file(tmp_path: Path) -> None:
    in_memory = simplex()
    for point in in_memory["points"]:
        point["alpha"] = tuple(point["alpha"])
    plot_subspace([simplex(), in_memory], tmp_path / "simplex.png")
    assert (tmp_path / "simplex.png").exists()


def test_a_picture_is_900_pixels_wide(tmp_path: Path) -> None:
    plot_subspace(line(), tmp_path / "line.png")
    header = (tmp_path / "line.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:]) == (900, 360)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    plot_subspace(line(), first, BASELINE)
    plot_subspace(line(), second, BASELINE)
    assert first.read_bytes() == second.read_bytes()
    assert b"dc:date" not in first.read_bytes()
    plot_subspace(line(0.01), second, BASELINE)
    assert first.read_bytes() != second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SubspaceServeError, match=r"must end in .png or .svg; found 'line.jpg'"):
        plot_subspace(line(), tmp_path / "line.jpg")


def test_nothing_to_draw(tmp_path: Path) -> None:
    for nothing in ([], {"points": []}):
        with pytest.raises(SubspaceServeError, match="no points"):
            plot_subspace(nothing, tmp_path / "line.png")
    assert not (tmp_path / "line.png").exists()


def test_runs_must_agree_on_their_alphas(tmp_path: Path) -> None:
    other = line()
    other["points"].pop()
    with pytest.raises(SubspaceServeError, match=r"number 2 has \[1.0, 0.0\]"):
        plot_subspace([line(), other], tmp_path / "line.png")
