"""A subspace on ONNX Runtime: one graph and any weights, against torch."""

from __future__ import annotations

import gc
import os
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from subspace_serve.data import Preprocessing
from subspace_serve.errors import BundleError, CalibrationError, CheckpointError, ExportError, GeometryError
from subspace_serve.network import sessions
from subspace_serve.network.network import Network
from subspace_serve.network.onnx_file import Model
from subspace_serve.network.served import ServedGraph
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics import Statistics
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace
from trainer.architectures import build
from trainer.modules import collapsed, weights_of
from trainer.proof import proven_skeleton
from trainer.skeleton import skeleton_of

PREPROCESSING = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
# An export of these takes up to half a minute; they are made by `make stress`.
LONG = pytest.mark.skipif(os.environ.get("STRESS") != "long", reason="made in the long form: STRESS=long")


def architecture(name: str, side: int = 32) -> Architecture:
    # Torch's `update_bn` calibrates under the noise of training, this program without: here there is to be none.
    noise = {"stochastic_depth_prob": 0.0, "dropout": 0.0} if name.startswith("efficientnet") else {}
    return Architecture(name, classes=10, channels=3, height=side, width=side, arguments=noise)


def subspace_of(built: Architecture, endpoints: int = 2, geometry: str = "line") -> Subspace:
    """Random endpoints, biases and BatchNorm's parameters too."""
    torch.manual_seed(0)
    weights = []
    for _ in range(endpoints):
        drawn = weights_of(build(built))
        weights.append(
            {
                name: value + 0.1 * torch.randn(value.shape).numpy() if value.ndim < 2 else value
                for name, value in drawn.items()
            }
        )
    return Subspace(Geometry(geometry, endpoints), built, tuple(weights))


def network_of(subspace: Subspace) -> Network:
    skeleton = proven_skeleton(subspace.architecture)
    return Network.of(subspace, skeleton, PREPROCESSING, device="cpu").with_threads(1)


def pictures(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    return np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


def floats(images: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (PREPROCESSING.mean, PREPROCESSING.std))
    return (pixels - mean) / std


def calibrated(subspace: Subspace, alpha: object, batches: list[np.ndarray]) -> nn.Module:
    """The network by torch, with torch's own update of BatchNorm."""
    model = collapsed(subspace, alpha, architecture=subspace.architecture.name)
    torch.optim.swa_utils.update_bn([floats(batch) for batch in batches], model)
    return model.eval()


@torch.inference_mode()
def answers(model: nn.Module, images: np.ndarray) -> np.ndarray:
    return model(floats(images)).numpy()


@pytest.fixture(scope="module")
def line() -> Subspace:
    return subspace_of(architecture("cresnet8-8"))


@pytest.fixture(scope="module")
def network(line: Subspace) -> Network:
    return network_of(line)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("cresnet8-8", 32),
        ("resnet18", 64),
        ("mobilenet_v3_small", 64),
        ("convnext_tiny", 32),
        pytest.param("densenet121", 64, marks=LONG),
        pytest.param("efficientnet_b0", 64, marks=LONG),
        pytest.param("vit_b_16", 32, marks=LONG),
    ],
)
def test_any_network_of_a_line_answers_as_torch_does(name: str, side: int) -> None:
    subspace = subspace_of(architecture(name, side))
    network = network_of(subspace)
    images, others = pictures(48, side), pictures(5, side, seed=1)
    for alpha in (0.3, 1.0):
        expected = answers(calibrated(subspace, alpha, [images[:24], images[24:]]), others)
        statistics = network.recalibrate([images[:24], images[24:]], alpha=alpha)
        found = network.at(alpha, statistics).logits(others)
        assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize(
    ("geometry", "endpoints", "alpha"), [("curve", 3, 0.25), ("simplex", 3, (0.2, 0.3, 0.5)), ("simplex", 1, (1.0,))]
)
def test_every_geometry(geometry: str, endpoints: int, alpha: object) -> None:
    subspace = subspace_of(architecture("cresnet8-8"), endpoints, geometry)
    network = network_of(subspace)
    for name, slot in network.skeleton.parameters.items():
        expected = subspace.weights(alpha)[name].reshape(-1)
        np.testing.assert_allclose(network.weights(alpha)[slot.where], expected, rtol=1e-6, atol=1e-7)


