"""Requests with something wrong, each kind with the statuses that may answer it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from image_files import png

from stress.bundles import sound_images
from stress.cases import CLOSED, Case, refused
from stress.hostile_images import broken_files, large_files
from stress.wire import chunked, document, form, request

_IMAGE = sound_images(1)[0]
_PIXELS = _IMAGE.tolist()
_PNG = png(_IMAGE)
_TENSOR = {"name": "image", "datatype": "UINT8", "shape": [1, 4, 5, 3]}
_DATA = _IMAGE.ravel().tolist()
_INFER = "/v2/models/pair/infer"


def malformed_cases() -> list[Case]:
    """Return every kind once."""
    return [*_documents(), *_options(), *_files(), *_forms(), *_tensors(), *_addresses()]


def _documents() -> Iterator[Case]:
    """Bodies of /predict that are no documents, or hold no images."""

    def body(name: str, text: bytes) -> Case:
        return refused(f"JSON: {name}", request("/predict", text))

    good = json.dumps(_PIXELS)
    yield body("nothing", b"")
    yield body("cut short", b'{"images": [[[[1, 2')
    yield body("a list", b"[]")
    yield body("null", b"null")
    yield body("NaN", f'{{"images": [{good.replace(str(_DATA[0]), "NaN", 1)}]}}'.encode())
    yield body("Infinity", f'{{"images": [{good}], "model": "pair", "weights": [Infinity, 1]}}'.encode())
    yield body("deep", b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    yield body("deep objects", b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield body("a huge number", b'{"images": [[[[' + b"9" * 5000 + b"]]]]}")
    yield body("a large number", b'{"images": [[[[' + b"9" * 400 + b"]]]]}")
    yield body("a huge exponent", b'{"images": [[[[1e999]]]]}')
    yield body("not UTF-8", b'{"images": ["\xff\xfe"]}')
    yield body("half a surrogate", b'{"images": ["\\ud800"]}')
    yield body("a null byte", b'{"images": ["\x00"]}')
    yield body("two documents", b'{"images": []}{"images": []}')
    yield body("a field twice, the last one wrong", f'{{"images": [{good}], "images": 3}}'.encode())
    for name, images in {
        "no images": [], "a number": 3, "a wrong rank": _DATA, "a wrong size": [[[[1, 2, 3]]]],
        "another layout": [_IMAGE.transpose(2, 0, 1).tolist()], "ragged": [[[[1, 2, 3], [4]]]], "null": [None],
        "booleans": [np.ones((4, 5, 3), bool).tolist()], "fractions": [(_IMAGE / 255).tolist()],
        "too bright": [(_IMAGE.astype(int) + 256).tolist()], "negative": [(-_IMAGE.astype(int) - 1).tolist()],
        "texts": [[[["1", "2", "3"]]]], "an address": ["http://127.0.0.1/image.png"],
        "a data address": ["data:image/png;base64," + base64.b64encode(_PNG).decode()],
        "no base64": ["!" * 100], "an object": [{"path": "/etc/passwd"}], "too many": [_PIXELS] * 65,
        "one of three wrong": [_PIXELS, [[[1]]], _PIXELS], "one as a text": [_PIXELS, "AAAA"],
    }.items():  # fmt: skip
        yield refused(f"images: {name}", document("/predict", {"images": images}))
    for name, content_type in {"none": None, "a form": "application/x-www-form-urlencoded", "odd": "\xff/\xfe"}.items():
        yield refused(f"content type: {name}", request("/predict", b"{}", content_type), 415)
    yield refused("encoding: gzip", document("/predict", {"images": [_PIXELS]}, **{"content-encoding": "gzip"}), 415)
    yield refused("body: over the limit", request("/predict", b" " * (16 * 1024 * 1024 + 1)), {413, CLOSED})
    yield refused("body: chunks over the limit", chunked("/predict", *[b" " * 1_000_000] * 18), {413, CLOSED})


def _options() -> Iterator[Case]:
    """Choices that do not fit."""
    for name, (status, options) in {
        "an unknown model": (404, {"model": "nobody"}),
        "a long name": (404, {"model": "n" * 100_000}),
        "a name with a null byte": (404, {"model": "first\0"}),
        "a path": (404, {"model": "../../etc/passwd"}),
        "a model that is a list": (400, {"model": ["first"]}),
        "an unknown member": (404, {"members": ["nobody"]}),
        "a member of another": (404, {"model": "pair", "members": ["third"]}),
        "an ensemble as a member": (404, {"members": ["pair"]}),
        "a member twice": (400, {"members": ["first", "first"]}),
        "no members": (400, {"members": []}),
        "members of a point": (400, {"model": "first", "members": ["first"]}),
        "an unknown field": (400, {"modle": "first"}),
        "a negative weight": (400, {"model": "pair", "weights": [-1, 2]}),
        "weights of nothing": (400, {"model": "pair", "weights": [0, 0]}),
        "too few weights": (400, {"model": "pair", "weights": [1]}),
        "weights beyond all": (400, {"model": "pair", "weights": [1e308, 1e308]}),
        "a weight of 400 digits": (400, {"model": "pair", "weights": [10**400, 1]}),
        "weights as texts": (400, {"model": "pair", "weights": ["1", "2"]}),
        "an unknown aggregate": (400, {"model": "pair", "aggregate": "median"}),
        "alpha and a model": (400, {"model": "first", "alpha": 0.5}),
        "an unknown alpha": (404, {"alpha": 0.123}),
        "an alpha of 400 digits": (400, {"alpha": 10**400}),
        "an alpha in many dimensions": (404, {"alpha": [0.5] * 1000}),
        "a top_k of nothing": (400, {"top_k": 0}),
        "a top_k as a text": (400, {"top_k": "5"}),
        "a return_members as a number": (400, {"return_members": 1}),
    }.items():
        yield refused(f"option: {name}", document("/predict", {"images": [_PIXELS]} | options), status)


def _files() -> Iterator[Case]:
    """Image files to both endpoints in turn."""
    for statuses, files in ((400, broken_files()), (413, large_files())):
        for index, (name, file) in enumerate(files.items()):
            if index % 2:
                data = document("/predict", {"images": [base64.b64encode(file).decode()]})
            else:
                data = request("/predict_image", *form(("images", "image", file)))
            yield refused(f"file: {name}", data, statuses)
    unfit = {"images": [base64.b64encode(png(np.zeros((9, 9, 3), np.uint8))).decode()], "resize": False}
    yield refused("file: another size, not to be resized", document("/predict", unfit))


def _forms() -> Iterator[Case]:
    """Forms that are none, or have fields that do not fit."""
    image = ("images", "image.png", _PNG)
    for name, parts in {
        "no image": [("model", None, b"first")], "a text as image": [("images", None, b"text")],
        "a file as model": [image, ("model", "model.txt", b"first")],
        "two models": [image, ("model", None, b"first"), ("model", None, b"second")],
        "an unknown field": [image, ("modle", None, b"first")],
        "weights of letters": [image, ("weights", None, b"a,b")],
        "weights of NaN": [image, ("model", None, b"pair"), ("weights", None, b"nan,1")],
        "too many files": [image] * 65, "too many fields": [image, *[("x", None, b"")] * 200],
        "a long field": [image, ("model", None, b"n" * 100_000)], "top_k of letters": [image, ("top_k", None, b"five")],
    }.items():  # fmt: skip
        yield refused(f"form: {name}", request("/predict_image", *form(*parts)))
    body, content_type = form(image)
    odd = {
        "no boundary": (body, "multipart/form-data"), "another boundary": (body, "multipart/form-data; boundary=other"),
        "a boundary of one character, not closed": (b"--x\r\n", "multipart/form-data; boundary=x"),
        "no name": (body.replace(b'name="images"', b'x="y"'), content_type),
        "no head": (b"--limit\r\n\r\n\r\n--limit--\r\n", content_type),
        "a long head": (body.replace(b"form-data;", b"form-data; x=" + b"y" * 200_000 + b";", 1), content_type),
        "many heads": (body.replace(b"\r\n\r\n", b"\r\n" + b"a: b\r\n" * 50_000 + b"\r\n", 1), content_type),
        "cut short": (body[: len(body) // 2], content_type),
        "nothing": (b"", content_type),
        "a form within": (form(("images", "inner", body))[0], content_type),
    }  # fmt: skip
    for name, (content, kind) in odd.items():
        yield refused(f"form: {name}", request("/predict_image", content, kind))
    yield refused("form: JSON", document("/predict_image", {"images": [_PIXELS]}), 415)
    yield refused("form: nested kind", request("/predict_image", body, "multipart/mixed; boundary=limit"), 415)


def _tensors() -> Iterator[Case]:
    """Requests of the Open Inference Protocol."""

    def infer(name: str, status: int = 400, path: str = _INFER, **changes: Any) -> Case:
        fields = {"inputs": [_TENSOR | {"data": _DATA} | changes.pop("tensor", {})]} | changes
        return refused(f"infer: {name}", document(path, fields), status)

    yield infer("an unknown model", 404, "/v2/models/nobody/infer")
    yield infer("an unknown version", 404, "/v2/models/pair/versions/2/infer")
    yield infer("no inputs", inputs=[])
    yield infer("two inputs", inputs=[_TENSOR | {"data": _DATA}] * 2)
    yield infer("an unknown input", tensor={"name": "picture"})
    yield infer("another datatype", tensor={"datatype": "FP32"})
    yield infer("a wrong shape", tensor={"shape": [1, 3, 4, 5]})
    yield infer("a shape of nothing", tensor={"shape": [0, 4, 5, 3]})
    yield infer("a huge shape", tensor={"shape": [2**62, 4, 5, 3]})
    yield infer("a shape beyond all", tensor={"shape": [10**400, 4, 5, 3]})
    yield infer("a negative shape", tensor={"shape": [-1, 4, 5, 3]})
    yield infer("too little data", tensor={"data": _DATA[:-1]})
    yield infer("data in another nesting", tensor={"data": _IMAGE.transpose(2, 0, 1).tolist()})
    yield infer("booleans", tensor={"data": [True] * 60})
    yield infer("texts", tensor={"data": ["1"] * 60})
    yield infer("large numbers", tensor={"data": [10**30] * 60})
    yield infer("shared memory", tensor={"parameters": {"shared_memory_region": "x"}, "data": None})
    yield infer("an unknown output", outputs=[{"name": "nothing"}])
    yield infer("an output twice", outputs=[{"name": "entropy"}] * 2)
    yield infer("an output of ensembles", path="/v2/models/first/infer", outputs=[{"name": "disagreement"}])
    yield infer("classes of nothing", outputs=[{"name": "logits", "parameters": {"classification": 0}}])
    yield infer("an unknown parameter", parameters={"sequence_id": 3})
    yield infer("a timeout of nothing", parameters={"timeout": 0})
    yield infer("a timeout of 400 digits", parameters={"timeout": 10**400})
    yield infer("members that are no JSON", parameters={"members": "first"})
    yield infer("weights of NaN", parameters={"weights": "[NaN, 1]"})
    yield infer("deep weights", parameters={"weights": "[" * 100_000})
    yield infer("weights of 400 digits", parameters={"weights": f"[{10**400}, 1]"})
    yield infer("an alpha of 400 digits", parameters={"alpha": 10**400})
    yield infer("an alpha of 400 digits in a text", parameters={"alpha": str(10**400)})
    yield infer("an alpha list of 400 digits", parameters={"alpha": f"[{10**400}]"})
    yield from _binary_tensors()


def _binary_tensors() -> Iterator[Case]:
    for name, (size, length, data) in {
        "a size that lies": (61, None, _IMAGE.tobytes()),
        "too few bytes": (60, None, _IMAGE.tobytes()[:-1]),
        "too many bytes": (60, None, _IMAGE.tobytes() + b"x"),
        "a negative size": (-60, None, _IMAGE.tobytes()),
        "a size that is true": (True, None, b"x"),
        "a length beyond the body": (60, "999999", _IMAGE.tobytes()),
        "a length of letters": (60, "ten", _IMAGE.tobytes()),
        "a negative length": (60, "-1", _IMAGE.tobytes()),
        "a length of 5000 digits": (60, "9" * 5000, _IMAGE.tobytes()),
        "a length in other digits": (60, "\xb2\xb3", _IMAGE.tobytes()),
        "a length within the JSON": (60, "20", _IMAGE.tobytes()),
    }.items():
        text = json.dumps({"inputs": [_TENSOR | {"parameters": {"binary_data_size": size}}]}).encode()
        headers = {"inference-header-content-length": length if length is not None else str(len(text))}
        kind = "application/octet-stream"
        yield refused(f"binary: {name}", request(_INFER, text + data, kind, headers=headers))


def _addresses() -> Iterator[Case]:
    """Paths and methods that are not there."""
    for path in (
        "/predict/", "//predict", "/predict/../predict", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/%ff%fe",
        "/%ED%A0%80", "/" + "a" * 30_000, "/v2/models//infer", "/v2/models/%2F/infer", "/v2/models/a%0d%0ab/infer",
    ):  # fmt: skip
        yield refused(f"path: {path[:40]}", document(path, {"images": [_PIXELS]}), 404)
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"):
        yield refused(f"method: {method} /predict", request("/predict", method=method), 405)
    for path in ("/metrics", "/"):
        yield refused(f"method: POST {path}", document(path, {}), 405)
    yield refused("a query", document("/predict?model=pair", {"images": [_PIXELS]}))
    yield refused("reload without a token", document("/admin/reload", {}), 403)
