"""Points in fp16 and int8: how they are made and gated, what a bundle keeps, and what serves where a gate fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import completed, invoke, run
from service_client import served

from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
from service.staging import make_predictor
from subspace_serve.bundle import Bundle
from subspace_serve.bundle import gate as gate_module
from subspace_serve.bundle.gate import read_gate, repeat_gates
from subspace_serve.bundle.manifest import parse_manifest
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.selection import SelectionError
from subspace_serve.bundle.verify import verify_bundle
from subspace_serve.bundle.writer import extend_bundle
from subspace_serve.data import MemoryImages
from subspace_serve.data.drawing import carve
from subspace_serve.errors import BundleError, ExportError
from subspace_serve.export.plan import GateData
from subspace_serve.export.reduced import gated
from subspace_serve.files import sha256_of
from subspace_serve.network import reduced as reduced_module
from subspace_serve.network.reduced import SCHEME
from subspace_serve.run.opened import OpenRun

DROP = 2.0
"""Of points: digits leave so few images that half a point is less than one of them."""


@pytest.fixture(scope="module")
def bundle(line_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle with all points and ensembles in three precisions; tests must not change it."""
    folder = tmp_path_factory.mktemp("precision") / "bundle"
    words = ("--precision", "int8", "--precision", "fp16", "--max-drop", DROP, "--temperature", "--fused")
    run("export", line_run, *words, "--calibration-count", 256, "--out", folder)
    return Bundle.open(folder)


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.folder, tmp_path / "copy"))


def rewritten(folder: Path, change) -> Path:
    """Change a bundle's manifest."""
    file = folder / "manifest.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return folder


def broken(folder: Path, name: str = "midpoint-int8") -> Path:
    """Make a point answer the class that it finds least likely, as a processor with other arithmetic might."""
    file = folder / f"{name}.onnx"
    model = onnx.load(file)
    for node in model.graph.node:
        node.output[:] = ["right" if output == "logits" else output for output in node.output]
        node.input[:] = ["right" if value == "logits" else value for value in node.input]
    model.graph.node.append(onnx.helper.make_node("Neg", ["right"], ["logits"]))
    onnx.save(model, file)
    return rewritten(folder, lambda document: document["points"][name].update(sha256=sha256_of(file)))


def test_every_model_stands_beside_its_float_one(bundle: Bundle) -> None:
    assert set(bundle.points) == {
        f"{point}{suffix}" for point in ("midpoint", "endpoint-0", "endpoint-1") for suffix in ("", "-int8", "-fp16")
    }
    assert bundle.ensembles["endpoints-int8"].members == ("endpoint-0-int8", "endpoint-1-int8")
    assert bundle.default == "midpoint-int8"
    sizes = {name: bundle.path(name).stat().st_size for name in bundle.points}
    # So small a network is mostly graph; its weights are a quarter and a half of the size.
    assert sizes["midpoint-fp16"] < sizes["midpoint-int8"] < sizes["midpoint"]
    # Temperature and promises are those of its own answers.
    own, exact = bundle.points["midpoint-int8"], bundle.points["midpoint"]
    assert own.temperature != exact.temperature
    assert own.temperature == pytest.approx(exact.temperature, rel=0.1)
    assert own.sets is not None
    assert own.sets.scores != exact.sets.scores
    assert own.metrics.keys() == exact.metrics.keys()


def test_the_manifest_says_how_each_was_made_and_gated(bundle: Bundle) -> None:
    gate_images = read_gate(bundle)
    for name, point in bundle.points.items():
        if point.precision == "float32":
            assert point.reduction is None
            continue
        made = point.reduction
        assert made.of == name.rpartition("-")[0]
        assert (made.scheme, made.calibrated_on) == ((SCHEME, 256) if point.precision == "int8" else (None, None))
        assert "Conv" not in made.left_in_float
        assert made.left_in_float["Softmax"] == 1
        gate = made.gate
        assert (gate.data, gate.max_drop, gate.images) == ("digits:validation", DROP, len(gate_images.images))
        tops = Predictor(bundle, device="cpu").logits(name, gate_images.images).argmax(axis=1)
        assert gate.reduced.accuracy == pytest.approx((tops == gate_images.labels).mean())
        assert gate.float32.accuracy == pytest.approx((gate_images.tops[made.of] == gate_images.labels).mean())
        assert gate.flips == pytest.approx((tops != gate_images.tops[made.of]).mean())
        assert gate.repeated_drop == pytest.approx(100 * (gate.float32.accuracy - gate.reduced.accuracy))


