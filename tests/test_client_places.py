"""The client where a bundle holds its subspace: any place, places among members, domains, and what is known of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from client_transport import URL, asked, assert_close, through
from image_files import png
from service_client import at_place, served
from starlette.testclient import TestClient
from threaded_server import listening

from subspace_serve.client import AsyncClient, Catalogue, Client, Domain, RequestRefused, Subspace
from subspace_serve.client.inference import asked_model
from subspace_serve.client.wire import Options, file_request


@pytest.fixture(scope="module")
def service(whole_bundle: Path) -> Iterator[TestClient]:
    with served(whole_bundle) as own:
        yield own


@pytest.fixture
def client(service, seen) -> Iterator[Client]:
    with Client(URL, transport=through(service, seen), retries=0) as own:
        yield own


def files(images: np.ndarray) -> list[bytes]:
    return [png(image) for image in images]


@pytest.mark.parametrize(
    ("options", "who"),
    [
        ({"alpha": 0.3}, (None, (0.3,), None, 0.3, "training")),
        ({"alpha": np.float64(0.5)}, ("midpoint", ("midpoint",), None, 0.5, "training")),
        ({"alpha": 0.3, "domain": "inverted"}, (None, (0.3,), None, 0.3, "inverted")),
        ({"alpha": 0.3, "return_members": True}, (None, (0.3,), None, 0.3, "training")),
        ({"domain": "inverted"}, ("inverted", ("inverted",), None, 0.5, "inverted")),
        ({"domain": "inverted", "return_members": True}, ("inverted", ("inverted",), None, 0.5, "inverted")),
        ({"domain": "inverted", "model": "endpoint-1"}, ("endpoint-1", (1.0,), None, 1.0, "inverted")),
        (
            {"domain": "inverted", "model": "endpoints", "return_members": True},
            ("endpoints", (0.0, 1.0), "probabilities", None, "inverted"),
        ),
        ({"members": ["endpoint-0", 0.3]}, (None, ("endpoint-0", 0.3), "probabilities", None, "training")),
        ({"members": ["endpoint-1", 1e-5]}, (None, ("endpoint-1", "endpoint-0"), "probabilities", None, "training")),
        (
            {"members": ("inverted", 0.3), "weights": [1, 3], "aggregate": "logits", "return_members": True},
            (None, ("inverted", 0.3), "logits", None, None),
        ),
        ({"members": [0.3, 0.6], "domain": "inverted"}, (None, (0.3, 0.6), "probabilities", None, "inverted")),
        ({"model": "endpoint-0"}, ("endpoint-0", ("endpoint-0",), None, 0.0, "training")),
    ],
)
def test_arrays_files_and_both_together_have_the_same_answer(client, images, options, who):
    pixels = client.predict(images, **options)
    found = (pixels.model, pixels.members, pixels.aggregate, pixels.alpha, pixels.statistics)
    assert found == who
    pictures = files(images)
    for other in (client.predict(pictures, **options), client.predict([images[0], *pictures[1:]], **options)):
        for name in ("model", "members", "weights", "aggregate", "temperature", "alpha", "statistics"):
            assert getattr(other, name) == getattr(pixels, name), name
        for one, same in zip(pixels.predictions, other.predictions, strict=True):
            assert_close(one, same)
            assert [member.model for member in one.members] == [member.model for member in same.members]
            for member, again in zip(one.members, same.members, strict=True):
                assert_close(member, again)


def test_the_answers_have_the_right_numbers(client, whole_bundle, images):
    place = at_place(whole_bundle, images, 0.3)
    np.testing.assert_allclose(client.predict(images, alpha=0.3).probabilities, place, atol=1e-5)
    adapted = client.predict(images, alpha=0.3, domain="inverted")
    np.testing.assert_allclose(adapted.probabilities, at_place(whole_bundle, images, 0.3, "inverted"), atol=1e-5)
    alone = client.predict(images, domain="inverted")
    np.testing.assert_allclose(alone.probabilities, at_place(whole_bundle, images, 0.5, "inverted"), atol=1e-5)
    end = client.predict(images, model="endpoint-0").probabilities
    mixed = client.predict(images, members=["endpoint-0", 0.3], weights=[1, 3], top_k=10, return_members=True)
    np.testing.assert_allclose(mixed.probabilities, 0.25 * end + 0.75 * place, atol=1e-5)
    for row, prediction in enumerate(mixed.predictions):
        assert [member.model for member in prediction.members] == ["endpoint-0", 0.3]
        assert prediction.members[1].labels[0].index == place[row].argmax()


def test_what_travels_how(client, seen, images):
    client.predict(images, alpha=0.3)
    client.predict(images, domain="inverted")
    client.predict(images, model="endpoints", domain="inverted")
    client.predict(images, members=["endpoint-0", 0.3])
    client.predict(files(images), members=["endpoint-0", 0.3])
    assert asked(seen) == [
        "/models", "/v2/models/midpoint/infer", "/v2/models/inverted/infer", "/v2/models/endpoints/infer", "/predict",
        "/predict_image",
    ]  # fmt: skip
    length = int(seen[1].headers["Inference-Header-Content-Length"])
    assert json.loads(seen[1].content[:length])["parameters"] == {"alpha": "0.3"}
    length = int(seen[2].headers["Inference-Header-Content-Length"])
    assert json.loads(seen[2].content[:length])["parameters"] == {"domain": "inverted"}


@pytest.mark.parametrize(
    ("members", "path"),
    [
        (["a", 0.3], "/predict_image"),
        (np.array([0.2, 0.3]), "/predict_image"),
        (None, "/predict_image"),
        (["0.3", "a"], "/predict"),  # a point's name, which a form would take for a place
        (["nan"], "/predict"),
        ([(0.2, 0.8), "a"], "/predict"),  # a place whose numbers a form would take for members each
        ([np.array([0.2, 0.8])], "/predict"),
    ],
)
def test_files_go_as_json_where_a_form_would_be_misread(members, path):
    request = file_request([b"file"], Options(members=members))
    assert request.path == path
    if path == "/predict":
        sent = json.loads(request.body)["members"]
        assert sent == [list(member) if not isinstance(member, str) else member for member in members]


@pytest.mark.parametrize(
    "options",
    [
        {"members": []},
        {"alpha": []},
        {"model": "endpoints", "weights": []},
        {"alpha": [0.3]},
        {"members": ["endpoint-0,endpoint-1"]},
        {"members": [" endpoint-0"]},
    ],
)
def test_files_are_answered_as_arrays_are_where_a_form_cannot_say_it(client, images, options):
    request = file_request([b"file"], Options(**options))
    assert (request.path, json.loads(request.body) | options) == ("/predict", json.loads(request.body))
    answers = []
    for given in (images[:1], files(images[:1])):
        with pytest.raises(RequestRefused) as refusal:
            client.predict(given, **options)
        answers.append((refusal.value.status, refusal.value.reason))
    assert answers[0] == answers[1]


def test_a_form_has_one_field_for_a_list_of_any_length():
    places = [place / 100 for place in range(51)]
    body = file_request([b"file"], Options(members=["a", *places], weights=[1, *places])).body
    assert body.count(b"form-data") == 6
    assert b'name="members"\r\n\r\na,0.0,0.01,' in body


def test_both_clients_take_the_same(service, images):
    options: dict[str, Any] = {"members": ["endpoint-0", 0.3], "domain": "inverted"}

    async def ask() -> Any:
        async with AsyncClient(URL, transport=httpx.ASGITransport(service.app)) as own:
            place = await own.predict(images, alpha=0.3, domain="inverted")
            return place, await own.predict(images, **options), await own.models()

    place, mixed, catalogue = asyncio.run(ask())
    with Client(URL, transport=through(service)) as own:
        assert own.predict(images, **options).predictions == mixed.predictions
        assert own.predict(images, alpha=0.3, domain="inverted").predictions == place.predictions
        assert own.models() == catalogue
    assert (place.alpha, place.statistics, mixed.members) == (0.3, "inverted", (0.0, 0.3))


def test_what_there_is(client):
    catalogue = client.models()
    assert catalogue.subspace == Subspace("line", 2, "a number from 0 to 1", 0.01, ("training", "inverted"))
    assert catalogue.domains == {"inverted": Domain("inverted", "inverted", 0.5, 1.0)}
    assert {name: model.statistics for name, model in catalogue.models.items()} == {
        "midpoint": "training", "endpoint-0": "training", "endpoint-1": "training", "inverted": "inverted",
        "endpoints": None,
    }  # fmt: skip
    assert catalogue.point_of("inverted") == "inverted"
    assert catalogue.point_of("fog") is None


def test_places_of_a_simplex_are_tuples(service):
    document = service.get("/models").json()
    document["models"][0]["alpha"] = document["domains"][0]["alpha"] = [0.25, 0.75]
    document["models"][0]["statistics"] = "inverted"
    catalogue = Catalogue.from_json(document)
    assert catalogue.models["midpoint"].alpha == catalogue.domains["inverted"].alpha == (0.25, 0.75)
    assert catalogue.point_of("inverted") == "midpoint"


def test_a_domain_is_not_a_point_of_fewer_bits(service):
    document = service.get("/models").json()
    own = next(entry for entry in document["models"] if entry["name"] == "inverted")
    document["models"].insert(0, own | {"name": "inverted-int8", "precision": "int8", "float_point": "inverted"})
    catalogue = Catalogue.from_json(document)
    assert catalogue.point_of("inverted") == "inverted"
    reduced, whole = catalogue.models["inverted-int8"], catalogue.models["inverted"]
    assert (reduced.precision, reduced.float_point) == ("int8", "inverted")
    assert (whole.precision, whole.float_point) == ("float32", None)


def test_a_domain_without_a_point_that_answers_alike_is_asked_in_json(service, seen, images):
    """Its temperature is another than the point's: the protocol could ask for the point alone."""

    def handle(request: httpx.Request) -> httpx.Response:
        response = through(service, seen).handle_request(request)
        if request.url.path != "/models":
            return response
        document = json.loads(response.content)
        document["domains"][0]["temperature"] = 2.0
        return httpx.Response(200, json=document)

    with Client(URL, transport=httpx.MockTransport(handle)) as own:
        assert own.predict(images, domain="inverted").model == "inverted"
    assert asked(seen) == ["/models", "/predict"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"alpha": 1.2}, 400, "alpha 1.2 lies outside"),
        ({"alpha": [0.5, 0.5]}, 400, "alpha of a line is one number"),
        ({"domain": "fog"}, 404, "no domain 'fog' in this bundle: its domains are inverted"),
        ({"domain": "fog", "model": "midpoint"}, 404, "no domain 'fog'"),
        ({"domain": "fog", "alpha": 0.3}, 404, "no domain 'fog'"),
        ({"members": ["midpoint", 0.5]}, 400, "'midpoint' and 0.5 are the same network here"),
        ({"model": "endpoints", "members": ["endpoint-0", 0.3]}, 404, "endpoints has no member 0.3"),
    ],
)
def test_what_the_server_refuses(client, images, options, status, message):
    for same in (images, files(images)):
        with pytest.raises(RequestRefused) as caught:
            client.predict(same, **options)
        assert caught.value.status == status
        assert message in caught.value.reason


