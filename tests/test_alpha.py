from __future__ import annotations

import numpy as np
import pytest

from subspace_serve.errors import GeometryError
from subspace_serve.space.alpha import Request, parse_alphas
from subspace_serve.space.ensemble import Ensemble
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha, exact_place_text

LINE, CURVE, TRIANGLE = Geometry("line", 2), Geometry("curve", 3), Geometry("simplex", 3)
PAIR = ("endpoint-0", "endpoint-1")
ENDS = {"endpoint-0": 0.0, "endpoint-1": 1.0}
SELECTIONS = {
    "best": {"alpha": 0.4},
    "fog": {"alpha": 0.7},
    "fog:3": {"alpha": 0.8},
    "snow:5": {"alpha": 0.5, "calibration": {"data": "digits:train", "on": "default"}},
    "frost:1": {"alpha": 0.1},
    "frost:4": {"alpha": 0.2},
    "night": {"alpha": 0.6, "calibration": {"data": "night.npz", "on": "domain"}},
    "both": {"members": [0.2, 0.8], "weights": [0.25, 0.75], "aggregate": "logits"},
    "blur:2": {"members": [0.0, 1.0], "weights": [0.5, 0.5], "calibration": {"on": "blur.npz"}},
    "corner": {"alpha": [0.2, 0.3, 0.5]},
    "corners": {"members": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "weights": [1, 1], "aggregate": "probabilities"},
}


@pytest.mark.parametrize(
    ("text", "geometry", "points", "ensembles"),
    [
        ("0.5", LINE, {"alpha-0.5": 0.5}, {}),
        ("midpoint", LINE, {"midpoint": 0.5}, {}),
        ("midpoint", TRIANGLE, {"midpoint": (1 / 3, 1 / 3, 1 / 3)}, {}),
        ("0.2,0.3,0.5", TRIANGLE, {"alpha-0.2_0.3_0.5": (0.2, 0.3, 0.5)}, {}),
        ("endpoint:1", CURVE, {"endpoint-1": 1.0}, {}),
        ("endpoints", LINE, ENDS, {"endpoints": Ensemble(PAIR)}),
        ("pair=endpoints", LINE, ENDS, {"pair": Ensemble(PAIR)}),
        ("best", LINE, {"best": 0.4}, {}),
        ("best:fog", LINE, {"fog": 0.7}, {}),
        ("best:fog:3", LINE, {"fog-3": 0.8}, {}),
        ("best:fog-3", LINE, {"fog-3": 0.8}, {}),
        ("best:snow", LINE, {"snow-5": 0.5}, {}),
        ("best:corner", TRIANGLE, {"corner": (0.2, 0.3, 0.5)}, {}),
        (
            "best:both",
            LINE,
            {"both-0": 0.2, "both-1": 0.8},
            {"both": Ensemble(("both-0", "both-1"), (0.25, 0.75), "logits")},
        ),
        (
            "pair=best:corners",
            TRIANGLE,
            {"pair-0": (1.0, 0.0, 0.0), "pair-1": (0.0, 0.0, 1.0)},
            {"pair": Ensemble(("pair-0", "pair-1"), (1.0, 1.0), "probabilities")},
        ),
        ("night=best:fog", LINE, {"night": 0.7}, {}),
        ("near=0.1", LINE, {"near": 0.1}, {}),
        ("+1e-1", LINE, {"alpha-1e-1": 0.1}, {}),
    ],
)
def test_specifications(text: str, geometry: Geometry, points: dict, ensembles: dict) -> None:
    request = parse_alphas([text], geometry, SELECTIONS)
    assert (request.points, request.ensembles) == (points, ensembles)


def test_several_selections_are_one_request_and_the_same_one_twice_is_one() -> None:
    request = parse_alphas(["best:both", "best:fog:3", "best:both", "best", "best"], LINE, SELECTIONS)
    assert request.points == {"both-0": 0.2, "both-1": 0.8, "fog-3": 0.8, "best": 0.4}
    assert list(request.ensembles) == ["both"]


def test_what_was_selected_says_by_which_selection() -> None:
    specifications = ["best:night", "dark=best:night", "best:snow", "best:blur", "0.6", "endpoints"]
    request = parse_alphas(specifications, LINE, SELECTIONS)
    assert request.selected == {
        "night": "night",
        "dark": "night",
        "snow-5": "snow:5",
        "blur-2-0": "blur:2",
        "blur-2-1": "blur:2",
        "blur-2": "blur:2",
    }
    assert request.ensembles["blur-2"] == Ensemble(("blur-2-0", "blur-2-1"), (0.5, 0.5))


@pytest.mark.parametrize("geometry", [LINE, CURVE, TRIANGLE], ids=lambda geometry: geometry.name)
@pytest.mark.parametrize(
    ("text", "name", "count", "seed"),
    [
        ("random:6", "random-6", 6, 0),
        ("random:6:0", "random-6", 6, 0),
        ("random:2:9", "random-2-seed-9", 2, 9),
        ("crowd=random:64:9", "crowd", 64, 9),
    ],
)
def test_random_ensembles_are_drawn_as_training_draws(
    geometry: Geometry, text: str, name: str, count: int, seed: int
) -> None:
    request = parse_alphas([text], geometry, {})
    members = tuple(f"{name}-{index}" for index in range(count))
    assert request.ensembles == {name: Ensemble(members)}
    assert tuple(request.points) == members
    drawn = geometry.sample(np.random.default_rng(seed), count)
    assert np.array_equal(np.array(list(request.points.values())), drawn)
    assert all(geometry.check(alpha) == alpha for alpha in request.points.values())
    assert request.selected == {}