def test_bundles_in_float_are_written_as_before(line_bundle: Path) -> None:
    text = (line_bundle / "manifest.json").read_text()
    for word in ("precision", "reduction", "gate", "fused", "dynamic"):
        assert f'"{word}"' not in text
    assert parse_manifest(text).points["midpoint"].precision == "float32"


def test_graphs_keep_inputs_and_outputs_and_int8_weights_have_seven_bits(bundle: Bundle) -> None:
    images, expected = np.load(bundle.golden)["images"], np.load(bundle.golden)["logits.midpoint"]
    for name, most in (("midpoint-int8", 0.5), ("midpoint-fp16", 0.01)):
        session = onnxruntime.InferenceSession(bundle.path(name), providers=["CPUExecutionProvider"])
        assert [(value.name, value.type) for value in session.get_inputs()] == [("image", "tensor(uint8)")]
        assert {value.type for value in session.get_outputs()} == {"tensor(float)"}
        logits, probabilities = session.run(["logits", "probabilities"], {"image": images})
        assert 0 < np.abs(logits - expected).max() < most * np.abs(expected).max()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    tensors = {tensor.name: tensor for tensor in onnx.load(bundle.path("midpoint-int8")).graph.initializer}
    weights = [onnx.numpy_helper.to_array(tensor) for name, tensor in tensors.items() if name.endswith("_quantized")]
    kernels = [values for values in weights if values.ndim == 4]
    assert len(kernels) >= 7
    assert {values.dtype for values in kernels} == {np.dtype(np.int8)}
    assert max(int(np.abs(values.astype(int)).max()) for values in kernels) <= 64


def test_pixels_are_normalised_in_float32(bundle: Bundle) -> None:
    """What comes before the first layer stays as in the float graph, so no pixel is rounded to fp16."""
    model = onnx.load(bundle.path("midpoint-fp16"))
    shift = next(node for node in model.graph.node if "preprocessing.shift" in node.input)
    assert {tensor.data_type for tensor in model.graph.initializer if tensor.name.startswith("preprocessing")} == {
        onnx.TensorProto.FLOAT
    }
    after = next(node for node in model.graph.node if shift.output[0] in node.input)
    assert (after.op_type, after.attribute[0].i) == ("Cast", onnx.TensorProto.FLOAT16)


def test_a_place_and_a_domain_mean_the_float_point(bundle: Bundle) -> None:
    predictor = Predictor(bundle, device="cpu")
    assert predictor.select(alpha=0.5).members == ("midpoint",)
    assert predictor.select("midpoint-int8").source is bundle.points["midpoint-int8"]


def test_a_point_in_fewer_bits_has_no_domain(whole_bundle: Path, bundle: Bundle) -> None:
    models = Predictor(Bundle.open(whole_bundle), device="cpu").models
    models.points["midpoint-int8"] = bundle.points["midpoint-int8"]
    with pytest.raises(SelectionError, match="midpoint-int8 has no statistics of a domain; name its float point midp"):
        models.select(model="midpoint-int8", domain="inverted")


def test_verify_repeats_gates_and_reports_them(bundle: Bundle, tmp_path: Path) -> None:
    report = verify_bundle(bundle.folder, device="cpu", threads=1)
    assert set(report.gates) == {name for name in bundle.points if name.endswith(("-int8", "-fp16"))}
    for name, gate in report.gates.items():
        recorded = bundle.points[name].reduction.gate
        assert gate.failure is None
        assert (gate.images, gate.allowed) == (recorded.repeated, recorded.allowed)
        assert gate.drop == pytest.approx(recorded.repeated_drop)
        assert gate.flips == pytest.approx(recorded.flips)
    shown = run("verify", bundle.folder, "--device", "cpu")
    assert "gates, repeated here on" in shown


