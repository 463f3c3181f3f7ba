"""Prediction sets of a service, a client and `predict`: whose they are, what they hold, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import LABELS, make_bundle, random_images
from client_transport import URL, asked, through
from command_line import invoke
from image_files import png
from PIL import Image
from service_client import IMAGES, expected, poisoned, served, tensor, text
from starlette.testclient import TestClient

from subspace_serve.answers import apply_temperature
from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.prediction_sets import Sets
from subspace_serve.bundle.promises import Promises
from subspace_serve.bundle.selection import SelectionError
from subspace_serve.client import AsyncClient, Client, ClientError, RequestRefused
from subspace_serve.client.wire import Options

COUNT = 19
SCORES = tuple(np.linspace(0.05, 0.95, COUNT))
"""The rank k of a coverage is that of the score k / 20."""
SETS = {
    "midpoint": Sets(method="lac", data="x", count=COUNT, seed=0, scores=SCORES),
    "endpoint-0": Sets(method="aps", data="x", count=COUNT, seed=0, scores=SCORES),
    "endpoints": Sets(method="raps", data="x", count=COUNT, seed=0, scores=SCORES, k_reg=1, penalty=0.1, tuned_on=9),
}
MANY = random_images(40, seed=9)
PAIR = ["endpoint-0", "endpoint-1"]


def promising(folder: Path, sets: dict[str, Sets] = SETS, **options: Any) -> Path:
    return make_bundle(folder, promises={name: {"sets": own} for name, own in sets.items()}, **options)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return promising(tmp_path_factory.mktemp("sets") / "bundle", temperatures={"midpoint": 2.0})


@pytest.fixture(scope="module")
def client(bundle) -> Iterator[TestClient]:
    with served(bundle, max_images=64) as client:
        yield client


def expected_set(model: str, image: np.ndarray, coverage: float) -> list[int]:
    """The labels of an image's set with loops, the most probable first, from what numpy says of the image."""
    if model == "endpoints":
        row = (expected("endpoint-0", image[None]) + expected("endpoint-1", image[None]))[0] / 2
    else:
        row = expected(model, image[None])[0]
    if model == "midpoint":
        row = apply_temperature(row[None], 2.0)[0]
    threshold = SCORES[int(np.ceil((COUNT + 1) * coverage - 1e-9)) - 1]
    order = sorted(range(len(row)), key=lambda label: -row[label])
    found = [order[0]]
    for rank, label in enumerate(order[1:], 2):
        total = sum(row[other] for other in order[:rank])
        score = {"midpoint": 1 - row[label], "endpoint-0": total, "endpoints": total + 0.1 * (rank - 1)}[model]
        if score <= threshold:
            found.append(label)
    return found


def indices(rows: list[list[dict[str, Any]]]) -> list[list[int]]:
    return [[label["index"] for label in row] for row in rows]


@pytest.mark.parametrize("model", ["midpoint", "endpoint-0", "endpoints"])
@pytest.mark.parametrize("coverage", [0.6, 0.9, 0.95])
def test_every_route_answers_with_the_sets_of_the_model(client, model, coverage):
    wanted = [expected_set(model, image, coverage) for image in MANY]
    assert coverage < 0.9 or len({len(own) for own in wanted}) > 1
    request = {"images": MANY.tolist(), "model": model, "coverage": coverage, "top_k": len(LABELS)}
    document = client.post("/predict", json=request).json()
    assert "set_reason" not in document
    assert indices([entry["set"] for entry in document["predictions"]]) == wanted
    for entry in document["predictions"]:
        ranked = {label["index"]: label for label in entry["labels"]}
        assert entry["set"] == [ranked[label["index"]] for label in entry["set"]]  # the form of the top labels

    files = [("images", png(image)) for image in MANY]
    form = client.post("/predict_image", files=files, data={"model": model, "coverage": str(coverage)}).json()
    assert [entry["set"] for entry in form["predictions"]] == [entry["set"] for entry in document["predictions"]]

    for given in (coverage, str(coverage)):
        request = {"inputs": [tensor(MANY)], "parameters": {"coverage": given}}
        answer = client.post(f"/v2/models/{model}/infer", json=request).json()
        assert json.loads(answer["parameters"]["sets"]) == [entry["set"] for entry in document["predictions"]]
        assert "set_reason" not in answer["parameters"]