def test_an_end_is_its_endpoint_bit_for_bit(line: Subspace, network: Network) -> None:
    for alpha, row in ((0.0, 0), (1.0, 1)):
        assert network.weights(alpha).tobytes() == network.endpoints[row].tobytes()
    with pytest.raises(GeometryError):
        network.weights(1.5)
    assert np.isfinite(network.weights(1.5, extrapolate=True)).all()


def test_statistics_are_torchs_and_an_uneven_last_batch_counts_by_its_size(line: Subspace, network: Network) -> None:
    images = pictures(40)
    one = calibrated(line, 0.5, [images[:20], images[20:]])
    for layer in network.skeleton.batchnorms:
        found = network.recalibrate([images[:20], images[20:]], alpha=0.5).values
        module = one.get_submodule(layer.name)
        np.testing.assert_allclose(found[layer.mean.where], module.running_mean.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[layer.variance.where], module.running_var.numpy(), rtol=1e-4)
    first, rest = (network.recalibrate([part], alpha=0.5).values for part in (images[:30], images[30:]))
    uneven = network.recalibrate([images[:30], images[30:]], alpha=0.5)
    np.testing.assert_allclose(uneven.values, 0.75 * first + 0.25 * rest, rtol=1e-5, atol=1e-6)
    assert uneven.images == 40


@pytest.mark.parametrize("sizes", [[129], [128, 129], [128, 2], [128, 128]])
def test_an_array_is_calibrated_on_in_batches_none_of_which_is_a_single_image(
    network: Network, sizes: list[int]
) -> None:
    images = pictures(sum(sizes))
    found = network.recalibrate(images, alpha=0.5)
    batches = np.split(images, np.cumsum(sizes)[:-1])
    np.testing.assert_array_equal(found.values, network.recalibrate(batches, alpha=0.5).values)
    assert found.images == len(images)


def test_the_proof_takes_right_statistics_and_refuses_others(network: Network) -> None:
    images, fresh = pictures(400), pictures(200, seed=1)
    right = network.recalibrate(images, alpha=0.5)
    agreed = network.check(right, fresh, alpha=0.5)
    assert len(agreed) == len(network.skeleton.batchnorms)
    assert max(max(layer.mean_z, layer.variance_z) for layer in agreed) < 3
    wrong = {
        "default": network.skeleton.default_statistics(),
        "another place": network.recalibrate(images, alpha=0.4).values,
        "interpolated": (network.recalibrate(images, alpha=0.0).values + network.recalibrate(images, alpha=1.0).values)
        / 2,
        "not finite": np.full_like(right.values, np.nan),
    }
    for name, values in wrong.items():
        how_far = ".* standard errors off" if name in ("another place", "interpolated") else ""
        with pytest.raises(CalibrationError, match=f"holds statistics that are not this network's{how_far}"):
            network.check(Statistics(values, 400), fresh, alpha=0.5)
    with pytest.raises(CalibrationError, match="16 images or more"):
        network.check(right, fresh[:15], alpha=0.5)


def test_calibration_refuses_what_it_cannot_use(network: Network) -> None:
    with pytest.raises(CalibrationError, match="empty"):
        network.recalibrate([], alpha=0.5)
    with pytest.raises(CalibrationError, match="2 images or more"):
        network.recalibrate(pictures(1), alpha=0.5)
    endless = network.weights(0.5) * np.float32(1e30)
    with pytest.raises(CalibrationError, match="not finite"):
        network.recalibrate(pictures(8), weights=endless)