def test_a_gate_that_fails_here_is_refused_or_answered_in_float(copy: Path, bundle: Bundle) -> None:
    broken(copy)
    with pytest.raises(BundleError, match=r"midpoint-int8 does not pass its gate on CPU.*allowed are 2\.00.*midpoint"):
        verify_bundle(copy, device="cpu")
    report = verify_bundle(copy, device="cpu", gates="float")
    assert report.gates["midpoint-int8"].failure is not None
    assert "midpoint-int8" not in report.points
    assert report.gates["endpoint-0-int8"].failure is None

    settings = {"bundle": copy, "device": "cpu", "threads": 1}
    with pytest.raises(BundleError, match="midpoint-int8 does not pass its gate"):
        make_predictor(Settings(**settings), gates=True)
    serving = make_predictor(Settings(**settings, precision_gate="float"), gates=True)
    images = np.load(bundle.golden)["images"]
    exact = Predictor(bundle, device="cpu").predict(images, serving.models.select(model="midpoint"))
    fallen = serving.predict(images, serving.select("midpoint-int8"))
    np.testing.assert_array_equal(fallen.probabilities, exact.probabilities)
    assert fallen.selection.temperature == bundle.points["midpoint"].temperature
    assert fallen.selection.source == bundle.points["midpoint"]
    # Off: what the graph says, whatever it is worth.
    off = make_predictor(Settings(**settings, precision_gate="off"), gates=True)
    assert (off.predict(images).probabilities.argmax(1) != exact.probabilities.argmax(1)).all()


def test_an_ensemble_with_a_member_that_fails_is_its_float_rival(copy: Path, bundle: Bundle) -> None:
    broken(copy, "endpoint-1-int8")
    serving = make_predictor(Settings(bundle=copy, device="cpu", threads=1, precision_gate="float"), gates=True)
    selection = serving.select("endpoints-int8")
    assert selection.members == ("endpoint-0", "endpoint-1")
    assert selection.source == bundle.ensembles["endpoints"]
    assert selection.temperature == bundle.ensembles["endpoints"].temperature
    assert serving.select("endpoints-fp16").members == ("endpoint-0-fp16", "endpoint-1-fp16")


def test_models_name_the_precision_that_answers(copy: Path) -> None:
    broken(copy)
    with served(copy, precision_gate="float") as client:
        document = client.get("/models").json()
        schemas = client.get("/docs.json").json()["components"]["schemas"]
    assert schemas["Point"]["properties"].keys() >= {"precision", "float_point"}
    assert not {"precision", "float_point"} & set(schemas["Point"]["required"])
    points = {model["name"]: model for model in document["models"] if model["type"] == "point"}
    said = {name: (point.get("precision"), point.get("float_point")) for name, point in points.items()}
    assert said == {
        **dict.fromkeys(("midpoint", "endpoint-0", "endpoint-1"), (None, None)),
        **dict.fromkeys(("midpoint-fp16", "endpoint-0-fp16", "endpoint-1-fp16"), ("fp16", None)),
        **dict.fromkeys(("endpoint-0-int8", "endpoint-1-int8"), ("int8", None)),
        "midpoint-int8": (None, "midpoint"),
    }
    assert points["midpoint"].keys() == set(schemas["Point"]["required"])


def test_a_provider_without_the_precision_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(path: Path, *rest, **options):
        raise BundleError(f"{path} cannot be loaded by ONNX Runtime (NOT_IMPLEMENTED: QLinearConv); export again")

    monkeypatch.setattr(gate_module, "open_session", unsupported)
    report = repeat_gates(bundle, device="cpu")["midpoint-int8"]
    assert report.failure.startswith("midpoint-int8 does not run in int8 here (")
    assert "NOT_IMPLEMENTED" in report.failure
    assert report.failure.endswith("serve its float point midpoint, or export again on this processor")


