from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from folder_contents import contents
from safetensors import safe_open
from safetensors_files import unknown_to_numpy
from torch import nn
from untrained import untrained

from subspace_serve.answers import apply_temperature, ensemble_probabilities, softmax
from subspace_serve.bundle import Bundle, Input
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.verify import verify_bundle
from subspace_serve.data import Images, MemoryImages, Preprocessing
from subspace_serve.errors import CalibrationError, CheckpointError, DataError, ExportError, GeometryError
from subspace_serve.export import BundlePlan, EnsemblePlan, Origin, PointPlan, export_bundle
from subspace_serve.export import points as module
from subspace_serve.export.golden import GoldenAnswer, check_golden, write_golden
from subspace_serve.export.parity import THE_SKELETON, Reference, check_parity, parity_images
from subspace_serve.measure.metrics import classification_metrics
from subspace_serve.measure.temperature import TemperatureData, fit_and_report
from subspace_serve.network.calibration_data import CalibrationData, draw_calibration_data
from subspace_serve.network.network import Network
from subspace_serve.network.statistics import Statistics
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.alpha import parse_alphas
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.ensemble import Ensemble
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.place import Alpha
from subspace_serve.space.subspace import Subspace
from trainer.golden import torch_logits
from trainer.modules import as_module, predict_logits
from trainer.proof import proven_skeleton


def layernorm_network(*, classes: int, channels: int, height: int, width: int) -> nn.Module:
    size = channels * height * width
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, classes))


def labelled(labels: list[int]) -> Images:
    return MemoryImages(np.zeros((len(labels), 8, 8, 1), np.uint8), np.array(labels, np.int64))


def export(
    line_run: Path,
    target: Path,
    points: dict[str, Alpha] | None = None,
    ensembles: dict[str, Ensemble[str]] | None = None,
    *,
    calibrations: dict[str, CalibrationData] | None = None,
    temperature: TemperatureData | None = None,
    temperatures: dict[str, TemperatureData] | None = None,
    subspace: Subspace | None = None,
    labels: list[str] | None = None,
    reference: Reference = THE_SKELETON,
    **plan,
) -> Path:
    run = OpenRun(line_run)
    subspace = subspace or run.subspace
    network = Network.of(subspace, proven_skeleton(subspace.architecture), run.preprocessing, device="cpu")
    own, fitted = calibrations or {}, temperatures or {}
    return export_bundle(
        Origin(
            subspace,
            network,
            run.preprocessing,
            labels or run.labels,
            run.checkpoint_sha256,
            examples=run.data.test,
            reference=reference,
        ),
        BundlePlan(
            [
                PointPlan(name, alpha, own.get(name, run.calibration), fitted.get(name, temperature))
                for name, alpha in ({"midpoint": 0.5} if points is None else points).items()
            ],
            [
                EnsemblePlan(name, ensemble, fitted.get(name, temperature))
                for name, ensemble in (ensembles or {}).items()
            ],
            **plan,
        ),
        target,
    )


