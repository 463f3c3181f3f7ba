"""Answers and their uncertainty against numbers worked out by hand, selections, and image files."""

from __future__ import annotations

import re

import numpy as np
import pytest
from bundle_factory import LABELS, expected_logits, input_of, make_bundle, random_images
from image_files import encoded
from PIL import Image

from subspace_serve.bundle import Bundle, Ensemble
from subspace_serve.bundle.images import ImageTooLargeError, decode_image
from subspace_serve.bundle.predict import Predictor, combine
from subspace_serve.bundle.selection import Selection, SelectionError, UnknownModelError
from subspace_serve.errors import BundleError, DataError


@pytest.fixture(scope="module")
def predictor(bundle) -> Predictor:
    return Predictor(Bundle.open(bundle), device="cpu", threads=1)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def test_a_point_answers_as_numpy_does(predictor):
    images = random_images(5)
    prediction = predictor.predict(images)
    expected = softmax(expected_logits("midpoint", images))
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(prediction.entropy, -(expected * np.log(expected)).sum(axis=1), atol=1e-5)
    assert prediction.selection == Selection("midpoint", ("midpoint",), alpha=0.5)
    assert prediction.mutual_information is None
    assert prediction.disagreement is None


def test_float_input(tmp_path):
    predictor = Predictor(Bundle.open(make_bundle(tmp_path / "bundle", dtype="float32")), device="cpu", threads=1)
    images = random_images(3, dtype="float32")
    expected = softmax(expected_logits("midpoint", images))
    np.testing.assert_allclose(predictor.predict(images).probabilities, expected, atol=1e-6)


def test_ensembles_average_probabilities_or_logits(predictor):
    images = random_images(5)
    first, second = (expected_logits(name, images) for name in ("endpoint-0", "endpoint-1"))
    averaged = predictor.predict(images, predictor.select("endpoints")).probabilities
    np.testing.assert_allclose(averaged, (softmax(first) + softmax(second)) / 2, atol=1e-6)
    leaning = predictor.predict(images, predictor.select("leaning")).probabilities
    np.testing.assert_allclose(leaning, softmax(0.75 * first + 0.25 * second), atol=1e-6)


def test_uncertainty_of_members_that_contradict_each_other():
    # Two certain members with opposite answers: the mixture is a coin, all of its entropy is disagreement.
    logits = np.array([[[1000.0, 0.0]], [[0.0, 1000.0]]])
    prediction = combine(logits, Selection(None, ("a", "b"), (0.5, 0.5), "probabilities"))
    np.testing.assert_allclose(prediction.probabilities, [[0.5, 0.5]])
    np.testing.assert_allclose(prediction.entropy, [np.log(2)])
    np.testing.assert_allclose(prediction.mutual_information, [np.log(2)])
    np.testing.assert_allclose(prediction.disagreement, [0.5])


def test_uncertainty_worked_out_by_hand():
    # Members (0.8, 0.2) and (0.4, 0.6) with weights 3 : 1 make (0.7, 0.3).
    logits = np.log([[[0.8, 0.2]], [[0.4, 0.6]]])
    prediction = combine(logits, Selection(None, ("a", "b"), (0.75, 0.25), "probabilities"))
    np.testing.assert_allclose(prediction.probabilities, [[0.7, 0.3]])
    np.testing.assert_allclose(prediction.entropy, [0.6108643], atol=1e-7)
    # Member entropies 0.5004024 and 0.6730117, their mean 0.5435547.
    np.testing.assert_allclose(prediction.mutual_information, [0.0673096], atol=1e-7)
    # Distances 0.1 and 0.3, their mean 0.15.
    np.testing.assert_allclose(prediction.disagreement, [0.15])


def test_members_that_agree_know_nothing_of_each_other():
    logits = np.log(np.full((2, 1, 3), 1 / 3))
    prediction = combine(logits, Selection(None, ("a", "b"), (0.5, 0.5), "probabilities"))
    assert prediction.mutual_information[0] == 0
    assert prediction.disagreement[0] == pytest.approx(0, abs=1e-12)


