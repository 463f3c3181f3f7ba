"""What of a user's own network is trained, what is kept as it is, and what is refused before the first step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from subspace_serve.bundle import Bundle
from subspace_serve.cli import cli
from subspace_serve.errors import SubspaceServeError
from subspace_serve.run.opened import OpenRun
from subspace_serve.space.architecture import Architecture
from trainer.architectures import build
from trainer.config import TrainingConfig
from trainer.modules import as_module, predict_logits
from trainer.state import check_constant, kept_state
from trainer.training import train

NETWORKS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels, kind):
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, classes)
        if kind == "projection":
            self.register_buffer("projection", torch.randn(8, 8))
            self.register_buffer("table", torch.arange(3))
        if kind == "frozen":
            self.fixed = nn.Parameter(torch.randn(8, 8), requires_grad=False)
        if kind == "counter":
            self.register_buffer("seen", torch.zeros(1))
        if kind == "spectral":
            self.fc = nn.utils.spectral_norm(self.fc)
        if kind == "unused":
            self.other = nn.BatchNorm2d(8)
        if kind == "lazy":
            self.fc = nn.LazyLinear(classes)
        if kind == "half":
            self.fc = self.fc.half()
        if kind == "complex":
            self.turn = nn.Parameter(torch.ones(8, dtype=torch.complex64))
        if kind == "scalar":
            self.scale = nn.Parameter(torch.tensor(1.5))
        if kind == "hidden":
            self.hidden = torch.randn(8)
        if kind == "pooled":
            self.bn1 = nn.BatchNorm1d(8)
        if kind == "instance":
            self.norm = nn.InstanceNorm2d(8, track_running_stats=True)

    def forward(self, images):
        features = torch.relu(self.bn(self.conv(images)))
        if self.kind == "twice":
            features = torch.relu(self.bn(features))
        if self.kind == "instance":
            features = self.norm(features)
        features = features.mean((2, 3))
        if self.kind == "projection":
            features = features @ self.projection
        if self.kind == "frozen":
            features = features @ self.fixed
        if self.kind == "hidden":
            features = features * self.hidden
        if self.kind == "counter":
            if self.training:
                self.seen += 1
            features = features + 0 * self.seen
        if self.kind == "half":
            features = features.half()
        if self.kind == "complex":
            features = (features * self.turn).real
        if self.kind == "scalar":
            features = features * self.scale
        if self.kind == "pooled":
            features = self.bn1(features)
        if self.kind == "failing" and self.training:
            raise KeyError("no labels")
        logits = self.fc(features).float()
        return (logits, features) if self.kind == "auxiliary" and self.training else logits

def build(*, classes, channels, height, width, kind="plain"):
    return Net(classes, channels, kind)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "networks_with_state.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    return "networks_with_state:build"


def settings(own: str, kind: str, **changes: object) -> TrainingConfig:
    arguments = {"architecture": own, "arguments": {"kind": kind}, "epochs": 2, "batch_size": 256}
    return TrainingConfig(**(arguments | changes))


def tensors_of(run: Path) -> dict[str, np.ndarray]:
    with safe_open(run / "subspace.safetensors", framework="numpy") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("projection", "projection"), ("frozen", "fixed")])
def test_state_that_is_not_trained_is_kept_and_every_command_uses_it(
    own: str, kind: str, name: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(settings(own, kind, epochs=1), run)
    first = tensors_of(run)
    assert [key for key in first if not key.startswith("endpoints.")] == [f"buffers.{name}"]
    assert not any(name in key for key in first if key.startswith("endpoints."))
    (tmp_path / "run" / "config.json").write_text(
        (run / "config.json").read_text().replace('"epochs": 1', '"epochs": 3')
    )
    train(settings(own, kind, epochs=3), run, resume=True)
    later = tensors_of(run)
    assert np.array_equal(later[f"buffers.{name}"], first[f"buffers.{name}"])
    assert not np.array_equal(later["endpoints.0.fc.weight"], first["endpoints.0.fc.weight"])
    opened = OpenRun(run, device="cpu")
    statistics = opened.network.recalibrate(opened.calibration.pixels(), alpha=0.5)
    found = opened.network.at(0.5, statistics).logits_of(opened.data.test)
    module = as_module(opened.subspace, 0.5, opened.calibration, architecture=own)
    assert np.array_equal(
        module.get_parameter(name) if kind == "frozen" else module.get_buffer(name), first[f"buffers.{name}"]
    )
    expected = predict_logits(module, opened.data.test, opened.preprocessing)
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))
    cli.main(["export", str(run), "--alpha", "endpoints", "--arch", own], standalone_mode=False)
    assert {point.parity.reference for point in Bundle.open(run / "bundle").points.values()} == {None}


@pytest.mark.slow
def test_a_run_that_starts_from_another_takes_its_state(own: str, tmp_path: Path) -> None:
    train(settings(own, "projection", seed=3), tmp_path / "first")
    kept = tensors_of(tmp_path / "first")["buffers.projection"]
    for start, same in ((str(tmp_path / "first"), True), ("independent", False)):
        train(settings(own, "projection", initialisation=start), tmp_path / "second", overwrite=True)
        assert np.array_equal(tensors_of(tmp_path / "second")["buffers.projection"], kept) == same


def test_only_what_building_does_not_give_is_kept(own: str) -> None:
    kept = kept_state(Architecture(own, 10, 1, 8, 8, {"kind": "projection"}), seed=0)
    assert list(kept) == ["projection"]  # and not the table, which every building has
    assert kept_state(Architecture(own, 10, 1, 8, 8), seed=0) == {}
    assert kept_state(Architecture("cresnet8-4", 10, 1, 8, 8), seed=0) == {}


def test_looking_leaves_the_network_as_it_was(own: str) -> None:
    model = build(Architecture(own, 10, 1, 8, 8, {"kind": "counter"}))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(SubspaceServeError, match="changes seen while it is trained"):
        check_constant(model, torch.randn(2, 1, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kind", ["unused", "scalar"])
def test_what_takes_no_part_or_has_no_axis_does_no_harm(own: str, kind: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(settings(own, kind, epochs=1), run)
    cli.main(["export", str(run), "--alpha", "midpoint", "--arch", own], standalone_mode=False)
    assert Bundle.open(run / "bundle").points["midpoint"].parity.top1_flips == 0
    if kind == "scalar":
        assert tensors_of(run)["endpoints.1.scale"].shape == ()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("counter", "changes seen while it is trained"),
        ("spectral", "changes fc.weight_u while it is trained"),
        ("instance", "changes norm.running_mean while it is trained"),
        ("twice", "BatchNorm layer bn of .* runs 2 times in a pass"),
        ("lazy", "has a lazy parameter, fc.weight"),
        ("half", r"2 parameters that are not float32, such as fc.weight \(torch.float16\)"),
        ("complex", r"1 parameters that are not float32, such as turn \(torch.complex64\)"),
        ("hidden", "differs from one building of the network to the next"),
    ],
)
def test_what_can_neither_be_kept_nor_recomputed_is_refused_before_the_first_step(
    own: str, kind: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SubspaceServeError, match=message):
        train(settings(own, kind), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("auxiliary", {}, r"must return logits of shape \(128, 10\) in train mode, too, .*; found tuple"),
        ("failing", {}, r"fails in train mode on images of shape \(2, 1, 8, 8\) \(KeyError"),
        ("pooled", {"batch_size": 2}, r"a group of 1 image of 1x8x8 \(ValueError: Expected more .*larger --batch-size"),
        ("pooled", {"batch_size": 64, "samples": 64}, "a group of 1 image of .*fewer --samples"),
        ("plain", {"train_images": 20, "samples": 64}, "20 training images are one batch, .* split into 64 samples"),
    ],
)
def test_what_fails_on_the_groups_of_a_batch_is_refused_before_the_first_step(
    own: str, kind: str, changes: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SubspaceServeError, match=message):
        train(settings(own, kind, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_small_groups_that_the_network_takes_are_trained_on(own: str, tmp_path: Path) -> None:
    train(settings(own, "pooled", epochs=1, batch_size=4, train_images=20), tmp_path / "run")
    train(settings(own, "plain", epochs=1, batch_size=2, train_images=20), tmp_path / "plain")