def test_the_graph_answers_as_torch_does_at_any_batch(line_run: Path, line_bundle: Path) -> None:
    run = OpenRun(line_run)
    images = run.data.test.subset(np.arange(30))
    expected = predict_logits(as_module(run.subspace, 0.5, run.calibration), images, run.preprocessing)
    session = onnxruntime.InferenceSession(line_bundle / "midpoint.onnx", providers=["CPUExecutionProvider"])
    pixels = images.take(np.arange(30))[0]
    for batch in (1, 2, 5, 30):
        logits, probabilities = session.run(["logits", "probabilities"], {"image": pixels[:batch]})
        np.testing.assert_allclose(logits, expected[:batch], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_the_graph_is_what_the_contract_says(line_bundle: Path) -> None:
    graph = onnx.load(line_bundle / "midpoint.onnx")
    assert graph.opset_import[0].version >= 20
    (image,) = graph.graph.input
    shape = [dimension.dim_value or dimension.dim_param for dimension in image.type.tensor_type.shape.dim]
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert isinstance(shape[0], str)
    assert shape[1:] == [8, 8, 1]
    assert [output.name for output in graph.graph.output] == ["logits", "probabilities"]


def test_the_manifest_records_how_each_point_was_made(line_run: Path, line_bundle: Path) -> None:
    bundle = Bundle.open(line_bundle)
    run = OpenRun(line_run)
    manifest = bundle.manifest
    assert manifest.source.checkpoint_sha256 == run.checkpoint_sha256
    assert manifest.source.geometry == "line"
    assert manifest.default == "midpoint"
    point = manifest.points["midpoint"]
    assert (point.alpha, point.coefficients) == (0.5, (0.5, 0.5))
    assert point.calibration is not None
    assert (point.calibration.count, point.calibration.batch_size) == (1024, 128)
    assert 0 <= point.parity.max_abs_diff <= point.parity.tolerance < 0.01
    assert point.parity.top1_flips == 0
    ensemble = manifest.ensembles["endpoints"]
    assert ensemble.members == ("endpoint-0", "endpoint-1")
    both = [
        softmax(predict_logits(as_module(run.subspace, end, run.calibration), run.data.test, run.preprocessing))
        for end in (0.0, 1.0)
    ]
    accuracy = ((both[0] + both[1]).argmax(1) == run.data.test.labels).mean()
    assert ensemble.metrics["accuracy"] == pytest.approx(accuracy)


def test_float_input_and_a_network_without_batchnorm(line_run: Path, tmp_path: Path) -> None:
    architecture = Architecture("test_export:layernorm_network", classes=10, channels=1, height=8, width=8)
    subspace = untrained(Geometry("simplex", 3), architecture)
    target = export(
        line_run, tmp_path / "bundle", subspace=subspace, points={"corner": (0.0, 1.0, 0.0)}, input_type="float"
    )
    manifest = Bundle.open(target).manifest
    assert manifest.points["corner"].calibration is None
    assert (manifest.input.dtype, manifest.input.layout) == ("float32", "NCHW")
    report = verify_bundle(target, device="cpu")
    assert report.points["corner"].top1_flips == 0


def test_a_graph_that_differs_from_torch_is_refused_and_the_old_bundle_stays(
    line_run: Path, line_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    target.symlink_to(line_bundle)  # a bundle that any change would be seen in
    before = contents(line_bundle)

    def tampered(*arguments, **options) -> bytes:
        graph = onnx.load(line_bundle / "midpoint.onnx")
        bias = next(tensor for tensor in graph.graph.initializer if "fc.bias" in tensor.name)
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
        return graph.SerializeToString()

    monkeypatch.setattr(module.ServedGraph, "file", tampered)
    with pytest.raises(ExportError, match=r"logits differ by up to 0\.1.*was not written"):
        export(line_run, target)
    assert contents(line_bundle) == before
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.parametrize("both", [False, True])
def test_answers_that_are_not_finite_are_refused(both: bool, line_bundle: Path, tmp_path: Path) -> None:
    graph = onnx.load(line_bundle / "midpoint.onnx")
    bias = next(tensor for tensor in graph.graph.initializer if "fc.bias" in tensor.name)
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))
    onnx.save(graph, tmp_path / "broken.onnx")
    served = Input(height=8, width=8, channels=1, preprocessing={"mean": (0.0,), "std": (1.0,)})
    images = parity_images(np.full((2, 8, 8, 1), 9, np.uint8))
    expected = np.full((20, 10), np.nan if both else 0.0, np.float32)
    with pytest.raises(ExportError, match="not finite"):
        check_parity(tmp_path / "broken.onnx", images, expected, input=served, classes=10, reference=Reference("torch"))


def test_fewer_than_two_images_compare_nothing() -> None:
    with pytest.raises(ExportError, match="1 is too few"):
        parity_images(np.zeros((1, 8, 8, 1), np.uint8))


