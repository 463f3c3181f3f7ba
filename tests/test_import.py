"""Foreign weights: read, fitted, measured, and made a run on which every command works."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import completed, invoke, run
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from subspace_serve.data import Preprocessing
from subspace_serve.errors import SubspaceServeError
from subspace_serve.measure.barrier import Barrier
from subspace_serve.network import Network
from subspace_serve.run.opened import OpenRun
from subspace_serve.run.statistics import statistics_of_sources
from subspace_serve.space import load_subspace
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.geometry import Geometry
from trainer.architectures import build
from trainer.foreign.importing import Description, import_weights
from trainer.run_folder import RunFolder

REFERENCE = Path(__file__).parent / "data" / "reference-line"
SMALL = Architecture("cresnet8-4", 10, 1, 8, 8)


def state(seed: int, architecture: Architecture = SMALL) -> dict[str, torch.Tensor]:
    """Return the state dict of a network with random weights and statistics."""
    torch.manual_seed(seed)
    found = build(architecture).state_dict()
    for name, tensor in found.items():
        if name.endswith("running_mean"):
            found[name] = 0.1 * torch.randn_like(tensor)
        elif name.endswith("running_var"):
            found[name] = 0.5 + torch.rand_like(tensor)
    return found


def saved(folder: Path, *documents: Any) -> list[Path]:
    files = [folder / f"{index}.pt" for index in range(len(documents))]
    for file, document in zip(files, documents, strict=True):
        torch.save(document, file)
    return files


def digits() -> Description:
    return Description(SMALL, tuple(str(label) for label in range(10)), Preprocessing((0.3,), (0.35,)))


def imported(files: list[Path], out: Path, **options: Any):
    return import_weights(files, digits(), out, **options)


def endpoints(run: Path) -> list[dict[str, np.ndarray]]:
    return [dict(endpoint) for endpoint in load_subspace(run).endpoints]


def test_a_line_of_the_papers_published_code_gives_the_logits_that_it_gave(tmp_path):
    expected = np.load(REFERENCE / "expected.npz")
    preprocessing = Preprocessing((0.2860,) * 3, (0.3530,) * 3)
    architecture = Architecture("cresnet8-8", 10, 3, 28, 28)
    run = tmp_path / "run"
    import_weights([REFERENCE / "checkpoint.pt"], Description(architecture, tuple("abcdefghij"), preprocessing), run)

    def pixels(images: np.ndarray) -> np.ndarray:
        grey = np.rint((images.astype(np.float64) * 0.3530 + 0.2860) * 255).astype(np.uint8)
        return np.repeat(grey.transpose(0, 2, 3, 1), 3, axis=3)

    calibration = np.split(pixels(expected["calibration"]), 4)
    network = Network.open(run, device="cpu")
    assert network.geometry.name == "line"
    for alpha, logits in zip(expected["points"].tolist(), expected["logits"], strict=True):
        statistics = network.recalibrate(calibration, alpha=alpha)
        found = network.at(alpha, statistics).logits(pixels(expected["inputs"]))
        np.testing.assert_allclose(found, logits, atol=1e-4 * max(1, np.abs(logits).max()))
        assert (found.argmax(1) == logits.argmax(1)).all()


def published(count: int) -> dict[str, Any]:
    """Return a checkpoint as the published code writes it, of so many endpoints with random weights."""
    parts = [state(seed) for seed in range(count)]
    tensors = {}
    for index, part in enumerate(parts):
        for name, tensor in part.items():
            if name == "fc.bias" or (index and "running" in name) or "num_batches" in name:
                continue
            value = tensor[..., None, None] if name == "fc.weight" else tensor
            tensors[f"module.{name}{index or ''}"] = value
    return {
        "epoch": 1,
        "state_dicts": [tensors],
        "optimizers": [{"state": {}, "param_groups": [{"lr": np.float64(1)}]}],
    }


@pytest.mark.parametrize(("count", "geometry"), [(3, "curve"), (3, "simplex"), (4, None)])
def test_curves_and_simplexes_of_the_published_code_keep_their_order(count, geometry, tmp_path):
    files = saved(tmp_path, published(count))
    found = imported(files, tmp_path / "run", geometry=geometry)
    assert found.subspace.geometry.name == (geometry or "simplex")
    for index, endpoint in enumerate(endpoints(tmp_path / "run")):
        np.testing.assert_array_equal(endpoint["conv.weight"], state(index)["conv.weight"].numpy())
        np.testing.assert_array_equal(endpoint["fc.weight"], state(index)["fc.weight"].numpy())
        assert not endpoint["fc.bias"].any()
    assert not (tmp_path / "run" / "statistics-sources.safetensors").exists()


def test_three_published_endpoints_are_asked_what_they_span(tmp_path):
    with pytest.raises(SubspaceServeError, match="three endpoints, of a curve or of a simplex; say which"):
        imported(saved(tmp_path, published(3)), tmp_path / "run")


def wrapped(tensors: dict[str, torch.Tensor], how: str) -> Any:
    prefixed = lambda prefix: {prefix + name: tensor for name, tensor in tensors.items()}  # noqa: E731
    return {
        "plain": tensors,
        "state_dict": {"state_dict": tensors, "epoch": 3, "loss": torch.tensor(0.5)},
        "model": {"model": prefixed("module."), "optimizer": {"state": {}}},
        "ema": {"ema": prefixed("_orig_mod.")},
        "nested": {"model_ema": {"module": tensors}},
        "lightning": {"state_dict": prefixed("model."), "hyper_parameters": {"lr": 0.1}},
        "both": {"state_dict": prefixed("module._orig_mod.")},
        "averaged": {"state_dict": prefixed("module.") | {"n_averaged": torch.tensor(3)}},
        "module": prefixed("module."),
    }[how]


@pytest.mark.parametrize(
    "how", ["plain", "state_dict", "model", "ema", "nested", "lightning", "both", "averaged", "module"]
)
def test_state_dicts_are_found_where_others_put_them(how, tmp_path):
    first, second = state(0), state(1)
    files = saved(tmp_path, wrapped(first, how), second)
    imported(files, tmp_path / "run")
    for endpoint, expected in zip(endpoints(tmp_path / "run"), (first, second), strict=True):
        for name, values in endpoint.items():
            np.testing.assert_array_equal(values, expected[name].numpy())


def test_safetensors_the_old_format_and_other_suffixes_are_read(tmp_path):
    save_file(state(0), tmp_path / "a.safetensors")
    torch.save(state(1), tmp_path / "b.bin", _use_new_zipfile_serialization=False)
    (tmp_path / "a.safetensors").rename(tmp_path / "a.weights")
    imported([tmp_path / "a.weights", tmp_path / "b.bin"], tmp_path / "run")
    np.testing.assert_array_equal(endpoints(tmp_path / "run")[1]["fc.bias"], state(1)["fc.bias"].numpy())


def test_a_further_place_is_named_and_taken_with_key(tmp_path):
    files = saved(tmp_path, {"model": state(0), "ema": state(2)}, {"model": state(1), "ema": state(3)})
    found = imported(files, tmp_path / "run")
    assert found.others == {str(file): ("ema",) for file in files}
    imported(files, tmp_path / "other", key="ema")
    np.testing.assert_array_equal(endpoints(tmp_path / "other")[0]["fc.bias"], state(2)["fc.bias"].numpy())
    with pytest.raises(SubspaceServeError, match="no state dict at 'emma'; it has some at model, ema"):
        imported(files, tmp_path / "third", key="emma")


def test_a_networks_own_name_that_looks_like_a_prefix_stays(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "    def forward(self, images):\n"
        "        return self.model(images)\n"
        "def net(*, classes, channels, height, width):\n"
        "    return Net()\n"
    )
    monkeypatch.chdir(tmp_path)
    architecture = Architecture("own_module:net", 10, 1, 8, 8)
    files = saved(tmp_path, *(state(seed, architecture) for seed in range(2)))
    description = Description(architecture, digits().labels, digits().preprocessing)
    found = import_weights(files, description, tmp_path / "run")
    assert list(found.subspace.endpoints[0]) == ["model.1.weight", "model.1.bias"]
    assert [member.notes for member in found.members] == [(), ()]


class _Code:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "ran")


class _System:
    def __reduce__(self):
        import os

        return os.system, ("true",)


def without(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if key != name}


BAD = {
    "code": (lambda folder: {"model": state(0), "extra": _Code(folder / "ran.txt")}, "is refused: .* would call"),
    "system": (lambda folder: _System(), r"would call \w+.system"),
    "sparse": (lambda _: state(0) | {"fc.weight": state(0)["fc.weight"].to_sparse()}, "fc.weight is sparse"),
    "quantised": (
        lambda _: state(0) | {"fc.weight": torch.quantize_per_tensor(state(0)["fc.weight"], 0.1, 0, torch.qint8)},
        "fc.weight is quantised",
    ),
    "half": (
        lambda _: state(0) | {"fc.bias": state(0)["fc.bias"].half()},
        "fc.bias is float16 and not float32; --cast",
    ),
    "integers": (
        lambda _: state(0) | {"fc.bias": torch.zeros(10, dtype=torch.int64)},
        "fc.bias is int64 and not float32; save them",
    ),
    "missing": (lambda _: without(state(0), "conv.weight"), "missing conv.weight; choose"),
    "excess": (lambda _: state(0) | {"extra.weight": torch.zeros(2)}, "unknown extra.weight"),
    "shape": (lambda _: state(0) | {"conv.weight": torch.zeros(4, 3, 3, 3)}, r"conv.weight has shape \(4, 3, 3, 3\)"),
    "head": (
        lambda _: state(0) | {"fc.weight": torch.zeros(7, 16), "fc.bias": torch.zeros(7)},
        "a classifier fc of 7 classes and the network is to have 10",
    ),
    "other network": (lambda _: state(0, Architecture("cresnet8-8", 10, 1, 8, 8)), "tensors differ"),
    "optimiser": (
        lambda _: {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
        "optimiser's state",
    ),
    "list": (lambda _: [torch.zeros(3)], "holds no state dict: found a list"),
    "empty": (lambda _: {}, "found nothing"),
    "infinite": (lambda _: state(0) | {"fc.bias": torch.full((10,), torch.inf)}, "fc.bias that are not finite"),
    "copy": (lambda _: state(1), "hold the same weights"),
    "negative variances": (
        lambda _: state(0) | {"bn.running_var": -torch.ones(4)},
        "negative variances in bn.running_var",
    ),
    "meta": (lambda _: state(0) | {"fc.bias": torch.zeros(10, device="meta")}, "fc.bias is empty of numbers"),
    "odd name": (lambda _: state(0) | {"a\nb": torch.zeros(2)}, r"unknown a\\nb"),
    "half statistics": (lambda _: without(state(0), "bn.running_mean"), "missing bn.running_mean"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_imported_is_refused_by_name_and_nothing_is_written(kind, tmp_path):
    make, message = BAD[kind]
    files = saved(tmp_path, make(tmp_path), state(1))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SubspaceServeError, match=message):
        imported(files, tmp_path / "run")
    assert sorted(tmp_path.iterdir()) == before  # not even ran.txt


@pytest.mark.parametrize("kept", [0, 1, 9, 100, 0.5, 0.99])
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_a_truncated_file_is_refused(kept, form, tmp_path):
    file = tmp_path / f"a.{form}"
    torch.save(state(0), file) if form == "pt" else save_file(state(0), file)
    data = file.read_bytes()
    file.write_bytes(data[: kept if kept >= 1 or kept == 0 else int(kept * len(data))])
    with pytest.raises(SubspaceServeError, match=r"a\.\w+ "):
        imported([file, *saved(tmp_path, state(1))], tmp_path / "run")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>not found</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"a text\n", "is no file of weights"),
    ],
)
def test_files_that_are_none_of_weights_are_told_apart(data, message, tmp_path):
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(SubspaceServeError, match=message):
        imported([tmp_path / "a.pt", *saved(tmp_path, state(1))], tmp_path / "run")


def test_a_flipped_byte_and_a_torchscript_archive_are_refused(tmp_path):
    first, second = saved(tmp_path, state(0), state(1))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 255
    first.write_bytes(data)
    with pytest.raises(SubspaceServeError, match="damaged"):
        imported([first, second], tmp_path / "run")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(first))
    with pytest.raises(SubspaceServeError, match="TorchScript archive"):
        imported([first, second], tmp_path / "run")


OWN = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body, self.head = nn.Linear(64, 64, bias=False), nn.Linear(64, 10)
        if kind == "drawn":
            self.register_buffer("noise", torch.randn(64), persistent=False)
        if kind == "tied":
            self.twin = nn.Linear(64, 64, bias=False)
            self.twin.weight = self.body.weight
        if kind == "parametrised":
            nn.utils.parametrizations.weight_norm(self.body)
        if kind == "constant":
            self.register_buffer("offset", torch.ones(64))
        if kind == "frozen":
            self.scale = nn.Parameter(torch.ones(64), requires_grad=False)
    def forward(self, images):
        return self.head(self.body(images.flatten(1)))
def net(*, classes, channels, height, width, kind):
    return Net(kind)
"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("drawn", "missing noise"),
        ("tied", "one parameter under two names, body.weight and twin.weight"),
        ("parametrised", "parametrised weights"),
        ("frozen", "scale is bfloat16 and not float32"),
    ],
)
def test_networks_whose_weights_cannot_be_mixed_are_refused(kind, message, tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    architecture = Architecture("own_network:net", 10, 1, 8, 8, {"kind": kind})
    states = [state(seed, architecture) for seed in range(2)]
    if kind == "frozen":
        states[0]["scale"] = states[0]["scale"].bfloat16()
    description = Description(architecture, digits().labels, digits().preprocessing)
    with pytest.raises(SubspaceServeError, match=message):
        import_weights(saved(tmp_path, *states), description, tmp_path / "run")


@pytest.mark.parametrize(
    ("offsets", "kept"),
    [
        ((2, 2), {"offset": [2.0] * 64}),
        ((None, 2), None),
        ((2, None), None),
        ((None, 1), {}),
        ((1, None), {}),
        ((None, None), {}),
    ],
)
def test_a_buffer_that_a_file_lacks_is_as_the_network_is_built(offsets, kept, tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    architecture = Architecture("own_network:net", 10, 1, 8, 8, {"kind": "constant"})
    states = [state(seed, architecture) for seed in range(2)]
    for each, offset in zip(states, offsets, strict=True):
        del each["offset"]
        if offset is not None:
            each["offset"] = torch.full((64,), float(offset))
    files = saved(tmp_path, *states)
    description = Description(architecture, digits().labels, digits().preprocessing)
    if kept is None:
        message = rf"differ in offset \(.*{files[offsets.index(None)].name} lacks it, .*\), which is no parameter"
        with pytest.raises(SubspaceServeError, match=message):
            import_weights(files, description, tmp_path / "run")
        return
    found = import_weights(files, description, tmp_path / "run").subspace.buffers
    assert {name: values.tolist() for name, values in found.items()} == kept


def test_a_run_that_is_trained_meanwhile_is_not_replaced(tmp_path):
    files = saved(tmp_path, state(0), state(1))
    run = tmp_path / "run"
    imported(files, run)
    before = (run / "subspace.safetensors").stat().st_ino
    with RunFolder(run).held(), pytest.raises(SubspaceServeError, match="another process is training in .*run; wait"):
        imported(files, run, overwrite=True)
    assert (run / "subspace.safetensors").stat().st_ino == before
    imported(files, run, overwrite=True)
    assert (run / "subspace.safetensors").stat().st_ino != before


def test_a_run_takes_no_files_place(tmp_path):
    files = saved(tmp_path, state(0), state(1))
    for out in (files[0], files[0] / "run"):
        with pytest.raises(SubspaceServeError, match=r"0\.pt.* is no folder, or lies in a file; choose another"):
            imported(files, out, overwrite=True)


def test_one_network_and_a_missing_file_are_refused(tmp_path):
    files = saved(tmp_path, state(0))
    with pytest.raises(SubspaceServeError, match="holds one network"):
        imported(files, tmp_path / "run")
    with pytest.raises(SubspaceServeError, match=r"gone\.pt: no such file"):
        imported([*files, tmp_path / "gone.pt"], tmp_path / "run")
    with pytest.raises(SubspaceServeError, match="a line has 2 endpoints, not 3"):
        imported(saved(tmp_path, *map(state, range(3))), tmp_path / "run", geometry="line")


def test_other_floating_point_types_are_cast_where_that_is_asked_for(tmp_path):
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state(0).items()}
    brain = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in state(1).items()}
    imported(saved(tmp_path, half, brain), tmp_path / "run", cast=True)
    np.testing.assert_array_equal(endpoints(tmp_path / "run")[0]["fc.bias"], half["fc.bias"].float().numpy())


def test_numbers_and_namespaces_beside_the_weights_do_no_harm(tmp_path):
    import argparse
    import pathlib

    beside = {
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("x")),
        "best": np.float64(0.5),
        "seen": np.int64(3),
        "flag": np.bool_(True),
        "random": np.arange(3),
    }
    imported(saved(tmp_path, {"state_dict": state(0)} | beside, state(1)), tmp_path / "run")


def test_the_sources_own_statistics_are_those_of_the_ends_and_of_no_other_place(tmp_path):
    run = OpenedRun(tmp_path)
    network, sources = run.network, statistics_of_sources(run)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    for alpha, seed in ((0.0, 0), (1.0, 1)):
        model = build(SMALL)
        model.load_state_dict(state(seed))
        with torch.inference_mode():
            pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.3) / 0.35
            expected = model.eval()(pixels).numpy()
        statistics = sources.statistics(network, alpha, network.weights(alpha))
        np.testing.assert_allclose(network.at(alpha, statistics).logits(images), expected, atol=1e-4)
    with pytest.raises(SubspaceServeError, match=r"alpha 0\.5 is none"):
        sources.statistics(network, 0.5, network.weights(0.5))


def OpenedRun(folder: Path):
    imported(saved(folder, state(0), state(1)), folder / "run")
    return OpenRun(folder / "run", device="cpu")


@pytest.fixture(scope="module")
def two_ends(line_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the ends of the tiny line as ordinary state dicts with their BatchNorm statistics."""
    folder = tmp_path_factory.mktemp("ends")
    files = []
    for index in range(2):
        files.append(folder / f"end{index}.safetensors")
        run("collapse", line_run, "--alpha", f"endpoint:{index}", "--out", files[-1])
    return files


