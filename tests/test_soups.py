"""Model soups: averages of a subspace's ends, chosen on one half of the images and reported on the other."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import completed, invoke, run
from fixed_answers import FixedAnswers, numbered_images, run_select, scores_with
from untrained import save_untrained

from subspace_serve.bundle import Bundle
from subspace_serve.data.domains import corrupted_domains
from subspace_serve.errors import DataError, GeometryError
from subspace_serve.measure.metrics import METRICS, Scores
from subspace_serve.measure.networks import Candidate, Networks
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.selections import read_selections
from subspace_serve.run.statistics import calibration_in
from subspace_serve.select import Mixture, split
from subspace_serve.select.race import Race
from subspace_serve.select.soups import Soups, check_soups, make_soups
from subspace_serve.space.geometry import Geometry, single_network
from trainer.config import TrainingConfig
from trainer.training import train

LINE, TRIANGLE = Geometry("line", 2), Geometry("simplex", 3)
IMAGES = 700  # more than a block, so that a race could drop


def average(*members: int) -> tuple[float, ...]:
    return tuple(1 / len(members) if end in members else 0.0 for end in range(3))


def made(scores: dict[tuple[int, ...], Scores], metric: str = "accuracy") -> tuple[Race, Soups]:
    """The soups of a triangle whose averages have these scores, each by the numbers of its members."""
    networks = FixedAnswers({Candidate.point(average(*members)): found for members, found in scores.items()})
    race = Race(networks, numbered_images(len(next(iter(scores.values())))), metric)  # type: ignore[arg-type]
    return race, make_soups(race, TRIANGLE)


def right(*counts: int) -> list[Scores]:
    """Scores with so many of a hundred images right."""
    return [scores_with((np.arange(100) < count).astype(float)) for count in counts]


def triangle(*counts: int) -> dict[tuple[int, ...], Scores]:
    """Scores of the ends 0, 1, 2, of the pairs 01, 02, 12, and of all."""
    subsets = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    return dict(zip(subsets, right(*counts), strict=True))


def places(soups: Soups) -> list[tuple[tuple[float, ...], tuple[float, ...], bool]]:
    return [(step.member.members[0], step.soup.members[0], step.taken) for step in soups.steps]  # type: ignore[misc]


def test_members_take_turns_from_the_best_and_stay_where_the_average_does_not_fall() -> None:
    race, soups = made(triangle(70, 80, 75, 79, 90, 85, 84))
    assert places(soups) == [
        (average(1), average(1), True),
        (average(2), average(1, 2), True),
        (average(0), average(0, 1, 2), False),
    ]
    assert [step.soup_value for step in soups.steps] == [0.8, 0.85, 0.84]
    assert soups.greedy == Candidate.point(average(1, 2))
    assert soups.best_single == Candidate.point(average(1))
    assert soups.uniform == Candidate.point(TRIANGLE.midpoint)
    assert Candidate.point(average(0, 2)) not in race.scores  # the best pair, which greed passes by
    assert soups.reason("greedy-soup") == "the greedy soup of 2 of the 3 ends"


def test_of_equals_the_first_is_first_and_an_average_as_good_is_taken() -> None:
    _, soups = made(triangle(80, 80, 80, 80, 70, 70, 80))
    assert places(soups) == [
        (average(0), average(0), True),
        (average(1), average(0, 1), True),
        (average(2), average(0, 1, 2), True),
    ]
    assert soups.greedy == soups.uniform


def test_where_every_average_is_worse_the_greedy_soup_is_the_best_single_end() -> None:
    race, soups = made(triangle(70, 80, 75, 60, 60, 79, 50))
    assert soups.greedy == soups.best_single == Candidate.point(average(1))
    assert race.value(soups.greedy) == 0.8
    assert [step.taken for step in soups.steps] == [True, False, False]
    assert soups.reason("greedy-soup") == "the greedy soup is the best single end: every average with it is worse"
    assert soups.steps[2].soup == Candidate.point(average(0, 1))  # the end that was refused is not in the next average


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(6))
def test_the_greedy_soup_is_never_below_the_best_single_end_on_the_images_it_chose_on(metric: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = {}
    for size in (1, 2, 3):
        for members in itertools.combinations(range(3), size):
            correct = (random.random(IMAGES) < random.choice([0.2, 0.5, 0.7, 0.7, 0.9])).astype(float)
            confidence = random.uniform(0.3, 1, IMAGES)
            scores[members] = Scores(correct, -np.log(confidence), (1 - confidence) ** 2, confidence)
    race, soups = made(scores, metric)
    best = max(scores[(end,)].value(metric) for end in range(3))
    assert race.value(soups.best_single) == pytest.approx(best)
    assert race.value(soups.greedy) >= race.value(soups.best_single)
    for step in soups.steps:  # which no race dropped
        assert len(race.scores[step.member]) == len(race.scores[step.soup]) == IMAGES


def test_what_a_race_dropped_is_measured_on_every_image_when_it_may_be_in_a_soup() -> None:
    random = np.random.default_rng(0)
    scores = {members: scores_with((random.random(IMAGES) < 0.5) * 1.0) for members in triangle(*range(7))}
    scores[(0,)], scores[(1,)] = scores_with(np.ones(IMAGES)), scores_with(np.zeros(IMAGES))
    networks = FixedAnswers({Candidate.point(average(*members)): found for members, found in scores.items()})
    race = Race(networks, numbered_images(IMAGES), "accuracy")  # type: ignore[arg-type]
    race.run([Candidate.point(average(0)), Candidate.point(average(1))])
    assert len(race.scores[Candidate.point(average(1))]) < IMAGES
    make_soups(race, TRIANGLE)
    assert len(race.scores[Candidate.point(average(1))]) == IMAGES


def test_the_soups_of_a_line_are_its_ends_and_its_midpoint() -> None:
    points = [Candidate.point(alpha) for alpha in (0.0, 1.0, 0.5)]
    networks = FixedAnswers(dict(zip(points, right(60, 70, 80), strict=True)))
    race = Race(networks, numbered_images(100), "accuracy")  # type: ignore[arg-type]
    soups = make_soups(race, LINE)
    assert [step.soup for step in soups.steps] == [points[1], points[2]]
    assert soups.greedy == soups.uniform == points[2]


def test_curves_and_single_networks_make_no_soup() -> None:
    check_soups(LINE)
    check_soups(TRIANGLE)
    with pytest.raises(GeometryError, match="its bend is no network of its own.*--method grid"):
        check_soups(Geometry("curve", 3))
    with pytest.raises(GeometryError, match="one network makes no soup"):
        check_soups(single_network())


def test_a_curve_is_refused_before_anything_is_measured(line_run: Path, tmp_path: Path) -> None:
    run = save_untrained(line_run, tmp_path / "run", Geometry("curve", 3))
    result = invoke("select", run, "--method", "uniform-soup")
    assert result.exit_code == 1
    assert "a curve makes no soup" in str(result.exception)
    assert not (run / "selections.json").exists()


@pytest.fixture(scope="module")
def simplex_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a triangle trained for a few epochs on digits; tests must not change it."""
    folder = tmp_path_factory.mktemp("triangle") / "run"
    settings = {"data": "digits", "architecture": "cresnet8-4", "epochs": 3, "batch_size": 128}
    train(TrainingConfig(**settings, subspace="simplex", endpoints=3), folder)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", ["greedy-soup", "uniform-soup"])
