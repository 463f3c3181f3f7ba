"""Trace spans of requests, and where they are sent."""

from __future__ import annotations

import sys

import pytest
from bundle_factory import make_bundle
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from service_client import GOOD, served

from service.settings import Settings, SettingsError
from service.tracing import Tracing, make_tracing
from subspace_serve.cli.serving import _check_usable


def test_a_request_is_a_span_with_its_parts(tmp_path):
    exporter = InMemorySpanExporter()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with served(make_bundle(tmp_path / "bundle"), tracing=Tracing(SimpleSpanProcessor(exporter))) as client:
        body = {"images": [GOOD], "model": "endpoints"}
        client.post("/predict", json=body, headers={"traceparent": parent, "x-request-id": "a1"})
        client.get("/readyz")
        client.get("/nothing")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"POST /predict", "decode", "queue", "inference", "GET unknown"}
    request = spans["POST /predict"]
    assert request.kind == SpanKind.SERVER
    assert f"{request.context.trace_id:032x}" in parent
    assert f"{request.parent.span_id:016x}" in parent
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "subspace_serve.request_id": "a1",
        "subspace_serve.model": "endpoints",
        "subspace_serve.images": 1,
        "subspace_serve.members": 2,
    }
    for name in ("decode", "queue", "inference"):
        assert spans[name].parent.span_id == request.context.span_id
        assert request.start_time <= spans[name].start_time <= spans[name].end_time <= request.end_time
    assert spans["decode"].end_time <= spans["queue"].end_time <= spans["inference"].end_time
    assert spans["GET unknown"].context.trace_id != request.context.trace_id
    assert spans["GET unknown"].status.status_code == StatusCode.UNSET


def test_without_an_endpoint_there_is_no_tracing():
    assert make_tracing(Settings()) is None


@pytest.mark.parametrize("missing", ["opentelemetry.exporter.otlp", "opentelemetry.exporter.otlp.proto.http"])
def test_an_endpoint_without_the_exporter_is_refused_before_the_server_starts(monkeypatch, missing):
    monkeypatch.delitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SettingsError, match=r"trace_endpoint needs .* pip install 'subspace-serve\[tracing\]'"):
        _check_usable(Settings(trace_endpoint="http://127.0.0.1:9/v1/traces"))


def test_spans_are_sent_by_otlp():
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    tracing = make_tracing(Settings(trace_endpoint="http://127.0.0.1:9/v1/traces"))
    processor = tracing._provider._active_span_processor._span_processors[0]
    assert isinstance(processor.span_exporter, exporter.OTLPSpanExporter)
    assert processor.span_exporter._endpoint == "http://127.0.0.1:9/v1/traces"
    tracing.close()