def test_averaged_logits_keep_the_mixtures_measures_and_are_never_negative():
    # Averaged logits are surer than the mixture: their entropy less the members' mean would be below 0.
    logits = np.array([[[4.0, 0.0, 3.9]], [[0.0, 4.0, 3.9]]])
    averaged = combine(logits, Selection(None, ("a", "b"), (0.5, 0.5), "logits"))
    mixed = combine(logits, Selection(None, ("a", "b"), (0.5, 0.5), "probabilities"))
    np.testing.assert_allclose(averaged.probabilities, softmax(np.array([[2.0, 2.0, 3.9]])))
    assert averaged.mutual_information[0] == mixed.mutual_information[0] > 0
    assert averaged.disagreement[0] == mixed.disagreement[0]


TEMPERATURES = {"midpoint": 3.0, "endpoint-0": 2.0, "endpoints": 0.5, "leaning": 4.0}


@pytest.fixture(scope="module")
def tempered(tmp_path_factory) -> Predictor:
    folder = make_bundle(tmp_path_factory.mktemp("tempered") / "bundle", temperatures=TEMPERATURES)
    return Predictor(Bundle.open(folder), device="cpu", threads=1)


def test_a_points_temperature_divides_its_logits(tempered):
    images = random_images(3)
    prediction = tempered.predict(images, tempered.select("endpoint-0"))
    np.testing.assert_allclose(prediction.probabilities, softmax(expected_logits("endpoint-0", images) / 2), atol=1e-6)
    np.testing.assert_allclose(
        prediction.member_probabilities, softmax(expected_logits("endpoint-0", images))[None], atol=1e-6
    )
    entropy = -(prediction.probabilities * np.log(prediction.probabilities)).sum(axis=1)
    np.testing.assert_allclose(prediction.entropy, entropy)


def test_an_ensembles_temperature_acts_on_the_average_of_its_members_as_they_are(tempered):
    images = random_images(3)
    first, second = (expected_logits(name, images) for name in PAIR)
    mixture = (softmax(first) + softmax(second)) / 2
    prediction = tempered.predict(images, tempered.select("endpoints"))
    sharpened = mixture**2 / (mixture**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(prediction.probabilities, sharpened, atol=1e-6)
    np.testing.assert_allclose(prediction.member_probabilities, [softmax(first), softmax(second)], atol=1e-6)
    information = -(mixture * np.log(mixture)).sum(axis=1)
    for member in prediction.member_probabilities:
        information += (member * np.log(member)).sum(axis=1) / 2
    np.testing.assert_allclose(prediction.mutual_information, information, atol=1e-6)
    leaning = tempered.predict(images, tempered.select("leaning")).probabilities
    np.testing.assert_allclose(leaning, softmax((0.75 * first + 0.25 * second) / 4), atol=1e-6)


def test_averaged_probabilities_of_0_stay_numbers_at_a_temperature():
    logits = np.array([[[5000.0, 0.0]], [[5000.0, 0.0]]])
    cooled = combine(logits, Selection("pair", ("a", "b"), (0.5, 0.5), "probabilities", temperature=2.0))
    np.testing.assert_allclose(cooled.probabilities, [[1.0, 0.0]], atol=1e-12)


@pytest.mark.parametrize(
    ("choice", "temperature"),
    [
        ({}, 3.0),
        ({"model": "endpoint-1"}, 1.0),
        ({"model": "endpoints"}, 0.5),
        ({"model": "endpoints", "members": ["endpoint-1", "endpoint-0"]}, 0.5),
        ({"model": "endpoints", "weights": [2, 2], "aggregate": "probabilities"}, 0.5),
        ({"model": "leaning", "members": ["endpoint-1", "endpoint-0"], "weights": [0.1, 0.3]}, 4.0),
        ({"model": "leaning", "members": ["endpoint-1", "endpoint-0"], "weights": [3, 1]}, 1.0),
        ({"model": "endpoints", "members": ["endpoint-0"]}, 1.0),
        ({"model": "endpoints", "weights": [1, 2]}, 1.0),
        ({"model": "endpoints", "aggregate": "logits"}, 1.0),
        ({"members": ["endpoint-0", "endpoint-1"]}, 1.0),
        ({"members": ["midpoint"]}, 1.0),
    ],
)
def test_a_temperature_is_that_of_exactly_these_members(tempered, choice, temperature):
    assert tempered.select(**choice).temperature == temperature


PAIR = ["endpoint-0", "endpoint-1"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, Selection("midpoint", ("midpoint",), alpha=0.5)),
        ({"model": "endpoint-1"}, Selection("endpoint-1", ("endpoint-1",), alpha=1.0)),
        ({"model": "leaning"}, Selection("leaning", tuple(PAIR), (0.75, 0.25), "logits")),
        ({"model": "leaning", "members": PAIR[::-1]}, Selection("leaning", tuple(PAIR[::-1]), (0.25, 0.75), "logits")),
        ({"model": "leaning", "members": ["endpoint-1"]}, Selection("leaning", ("endpoint-1",), (1.0,), "logits")),
        ({"model": "leaning", "weights": [2, 2]}, Selection("leaning", tuple(PAIR), (0.5, 0.5), "logits")),
        ({"model": "endpoints", "aggregate": "logits"}, Selection("endpoints", tuple(PAIR), (0.5, 0.5), "logits")),
        ({"members": ["midpoint", "endpoint-0"], "weights": [0, 4]},
         Selection(None, ("midpoint", "endpoint-0"), (0.0, 1.0), "probabilities")),
    ],
)  # fmt: skip
def test_selection(predictor, choice, expected):
    assert predictor.select(**choice) == expected