def test_soups_of_a_simplex_are_recorded_as_they_were_made_and_reported_on_the_other_half(
    simplex_run: Path, metric: str, method: str
) -> None:
    run = OpenRun(simplex_run)
    selection = run_select(simplex_run, metric=metric, method=method)["best"]
    json.dumps(selection, allow_nan=False)
    networks, halves = Networks(run.network, run.calibration), split(run.data.validation, 10, seed=0)

    def scored(alpha, half: int) -> Scores:
        (found,) = networks.score([Candidate.point(tuple(alpha))], halves[half])
        return found

    sign = METRICS[metric]
    steps, best, taken = selection["steps"], None, []
    assert sorted(tuple(step["member"]) for step in steps) == sorted(TRIANGLE.ends)
    alone = [sign * step["metric"] for step in steps]
    assert alone == sorted(alone, reverse=True)
    for step in steps:
        assert step["metric"] == pytest.approx(sign * scored(step["member"], 0).value(metric))
        members = np.array([*taken, step["member"]])
        assert step["soup"] == pytest.approx(members.mean(axis=0))
        value = scored(step["soup"], 0).value(metric)
        assert step["soup_metric"] == pytest.approx(sign * value)
        assert step["taken"] == (best is None or value >= best)
        if step["taken"]:
            best = value
            taken.append(step["member"])
    greedy = np.mean(taken, axis=0)
    rows = selection["soups"]
    assert list(rows) == ["best-single", "uniform-soup", "greedy-soup", "grid"]
    assert rows["best-single"]["alpha"] == steps[0]["member"]
    assert rows["uniform-soup"]["alpha"] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert rows["greedy-soup"]["alpha"] == pytest.approx(greedy)
    assert rows["grid"]["alpha"] == run_select(simplex_run, metric=metric)["best"]["alpha"]
    single = scored(steps[0]["member"], 1)
    for row in rows.values():
        here = scored(row["alpha"], 1)
        assert row["reported"] == pytest.approx(here.metrics())
        assert row["gain"]["value"] == pytest.approx(here.value(metric) - single.value(metric))
        low, high = row["gain"]["interval"]
        assert low <= high
    assert rows["best-single"]["gain"]["interval"] == [0, 0]
    assert selection["alpha"] == rows[method]["alpha"]
    assert selection["reported"] == rows[method]["reported"]
    middle = scored(TRIANGLE.midpoint, 1)
    assert selection["gain"]["value"] == pytest.approx(
        scored(selection["alpha"], 1).value(metric) - middle.value(metric)
    )
    assert selection["kept_midpoint"] == (selection["alpha"] == TRIANGLE.midpoint)
    assert selection["method"] == method
    assert selection["alpha"] in [entry["alpha"] for entry in selection["grid"]]


