"""The client, against the service itself and against servers that fail in every way that it must withstand."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import io
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from bundle_factory import LABELS, make_bundle, random_images
from client_transport import URL, asked, assert_close, through
from image_files import encoded, png, turned
from PIL import Image
from ports import free_port
from service_client import IMAGES, expected, served
from starlette.testclient import TestClient
from threaded_server import listening

from subspace_serve.client import (
    AsyncClient,
    Client,
    ClientError,
    ConnectionFailed,
    RequestRefused,
    ServerBusy,
    Timeout,
    UnexpectedAnswer,
)
from subspace_serve.client.catalogue import InputFormat
from subspace_serve.client.exchange import Exchange, Lost, Pause, Reply, Send
from subspace_serve.client.images import batch
from subspace_serve.client.wire import HttpRequest, Options, infer_request
from subspace_serve.errors import SubspaceServeError

FILES = [png(image) for image in IMAGES]
PAIR = (expected("endpoint-0") + expected("endpoint-1")) / 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    temperatures = {"midpoint": 1.5, "endpoints": 2.0}
    return make_bundle(tmp_path_factory.mktemp("client") / "bundle", temperatures=temperatures)


@pytest.fixture(scope="module")
def service(bundle) -> Iterator[TestClient]:
    with served(bundle, max_images=8) as own:
        yield own


@pytest.fixture
def client(service, seen) -> Iterator[Client]:
    with Client(URL, transport=through(service, seen), retries=0) as own:
        yield own


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "endpoint-1"},
        {"alpha": 1.0},
        {"model": "endpoints"},
        {"model": "endpoints", "return_members": True},
        {"model": "leaning", "weights": (1, 2), "aggregate": "probabilities"},
        {"model": "leaning", "members": ["endpoint-1"]},
        {"members": ("midpoint", "endpoint-0"), "weights": np.array([0.25, 0.75]), "return_members": True},
        {"model": "midpoint", "return_members": True, "top_k": 2},
        {"model": "endpoints", "return_members": True, "top_k": 1},
    ],
)
def test_arrays_and_files_have_the_same_answer(client, options):
    pixels, files = client.predict(IMAGES, **options), client.predict(FILES, **options)
    for name in ("model", "members", "aggregate", "missing"):
        assert getattr(pixels, name) == getattr(files, name)
    assert pixels.temperature == files.temperature
    np.testing.assert_allclose(pixels.weights, files.weights)
    assert len(pixels.predictions) == len(files.predictions) == 3
    for own, other in zip(pixels.predictions, files.predictions, strict=True):
        assert_close(own, other)
        assert [member.model for member in own.members] == [member.model for member in other.members]
        for member, same in zip(own.members, other.members, strict=True):
            assert_close(member, same)
        if own.mutual_information is not None:
            np.testing.assert_allclose(own.mutual_information, other.mutual_information, atol=1e-6)
            np.testing.assert_allclose(own.disagreement, other.disagreement, atol=1e-6)
        else:
            assert own.disagreement is other.mutual_information is other.disagreement is None


def test_the_answer_has_the_right_numbers(client):
    answer = client.predict(IMAGES, members=["endpoint-0", "endpoint-1"], top_k=2)
    assert (answer.model, answer.members, answer.weights) == (None, ("endpoint-0", "endpoint-1"), (0.5, 0.5))
    assert (answer.aggregate, answer.temperature, answer.missing) == ("probabilities", 1.0, {})
    for row, prediction in zip(PAIR, answer.predictions, strict=True):
        order = np.argsort(-row)[:2]
        assert prediction.label == LABELS[order[0]]
        assert [label.index for label in prediction.labels] == order.tolist()
        np.testing.assert_allclose([label.probability for label in prediction.labels], row[order], atol=1e-6)
        np.testing.assert_allclose(prediction.entropy, -(row * np.log(row)).sum(), atol=1e-6)


def test_members_have_their_own_answers(client):
    for images in (IMAGES, FILES):
        answer = client.predict(images, model="endpoints", return_members=True, top_k=1)
        for row, prediction in enumerate(answer.predictions):
            for member in prediction.members:
                own = expected(member.model)[row]
                assert member.labels[0].label == LABELS[own.argmax()]
                np.testing.assert_allclose(member.labels[0].probability, own.max(), atol=1e-6)
                np.testing.assert_allclose(member.entropy, -(own * np.log(own)).sum(), atol=1e-6)


@pytest.mark.parametrize("top_k", [1, 3, 4, 5])
def test_probabilities_of_all_classes(client, top_k):
    pixels = client.predict(IMAGES, model="endpoint-1", top_k=top_k)
    np.testing.assert_allclose(pixels.probabilities, expected("endpoint-1"), atol=1e-6)
    files = client.predict(FILES, model="endpoint-1", top_k=top_k)
    assert len(files.predictions[0].labels) == len(pixels.predictions[0].labels) == min(top_k, 4)
    if top_k >= 4:
        np.testing.assert_allclose(files.probabilities, expected("endpoint-1"), atol=1e-6)
    else:
        assert files.probabilities is None


def test_what_travels_how(client, seen, tmp_path):
    client.predict(IMAGES[0])
    client.predict(IMAGES, model="endpoints")
    assert asked(seen) == ["/models", "/v2/models/midpoint/infer", "/v2/models/endpoints/infer"]
    assert seen[1].content.endswith(IMAGES[0].tobytes())
    seen.clear()
    path = tmp_path / "image.png"
    path.write_bytes(FILES[1])
    answers = [client.predict(images) for images in (path, str(path), FILES[1], bytearray(FILES[1]), [str(path)])]
    assert asked(seen) == ["/predict_image"] * 5
    assert len({answer.predictions for answer in answers}) == 1
    seen.clear()
    client.predict(IMAGES, members=["midpoint"])
    assert asked(seen) == ["/predict"]


def test_files_and_arrays_together_keep_their_order(client, seen):
    answer = client.predict([FILES[2], IMAGES[:2], IMAGES[2]], model="endpoint-0", top_k=4)
    assert asked(seen) == ["/models", "/predict"]
    np.testing.assert_allclose(answer.probabilities, expected("endpoint-0")[[2, 0, 1, 2]], atol=1e-6)


def test_sequences_of_arrays(client):
    answer = client.predict([IMAGES[1], IMAGES[:1]], model="endpoint-0")
    np.testing.assert_allclose(answer.probabilities, expected("endpoint-0")[[1, 0]], atol=1e-6)
    wide = client.predict(IMAGES.astype(np.int64), model="endpoint-0")
    np.testing.assert_allclose(wide.probabilities, expected("endpoint-0"), atol=1e-6)
    apart = client.predict(np.asfortranarray(IMAGES), model="endpoint-0")
    np.testing.assert_allclose(apart.probabilities, expected("endpoint-0"), atol=1e-6)


def test_a_bundle_that_takes_floats(tmp_path):
    images = random_images(2, dtype="float32")
    with served(make_bundle(tmp_path / "bundle", dtype="float32")) as service:
        client = Client(URL, transport=through(service))
        want = expected("endpoint-1", images)
        for same in (images, images.astype(np.float64), images.astype(">f4")):
            np.testing.assert_allclose(client.predict(same, model="endpoint-1").probabilities, want, atol=1e-6)
        for wrong in (images * 2, IMAGES, np.full_like(images, np.nan)):
            with pytest.raises(ClientError, match=r"got pixels of"):
                client.predict(wrong)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:, :3], r"got pixels of shape \(3, 3, 5, 3\), the server takes \(4, 5, 3\)"),
        (IMAGES[:0], r"got pixels of shape \(0, 4, 5, 3\)"),
        (IMAGES / 255, "type float64 from 0.* whole numbers from 0 to 255"),
        (IMAGES.astype(np.int32) - 300, "type int32 from -"),
        ([], "no images"),
        (7, "images are of the type builtins.int"),
        (IMAGES.tolist(), "an image is of the type builtins.list"),
        ([None], "an image is of the type builtins.NoneType"),
        ("http://elsewhere/image.png", "cannot be read .No such file.* addresses are not fetched"),
    ],
)
def test_images_that_are_none(client, seen, images, message):
    with pytest.raises(ClientError, match=message):
        client.predict(images)
    assert not any(request.method == "POST" for request in seen)


COLOURS = Image.fromarray(random_images(1, seed=5)[0]).resize((10, 8), Image.Resampling.NEAREST)
GREYS = np.linspace(0, 65535, 80).reshape(8, 10)
OPENED = {
    "PNG": encoded(COLOURS, "PNG"),
    **{f"JPEG turned {turn}": encoded(COLOURS, "JPEG", exif=turned(turn)) for turn in (1, 3, 6, 8)},
    "PNG turned": encoded(COLOURS, "PNG", exif=turned(6)),
    "TIFF turned": encoded(COLOURS, "TIFF", exif=turned(5)),
    "WebP": encoded(COLOURS, "WEBP", lossless=True),
    "CMYK": encoded(COLOURS.convert("CMYK"), "JPEG"),
    "palette": encoded(COLOURS.quantize(7), "GIF"),
    "palette with a transparent colour": encoded(COLOURS.quantize(7), "PNG", transparency=2),
    "black and white": encoded(COLOURS.convert("1"), "PNG"),
    "grey": encoded(COLOURS.convert("L"), "PNG"),
    "grey and alpha": encoded(COLOURS.convert("LA"), "PNG"),
    "alpha": encoded(Image.fromarray(random_images(2, seed=6)[..., :4].reshape(6, 5, 4)), "PNG"),
    "16 bits": encoded(Image.fromarray(GREYS.astype(np.uint16)), "PNG"),
    "16 bits, turned": encoded(Image.fromarray(GREYS.astype(np.uint16)), "TIFF", exif=turned(6)),
    "16 bits, 0 is white": encoded(Image.fromarray(GREYS.astype(np.uint16)), "TIFF", tiffinfo={262: 0}),
    "damaged note of the camera": encoded(
        COLOURS, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04nonsense"
    ),
}
WITHOUT_RANGE = {
    "32 bits": encoded(Image.fromarray(GREYS.astype(np.int32)), "TIFF"),
    "floats": encoded(Image.fromarray((GREYS / 200).astype(np.float32)), "TIFF"),
}


@pytest.mark.parametrize("name", OPENED)
def test_a_pillow_image_is_answered_as_the_file_that_it_was_opened_from(client, seen, name):
    file = client.predict(OPENED[name], model="endpoint-1", top_k=4)
    picture = client.predict(Image.open(io.BytesIO(OPENED[name])), model="endpoint-1", top_k=4)
    assert asked(seen) == ["/predict_image"] * 2
    np.testing.assert_array_equal(picture.probabilities, file.probabilities)


@pytest.mark.parametrize("name", WITHOUT_RANGE)
def test_numbers_without_a_known_range_are_refused_in_pictures_and_in_files(client, name):
    with pytest.raises(ClientError, match="mode [IF], .* without a known range; save it with 8 or 16 bits"):
        client.predict(WITHOUT_RANGE[name])
    with pytest.raises(ClientError, match="mode [IF] has numbers without a known range; convert it to 8 or 16 bits"):
        client.predict(Image.open(io.BytesIO(WITHOUT_RANGE[name])))


def test_orientations_that_are_not_applied_would_be_noticed(client):
    answers = [client.predict(OPENED[f"JPEG turned {turn}"], top_k=4).probabilities for turn in (1, 3, 6, 8)]
    for one, other in itertools.combinations(answers, 2):
        assert np.abs(one - other).max() > 0.01


def test_pillow_images_in_a_list_with_others_and_as_pixels(client, seen):
    pictures = [Image.fromarray(image) for image in IMAGES]
    answer = client.predict(pictures, model="endpoint-0", top_k=4)
    np.testing.assert_allclose(answer.probabilities, expected("endpoint-0"), atol=1e-6)
    answer = client.predict([pictures[2], IMAGES[0], FILES[1]], model="endpoint-0", top_k=4)
    np.testing.assert_allclose(answer.probabilities, expected("endpoint-0")[[2, 0, 1]], atol=1e-6)
    assert asked(seen) == ["/predict_image", "/models", "/predict"]
    hsv = Image.fromarray(np.full((4, 5, 3), 128, np.uint8), "HSV")
    hsv_answer, rgb_answer = (client.predict(same, top_k=4).probabilities for same in (hsv, hsv.convert("RGB")))
    np.testing.assert_array_equal(hsv_answer, rgb_answer)


def test_pillow_images_that_cannot_be_sent(client, seen):
    closed = Image.new("RGB", (5, 4))
    closed.close()
    half = Image.open(io.BytesIO(encoded(Image.fromarray(random_images(1)[0]), "PNG")[:90]))
    for picture, message in [
        (closed, r"a Pillow image \(RGB, 5x4\) cannot be sent \(.*closed"),
        (half, r"a Pillow image \(RGB, 5x4\) cannot be sent \("),
        (Image.new("RGB", (0, 4)), r"a Pillow image \(RGB, 0x4\) cannot be sent \(.*empty"),
    ]:
        with pytest.raises(ClientError, match=message) as error:
            client.predict([FILES[0], picture])
        assert "or the image file itself" in str(error.value)
    assert seen == []


def test_grey_arrays_need_no_axis_of_channels(line_bundle, seen):
    greys = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    with served(line_bundle) as service, Client(URL, transport=through(service, seen)) as own:
        whole = own.predict(greys[..., np.newaxis]).probabilities
        np.testing.assert_array_equal(own.predict(greys).probabilities, whole)
        np.testing.assert_array_equal(own.predict(greys[1]).probabilities, whole[[1]])
        np.testing.assert_array_equal(own.predict([greys[2], greys[:2]]).probabilities, whole[[2, 0, 1]])
        picture = own.predict(Image.fromarray(greys[0]), top_k=10).probabilities
        np.testing.assert_allclose(picture, whole[[0]], atol=1e-6)
        with pytest.raises(ClientError, match=r"shape \(8, 9\), the server takes \(8, 8, 1\) or \(8, 8\), or \(N, "):
            own.predict(np.zeros((8, 9), np.uint8))


@pytest.mark.parametrize(
    ("shape", "fitted"),
    [
        ((4, 5), (1, 1, 4, 5)),
        ((1, 4, 5), (1, 1, 4, 5)),
        ((2, 4, 5), (2, 1, 4, 5)),
        ((2, 1, 4, 5), (2, 1, 4, 5)),
        ((0, 4, 5), None),
        ((5, 4), None),
        ((2, 3, 4, 5), None),
        ((5,), None),
    ],
)
def test_grey_arrays_of_a_server_that_takes_floats(shape, fitted):
    array = np.random.default_rng(0).random(shape, dtype=np.float32)
    input = InputFormat("image", "float32", "NCHW", 4, 5, 1)
    if fitted is None:
        with pytest.raises(ClientError, match="got pixels of shape"):
            batch([array], input)
    else:
        found = batch([array], input)
        assert found.shape == fitted
        np.testing.assert_array_equal(found.ravel(), array.ravel())


def test_grey_arrays_are_not_made_colours(client):
    with pytest.raises(ClientError, match=r"got pixels of shape \(4, 5\), the server takes \(4, 5, 3\), or"):
        client.predict(IMAGES[0, ..., 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": None}, "top_k is None"),
        ({"top_k": True}, "top_k is True"),
        ({"coverage": "0.9"}, "coverage is '0.9'; give a number between 0 and 1, such as 0.9"),
        ({"max_risk": [0.05]}, r"max_risk is \[0.05\]; give a number between 0 and 1, such as 0.05"),
        ({"coverage": 0.9j}, "coverage is 0.9j"),
        ({"weights": [1, float("nan")], "model": "endpoints"}, "cannot be sent"),
        ({"model": object()}, "cannot be sent"),
        ({"alpha": 1.0, "model": "midpoint"}, "alpha names one network; leave out model"),
        ({"alpha": 1.0, "members": ["midpoint", 0.3]}, "alpha names one network; leave out model, members"),
        ({"alpha": 1.0, "domain": "fog", "weights": [1.0]}, "alpha names one network"),
        ({"alpha": 1.0, "aggregate": "logits"}, "alpha names one network"),
        ({"domain": "fog", "weights": [1.0]}, "a domain alone is one network; weights and aggregate need members"),
        ({"domain": "fog", "aggregate": "logits"}, "a domain alone is one network"),
    ],
)
def test_options_that_cannot_be(client, options, message):
    for images in (IMAGES, [FILES[0], IMAGES[0]]):
        with pytest.raises(ClientError, match=message):
            client.predict(images, **options)


@pytest.mark.parametrize("images", [IMAGES, FILES])
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"model": "nobody"}, 404, "there is no model 'nobody'"),
        ({"alpha": 0.3}, 404, "no point was exported at alpha 0.3"),
        ({"model": "midpoint", "weights": [1.0]}, 400, "midpoint is a single point"),
        ({"model": "endpoints", "aggregate": "median"}, 400, "aggregate"),
        ({"model": "endpoints", "weights": [1.0]}, 400, "got 1 weights for 2 members"),
    ],
)
def test_what_the_server_refuses(client, images, options, status, message):
    with pytest.raises(RequestRefused, match=message) as caught:
        client.predict(images, **options)
    assert caught.value.status == status
    assert message in caught.value.reason
    assert len(caught.value.request_id) == 16
    assert f"is answered {status}: " in str(caught.value)


def test_without_resizing(client):
    large = png(np.zeros((8, 10, 3), np.uint8))
    assert client.predict(large).model == "midpoint"
    with pytest.raises(RequestRefused, match="10x8"):
        client.predict(large, resize=False)


def test_models(client):
    catalogue = client.models()
    assert (catalogue.default, catalogue.labels, len(catalogue.sha256)) == ("midpoint", LABELS, 64)
    assert list(catalogue.models) == ["midpoint", "endpoint-0", "endpoint-1", "endpoints", "leaning"]
    point, ensemble = catalogue.models["endpoint-1"], catalogue.models["leaning"]
    assert (point.alpha, point.coefficients, point.is_ensemble) == (1.0, (0.0, 1.0), False)
    assert (ensemble.members, ensemble.weights) == (("endpoint-0", "endpoint-1"), (3.0, 1.0))
    assert (ensemble.aggregate, ensemble.is_ensemble) == ("logits", True)
    assert catalogue.models["endpoints"].temperature == 2.0
    assert catalogue.input == InputFormat("image", "uint8", "NHWC", 4, 5, 3)
    assert catalogue.input.shape == (4, 5, 3)


def test_probes_and_token(bundle):
    with served(bundle, token="secret") as service:
        own = Client(URL, token="secret", transport=through(service))
        assert own.ready()
        assert own.live()
        assert own.predict(IMAGES[0]).model == "midpoint"
        assert "secret" not in repr(own)
        with pytest.raises(RequestRefused, match="cannot reload") as caught:
            own.reload()
        assert caught.value.status == 409
        stranger = Client(URL, transport=through(service))
        with pytest.raises(RequestRefused) as caught:
            stranger.predict(IMAGES[0])
        assert caught.value.status == 401
    with pytest.raises(ClientError, match="the token is empty") as error:
        Client(URL, token="se\ncret")
    assert "cret" not in str(error.value)


def test_another_bundle_is_noticed(service, tmp_path):
    with served(make_bundle(tmp_path / "floats", dtype="float32"), default="endpoint-0") as floats:
        current = [service]
        own = Client(
            URL, transport=httpx.MockTransport(lambda request: through(current[0]).handle_request(request)), retries=0
        )
        assert own.predict(IMAGES).model == "midpoint"
        current[0] = floats
        images = random_images(2, dtype="float32")
        answer = own.predict(images)  # these do not fit what the first bundle took
        assert answer.model == "endpoint-0"
        np.testing.assert_allclose(answer.probabilities, expected("endpoint-0", images), atol=1e-6)
        current[0] = service
        with pytest.raises(ClientError, match="got pixels of"):  # whichever it is, these do not fit it
            own.predict(images)
        assert own.predict(IMAGES).model == "midpoint"


def test_a_point_that_becomes_an_ensemble_is_noticed(bundle):
    pair = {"other": {"members": ["endpoint-0", "endpoint-1"]}}
    with served(bundle, ensembles=pair) as service:
        now = service.get("/models").json()
        point = now["models"][0] | {"name": "other"}
        once = [now | {"models": [point if model["name"] == "other" else model for model in now["models"]]}]

        def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/models" and once:
                return httpx.Response(200, json=once.pop())
            return through(service).handle_request(request)

        own = Client(URL, transport=httpx.MockTransport(handle))
        assert own.predict(IMAGES).model == "midpoint"
        answer = own.predict(IMAGES, model="other")
    assert (answer.model, answer.aggregate) == ("other", "probabilities")
    np.testing.assert_allclose(answer.probabilities, PAIR, atol=1e-6)
    assert answer.predictions[0].disagreement > 0


def test_labels_of_another_bundle_are_never_mixed_in(service):
    now = service.get("/models").json()
    stale = [now | {"labels": ["a", "b", "c", "d"]}] * 2

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/models" and stale:
            return httpx.Response(200, json=stale.pop())
        return through(service).handle_request(request)

    own = Client(URL, transport=httpx.MockTransport(handle))
    # The labels of the answer itself come with it; those of the members are looked up.
    assert {label.label for label in own.predict(IMAGES).predictions[0].labels} == set(LABELS)
    with pytest.raises(UnexpectedAnswer, match="labels are not those that it lists"):
        Client(URL, transport=httpx.MockTransport(handle)).predict(IMAGES, model="endpoints", return_members=True)
    answer = own.predict(IMAGES, model="endpoints", return_members=True)
    assert {label.label for label in answer.predictions[0].members[0].labels} == set(LABELS)


def test_the_catalogue_is_fetched_again_after_a_minute(client, seen):
    now = [0.0]
    client._conversation._clock = lambda: now[0]
    for now[0] in (1.0, 60.0, 62.0):
        client.predict(IMAGES)
    assert [path for path in asked(seen) if path == "/models"] == ["/models"] * 2
    assert asked(seen)[3] == "/models"


def test_both_clients_over_a_socket(service):
    async def ask(url: str) -> tuple[Any, ...]:
        async with AsyncClient(url) as own:
            several = await asyncio.gather(*(own.predict(IMAGES[:1]) for _ in range(5)), own.predict(FILES[:1]))
            return several, await own.models(), await own.ready(), await own.live(), repr(own)

    with listening(service.app) as url:
        with Client(url + "/") as own:
            one, models = own.predict(IMAGES[:1]), own.models()
            assert repr(own) == f"Client('{url}')"
        several, same, ready, live, text = asyncio.run(ask(url))
    assert same == models
    assert ready
    assert live
    assert text == f"AsyncClient('{url}')"
    for answer in several:
        assert_close(answer.predictions[0], one.predictions[0])
    assert len({answer.request_id for answer in several}) == 6


def test_async_files_are_read(service, tmp_path):
    (tmp_path / "image").write_bytes(FILES[0])

    async def ask() -> Any:
        async with AsyncClient(URL, transport=httpx.ASGITransport(service.app)) as own:
            with pytest.raises(RequestRefused, match="403|token"):
                await own.reload()
            pictures = [Image.fromarray(IMAGES[0]), tmp_path / "image"]
            return await own.predict(tmp_path / "image", top_k=4), await own.predict(pictures, top_k=4)

    file, pictures = asyncio.run(ask())
    np.testing.assert_allclose(file.probabilities[0].argmax(), expected("midpoint")[0].argmax())
    np.testing.assert_allclose(pictures.probabilities, file.probabilities[[0, 0]], atol=1e-6)


def test_the_layout_of_a_binary_request():
    images = np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3)
    options = Options(model="endpoints", members=("a", "b"), weights=np.array([1.0, 2.0]), aggregate="logits")
    request = infer_request(
        images, InputFormat("image", "uint8", "NHWC", 4, 5, 3), "end points", options, {"entropy": {}}
    )
    length = int(request.headers["Inference-Header-Content-Length"])
    assert (request.method, request.path) == ("POST", "/v2/models/end%20points/infer")
    assert json.loads(request.body[:length]) == {
        "parameters": {"members": '["a", "b"]', "weights": "[1.0, 2.0]", "aggregate": "logits"},
        "inputs": [
            {"name": "image", "shape": [2, 4, 5, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 120}}
        ],
        "outputs": [{"name": "entropy", "parameters": {"binary_data": True}}],
    }
    assert request.body[length:] == bytes(range(120))


# Servers that are busy, broken or not there. Every case holds for both clients.

GOOD = {
    "model": "m", "members": ["m"], "weights": [1.0], "aggregate": None, "temperature": 1.0,
    "predictions": [{"labels": [{"label": "a", "index": 0, "probability": 1.0}], "entropy": 0.0}],
}  # fmt: skip
FINE = httpx.Response(200, json=GOOD, headers={"x-request-id": "mine"})
BUSY = httpx.Response(503, json={"error": "starting"}, headers={"x-request-id": "mine"})


class Asking:
    """One of the clients, whose server answers from a list and whose pauses are only noted."""

    def __init__(self, kind: type, answers: list[httpx.Response | Exception], **options: Any) -> None:
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self._kind = kind
        self._answers = iter(answers)
        sleep: Callable[..., Any] = self.pauses.append if kind is Client else self._noted
        self._client = kind(
            URL, transport=httpx.MockTransport(self._handle), random=lambda: 0.5, sleep=sleep, **options
        )

    async def _noted(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        result = getattr(self._client, method)(*arguments, **options)
        if self._kind is Client:
            return result

        async def awaited() -> Any:
            return await result

        return asyncio.run(awaited())

    def predict(self) -> Any:
        return self.call("predict", FILES[0], top_k=3)


@pytest.fixture(params=[Client, AsyncClient])
def asking(request) -> Callable[..., Asking]:
    return lambda *answers, **options: Asking(request.param, list(answers), **options)


def test_busy_servers_are_asked_again(asking):
    own = asking(BUSY, httpx.Response(429), BUSY, FINE)
    answer = own.predict()
    assert answer.predictions[0].label == "a"
    assert answer.probabilities.tolist() == [[1.0]]
    assert answer.request_id == "mine"
    np.testing.assert_allclose(own.pauses, [0.05, 0.1, 0.2])  # half of bounds that double
    assert len({request.headers["x-request-id"] for request in own.requests}) == 1
    assert len({request.content for request in own.requests}) == 1


def test_a_server_that_stays_busy(asking):
    own = asking(*[BUSY] * 9, retries=2)
    with pytest.raises(ServerBusy, match=r"answered 503 after 3 attempts: starting") as caught:
        own.predict()
    assert (caught.value.status, caught.value.reason, caught.value.request_id) == (503, "starting", "mine")
    assert len(own.requests) == 3
    assert len(own.pauses) == 2


def test_pauses_come_after_what_the_server_asks_for(asking):
    own = asking(httpx.Response(429, headers={"retry-after": "2"}), httpx.Response(429, headers={"retry-after": " 0 "}),
                 httpx.Response(429, headers={"retry-after": "soon"}), FINE)  # fmt: skip
    own.predict()
    np.testing.assert_allclose(own.pauses, [2.05, 0.1, 0.2])
    date = email.utils.format_datetime(email.utils.localtime() + timedelta(seconds=5))
    own = asking(httpx.Response(503, headers={"retry-after": date}), FINE)
    own.predict()
    assert 3.5 < own.pauses[0] <= 5.05


def test_no_pause_that_would_outlast_the_call(asking):
    own = asking(httpx.Response(429, headers={"retry-after": "60"}), FINE)
    with pytest.raises(ServerBusy):
        own.predict()
    assert own.pauses == []


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 415, 500, 502, 504])
def test_other_statuses_are_not_repeated(asking, status):
    own = asking(httpx.Response(status, text="<html>  no\nway </html>"), FINE)
    with pytest.raises(RequestRefused, match=f"answered {status}: <html> no way </html>") as caught:
        own.predict()
    assert caught.value.status == status
    assert caught.value.request_id is None
    assert len(own.requests) == 1


def test_lost_connections_are_tried_again(asking):
    own = asking(httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.RemoteProtocolError("closed"), FINE)
    assert own.predict().model == "m"
    assert len(own.pauses) == 3
    own = asking(*[httpx.ConnectError("refused")] * 5)
    with pytest.raises(ConnectionFailed, match=r"after 5 attempts \(refused\)"):
        own.predict()


def test_certificates_and_nonsense_are_not_tried_again(asking):
    distrust = httpx.ConnectError("certificate verify failed")
    distrust.__cause__ = ssl.SSLCertVerificationError("self-signed")
    for error in (distrust, httpx.DecodingError("garbled")):
        own = asking(error, FINE)
        with pytest.raises(ConnectionFailed, match="certificate|garbled"):
            own.predict()
        assert len(own.requests) == 1


def test_a_reload_is_sent_once(asking):
    own = asking(httpx.ReadError("reset"), FINE, token="t")
    with pytest.raises(ConnectionFailed):
        own.call("reload")
    assert len(own.requests) == 1
    own = asking(httpx.ConnectError("refused"), httpx.Response(200, json={"bundle": {"sha256": "ab"}}), token="t")
    assert own.call("reload") == "ab"
    assert own.requests[1].headers["authorization"] == "Bearer t"


def test_late_answers(asking):
    own = asking(httpx.ReadTimeout("late"), FINE)
    with pytest.raises(Timeout, match="was not answered within 10 s"):
        own.predict()
    assert len(own.requests) == 1


def test_probes(asking):
    for answer, ready in (
        (FINE, True),
        (BUSY, False),
        (httpx.ConnectError("x"), False),
        (httpx.ReadTimeout("x"), False),
    ):
        assert asking(answer, FINE).call("ready") is ready
    with pytest.raises(RequestRefused):  # not this service
        asking(httpx.Response(404)).call("live")


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b"<html>", b"[]", b"{}", b"null", json.dumps(GOOD | {"predictions": []}).encode()]
)
def test_other_services(asking, content):
    own = asking(httpx.Response(200, content=content))
    with pytest.raises(UnexpectedAnswer, match="does not answer as this service does"):
        own.predict()
    for method in ("models", "reload"):
        with pytest.raises(UnexpectedAnswer):
            asking(httpx.Response(200, content=content)).call(method)


def test_broken_tensors(asking, service):
    models = service.get("/models")
    listed = httpx.Response(200, content=models.content)
    for answer in (
        httpx.Response(200, content=b"{}"),
        httpx.Response(200, content=b"{}", headers={"inference-header-content-length": "2"}),
        httpx.Response(200, content=b'{"outputs":[]}x', headers={"inference-header-content-length": "14"}),
    ):
        with pytest.raises(UnexpectedAnswer):
            asking(listed, answer).call("predict", IMAGES)


def test_pauses_have_a_bound_and_time_ends_them():
    """The schedule by itself, on a clock that is only set."""
    now = [0.0]
    exchange = Exchange(URL, 100, random=lambda: 1.0, clock=lambda: now[0])
    steps = exchange.ask(HttpRequest("GET", "/models"), 30.0)
    outcome: Any = None
    pauses, timeouts = [], []
    with pytest.raises(ServerBusy):
        while True:
            step = steps.send(outcome)
            outcome = None
            if isinstance(step, Send):
                timeouts.append(step.timeout)
                outcome = Reply(429, {}, b"")
            else:
                assert isinstance(step, Pause)
                now[0] += step.seconds
                pauses.append(step.seconds)
    np.testing.assert_allclose(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 5])
    np.testing.assert_allclose(timeouts, 30 - np.cumsum([0, *pauses]))


def test_a_broken_connection_keeps_its_reason():
    steps = Exchange(URL, 0, random=lambda: 0.0, clock=lambda: 0.0).ask(HttpRequest("GET", "/x"), 1.0)
    next(steps)
    with pytest.raises(ConnectionFailed, match=r"GET http://service.test/x .* \(reset by peer\)"):
        steps.send(Lost("reset by peer", "broken"))


@pytest.fixture
def trickling() -> Iterator[str]:
    """Yield the address of a server that sends an answer one byte at a time, without end."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
                    while not ended.wait(0.02):
                        connection.sendall(b" ")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    ended.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    assert not thread.is_alive()


