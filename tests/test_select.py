from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import completed, invoke
from fixed_answers import FixedAnswers, answers, numbered_images, run_select, scores_with

from subspace_serve.data.domains import corrupted_domains
from subspace_serve.errors import CheckpointError, DataError, GeometryError
from subspace_serve.files import sha256_of
from subspace_serve.measure.metrics import DEBIASED_ECE, METRICS, score
from subspace_serve.measure.networks import Candidate, Networks
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.selections import check_selection_name, read_selections, store_selections
from subspace_serve.run.statistics import calibration_in, calibration_of_selection
from subspace_serve.select import candidates_of, select, split
from subspace_serve.select.candidates import distance_to_midpoint, neighbours
from subspace_serve.select.decide import decide, gain_with_interval, paired_gains
from subspace_serve.select.race import Race
from subspace_serve.space.geometry import Geometry, single_network
from subspace_serve.space.place import is_midpoint

LINE, TRIANGLE = Geometry("line", 2), Geometry("simplex", 3)


def points_of(geometry: Geometry, points: int) -> list:
    return [candidate.members[0] for candidate in candidates_of(geometry, "points", points)]


def test_the_grid_covers_the_domain_and_begins_with_the_midpoint() -> None:
    assert points_of(LINE, 4) == pytest.approx([0.5, 0, 1 / 3, 2 / 3, 1])
    assert points_of(Geometry("curve", 3), 3) == [0.5, 0, 1]
    assert points_of(single_network(), 11) == [(1.0,)]
    triangle = points_of(TRIANGLE, 16)
    assert len(triangle) == 15 + 1
    assert (1.0, 0.0, 0.0) in triangle
    assert triangle[0] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert all(sum(place) == pytest.approx(1) for place in triangle)


@pytest.mark.parametrize("kind", ["points", "all"])
def test_a_midpoint_that_the_grid_has_too_is_there_once(kind: str) -> None:
    singles = [candidate.members[0] for candidate in candidates_of(TRIANGLE, kind) if candidate.is_point]
    assert singles[0] == TRIANGLE.midpoint  # to the bit, as it is exported
    assert len(singles) == 10  # 3 steps along an edge
    assert sum(map(is_midpoint, singles)) == 1
    assert [candidate.members[0] for candidate in candidates_of(LINE, kind) if candidate.is_point].count(0.5) == 1


def test_ensembles_of_a_line_are_pairs_and_sets_of_ends_and_midpoint() -> None:
    members = {candidate.members for candidate in candidates_of(LINE, "ensembles", 5)}
    assert members == {(0.5,), (0.0, 1.0), (0.25, 0.75), (0.0, 0.5), (1.0, 0.5), (0.0, 1.0, 0.5)}
    both = {candidate.members for candidate in candidates_of(LINE, "all", 5)}
    assert both == members | {(0.0,), (0.25,), (0.75,), (1.0,)}


def test_ensembles_of_a_simplex_are_sets_of_vertices_and_midpoint() -> None:
    candidates = candidates_of(TRIANGLE, "ensembles", 16, aggregate="logits")
    assert len(candidates) == 1 + 6 + 4 + 1
    assert {candidate.aggregate for candidate in candidates[1:]} == {"logits"}
    with pytest.raises(GeometryError, match="one network makes no ensemble"):
        candidates_of(single_network(), "ensembles")


def test_neighbours_halve_the_step() -> None:
    def beside(candidate: Candidate, halvings: int) -> list:
        return [neighbour.members for neighbour in neighbours(LINE, candidate, 11, halvings)]

    assert beside(Candidate.point(0.3), 1) == [(0.25,), (0.35,)]
    assert beside(Candidate.point(0.3), 2) == [(0.275,), (0.325,)]
    assert beside(Candidate.point(0.0), 1) == [(0.05,)]
    assert beside(Candidate((0.3, 0.7)), 1) == [(0.25, 0.75), (0.35, 0.65)]
    assert beside(Candidate((0.0, 1.0, 0.5)), 1) == []
    corner = list(neighbours(TRIANGLE, Candidate.point((1.0, 0.0, 0.0)), 16, 1))
    assert {candidate.members[0] for candidate in corner} == {(0.875, 0.125, 0.0), (0.875, 0.0, 0.125)}