def test_the_reference_is_recorded(line_run: Path, tmp_path: Path) -> None:
    run = OpenRun(line_run, device="cpu")
    skeleton = run.network.skeleton
    asked: list[float] = []

    def torch(alpha: float, statistics: Statistics, pixels: np.ndarray) -> np.ndarray:
        asked.append(alpha)
        return torch_logits(run.subspace, skeleton, run.preprocessing)(alpha, statistics, pixels)

    references = {
        None: Reference("torch", torch),
        "training": Reference("training"),
        "skeleton": Reference(),
    }
    for name, reference in references.items():
        manifest = Bundle.open(export(line_run, tmp_path / "bundle", reference=reference)).manifest
        assert manifest.points["midpoint"].parity.reference == name
    assert asked == [0.5]


def test_what_training_left_is_torchs_and_the_skeleton_is_held_to_it(line_run: Path, tmp_path: Path) -> None:
    run = OpenRun(line_run, device="cpu")
    with safe_open(line_run / "golden.safetensors", framework="numpy") as golden:
        images = golden.get_tensor("images")
        expected = [golden.get_tensor(f"logits.{index}") for index in (0, 1)]
    pixels = run.data.test.subset(np.arange(len(images)))
    for alpha, logits in zip((0.5, 1.0), expected, strict=True):
        module = as_module(
            run.subspace, alpha, draw_calibration_data(run.data.train, run.preprocessing, name="train", count=128)
        )
        np.testing.assert_allclose(predict_logits(module, pixels, run.preprocessing), logits, atol=1e-3)
    assert check_golden(line_run, run.network)
    assert not check_golden(tmp_path, run.network)
    answers = [GoldenAnswer(0.5, run.network.skeleton.default_statistics(), expected[0])]
    write_golden(tmp_path, run.network, images, answers)
    with pytest.raises(ExportError, match=r"skeleton does not answer as torch did .* at alpha 0\.5"):
        check_golden(tmp_path, run.network)
    other = Network.of(
        replace(run.subspace, endpoints=run.subspace.endpoints[::-1]), run.network.skeleton, run.preprocessing
    )
    assert not check_golden(line_run, other)  # answers of other weights say nothing
    for share in (0, 0.1, 0.9):
        whole = (line_run / "golden.safetensors").read_bytes()
        (tmp_path / "golden.safetensors").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            check_golden(tmp_path, run.network)
    (tmp_path / "golden.safetensors").write_bytes(whole)
    unknown_to_numpy(tmp_path / "golden.safetensors", "images")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        check_golden(tmp_path, run.network)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": {}}, "at least one point"),
        ({"points": {"../escape": 0.5}}, "cannot name a point"),
        ({"points": {"far": 3.0}}, "outside"),
        ({"ensembles": {"pair": Ensemble(("midpoint", "absent"))}}, "the points: midpoint"),
        ({"default": "absent"}, "choose one of midpoint"),
        ({"labels": ["zero", "one"]}, "has 10 classes; got 2 labels"),
        ({"ensembles": {"pair": Ensemble(("midpoint",), (0.0,))}}, "its 1 members need one each"),
        ({"temperature": TemperatureData(labelled([]), "nothing")}, "found 0 images"),
        ({"temperature": TemperatureData(labelled([3, 3, 12]), "other")}, "a label is 12 and the network has classes"),
    ],
)
def test_contradictory_arguments_are_refused_before_any_work(
    line_run: Path, tmp_path: Path, changes: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(module, "ServedGraph")
    with pytest.raises((DataError, ExportError, GeometryError), match=message):
        export(line_run, tmp_path / "bundle", **changes)
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def tempered_bundle(line_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with fitted temperatures of a point and of two ensembles."""
    run = OpenRun(line_run)
    ends = ("endpoint-0", "endpoint-1")
    return export(
        line_run,
        tmp_path_factory.mktemp("tempered") / "bundle",
        points={"midpoint": 0.5, "endpoint-0": 0.0, "endpoint-1": 1.0},
        ensembles={"endpoints": Ensemble(ends), "leaning": Ensemble(ends, (3.0, 1.0), "logits")},
        evaluation=run.data.test,
        temperature=TemperatureData(run.data.train, "digits:train", seed=5),
    )


MODELS = {
    "midpoint": ((0.5,), None, "probabilities"),
    "endpoint-1": ((1.0,), None, "probabilities"),
    "endpoints": ((0.0, 1.0), None, "probabilities"),
    "leaning": ((0.0, 1.0), (3.0, 1.0), "logits"),
}


@pytest.mark.parametrize("name", MODELS)
def test_served_answers_at_a_temperature_are_torchs(line_run: Path, tempered_bundle: Path, name: str) -> None:
    run = OpenRun(line_run)
    places, weights, aggregate = MODELS[name]
    networks = [as_module(run.subspace, place, run.calibration) for place in places]

    def answers(images: Images) -> np.ndarray:
        logits = [predict_logits(network, images, run.preprocessing) for network in networks]
        return ensemble_probabilities(logits, weights, aggregate)

    train, test = run.data.train, run.data.test
    fitted = fit_and_report(answers(train), train.labels, seed=5)
    bundle = Bundle.open(tempered_bundle)
    entry = (bundle.points | bundle.ensembles)[name]
    assert entry.temperature == pytest.approx(fitted.temperature, rel=1e-5)
    assert abs(entry.temperature - 1) > 0.01  # else nothing below would show
    fit = entry.temperature_fit
    assert (fit.data, fit.seed, fit.at_bound) == ("digits:train", 5, False)
    assert (fit.count, fit.reported_on) == (fitted.count, fitted.reported_on)
    assert fit.before.nll == pytest.approx(fitted.before["nll"], rel=1e-5)
    assert fit.after.ece == pytest.approx(fitted.after["ece"], abs=1e-4)
    expected = apply_temperature(answers(test), entry.temperature)
    assert entry.metrics == pytest.approx(classification_metrics(expected, test.labels), abs=1e-5)
    predictor = Predictor(bundle, device="cpu", threads=1)
    pixels = test.take(np.arange(20))[0]
    prediction = predictor.predict(pixels, predictor.select(name))
    np.testing.assert_allclose(prediction.probabilities, expected[:20], atol=1e-5)


def test_models_can_have_temperatures_of_other_images_than_the_rest(line_run: Path, tmp_path: Path) -> None:
    run = OpenRun(line_run)
    dark = MemoryImages(run.data.train.pixels // 4, run.data.train.labels)
    target = export(
        line_run,
        tmp_path / "bundle",
        points={"start": 0.0, "end": 1.0},
        ensembles={"both": Ensemble(("start", "end"))},
        temperature=TemperatureData(run.data.train, "usual"),
        temperatures={"both": TemperatureData(dark, "dark")},
    )
    bundle = Bundle.open(target)
    assert {name: point.temperature_fit.data for name, point in bundle.points.items()} == {
        "start": "usual",
        "end": "usual",
    }
    logits = [
        predict_logits(as_module(run.subspace, end, run.calibration), dark, run.preprocessing) for end in (0.0, 1.0)
    ]
    fitted = fit_and_report(ensemble_probabilities(logits), dark.labels)
    both = bundle.ensembles["both"]
    assert both.temperature == pytest.approx(fitted.temperature, rel=1e-5)
    assert both.temperature_fit.data == "dark"


def test_a_subset_of_an_ensemble_answers_without_its_temperature(line_run: Path, tempered_bundle: Path) -> None:
    run = OpenRun(line_run)
    predictor = Predictor(Bundle.open(tempered_bundle), device="cpu", threads=1)
    pixels = run.data.test.take(np.arange(20))[0]
    network = as_module(run.subspace, 0.0, run.calibration)
    expected = softmax(predict_logits(network, run.data.test.subset(np.arange(20)), run.preprocessing))
    prediction = predictor.predict(pixels, predictor.select("endpoints", members=["endpoint-0"]))
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)


def test_each_point_is_recalibrated_on_its_own_images(line_run: Path, tmp_path: Path) -> None:
    run = OpenRun(line_run)
    pixels, labels = run.data.train.take(np.arange(len(run.data.train)))
    dark = draw_calibration_data(
        MemoryImages(pixels // 4, labels), run.preprocessing, name="dark.npz", count=512, batch_size=64, seed=9
    )
    target = export(line_run, tmp_path / "bundle", points={"usual": 0.5, "night": 0.5}, calibrations={"night": dark})
    bundle = Bundle.open(target)
    assert bundle.points["usual"].calibration.data == "digits:train"
    assert bundle.points["night"].calibration.model_dump() == {
        "data": "dark.npz",
        "count": 512,
        "batch_size": 64,
        "seed": 9,
    }
    predictor = Predictor(bundle, device="cpu", threads=1)
    images = run.data.test.subset(np.arange(20))
    answers = {}
    for name, calibration in (("usual", run.calibration), ("night", dark)):
        expected = softmax(predict_logits(as_module(run.subspace, 0.5, calibration), images, run.preprocessing))
        prediction = predictor.predict(images.take(np.arange(20))[0], predictor.select(name))
        answers[name] = prediction.probabilities
        np.testing.assert_allclose(answers[name], expected, atol=1e-5)
    assert np.abs(answers["usual"] - answers["night"]).max() > 0.1


def test_calibration_images_normalised_in_another_way_are_refused(line_run: Path, tmp_path: Path) -> None:
    run = OpenRun(line_run)
    other = draw_calibration_data(run.data.train, Preprocessing((0.0,), (1.0,)), name="other")
    with pytest.raises(ExportError, match="the calibration images of midpoint are normalised with"):
        export(line_run, tmp_path / "bundle", calibrations={"midpoint": other})


def test_a_selected_ensemble_is_exported_with_its_weights(line_run: Path, tmp_path: Path) -> None:
    run = OpenRun(line_run)
    selections = {"fog:3": {"members": [0.2, 0.8], "weights": [0.25, 0.75], "aggregate": "logits"}}
    request = parse_alphas(["midpoint", "best:fog"], run.subspace.geometry, selections)
    target = export(line_run, tmp_path / "bundle", points=request.points, ensembles=request.ensembles, default="fog-3")
    bundle = Bundle.open(target)
    assert {name: point.alpha for name, point in bundle.points.items()} == {
        "midpoint": 0.5,
        "fog-3-0": 0.2,
        "fog-3-1": 0.8,
    }
    ensemble = bundle.ensembles["fog-3"]
    assert (ensemble.members, ensemble.weights, ensemble.aggregate) == (
        ("fog-3-0", "fog-3-1"), (0.25, 0.75), "logits",
    )  # fmt: skip
    images = run.data.test.subset(np.arange(10))
    logits = [
        predict_logits(as_module(run.subspace, alpha, run.calibration), images, run.preprocessing)
        for alpha in (0.2, 0.8)
    ]
    predictor = Predictor(bundle, device="cpu", threads=1)
    prediction = predictor.predict(images.take(np.arange(10))[0])
    np.testing.assert_allclose(prediction.probabilities, softmax(0.25 * logits[0] + 0.75 * logits[1]), atol=1e-5)


def test_a_network_that_was_not_recalibrated_is_refused(
    line_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uncalibrated(network, batches, **_) -> Statistics:
        return Statistics(network.skeleton.default_statistics(), 1024)

    monkeypatch.setattr(Network, "recalibrate", uncalibrated)
    with pytest.raises(CalibrationError, match="not this network's"):
        export(line_run, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_an_unknown_input_is_refused(line_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="uint8 or float"):
        export(line_run, tmp_path / "bundle", input_type="int8")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges folders in one step here")
def test_an_export_killed_at_work_leaves_the_old_bundle(line_run: Path, line_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    for file in line_bundle.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    entry = "from subspace_serve.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", entry, "export", str(line_run), "--alpha", "random:8", "--out", str(target)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(os.listdir(tmp_path)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(os.listdir(tmp_path)) == 2  # the temporary folder shows that it was killed at work
    assert set(verify_bundle(target, device="cpu").points) == {"midpoint", "endpoint-0", "endpoint-1"}
    export(line_run, target)
    assert os.listdir(tmp_path) == ["bundle"]
