"""One choice for several domains: a mean of their metrics by weight, and the worst of them bounded."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import completed, invoke, run
from fixed_answers import FixedAnswers, answers, numbered_images, scores_with

from subspace_serve.bundle import Bundle
from subspace_serve.data import Images
from subspace_serve.data.domains import Domain, corrupted_domains
from subspace_serve.errors import DataError
from subspace_serve.measure.metrics import METRICS, Scores
from subspace_serve.measure.networks import Candidate, Networks
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.selections import read_selections
from subspace_serve.run.statistics import calibration_on
from subspace_serve.select import Mixture, select, split
from subspace_serve.select.decide import decide, gain_with_interval, paired_gains
from subspace_serve.select.mixture import MixedRace, MixedScores
from subspace_serve.select.race import Race

ALPHAS = (0.5, 0.0, 1.0)


def test_weights_count_in_proportion_and_equally_where_none_are_given() -> None:
    assert Mixture({"new": 3, "old": 1}).shares(["old", "new"]) == (0.25, 0.75)
    assert Mixture().shares(["a", "b", "c", "d"]) == (0.25,) * 4
    assert Mixture({"a": 1e308, "b": 1e308}).shares(["a", "b"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("mixture", "domains", "message"),
    [
        (Mixture(), ["old"], "needs two domains or more, and there is old"),
        (Mixture(), ["best", "best"], "have the names best, best; tell them apart"),
        (Mixture({"old": 1, "nwe": 1}), ["old", "new"], "no domain 'nwe'.*did you mean new"),
        (Mixture(at_least={"x": 0.5}), ["old", "new"], "no domain 'x'.*choose among old, new"),
        (Mixture({"old": 1}), ["old", "new"], "gives no weight to new"),
        (Mixture({"old": 0, "new": 1}), ["old", "new"], "the weight of old is 0; weights are positive"),
        (Mixture({"old": math.inf, "new": 1}), ["old", "new"], "the weight of old is inf"),
        (Mixture(at_least={"old": 90}), ["old", "new"], "90; it is a fraction from 0 to 1"),
        (Mixture(at_least={"old": math.nan}), ["old", "new"], "nan; it is a fraction"),
    ],
)
def test_a_mixture_of_other_domains_or_numbers_is_refused(mixture: Mixture, domains: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mixture.check(domains)


def mixed(*parts: Scores, shares: tuple[float, ...] = (0.25, 0.75)) -> MixedScores:
    return MixedScores(parts, shares)


@pytest.mark.parametrize("metric", METRICS)
def test_a_mixtures_metric_is_the_mean_over_domains_by_weight(metric: str) -> None:
    (old,), (new,) = answers([0.9], 300), answers([0.4], 50, seed=1)
    both = mixed(old, new)
    assert len(both) == 350
    assert both.metrics()[metric] == pytest.approx(0.25 * old.metrics()[metric] + 0.75 * new.metrics()[metric])
    assert both.value(metric) == pytest.approx(0.25 * old.value(metric) + 0.75 * new.value(metric))
    weights = np.random.default_rng(0).poisson(1.0, (4, 350)).astype(float)
    for name in ("weighted", "compared"):
        parts = getattr(old, name)(metric, weights[:, :300]), getattr(new, name)(metric, weights[:, 300:])
        assert getattr(both, name)(metric, weights) == pytest.approx(0.25 * parts[0] + 0.75 * parts[1])


def test_a_mixture_of_one_domain_is_gained_on_as_the_domain_itself() -> None:
    first, second = answers([0.8, 0.75], 2000)
    alone = gain_with_interval(first, second, "accuracy", seed=0)
    assert gain_with_interval(mixed(first, shares=(1.0,)), mixed(second, shares=(1.0,)), "accuracy", seed=0) == alone


def test_gains_of_a_mixture_are_summed_by_weight_and_vary_as_independent_domains_do() -> None:
    old, new = answers([0.7, 0.75], 4000), answers([0.5, 0.6], 400, seed=1)
    each = [paired_gains(pair[1:], pair[0], "accuracy", seed=0) for pair in (old, new)]
    both = paired_gains([mixed(old[1], new[1])], mixed(old[0], new[0]), "accuracy", seed=0)
    assert both.observed == pytest.approx(0.25 * each[0].observed + 0.75 * each[1].observed)
    expected = math.hypot(0.25 * each[0].standard_errors[0], 0.75 * each[1].standard_errors[0])
    assert both.standard_errors[0] == pytest.approx(expected, rel=0.15)


def test_a_bootstrap_of_a_domain_of_two_images_is_finite() -> None:
    few = scores_with(np.array([1.0, 0.0])), scores_with(np.zeros(2))
    many = answers([0.8, 0.7], 500)
    gain = gain_with_interval(mixed(many[0], few[0]), mixed(many[1], few[1]), "accuracy", seed=0)
    assert np.isfinite(gain["interval"]).all()


NEAR = [(1, 0.0), (1, 0.1), (1, 0.2), (1, 0.3)]


def test_a_gain_on_the_domain_that_counts_outweighs_a_loss_on_the_other() -> None:
    old, new = answers([0.9, 0.8], 3000), answers([0.5, 0.6], 3000, seed=1)
    for shares, chosen in (((0.2, 0.8), 1), ((0.8, 0.2), 0)):
        scores = [mixed(*parts, shares=shares) for parts in zip(old, new, strict=True)]
        assert decide(scores, "accuracy", NEAR[:2], seed=0).chosen == chosen


def test_the_rules_hold_among_the_places_within_bounds() -> None:
    scores = answers([0.7, 0.75, 0.8, 0.8], 4000)
    assert decide(scores, "accuracy", NEAR, seed=0).chosen == 2
    inside = decide(scores, "accuracy", NEAR, seed=0, within=[0, 1])
    assert (inside.chosen, inside.best) == (1, 1)
    assert inside.p_value < 0.01
    assert decide(scores, "accuracy", NEAR, seed=0, within=[0]).chosen == 0


def test_where_the_midpoint_is_out_of_bounds_the_best_within_is_taken_even_if_worse() -> None:
    scores = answers([0.8, 0.7, 0.75, 0.9], 4000)
    decision = decide(scores, "accuracy", NEAR, seed=0, within=[1, 2])
    assert (decision.chosen, decision.best) == (2, 2)
    assert decision.p_value == 1.0
    assert decision.reason == "the best within the bounds, which the midpoint does not keep"


def race(rates: dict[str, list[float]], mixture: Mixture, count: int = 1000) -> tuple[MixedRace, list[Candidate]]:
    """A race of places that are right at these rates on each domain, exactly."""
    candidates = [Candidate.point(alpha / 10) for alpha in range(len(next(iter(rates.values()))))]
    races = {}
    for name, found in rates.items():
        scores = [scores_with((np.arange(count) < rate * count).astype(float)) for rate in found]
        networks = FixedAnswers(dict(zip(candidates, scores, strict=True)))
        races[name] = Race(networks, numbered_images(count), "accuracy")  # type: ignore[arg-type]
    mixed_race = MixedRace(races, mixture)
    mixed_race.run(candidates)
    return mixed_race, candidates


def test_nobody_is_dropped_from_a_mixture_and_the_best_is_the_best_within_bounds() -> None:
    rates = {"old": [0.9, 0.1, 0.8, 0.7], "new": [0.1, 0.99, 0.5, 0.6]}
    found, candidates = race(rates, Mixture())
    assert {len(scores) for scores in found.scores.values()} == {2000}
    assert found.within() == [0, 1, 2, 3]
    assert found.best() == candidates[2]  # 0.65, as the last, which comes later
    bounded, _ = race(rates, Mixture({"old": 1, "new": 9}, {"old": 0.7}))
    assert bounded.within() == [0, 2, 3]
    assert bounded.best() == candidates[3]
    unreached, _ = race(rates, Mixture(at_least={"new": 1.0}))
    assert unreached.best() == candidates[1]  # the nearest to the bound, beside which a finer grid looks


def test_bounds_that_no_place_keeps_are_named_with_what_was_reached() -> None:
    rates = {"old": [0.9, 0.1, 0.8, 0.7], "new": [0.1, 0.99, 0.5, 0.6]}
    found, _ = race(rates, Mixture(at_least={"old": 0.95, "new": 0.5}))
    with pytest.raises(
        DataError,
        match="none of 4 places keeps the bounds.*old must reach 0.95, its best is 0.9 at alpha 0. Ask for less",
    ):
        found.within()
    found, _ = race(rates, Mixture(at_least={"old": 0.9, "new": 0.9}))
    with pytest.raises(
        DataError, match="keeps all bounds together.*0.9 at alpha 0; new must reach 0.9, its best is 0.99 at alpha 0.1"
    ):
        found.within()


def domains_of(run: OpenRun) -> list[Domain]:
    """The validation images, and the same in low contrast with another camera's labels: what the first end says."""
    (dim,) = corrupted_domains(run.data.validation, "validation", ["contrast"], [2])
    networks = Networks(run.network, run.calibration)
    logits = np.concatenate([found[0.0] for found, _ in networks.logits([0.0], run.data.validation)])
    said = run.data.validation.with_labels(logits.argmax(axis=1))
    return [Domain("said", said, {"data": "said"}), Domain("dim", dim.images, dim.record)]


