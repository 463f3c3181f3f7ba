"""OpenTelemetry spans: one per request, with children for decoding, waiting and inference."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanProcessor
from opentelemetry.trace import SpanKind, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status, StatusCode

from service.record import Record
from service.settings import Settings, SettingsError
from subspace_serve import __version__

Headers = Sequence[tuple[bytes, bytes]]


class Tracing:
    """Makes the spans of a request after it has ended, from the times in its record, so as not to slow it down."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "subspace-serve"}))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("subspace_serve", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(
        self,
        name: str,
        attributes: Mapping[str, str | int],
        headers: Headers,
        record: Record,
        *,
        failed: bool,
    ) -> None:
        """Hand a request's spans to the processor; a traceparent header makes them part of the client's trace."""
        carrier: dict[str, list[str]] = {}
        for header, text in headers:
            carrier.setdefault(header.decode("latin-1"), []).append(text.decode("latin-1"))
        span = self._tracer.start_span(
            name,
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=record.arrival_ns,
            attributes={**attributes, "subspace_serve.request_id": record.request_id},
        )
        for known in ("model", "images", "members"):
            if (value := getattr(record, known)) is not None:
                span.set_attribute(f"subspace_serve.{known}", value)
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        parent = set_span_in_context(span)
        for phase, (begin, end) in record.phases.items():
            self._tracer.start_span(phase, context=parent, start_time=begin).end(end)
        span.end(time.time_ns())

    def close(self) -> None:
        """Send what has not been sent yet."""
        self._provider.shutdown()


def check_installed() -> None:
    """Raise `SettingsError` unless the packages of the extra `tracing` are installed."""
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:  # a package that it lies in
        found = None
    if found is None:
        raise SettingsError(
            "trace_endpoint needs opentelemetry-exporter-otlp-proto-http: pip install 'subspace-serve[tracing]'"
        )


def make_tracing(settings: Settings) -> Tracing | None:
    """Return a tracer that sends spans to the configured OTLP/HTTP address, or None without one.

    Raises `SettingsError` when the exporter's package is not installed.
    """
    if settings.trace_endpoint is None:
        return None
    check_installed()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Tracing(BatchSpanProcessor(OTLPSpanExporter(settings.trace_endpoint)))