def without_places(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of GET /models as a server of an earlier version answers it."""
    models = [{name: entry[name] for name in entry if name != "statistics"} for entry in document["models"]]
    return {name: document[name] for name in document if name not in ("subspace", "domains")} | {"models": models}


NEW = ("alpha", "statistics")


def test_a_server_of_an_earlier_version_still_works(service, images):
    def handle(request: httpx.Request) -> httpx.Response:
        response = through(service).handle_request(request)
        if request.url.path == "/models":
            return httpx.Response(200, json=without_places(json.loads(response.content)))
        if request.url.path.startswith("/predict"):
            document = json.loads(response.content)
            return httpx.Response(200, json={name: document[name] for name in document if name not in NEW})
        length = int(response.headers["inference-header-content-length"])
        document = json.loads(response.content[:length])
        document["parameters"] = {name: value for name, value in document["parameters"].items() if name not in NEW}
        text = json.dumps(document).encode()
        content = text + response.content[length:]
        return httpx.Response(200, headers={"inference-header-content-length": str(len(text))}, content=content)

    with Client(URL, transport=httpx.MockTransport(handle)) as own:
        catalogue = own.models()
        assert (catalogue.subspace, catalogue.domains) == (None, {})
        assert catalogue.models["inverted"].statistics is None
        for answer in (own.predict(images, alpha=0.5), own.predict(files(images), alpha=0.5)):
            assert (answer.model, answer.alpha, answer.statistics) == ("midpoint", None, None)


def test_places_and_domains_of_another_bundle_are_noticed(service, line_bundle, seen, images):
    """The client's list is of a bundle without a subspace, then of one that has it, and the other way about."""
    with served(line_bundle) as plain:
        current = [plain]
        transport = httpx.MockTransport(lambda request: through(current[0], seen).handle_request(request))
        with Client(URL, transport=transport, retries=0) as own:
            with pytest.raises(RequestRefused, match="no point was exported at alpha 0.3"):
                own.predict(images, alpha=0.3)
            current[0] = service
            assert own.predict(images, alpha=0.3).members == (0.3,)
            # Not in the list yet, so the server is asked in words that need no list.
            assert own.predict(images, domain="inverted").model == "inverted"
            assert asked(seen)[-1] == "/predict"
            assert own.models().domains.keys() == {"inverted"}
            assert own.predict(images, domain="inverted").model == "inverted"
            assert asked(seen)[-1] == "/v2/models/inverted/infer"
            current[0] = plain
            with pytest.raises(RequestRefused, match="no domain 'inverted' in this bundle"):
                own.predict(images, domain="inverted")
            assert own.predict(images, alpha=0.5).model == "midpoint"


def test_the_default_in_the_path_is_looked_up_anew_when_it_is_gone(service, line_bundle, seen, images):
    """A place needs some model in the path; the one that was the default is not served any more."""
    with served(line_bundle, models=("endpoint-0",), default="endpoint-0") as other:
        current = [service]
        transport = httpx.MockTransport(lambda request: through(current[0], seen).handle_request(request))
        with Client(URL, transport=transport, retries=0) as own:
            assert own.predict(images, alpha=0.3).alpha == 0.3
            current[0] = other
            assert own.predict(images, alpha=0.0).model == "endpoint-0"
    paths = [f"/v2/models/{name}/infer" for name in ("midpoint", "midpoint", "endpoint-0")]
    assert asked(seen) == ["/models", paths[0], paths[1], "/models", paths[2]]


def test_the_path_of_a_place_is_the_default_even_if_that_is_an_ensemble(service):
    catalogue = Catalogue.from_json(service.get("/models").json() | {"default": "endpoints"})
    assert asked_model(Options(alpha=0.3), catalogue) == ("endpoints", False)
    assert asked_model(Options(), catalogue) == ("endpoints", True)
    assert asked_model(Options(domain="inverted"), catalogue) == ("inverted", False)
    assert asked_model(Options(domain="fog"), catalogue) is None
    assert asked_model(Options(members=["endpoint-0", 0.3]), catalogue) is None


def test_the_documentation_runs(service, capsys):
    text = (Path(__file__).parent.parent / "docs" / "client.md").read_text()
    (block,) = [block.split("```")[0] for block in text.split("```python")[1:] if "served.subspace" in block]
    with listening(service.app) as address:
        exec(compile(block.replace("http://127.0.0.1:3000", address), "docs/client.md", "exec"), {})
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("Subspace(geometry='line'")
    assert rest == ["(0.3,)", "(0.25, 0.75)", "inverted"]