@pytest.mark.parametrize("missing", ["gate.npz", "midpoint"])
def test_a_reduced_point_needs_its_gate_and_its_float_point(copy: Path, missing: str) -> None:
    def change(document: dict) -> None:
        document.pop("gate") if missing == "gate.npz" else document["points"].pop("midpoint")

    with pytest.raises(BundleError, match="needs its float point and the gate's images"):
        Bundle.open(rewritten(copy, change), check_hashes=False)


def test_a_damaged_gate_is_named(copy: Path) -> None:
    (copy / "gate.npz").write_bytes(b"no archive")
    with pytest.raises(BundleError, match=r"gate\.npz was changed"):
        verify_bundle(copy)
    rewritten(copy, lambda document: document["gate"].update(sha256=sha256_of(copy / "gate.npz")))
    with pytest.raises(BundleError, match=r"gate\.npz cannot be read"):
        verify_bundle(copy)


def gate_of(labels: list[int], max_drop: float) -> GateData:
    return GateData(MemoryImages(np.zeros((len(labels), 2, 2, 1), np.uint8), np.array(labels)), "those", 0, max_drop)


def test_what_a_gate_measures() -> None:
    labels = [0, 1, 0, 1]
    before = 4.0 * np.eye(2, dtype=np.float32)[[0, 1, 0, 0]]  # three right
    after = 4.0 * np.eye(2, dtype=np.float32)[[0, 1, 1, 1]]  # another three right
    found = gated("small", before, after, gate_of(labels, 0.0))
    assert (found.float32.accuracy, found.reduced.accuracy, found.flips) == (0.75, 0.75, 0.5)
    assert found.float32.nll == pytest.approx(np.log1p(np.exp(-4)) + 1)
    with pytest.raises(ExportError, match=r"small does not pass its gate: it loses 25\.00 points .* allowed are 24"):
        gated("small", before, 4.0 * np.eye(2)[[0, 0, 0, 0]], gate_of(labels, 24))
    assert gated("small", before, 4.0 * np.eye(2)[[0, 0, 0, 0]], gate_of(labels, 25)).repeated_drop == 25


def test_too_few_images_for_the_drop_are_refused() -> None:
    images = MemoryImages(np.zeros((199, 2, 2, 1), np.uint8), np.zeros(199, np.int64))
    with pytest.raises(ExportError, match=r"199 images of those, of which one is 0\.50 points .* give 200 or more"):
        GateData.drawn(images, "those", seed=0, max_drop=0.5)
    assert len(GateData.drawn(images, "those", seed=0, max_drop=0.6).images) == 199


