"""An ensemble as one ONNX file: what plain ONNX Runtime answers with it, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundle_factory import LABELS, input_of, linear_graph, point_weights
from command_line import invoke, run

from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.selection import Selection
from subspace_serve.bundle.verify import verify_bundle
from subspace_serve.data import load_data
from subspace_serve.errors import BundleError
from subspace_serve.export.fused import head
from subspace_serve.export.fused.graph import fuse
from subspace_serve.files import sha256_of


@pytest.fixture(scope="module")
def bundle(line_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle with two fused ensembles, of which one leans; tests must not change it."""
    folder = tmp_path_factory.mktemp("fused") / "bundle"
    words = ("--alpha", "endpoints", "--alpha", "midpoint", "--ensemble", "leaning=endpoint-0:3,midpoint:1", "--fused")
    run("export", line_run, *words, "--temperature", "--points-only", "--no-sets", "--out", folder)
    return Bundle.open(folder)


@pytest.mark.parametrize("name", ["endpoints", "leaning"])
def test_one_file_answers_as_the_service_does(bundle: Bundle, name: str) -> None:
    file = bundle.folder / f"{name}.fused.onnx"
    record = bundle.ensembles[name].fused
    assert (record.file, record.sha256) == (file.name, sha256_of(file))
    assert record.parity.max_relative_difference <= record.parity.tolerance == 1e-4
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    images, _ = load_data("digits").test.take(np.arange(33))
    outputs = [value.name for value in session.get_outputs()]
    found = dict(zip(outputs, session.run(None, {"image": images}), strict=True))
    predictor = Predictor(bundle, device="cpu")
    expected = predictor.predict(images, predictor.select(name))
    assert expected.selection.temperature != 1
    for output in ("probabilities", "entropy", "mutual_information", "disagreement"):
        np.testing.assert_allclose(found[output], getattr(expected, output), atol=1e-5, err_msg=output)
    np.testing.assert_allclose(found["member_probabilities"], expected.member_probabilities.swapaxes(0, 1), atol=1e-5)


def test_verify_compares_it(bundle: Bundle, tmp_path: Path) -> None:
    report = verify_bundle(bundle.folder, device="cpu", threads=1)
    assert set(report.fused) == {"endpoints", "leaning"}
    assert max(report.fused.values()) <= 1e-4
    assert "endpoints.fused.onnx: answers as its members do" in run("verify", bundle.folder)

    copy = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    file = copy / "endpoints.fused.onnx"
    model = onnx.load(file)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "temperature")
    weight.CopyFrom(onnx.numpy_helper.from_array(np.float32(9), "temperature"))
    onnx.save(model, file)
    document = json.loads((copy / "manifest.json").read_text())
    document["ensembles"]["endpoints"]["fused"]["sha256"] = sha256_of(file)
    (copy / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="the graph of endpoints does not answer as the service does: probabilities"):
        verify_bundle(copy, device="cpu")


def test_members_of_different_inputs_are_refused(tmp_path: Path) -> None:
    files = {"a": tmp_path / "a.onnx", "b": tmp_path / "b.onnx"}
    for (name, file), dtype in zip(files.items(), ("uint8", "float32"), strict=True):
        onnx.save(linear_graph(point_weights(f"endpoint-{int(name == 'b')}"), dtype), file)
    selection = Selection("pair", ("a", "b"), (0.5, 0.5), "probabilities")
    with pytest.raises(BundleError, match=r"b\.onnx takes .* share the input image, uint8 of shape \(batch, 4, 5, 3\)"):
        fuse("pair", files, selection, input=input_of(), classes=len(LABELS))


def test_a_graph_that_answers_otherwise_is_not_written(
    line_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_mixture", lambda own, members, weights: own.sum(members, axis=1))
    done = invoke("export", line_run, "--fused", "--points-only", "--no-sets", "--out", tmp_path / "bundle")
    assert done.exit_code == 1
    assert "does not answer as the service does" in str(done.exception)
    assert "the bundle was not written" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_triton_has_it_already(line_run: Path, tmp_path: Path) -> None:
    done = invoke("export", line_run, "--layout", "triton", "--fused", "--out", tmp_path / "repository")
    assert done.exit_code == 2
    assert "holds every ensemble as one graph already" in done.output