def run_select(run: OpenRun, domains: list[Domain], mixture: Mixture, **settings) -> dict:
    settings = {"points": 3, "refine": 0} | settings
    found = select(run.network, domains, calibration=run.calibration, mixture=mixture, **settings)
    assert list(found) == [mixture.name]
    return found[mixture.name]


def scored(run: OpenRun, images: Images, half: int) -> dict[float, Scores]:
    candidates = [Candidate.point(alpha) for alpha in ALPHAS]
    found = Networks(run.network, run.calibration).score(candidates, split(images, 10, seed=0)[half])
    return dict(zip(ALPHAS, found, strict=True))


@pytest.mark.parametrize("metric", METRICS)
def test_a_mixture_is_chosen_on_one_half_and_reported_by_domain_on_the_other(line_run: Path, metric: str) -> None:
    run = OpenRun(line_run)
    domains = domains_of(run)
    selection = run_select(run, domains, Mixture({"said": 1, "dim": 3}), metric=metric, greedy=True)
    json.dumps(selection, allow_nan=False)
    choosing, reporting = ({d.name: scored(run, d.images, half) for d in domains} for half in (0, 1))
    shares = {"said": 0.25, "dim": 0.75}

    def value(half: dict, alpha: float) -> float:
        return sum(share * half[name][alpha].value(metric) for name, share in shares.items())

    alpha = selection["alpha"]
    assert value(choosing, alpha) == pytest.approx(max(value(choosing, place) for place in ALPHAS))
    assert selection["gain"]["value"] == pytest.approx(value(reporting, alpha) - value(reporting, 0.5))
    low, high = selection["gain"]["interval"]
    assert low <= high
    for name, share in shares.items():
        entry = selection["domains"][name]
        assert entry["weight"] == share
        assert entry["choosing"] == pytest.approx(choosing[name][alpha].metrics())
        assert entry["reported"] == pytest.approx(reporting[name][alpha].metrics())
        assert entry["midpoint"] == pytest.approx(reporting[name][0.5].metrics())
        assert entry["gain"] == gain_with_interval(reporting[name][alpha], reporting[name][0.5], metric, seed=0)
        assert "holds" not in entry
    means = {m: sum(s * reporting[n][alpha].metrics()[m] for n, s in shares.items()) for m in METRICS}
    assert selection["reported"] == pytest.approx(means)
    assert selection["chosen_on"] == sum(entry["chosen_on"] for entry in selection["domains"].values())
    assert ("compared_by" in selection) == (metric == "ece")
    assert selection["domains"]["dim"]["domain"] == domains[1].record
    assert "domain" not in selection