@pytest.mark.parametrize(
    ("choice", "kind", "message"),
    [
        ({"model": "nobody"}, UnknownModelError, "no model 'nobody'; this bundle has midpoint, endpoint-0"),
        ({"members": ["nobody"]}, UnknownModelError, "no point 'nobody'"),
        ({"members": ["endpoints"]}, UnknownModelError, "no point 'endpoints'"),
        ({"model": "endpoints", "members": ["midpoint"]}, UnknownModelError, "endpoints has no member midpoint"),
        ({"members": []}, SelectionError, "members is empty"),
        ({"members": ["midpoint", "midpoint"]}, SelectionError, "named twice"),
        ({"members": PAIR, "weights": [1]}, SelectionError, "1 weights for 2 members"),
        ({"members": PAIR, "weights": [1, -1]}, SelectionError, "not negative"),
        ({"members": PAIR, "weights": [0, 0]}, SelectionError, "at least one positive"),
        ({"members": PAIR, "weights": [1e308, 1e308]}, SelectionError, "finite"),
        ({"members": PAIR, "weights": [float("nan"), 1]}, SelectionError, "finite"),
        ({"weights": [1]}, SelectionError, "midpoint is a single point"),
        ({"model": "endpoint-0", "members": ["endpoint-0"]}, SelectionError, "endpoint-0 is a single point"),
        ({"model": "endpoint-0", "aggregate": "logits"}, SelectionError, "endpoint-0 is a single point"),
    ],
)
def test_selection_that_does_not_fit(predictor, choice, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        predictor.select(**choice)


def test_configured_ensembles_and_default(bundle):
    ensembles = {"endpoints": Ensemble(members=("midpoint", "endpoint-0"), weights=(1, 3))}
    predictor = Predictor(Bundle.open(bundle), ensembles=ensembles, default="endpoints")
    assert predictor.select() == Selection("endpoints", ("midpoint", "endpoint-0"), (0.25, 0.75), "probabilities")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"default": "nobody"}, "default model does not fit"),
        ({"ensembles": {"midpoint": Ensemble(members=("endpoint-0",), weights=(1,))}}, "has the name of a point"),
        ({"ensembles": {"pair": Ensemble(members=("nobody",), weights=(1,))}}, "has the member nobody"),
    ],
)
def test_configuration_that_does_not_fit_the_bundle(bundle, settings, message):
    with pytest.raises(BundleError, match=message):
        Predictor(Bundle.open(bundle), **settings)