def test_the_whole_road_from_two_networks_to_answers(two_ends, line_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = run("import", *two_ends, "--arch", "cresnet8-4", "--data", "digits", "--json", "import.json")
    document = json.loads(Path("import.json").read_text())
    assert "line of 2 networks: runs/import-cresnet8-4" in printed
    imported_run, trained = load_subspace("runs/latest"), load_subspace(line_run)
    for name, values in trained.endpoints[1].items():
        np.testing.assert_array_equal(imported_run.endpoints[1][name], values)
    # The same networks and the same data: what is measured is what the run itself says of them.
    found = json.loads(run("evaluate", line_run, "--data", "validation", "--json", "-"))
    barrier = Barrier.from_json(document["barrier"])
    for (alpha, metrics), point in zip(barrier.points, found["points"], strict=True):
        assert alpha == point["alpha"]
        assert metrics == pytest.approx(point["metrics"])
    ends = [metrics["accuracy"] for alpha, metrics in barrier.points if alpha in (0, 1)]
    drops = {alpha: (1 - alpha) * ends[0] + alpha * ends[1] - m["accuracy"] for alpha, m in barrier.points}
    assert barrier.accuracy == pytest.approx(max(drops.values()))
    assert drops[barrier.at] == pytest.approx(barrier.accuracy)
    assert document["statistics"]["recomputed"][0] == pytest.approx(found["points"][0]["metrics"])
    assert barrier_line(barrier) in " ".join(run("inspect").split())
    run("export", "--alpha", "0.25", "--alpha", "endpoints")
    run("verify")
    exported = json.loads(Path("runs/latest/bundle/manifest.json").read_text())
    assert exported["subspace"]["geometry"] == "line"
    run("report")
    page = " ".join(Path("runs/latest/report/report.html").read_text().split())
    assert "were trained elsewhere and imported" in page
    assert f"at most {100 * barrier.accuracy:.2f} points of accuracy worse" in page
    assert "All were trained together" not in page
    assert "The run was imported to be used as: midpoint, endpoints." in page
    own = run("export", "--alpha", "endpoints", "--calibrate-on", "sources", "--out", "own")
    assert "bundle: own" in own
    points = json.loads(Path("own/manifest.json").read_text())["points"]
    assert points["endpoint-0"]["calibration"]["data"] == "sources"
    words = ("--data", "validation", "--calibrate-on", "sources", "--alpha", "endpoints", "--json", "-")
    with_own = json.loads(run("evaluate", *words))
    assert with_own["points"][0]["metrics"] == pytest.approx(document["statistics"]["own"][0])


def barrier_line(barrier: Barrier) -> str:
    from subspace_serve.cli.barriers import barrier_text

    return " ".join(barrier_text(barrier).split())


def test_grey_data_for_a_network_of_three_channels_is_repeated_and_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    architecture = Architecture("cresnet8-4", 10, 3, 8, 8)
    files = saved(tmp_path, *(state(seed, architecture) for seed in range(2)))
    run("import", *files, "--arch", "cresnet8-4", "--data", "digits", "--channels", "3", "--out", "run")
    assert load_subspace("run").provenance["training"]["channels"] == 3
    run("evaluate", "run", "--points", "2")
    run("evaluate", "run", "--points", "2", "--data", "digits:validation")
    run("export", "run")
    assert json.loads(Path("run/bundle/manifest.json").read_text())["input"]["channels"] == 3


def test_without_data_labels_and_sizes_are_given_and_images_named_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = saved(tmp_path, state(0), state(1))
    Path("labels.txt").write_text("\n".join(f"class {number}" for number in range(10)))
    common = ("--labels", "labels.txt", "--mean", "0.3", "--std", "0.35", "--height", "8", "--channels", "1")
    printed = run("import", *files, "--arch", "cresnet8-4", *common, "--out", "run")
    assert "without a data set" in printed
    assert load_subspace("run").architecture == SMALL
    run("export", "run", "--alpha", "endpoints")  # with the sources' own statistics
    manifest = json.loads(Path("run/bundle/manifest.json").read_text())
    assert manifest["labels"][2] == "class 2"
    assert not manifest.get("subspace")
    result = invoke("export", "run")
    assert "recompute statistics" in str(result.exception)
    result = invoke("evaluate", "run")
    assert "imported without a data set" in str(result.exception)


def test_without_data_images_that_are_named_serve_for_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("\n".join("0123456789"))
    common = ("--labels", "labels.txt", "--mean", "0.3", "--std", "0.35", "--height", "8", "--channels", "1")
    run("import", *saved(tmp_path, state(0), state(1)), "--arch", "cresnet8-4", *common, "--out", "run")
    images = ("--calibrate-on", "digits:validation")
    run("select", "run", "--val-data", "digits:validation", *images, "--points", "3", "--refine", "0")
    run("export", "run", "--alpha", "best", *images, "--temperature", "--no-sets")
    manifest = json.loads(Path("run/bundle/manifest.json").read_text())
    assert manifest["points"]["best"]["temperature_fit"]["data"] == "digits:validation"
    assert manifest["points"]["best"]["statistics"] == "training"  # the subspace's, from the same images
    assert manifest["subspace"]["statistics"]["training"]["calibration"]["data"] == "digits:validation"
    result = invoke("export", "run", "--alpha", "midpoint", *images, "--temperature")
    assert "imported without a data set" in str(result.exception)


def test_without_data_a_report_has_no_plane_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("\n".join("0123456789"))
    common = ("--labels", "labels.txt", "--mean", "0.3", "--std", "0.35", "--height", "8", "--channels", "1")
    files = saved(tmp_path, *map(state, range(3)))
    run("import", *files, "--arch", "cresnet8-4", "--subspace", "simplex", *common, "--out", "run")
    images = ("--data", "digits:validation")
    run("evaluate", "run", *images, "--alpha", "endpoints", "--json", "own.json")
    result = completed("report", "run", *images, "--evaluation", "own.json")
    for words, named in ((images, "digits:validation"), ((), "SPEC")):
        refused = str(invoke("report", "run", *words).exception)
        assert f"evaluate run --data {named} --calibrate-on SPEC --json FILE`, then" in refused
    assert "no picture of the plane: run was imported without a data set" in result.stderr
    assert Path("run/report/report.html").exists()
    result = invoke("report", "run", *images, "--evaluation", "own.json", "--plane")
    assert "imported without a data set" in str(result.exception)


def test_networks_of_independent_starts_are_reported_as_not_connected():
    points = [
        (0.0, {"accuracy": 0.9, "nll": 0.3}),
        (0.5, {"accuracy": 0.5, "nll": 1.3}),
        (1.0, {"accuracy": 0.8, "nll": 0.4}),
    ]
    barrier = Barrier(points, 0.35, 0.95, 0.5, 10, "digits:test")
    assert not barrier.connected
    assert "not linearly connected" in barrier_line(barrier)
    assert "barrier 35.00 points of accuracy (at alpha 0.5)" in barrier_line(barrier)


def test_training_starts_from_foreign_weights_and_draws_a_head_of_another_size_anew(tmp_path, monkeypatch):
    from trainer.initialise import initial_endpoints, initial_notes

    other = Architecture("cresnet8-4", 7, 1, 8, 8)
    tensors = {f"module.{name}": tensor for name, tensor in state(0, other).items()}
    (file,) = saved(tmp_path, {"state_dict": tensors})
    first, second = initial_endpoints(SMALL, 2, str(file), seed=3)
    np.testing.assert_array_equal(first["conv.weight"], state(0, other)["conv.weight"].numpy())
    drawn = initial_endpoints(SMALL, 1, "shared", seed=3)[0]
    for name in ("fc.weight", "fc.bias"):
        np.testing.assert_array_equal(first[name], drawn[name])
        np.testing.assert_array_equal(second[name], drawn[name])
    assert (
        "the classifier fc is of another size in the file and starts anew"
        in initial_notes(SMALL, str(file), digits().preprocessing)[-1]
    )
    monkeypatch.chdir(tmp_path)
    words = ("--data", "digits", "--arch", "cresnet8-4", "--epochs", "1", "--init", file)
    printed = completed("train", *words)
    assert "starts anew" in printed.stderr


def test_training_does_not_start_from_several_networks_at_once(tmp_path):
    from trainer.initialise import initial_endpoints

    (file,) = saved(tmp_path, published(2))
    with pytest.raises(SubspaceServeError, match="holds 2 networks; make a run of them"):
        initial_endpoints(SMALL, 2, str(file), seed=0)


def test_networks_of_timm_are_built_by_name_with_what_it_records(tmp_path):
    timm = pytest.importorskip("timm")
    from trainer.architectures.records import record_of

    architecture = Architecture("timm/resnet10t", 5, 1, 32, 32)
    files = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = timm.create_model("resnet10t", num_classes=5, in_chans=1)
        files.append(tmp_path / f"{seed}.pt")
        torch.save({"state_dict": model.state_dict()}, files[-1])
    description = Description(architecture, tuple("abcde"), digits().preprocessing)
    import_weights(files, description, tmp_path / "run")
    network = Network.open(tmp_path / "run", device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), np.uint8)
    with torch.inference_mode():
        expected = model.eval()((torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.3) / 0.35).numpy()
    sources = statistics_of_sources(OpenRun(tmp_path / "run", device="cpu"))
    statistics = sources.statistics(network, 1.0, network.weights(1.0))
    np.testing.assert_allclose(network.at(1.0, statistics).logits(images), expected, atol=1e-4)
    record = record_of("timm/resnet10t")
    assert record.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))
    assert len(record.labels) == 1000
    with pytest.raises(SubspaceServeError, match="timm knows no 'resnet10x'; did you mean"):
        build(Architecture("timm/resnet10x", 5, 1, 32, 32))


