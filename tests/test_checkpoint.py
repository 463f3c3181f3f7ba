from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from untrained import untrained

from subspace_serve.data import Preprocessing
from subspace_serve.errors import ArchitectureError, CheckpointError
from subspace_serve.network.network import Network
from subspace_serve.space import checkpoint
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.checkpoint import load_subspace, save_subspace
from subspace_serve.space.geometry import Geometry
from subspace_serve.space.subspace import Subspace
from trainer.architectures import build
from trainer.modules import collapsed, weights_of
from trainer.proof import proven_skeleton

ARCHITECTURE = Architecture("cresnet8-4", classes=3, channels=1, height=8, width=8)
PREPROCESSING = Preprocessing((0.5,), (0.5,))


def make_mlp(*, classes: int, channels: int, height: int, width: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * height * width, classes))


def subspace(architecture: Architecture = ARCHITECTURE) -> Subspace:
    return untrained(Geometry("line", 2), architecture, labels=["a", "b", "c"], data={"spec": "toy"})


def metadata_of(file: Path) -> dict[str, str]:
    with safe_open(file, framework="numpy") as opened:
        return opened.metadata()


def rewrite(file: Path, change_tensors=None, change_document=None, **metadata: str) -> None:
    """Write a checkpoint anew with changes, and a digest that fits them."""
    tensors, found = load_file(file), metadata_of(file)
    if change_tensors:
        change_tensors(tensors)
    document = json.loads(found["document"])
    if change_document:
        change_document(document)
    found["document"] = json.dumps(document, sort_keys=True)
    found["sha256"] = checkpoint._digest(found["document"], tensors)
    save_file(tensors, file, metadata=found | metadata)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_subspace(subspace(), tmp_path)


def test_what_is_saved_is_loaded(saved: Path) -> None:
    original = subspace()
    for path in (saved, saved.parent):
        loaded = load_subspace(path)
        assert loaded.geometry == original.geometry
        assert loaded.architecture == original.architecture
        assert loaded.provenance == original.provenance
        for found, expected in zip(loaded.endpoints, original.endpoints, strict=True):
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_the_file_is_the_contract(saved: Path) -> None:
    assert saved.name == "subspace.safetensors"
    metadata = metadata_of(saved)
    assert (metadata["format"], metadata["version"]) == ("subspace-serve", "1")
    document = json.loads(metadata["document"])
    assert document.keys() == {"geometry", "architecture", "provenance"}
    assert document["geometry"] == {"name": "line", "endpoints": 2}
    names = list(load_file(saved))
    assert "endpoints.0.fc.weight" in names
    assert "endpoints.1.blocks.0.conv1.weight" in names
    assert not any("running" in name for name in names)


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.3, 0.99])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_subspace(saved)


def test_no_flipped_bit_is_accepted(saved: Path) -> None:
    whole = saved.read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8
    positions = [*range(0, header, 23), *range(header, len(whole), len(whole) // 40)]
    for count, position in enumerate(positions):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (count % 8)
        saved.write_bytes(flipped)
        with pytest.raises((CheckpointError, ArchitectureError)):
            load_subspace(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("endpoints.1.fc.bias"), r"endpoint 1 .* missing fc\.bias"),
        (lambda t: t.update({"endpoints.0.more": np.zeros(1, np.float32)}), "endpoint 1 .* missing more"),
        (lambda t: t.update({"endpoints.2.fc.bias": np.zeros(3, np.float32)}), "excess tensor endpoints.2.fc.bias"),
        (lambda t: t.update({"other": np.zeros(3, np.float32)}), "excess tensor other"),
        (
            lambda t: t.update({"endpoints.1.fc.bias": np.zeros(4, np.float32)}),
            r"fc\.bias has shape \(4,\), expected \(3,\)",
        ),
        (lambda t: t.update({"endpoints.1.fc.bias": np.zeros(3)}), "has type float64"),
        (lambda t: t["endpoints.0.fc.bias"].fill(np.nan), r"endpoint 0 has values in fc\.bias .* not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(saved: Path, change, message: str) -> None:
    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=message):
        load_subspace(saved)


@pytest.mark.parametrize("document", ["{", "[]", '{"geometry": {"name": "line", "endpoints": 2}}'])
def test_a_document_that_says_too_little_is_refused(saved: Path, document: str) -> None:
    rewrite(saved, document=document, sha256=checkpoint._digest(document, load_file(saved)))
    with pytest.raises(CheckpointError, match="a field of its document is missing or invalid"):
        load_subspace(saved)


def test_without_provenance_it_is_refused(saved: Path) -> None:
    rewrite(saved, change_document=lambda d: d.pop("provenance"))
    with pytest.raises(CheckpointError, match="is missing or invalid \('provenance'\)"):
        load_subspace(saved)


def test_endpoints_may_have_weights_in_common(tmp_path: Path) -> None:
    one = weights_of(build(ARCHITECTURE))
    loaded = load_subspace(save_subspace(Subspace(Geometry("line", 2), ARCHITECTURE, (one, one)), tmp_path))
    for endpoint in loaded.endpoints:
        assert all(np.array_equal(endpoint[name], one[name]) for name in one)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"version": "2"}, "has version 2 .* reads version 1: install a newer"),
        ({"format": "other"}, "not a subspace"),
    ],
)
def test_other_formats_and_versions_are_refused(saved: Path, metadata: dict[str, str], message: str) -> None:
    rewrite(saved, **metadata)
    with pytest.raises(CheckpointError, match=message):
        load_subspace(saved)