def test_the_timeout_is_for_the_whole_call(trickling):
    start = time.monotonic()
    with Client(trickling, timeout=0.3) as own, pytest.raises(Timeout):
        own.models()

    async def ask() -> None:
        async with AsyncClient(trickling, timeout=0.3) as own:
            with pytest.raises(Timeout):
                await own.models()

    asyncio.run(ask())
    assert 0.6 <= time.monotonic() - start < 5


def test_nobody_listens():
    port = free_port()
    own = Client(f"http://127.0.0.1:{port}", retries=1, sleep=lambda _: None)
    with pytest.raises(ConnectionFailed, match="after 2 attempts"):
        own.models()
    assert not own.live()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("service.test:3000", "none of HTTP"),
        ("ftp://service.test", "none of HTTP"),
        ("http://", "none of HTTP"),
        ("", "none of HTTP"),
        ("http://service.test:port", "is none"),
        ("http://me:secret@service.test", "has a user"),
        ("http://service.test/?a=b", "has a user"),
        (None, "is none"),
    ],
)
def test_addresses(url, message):
    with pytest.raises(ClientError, match=message) as caught:
        Client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://service.test/prefix", "http://service.test/prefix/"])
def test_a_prefix_stays(url):
    seen: list[httpx.Request] = []
    with Client(url, transport=httpx.MockTransport(lambda request: seen.append(request) or FINE)) as own:
        own.ready()
    assert str(seen[0].url) == "http://service.test/prefix/readyz"


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("inf")}, {"retries": -1}])
def test_limits(options):
    with pytest.raises(ClientError, match=r"give (a positive number|0 or more)"):
        Client(URL, **options)


def test_errors_are_a_family():
    assert issubclass(ClientError, SubspaceServeError)
    for kind in (RequestRefused, ServerBusy, Timeout, ConnectionFailed, UnexpectedAnswer):
        assert issubclass(kind, ClientError)
    assert not issubclass(ServerBusy, RequestRefused)


def test_the_documentation_runs(service, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("digit.png").write_bytes(FILES[0])
    text = (Path(__file__).parent.parent / "docs" / "client.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```python")[1:]]
    assert len(blocks) == 3
    with listening(service.app) as address:
        for block in blocks:
            here = block.replace("http://127.0.0.1:3000", address).replace("duration=10", "duration=0.5, warm_up=0")
            exec(compile(here, "docs/client.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[0] == LABELS[PAIR[0].argmax()]
    assert [line.split()[0] for line in printed[1:3]] == ["endpoint-0", "endpoint-1"]
    assert printed[3] == "None []"  # the points alone
    assert "{200: " in printed[4]