@pytest.mark.parametrize("name", ["timm/resnet18.nonsense", "timm/resnet18."])
def test_an_unknown_tag_of_timm_is_refused_with_those_that_it_has(name):
    pytest.importorskip("timm")
    from trainer.architectures import find_builder
    from trainer.architectures.records import record_of
    from trainer.foreign.describing import describe

    for use in (find_builder, record_of, lambda name: describe(name, {})):
        with pytest.raises(SubspaceServeError, match="timm knows no weights '.*' of 'resnet18'; it has .*a1_in1k"):
            use(name)
    find_builder("timm/resnet18.a1_in1k")


def test_published_records_give_labels_size_and_normalisation():
    from trainer.foreign.describing import describe

    found = describe("resnet18", {})
    assert found.architecture == Architecture("resnet18", 1000, 3, 224, 224)
    assert found.preprocessing == Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert len(set(found.labels)) == 1000
    assert found.labels[0] == "tench"
    both = describe("resnet18", {}, spec="digits", channels=3, normalisation="published")
    assert both.preprocessing == found.preprocessing
    assert both.architecture.classes == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the size of images is not known"),
        ({"height": 8}, "the classes' names are not known"),
        ({"spec": "digits", "mean": (0.1,)}, "given together"),
        (
            {"spec": "digits", "mean": (0.1, 0.2), "std": (0.1, 0.2)},
            "2 numbers and images have 1 channels",
        ),
        ({"spec": "digits", "mean": (float("nan"),), "std": (0.3,)}, "those of pixels in"),
        ({"spec": "digits", "mean": (76.0,), "std": (0.3,)}, "divide by 255"),
        ({"spec": "digits", "mean": (0.3,), "std": (0.3,), "normalisation": "data"}, "give one"),
        ({"spec": "digits", "height": 8}, "are for weights without --data"),
        ({"spec": "digits", "normalisation": "published"}, "none is recorded for the architecture"),
        ({"image_size": 8}, "--image-size resizes --data's images; without it, --height and --width"),
        ({"validation": 0.0}, "--validation is for --data, and there is none"),
        ({"data_seed": 0}, "--data-seed is for --data, and there is none"),
        ({"download": True, "validation": 0.1}, "--validation and --download are for --data, and there is none"),
    ],
)
def test_what_is_neither_given_nor_known_is_named(options, message):
    from trainer.foreign.describing import describe

    with pytest.raises(SubspaceServeError, match=message):
        describe("cresnet8-4", {}, **options)


