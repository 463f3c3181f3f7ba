"""Any place of the subspace over HTTP: what answers, what is kept, what is refused, and what a flood costs others."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from image_files import png
from service_client import at_place, probabilities, probabilities_of, served, tensor
from starlette.testclient import TestClient

from service.job import DeadlineError
from service.metrics import Metrics
from service.places import MOST_WAITING, Places, TooManyPlacesError
from service.settings import Settings
from service.staging import State, stage
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.selection import Built
from subspace_serve.errors import BundleError

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def client(whole_bundle: Path):
    with served(whole_bundle) as client:
        yield client


def ask(client: TestClient, images: np.ndarray, **options: object):
    return client.post("/predict", json={"images": images.tolist(), "top_k": 10} | options)


def test_any_place_answers_and_says_which(client, whole_bundle, images):
    response = ask(client, images, alpha=0.3)
    np.testing.assert_allclose(probabilities(response, DIGITS), at_place(whole_bundle, images, 0.3), atol=1e-5)
    document = response.json()
    found = {name: document[name] for name in ("model", "alpha", "statistics", "members", "aggregate", "temperature")}
    assert found == {
        "model": None, "alpha": 0.3, "statistics": "training", "members": [0.3], "aggregate": None, "temperature": 1.0,
    }  # fmt: skip


def test_a_points_own_place_is_the_point(client, images):
    document = ask(client, images, alpha=0.5).json()
    assert (document["model"], document["members"], document["alpha"]) == ("midpoint", ["midpoint"], 0.5)
    assert document == ask(client, images, model="midpoint").json()


def test_a_place_beside_a_point_is_the_point(client, images):
    assert ask(client, images, alpha=0.503).json()["model"] == "midpoint"
    response = ask(client, images, members=[0.5, 0.503])
    assert (response.status_code, "0.5 and 0.503 are the same network here" in response.text) == (400, True)


def test_a_place_is_brought_to_the_step(client, images):
    assert ask(client, images, alpha=0.3049).json() == ask(client, images, alpha=0.3).json()
    assert ask(client, images, alpha=0.9999).json()["model"] == "endpoint-1"


def test_places_are_members(client, whole_bundle, images):
    response = ask(client, images, members=["endpoint-0", 0.3], weights=[1, 3], return_members=True)
    document = response.json()
    assert document["members"] == ["endpoint-0", 0.3]
    assert document["alpha"] is None
    first = ask(client, images, model="endpoint-0")
    mixture = 0.25 * probabilities(first, DIGITS) + 0.75 * at_place(whole_bundle, images, 0.3)
    np.testing.assert_allclose(probabilities(response, DIGITS), mixture, atol=1e-5)
    assert [member["model"] for member in document["predictions"][0]["members"]] == ["endpoint-0", 0.3]


def test_a_domain_gives_its_statistics_to_any_place(client, whole_bundle, images):
    response = ask(client, images, alpha=0.3, domain="inverted")
    np.testing.assert_allclose(
        probabilities(response, DIGITS), at_place(whole_bundle, images, 0.3, "inverted"), atol=1e-5
    )
    assert response.json()["statistics"] == "inverted"
    alone = ask(client, images, domain="inverted").json()
    assert (alone["model"], alone["alpha"], alone["statistics"]) == ("inverted", 0.5, "inverted")
    assert alone == ask(client, images, model="inverted").json()
    ends = ask(client, images, model="endpoints", domain="inverted")
    mixture = (at_place(whole_bundle, images, 0.0, "inverted") + at_place(whole_bundle, images, 1.0, "inverted")) / 2
    np.testing.assert_allclose(probabilities(ends, DIGITS), mixture, atol=1e-5)
    assert ends.json()["members"] == [0.0, 1.0]


def test_forms_and_the_inference_protocol_know_places_and_domains(client, images):
    wanted = ask(client, images[:1], members=["endpoint-0", 0.3]).json()
    body = {"inputs": [tensor(images[:1])], "parameters": {"members": '["endpoint-0", 0.3]'}}
    answer = client.post("/v2/models/endpoints/infer", json=body)
    assert answer.status_code == 404  # 0.3 is no member of the ensemble that the path names
    body = {"inputs": [tensor(images[:1])], "parameters": {"alpha": 0.3, "domain": "inverted"}}
    document = client.post("/v2/models/midpoint/infer", json=body).json()
    assert document["parameters"]["alpha"] == "0.3"
    assert document["parameters"]["statistics"] == "inverted"
    assert document["parameters"]["members"] == "[0.3]"
    form = client.post(
        "/predict_image", files={"images": png(images[0])}, data={"members": "endpoint-0,0.3", "top_k": "10"}
    )
    np.testing.assert_allclose(probabilities(form, DIGITS)[0], probabilities_of(wanted, DIGITS)[0], atol=1e-6)


@pytest.mark.parametrize("place", [1e-5, 2.5e-7, 0.0, 1.0, -0.0, -0.1, -1e-5, -2.0, -2, float("-1" + "0" * 15)])
def test_a_form_takes_a_number_among_members_for_a_place_as_json_does(client, images, place):
    options = {"members": ["midpoint", place], "top_k": 10}
    in_json = ask(client, images[:1], **options)
    in_form = client.post("/predict_image", files={"images": png(images[0])}, data=options)
    assert in_form.status_code == in_json.status_code == (400 if place < 0 else 200)
    if in_json.status_code == 400:
        assert in_form.json()["error"] == in_json.json()["error"]
    else:
        assert in_form.json()["members"] == in_json.json()["members"]


def test_a_place_far_outside_is_refused_in_a_form(client, images):
    data = {"members": f"midpoint,-1{'0' * 400}"}
    answer = client.post("/predict_image", files={"images": png(images[0])}, data=data)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("name", ["2", "2.5", "1e5", "1-5", "12e-05", "e-05", "1e-", "-", "+.", "1.0-rc"])
def test_other_numbers_in_a_form_may_be_names(client, images, name):
    answer = client.post("/predict_image", files={"images": png(images[0])}, data={"members": f"midpoint,{name}"})
    assert answer.status_code == 404, answer.text
    assert f"no point {name!r}" in answer.json()["error"]


def test_what_there_is(client):
    document = client.get("/models").json()
    assert document["subspace"] == {
        "geometry": "line",
        "endpoints": 2,
        "alpha": "a number from 0 to 1",
        "step": 0.01,
        "statistics": ["training", "inverted"],
    }
    assert document["domains"] == [{"name": "inverted", "statistics": "inverted", "alpha": 0.5, "temperature": 1.0}]
    assert {model["name"]: model.get("statistics") for model in document["models"]} == {
        "midpoint": "training", "endpoint-0": "training", "endpoint-1": "training", "inverted": "inverted",
        "endpoints": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (
            {"members": [round(0.01 * i, 2) for i in range(1, 11)]},
            400,
            "10 places between points are asked for at once",
        ),
        ({"alpha": 1.2}, 400, "alpha 1.2 lies outside [0, 1], the domain of a line"),
        ({"alpha": -0.01}, 400, "lies outside"),
        ({"alpha": 1e308}, 400, "lies outside"),
        ({"alpha": [0.5, 0.5]}, 400, "alpha of a line is one number"),
        ({"alpha": True}, 400, "valid number"),
        ({"alpha": "0.3"}, 400, "valid number"),
        ({"members": ["midpoint", 7]}, 400, "lies outside"),
        ({"members": [0.3, 0.3]}, 400, "0.3 is named twice; name each once"),
        (
            {"members": [0.301, 0.302]},
            400,
            "0.301 and 0.302 are the same network here, where places are rounded to multiples of 0.01; name each once",
        ),
        ({"domain": "fog"}, 404, "no domain 'fog' in this bundle: its domains are inverted"),
        ({"domain": "inverted", "model": "nobody"}, 404, "no model 'nobody'"),
        ({"domain": 3}, 400, "domain: Input should be a valid string"),
        ({"domain": "inverted", "weights": [1]}, 400, "a domain alone is one network"),
        ({"alpha": 0.3, "model": "midpoint"}, 400, "alpha names one network"),
    ],
)
def test_what_is_refused(client, images, options, status, message):
    response = ask(client, images, **options)
    assert response.status_code == status
    assert message in response.json()["error"]
    assert "--" not in response.json()["error"]


def test_without_a_subspace_in_the_bundle_it_is_said_how_to_get_one(line_bundle, images):
    with served(line_bundle) as client:
        response = ask(client, images, alpha=0.3)
        assert response.status_code == 404
        assert "a bundle that was exported without --points-only answers at any place" in response.json()["error"]
        assert client.get("/models").json()["subspace"] is None


@pytest.mark.parametrize(
    ("settings", "model", "status"), [({"alpha_memory": 0}, "inverted", 200), ({"models": ("midpoint",)}, None, 404)]
)
def test_the_subspace_can_be_turned_off(whole_bundle, images, settings, model, status):
    with served(whole_bundle, **settings) as client:
        assert ask(client, images, alpha=0.3).status_code == 404
        for there in ({"alpha": 0.5}, {"model": "midpoint"}):
            response = ask(client, images, **there, domain="inverted")
            assert (response.status_code, response.json().get("model")) == (status, model)
        assert client.get("/models").json()["subspace"] is None


def test_what_is_built_is_counted_kept_and_makes_room(whole_bundle, images):
    subspace = Predictor(Bundle.open(whole_bundle), device="cpu").subspace
    with served(whole_bundle, alpha_memory=2 * subspace.session_bytes) as client:
        for alpha in (0.1, 0.2, 0.1, 0.3, 0.1):  # 0.2 makes room, not 0.1, which was asked for again
            assert ask(client, images, alpha=alpha).status_code == 200
        metrics = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    found = {
        name: float(metrics[f"subspace_serve_alpha_{name}"])
        for name in ("hits_total", "evictions_total", "build_seconds_count", "bytes")
    }
    assert found == {
        "hits_total": 2, "evictions_total": 1, "build_seconds_count": 3, "bytes": 2 * subspace.session_bytes,
    }  # fmt: skip
    assert 'subspace_serve_images_total{model="alpha"}' in metrics
    assert not any("0.1" in name and "le=" not in name for name in metrics)


def test_a_built_network_keeps_no_memory_beside_its_weights(whole_bundle):
    subspace = Predictor(Bundle.open(whole_bundle), device="cpu").subspace
    assert not subspace.session(0.3).session.get_session_options().enable_cpu_mem_arena


class SlowSubspace:
    """Builds when it is let."""

    session_bytes = 1

    def __init__(self) -> None:
        self.built: list[float] = []
        self.answer = np.zeros((1, 10), np.float32)

    def session(self, alpha: float, statistics: str) -> SimpleNamespace:
        time.sleep(0.05)
        self.built.append(alpha)
        return SimpleNamespace(logits=lambda images, run=None: self.answer)


@pytest.fixture
def slow(whole_bundle: Path) -> tuple[SlowSubspace, Places]:
    predictor = Predictor(Bundle.open(whole_bundle), device="cpu")
    subspace = predictor.subspace = SlowSubspace()  # type: ignore[assignment]
    return subspace, Places(predictor, memory=100, metrics=Metrics())


def in_a_second() -> float:
    return time.monotonic() + 10


def test_requests_for_the_same_new_place_share_one_build(slow):
    subspace, places = slow

    async def several() -> list:
        return await asyncio.gather(*(places.pinned((Built(0.3),), in_a_second()) for _ in range(20)))

    found = asyncio.run(several())
    assert subspace.built == [0.3]
    assert len(set(map(id, found))) == 1  # so they can share a batch


def test_too_many_new_places_are_refused_and_the_others_are_built(slow):
    subspace, places = slow

    async def flood() -> list:
        wanted = [Built(round(0.01 * i, 2)) for i in range(MOST_WAITING + 5)]
        return await asyncio.gather(
            *(places.pinned((place,), in_a_second()) for place in wanted), return_exceptions=True
        )

    found = asyncio.run(flood())
    assert [type(each) for each in found[MOST_WAITING:]] == [TooManyPlacesError] * 5
    assert sorted(subspace.built) == [round(0.01 * i, 2) for i in range(MOST_WAITING)]


def test_a_request_that_is_given_up_leaves_the_build_to_others(slow):
    subspace, places = slow

    async def impatient() -> object:
        with pytest.raises(DeadlineError):
            await places.pinned((Built(0.3),), time.monotonic() + 0.01)
        return await places.pinned((Built(0.3),), in_a_second())

    asyncio.run(impatient())
    assert subspace.built == [0.3]


def test_a_network_that_answers_with_nonsense_never_serves(slow):
    subspace, places = slow
    subspace.answer = np.full((1, 10), np.nan, np.float32)

    async def twice() -> None:
        for _ in range(2):
            with pytest.raises(BundleError, match="numbers that are not finite"):
                await places.pinned((Built(0.3),), in_a_second())

    asyncio.run(twice())
    assert subspace.built == [0.3, 0.3]


def test_a_reload_lets_go_what_was_built_of_the_old_bundle(whole_bundle, line_bundle, images, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    state = State.create()
    with served(whole_bundle, state=state) as client, client:
        assert ask(client, images, alpha=0.3).status_code == 200
        assert "subspace_serve_alpha_bytes 0.0" not in client.get("/metrics").text
        stage(Settings(bundle=line_bundle, device="cpu", threads=1), state)
        end = time.monotonic() + 20
        while "subspace_serve_alpha_bytes 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < end
        assert ask(client, images, alpha=0.3).status_code == 404


def test_a_place_that_is_asked_for_as_its_bundle_goes_is_built_and_not_kept(whole_bundle):
    predictor = Predictor(Bundle.open(whole_bundle), device="cpu")
    places = Places(predictor, memory=1 << 30, metrics=(metrics := Metrics()))
    asyncio.run(places.pinned((Built(0.3),), in_a_second()))
    assert metrics.alpha_bytes._value.get() > 0
    places.let_go()

    async def late() -> None:  # a request that began before still gets its answer
        places.let_go()
        await places.pinned((Built(0.4),), in_a_second())
        places.let_go()
        await asyncio.sleep(0.1)

    asyncio.run(late())
    assert metrics.alpha_bytes._value.get() == 0


def test_a_flood_of_places_leaves_the_points_alone(whole_bundle, images):
    with served(whole_bundle, alpha_memory=1) as client, ThreadPoolExecutor(8) as pool:
        flood = [pool.submit(ask, client, images, alpha=round(0.01 * i, 2)) for i in range(1, 40)]
        ordinary = [ask(client, images, model="endpoint-1").status_code for _ in range(20)]
        statuses = {response.result().status_code for response in flood}
    assert set(ordinary) == {200}
    assert statuses <= {200, 429}


@pytest.mark.parametrize("file", ["skeleton.onnx", "statistics-training.safetensors", "subspace.safetensors"])
def test_a_changed_file_of_the_subspace_is_refused(whole_bundle, tmp_path, file):
    copy = shutil.copytree(whole_bundle, tmp_path / "bundle")
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(BundleError, match=f"{file} was changed"):
        Bundle.open(copy)