def test_points_are_nearer_to_the_midpoint_than_ensembles() -> None:
    distances = [
        distance_to_midpoint(LINE, candidate)
        for candidate in (Candidate.point(0.5), Candidate.point(0.0), Candidate((0.4, 0.6)), Candidate((0.0, 1.0)))
    ]
    assert distances == sorted(distances)
    assert distances[1] == (1, 0.5)


NEAR = [(1, 0.0), (1, 0.1), (1, 0.2), (1, 0.3)]


def test_a_clear_gain_is_taken_at_the_place_nearest_to_the_midpoint() -> None:
    scores = answers([0.7, 0.75, 0.8, 0.8], 4000)
    decision = decide(scores, "accuracy", NEAR, seed=0)
    assert decision.chosen == 2
    assert decision.p_value < 0.01
    assert "beats the midpoint" in decision.reason


def test_without_a_gain_beyond_chance_the_midpoint_is_kept_unless_greedy() -> None:
    scores = answers([0.800, 0.801, 0.8, 0.799], 500, seed=3)
    best = max(range(4), key=lambda index: scores[index].accuracy.mean())
    assert best != 0
    kept = decide(scores, "accuracy", NEAR, seed=0)
    assert (kept.chosen, kept.best) == (0, best)
    assert kept.p_value > 0.05
    assert "beyond chance" in kept.reason
    assert decide(scores, "accuracy", NEAR, seed=0, greedy=True).chosen == best


def test_trying_many_equal_candidates_finds_a_gain_no_more_often_than_the_test_allows() -> None:
    found = 0
    for seed in range(60):
        scores = answers([0.8] * 12, 300, seed=seed)
        found += decide(scores, "accuracy", [(1, 0.0)] * 12, seed=seed).chosen != 0
    assert found <= 8  # 5 % of 60 is 3; 9 or more has a chance under 0.4 %


def test_the_midpoint_is_kept_when_it_is_the_best_and_among_equals() -> None:
    scores = answers([0.9, 0.8, 0.7], 400)
    decision = decide(scores, "accuracy", NEAR[:3], seed=0)
    assert (decision.chosen, decision.p_value, decision.reason) == (0, 1.0, "the midpoint is the best")
    assert decide([scores[0], scores[0]], "accuracy", NEAR[:2], seed=0, greedy=True).chosen == 0


def test_less_is_better_for_likelihood() -> None:
    scores = answers([0.7, 0.8], 3000)
    gains = paired_gains(scores[1:], scores[0], "nll", seed=0)
    assert gains.observed[0] == pytest.approx(scores[0].nll.mean() - scores[1].nll.mean())
    assert gains.observed[0] > 0.05


def test_the_interval_of_a_gain_is_that_of_the_paired_differences() -> None:
    first, second = answers([0.8, 0.75], 2000)
    gain = gain_with_interval(first, second, "accuracy", seed=0)
    differences = first.accuracy - second.accuracy
    half_width = 1.96 * differences.std() / np.sqrt(2000)
    assert gain["value"] == pytest.approx(differences.mean())
    assert gain["interval"] == pytest.approx(
        [differences.mean() - half_width, differences.mean() + half_width], abs=0.15 * half_width
    )
    assert gain["p_value"] < 0.01
    assert gain_with_interval(second, second, "accuracy", seed=0) == {
        "value": 0.0,
        "interval": [0.0, 0.0],
        "p_value": 1.0,
    }


