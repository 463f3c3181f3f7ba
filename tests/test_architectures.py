from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from subspace_serve.errors import ArchitectureError
from subspace_serve.space.architecture import Architecture
from trainer.architectures import (
    architecture_names,
    build,
    check_output,
    check_trusted,
    find_builder,
    penultimate,
)

CUSTOM_MODULE = """
import torch

ANSWER = 42

def linear(*, classes, channels, height, width, bias=True):
    layer = torch.nn.Linear(channels * height * width, classes, bias=bias)
    return torch.nn.Sequential(torch.nn.Flatten(), layer)

def too_many(*, classes, channels, height, width):
    return linear(classes=classes + 1, channels=channels, height=height, width=width)

def text(**sizes):
    return "a network"

def broken(**sizes):
    raise KeyError("depth")
"""


def architecture(name: str, size: int = 32, channels: int = 3, **arguments: object) -> Architecture:
    return Architecture(name, classes=10, channels=channels, height=size, width=size, arguments=arguments)


@pytest.fixture
def custom_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an importable module; its import is undone after the test."""
    (tmp_path / "own_networks.py").write_text(CUSTOM_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_networks"
    sys.modules.pop("own_networks", None)


# cresnet


def test_cresnet20_has_the_parameters_of_open_lth() -> None:
    model = build(architecture("cresnet20"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 272_474
    names = set(model.state_dict())
    assert {"conv.weight", "bn.running_mean", "blocks.3.shortcut.0.weight", "fc.bias"} <= names
    assert "blocks.0.shortcut.0.weight" not in names  # the first stage keeps its width
    assert len(model.blocks) == 9


@pytest.mark.parametrize(("name", "blocks", "width"), [("cresnet8", 3, 16), ("cresnet14-5", 6, 5)])
def test_cresnet_depth_and_width(name: str, blocks: int, width: int) -> None:
    model = build(architecture(name))
    assert len(model.blocks) == blocks
    assert model.conv.out_channels == width
    assert model.fc.in_features == 4 * width


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (28, 28, 1), (33, 47, 5)])
def test_cresnet_takes_any_size(height: int, width: int, channels: int) -> None:
    model = build(Architecture("cresnet8-4", 7, channels, height, width))
    assert model(torch.zeros(3, channels, height, width)).shape == (3, 7)


def test_cresnet_is_initialised_kaiming_normal() -> None:
    torch.manual_seed(0)
    model = build(architecture("cresnet8-64"))
    weight = model.blocks[2].conv2.weight  # fan-in 256 * 9
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert model.fc.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert model.bn.weight.eq(1).all()
    assert model.bn.bias.eq(0).all()


def test_builds_are_fresh_and_follow_the_global_seed() -> None:
    def first_weight() -> torch.Tensor:
        return build(architecture("cresnet8-4")).conv.weight

    torch.manual_seed(3)
    first, second = first_weight(), first_weight()
    torch.manual_seed(3)
    assert torch.equal(first, first_weight())
    assert not torch.equal(first, second)


def test_dropout_stands_before_the_classifier() -> None:
    model = build(architecture("cresnet8-4", dropout=0.999999))
    logits = model.train()(torch.rand(4, 3, 32, 32))
    assert torch.allclose(logits, model.fc.bias.expand(4, 10))
    assert not torch.allclose(model.eval()(torch.rand(4, 3, 32, 32)), model.fc.bias.expand(4, 10))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cresnet21", "6n \\+ 2; found 21; the nearest is 'cresnet20'"),
        ("cresnet2", "the nearest is 'cresnet8'"),
        ("cresnet20-0", "width of 'cresnet20-0' is 0"),
    ],
)
def test_impossible_cresnets_are_refused(name: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        build(architecture(name))


# tiny-resnet


def test_tiny_resnet18_keeps_the_resolution_in_its_stem() -> None:
    model = build(Architecture("tiny-resnet18", 200, 3, 64, 64))
    # torchvision's ResNet-18 less its classifier and 7x7 stem, plus these of 200 classes and 3x3.
    expected = 11_689_512 - (512 * 1000 + 1000) - 64 * 3 * 49 + (512 * 200 + 200) + 64 * 3 * 9
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    sizes = []
    model.layer1.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2:]))
    model.layer4.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2:]))
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 200)
    assert sizes == [(64, 64), (8, 8)]


def test_tiny_resnet50_has_bottlenecks() -> None:
    assert build(architecture("tiny-resnet50")).fc.in_features == 2048


# torchvision


@pytest.mark.parametrize(
    "name",
    [
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "mobilenet_v3_small",
        "resnet18",
        "shufflenet_v2_x0_5",
        "squeezenet1_1",
        "swin_t",
    ],
)
def test_torchvision_classifiers_are_adapted(name: str) -> None:
    wanted = Architecture(name, 10, 1, 64, 64)
    model = build(wanted)
    check_output(model, wanted)
    classifier = penultimate(model)
    assert getattr(classifier, "out_features", None) == 10 or classifier.out_channels == 10


def test_the_first_convolution_keeps_its_settings_and_spread() -> None:
    torch.manual_seed(0)
    adapted, original = (
        build(architecture("resnet18", channels=5)).conv1,
        build(architecture("resnet18")).conv1,
    )
    assert adapted.weight.shape == (64, 5, 7, 7)
    assert adapted.in_channels == 5
    assert (adapted.stride, adapted.padding, adapted.bias) == (original.stride, original.padding, None)
    assert adapted.weight.std().item() == pytest.approx(original.weight.std().item(), rel=0.05)


def test_googlenet_returns_one_tensor_even_in_train_mode() -> None:
    model = build(architecture("googlenet", size=64))
    assert model.transform_input is False
    assert model.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 10)


def test_vision_transformers_take_the_image_size() -> None:
    with pytest.raises(ArchitectureError, match="square images; found 32x64"):
        build(Architecture("vit_b_32", 10, 3, 32, 64))
    with pytest.raises(ArchitectureError, match="indivisible by patch size"):
        build(architecture("vit_b_16", size=40))
    model = build(architecture("vit_b_32", size=64))
    assert model.encoder.pos_embedding.shape == (1, 2 * 2 + 1, 768)


@pytest.mark.parametrize("argument", ["weights", "pretrained", "num_classes", "progress"])
def test_a_file_cannot_ask_for_downloaded_weights(argument: str) -> None:
    with pytest.raises(ArchitectureError, match=f"does not take {argument}"):
        build(architecture("resnet18", **{argument: "DEFAULT"}))


@pytest.mark.parametrize(("name", "argument"), [("googlenet", "aux_logits"), ("vit_b_16", "image_size")])
def test_what_the_images_decide_is_no_argument(name: str, argument: str) -> None:
    with pytest.raises(ArchitectureError, match=f"does not take {argument}"):
        build(architecture(name, **{argument: True}))


def test_arguments_reach_the_torchvision_builder() -> None:
    assert build(architecture("mobilenet_v3_small", dropout=0.75)).classifier[2].p == 0.75


# names, sizes and arguments


def test_the_listed_names_are_known() -> None:
    names = architecture_names()
    assert {"cresnet8", "tiny-resnet50", "resnet18", "vit_b_16", "inception_v3"} <= set(names)
    for name in names:
        find_builder(name)


@pytest.mark.parametrize("name", ["resnet19", "deeplabv3_resnet50", "raft_large", "ResNet18", "", "build"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ArchitectureError):
        find_builder(name)


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(ArchitectureError, match=r"Unknown architecture 'resnet19'; did you mean .*resnet18"):
        build(architecture("resnet19"))


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3"])
def test_sizes_must_be_positive_integers(size: object) -> None:
    with pytest.raises(ArchitectureError, match="height of architecture 'cresnet8' must be a positive integer"):
        Architecture("cresnet8", classes=10, channels=3, height=size, width=32)


@pytest.mark.parametrize("arguments", [{"dropout": nn.ReLU}, {"sizes": (1, 2)}, {"x": float("nan")}, ["x"]])
def test_arguments_must_survive_json(arguments: object) -> None:
    with pytest.raises(ArchitectureError, match="dictionary of JSON values"):
        Architecture("cresnet8", 10, 3, 32, 32, arguments)


@pytest.mark.parametrize("arguments", [{"drop_out": 0.1}, {"classes": 5}, {"base_width": 4}, {"name": "x"}])
def test_unfit_arguments_are_refused(arguments: dict[str, object]) -> None:
    for name in ("cresnet8", "tiny-resnet18", "resnet18"):
        with pytest.raises(ArchitectureError, match=f"'{name}' cannot be built .* TypeError"):
            build(Architecture(name, 10, 3, 32, 32, arguments))


# files


def test_a_document_comes_back_as_it_was() -> None:
    original = architecture("cresnet20-64", dropout=0.1)
    document = original.to_json()
    assert document == {
        "name": "cresnet20-64",
        "classes": 10,
        "channels": 3,
        "height": 32,
        "width": 32,
        "arguments": {"dropout": 0.1},
    }
    assert Architecture.from_json(document) == original


@pytest.mark.parametrize("change", [{"depth": 20}, {"classes": None}, {"name": ""}, {"name": 5}])
def test_a_wrong_document_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ArchitectureError):
        Architecture.from_json(architecture("cresnet8").to_json() | change)


def test_a_document_with_a_missing_key_is_refused_by_name() -> None:
    document = architecture("cresnet8").to_json()
    del document["arguments"]
    with pytest.raises(ArchitectureError, match=r"'arguments'.*found .*'channels', 'classes'"):
        Architecture.from_json(document)
    with pytest.raises(ArchitectureError, match="found list"):
        Architecture.from_json([])


def test_a_file_imports_nothing_that_the_user_did_not_name(custom_module: str) -> None:
    name = f"{custom_module}:linear"
    read = Architecture.from_json(architecture(name).to_json())
    assert read == architecture(name)
    for named in (None, f"{custom_module}:too_many", custom_module):
        with pytest.raises(ArchitectureError, match=f"--arch {name}"):
            check_trusted(read, named)
    assert custom_module not in sys.modules
    check_trusted(read, name)
    check_trusted(architecture("cresnet8"), None)


# the user's own


def test_a_custom_function_builds(custom_module: str) -> None:
    wanted = Architecture(f"{custom_module}:linear", 4, 1, 2, 3, {"bias": False})
    model = build(wanted)
    check_output(model, wanted)
    assert model[1].weight.shape == (4, 6)
    assert model[1].bias is None


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("linaer", "has no 'linaer'; check the spelling"),
        (
            "ANSWER",
            r"must be a function \(\*, classes, channels, height, width\) that returns a torch.nn.Module; found int",
        ),
        ("text", "must return a torch.nn.Module; found str"),
        ("broken", "cannot be built for 3x32x32 images, 10 classes .* KeyError: 'depth'"),
    ],
)
def test_a_custom_function_that_does_not_serve(custom_module: str, function: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        build(architecture(f"{custom_module}:{function}"))


@pytest.mark.parametrize("name", ["no_such_package.models:net", "own module:net", "os.path:", ":net", "a:b:c"])
def test_a_custom_name_that_leads_nowhere(name: str) -> None:
    with pytest.raises(ArchitectureError, match=r"No module named 'no_such_package'|package.module:function"):
        find_builder(name)


def test_a_module_that_fails_while_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unsound_networks.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ArchitectureError, match="cannot be imported: ZeroDivisionError"):
        build(architecture("unsound_networks:net"))


def test_the_working_directory_is_searched(tmp_path: Path, custom_module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "networks_here.py").write_text(CUSTOM_MODULE)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert isinstance(build(architecture("networks_here:linear")), nn.Sequential)
    del sys.modules["networks_here"]


# inspection


def test_check_output_refuses_a_wrong_shape(custom_module: str) -> None:
    wanted = architecture(f"{custom_module}:too_many")
    with pytest.raises(ArchitectureError, match=r"\(2, 10\) for two images of 3x32x32; found \(2, 11\)"):
        check_output(build(wanted), wanted)


def test_check_output_says_when_a_network_fails_or_returns_no_tensor() -> None:
    with pytest.raises(ArchitectureError, match="fails on images of 3x32x32: RuntimeError"):
        check_output(nn.Linear(5, 10), architecture("cresnet8"))

    class Pair(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images, images

    with pytest.raises(ArchitectureError, match="found tuple"):
        check_output(Pair(), architecture("cresnet8"))


def test_check_output_leaves_the_network_as_it_was() -> None:
    model = build(architecture("cresnet8-4"))
    model.bn.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check_output(model, architecture("cresnet8-4"))
    assert model.training
    assert model.blocks.training
    assert not model.bn.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_penultimate_features_are_what_the_classifier_reads() -> None:
    model = build(architecture("cresnet8-4")).eval()
    features: list[torch.Tensor] = []
    penultimate(model).register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    logits = model(torch.rand(2, 3, 32, 32))
    assert features[0].shape == (2, 16)
    assert torch.allclose(features[0] @ model.fc.weight.T + model.fc.bias, logits, atol=1e-6)


def test_penultimate_of_a_convolutional_classifier() -> None:
    classifier = penultimate(build(architecture("squeezenet1_1", size=64)))
    assert isinstance(classifier, nn.Conv2d)
    assert (classifier.in_channels, classifier.out_channels) == (512, 10)


def test_penultimate_needs_a_classifier() -> None:
    with pytest.raises(ArchitectureError, match="Sequential has no linear layer"):
        penultimate(nn.Sequential(nn.Conv2d(3, 10, kernel_size=3)))