def test_soups_for_several_domains_have_each_domains_statistics(line_run: Path) -> None:
    run = OpenRun(line_run)
    domains = corrupted_domains(run.data.validation, "validation", ["contrast", "brightness"], [5])
    selections = run_select(
        line_run,
        domains=domains,
        method="greedy-soup",
        domain_calibration={domain.name: calibration_in(run, domain, 0) for domain in domains},
        calibrated_on="domain",
    )
    assert list(selections) == ["contrast:5", "brightness:5"]
    for domain in domains:
        networks = Networks(run.network, calibration_in(run, domain, 0))
        _, reporting = split(domain.images, 10, seed=0)
        for row in selections[domain.name]["soups"].values():
            (scores,) = networks.score([Candidate.point(row["alpha"])], reporting)
            assert row["reported"] == pytest.approx(scores.metrics())
        recalibrated = selections[domain.name]["recalibration"]["domain"]["chosen"]
        assert recalibrated == pytest.approx(selections[domain.name]["reported"])


def test_what_cannot_be_a_soup_is_refused(line_run: Path) -> None:
    for settings in ({"kind": "all"}, {"greedy": True}, {"mixture": Mixture()}):
        with pytest.raises(DataError, match="a greedy-soup is one place for one domain"):
            run_select(line_run, method="greedy-soup", **settings)
    with pytest.raises(DataError, match="cannot choose by 'stew'; choose grid, greedy-soup, uniform-soup as method"):
        run_select(line_run, method="stew")


def test_the_command_prints_stores_and_exports_a_soup(line_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(line_run, tmp_path / "run"))
    words = ("select", folder, "--corruption", "contrast,fog", "--method", "uniform-soup", "--points", 3, "--refine", 0)
    result = completed(*words, "--json", tmp_path / "soups.json")
    stored = read_selections(folder, OpenRun(folder).checkpoint_sha256)
    written = json.loads((tmp_path / "soups.json").read_text())
    for name in ("contrast:3", "fog:3"):
        assert stored[name]["soups"] == written[name]["soups"]
        assert (stored[name]["method"], stored[name]["alpha"]) == ("uniform-soup", 0.5)
    shown = [line for line in result.output.splitlines() if line.startswith(("best single", "uniform soup", "greedy"))]
    rows = written["contrast:3"]["soups"]
    assert len(shown) == 8
    assert shown[0].split()[3:5] == [
        f"{rows['best-single']['alpha']:g}",
        f"{100 * rows['best-single']['reported']['accuracy']:.2f}",
    ]
    assert shown[1].split()[2:4] == ["0.5", f"{100 * rows['uniform-soup']['reported']['accuracy']:.2f}"]
    assert "the uniform soup of all 2 ends" in result.output
    assert "midpoint kept" not in result.output
    run("export", folder, "--alpha", "best:fog", "--no-evaluate")
    assert Bundle.open(folder / "bundle").points["fog-3"].alpha == 0.5


@pytest.mark.parametrize("more", ["--among ensembles", "--among all", "--greedy"])
def test_soups_among_ensembles_or_greedy_are_wrong_usage(line_run: Path, more: str) -> None:
    result = invoke("select", line_run, "--method", "greedy-soup", *more.split())
    assert result.exit_code == 2
    assert "leave --among and --greedy out" in result.output
    assert not (line_run / "selections.json").exists()


def test_a_soup_is_chosen_in_a_bundle_with_the_statistics_that_it_has(whole_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole_bundle, tmp_path / "bundle"))
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "camera.npz",
        images=random.integers(0, 256, (60, 8, 8), dtype=np.uint8),
        labels=np.arange(60) % 10,
        label_names=[str(digit) for digit in range(10)],
    )
    words = ("--val-data", tmp_path / "camera.npz", "--name", "camera", "--method", "greedy-soup")
    run("select", folder, *words)
    manifest = Bundle.open(folder).manifest
    chosen = manifest.domains["camera"].chosen
    assert chosen is not None
    assert chosen["method"] == "greedy-soup"
    assert manifest.points["camera"].alpha == chosen["soups"]["greedy-soup"]["alpha"]
    assert manifest.points["camera"].statistics == "training"