def test_a_bound_that_the_midpoint_misses_moves_the_choice_to_where_it_holds(line_run: Path) -> None:
    run = OpenRun(line_run)
    domains = domains_of(run)
    on_said = scored(run, domains[0].images, 0)
    assert on_said[0.0].accuracy.mean() == 1 > max(on_said[0.5].accuracy.mean(), on_said[1.0].accuracy.mean())
    selection = run_select(run, domains, Mixture(at_least={"said": 1.0}, name="safe"))
    assert selection["alpha"] == 0.0
    assert not selection["kept_midpoint"]
    assert selection["reason"] == "the best within the bounds, which the midpoint does not keep"
    assert selection["domains"]["said"] | {"at_least": 1.0, "holds": True} == selection["domains"]["said"]
    assert selection["domains"]["said"]["weight"] == 0.5
    assert "at_least" not in selection["domains"]["dim"]


def test_whether_a_bound_holds_is_said_of_the_half_that_was_not_chosen_on(line_run: Path) -> None:
    run = OpenRun(line_run)
    domains = domains_of(run)
    choosing, reporting = (scored(run, domains[1].images, half)[0.5].accuracy.mean() for half in (0, 1))
    bound = float(choosing)
    selection = run_select(run, domains, Mixture(at_least={"dim": bound}), points=2)
    entry = selection["domains"]["dim"]
    assert entry["choosing"]["accuracy"] >= bound
    assert entry["holds"] == (entry["reported"]["accuracy"] >= bound)
    lower = run_select(run, domains, Mixture(at_least={"dim": 0.0}))["domains"]["dim"]
    assert (lower["at_least"], lower["holds"]) == (0.0, True)
    assert lower["midpoint"]["accuracy"] == pytest.approx(reporting)