@pytest.mark.parametrize(
    "options",
    [["--image-size", "64"], ["--validation", "0.1"], ["--data-seed", "0"], ["--download"]],
    ids=lambda o: o[0],
)
def test_options_of_data_are_refused_without_data(two_ends, options, tmp_path):
    words = ["import", *two_ends, "--arch", "resnet18", *options, "--out", tmp_path / "run"]
    result = invoke(*words)
    assert result.exit_code == 1
    assert f"{options[0]} " in str(result.exception)
    assert "--data" in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_data_that_is_not_said_more_of_is_divided_as_train_divides_it():
    from trainer.foreign.describing import describe

    drawn = describe("cresnet8-4", {}, spec="digits").drawn
    assert drawn == {"validation": 0.1, "data_seed": 0, "image_size": None, "channels": None}
    assert describe("cresnet8-4", {}, spec="digits", validation=0.0).drawn["validation"] == 0


def test_without_data_places_are_evaluated_selected_and_exported_on_images_that_are_named(
    two_ends, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("\n".join("0123456789"))
    common = ("--labels", "labels.txt", "--mean", "0.3", "--std", "0.37", "--height", "8", "--channels", "1")
    run("import", *two_ends, "--arch", "cresnet8-4", *common, "--out", "run")
    named = ("--calibrate-on", "digits:train")
    found = json.loads(run("evaluate", "run", "--data", "digits:validation", *named, "--points", "3", "--json", "-"))
    ends = ("--data", "digits:validation", "--alpha", "endpoints")
    assert "BatchNorm from the sources' own statistics" in run("evaluate", "run", *ends, "--json", "own.json")
    own = json.loads(Path("own.json").read_text())
    assert len(found["points"]) == 3
    assert own["calibration"]["data"] == "sources"
    run("report", "run", "--data", "digits:validation", "--evaluation", "own.json")
    assert "the sources&#39; own statistics" in Path("run/report/report.html").read_text()
    run("select", "run", "--val-data", "digits:validation", *named)
    run("export", "run", "--alpha", "best", *named, "--temperature", "--temperature-data", "digits:validation")
    manifest = json.loads(Path("run/bundle/manifest.json").read_text())
    assert manifest["subspace"]["statistics"]["training"]["calibration"]["data"] == "digits:train"
    sets = manifest["points"]["best"]["sets"]
    assert sets["data"] == "digits:validation, those that chose nothing"
    assert sets["count"] == manifest["points"]["best"]["temperature_fit"]["reported_on"]
    run("verify", "run/bundle")
    run("export", "run", "--alpha", "endpoints", *named, "--sets-data", "digits:validation")
    points = json.loads(Path("run/bundle/manifest.json").read_text())["points"]
    assert {point["sets"]["data"] for point in points.values()} == {"digits:validation"}
    result = completed("export", "run", "--alpha", "endpoints", *named)
    assert "endpoint-0 gets no prediction sets" in result.stderr
    result = invoke("select", "run")
    assert "imported without a data set" in str(result.exception)


def test_collapse_writes_a_place_of_a_simplex_as_alpha_takes_it(two_ends, line_run, tmp_path):
    run("collapse", line_run, "--out", tmp_path / "bend.safetensors")
    folder = tmp_path / "run"
    ends = (*two_ends, tmp_path / "bend.safetensors")
    run("import", *ends, "--arch", "cresnet8-4", "--data", "digits", "--no-evaluate", "--out", folder)
    files = [tmp_path / "midpoint.safetensors", tmp_path / "again.safetensors"]
    alpha = "midpoint"
    for file in files:
        run("collapse", folder, "--alpha", alpha, "--out", file)
        with safe_open(file, "numpy") as opened:
            alpha = opened.metadata()["alpha"]
    first, again = (load_file(file) for file in files)
    assert all(torch.equal(first[name], again[name]) for name in first)
    result = invoke("collapse", folder, "--alpha", "random:2")
    places = re.search(r"is the places (.*): collapse each", result.output).group(1).split("; ")
    for place in places:
        run("collapse", folder, "--alpha", place, "--out", tmp_path / "one.safetensors")


def test_a_run_keeps_the_normalisation_of_its_start_or_of_published_weights(line_run):
    from trainer.config import TrainingConfig
    from trainer.initialise import initial_notes
    from trainer.preparation import prepared_data

    common = {"data": "digits", "architecture": "cresnet8-4"}
    own = Preprocessing.from_json(load_subspace(line_run).provenance["preprocessing"])
    start = TrainingConfig(**common, initialisation=str(line_run), normalisation="start")
    assert prepared_data(start, download=False).preprocessing == own
    published = TrainingConfig(data="digits", architecture="resnet18", channels=3, normalisation="published")
    assert prepared_data(published, download=False).preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))
    assert initial_notes(SMALL, str(line_run), own) == []
    assert "--normalisation start" in initial_notes(SMALL, str(line_run), digits().preprocessing)[0]
    for settings, message in (
        ({"normalisation": "published"}, "none is recorded for cresnet8-4"),
        ({"normalisation": "start"}, "independent is no run"),
        ({"normalisation": "published", "architecture": "resnet18"}, "has 3 channels and the images have 1"),
    ):
        with pytest.raises(SubspaceServeError, match=message):
            prepared_data(TrainingConfig(**common | settings), download=False)