def test_a_plain_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a subspace"):
        load_subspace(tmp_path / "model.safetensors")


def test_another_architecture_is_refused_where_it_is_used(saved: Path) -> None:
    rewrite(saved, change_document=lambda d: d["architecture"].update(name="cresnet8-6"))
    with pytest.raises(CheckpointError, match="the weights do not fit the network"):
        collapsed(load_subspace(saved), 0.5)
    with pytest.raises(CheckpointError, match="the skeleton is of cresnet8-4"):
        Network.of(load_subspace(saved), proven_skeleton(ARCHITECTURE), PREPROCESSING)
    rewrite(saved, change_document=lambda d: d["architecture"].update(name="cresnet9"))
    with pytest.raises(ArchitectureError, match="cresnet9"):
        collapsed(load_subspace(saved), 0.5)
    rewrite(saved, change_document=lambda d: d["architecture"].update(name=""))
    with pytest.raises(ArchitectureError, match="name must be a string"):
        load_subspace(saved)


def test_a_missing_checkpoint_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at .*subspace-serve train"):
        load_subspace(tmp_path)


def test_a_file_imports_nothing_that_the_user_did_not_name(tmp_path: Path) -> None:
    name = "test_checkpoint:make_mlp"
    own = Architecture(name, classes=3, channels=1, height=2, width=2)
    file = save_subspace(subspace(own), tmp_path)
    loaded = load_subspace(file)
    for named in (None, "os:getcwd"):
        with pytest.raises(ArchitectureError, match="--arch"):
            collapsed(loaded, 0.5, architecture=named)
    assert collapsed(loaded, 0.5, architecture=name)(torch.zeros(1, 1, 2, 2)).shape == (1, 3)


def test_endpoints_that_are_not_finite_are_not_saved(saved: Path) -> None:
    before = saved.read_bytes()
    broken = subspace()
    broken.endpoints[1]["fc.weight"][0, 0] = np.inf
    with pytest.raises(CheckpointError, match=r"endpoint 1 has values in fc\.weight"):
        save_subspace(broken, saved)
    assert saved.read_bytes() == before


def test_a_disk_that_fills_up_leaves_the_old_checkpoint(saved: Path) -> None:
    before = saved.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # The system refuses to write files beyond this size, as a full disk would; Python ignores the signal.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limit[1]))
        with pytest.raises(CheckpointError, match="cannot be written .*what was there before is unchanged"):
            save_subspace(subspace(), saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_what_was_not_recorded_is_asked_for_by_name(saved: Path) -> None:
    assert load_subspace(saved).provenance_value("data", "spec") == "toy"
    with pytest.raises(CheckpointError, match=r"does not record training\.epochs"):
        load_subspace(saved).provenance_value("training", "epochs")