def test_a_mixture_recalibrated_on_other_images_reports_both(line_run: Path) -> None:
    run = OpenRun(line_run)
    domains = domains_of(run)
    selection = run_select(
        run, domains, Mixture(), domain_calibration={"mixture": calibration_on(run, "validation")},
        calibrated_on="validation",
    )  # fmt: skip
    assert selection["calibration"]["on"] == "validation"
    assert selection["recalibration"]["domain"]["chosen"] == pytest.approx(selection["reported"])


def test_the_command_stores_one_place_for_all_which_is_exported(own_run: Path, new: Path) -> None:
    words = ("select", own_run, "--val-data", "old=validation", "--val-data", f"new={new}", "--points", 3)
    result = completed(*words, "--mixture", "old:1,new:3", "--at-least", "old=0", "--name", "both", "--greedy")
    stored = read_selections(own_run, OpenRun(own_run).checkpoint_sha256)
    assert list(stored) == ["both"]
    parts = stored["both"]["domains"]
    assert {name: part["weight"] for name, part in parts.items()} == {"old": 0.25, "new": 0.75}
    rows = [line.split() for line in result.output.splitlines() if line.startswith(("old ", "new "))]
    assert [row[:3] for row in rows] == [
        [name, f"{part['weight']:.3g}", f"{100 * part['reported']['accuracy']:.2f}"] for name, part in parts.items()
    ]
    assert rows[0][-2:] == ["0.00,", "holds"]
    assert "export it with --alpha best:both" in result.output
    run("export", own_run, "--alpha", "best:both", "--temperature")
    point = Bundle.open(own_run / "bundle").points["both"]
    assert point.alpha == stored["both"]["alpha"]
    assert point.temperature_fit is not None
    assert point.temperature_fit.data == "digits:validation"
    run("report", own_run, "--points", 3, "--no-plane")
    page = next((own_run / "report").glob("*.html")).read_text()
    assert "old (weight 0.25): data validation" in page