def test_one_number_normalises_every_channel():
    from trainer.foreign.describing import describe

    found = describe("cresnet8-4", {}, spec="digits", channels=3, mean=(0.3,), std=(0.35,))
    assert found.preprocessing == Preprocessing((0.3,) * 3, (0.35,) * 3)


@pytest.mark.parametrize(
    ("geometry", "accuracy", "expected", "at"),
    [
        # Half-way 0.6 where the ends' mean is 0.8; at 0.9 there is 0.71 where 0.1 of 0.9 and 0.9 of 0.7 are 0.72.
        (Geometry("line", 2), {0.0: 0.9, 0.5: 0.6, 0.9: 0.71, 1.0: 0.7}, 0.2, 0.5),
        # The edge of the ends 0.9 and 0.5 has 0.4 where their mean is 0.7; the centre 0.55 where that is 0.6667.
        (Geometry("simplex", 3), {(0.5, 0.5, 0.0): 0.4, (1 / 3,) * 3: 0.55}, 0.3, (0.5, 0.5, 0.0)),
    ],
    ids=["line", "simplex"],
)
def test_the_barrier_is_the_most_that_a_place_loses_to_its_sources(geometry, accuracy, expected, at, monkeypatch):
    from types import SimpleNamespace

    from subspace_serve.measure import barrier as module

    ends = dict(zip(geometry.ends, (0.9, 0.5, 0.6), strict=False)) if geometry.barycentric else {}

    def measured(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(
            points=[
                SimpleNamespace(alpha=place, metrics={"accuracy": found, "nll": 2 * (1 - found)})
                for place, found in (ends | accuracy).items()
            ]
        )

    monkeypatch.setattr(module, "evaluate", measured)
    found = module.measure_barrier(SimpleNamespace(geometry=geometry), [0] * 10, None, data="digits:validation")
    assert found.accuracy == pytest.approx(expected)
    assert found.nll == pytest.approx(2 * expected)
    assert found.at == at
    assert not found.connected
