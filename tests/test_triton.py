"""Triton model repositories: their graphs against numpy, their configurations against Triton's own schema."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundle_factory import LABELS, POINTS, expected_logits, input_of, linear_graph, make_bundle, point_weights
from bundle_factory import random_images as images_of
from command_line import invoke, run
from folder_contents import contents
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2

from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Prediction, Predictor, combine
from subspace_serve.bundle.selection import Selection
from subspace_serve.deploy.triton import write_triton_repository
from subspace_serve.errors import BundleError
from subspace_serve.export.fused import graph as graph_module
from subspace_serve.export.fused import head as head_module
from subspace_serve.export.fused.graph import fuse
from subspace_serve.files import sha256_of

PAIR = ("endpoint-0", "endpoint-1")
POINT_OUTPUTS = ["probabilities", "logits", "entropy"]
ENSEMBLE_OUTPUTS = [*POINT_OUTPUTS, "mutual_information", "disagreement", "member_probabilities"]
ATOL = {"probabilities": 2e-6, "entropy": 1e-5, "mutual_information": 5e-6, "disagreement": 2e-6}


def run_graph(graph: Path | onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    source = str(graph) if isinstance(graph, Path) else graph.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def check_answer(found: dict[str, np.ndarray], expected: Prediction) -> None:
    """Compare a graph's outputs with what numpy computes; all are there, float32, and begin with the batch."""
    assert list(found) == (POINT_OUTPUTS if expected.disagreement is None else ENSEMBLE_OUTPUTS)
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
    for name, atol in ATOL.items():
        if name in found:
            wanted = getattr(expected, name)
            assert found[name].shape == wanted.shape
            np.testing.assert_allclose(found[name], wanted, rtol=0, atol=atol, err_msg=name)
    np.testing.assert_allclose(found["logits"], expected.logits, rtol=2e-5, atol=2e-5)
    if "member_probabilities" in found:
        np.testing.assert_allclose(
            found["member_probabilities"], expected.member_probabilities.swapaxes(0, 1), atol=2e-6
        )