def test_a_mixture_calibrated_on_other_images_is_exported_so(own_run: Path, new: Path) -> None:
    words = ("--val-data", "old=validation", "--val-data", f"new={new}", "--points", 2, "--refine", 0)
    run("select", own_run, *words, "--mixture", "old:1,new:1", "--calibrate-on", new)
    run("export", own_run, "--alpha", "best:mixture", "--no-evaluate")
    assert Bundle.open(own_run / "bundle").points["mixture"].calibration.data == str(new)


def test_bounds_out_of_reach_end_with_status_1_and_store_nothing(own_run: Path, new: Path) -> None:
    words = ("--val-data", "old=validation", "--val-data", f"new={new}", "--points", 2, "--refine", 0)
    result = invoke("select", own_run, *words, "--at-least", "old=1", "--at-least", "new=1")
    assert result.exit_code == 1
    assert "none of 3 places keeps the bounds" in str(result.exception)
    assert not (own_run / "selections.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--mixture old:1,nwe:1", "did you mean new"),
        ("--mixture old:1", "gives no weight to new"),
        ("--mixture old:1,new:0", "weights are positive and finite"),
        ("--mixture old:1,new:inf", "weights are positive and finite"),
        ("--mixture old,new", "as old:1,new:3; found 'old'"),
        ("--mixture old:1,new:x", "found 'new:x'"),
        ("--mixture old:1,old:2,new:1", "--mixture names old twice"),
        ("--at-least old", "as old=0.9; found 'old'"),
        ("--at-least old=1.5", "it is a fraction from 0 to 1"),
        ("--at-least old=0.5 --at-least old=0.6", "--at-least names old twice"),
        ("--mixture old:1,new:1 --method greedy-soup", "is for one domain at a time"),
        ("--at-least old=0.5 --calibrate-on domain", "one network has one BatchNorm"),
    ],
)
def test_a_mixture_that_means_nothing_is_wrong_usage(own_run: Path, new: Path, options: str, message: str) -> None:
    words = ("select", own_run, "--val-data", "old=validation", "--val-data", f"new={new}")
    result = invoke(*words, *options.split())
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert not (own_run / "selections.json").exists()


@pytest.mark.parametrize(
    ("domains", "message"),
    [(["validation"], "needs two domains or more"), (["validation", "validation"], "have the names best, best")],
)
def test_one_domain_or_one_twice_makes_no_mixture(own_run: Path, domains: list[str], message: str) -> None:
    words = [word for domain in domains for word in ("--val-data", domain)]
    result = invoke("select", own_run, *words, "--at-least", "best=0.5")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_corruptions_are_domains_of_a_mixture_too(own_run: Path) -> None:
    words = ("--corruption", "fog,contrast", "--mixture", "fog:3:1,contrast:3:4", "--points", 2, "--refine", 0)
    run("select", own_run, *words)
    parts = read_selections(own_run, OpenRun(own_run).checkpoint_sha256)["mixture"]["domains"]
    assert {name: part["weight"] for name, part in parts.items()} == {"fog:3": 0.2, "contrast:3": 0.8}


def test_a_mixture_is_chosen_in_a_bundle(whole_bundle: Path, new: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole_bundle, tmp_path / "bundle"))
    words = ("--val-data", f"a={new}", "--val-data", f"b={new}", "--mixture", "a:1,b:2", "--points", 3)
    run("select", folder, *words, "--name", "both")
    manifest = Bundle.open(folder).manifest
    domain = manifest.domains["both"]
    assert domain.chosen is not None
    assert manifest.points["both"].alpha == domain.alpha == domain.chosen["alpha"]
    assert domain.images.count == 2 * 144
    assert domain.images.data == f"{new}, {new}"
