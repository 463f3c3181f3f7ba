"""Adapting a bundle: what it gains, what it writes, what it warns of, and that nothing is lost when it fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, run
from folder_contents import contents
from safetensors.numpy import load_file

from subspace_serve.adapt import Labels, adapt, write_adaptation
from subspace_serve.adapt.checks import warnings_of
from subspace_serve.answers import entropy_of
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.promises import Promises
from subspace_serve.bundle.subspace import BundledSubspace
from subspace_serve.bundle.verify import verify_bundle
from subspace_serve.cli import exporting
from subspace_serve.data import MemoryImages, load_images
from subspace_serve.data.domains import Domain
from subspace_serve.data.drawing import carve
from subspace_serve.errors import BundleError, DataError
from subspace_serve.measure.abstention import risk_coverage
from subspace_serve.prediction_sets import label_scores
from subspace_serve.run.opened import OpenRun


@pytest.fixture(scope="module")
def dark(line_run: Path) -> MemoryImages:
    """Digits that a bad camera took: two fifths of the contrast, on a bright ground."""
    pixels, labels = OpenRun(line_run).data.test.take(np.arange(len(OpenRun(line_run).data.test)))
    return MemoryImages((150 + pixels * 0.4).astype(np.uint8), labels)


@pytest.fixture
def bundle(whole_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole_bundle, tmp_path / "bundle")


def opened(bundle: Path) -> BundledSubspace:
    return BundledSubspace(Bundle.open(bundle), device="cpu", threads=1)


def accuracy(bundle: Path, images: MemoryImages, **choice: object) -> float:
    predictor = Predictor(Bundle.open(bundle), device="cpu", threads=1)
    found = predictor.predict(images.pixels, predictor.select(**choice)).probabilities  # type: ignore[arg-type]
    return float((found.argmax(1) == images.labels).mean())


def test_a_few_unlabelled_images_bring_a_domain_back(bundle: Path, dark: MemoryImages) -> None:
    few, others = dark.subset(np.arange(64)), dark.subset(np.arange(64, len(dark)))
    subspace = opened(bundle)
    found = adapt(subspace, few, name="dark", data="dark digits")
    write_adaptation(subspace, found, bundle)
    before, after = accuracy(bundle, others), accuracy(bundle, others, model="dark")
    assert after > before + 0.2
    assert accuracy(bundle, others, alpha=0.37, domain="dark") > before + 0.2
    assert found.agreement < 0.9
    assert not found.warnings
    manifest = Bundle.open(bundle).manifest
    assert manifest.domains["dark"].model_dump(exclude={"images"}) == {
        "statistics": "dark", "alpha": 0.5, "temperature": 1.0, "chosen": None,
    }  # fmt: skip
    assert manifest.domains["dark"].images.model_dump() == {
        "data": "dark digits", "count": 64, "fingerprint": few.fingerprint(),
    }  # fmt: skip
    assert manifest.points["dark"].statistics == "dark"
    assert manifest.subspace is not None
    assert manifest.subspace.statistics["dark"].prior == 16
    assert list(manifest.subspace.statistics) == ["training", "inverted", "dark"]
    assert verify_bundle(bundle, device="cpu").statistics == ("training", "inverted", "dark")


def test_labels_choose_a_place_and_a_temperature_and_report_on_other_images(bundle: Path, dark: MemoryImages) -> None:
    subspace = opened(bundle)
    labels = Labels(Domain("domain", dark.subset(np.arange(64, 300)), {"data": "labelled"}))
    found = adapt(subspace, dark.subset(np.arange(64)), name="dark", data="dark digits", labels=labels)
    assert found.fit is not None
    assert found.labelled["after"]["accuracy"] > found.labelled["before"]["accuracy"]
    assert not found.is_worse
    write_adaptation(subspace, found, bundle)
    manifest = Bundle.open(bundle).manifest
    assert manifest.domains["dark"].temperature == manifest.points["dark"].temperature == found.fit.temperature
    assert manifest.domains["dark"].chosen is not None
    assert manifest.domains["dark"].chosen["metric"] == "accuracy"
    assert manifest.points["dark"].metrics == found.fit.after


def test_the_entropy_after_is_that_of_the_answers_that_the_domain_will_give(bundle: Path, dark: MemoryImages) -> None:
    few = dark.subset(np.arange(64))
    labels = Labels(Domain("domain", dark.subset(np.arange(64, 300)), {"data": "labelled"}))
    found = adapt(opened(bundle), few, name="dark", data="x", labels=labels)
    assert found.fit is not None
    assert abs(found.fit.temperature - 1) > 0.1
    write_adaptation(opened(bundle), found, bundle)
    predictor = Predictor(Bundle.open(bundle), device="cpu", threads=1)
    for model, when in ("midpoint", "before"), ("dark", "after"):
        answers = predictor.predict(few.pixels, predictor.select(model)).probabilities
        assert found.entropy[when] == pytest.approx(entropy_of(answers).mean(), abs=1e-4)


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_labels_that_chose_nothing_calibrate_the_domains_own_sets(
    bundle: Path, dark: MemoryImages, alpha: float | None
) -> None:
    subspace = opened(bundle)
    labels = Labels(Domain("domain", dark.subset(np.arange(64, 300)), {"data": "labelled"}), seed=3)
    found = adapt(subspace, dark.subset(np.arange(64)), name="dark", data="x", alpha=alpha, labels=labels)
    write_adaptation(subspace, found, bundle)
    written = Bundle.open(bundle)
    sets = written.points["dark"].sets
    assert sets is not None
    assert (sets.data, sets.method) == ("labelled, those that chose nothing", "lac")
    assert found.fit is not None
    assert sets.count == found.fit.reported_on
    assert found.to_json()["sets"]["count"] == sets.count
    others, _ = carve(labels.domain.images.labels, 118, 3)
    images = dark.subset(np.arange(64, 300)).subset(others)
    predictor = Predictor(written, device="cpu", threads=1)
    answer = predictor.predict(images.pixels, predictor.select("dark"))
    own = label_scores(answer.probabilities, "lac")[np.arange(len(others)), images.labels]
    np.testing.assert_allclose(sets.scores, np.sort(own), atol=1e-5)
    abstention = written.points["dark"].abstention
    assert abstention is not None
    assert (abstention.data, abstention.count, abstention.delta) == (sets.data, sets.count, 0.05)
    wrong = answer.probabilities.argmax(axis=1) != images.labels
    assert abstention.levels[-1].wrong == wrong.sum()
    assert abstention.measured is not None
    assert not abstention.measured.held_out
    curve = risk_coverage(answer.probabilities.max(axis=1), ~wrong)
    assert abstention.measured.aurc == pytest.approx(curve.aurc, abs=1e-4)
    drift = written.points["dark"].drift
    assert drift is not None
    assert (drift.data, drift.count) == (sets.data, sets.count)
    edges = np.flatnonzero(drift.bins["mean_intensity"])
    assert 150 / 255 <= edges.min() / 256 < edges.max() / 256 <= 252 / 255
    # Without labels there are none, and older ones of the name are gone.
    write_adaptation(subspace, adapt(subspace, dark.subset(np.arange(64)), name="dark", data="x"), bundle)
    assert Bundle.open(bundle).points["dark"].sets is None
    assert Bundle.open(bundle).points["dark"].abstention is None
    assert Bundle.open(bundle).points["dark"].drift is None


def test_from_labels_of_the_images_that_gave_the_statistics_nothing_is_promised(
    bundle: Path, dark: MemoryImages
) -> None:
    images = dark.subset(np.arange(200))
    labels = Labels(Domain("domain", images, {"data": "labelled"}))
    found = adapt(opened(bundle), images, name="dark", data="x", labels=labels)
    assert found.fit is not None
    assert found.record.sets is None
    assert found.record.abstention is None
    assert any("label others" in warning for warning in found.warnings)


@pytest.mark.parametrize("more", [0, 50])
def test_whatever_else_gave_the_statistics_nothing_is_promised_from_what_did(
    bundle: Path, dark: MemoryImages, more: int
) -> None:
    """Neither other labels nor images beside them make them others."""
    images = dark.subset(np.arange(200 + more)).with_labels(np.zeros(200 + more, np.int64))
    labels = Labels(Domain("domain", dark.subset(np.arange(200)), {"data": "labelled"}))
    found = adapt(opened(bundle), images, name="dark", data="x", labels=labels)
    assert found.record.sets is found.record.abstention is found.record.drift is None
    assert any("label others" in warning for warning in found.warnings)


def test_images_that_gave_the_statistics_are_left_out_of_what_is_promised(bundle: Path, dark: MemoryImages) -> None:
    labels = Labels(Domain("domain", dark.subset(np.arange(200)), {"data": "labelled"}), seed=3)
    found = adapt(opened(bundle), dark.subset(np.arange(64)), name="dark", data="x", labels=labels)
    reporting, _ = carve(labels.domain.images.labels, 100, 3)
    sets, abstention, drift = found.record.sets, found.record.abstention, found.record.drift
    assert sets is not None
    assert abstention is not None
    assert drift is not None
    assert sets.count == abstention.count == drift.count == (reporting >= 64).sum() < len(reporting)
    assert not any("label others" in warning for warning in found.warnings)


def test_the_labels_of_the_images_are_not_read(bundle: Path, dark: MemoryImages) -> None:
    few = dark.subset(np.arange(64))
    wrong = few.with_labels((few.labels + 1) % 10)
    first, second = (adapt(opened(bundle), images, name="dark", data="x") for images in (few, wrong))
    assert np.array_equal(first.statistics.values, second.statistics.values)
    assert first.alpha == second.alpha == 0.5


def test_a_domain_is_replaced_and_a_points_name_is_not_taken(bundle: Path, dark: MemoryImages) -> None:
    subspace = opened(bundle)
    for count in (32, 64):
        found = adapt(subspace, dark.subset(np.arange(count)), name="dark", data="x")
        write_adaptation(subspace, found, bundle)
    assert Bundle.open(bundle).manifest.domains["dark"].images.count == 64
    before = contents(bundle)
    for name in ("midpoint", "endpoints", "training"):
        found = adapt(subspace, dark.subset(np.arange(32)), name=name, data="x")
        with pytest.raises(BundleError, match="choose another with --name"):
            write_adaptation(subspace, found, bundle)
    assert contents(bundle) == before


def test_what_two_add_at_once_is_all_there(bundle: Path, dark: MemoryImages) -> None:
    def add(name: str) -> None:
        subspace = opened(bundle)
        write_adaptation(subspace, adapt(subspace, dark.subset(np.arange(32)), name=name, data="x"), bundle)

    threads = [threading.Thread(target=add, args=[f"camera-{i}"]) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(Bundle.open(bundle).manifest.domains) == {"inverted", "camera-0", "camera-1", "camera-2"}


def test_another_checkpoints_bundle_that_took_the_place_is_left_alone(
    bundle: Path, dark: MemoryImages, tmp_path: Path
) -> None:
    subspace = opened(bundle)
    found = adapt(subspace, dark.subset(np.arange(32)), name="dark", data="x")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["source"]["checkpoint_sha256"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    before = contents(bundle)
    with pytest.raises(BundleError, match="a bundle of another checkpoint"):
        write_adaptation(subspace, found, bundle)
    assert contents(bundle) == before


@pytest.mark.slow
def test_whenever_it_is_killed_the_bundle_is_whole(bundle: Path, dark: MemoryImages, tmp_path: Path) -> None:
    np.savez(tmp_path / "dark.npz", images=dark.pixels[:64])
    command = [sys.executable, "-m", "subspace_serve", "adapt", str(bundle), "--images", str(tmp_path / "dark.npz")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    started = time.monotonic()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    whole = time.monotonic() - started
    for part in (0.6, 0.8, 0.9, 0.97):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(part * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert set(Bundle.open(bundle).manifest.domains) == {"inverted", "adapted"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bundle", "dark.npz"]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((20, 8, 8, 1), np.uint8), "every image of it is of one colour"),
        (np.repeat(np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1), 20, axis=0), "the same one"),
        (np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1), "it has 1 images, and statistics take 2 or more"),
    ],
)
def test_images_that_tell_nothing_are_refused(bundle: Path, pixels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        adapt(opened(bundle), MemoryImages(pixels, np.zeros(len(pixels), int)), name="x", data="it")


def test_what_may_tell_the_wrong_statistics_is_said() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
    even, one = np.full((40, 10), 0.1), np.eye(10)[np.full(40, 3)]
    assert warnings_of(pixels, even, even) == []
    assert warnings_of(pixels, one, even) == []  # a shift alone may gather the old answers in one class
    assert "spread over about 1.0 of 10 classes" in warnings_of(pixels, one, one)[0]
    assert "8 images are few" in warnings_of(pixels[:8], even[:8], even[:8])[0]
    frames = np.repeat(pixels[:4], 10, axis=0)
    assert "only 4 of the 40 images differ" in warnings_of(frames, even, even)[0]
    pixels[:3] = 7
    assert "3 images are of one colour" in warnings_of(pixels, even, even)[-1]


class TestCommand:
    def run(self, *arguments: object) -> tuple[int, str]:
        result = invoke(*arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            return 1, str(result.exception)
        return result.exit_code, result.output

    @pytest.fixture
    def images(self, dark: MemoryImages, tmp_path: Path) -> Path:
        file = tmp_path / "dark.npz"
        np.savez(file, images=dark.pixels[:64])
        return file

    @pytest.fixture
    def labelled(self, dark: MemoryImages, tmp_path: Path) -> Path:
        file = tmp_path / "labelled.npz"
        np.savez(file, images=dark.pixels[64:300], labels=dark.labels[64:300])
        return file

    def test_it_says_what_changes(self, bundle: Path, images: Path, labelled: Path, tmp_path: Path) -> None:
        report = tmp_path / "report.json"
        code, output = self.run(
            "adapt", bundle, "--images", images, "--name", "dark", "--val-data", labelled, "--json", report
        )
        assert code == 0, output
        assert "of the answers stay the same" in output
        assert "labelled images  accuracy %" in output
        document = json.loads(report.read_text())
        assert document["written"] is True
        assert document["labelled"]["after"]["accuracy"] > document["labelled"]["before"]["accuracy"]
        assert document["images"]["count"] == 64

    def test_a_place_that_is_given_is_kept(self, bundle: Path, images: Path, labelled: Path) -> None:
        code, output = self.run("adapt", bundle, "--images", images, "--val-data", labelled, "--alpha", "0.2")
        assert code == 0, output
        domain = Bundle.open(bundle).manifest.domains["adapted"]
        assert (domain.alpha, domain.chosen) == (0.2, None)
        assert domain.temperature == Bundle.open(bundle).points["adapted"].temperature
        assert "place: as --alpha says; temperature" in output

    def test_better_is_compared_with_the_domain_that_is_there(
        self, bundle: Path, images: Path, labelled: Path, tmp_path: Path
    ) -> None:
        run("adapt", bundle, "--images", images, "--val-data", labelled)
        noise = tmp_path / "noise.npz"
        np.savez(noise, images=np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8))
        before = contents(bundle)
        code, output = self.run("adapt", bundle, "--images", noise, "--val-data", labelled, "--keep-better")
        assert code == 0
        assert "is unchanged" in output
        assert contents(bundle) == before

    def test_another_folder_leaves_the_bundle_alone(self, bundle: Path, images: Path, tmp_path: Path) -> None:
        before = contents(bundle)
        code, output = self.run("adapt", bundle, "--images", images, "--out", tmp_path / "other")
        assert code == 0, output
        assert contents(bundle) == before
        assert "adapted" in Bundle.open(tmp_path / "other").manifest.domains

    def test_another_folder_loses_none_of_its_domains(
        self, bundle: Path, images: Path, dark: MemoryImages, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        words = ("adapt", bundle, "--images", images, "--out", other, "--name")
        for _ in range(2):  # its own domain may be made anew
            run(*words, "fog")
        before = contents(other)
        code, output = self.run(*words, "rain")
        assert (code, output, contents(other)) == (
            1,
            f"{other} has the domain fog, which would be lost; adapt that bundle itself, or choose another folder with "
            "--out",
            before,
        )
        # One of the same name and another content would be lost, too.
        run("adapt", bundle, "--images", images, "--name", "fog", "--prior", 0)
        code, output = self.run(*words, "rain")
        assert (code, "has the domain fog, which" in output, contents(other)) == (1, True, before)
        # What came while it was computed is seen, too.
        found = adapt(opened(bundle), dark.subset(np.arange(32)), name="rain", data="x")
        with pytest.raises(BundleError, match="has the domain fog, which would be lost"):
            write_adaptation(opened(bundle), found, other)
        run("adapt", other, "--images", images, "--name", "rain")
        assert set(Bundle.open(other).manifest.domains) == {"inverted", "fog", "rain"}
        run("adapt", bundle, "--images", images, "--out", bundle, "--name", "rain")

    def test_an_export_loses_no_domain_unless_told_to(
        self, bundle: Path, line_run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("export", line_run, "--alpha", "midpoint", "--no-evaluate", "--no-sets", "--points-only")
        before = contents(bundle)
        monkeypatch.delattr(exporting, "calibrations_of")  # refused before any work
        code, output = self.run(*words, "--out", bundle)
        assert (code, contents(bundle)) == (1, before)
        assert output == (
            f"{bundle} has the domain inverted, which would be lost; choose another folder with --out, or give up what "
            "adapt and select wrote there with --drop-domains"
        )
        code, output = self.run(*words, "--layout", "triton", "--drop-domains")
        assert (code, "leave it out with --layout triton" in output) == (2, True)
        monkeypatch.undo()
        code, output = self.run(*words, "--out", bundle, "--drop-domains")
        assert code == 0, output
        assert Bundle.open(bundle).manifest.domains == {}

    def test_a_domain_that_comes_while_an_export_works_is_kept(
        self, bundle: Path, images: Path, line_run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("export", line_run, "--alpha", "midpoint", "--no-evaluate", "--no-sets", "--out", bundle)
        run(*words, "--drop-domains")

        def adapt_meanwhile(line: str) -> None:
            run("adapt", bundle, "--images", images)

        monkeypatch.setattr(exporting, "progress_line", adapt_meanwhile)
        code, output = self.run(*words)
        assert (code, "has the domain adapted, which would be lost" in output) == (1, True), output
        assert set(Bundle.open(bundle).manifest.domains) == {"adapted"}

    def test_keep_better_keeps_the_better(self, bundle: Path, labelled: Path, line_run: Path, tmp_path: Path) -> None:
        """Statistics of noise answer clean digits worse."""
        noise = tmp_path / "noise.npz"
        np.savez(noise, images=np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8))
        clean = tmp_path / "clean.npz"
        pixels, labels = OpenRun(line_run).data.validation.take(np.arange(100))
        np.savez(clean, images=pixels, labels=labels)
        before = contents(bundle)
        code, output = self.run("adapt", bundle, "--images", noise, "--val-data", clean, "--keep-better")
        assert code == 0, output
        assert "is unchanged: adapted would answer less accurately" in output
        assert contents(bundle) == before

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["--keep-better"], 2, "--keep-better compares on labelled images"),
            (["--alpha", "endpoints"], 2, "a domain has one place; endpoints names 2"),
            (["--alpha", "1.5"], 1, "outside"),
            (["--name", "midpoint"], 1, "choose another with --name"),
            (["--name", "no/../../name"], 1, "cannot name a domain"),
            (["--name", "skeleton"], 1, "for something else"),
            (["--prior", "-1"], 2, "prior"),
        ],
    )
    def test_mistakes(self, bundle: Path, images: Path, arguments: list, code: int, message: str) -> None:
        before = contents(bundle)
        found, output = self.run("adapt", bundle, "--images", images, *arguments)
        assert (found, message in output) == (code, True), output
        assert contents(bundle) == before

    def test_nothing_is_chosen_on_test_or_training_images(
        self, bundle: Path, images: Path, line_run: Path, tmp_path: Path
    ) -> None:
        """Each is refused as `select` refuses it in the bundle."""
        pixels, labels = OpenRun(line_run).data.test.take(np.arange(200))
        np.savez(tmp_path / "mine.npz", images=pixels, labels=labels)
        copy = tmp_path / "copy"
        run("corrupt", "--data", "digits", "--corruption", "fog", "--severity", 3, "--out", copy)
        before = contents(bundle)
        for spec, message in (
            ("digits:test", "nothing is chosen or fitted on test images"),
            ("test", "nothing is chosen or fitted on test images"),
            (tmp_path / "mine.npz", "200 of the 200 images are test images of this run"),
            (f"corrupted:{copy}:fog:3", "holds corrupted test images"),
            ("digits:train", "the networks were trained on digits:train"),
        ):
            code, output = self.run("adapt", bundle, "--images", images, "--val-data", spec)
            assert (code, message in output) == (1, True), output
            assert self.run("select", bundle, "--val-data", spec) == (code, output)
            if ":" in str(spec) and "train" not in str(spec):  # named as such
                assert self.run("adapt", bundle, "--images", spec) == (code, output)
        assert contents(bundle) == before

    def test_the_runs_data_is_not_read_for_unlabelled_images(
        self, bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So a bundle is adapted where they lie, too, or others of their name, or they may not be read."""

        def unreadable(*_: object, **__: object) -> None:
            raise PermissionError("not yours")

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("subspace_serve.data.load_data", unreadable)
        code, output = self.run("adapt", bundle, "--images", images)
        assert code == 0, output
        # These are no parts of the run's data here, but folders.
        code, output = self.run("adapt", bundle, "--images", "train")
        assert (code, "there is no data set 'train'" in output) == (1, True), output
        # What is compared with it where it can be is taken where it cannot.
        code, output = self.run("select", bundle, "--val-data", "digits:validation", "--points", 2, "--refine", 0)
        assert code == 0, output

    def test_statistics_of_a_part_are_of_the_part_as_the_run_divided_it(self, bundle: Path, line_run: Path) -> None:
        run("adapt", bundle, "--images", "digits:validation")
        images = Bundle.open(bundle).manifest.domains["adapted"].images
        assert images.fingerprint == OpenRun(line_run).data.validation.fingerprint()

    def test_images_of_another_size_or_camera_are_refused(self, bundle: Path, tmp_path: Path) -> None:
        file = tmp_path / "large.npz"
        np.savez(file, images=np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8))
        code, output = self.run("adapt", bundle, "--images", file)
        assert code == 1
        assert "images of height, width, channels (16, 16, 3); the network takes (8, 8, 1); convert" in output

    def test_a_bundle_of_points_cannot_be_adapted(self, line_bundle: Path, images: Path) -> None:
        code, output = self.run("adapt", line_bundle, "--images", images)
        assert code == 1
        assert "export it again without --points-only" in output

    def test_a_full_disk_leaves_the_bundle(self, bundle: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import subspace_serve.files as module

        def full(path: Path) -> None:
            raise OSError(28, "No space left on device")

        before = contents(bundle)
        monkeypatch.setattr(module, "sync", full)
        code, _ = self.run("adapt", bundle, "--images", images)
        assert code == 1
        monkeypatch.undo()
        assert contents(bundle) == before
        assert not [entry for entry in bundle.parent.iterdir() if entry.name.startswith(".")]

    def test_evaluate_and_select_take_the_bundle(self, bundle: Path, labelled: Path, tmp_path: Path) -> None:
        report = tmp_path / "evaluation.json"
        code, output = self.run("evaluate", bundle, "--data", labelled, "--points", 3, "--json", report)
        assert code == 0, output
        usual = json.loads(report.read_text())
        assert usual["calibration"]["count"] == 512
        code, _ = self.run(
            "evaluate", bundle, "--data", labelled, "--points", 3, "--calibrate-on", "inverted", "--json", report
        )
        assert code == 0
        assert json.loads(report.read_text())["points"] != usual["points"]
        code, output = self.run("select", bundle, "--val-data", labelled, "--name", "fog:3", "--greedy")
        assert code == 0, output
        manifest = Bundle.open(bundle).manifest
        assert manifest.domains["fog-3"].statistics == manifest.points["fog-3"].statistics == "training"
        assert manifest.domains["fog-3"].chosen is not None
        point, choice = manifest.points["fog-3"], manifest.domains["fog-3"].chosen
        assert point.alpha == choice["alpha"]
        assert point.sets.count == point.abstention.count == point.drift.count == choice["reported_on"]
        assert sum(point.drift.bins["mean_intensity"]) == choice["reported_on"]
        predictor = Predictor(Bundle.open(bundle), device="cpu", threads=1)
        images = load_images(str(labelled), height=8, width=8, channels=1, label_names=manifest.labels).take(
            np.arange(20)
        )[0]
        selection = predictor.select("fog-3")
        promised = Promises(0.9, 0.9).of(selection, predictor.predict(images, selection).probabilities)
        assert (promised.sets.shape, promised.abstained.shape) == ((20, 10), (20,))
        code, output = self.run("select", bundle, "--val-data", labelled, "--name", "inverted")
        assert (code, "adapted domain inverted, which would be lost" in output) == (1, True)
        code, output = self.run("select", bundle, "--val-data", labelled, "--among", "all")
        assert code == 2
        assert "subspace-serve adapt recomputes statistics" in output

    def test_select_records_under_which_corruption_it_chose(self, bundle: Path, labelled: Path) -> None:
        code, output = self.run("select", bundle, "--val-data", labelled, "--corruption", "fog", "--severity", 3)
        assert code == 0, output
        manifest = Bundle.open(bundle).manifest
        assert manifest.domains["fog-3"].images.data == f"{labelled}, fog:3"
        point = manifest.points["fog-3"]
        assert {point.sets.data, point.abstention.data, point.drift.data} == {
            f"{labelled}, fog:3, those that chose nothing"
        }

    def test_evaluate_says_which_statistics_a_place_was_chosen_with(
        self, bundle: Path, images: Path, labelled: Path
    ) -> None:
        run("adapt", bundle, "--images", images, "--val-data", labelled, "--name", "dark")
        choice = Bundle.open(bundle).manifest.domains["dark"].chosen
        assert choice is not None
        assert choice["calibration"]["on"] == "dark"
        said = "dark was chosen with BatchNorm from dark, as its point answers (--calibrate-on dark); here"
        for other, is_said in (None, True), ("inverted", True), ("dark", False):
            more = ["--calibrate-on", other] if other else []
            code, output = self.run("evaluate", bundle, "--data", labelled, "--alpha", "best:dark", *more)
            assert (code, said in output, "was chosen with" in output) == (0, is_said, is_said), output

    def test_what_was_chosen_in_a_bundle_is_collapsed_with_its_statistics(
        self, bundle: Path, images: Path, labelled: Path, tmp_path: Path
    ) -> None:
        run("adapt", bundle, "--images", images, "--val-data", labelled, "--name", "dark")
        run("select", bundle, "--val-data", labelled, "--name", "day")

        def collapsed(*words: object) -> bytes:
            file = tmp_path / "point.safetensors"
            code, output = self.run("collapse", bundle, *words, "--out", file)
            assert code == 0, output
            return b"".join(array.tobytes() for _, array in sorted(load_file(file).items()))

        places = {name: str(Bundle.open(bundle).points[name].alpha) for name in ("dark", "day")}
        dark = collapsed("--alpha", places["dark"], "--calibrate-on", "dark")
        assert collapsed("--alpha", "best:dark") == dark != collapsed("--alpha", places["dark"])
        assert collapsed("--alpha", "best:day") == collapsed("--alpha", places["day"])

    def test_choices_in_a_damaged_manifest_are_refused(self, bundle: Path, images: Path, labelled: Path) -> None:
        run("adapt", bundle, "--images", images, "--val-data", labelled, "--name", "dark")
        file = bundle / "manifest.json"
        manifest = json.loads(file.read_text())
        for chosen in ({}, manifest["domains"]["dark"]["chosen"] | {"calibration": 5}, {"members": 3}):
            file.write_text(
                json.dumps(manifest | {"domains": {"dark": manifest["domains"]["dark"] | {"chosen": chosen}}})
            )
            code, output = self.run("evaluate", bundle, "--data", labelled, "--alpha", "best:dark")
            assert (code, "is damaged" in output) == (1, True), output

    def test_report_takes_the_bundle_and_leaves_it_as_it_is(self, bundle: Path, labelled: Path) -> None:
        before = contents(bundle)
        code, output = self.run("report", bundle, "--data", labelled, "--points", 3)
        assert code == 0, output
        assert list((bundle.parent / "report").glob("*.html"))
        assert contents(bundle) == before

    def test_predict_names_a_place_and_a_domain(self, bundle: Path, dark: MemoryImages, tmp_path: Path) -> None:
        from PIL import Image

        file = tmp_path / "digit.png"
        Image.fromarray(dark.pixels[0, :, :, 0]).save(file)
        report = tmp_path / "answer.json"
        for arguments, expected in (
            (["--alpha", "0.123"], (None, 0.123, "training")),
            (["--alpha", "0.123", "--domain", "inverted"], (None, 0.123, "inverted")),
            (["--domain", "inverted"], ("inverted", 0.5, "inverted")),
            (["--members", "endpoint-0,0.4"], (None, None, "training")),
        ):
            code, output = self.run("predict", bundle, "--image", file, *arguments, "--json", report)
            assert code == 0, output
            document = json.loads(report.read_text())
            assert (document["model"], document["alpha"], document["statistics"]) == expected