def configuration(model: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def parameters(model: Path) -> dict[str, str]:
    return {
        key.removeprefix("subspace_serve."): value.string_value
        for key, value in configuration(model).parameters.items()
        if key.startswith("subspace_serve.")
    }


@pytest.fixture
def points(tmp_path: Path) -> dict[str, Path]:
    """Return the points' graphs as files, uint8."""
    files = {name: tmp_path / f"{name}.onnx" for name in POINTS}
    for name, file in files.items():
        onnx.save(linear_graph(point_weights(name)), file)
    return files


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_model_answers_as_numpy_does(tmp_path: Path, dtype: str) -> None:
    temperatures = {"midpoint": 1.7, "endpoints": 0.6, "leaning": 2.5}
    bundle = Bundle.open(make_bundle(tmp_path / "bundle", dtype=dtype, temperatures=temperatures))
    repository = write_triton_repository(bundle, tmp_path / "repository")
    predictor = Predictor(bundle, device="cpu")
    for name in (*bundle.points, *bundle.ensembles):
        selection = predictor.select(name)
        assert selection.temperature == temperatures.get(name, 1)
        for count in (1, 5):
            images = images_of(count, seed=7, dtype=dtype)
            expected = combine(np.stack([expected_logits(member, images) for member in selection.members]), selection)
            check_answer(run_graph(repository / name / "1" / "model.onnx", images), expected)


@pytest.mark.parametrize("aggregate", ["probabilities", "logits"])
@pytest.mark.parametrize("weights", [(0.5, 0.2, 0.3), (0.25, 0.0, 0.75)])
@pytest.mark.parametrize("temperature", [1.0, 0.05, 3.0])
def test_weights_aggregates_and_temperatures(
    points: dict[str, Path], aggregate: str, weights: tuple[float, ...], temperature: float
) -> None:
    selection = Selection("all", tuple(POINTS), weights, aggregate, temperature)
    images = images_of(9)
    graph = fuse("all", points, selection, input=input_of(), classes=len(LABELS))
    check_answer(run_graph(graph, images), combine(np.stack([expected_logits(p, images) for p in POINTS]), selection))


@pytest.mark.parametrize("aggregate", ["probabilities", "logits"])
def test_members_that_are_certain_of_different_classes(tmp_path: Path, aggregate: str) -> None:
    files = {name: tmp_path / f"{name}.onnx" for name in PAIR}
    for name, file in files.items():
        onnx.save(linear_graph(2000 * point_weights(name)), file)
    selection = Selection("pair", PAIR, (0.5, 0.5), aggregate, 2.0)
    images = images_of(16)
    logits = 2000 * np.stack([expected_logits(name, images) for name in PAIR])
    assert np.ptp(logits, axis=-1).min() > 750  # beyond what float64 tells from 0
    expected = combine(logits, selection)
    assert expected.disagreement.max() == pytest.approx(0.5)
    found = run_graph(fuse("pair", files, selection, input=input_of(), classes=len(LABELS)), images)
    assert all(np.isfinite(values).all() for values in found.values())
    for name, atol in ATOL.items():
        # Logits of thousands have errors of their own in float32.
        np.testing.assert_allclose(found[name], getattr(expected, name), rtol=0, atol=100 * atol, err_msg=name)
    np.testing.assert_allclose(found["logits"], expected.logits, rtol=1e-4, atol=2e-3)


def test_members_that_agree_have_no_negative_mutual_information(points: dict[str, Path]) -> None:
    files = dict.fromkeys(PAIR, points["midpoint"])
    selection = Selection("pair", PAIR, (0.3, 0.7), "probabilities")
    found = run_graph(fuse("pair", files, selection, input=input_of(), classes=len(LABELS)), images_of(64))
    assert found["mutual_information"].min() >= 0
    assert found["mutual_information"].max() < 1e-6
    assert found["disagreement"].max() < 1e-6


def test_branches_within_a_network_keep_what_they_refer_to(points: dict[str, Path]) -> None:
    images = images_of(6)
    for index, name in enumerate(PAIR):
        model = onnx.load(points[name])
        # logits = logits * factor where the batch is bright, else logits + factor: both from outside of the branch.
        branches = {
            key: helper.make_graph(
                [helper.make_node(operator, ["linear", "factor"], ["inner"])],
                key,
                [],
                [helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["batch", len(LABELS)])],
            )
            for key, operator in (("then_branch", "Mul"), ("else_branch", "Add"))
        }
        model.graph.node[3].output[0] = "linear"
        nodes = [
            helper.make_node("ReduceMean", ["scaled"], ["mean"], keepdims=0),
            helper.make_node("Greater", ["mean", "threshold"], ["bright"]),
            helper.make_node("If", ["bright"], ["logits"], **branches),
        ]
        softmax = model.graph.node.pop()
        model.graph.node.extend([*nodes, softmax])
        for key, value in (("factor", index + 2), ("threshold", index)):  # the first is bright, the second never
            model.graph.initializer.append(numpy_helper.from_array(np.float32(value), key))
        onnx.save(model, points[name])
    selection = Selection("pair", PAIR, (0.5, 0.5), "probabilities")
    found = run_graph(fuse("pair", points, selection, input=input_of(), classes=len(LABELS)), images)
    logits = [2 * expected_logits("endpoint-0", images), expected_logits("endpoint-1", images) + 3]
    check_answer(found, combine(np.stack(logits), selection))