def test_dropped_candidates_count_as_what_they_would_vary_on_all_images() -> None:
    first, second = answers([0.8, 0.7], 4000)
    part = paired_gains([second.subset(slice(0, 1000))], first, "accuracy", seed=0)
    full = paired_gains([second], first, "accuracy", seed=0)
    assert part.standard_errors[0] == pytest.approx(full.standard_errors[0], rel=0.2)


def test_a_dropped_candidates_early_luck_does_not_make_another_one_significant() -> None:
    random = np.random.default_rng(0)
    base = random.random(5000) < 0.8
    better = base ^ (random.random(5000) < 0.01)
    lucky = base.copy()
    lucky[:512] = True
    alone = decide([scores_with(base * 1.0), scores_with(better * 1.0)], "accuracy", NEAR[:2], seed=0)
    dropped = scores_with(lucky * 1.0).subset(slice(0, 512))
    beside = decide([scores_with(base * 1.0), scores_with(better * 1.0), dropped], "accuracy", NEAR[:3], seed=0)
    assert beside.p_value >= alone.p_value


def test_a_bootstrap_of_three_images_is_finite() -> None:
    scores = scores_with(np.array([1.0, 0.0, 1.0]))
    gain = gain_with_interval(scores, scores_with(np.zeros(3)), "accuracy", seed=0)
    assert np.isfinite(gain["interval"]).all()


def raced(metric: str = "accuracy") -> tuple[Race, FixedAnswers, list[Candidate]]:
    alphas = [0.5, 0.6, 0.7, 0.1]
    candidates = [Candidate.point(alpha) for alpha in alphas]
    networks = FixedAnswers(dict(zip(candidates, answers([0.6, 0.805, 0.805, 0.3], 6000), strict=True)))
    race = Race(networks, numbered_images(6000), metric, seed=1)  # type: ignore[arg-type]
    race.run(candidates)
    return race, networks, candidates


def test_a_race_drops_the_clearly_worse_but_never_the_midpoint() -> None:
    race, networks, candidates = raced()
    assert [len(race.scores[candidate]) for candidate in candidates] == [6000, 6000, 6000, 512]
    assert networks.measured == 3 * 6000 + 512
    assert race.best() == max(candidates[1:3], key=lambda candidate: networks.scores[candidate].accuracy.mean())
    assert race.value(candidates[1]) == pytest.approx(networks.scores[candidates[1]].accuracy.mean())


def test_a_race_by_calibration_error_drops_nobody() -> None:
    race, _, candidates = raced("ece")
    assert race.complete == candidates


def test_later_runners_are_measured_against_the_best_so_far() -> None:
    race, networks, _ = raced()
    late = Candidate.point(0.2)
    networks.scores[late] = answers([0.3], 6000)[0]
    race.run([late])
    assert len(race.scores[late]) == 512
    race.run([late])
    assert networks.measured == 3 * 6000 + 2 * 512


@pytest.mark.parametrize("seed", range(5))
def test_a_race_ends_where_measuring_everything_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    candidates = [Candidate.point(float(alpha)) for alpha in np.linspace(0, 1, 9).round(9)]
    rates = list(0.8 - 0.1 * (np.linspace(0, 1, 9) - random.random()) ** 2)
    networks = FixedAnswers(dict(zip(candidates, answers(rates, 5000, seed), strict=True)))
    race = Race(networks, numbered_images(5000), "accuracy", seed=seed)  # type: ignore[arg-type]
    race.run(candidates)
    best = max(scores.accuracy.mean() for scores in networks.scores.values())
    assert networks.scores[race.best()].accuracy.mean() == best