def test_sessions_keep_their_numbers_when_others_are_built_and_memory_is_freed(
    line: Subspace, network: Network
) -> None:
    """ONNX Runtime reads the weights while a session is built: freed too early, they would be others' in silence."""
    images, statistics = pictures(3), Statistics(network.skeleton.default_statistics(), 0)
    kept = []
    for alpha in np.linspace(0, 1, 12).round(3):
        kept.append((alpha, network.at(float(alpha), statistics)))
        _ = [np.full(size, np.nan, np.float32) for size in (1000, 20_000, 100_000)]
        gc.collect()
    for alpha, answering in kept:
        expected = answers(collapsed(line, float(alpha)), images)
        np.testing.assert_allclose(answering.logits(images), expected, atol=1e-4)


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 3}, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda path: "max 100000")
    assert sessions.cores() == 3
    monkeypatch.setattr(Path, "read_text", lambda path: "250000 100000")
    assert sessions.cores() == 2


@pytest.fixture
def device_that_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Stand in for a CUDA device: ONNX Runtime prints what it does, and a session gets the given provider."""

    def stand_in(provider: str) -> None:
        def session(graph: bytes, **options: object) -> SimpleNamespace:
            print("EP Error")
            onnxruntime_session(graph, sess_options=options["sess_options"], providers=[sessions.CPU])
            return SimpleNamespace(get_providers=lambda: [provider])

        onnxruntime_session = onnxruntime.InferenceSession
        monkeypatch.setattr(sessions, "_NVIDIA_DEVICES", (tmp_path,))
        monkeypatch.setattr(sessions, "_gets_cuda", lru_cache(sessions._gets_cuda.__wrapped__))
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [sessions.CUDA, sessions.CPU])
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcublas"))
        monkeypatch.setattr(onnxruntime, "InferenceSession", session)

    return stand_in


def test_a_cuda_device_without_its_libraries_is_a_cpu(
    line: Subspace, network: Network, device_that_gives, capfd
) -> None:
    device_that_gives(sessions.CPU)
    found = Network.of(line, network.skeleton, PREPROCESSING)
    assert found.on_cpu
    assert sessions.providers("auto") == [sessions.CPU]
    with pytest.raises(BundleError, match="finds no CUDA device that works"):
        Network.of(line, network.skeleton, PREPROCESSING, device="cuda")
    out, err = capfd.readouterr()
    assert (out, err.count("libcublas")) == ("", 1)  # standard output may hold a report; said once


def test_a_cuda_device_that_works_is_used(line: Subspace, network: Network, device_that_gives) -> None:
    device_that_gives(sessions.CUDA)
    assert not Network.of(line, network.skeleton, PREPROCESSING, device="cuda").on_cpu
    assert [name for name, _ in sessions.providers("auto")[:1]] == [sessions.CUDA]
    assert sessions.providers("auto")[1:] == [sessions.CPU]
    assert sessions.providers("cpu") == [sessions.CPU]


def test_the_ordinary_file_is_valid_and_answers_alike(network: Network, tmp_path: Path) -> None:
    statistics = network.recalibrate(pictures(64), alpha=0.5)
    file = tmp_path / "midpoint.onnx"
    file.write_bytes(ServedGraph(network).file(network.weights(0.5), statistics))
    onnx.checker.check_model(str(file), full_check=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    images = pictures(3, seed=2)
    np.testing.assert_array_equal(
        session.run(["logits"], {"image": images})[0], network.at(0.5, statistics).logits(images)
    )


def test_a_graph_taken_apart_and_put_together_is_the_same(network: Network) -> None:
    data = network.skeleton.data
    again = Model.parse(data).encoded()
    assert onnx.ModelProto.FromString(again) == onnx.ModelProto.FromString(data)
    assert Model.parse(again) == Model.parse(data)


def test_damaged_and_foreign_skeletons_are_refused(network: Network, tmp_path: Path) -> None:
    data = network.skeleton.data
    for end in (10, len(data) // 3, len(data) - 1):
        with pytest.raises((BundleError, CheckpointError)):
            Skeleton(data[:end])
    with pytest.raises(CheckpointError, match="no skeleton"):
        Skeleton(ServedGraph(network).file(network.weights(0.5), Statistics(network.skeleton.default_statistics(), 0)))
    for position in range(0, len(data), 97):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        with pytest.raises((BundleError, CheckpointError)):
            Skeleton(bytes(flipped))
    with pytest.raises(CheckpointError, match=r"has no skeleton\.onnx.*train --resume"):
        Skeleton.read(tmp_path)
    (tmp_path / "skeleton.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        Skeleton.read(tmp_path)


def test_weights_and_statistics_of_another_network_are_refused(line: Subspace, network: Network) -> None:
    def opened(endpoints: list[dict[str, np.ndarray]]) -> Network:
        return Network(network.skeleton, Geometry("line", 2), endpoints, mean=[0.5] * 3, std=[0.5] * 3, device="cpu")

    good = [dict(endpoint) for endpoint in line.endpoints]
    with pytest.raises(CheckpointError, match=r"missing fc\.bias"):
        opened([{name: value for name, value in end.items() if name != "fc.bias"} for end in good])
    with pytest.raises(CheckpointError, match="unknown extra"):
        opened([end | {"extra": np.zeros(1, np.float32)} for end in good])
    with pytest.raises(CheckpointError, match=r"fc\.bias is float32 of shape \(9,\), expected .* \(10,\)"):
        opened([end | {"fc.bias": np.zeros(9, np.float32)} for end in good])
    with pytest.raises(CheckpointError, match=r"fc\.bias is float64"):
        opened([end | {"fc.bias": np.zeros(10)} for end in good])
    with pytest.raises(CheckpointError, match="a line of 2 endpoints was given 1"):
        opened(good[:1])
    with pytest.raises(CheckpointError, match="other BatchNorm layers"):
        network.at(0.5, Statistics(np.zeros(3, np.float32), 8))


OWN = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, classes, size, kind):
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8, track_running_stats=kind != "neighbours")
        self.fc = nn.Linear(8, classes)
        if kind == "projection":
            self.register_buffer("projection", torch.randn(8, 8))
        if kind == "double":
            self.fc = self.fc.double()
    def forward(self, images):
        features = torch.relu(self.bn(self.conv(images)))
        if self.kind == "twice":
            features = torch.relu(self.bn(features))
        features = features.mean((2, 3))
        if self.kind == "projection":
            features = features @ self.projection
        if self.kind == "branch" and features.sum() > 0:
            features = -features
        if self.kind == "double":
            features = features.double()
        return self.fc(features).float()
def build(*, classes, channels, height, width, kind="plain"):
    return Net(classes, height, kind)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_skeleton.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_skeleton:build"


def test_a_network_of_ones_own(own: str) -> None:
    subspace = subspace_of(Architecture(own, 10, 3, 16, 16))
    network = network_of(subspace)
    images, others = pictures(32, 16), pictures(5, 16, seed=1)
    statistics = network.recalibrate(images, alpha=0.3)
    expected = answers(calibrated(subspace, 0.3, [images]), others)
    np.testing.assert_allclose(network.at(0.3, statistics).logits(others), expected, atol=1e-4)


def test_no_statistics_suit_a_layer_that_runs_twice_in_a_pass(own: str) -> None:
    subspace = subspace_of(Architecture(own, 10, 3, 16, 16, {"kind": "twice"}))
    network = Network.of(subspace, skeleton_of(subspace.architecture, {}), PREPROCESSING, device="cpu")
    assert [len(layer.inputs) for layer in network.skeleton.batchnorms] == [2]
    statistics = network.recalibrate(pictures(64, 16), alpha=0.3)
    with pytest.raises(CalibrationError, match="layer bn holds statistics that are not this network's"):
        network.check(statistics, pictures(64, 16, seed=3), alpha=0.3)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("neighbours", "depends on its neighbours in the batch"),
        ("projection", "state that differs from one building of the network to the next"),
        ("double", r"2 parameters that are not float32, such as fc\.weight \(torch\.float64\)"),
        ("branch", "cannot be exported to ONNX"),
    ],
)
def test_what_could_not_be_deployed_is_refused_by_name_before_training(own: str, kind: str, message: str) -> None:
    with pytest.raises(ExportError, match=message) as error:
        proven_skeleton(Architecture(own, 10, 3, 16, 16, {"kind": kind}))
    assert "own_skeleton:build" in str(error.value)