def test_a_set_is_never_empty(client):
    request = {"images": MANY.tolist(), "coverage": 0.0001, "top_k": 1}
    for entry in client.post("/predict", json=request).json()["predictions"]:
        assert entry["set"] == entry["labels"]


@pytest.mark.parametrize(
    "choice",
    [
        {"members": ["midpoint", "endpoint-0"]},
        {"members": PAIR},
        {"members": ["midpoint"]},
        {"model": "endpoints", "members": ["endpoint-0"]},
        {"model": "endpoints", "weights": [1, 3]},
        {"model": "endpoints", "aggregate": "logits"},
    ],
)
def test_another_answer_than_a_models_own_has_no_sets_and_says_so(client, choice):
    document = client.post("/predict", json={"images": MANY.tolist(), "coverage": 0.9, **choice}).json()
    assert [entry["set"] for entry in document["predictions"]] == [None] * len(MANY)
    assert "as it was exported" in document["set_reason"]
    assert "this answer is another" in document["set_reason"]


@pytest.mark.parametrize(
    "choice",
    [
        {"model": "endpoints", "members": ["endpoint-1", "endpoint-0"]},
        {"model": "endpoints", "weights": [2, 2], "aggregate": "probabilities"},
        {"alpha": 0.5},
    ],
)
def test_a_choice_that_repeats_a_model_has_its_sets(client, choice):
    document = client.post("/predict", json={"images": MANY.tolist(), "coverage": 0.9, **choice}).json()
    wanted = [expected_set("midpoint" if "alpha" in choice else "endpoints", image, 0.9) for image in MANY]
    assert indices([entry["set"] for entry in document["predictions"]]) == wanted


def test_a_model_without_scores_says_so(client):
    for model in ("endpoint-1", "leaning"):
        document = client.post("/predict", json={"images": MANY.tolist(), "coverage": 0.999999, "model": model}).json()
        assert [entry["set"] for entry in document["predictions"]] == [None] * len(MANY)
        assert "the bundle keeps none for this model; export it with --sets-data" in document["set_reason"]
        request = {"inputs": [tensor(MANY)], "parameters": {"coverage": 0.9}}
        parameters = client.post(f"/v2/models/{model}/infer", json=request).json()["parameters"]
        assert (parameters["sets"], parameters["set_reason"]) == ("null", document["set_reason"])


def test_an_older_bundle_is_served_and_says_that_it_has_none(tmp_path):
    folder = make_bundle(tmp_path / "bundle")
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document | {"version": 1}))
    with served(folder) as client:
        request = {"images": IMAGES.tolist(), "coverage": 0.9, "max_risk": 0.05}
        response = client.post("/predict", json=request)
    assert response.status_code == 200
    assert {(entry["set"], entry["abstained"]) for entry in response.json()["predictions"]} == {(None, None)}
    assert "the bundle keeps none" in response.json()["set_reason"]


def test_a_missing_member_takes_the_sets_along(bundle, monkeypatch):
    with served(bundle, quorum=1) as client, poisoned(monkeypatch, "endpoint-1", np.nan):
        request = {"images": IMAGES.tolist(), "model": "endpoints", "coverage": 0.9}
        document = client.post("/predict", json=request).json()
    assert document["missing"] == {"endpoint-1": "not finite"}
    assert [entry["set"] for entry in document["predictions"]] == [None] * len(IMAGES)
    assert "with every member answering" in document["set_reason"]


@pytest.mark.parametrize("promise", ["coverage", "max_risk"])
@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, 1e308, "0.9", True, [0.9], {}])
def test_a_promise_that_is_none_is_400(client, promise, share):
    for model in ("midpoint", "leaning"):
        response = client.post("/predict", json={"images": [IMAGES[0].tolist()], "model": model, promise: share})
        assert response.status_code == 400
        assert response.json()["error"].startswith(f"the request is not valid: {promise}: Input should be ")