def test_a_gain_by_calibration_error_is_one_of_its_debiased_square() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1, 200)
    labels = (generator.uniform(size=200) > confidence).astype(np.int64)
    calibrated = score(np.stack([confidence, 1 - confidence], axis=1), labels)
    overconfident = score(np.tile([0.99, 0.01], (200, 1)), labels)
    gain = gain_with_interval(calibrated, overconfident, "ece", seed=0)
    assert gain["value"] == pytest.approx(calibrated.value("ece") - overconfident.value("ece"))
    low, high = gain["interval"]
    assert 0 < low < 0.24**2 < high  # 0.99 is said where 0.75 is true


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric != "ece"])
def test_greedy_takes_the_best_place_of_the_grid(line_run: Path, metric: str) -> None:
    selection = run_select(line_run, metric=metric, greedy=True)["best"]
    values = {entry["alpha"]: METRICS[metric] * entry[metric] for entry in selection["grid"]}
    assert set(values) == {0.0, 0.5, 1.0}
    assert values[selection["alpha"]] == max(values.values())
    count = len(OpenRun(line_run).data.validation)
    assert selection["chosen_on"] + selection["reported_on"] == count
    gain = METRICS[metric] * (selection["reported"][metric] - selection["midpoint"][metric])
    assert selection["gain"]["value"] == pytest.approx(gain)
    low, high = selection["gain"]["interval"]
    assert low <= selection["gain"]["value"] <= high
    assert json.loads(json.dumps(selection)) == selection


def test_select_by_calibration_error_takes_and_reports_its_debiased_square(line_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(line_run, tmp_path / "run"))
    words = ["select", str(folder), "--metric", "ece", "--greedy", "--points", "3", "--refine", "0", "--json", "-"]
    selection = json.loads(completed(*words).stdout)["best"]
    assert selection["compared_by"] == "debiased squared calibration error"
    assert read_selections(folder, OpenRun(folder).checkpoint_sha256)["best"]["compared_by"] == DEBIASED_ECE
    run = OpenRun(folder)
    alphas = [0.5, 0.0, 1.0]
    networks, candidates = Networks(run.network, run.calibration), list(map(Candidate.point, alphas))
    choosing, reporting = (
        dict(zip(alphas, networks.score(candidates, half), strict=True))
        for half in split(run.data.validation, 10, seed=0)
    )
    assert selection["alpha"] == max(alphas, key=lambda alpha: choosing[alpha].value("ece"))
    gain = reporting[selection["alpha"]].value("ece") - reporting[0.5].value("ece")
    assert selection["gain"]["value"] == pytest.approx(gain)
    assert selection["reported"] == pytest.approx(reporting[selection["alpha"]].metrics())
    shown = completed(*words[:-2]).stdout
    assert "squared ECE gain" in shown
    assert f"{selection['reason']}" in shown
    assert "compared_by" not in run_select(line_run)["best"]


def test_what_is_reported_is_measured_on_the_other_half(line_run: Path) -> None:
    run = OpenRun(line_run)
    selection = run_select(line_run, seed=4)["best"]
    _, reporting = split(run.data.validation, 10, seed=4)
    (scores,) = Networks(run.network, run.calibration).score([Candidate.point(0.5)], reporting)
    assert selection["midpoint"] == pytest.approx(scores.metrics())


def test_domains_share_their_networks(line_run: Path) -> None:
    run = OpenRun(line_run)
    made: list[str] = []
    domains = corrupted_domains(run.data.validation, "validation", ["contrast", "brightness"], [3, 4])
    selections = run_select(line_run, domains=domains, progress=made.append)
    assert list(selections) == ["contrast:3", "contrast:4", "brightness:3", "brightness:4"]
    assert sorted(line for line in made if line.startswith("alpha")) == ["alpha 0", "alpha 0.5", "alpha 1"]
    assert selections["contrast:4"]["domain"] == {
        "data": "validation",
        "corruption": "contrast",
        "severity": 4,
        "preset": "cifar",
        "seed": 0,
    }
    alone = run_select(line_run, domains=domains[1:2])["contrast:4"]
    assert alone == selections["contrast:4"]


