from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from subspace_serve.data import MemoryImages, Preprocessing
from subspace_serve.data.preprocessing import scale_and_shift
from subspace_serve.errors import CalibrationError
from subspace_serve.network.calibration_data import draw_calibration_data
from trainer.preprocessing import preprocess as in_torch
from trainer.recalibration import batchnorm_layers, recalibrate_batchnorm


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)
    )


def batches(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [3 * torch.randn(size, 2, 8, 8, generator=generator) + 1 for size in sizes]


def statistics(model: nn.Module) -> list[Tensor]:
    return [buffer.clone() for layer in batchnorm_layers(model).values() for buffer in layer.buffers()]


def test_equals_torchs_update_bn_on_batches_of_equal_size() -> None:
    model = network()
    model[3] = nn.Identity()  # update_bn would draw dropout's noise
    expected = copy.deepcopy(model)
    update_bn(batches(8, 8, 8), expected)
    assert recalibrate_batchnorm(model, batches(8, 8, 8)) == 24
    for found, wanted in zip(statistics(model), statistics(expected), strict=True):
        torch.testing.assert_close(found, wanted)


def test_an_uneven_last_batch_counts_by_its_size() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2))
    data = batches(6, 2)
    recalibrate_batchnorm(model, data)
    means = [batch.mean((0, 2, 3)) for batch in data]
    variances = [batch.var((0, 2, 3)) for batch in data]
    torch.testing.assert_close(model[0].running_mean, (6 * means[0] + 2 * means[1]) / 8)
    torch.testing.assert_close(model[0].running_var, (6 * variances[0] + 2 * variances[1]) / 8)


def test_there_is_no_dropout_noise() -> None:
    first, second = network(), network()
    recalibrate_batchnorm(first, batches(8, 8))
    torch.manual_seed(99)
    recalibrate_batchnorm(second, batches(8, 8))
    assert all(torch.equal(a, b) for a, b in zip(statistics(first), statistics(second), strict=True))


def test_modes_momenta_and_weights_are_as_before() -> None:
    model = network().train()
    model[1].eval()
    model[5].momentum = 0.3
    modes = [module.training for module in model.modules()]
    weights = [parameter.clone() for parameter in model.parameters()]
    recalibrate_batchnorm(model, batches(8))
    assert [module.training for module in model.modules()] == modes
    assert (model[1].momentum, model[5].momentum) == (0.1, 0.3)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_an_interrupted_pass_restores_modes_and_statistics() -> None:
    model = network().train()
    recalibrate_batchnorm(model, batches(8))
    before = statistics(model)

    def interrupted():
        yield from batches(8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recalibrate_batchnorm(model, interrupted())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.LayerNorm([4, 6, 6])])
def test_networks_without_batchnorm_are_left_alone(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), norm)

    def unread():
        raise AssertionError("the batches were read")
        yield

    assert recalibrate_batchnorm(model, unread()) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "empty"),
        ([torch.zeros(1, 2, 8, 8)], "2 images or more.*got 1"),
        ([torch.zeros(8, 2, 8, 8), torch.zeros(0, 2, 8, 8)], "2 images or more.*got 0"),
        ([torch.zeros(4, 3, 8, 8)], r"shape \(4, 3, 8, 8\) do not fit"),
        ([torch.zeros(4, 2, 2, 2)], "do not fit the network"),
        ([torch.full((4, 2, 8, 8), torch.nan)], "not finite"),
    ],
)
def test_bad_calibration_data_is_refused_and_changes_nothing(data: list[Tensor], message: str) -> None:
    model = network()
    before = statistics(model)
    with pytest.raises(CalibrationError, match=message):
        recalibrate_batchnorm(model, data)
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))


def test_pixels_are_normalised_in_torch_as_in_numpy_bit_for_bit() -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), dtype=np.uint8)
    preprocessing = Preprocessing(mean=(0.4914, 0.5, 0.1), std=(0.2470, 0.3, 1 / 255))
    scale, shift = scale_and_shift(preprocessing)
    expected = (images.astype(np.float32) * scale + shift).transpose(0, 3, 1, 2)
    for given in (images, torch.from_numpy(images)):
        normalised = in_torch(given, preprocessing)
        assert normalised.is_contiguous(memory_format=torch.channels_last)
        assert np.array_equal(normalised.numpy(), expected)


def test_normalised_pixels_have_the_mean_taken_off_and_are_divided_by_the_deviation() -> None:
    images = np.array([[[[0, 255]], [[51, 102]]]], np.uint8)
    result = in_torch(images, Preprocessing(mean=(0.5, 0.2), std=(0.25, 0.4)))
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result, [[[[-2.0], [-1.2]], [[2.0], [0.5]]]], rtol=1e-6)


def calibration_images(count: int) -> MemoryImages:
    pixels = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((2, 2, 1), np.uint8)
    return MemoryImages(pixels, np.zeros(count, np.int64))


def test_calibration_data_is_drawn_once_and_kept_apart_from_what_checks_it() -> None:
    preprocessing = Preprocessing((0.5,), (0.5,))
    drawn = draw_calibration_data(calibration_images(100), preprocessing, name="toy", count=50, batch_size=16, seed=3)
    assert drawn.to_json() == {"data": "toy", "count": 48, "batch_size": 16, "seed": 3}
    first, second = ([batch[:, 0, 0, 0].tolist() for batch in drawn.pixels()] for _ in range(2))
    assert first == second
    assert [len(batch) for batch in first] == [16, 16, 16]
    used = {value for batch in first for value in batch}
    held_out = {value for batch in drawn.held_out_pixels() for value in batch[:, 0, 0, 0].tolist()}
    assert len(used) == 48
    assert len(held_out) == 20
    assert not used & held_out


def test_too_little_calibration_data_is_refused() -> None:
    with pytest.raises(CalibrationError, match="at least 4 images; toy has 3"):
        draw_calibration_data(calibration_images(3), Preprocessing((0.0,), (1.0,)), name="toy")