@pytest.mark.parametrize(
    "images",
    [
        random_images(2)[0],
        random_images(2).transpose(0, 3, 1, 2),
        random_images(2).astype(np.float32),
        random_images(2)[:0],
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(predictor, images):
    with pytest.raises(DataError, match=r"expected \(N, 4, 5, 3\) uint8"):
        predictor.predict(images)


def test_document(predictor):
    images = random_images(1)
    document = predictor.predict(images, predictor.select("endpoints")).to_json(LABELS, top_k=2, return_members=True)
    (entry,) = document.pop("predictions")
    assert document == {
        "model": "endpoints",
        "alpha": None,
        "statistics": None,
        "members": PAIR,
        "weights": [0.5, 0.5],
        "aggregate": "probabilities",
        "temperature": 1.0,
    }
    expected = np.mean([softmax(expected_logits(name, images))[0] for name in PAIR], axis=0)
    best = np.argsort(-expected)[:2]
    assert [label["index"] for label in entry["labels"]] == best.tolist()
    assert [label["label"] for label in entry["labels"]] == [LABELS[index] for index in best]
    np.testing.assert_allclose([label["probability"] for label in entry["labels"]], expected[best], atol=1e-6)
    assert entry.keys() == {"labels", "entropy", "mutual_information", "disagreement", "members"}
    assert [member["model"] for member in entry["members"]] == PAIR
    point = predictor.predict(images).to_json(LABELS, top_k=99)
    assert point["aggregate"] is None
    assert point["predictions"][0].keys() == {"labels", "entropy"}
    assert len(point["predictions"][0]["labels"]) == len(LABELS)


def test_image_files_become_the_models_pixels():
    pixels = random_images(1)[0]
    data = encoded(Image.fromarray(pixels))
    np.testing.assert_array_equal(decode_image(data, input_of(4, 5)), pixels)
    floats = decode_image(data, input_of(4, 5, dtype="float32"))
    np.testing.assert_allclose(floats, pixels.transpose(2, 0, 1) / 255, atol=1e-7)
    grey = decode_image(data, input_of(4, 5, channels=1))
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(pixels).convert("L")))


def test_resizing_keeps_proportions_and_takes_the_middle():
    # Red left third, green middle, blue right third: only green is left in a square.
    stripes = np.zeros((10, 30, 3), dtype=np.uint8)
    for channel in range(3):
        stripes[:, 10 * channel : 10 * channel + 10, channel] = 255
    square = decode_image(encoded(Image.fromarray(stripes)), input_of(10, 10))
    np.testing.assert_array_equal(square, np.broadcast_to([0, 255, 0], (10, 10, 3)))
    with pytest.raises(DataError, match="30x10 pixels, the model takes 10x10"):
        decode_image(encoded(Image.fromarray(stripes)), input_of(10, 10), resize=False)


def test_large_models_look_at_the_middle_of_a_picture():
    # A frame of one sixteenth on every side is cut away, as ImageNet's evaluation does (224 of 256).
    framed = np.full((256, 256, 3), 255, dtype=np.uint8)
    framed[16:240, 16:240] = 0
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(framed)), input_of(224, 224)), 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n",
        encoded(Image.new("RGB", (50, 40)))[:60],
        encoded(Image.effect_noise((64, 64), 50), "JPEG")[:400],
    ],
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_image(data, input_of(4, 5))


def test_images_of_many_pixels_are_refused_before_they_are_decompressed():
    data = encoded(Image.new("L", (3000, 3000)))
    assert len(data) < 20_000
    with pytest.raises(ImageTooLargeError, match="3000x3000 pixels, the limit is 1000000"):
        decode_image(data, input_of(4, 5), max_pixels=1_000_000)


def test_a_model_of_two_channels_takes_no_image_files():
    with pytest.raises(DataError, match="2 channels takes no image files"):
        decode_image(encoded(Image.new("L", (5, 4))), input_of(4, 5, 2))