def test_configurations_are_what_triton_reads(tmp_path: Path) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "bundle", temperatures={"leaning": 2.5}))
    repository = write_triton_repository(bundle, tmp_path / "repository", max_batch_size=16)
    assert {entry.name for entry in repository.iterdir()} == {*bundle.points, *bundle.ensembles, "bundle-1.json"}
    for name in (*bundle.points, *bundle.ensembles):
        found = configuration(repository / name)
        assert (found.name, found.platform, found.backend) == (name, "onnxruntime_onnx", "onnxruntime")
        assert found.max_batch_size == 16
        assert found.HasField("dynamic_batching")
        assert found.version_policy.latest.num_versions == 1
        assert len(found.instance_group) == 0
        (tensor,) = found.input
        assert (tensor.name, tensor.data_type, list(tensor.dims)) == ("image", model_config_pb2.TYPE_UINT8, [4, 5, 3])
        outputs = {output.name: output for output in found.output}
        assert list(outputs) == (ENSEMBLE_OUTPUTS if name in bundle.ensembles else POINT_OUTPUTS)
        assert {output.name: output.label_filename for output in found.output if output.label_filename} == {
            "probabilities": "labels.txt"
        }
        assert (repository / name / "labels.txt").read_text().splitlines() == list(LABELS)
        check_tensors(repository / name / "1" / "model.onnx", found)
        (accelerator,) = found.optimization.execution_accelerators.gpu_execution_accelerator
        assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})
        assert found.parameters["cudnn_conv_algo_search"].string_value == "1"
    told = parameters(repository / "leaning")
    assert json.loads(told["members"]) == list(PAIR)
    assert json.loads(told["weights"]) == [0.75, 0.25]
    assert json.loads(told["alphas"]) == [0.0, 1.0]
    assert (told["aggregate"], told["temperature"]) == ("logits", "2.5")
    assert told["bundle_sha256"] == sha256_of(bundle.folder / "manifest.json")
    assert told["bundle_sha256"] == sha256_of(repository / "bundle-1.json")
    assert told["checkpoint_sha256"] == "0" * 64
    assert json.loads(told["architecture"]) == {"name": "linear"}
    midpoint = parameters(repository / "midpoint")
    assert (json.loads(midpoint["alpha"]), json.loads(midpoint["coefficients"])) == (0.5, [0.5, 0.5])
    graph = onnx.load(repository / "leaning" / "1" / "model.onnx")
    assert {item.key.removeprefix("subspace_serve."): item.value for item in graph.metadata_props} == told