@pytest.mark.parametrize("promise", ["coverage", "max_risk"])
@pytest.mark.parametrize("share", ["0", "1", "nan", "inf", "", "much", "0.9,0.8"])
def test_a_promise_that_is_none_is_400_in_a_form_and_in_the_protocol(client, promise, share):
    response = client.post("/predict_image", files={"images": png(IMAGES[0])}, data={promise: share})
    assert response.status_code == 400
    assert f"{promise}: Input should be" in response.json()["error"]
    request = {"inputs": [tensor(IMAGES)], "parameters": {promise: share}}
    response = client.post("/v2/models/midpoint/infer", json=request)
    assert response.status_code == 400
    assert f"the parameter {promise}" in response.json()["error"]


def test_nan_is_400_in_the_protocol(client):
    body = b'{"inputs": [], "parameters": {"coverage": NaN}}'
    assert client.post("/v2/models/midpoint/infer", content=body).status_code == 400


def test_a_coverage_that_the_images_do_not_support_is_400_with_their_number(client):
    message = (
        "a coverage of 0.951 takes 20 calibration images, and there are 19; ask for 0.95 or less, or export again with "
        "more images (--sets-data)"
    )
    images = [IMAGES[0].tolist()]
    answers = [
        client.post("/predict", json={"images": images, "coverage": 0.951}),
        client.post("/predict_image", files={"images": png(IMAGES[0])}, data={"coverage": "0.951"}),
        client.post("/v2/models/midpoint/infer", json={"inputs": [tensor(IMAGES)], "parameters": {"coverage": 0.951}}),
    ]
    assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [(400, message)] * 3
    assert client.post("/predict", json={"images": images, "coverage": 0.95}).status_code == 200


def test_a_request_without_coverage_is_answered_byte_for_byte_as_from_a_bundle_without_sets(client, tmp_path):
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/predict", {"json": {"images": IMAGES.tolist(), "return_members": True}}),
        ("/predict", {"json": {"images": [text(png(IMAGES[0]))], "model": "endpoints", "coverage": None}}),
        ("/predict", {"json": {"images": IMAGES.tolist(), "members": PAIR}}),
        ("/predict_image", {"files": {"images": png(IMAGES[0])}, "data": {"model": "endpoints"}}),
        ("/v2/models/midpoint/infer", {"json": {"inputs": [tensor(IMAGES)]}}),
        ("/v2/models/endpoints/infer", {"json": {"inputs": [tensor(IMAGES)]}}),
    ]
    plain = make_bundle(tmp_path / "bundle", temperatures={"midpoint": 2.0})
    with served(plain) as other:
        for path, request in requests:
            own, older = client.post(path, **request), other.post(path, **request)
            assert own.status_code == older.status_code == 200
            assert own.content == older.content
        listed, before = client.get("/models").json(), other.get("/models").json()
    assert listed["bundle"] != before["bundle"]
    assert listed | {"bundle": None} == before | {"bundle": None}


@pytest.mark.slow
def test_batches_change_no_set(bundle):
    wanted = [expected_set("endpoints", image, 0.9) for image in MANY]

    def ask(start: int) -> list[list[int]]:
        request = {"images": MANY[start : start + 2].tolist(), "model": "endpoints", "coverage": 0.9}
        document = client.post("/predict", json=request).json()
        return indices([entry["set"] for entry in document["predictions"]])

    options = {"batching": "on", "max_batch": 8, "batch_delay": 0.02, "concurrency": 1}
    with served(bundle, **options) as client, client, ThreadPoolExecutor(16) as clients:
        found = list(clients.map(ask, range(0, 40, 2)))
    assert [own for pair in found for own in pair] == wanted


def test_other_statistics_and_places_between_points_have_no_sets(whole_bundle: Path) -> None:
    predictor = Predictor(Bundle.open(whole_bundle), device="cpu", threads=1)
    points = {
        name: point.model_copy(update={"sets": SETS["midpoint"]}) for name, point in predictor.bundle.points.items()
    }
    predictor.models = predictor.models.__class__(
        points, {}, "midpoint", predictor.models.geometry, predictor.bundle.manifest.domains
    )
    probabilities = np.full((2, 10), 0.1)
    promises = Promises(0.9)
    for choice in ({"alpha": 0.3}, {"model": "endpoint-0", "domain": "inverted"}, {"alpha": 0.3, "domain": "inverted"}):
        promised = promises.of(predictor.select(**choice), probabilities)
        assert promised.sets is None
        assert "this answer is another" in (promised.set_reason or "")
    for choice in ({"alpha": 0.5}, {"domain": "inverted"}, {"model": "midpoint", "domain": "inverted"}, {}):
        assert promises.of(predictor.select(**choice), probabilities).sets is not None