def test_refinement_looks_beside_the_best(line_run: Path) -> None:
    selection = run_select(line_run, metric="nll", refine=1, greedy=True)["best"]
    places = [entry["alpha"] for entry in selection["grid"]]
    assert places[:3] == [0.5, 0.0, 1.0]
    best = max(selection["grid"][:3], key=lambda entry: -entry["nll"])["alpha"]
    assert set(places[3:]) == {alpha for alpha in (best - 0.25, best + 0.25) if 0 <= alpha <= 1}


def test_an_ensemble_can_be_chosen(line_run: Path) -> None:
    # In fog both ends together are far better than the midpoint.
    fog = corrupted_domains(OpenRun(line_run).data.validation, "validation", ["fog"], [5])
    selection = run_select(line_run, domains=fog, kind="ensembles", greedy=True, metric="nll")["fog:5"]
    best = min(selection["grid"], key=lambda entry: entry["nll"])
    assert selection["members"] == best["members"]
    assert sum(selection["weights"]) == pytest.approx(1)
    assert selection["aggregate"] == "probabilities"
    assert [0.0, 1.0] in [entry.get("members") for entry in selection["grid"]]


def test_recalibration_on_the_domain_is_reported_beside_the_usual_one(line_run: Path) -> None:
    run = OpenRun(line_run)
    (domain,) = corrupted_domains(run.data.validation, "validation", ["brightness"], [5])
    choosing, _ = split(domain.images, 10, seed=0)
    selection = run_select(
        line_run,
        domains=[domain],
        domain_calibration={domain.name: calibration_in(run, domain, 0)},
        calibrated_on="domain",
    )["brightness:5"]
    assert selection["calibration"]["on"] == "domain"
    assert selection["recalibration"]["domain"]["chosen"] == pytest.approx(selection["reported"])
    assert selection["recalibration"]["default"]["midpoint"] != selection["recalibration"]["domain"]["midpoint"]
    again = calibration_of_selection(run, selection)
    assert again.to_json() | {"on": "domain"} == selection["calibration"]
    assert len(again) + len(again.held_out) <= len(choosing)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(9), "9 validation images are fewer than the 10 classes"),
        (np.tile(np.arange(10), 2)[:19], "fewer than two of class 9"),
        (np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 8] * 2), "fewer than two of class 9"),
        (np.tile(np.arange(11), 2), "a label is 10"),
        (np.arange(0), "no images"),
    ],
)
def test_validation_images_must_hold_every_class_twice(labels: np.ndarray, message: str) -> None:
    from subspace_serve.data import MemoryImages

    images = MemoryImages(np.zeros((len(labels), 8, 8, 1), np.uint8), labels)
    with pytest.raises(DataError, match=message):
        split(images, 10, seed=0)


def test_the_halves_are_stratified_and_disjoint() -> None:
    from subspace_serve.data import MemoryImages

    count = 200
    pixels = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    images = MemoryImages(pixels, np.arange(count) % 10)
    choosing, reporting = split(images, 10, seed=0)
    assert np.bincount(choosing.labels).tolist() == np.bincount(reporting.labels).tolist() == [10] * 10
    seen = {int(p) for part in (choosing, reporting) for pixels, _ in part.batches(64) for p in pixels.flatten()}
    assert len(seen) == count


def test_an_unknown_metric_is_refused(line_run: Path) -> None:
    with pytest.raises(DataError, match="cannot choose by 'f1'; choose accuracy, nll, ece, brier"):
        run_select(line_run, metric="f1")


def damaged_entry(fields: str) -> str:
    return f'{{"fog": {{"checkpoint_sha256": "{"a" * 64}", {fields}}}}}'