def check_tensors(file: Path, found: model_config_pb2.ModelConfig) -> None:
    """Check, as Triton's backend does, that dims (or their reshape) are the graph's own behind a dynamic batch."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert len(shapes) == len(found.input) + len(found.output)
    for tensor in (*found.input, *found.output):
        assert len(tensor.dims) > 0
        batch, *rest = shapes[tensor.name]
        assert batch == "batch"
        assert rest == list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
        assert np.prod(rest) == np.prod(tensor.dims)


def test_float_input_and_labels_of_any_text(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle", dtype="float32")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["labels"] = ["Käse", "two\nlines", "", 'a "quote"']
    manifest["created_by"] = 'hand "made"\\ ü\n'
    (folder / "manifest.json").write_text(json.dumps(manifest))
    repository = write_triton_repository(Bundle.open(folder), tmp_path / "repository")
    (tensor,) = configuration(repository / "midpoint").input
    assert (tensor.data_type, list(tensor.dims)) == (model_config_pb2.TYPE_FP32, [3, 4, 5])
    labels = (repository / "midpoint" / "labels.txt").read_text(encoding="utf-8").split("\n")
    assert labels == ["Käse", "two lines", "", 'a "quote"', ""]
    assert parameters(repository / "midpoint")["created_by"] == 'hand "made"\\ ü\n'


def test_a_new_version_leaves_the_others_in_place(tmp_path: Path) -> None:
    first = Bundle.open(make_bundle(tmp_path / "first"))
    second = Bundle.open(make_bundle(tmp_path / "second", temperatures={"midpoint": 4.0}))
    repository = write_triton_repository(first, tmp_path / "repository")
    before = contents(repository)
    write_triton_repository(second, repository, version=3)
    after = contents(repository)
    assert {name for name in before if after[name] != before[name]} == {
        f"{model}/config.pbtxt" for model in (*first.points, *first.ensembles)
    }
    images = images_of(3)
    old, new = (run_graph(repository / "midpoint" / version / "model.onnx", images) for version in "13")
    np.testing.assert_allclose(4 * np.ptp(new["logits"], axis=1), np.ptp(old["logits"], axis=1), rtol=1e-4)
    assert parameters(repository / "midpoint")["temperature"] == "4.0"
    assert sha256_of(repository / "bundle-3.json") == parameters(repository / "midpoint")["bundle_sha256"]

    with pytest.raises(BundleError, match="has a version 3 already"):
        write_triton_repository(second, repository, version=3)
    other = Bundle.open(make_bundle(tmp_path / "other", dtype="float32"))
    with pytest.raises(BundleError, match="midpoint has another input"):
        write_triton_repository(other, repository, version=4)
    assert contents(repository) == after

    write_triton_repository(first, repository)  # without a version: whole, as it was at first
    assert contents(repository) == before


def test_nothing_but_a_repository_is_replaced(tmp_path: Path) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "bundle"))
    repository = write_triton_repository(bundle, tmp_path / "repository")
    (repository / "other_model").mkdir()
    for version in (None, 2):
        with pytest.raises(BundleError, match="holds other_model"):
            write_triton_repository(bundle, repository, version=version)
    with pytest.raises(BundleError, match="which was not written by an export to Triton"):
        write_triton_repository(bundle, bundle.folder)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(BundleError, match="is no folder"):
        write_triton_repository(bundle, file)
    with pytest.raises(BundleError, match="from 1, got 0"):
        write_triton_repository(bundle, tmp_path / "new", version=0)
    with pytest.raises(BundleError, match="1 or more, got 0"):
        write_triton_repository(bundle, tmp_path / "new", max_batch_size=0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bundle", "file", "repository"]


def test_a_graph_that_answers_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "bundle"))
    repository = write_triton_repository(bundle, tmp_path / "repository")
    before = contents(repository)

    def lukewarm(selection: Selection):
        hotter = selection.temperature if selection.aggregate is None else 1.01
        return head_module.build_head(replace(selection, temperature=hotter))

    monkeypatch.setattr(graph_module, "build_head", lukewarm)
    with pytest.raises(BundleError, match="endpoints does not answer as the service does: probabilities differs by"):
        write_triton_repository(bundle, repository)
    assert contents(repository) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bundle", "repository"]


def test_a_killed_write_leaves_the_old_repository(tmp_path: Path) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "bundle"))
    repository = write_triton_repository(bundle, tmp_path / "repository")
    before = contents(repository)
    program = f"""
import os, signal
from subspace_serve.bundle import Bundle
from subspace_serve.deploy.triton import write_triton_repository
die = lambda line: os.kill(os.getpid(), signal.SIGKILL)
write_triton_repository(Bundle.open({str(bundle.folder)!r}), {str(repository)!r}, max_batch_size=2, progress=die)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == -signal.SIGKILL
    assert contents(repository) == before
    assert len(list(tmp_path.iterdir())) == 3  # with what the killed process was working in
    write_triton_repository(bundle, repository, max_batch_size=3)
    assert configuration(repository / "midpoint").max_batch_size == 3
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bundle", "repository"]