def test_random_ensembles_of_every_size_and_seed_go_together() -> None:
    texts = [f"random:{count}:{seed}" for count in (2, 6, 12) for seed in range(13)]
    request = parse_alphas([*texts, "random:6", "endpoints", "midpoint"], LINE, {})
    assert len(request.ensembles) == 3 * 13 + 1
    assert len(request.points) == 13 * (2 + 6 + 12) + 3
    assert request.points["random-6-1"] != request.points["random-6-seed-1-1"]


@pytest.mark.parametrize(
    ("geometry", "alpha"),
    [
        (Geometry("simplex", 3), (1 / 3, 1 / 3, 1 / 3)),
        (Geometry("simplex", 7), (1 / 7,) * 7),
        (Geometry("simplex", 3), (1.0, 0.0, 0.0)),
        (Geometry("line", 2), 1 / 3),
        (Geometry("line", 2), 0.1),
        (Geometry("line", 2), 1e-7),
    ],
)
def test_a_place_written_exactly_is_read_as_the_same(geometry: Geometry, alpha: Alpha) -> None:
    assert list(parse_alphas([exact_place_text(alpha)], geometry, {}).points.values()) == [alpha]


def test_a_place_written_exactly_is_as_short_as_it_can_be() -> None:
    assert [exact_place_text(alpha) for alpha in (0.0, 0.6, (0.5, 0.5, 0))] == ["0", "0.6", "0.5,0.5,0"]
    assert exact_place_text((np.float64(0.25), np.float64(0.75))) == "0.25,0.75"


def test_several_specifications_are_one_request() -> None:
    request = parse_alphas(["midpoint", "endpoints", "endpoint:0"], LINE, {})
    assert list(request.points) == ["midpoint", "endpoint-0", "endpoint-1"]


@pytest.mark.parametrize("members", [(), ("a", "a"), ("a", "c")])
def test_an_ensemble_has_different_points(members: tuple[str, ...]) -> None:
    request = Request({"a": 0.0, "b": 1.0})
    with pytest.raises(GeometryError, match="different ones of the points: a, b"):
        request.add_ensemble("pair", Ensemble(members))


def test_an_ensemble_does_not_take_anothers_name() -> None:
    request = Request({"a": 0.0, "b": 1.0})
    request.add_ensemble("pair", Ensemble(("a", "b")))
    for name, message in [("pair", "something else"), ("a", "something else"), ("../pair", "cannot name")]:
        with pytest.raises(GeometryError, match=message):
            request.add_ensemble(name, Ensemble(("b",)))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], []])
def test_an_ensemble_has_a_weight_for_each_member(weights: list[float]) -> None:
    with pytest.raises(GeometryError, match="its 2 members need one each"):
        Request({"a": 0.0, "b": 1.0}).add_ensemble("pair", Ensemble(("a", "b"), tuple(weights)))


def test_an_ensemble_averages_what_there_is() -> None:
    with pytest.raises(GeometryError, match="'medians'; choose probabilities or logits"):
        Request({"a": 0.0, "b": 1.0}).add_ensemble("pair", Ensemble(("a", "b"), aggregate="medians"))


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
        (["best:rain"], LINE, "no selection named 'rain'.*best, blur:2, both, .*--name rain"),
        (["best:frost"], LINE, "'frost' may be one of several selections: frost:1, frost:4; give one.*best:frost:1"),
        (["best:fo"], LINE, "no selection named 'fo'"),
        (["best:corner"], LINE, "one number"),
        (["both=best:both", "both=0.5"], LINE, "two different places"),
        (["both-1=0.5", "best:both"], LINE, "two different places"),
        (["dark=0.6", "dark=best:night"], LINE, "two different places"),
        (["dark=best:both", "dark=best:blur"], LINE, "two different places"),
        (["a/b=0.5"], LINE, "cannot name a point"),
        (["a=0.5", "a=0.6"], LINE, "two different places"),
        (["nan"], LINE, "outside"),
        (["=0.5"], LINE, "cannot name a point"),
        (["a=0.5", "a=endpoints"], LINE, "an ensemble and to something else"),
        (["a=endpoints", "a=0.5"], LINE, "two different places"),
        (["random:1"], LINE, "asks for 1 members; a random ensemble has 2 to 64"),
        (["random:0"], LINE, "2 to 64"),
        (["random:65"], LINE, "asks for 65 members; a random ensemble has 2 to 64"),
        (["random"], LINE, "'random' is no random ensemble; give random:N or random:N:SEED, such as random:6"),
        (["random:"], LINE, "give random:N"),
        (["random:six"], LINE, "give random:N"),
        (["random:6:-1"], LINE, "give random:N"),
        (["random:6:1:2"], LINE, "give random:N"),
        (["random:" + 5000 * "9"], LINE, "give random:N"),
        (["random:6"], Geometry("simplex", 1), "a single network has one place only"),
        (["a=random:6", "a=random:6:1"], LINE, "two different places"),
        (["a=random:6", "a=0.5"], LINE, "two different places"),
        (["random:2", "random-2=endpoints"], LINE, "an ensemble and to something else"),
    ],
)
def test_bad_specifications_are_refused(texts: list[str], geometry: Geometry, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        parse_alphas(texts, geometry, SELECTIONS)