def test_selections_are_kept_by_name_and_bound_to_their_checkpoint(tmp_path: Path) -> None:
    assert read_selections(tmp_path, "a" * 64) == {}
    store_selections(tmp_path, {"fog:3": {"alpha": 0.7}, "best": {"alpha": 0.1}}, "a" * 64)
    store_selections(tmp_path, {"fog:3": {"alpha": 0.6}, "both": {"members": [0, 1]}}, "a" * 64)
    stored = read_selections(tmp_path, "a" * 64)
    assert {name: s.get("alpha") for name, s in stored.items()} == {"fog:3": 0.6, "best": 0.1, "both": None}
    with pytest.raises(CheckpointError, match="'fog:3' .* was made for another checkpoint"):
        read_selections(tmp_path, "b" * 64)
    parts = ('"x": 1', '"alpha": "x"', '"alpha": null', '"members": 5', '"alpha": 0.5, "domain": {}')
    more = ('"alpha": 0.5, "calibration": "zz"', '"alpha": 0.5, "seed": "q"', '"alpha": 0.5, "calibration": {"on": 5}')
    for damaged in ("{", "[]", *(damaged_entry(part) for part in parts + more)):
        (tmp_path / "selections.json").write_text(damaged)
        with pytest.raises(CheckpointError, match="is damaged"):
            read_selections(tmp_path, "a" * 64)


@pytest.mark.parametrize("name", ["fog:6", "fog:3:1", "a b", "", "../x", ":3"])
def test_names_that_cannot_be_stored(name: str) -> None:
    with pytest.raises(DataError, match="cannot name a selection"):
        check_selection_name(name)


def test_the_ends_in_int8_are_a_rival_of_the_float_midpoint(line_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(line_run, tmp_path / "run"))
    words = ["select", str(run), "--precision", "int8", "--points", "2", "--refine", "0", "--calibration-count", "256"]
    assert "the ends' ensemble in int8 against the midpoint in float" in completed(*words).stdout
    found = json.loads((run / "selections.json").read_text())["best"]
    rival = found["int8"]
    assert (rival["members"], rival["weights"], rival["aggregate"]) == ([0.0, 1.0], [0.5, 0.5], "probabilities")
    gained = rival["reported"]["accuracy"] - found["midpoint"]["accuracy"]
    assert rival["gain"]["value"] == pytest.approx(gained, abs=1e-9)
    assert rival["gain"]["interval"][0] <= gained <= rival["gain"]["interval"][1]
    low, high = rival["cost"]["quartiles"]
    assert 0 < low <= rival["cost"]["median"] <= high
    refused = invoke(*words, "--mixture", "a=1")
    assert refused.exit_code == 2


def test_a_choice_stays_with_its_run_when_the_link_moves(
    line_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        shutil.copytree(line_run, Path("runs", name))
    link = Path("runs/latest")
    link.symlink_to("first")

    def overtaken(*arguments, **settings):
        link.unlink()
        link.symlink_to("second")  # as another training does
        return select(*arguments, **settings)

    monkeypatch.setattr("subspace_serve.select.select", overtaken)
    result = completed("select --points 2 --refine 0 --calibration-count 128")
    assert "runs/first/selections.json" in result.output
    assert [Path("runs", name, "selections.json").exists() for name in ("first", "second")] == [True, False]


def test_a_checkpoints_hash_is_that_of_what_was_read(own_run: Path) -> None:
    run = OpenRun(own_run)
    _ = run.subspace
    before = sha256_of(run.file)
    run.file.write_bytes(b"another epoch")
    assert run.checkpoint_sha256 == before


def test_an_epoch_that_ends_while_a_checkpoint_is_read_is_read_itself(
    own_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from subspace_serve.space import checkpoint

    load, later = checkpoint.load_subspace, own_run / "later"
    shutil.copy(own_run / checkpoint.FILE_NAME, later)
    reads = []

    def overtaken(file: Path):
        subspace = load(file)
        reads.append(file)
        if len(reads) == 1:
            later.replace(file)
        return subspace

    monkeypatch.setattr(checkpoint, "load_subspace", overtaken)
    run = OpenRun(own_run)
    assert run.checkpoint_sha256 == sha256_of(run.file)
    assert len(reads) == 2