def test_graphs_that_cannot_be_joined_are_refused(points: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    selection = Selection("pair", PAIR, (0.5, 0.5), "probabilities")

    def attempt() -> None:
        fuse("pair", points, selection, input=input_of(), classes=len(LABELS))

    with monkeypatch.context() as context:
        context.setattr(graph_module, "LARGEST_FILE", 1000)
        with pytest.raises(BundleError, match="pair would be one ONNX file of 0.00 GB"):
            attempt()
    model = onnx.load(points["endpoint-1"])
    model.opset_import[0].version = 21
    onnx.save(model, points["endpoint-1"])
    with pytest.raises(BundleError, match="endpoint-1.onnx has version 21 of the operators ai.onnx, another .* 20"):
        attempt()
    model.opset_import[0].version = 17
    onnx.save(model, points["endpoint-0"])
    with pytest.raises(BundleError, match="endpoint-0.onnx has ONNX opset 17"):
        attempt()
    points["endpoint-0"].write_bytes(b"no graph")
    with pytest.raises(BundleError, match="endpoint-0.onnx cannot be read"):
        attempt()


def test_a_domains_point_is_a_model_and_places_between_points_are_none(whole_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(whole_bundle)
    repository = write_triton_repository(bundle, tmp_path / "repository")
    models = {folder.name for folder in repository.iterdir() if folder.is_dir()}
    assert models == {"midpoint", "endpoint-0", "endpoint-1", "inverted", "endpoints"}
    told = parameters(repository / "inverted")
    assert (json.loads(told["alpha"]), told["statistics"]) == (0.5, "inverted")
    assert parameters(repository / "midpoint")["statistics"] == "training"
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    predictor = Predictor(bundle, device="cpu")
    answer = predictor.predict(images, predictor.select(domain="inverted"))
    found = run_graph(repository / "inverted" / "1" / "model.onnx", images)
    np.testing.assert_allclose(found["probabilities"], answer.probabilities, atol=1e-5)


def test_export_writes_a_repository_of_a_real_network(line_run: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    words = ["export", line_run, "--layout", "triton", "--out", repository, "--no-evaluate"]
    words += ["--ensemble", "tilted=endpoint-0:3,endpoint-1:1"]
    result = run(*words, "--max-batch-size", 8, "--temperature", "--json", tmp_path / "manifest.json")
    assert f"Triton model repository: {repository} (version 1 of 5 models)" in result
    assert not (line_run / "triton").exists()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest == json.loads((repository / "bundle-1.json").read_text())
    assert parameters(repository / "endpoints")["temperature"] == str(manifest["ensembles"]["endpoints"]["temperature"])
    assert configuration(repository / "endpoints").max_batch_size == 8
    file = repository / "endpoints" / "1" / "model.onnx"
    assert b"stack_trace" not in file.read_bytes()  # the exporter notes paths of source files
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    together, members = (
        run_graph(file, images),
        [run_graph(repository / name / "1" / "model.onnx", images) for name in PAIR],
    )
    np.testing.assert_allclose(together["entropy"], -(together["probabilities"] * together["logits"]).sum(1), atol=1e-5)
    for index, (name, member) in enumerate(zip(PAIR, members, strict=True)):
        # The member's own answer is at its own temperature; without it, it is what the ensemble averages.
        plain = member["logits"] * manifest["points"][name]["temperature"]
        plain = np.exp(plain - plain.max(1, keepdims=True))
        plain /= plain.sum(1, keepdims=True)
        np.testing.assert_allclose(together["member_probabilities"][:, index], plain, atol=1e-5)

    tilted = manifest["ensembles"]["tilted"]
    assert json.loads(parameters(repository / "tilted")["weights"]) == [0.75, 0.25]
    found = run_graph(repository / "tilted" / "1" / "model.onnx", images)
    powers = np.tensordot([0.75, 0.25], found["member_probabilities"].swapaxes(0, 1), axes=1) ** (
        1 / tilted["temperature"]
    )
    np.testing.assert_allclose(found["probabilities"], powers / powers.sum(1, keepdims=True), atol=1e-5)

    refused = invoke(*words, "--model-version", 1)
    assert refused.exit_code == 1
    assert "has a version 1 already" in str(refused.exception)
    assert invoke("export", line_run, "--model-version", 2).exit_code == 2
