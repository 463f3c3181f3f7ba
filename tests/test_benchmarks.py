"""Each benchmark runs with minimal settings and prints its document; how fast is no test's business."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from bundle_factory import LABELS, expected_logits, make_bundle, random_images
from click.testing import CliRunner

import benchmarks.memory
from benchmarks import (
    decisions,
    domains,
    drift,
    drift_streams,
    export,
    measure,
    methods,
    scores,
    selection,
    training,
)
from subspace_serve.answers import Answer, softmax
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.abstention import Abstention, AbstentionLevel
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.prediction_sets import Sets
from subspace_serve.bundle.promises import Promises
from subspace_serve.data import MemoryImages
from subspace_serve.drift import Stream, bins_of, counts_of
from subspace_serve.run.opened import OpenRun
from trainer.architectures import build

pytestmark = pytest.mark.slow


def test_candidates_take_turns():
    calls: list[str] = []
    candidates = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = measure.interleaved(candidates, rounds=2, warm_up=1)
    assert "".join(calls) == "abc" + "bca" + "cab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_ratios_are_taken_round_by_round():
    figure = measure.ratio([1.0, 4.0, 9.0, 16.0, 25.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert figure == {"median": 3.0, "quartiles": [2.0, 4.0]}
    assert measure.at_most(3.0, figure)["met"]
    assert not measure.at_most(2.9, figure)["met"]
    assert measure.at_least(3.0, figure) == figure | {"at_least": 3.0, "met": True}
    assert not measure.at_least(3.1, figure)["met"]


def test_training_prints_its_document(tmp_path):
    file = tmp_path / "report.json"
    options = ["--rounds=1", "--architecture=cresnet8-8", "--batch-size=4", "--images=8", "--no-memory"]
    options += ["--epoch-architecture=cresnet8-4", "--epoch-images=20", "--epoch-rounds=1"]
    result = CliRunner().invoke(training.main, [*options, f"--json={file}"], catch_exceptions=False)
    document = json.loads(result.stdout)
    assert json.loads(file.read_text()) == document
    assert document["versions"]["torch"] == torch.__version__
    assert document["settings"]["rounds"] == 1
    assert set(document["step_seconds"]) == {"plain_torch", *training.TRAINER_STEPS}
    assert all(0 < figure["median"] < 60 for figure in document["step_seconds"].values())
    ratios = document["step_ratios"]
    assert ratios["standard"]["to_standard"]["median"] == 1
    assert ratios["line"]["to_plain_torch"]["at_most"] == 1.03
    assert ratios["simplex_6"]["to_standard"]["at_most"] == 1.08
    epochs = document["epochs"]["ratios"]
    assert set(epochs) == set(methods.METHODS) - {"standard"}
    assert {name for name, figure in epochs.items() if figure.get("at_most") == 1.02} == {"swa", "snapshot", "fge"}
    assert document["input_share"]["median"] > 0
    assert document["recalibration_speed"]["at_least"] == 0.9
    assert "line_to_reference" not in document


def test_steps_train():
    """What is timed is training: the loss on images that repeat falls."""
    torch.manual_seed(0)
    images = measure.synthetic_images(8, 8, 8, training.CHANNELS, training.CLASSES)
    network = training.Architecture("cresnet8-8", training.CLASSES, training.CHANNELS, 8, 8)
    step = training.trainer_step(training.Workload(network, images, 8), {"subspace": "line"})
    losses = [float(step()[0]) for _ in range(60)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_a_folder_that_is_not_the_reference_is_refused(tmp_path):
    result = CliRunner().invoke(training.main, ["--reference", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not a clone of apple/learning-subspaces" in result.output


def test_tensors_are_counted_once_for_each_storage():
    before = benchmarks.memory.live_tensor_bytes()
    whole = torch.zeros(1000)
    part = whole[10:20]
    assert benchmarks.memory.live_tensor_bytes() - before == 4000
    del whole, part


def test_memory_of_a_line():
    parameters = sum(p.numel() for p in build(training.Architecture("cresnet8-8", 10, 3, 32, 32)).parameters())
    standard = benchmarks.memory.measure("standard", None, "cresnet8-8", 4)
    line = benchmarks.memory.measure("line", None, "cresnet8-8", 4)
    # One more endpoint and its momentum, and nothing else.
    added = (line["tensor_bytes"] - standard["tensor_bytes"]) / (2 * 4 * parameters)
    assert added == pytest.approx(1, abs=0.05)


def test_export_without_its_calibration_pass(tmp_path):
    figures = export.measure_export(export.Exporter("cresnet8-8"), tmp_path, rounds=1)
    assert (tmp_path / "one-point" / "midpoint.onnx").is_file()
    assert figures["first"]["at_most"] == 10
    assert 0 < figures["later"]["median"] < 120
    assert figures["calibration_left_out"]["median"] > 0


def test_a_worker_is_watched_and_ended(tmp_path):
    figures = export.measure_serving(make_bundle(tmp_path / "bundle"), rounds=1)
    assert figures["imports_torch"] is False
    assert 0 < figures["worker"]["median"] < figures["server"]["median"]
    assert 20e6 < figures["worker_bytes"]["median"] < figures["server_bytes"]["median"]
    assert 0 < figures["serve"]["median"] < 120


def test_selection_is_compared_with_the_plain_loop(line_run, monkeypatch):
    monkeypatch.setattr(selection, "COARSE_PLACES", 2)
    monkeypatch.setattr(selection, "PLACES", 3)
    monkeypatch.setattr(selection, "CORRUPTIONS", ("contrast", "gaussian_noise"))
    document = selection.selection_speed(OpenRun(line_run, device="cpu"), count=200, rounds=1)
    assert document["places"] == 3
    assert document["images"] == 200
    assert document["plain_over_select"]["at_least"] == 4
    assert set(document["choices"].values()) <= {0.0, 0.5, 1.0}
    # So few images are one block and so few places all neighbours: nothing is dropped, and nothing can be lost.
    assert set(document["evaluated_share"].values()) == {1.0}
    assert document["largest_loss"]["value"] == 0


def test_tables_of_domains_say_what_was_chosen_and_what_was_not():
    def entry(alpha, low, high, kept=False, best=0.9):
        gain = {"value": (low + high) / 2, "interval": [low, high]}
        return {"alpha": alpha, "kept_midpoint": kept, "gain": gain, "best": {"alpha": best, "gain": gain}}

    assert domains.choice(entry(0.7, 0.01, 0.03)) == "**0.7**: +2.00 (+1.00 to +3.00)"
    assert domains.choice(entry(0.5, -0.01, 0.01, kept=True)) == "0.5 kept; 0.9: +0.00 (-1.00 to +1.00)"
    assert domains.choice(entry(0.5, 0, 0, kept=True, best=0.5)) == "0.5 kept: the best"
    runs = [
        {"seed": 0, "default": {"fog:3": entry(0.7, 0.01, 0.03), "snow:3": entry(0.2, -0.01, 0.01)}},
        {"seed": 1, "default": {"fog:3": entry(0.1, -0.04, -0.02), "snow:3": entry(0.5, 0, 0, kept=True)}},
    ]
    assert domains.gains_table(runs)[0] == "| domain | seed 0 | seed 1 |"
    text = " ".join(domains.summary_lines(runs))
    assert "Of 4 choices (domains × seeds) 1 keep the midpoint and 3 move" in text
    assert "1 gain on the reporting half with an interval above zero, 1 lose with one below, 1 are open" in text


def test_scores_rank_answers_by_hand():
    # Two members that agree on the first and the last image, and contradict each other on the second.
    answer = Answer(
        np.log([[[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [[0.9, 0.1], [0.1, 0.9], [0.4, 0.6]]]), np.full(2, 0.5)
    )
    found = scores.scores_of(answer)
    assert list(found) == list(scores.SCORES)
    np.testing.assert_allclose(found["max probability"], [0.9, 0.55, 0.6])
    np.testing.assert_allclose(found["disagreement"], [0, -0.35, 0], atol=1e-12)
    areas = scores.aurcs(answer, np.array([0, 0, 0]))  # only the second answer, class 1, and the third are wrong
    assert areas["error"] == pytest.approx(2 / 3)
    assert areas["best possible"] == areas["max probability"] == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)
    # The first and the last image disagree equally little, and share the mistake.
    assert areas["disagreement"] == pytest.approx((1 / 2 + 1 / 2 + 2 / 3) / 3)
    single = scores.scores_of(Answer(answer.logits[:1], np.ones(1)))
    assert list(single) == ["max probability", "entropy"]


def test_scores_of_a_run_are_tabulated(line_run):
    result = CliRunner().invoke(scores.main, [str(line_run), "--corruption", "contrast"])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [row[0:2] for row in rows] == [[model, kind] for model in ("midpoint", "ends") for kind in ROWS]
    assert [row.count("-") for row in rows] == [2] * 3 + [0] * 3
    clean, contrast, mean = (float(row[-3]) for row in rows[:3])
    assert mean == contrast > clean > 0


ROWS = ("clean", "contrast:3", "corrupted,")


def test_promises_are_measured_as_they_are_answered(tmp_path):
    images = random_images(50, seed=4)
    sets = Sets(method="lac", data="x", count=9, seed=0, scores=tuple(np.linspace(0.1, 0.9, 9)))
    levels = [{"threshold": 0.5, "answered": 600, "wrong": 0}, {"threshold": -1, "answered": 900, "wrong": 300}]
    abstention = Abstention(data="x", count=900, delta=0.05, levels=tuple(AbstentionLevel(**level) for level in levels))
    promises = {"midpoint": {"sets": sets, "abstention": abstention}}
    predictor = Predictor(Bundle.open(make_bundle(tmp_path / "bundle", promises=promises)), device="cpu", threads=1)
    answers = softmax(expected_logits("midpoint", images))
    labels = np.random.default_rng(0).integers(len(LABELS), size=50)
    found = decisions.measure(predictor, "midpoint", MemoryImages(images, labels), Promises(0.6, 0.05))
    held = (1 - answers <= 0.6) | (answers == answers.max(axis=1, keepdims=True))
    surest, wrong = answers.max(axis=1) > 0.5, answers.argmax(axis=1) != labels
    assert found == pytest.approx(
        {
            "error": wrong.mean(),
            "coverage": held[np.arange(50), labels].mean(),
            "size": held.sum(axis=1).mean(),
            "answered": surest.mean(),
            "wrong": wrong[surest].mean(),
        }
    )


def test_many_streams_raise_the_alarms_that_each_raises_alone():
    random = np.random.default_rng(0)
    clean, changed = bins_of(random.beta(5, 2, (2, 500))), bins_of(random.beta(2, 5, (2, 500)))
    many = drift_streams.Streams.begin(clean[np.newaxis, :, :400].repeat(3, axis=0))
    clean_bins, changed_bins = (
        drift_streams.drawn_from(pool, 3, random)(0, count) for pool, count in ((clean, 200), (changed, 50))
    )
    many = many.after(200, lambda begin, end: clean_bins[..., begin:end], random)
    assert (many.images, many.alarms.tolist(), many.counts.sum()) == (200, [0, 0, 0], 3 * 2 * 600)
    delays = many.delays(50, lambda begin, end: changed_bins[..., begin:end], random)
    for index, delay in enumerate(delays):
        alone = Stream.begin(counts_of(clean[:, :400]))
        alone.add(np.concatenate([clean_bins[index], changed_bins[index]], axis=1), random)
        # Only chance breaks ties otherwise.
        assert alone.alarm is not None
        assert 1 <= delay <= 50
        assert abs(alone.alarm - 200 - delay) <= 10


def test_the_drift_alarms_benchmark_reports_every_part(tmp_path):
    images = random_images(60, seed=4)
    np.savez(tmp_path / "own.npz", images=images, labels=np.arange(60) % 4, label_names=np.array(LABELS))
    arguments = [str(make_bundle(tmp_path / "bundle")), "--data", str(tmp_path / "own.npz"), "--only", "false,disorder"]
    sizes = ["--streams", "5", "--images", "300", "--changes", "4", "--calibration", "50"]
    result = CliRunner().invoke(drift.main, [*arguments, *sizes, "--json", "-"])
    assert result.exit_code == 0, (result.output, result.exception)
    document = json.loads(result.stdout)
    for model in ("midpoint", "endpoints"):
        own = document["false"][model]
        assert (own["streams"], own["images"], own["share"]) == (5, 300, own["alarms"] / 5)
        assert own["interval"][0] <= own["share"] <= own["interval"][1]
        assert document["disorder"][model]["one image for ever"]["alarms"] == 4
    assert CliRunner().invoke(drift.main, [*arguments[:3], "--only", "mood"]).exit_code == 2
