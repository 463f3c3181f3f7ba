from __future__ import annotations

import pytest

from subspace_serve.alpha import Request, parse_alphas
from subspace_serve.errors import GeometryError
from subspace_serve.geometry import Geometry

LINE, CURVE, TRIANGLE = Geometry("line", 2), Geometry("curve", 3), Geometry("simplex", 3)
SELECTIONS = {"best": {"alpha": 0.4}, "fog": {"alpha": 0.7}, "fog:3": {"alpha": 0.8}}


@pytest.mark.parametrize(
    ("text", "geometry", "points", "ensembles"),
    [
        ("0.5", LINE, {"alpha-0.5": 0.5}, {}),
        ("midpoint", LINE, {"midpoint": 0.5}, {}),
        ("midpoint", TRIANGLE, {"midpoint": (1 / 3, 1 / 3, 1 / 3)}, {}),
        ("0.2,0.3,0.5", TRIANGLE, {"alpha-0.2_0.3_0.5": (0.2, 0.3, 0.5)}, {}),
        ("endpoint:1", CURVE, {"endpoint-1": 1.0}, {}),
        ("endpoints", LINE, {"endpoint-0": 0.0, "endpoint-1": 1.0}, {"endpoints": ["endpoint-0", "endpoint-1"]}),
        ("pair=endpoints", LINE, {"endpoint-0": 0.0, "endpoint-1": 1.0}, {"pair": ["endpoint-0", "endpoint-1"]}),
        ("best", LINE, {"best": 0.4}, {}),
        ("best:fog", LINE, {"fog": 0.7}, {}),
        ("best:fog:3", LINE, {"fog-3": 0.8}, {}),
        ("night=best:fog", LINE, {"night": 0.7}, {}),
        ("near=0.1", LINE, {"near": 0.1}, {}),
        ("+1e-1", LINE, {"alpha-1e-1": 0.1}, {}),
    ],
)
def test_specifications(text: str, geometry: Geometry, points: dict, ensembles: dict) -> None:
    assert parse_alphas([text], geometry, SELECTIONS) == Request(points, ensembles)


def test_several_specifications_are_one_request() -> None:
    request = parse_alphas(["midpoint", "endpoints", "endpoint:0"], LINE, {})
    assert list(request.points) == ["midpoint", "endpoint-0", "endpoint-1"]


@pytest.mark.parametrize("members", [[], ["a", "a"], ["a", "c"]])
def test_an_ensemble_has_different_points(members: list[str]) -> None:
    request = Request({"a": 0.0, "b": 1.0})
    with pytest.raises(GeometryError, match="different ones of the points: a, b"):
        request.add_ensemble("pair", members)


def test_an_ensemble_does_not_take_anothers_name() -> None:
    request = Request({"a": 0.0, "b": 1.0})
    request.add_ensemble("pair", ["a", "b"])
    for name, message in [("pair", "something else"), ("a", "something else"), ("../pair", "cannot name")]:
        with pytest.raises(GeometryError, match=message):
            request.add_ensemble(name, ["b"])


def test_extrapolation_is_asked_for() -> None:
    assert parse_alphas(["-0.05"], LINE, {}, extrapolate=True).points == {"alpha--0.05": -0.05}
    with pytest.raises(GeometryError, match="--extrapolate"):
        parse_alphas(["-0.05"], LINE, {})


@pytest.mark.parametrize(
    ("texts", "geometry", "message"),
    [
        (["middle"], LINE, "'middle' is no place in a subspace; give 0.5"),
        (["0.5,0.5"], LINE, "one number"),
        (["0.5"], TRIANGLE, "3 numbers"),
        (["endpoint:2"], CURVE, "bend lies off the curve"),
        (["endpoint:x"], LINE, "ends 0 to 1"),
        (["best:snow"], LINE, "no selection named 'snow'.*best, fog, fog:3.*--name snow"),
        (["a/b=0.5"], LINE, "cannot name a point"),
        (["a=0.5", "a=0.6"], LINE, "two different places"),
        (["nan"], LINE, "outside"),
        (["=0.5"], LINE, "cannot name a point"),
        (["a=0.5", "a=endpoints"], LINE, "an ensemble and to something else"),
        (["a=endpoints", "a=0.5"], LINE, "two different places"),
    ],
)
def test_bad_specifications_are_refused(texts: list[str], geometry: Geometry, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        parse_alphas(texts, geometry, SELECTIONS)
