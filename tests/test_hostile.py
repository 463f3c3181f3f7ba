"""Requests that are made to hurt are refused, quickly and in little room."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from image_files import png
from service_client import GOOD, IMAGES, JSON, served
from starlette.testclient import TestClient

INFER = "/v2/models/midpoint/infer"
FLAT = IMAGES[0].ravel().tolist()
GREAT = "9" * 400
MANY = 400_000


@pytest.fixture(scope="module")
def client(bundle) -> Iterator[TestClient]:
    with served(bundle, access_log=False) as client:
        yield client


def _predict(field: str) -> str:
    return f'{{"images": [{json.dumps(GOOD)}], {field}}}'


def _infer(parameters: str = "{}", data: str = json.dumps(FLAT), more: str = "") -> str:
    tensor = f'{{"name": "image", "datatype": "UINT8", "shape": [1, 4, 5, 3], "data": {data}}}'
    return f'{{"inputs": [{tensor}], "parameters": {parameters}{more}}}'


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/predict", _predict(f'"members": [{"1," * MANY}1]')),
        ("/predict", _predict(f'"weights": [{"null," * MANY}1]')),
        ("/predict", _predict(f'"alpha": [{"null," * MANY}1]')),
        ("/predict", f'{{"images": [[{"1," * MANY}1]]}}'),
        ("/predict", f'{{"images": [[[[{"256," * MANY}1]]]]}}'),
        ("/predict", f'{{"images": [["{"a" * 5000}"{",1" * MANY}]]}}'),
        (INFER, f'{{"inputs": [{"1," * MANY}1]}}'),
        (INFER, _infer(more=f', "outputs": [{"1," * MANY}1]')),
        (INFER, _infer(f'{{"members": "[{"1," * MANY}1]"}}')),
        (INFER, _infer("{" + ",".join(f'"{index}": []' for index in range(MANY)) + "}")),
        (INFER, _infer(data=f'["{"a" * 5000}"{",1" * MANY}]')),
    ],
    ids=["members", "weights", "alpha", "rows", "pixels", "text", "inputs", "outputs", "names", "parameters", "data"],
)  # fmt: skip
def test_many_wrong_entries_are_not_complained_of_one_by_one(client, route, body):
    """Each complaint costs time with the interpreter's lock held: a million of them stop a worker for a minute."""
    answer = client.post(route, content=body, headers=JSON)
    assert answer.status_code == 400
    assert len(answer.content) < 1000
    others = re.search(r"and (\d+) more", answer.json()["error"])
    assert others is None or int(others[1]) <= 1000


@pytest.mark.parametrize(
    "parameters",
    [
        f'{{"timeout": {GREAT}}}',
        f'{{"alpha": "{GREAT}"}}',
        f'{{"alpha": "[{GREAT}]"}}',
        f'{{"alpha": "{"9" * 5000}"}}',
        '{"alpha": "null"}',
        '{"binary_data_output": "yes"}',
        '{"members": "null"}',
    ],
)
def test_parameters_out_of_range_are_400(client, parameters):
    assert client.post(INFER, content=_infer(parameters), headers=JSON).status_code == 400


@pytest.mark.parametrize("charset", ["undefined", "punycode", "unicode_escape", "utf-7", "utf-16", "hex", "none", ""])
def test_other_charsets_of_forms_are_refused(client, charset):
    """Python decodes some of them in a time that is quadratic in the length, and that on the event loop."""
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    body = part.format("images", '; filename="a.png"').encode() + png(IMAGES[0]) + b"\r\n"
    body += part.format("\\ud800", "").encode() + b"\\ud800 x\r\n--b--\r\n"
    headers = {"content-type": f"multipart/form-data; boundary=b; charset={charset}"}
    answer = client.post("/predict_image", content=body, headers=headers)
    assert answer.status_code == 415
    assert answer.json()["error"] == f"got a form in the charset {charset!r}; send it in utf-8"


@pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"', "utf8"])
def test_forms_may_say_that_they_are_utf_8(client, charset):
    body = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + png(IMAGES[0])
    headers = {"content-type": f"multipart/form-data; boundary=b; charset={charset}"}
    assert client.post("/predict_image", content=body + b"\r\n--b--\r\n", headers=headers).status_code == 200


@pytest.mark.parametrize("parameters", ['{"color": 1}', '{"binary_data_size": 60}'])
def test_parameters_of_a_tensor_that_have_no_effect_are_400(client, parameters):
    body = _infer().replace('"shape"', f'"parameters": {parameters}, "shape"')
    assert client.post(INFER, content=body, headers=JSON).status_code == 400