def test_a_failing_gate_writes_nothing(line_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(model, calibration, folder):
        for tensor in model.graph.initializer:
            if tensor.name.startswith("ConvBnFusion_W"):
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
        return model

    monkeypatch.setattr(reduced_module, "_halved", damaged)
    words = ("export", line_run, "--alpha", "midpoint", "--no-evaluate", "--no-sets", "--points-only")
    done = invoke(*words, "--precision", "fp16", "--max-drop", DROP, "--out", tmp_path / "bundle")
    assert done.exit_code == 1
    assert "midpoint-fp16 does not pass its gate: it loses" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gate-data", "validation"), "--gate-data says on what --precision is gated"),
        (("--precision", "int8"), "a drop of 0.5 cannot be seen"),
        (("--precision", "int8", "--max-drop", "2", "--gate-data", "train"), "the networks were trained on train"),
        (("--precision", "int8", "--max-drop", "2", "--gate-data", "digits:test"), "test"),
        (("--precision", "int8", "--max-drop", "2", "--alpha", "midpoint", "--alpha", "midpoint-int8=0.3"), "name"),
    ],
)
def test_what_export_refuses(line_run: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = invoke("export", line_run, *words, "--no-sets", "--out", tmp_path / "bundle")
    assert done.exit_code != 0
    assert message in done.output + str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", ["validation", "brightness", "twin"])
def test_a_gate_leaves_out_the_half_that_calibrated_a_point(line_run: Path, tmp_path: Path, data: str) -> None:
    run, twin = Path(shutil.copytree(line_run, tmp_path / "copy")), tmp_path / "twin.npz"
    opened = OpenRun(run)
    images = opened.data.validation
    pixels, labels = images.take(np.arange(len(images)))
    for file in (twin, tmp_path / "own.npz"):
        np.savez(file, images=pixels, labels=labels, label_names=opened.labels)
    words = {
        "validation": (),
        "brightness": ("--corruption", "brightness"),
        "twin": ("--val-data", tmp_path / "own.npz"),
    }[data]
    words = (*words, "--points", 2, "--refine", 0, "--calibrate-on", "domain", "--name", "best", "--seed", 3)
    completed("select", run, *words)

    words = ("export", run, "--alpha", "best", "--alpha", "midpoint", "--precision", "int8", "--max-drop", 30)
    words = (*words, "--no-sets", "--points-only", "--no-evaluate", *(("--gate-data", twin) if data == "twin" else ()))
    completed(*words)
    made = Bundle.open(run / "bundle")
    name = str(twin) if data == "twin" else "digits:validation"
    left, choosing = carve(labels, len(labels) // 2, 3)
    assert made.points["best-int8"].reduction.gate.data == f"{name}, those that calibrated nothing"
    found = {image.tobytes() for image in read_gate(made).images}
    assert found == {image.tobytes() for image in pixels[left]}
    assert not found & {image.tobytes() for image in pixels[choosing]}
    # With other images for the statistics the half calibrates nothing.
    completed(*words, "--calibrate-on", "train")
    gate = Bundle.open(run / "bundle").points["best-int8"].reduction.gate
    assert (gate.data, gate.images) == (name, len(labels))


def test_without_the_package_onnx_export_says_so(
    line_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduced_module, "is_installed", lambda package: False)
    done = invoke("export", line_run, "--precision", "int8", "--max-drop", DROP, "--out", tmp_path / "bundle")
    assert done.exit_code == 1
    assert "made with the package onnx, which is not installed" in str(done.exception)


def test_extending_a_bundle_keeps_them(bundle: Bundle, tmp_path: Path) -> None:
    with extend_bundle(bundle, tmp_path / "extended"):
        pass
    extended = Bundle.open(tmp_path / "extended")
    assert extended.manifest == bundle.manifest
    assert verify_bundle(extended.folder, device="cpu", threads=1).gates.keys() == repeat_gates(bundle).keys()


def test_a_triton_repository_of_them_answers_as_the_service(line_run: Path, bundle: Bundle, tmp_path: Path) -> None:
    words = ("--precision", "int8", "--max-drop", DROP, "--layout", "triton", "--calibration-count", 256)
    run("export", line_run, *words, "--out", tmp_path / "triton")
    session = onnxruntime.InferenceSession(tmp_path / "triton" / "endpoints-int8" / "1" / "model.onnx")
    images = np.load(bundle.golden)["images"]
    found = session.run(["member_probabilities"], {"image": images})[0].swapaxes(0, 1)
    predictor = Predictor(bundle, device="cpu")
    own = [predictor.predict(images, predictor.select(member)) for member in ("endpoint-0-int8", "endpoint-1-int8")]
    np.testing.assert_allclose(found, np.concatenate([one.member_probabilities for one in own]), atol=1e-4)


def test_a_worker_looks_at_the_gates_before_it_serves(copy: Path) -> None:
    broken(copy)
    engine = Engine(Settings(bundle=copy, device="cpu", threads=1, precision_gate="refuse"), Metrics())
    engine.start().join()
    try:
        assert not engine.ready
        assert "midpoint-int8 does not pass its gate" in engine.failure
    finally:
        engine.close()