@pytest.mark.parametrize("promise", ["coverage", "max_risk"])
def test_in_python_a_promise_is_checked_too(bundle, promise):
    selection = Predictor(Bundle.open(bundle), device="cpu", threads=1).select("endpoint-1")
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(SelectionError, match="between 0 and 1"):
            Promises(**{promise: share}).check(selection)


def test_the_client_passes_a_coverage_and_returns_sets(client, seen):
    wanted = [expected_set("endpoints", image, 0.9) for image in MANY]
    files = [png(image) for image in MANY]
    with Client(URL, transport=through(client, seen)) as asking:
        for images in (MANY, files, [*files[:20], *MANY[20:]]):
            answer = asking.predict(images, model="endpoints", coverage=np.float64(0.9), top_k=1)
            assert [[label.index for label in own.set or ()] for own in answer.predictions] == wanted
            assert answer.set_reason is None
            for own in answer.predictions:
                assert own.set is not None
                assert own.set[0].index == own.labels[0].index
                assert own.set[0].probability == pytest.approx(own.labels[0].probability, abs=1e-6)  # as float32
                assert own.set[0].label == LABELS[own.set[0].index]
            plain = asking.predict(images, model="endpoints", top_k=1)
            assert [own.set for own in plain.predictions] == [None] * len(MANY)
            assert plain.set_reason is None
        for images in (MANY, files):
            answer = asking.predict(images, model="leaning", coverage=0.9)
            assert [own.set for own in answer.predictions] == [None] * len(MANY)
            assert "the bundle keeps none" in (answer.set_reason or "")
            with pytest.raises(RequestRefused, match="takes 99 calibration images"):
                asking.predict(images, coverage=0.99)
    assert {"/v2/models/endpoints/infer", "/predict_image", "/predict"} <= set(asked(seen))


def test_the_asynchronous_client_does_too(client):
    async def ask() -> Any:
        async with AsyncClient(URL, transport=through(client)) as asking:
            return await asking.predict(MANY, model="endpoints", coverage=0.9, max_risk=0.05)

    answer = asyncio.run(ask())
    wanted = [expected_set("endpoints", image, 0.9) for image in MANY]
    assert [[label.index for label in own.set or ()] for own in answer.predictions] == wanted
    assert "keeps none" in (answer.abstained_reason or "")


@pytest.mark.parametrize("coverage", [0, 1, -1, float("nan")])
def test_the_client_refuses_what_is_no_coverage(coverage):
    with pytest.raises(ClientError, match="between 0 and 1"):
        Options(coverage=coverage)


def test_predict_prints_sets(bundle, tmp_path):
    files = []
    for index, image in enumerate(MANY[:5]):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
        files += ["--image", tmp_path / f"{index}.png"]
    output = invoke("predict", bundle, *files, "--coverage", 0.9, "--top-k", 1).stdout
    rows = [line.split(maxsplit=4) for line in output.splitlines()[2:]]
    wanted = [", ".join(LABELS[label] for label in expected_set("midpoint", image, 0.9)) for image in MANY[:5]]
    assert [row[4] for row in rows] == wanted
    document = json.loads(invoke("predict", bundle, *files, "--coverage", 0.9, "--json", "-").stdout)
    assert indices([entry["set"] for entry in document["predictions"]]) == [
        expected_set("midpoint", image, 0.9) for image in MANY[:5]
    ]
    result = invoke("predict", bundle, *files, "--coverage", 0.9, "--members", "midpoint,endpoint-0")
    assert "this answer is another" in result.stderr
    assert result.stdout.splitlines()[2].split()[-1] == "-"
    result = invoke("predict", bundle, *files, "--coverage", 0.99)
    assert result.exit_code == 1
    assert "takes 99 calibration images, and there are 19" in str(result.exception)
    assert invoke("predict", bundle, *files, "--coverage", 1).exit_code == 2
