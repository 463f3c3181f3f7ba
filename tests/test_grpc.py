"""The Open Inference Protocol over gRPC: Triton's own client, calls that fail, and a server's life."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import LABELS, make_bundle, random_images
from grpc_service import Served, infer_request, refused, served
from ports import free_port
from service_client import IMAGES, expected, held_up, until
from stress.server import serving
from threaded_server import certificate

from service.job import Job
from service.scheduler import Scheduler
from service.settings import SettingsError, load_settings
from service.tracing import Tracing
from subspace_serve.bundle.prediction_sets import Sets

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")

from google.protobuf.descriptor_pool import DescriptorPool  # noqa: E402
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # noqa: E402
    ProtoReflectionDescriptorDatabase,
)

from service.grpc.messages import REQUESTS, RESPONSES, SERVICE  # noqa: E402

HEALTH = health_pb2.HealthCheckResponse
SETS = Sets(method="lac", data="x", count=19, seed=0, scores=tuple(np.linspace(0.05, 0.95, 19)))
OUTPUTS = ["probabilities", "logits", "entropy"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("grpc") / "bundle"
    return make_bundle(folder, promises={"endpoints": {"sets": SETS}, "midpoint": {"sets": SETS}})


@pytest.fixture(scope="module")
def service(bundle) -> Iterator[Served]:
    with served(bundle, max_images=8, max_body=100_000) as own:
        yield own


@pytest.fixture(scope="module")
def client(service) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.address) as own:
        yield own


def tensor(images: np.ndarray, name: str = "image") -> triton.InferInput:
    result = triton.InferInput(name, list(images.shape), "UINT8" if images.dtype == np.uint8 else "FP32")
    result.set_data_from_numpy(images)
    return result


def over_http(service: Served, model: str, images: np.ndarray, names: list[str], **parameters: Any) -> Any:
    """Return the parameters and the outputs' bytes of the same request over HTTP."""
    document = {
        "inputs": [{"name": "image", "shape": images.shape, "datatype": "UINT8",
                    "parameters": {"binary_data_size": images.nbytes}}],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in names],
        "parameters": parameters,
    }  # fmt: skip
    head = json.dumps(document).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = service.http.post(f"/v2/models/{model}/infer", content=head + images.tobytes(), headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    return json.loads(answer.content[:length])["parameters"], answer.content[length:]


def assert_equal_to_http(
    service: Served,
    client: triton.InferenceServerClient,
    model: str,
    images: np.ndarray,
    names: list[str],
    **parameters: Any,
) -> triton.InferResult:
    asked = [triton.InferRequestedOutput(name) for name in names]
    found = client.infer(model, [tensor(images)], outputs=asked, parameters=parameters)
    answered, data = over_http(service, model, images, names, **parameters)
    response = found.get_response()
    assert b"".join(response.raw_output_contents) == data
    own = {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in response.parameters.items()}
    assert own == answered
    return found


def test_points_and_ensembles_answer_as_over_http(service, client):
    point = assert_equal_to_http(service, client, "endpoint-1", IMAGES, OUTPUTS)
    np.testing.assert_allclose(point.as_numpy("probabilities"), expected("endpoint-1"), atol=1e-6)
    names = ["probabilities", "disagreement", "mutual_information", "member_probabilities"]
    pair = assert_equal_to_http(service, client, "endpoints", IMAGES, names)
    assert pair.as_numpy("member_probabilities").shape == (3, 2, len(LABELS))
    chosen = {"members": '["midpoint", "endpoint-0"]', "weights": "[1, 3]", "aggregate": "logits"}
    with pytest.raises(triton.InferenceServerException, match=r"NOT_FOUND\] endpoints has no member"):
        client.infer("endpoints", [tensor(IMAGES)], parameters=chosen)
    leaning = {"weights": "[3, 1]", "aggregate": "logits"}
    assert_equal_to_http(service, client, "endpoints", IMAGES, OUTPUTS, **leaning)


def test_the_usual_outputs_the_id_and_a_version(client):
    answer = client.infer("leaning", [tensor(IMAGES)], request_id="seven", model_version="1").get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("leaning", "1", "seven")
    names = [output.name for output in answer.outputs]
    assert names == ["probabilities", "entropy", "mutual_information", "disagreement"]
    assert [list(output.shape) for output in answer.outputs] == [[3, 4], [3], [3], [3]]


def test_classification(client):
    asked = [triton.InferRequestedOutput("probabilities", class_count=2)]
    found = client.infer("midpoint", [tensor(IMAGES)], outputs=asked).as_numpy("probabilities")
    value, index, label = found[0, 0].decode().split(":")
    best = int(expected("midpoint")[0].argmax())
    assert (found.shape, int(index), label) == ((3, 2), best, LABELS[best])
    assert float(value) == pytest.approx(expected("midpoint")[0, best], abs=1e-5)


@pytest.mark.parametrize("choice", ["string_param", "double_param"])
def test_places_and_domains(choice, whole_bundle, images):
    with served(whole_bundle) as own, triton.InferenceServerClient(own.address) as client:
        for parameters in ({"alpha": "0.3"}, {"alpha": "0.3", "domain": "inverted"}, {"domain": "inverted"}):
            assert_equal_to_http(own, client, "midpoint", images, OUTPUTS, **parameters)
        request = infer_request(images, model="midpoint")
        setattr(request.parameters["alpha"], choice, "0.3" if choice == "string_param" else 0.3)
        answer = RESPONSES["ModelInfer"].FromString(own.call("ModelInfer", request.SerializeToString()))
        assert answer.parameters["alpha"].string_param == "0.3"


def test_coverage_and_max_risk(service, client):
    found = assert_equal_to_http(service, client, "endpoints", IMAGES, OUTPUTS, coverage="0.8", max_risk="0.1")
    parameters = found.get_response().parameters
    sets = json.loads(parameters["sets"].string_param)
    assert [{label["label"] for label in own} <= set(LABELS) and bool(own) for own in sets] == [True] * 3
    assert parameters["abstained"].string_param == "null"
    assert parameters["abstained_reason"].string_param


def test_typed_contents_are_raw_ones(service):
    request = infer_request()
    request.ClearField("raw_input_contents")
    request.inputs[0].contents.uint_contents.extend(IMAGES.ravel().tolist())
    typed = service.call("ModelInfer", request.SerializeToString())
    assert typed == service.call("ModelInfer", infer_request().SerializeToString())


def test_float_images(tmp_path):
    images = random_images(2, dtype="float32")
    with served(make_bundle(tmp_path / "bundle", dtype="float32")) as own:
        request = infer_request(images)
        request.inputs[0].datatype = "FP32"
        raw = own.call("ModelInfer", request.SerializeToString())
        request.ClearField("raw_input_contents")
        contents = request.inputs[0].contents.fp32_contents
        contents.extend(images.ravel().tolist())
        assert own.call("ModelInfer", request.SerializeToString()) == raw
        answer = RESPONSES["ModelInfer"].FromString(raw)
        found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(2, -1)
        np.testing.assert_allclose(found, expected("midpoint", images), atol=1e-6)
        contents[7] = float("nan")
        code, message, _ = refused(lambda: own.call("ModelInfer", request.SerializeToString()))
        assert (code, "must be numbers from 0 to 1" in message) == ("INVALID_ARGUMENT", True)
        images[1, 0, 0, 0] = np.nan
        request = infer_request(images)
        request.inputs[0].datatype = "FP32"
        code, message, _ = refused(lambda: own.call("ModelInfer", request.SerializeToString()))
        assert (code, message) == ("INVALID_ARGUMENT", "image must hold numbers from 0 to 1")


def test_metadata_health_and_what_is_not_served(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("endpoints", "1")
    assert client.get_server_metadata().extensions == ["classification", "parameters"]
    metadata = client.get_model_metadata("endpoints")
    assert (metadata.inputs[0].name, metadata.inputs[0].datatype) == ("image", "UINT8")
    shapes = {output.name: list(output.shape) for output in metadata.outputs}
    assert shapes["member_probabilities"] == [-1, 2, 4]
    for ask in (client.is_model_ready, client.get_model_metadata):
        with pytest.raises(triton.InferenceServerException, match=r"NOT_FOUND\] there is no model 'nobody'"):
            ask("nobody")
    with pytest.raises(triton.InferenceServerException, match="NOT_FOUND.*has no version '3'"):
        client.infer("midpoint", [tensor(IMAGES)], model_version="3")
    for ask in (lambda: client.get_model_config("midpoint"), client.get_model_repository_index):
        with pytest.raises(triton.InferenceServerException, match=r"UNIMPLEMENTED\] there is no method"):
            ask()
    with pytest.raises(triton.InferenceServerException, match="UNIMPLEMENTED"):
        client.infer("midpoint", [tensor(IMAGES)], compression_algorithm="gzip")


def test_reflection_has_the_protocol(service):
    with grpc.insecure_channel(service.address) as channel:
        found = ProtoReflectionDescriptorDatabase(channel)
        assert set(found.get_services()) == {
            SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"
        }  # fmt: skip
        methods = DescriptorPool(found).FindServiceByName(SERVICE).methods
    assert [method.name for method in methods] == [
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"
    ]  # fmt: skip


def test_the_compiled_messages_are_current_and_the_protocols_own(tmp_path):
    protoc = pytest.importorskip("grpc_tools.protoc")
    folder = Path(__file__).parent.parent / "service" / "grpc"
    out = tmp_path / "found.binpb"
    assert protoc.main(["", f"-I{folder}", f"--descriptor_set_out={out}", "open_inference.proto"]) == 0
    assert out.read_bytes() == (folder / "open_inference.binpb").read_bytes()
    theirs = triton.service_pb2.DESCRIPTOR.pool

    def fields(descriptor: Any) -> set[tuple[int, str, int]]:
        return {(field.number, field.name, field.type) for field in descriptor.fields}

    for descriptor in [kind.DESCRIPTOR for kind in (*REQUESTS.values(), *RESPONSES.values())]:
        for own in (descriptor, *descriptor.nested_types):
            extra = {(6, "properties", 11)} if own.name == "ModelMetadataResponse" else set()
            if own.name != "PropertiesEntry":  # the protocol's, which Triton lacks
                assert fields(own) - extra == fields(theirs.FindMessageTypeByName(own.full_name))


def changed(**values: Any) -> bytes:
    """Return a good request with some of the tensor's fields, or of its own, set to others."""
    request = infer_request()
    for name, value in values.items():
        target = request.inputs[0] if name in ("name", "datatype", "shape") else request
        if isinstance(value, list):
            getattr(target, name)[:] = value
        else:
            setattr(target, name, value)
    return request.SerializeToString()


def with_parameter(name: str, **value: Any) -> bytes:
    request = infer_request()
    request.parameters[name].CopyFrom(type(request.parameters[name])(**value))
    return request.SerializeToString()


def twice_given() -> bytes:
    request = infer_request()
    request.inputs[0].contents.uint_contents.append(1)
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (b"\xff\xff", "INVALID_ARGUMENT", "got 2 bytes that are no message inference.ModelInferRequest"),
        (b"", "INVALID_ARGUMENT", "inputs: List should have at least 1 item"),
        (changed(shape=[3, 4, 5, 4]), "INVALID_ARGUMENT", "image has the shape [3, 4, 5, 4], expected [N, 4, 5, 3]"),
        (changed(shape=[-3, 4, 5, 3]), "INVALID_ARGUMENT", "inputs.0.shape.0"),
        (changed(shape=[1] * 1000), "INVALID_ARGUMENT", "inputs.0.shape"),
        (changed(shape=[2, 4, 5, 3]), "INVALID_ARGUMENT", "[2, 4, 5, 3] is 120 bytes; got 180"),
        (changed(datatype="FP32"), "INVALID_ARGUMENT", "image has the datatype 'FP32', expected UINT8"),
        (changed(name="picture"), "INVALID_ARGUMENT", "got the inputs ['picture'], expected one, image"),
        (changed(model_name="nobody"), "NOT_FOUND", "there is no model 'nobody'"),
        (
            changed(raw_input_contents=[]),
            "INVALID_ARGUMENT",
            "'image' has no data, expected raw_input_contents or uint",
        ),
        (changed(raw_input_contents=[b""]), "INVALID_ARGUMENT", "'image' has empty raw_input_contents"),
        (changed(raw_input_contents=[b"a", b"b"]), "INVALID_ARGUMENT", "got 2 raw_input_contents, expected one"),
        (twice_given(), "INVALID_ARGUMENT", "'image' has both raw_input_contents and uint_contents"),
        (with_parameter("alpha", string_param="NaN"), "INVALID_ARGUMENT", "the parameter alpha is not JSON: 'NaN'"),
        (with_parameter("alpha", double_param=float("nan")), "INVALID_ARGUMENT", "the parameter alpha must be"),
        (with_parameter("alpha"), "INVALID_ARGUMENT", "the parameter 'alpha' has no value"),
        (with_parameter("binary_data_output", bool_param=True), "INVALID_ARGUMENT", "binary_data_output is HTTP's"),
    ],
)
def test_malformed_requests(service, message, code, text):
    found, details, trailing = refused(lambda: service.call("ModelInfer", message))
    assert (found, text in details) == (code, True), details
    assert trailing["x-request-id"]
    assert service.call("ModelInfer", infer_request().SerializeToString())


def test_too_many_images_and_too_large_messages(service):
    message = infer_request(random_images(9)).SerializeToString()
    assert refused(lambda: service.call("ModelInfer", message))[:2] == (
        "INVALID_ARGUMENT", "got 9 images, the limit is 8; send several requests"
    )  # fmt: skip
    code, text, _ = refused(lambda: service.call("ModelInfer", bytes(200_000)))
    assert (code, "200000 vs. 100000" in text) == ("RESOURCE_EXHAUSTED", True)
    until(lambda: service.metric('subspace_serve_rejections_total{reason="too_large"} 1.0'))
    long = [("x-long", "y" * 70_000)]
    assert refused(lambda: service.call("ServerLive", b"", long))[0] == "RESOURCE_EXHAUSTED"


def test_a_call_without_a_message(service):
    with grpc.insecure_channel(service.address) as channel:
        call = channel.stream_unary(f"/{SERVICE}/ModelInfer")
        assert refused(lambda: call(iter([]), timeout=20))[:2] == (
            "INVALID_ARGUMENT", "the call has no message; send one"
        )  # fmt: skip


def test_a_message_that_does_not_arrive(bundle):
    go_on = threading.Event()

    def never() -> Iterator[bytes]:
        go_on.wait(20)
        yield b""

    with served(bundle, deadline=0.2, concurrency=1, queue=0) as own, grpc.insecure_channel(own.address) as channel:
        call = channel.stream_unary(f"/{SERVICE}/ModelInfer")
        waiting = call.future(never(), timeout=20)
        assert refused(waiting.result)[:2] == ("DEADLINE_EXCEEDED", "the message did not arrive in time")
        go_on.set()
        assert own.call("ModelInfer", infer_request().SerializeToString())


def test_the_token(bundle):
    secret = [("authorization", "Bearer secret")]
    with served(bundle, token="secret") as own, grpc.insecure_channel(own.address) as channel:
        message = infer_request().SerializeToString()
        for metadata in ((), [("authorization", "Bearer wrong")], [("authorization", "secret")]):
            code, text, _ = refused(lambda metadata=metadata: own.call("ModelInfer", message, metadata))
            assert (code, "authorization: Bearer TOKEN" in text) == ("UNAUTHENTICATED", True)
        assert own.call("ModelInfer", message, secret)
        assert RESPONSES["ServerReady"].FromString(own.call("ServerReady", b"")).ready
        assert refused(lambda: own.call("ServerMetadata", b""))[0] == "UNAUTHENTICATED"
        health = health_pb2_grpc.HealthStub(channel)
        until(lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=20).status == HEALTH.SERVING)
        reflection = channel.unary_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        assert refused(lambda: list(reflection(b"", timeout=20)))[0] == "UNAUTHENTICATED"
        assert list(reflection(b"", timeout=20, metadata=secret))
        assert own.metric('subspace_serve_rejections_total{reason="token"} 5.0')


def test_a_full_queue_and_a_loading_bundle(bundle, monkeypatch):
    message = infer_request().SerializeToString()
    with served(bundle, concurrency=1, queue=0) as own, grpc.insecure_channel(own.address) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        with held_up(monkeypatch) as begun:
            first = infer.future(message, timeout=20)
            assert begun.wait(20)
            code, text, trailing = refused(lambda: infer(message, timeout=20))
            assert (code, text) == ("RESOURCE_EXHAUSTED", "too many requests are waiting; try again later")
            assert trailing["grpc-retry-pushback-ms"] == "1000"
            assert own.http.post("/predict", json={}).status_code == 429
        assert first.result(timeout=20)
    with served(bundle, load=False) as own:
        code, text, _ = refused(lambda: own.call("ModelInfer", message))
        assert (code, text) == ("UNAVAILABLE", "the bundle is still being loaded; try again later")
        assert not RESPONSES["ServerReady"].FromString(own.call("ServerReady", b"")).ready


def test_cancelled_calls_and_deadlines_leave_nothing(bundle, monkeypatch):
    jobs: list[Job] = []
    run = Scheduler.run

    async def recorded(self: Scheduler, job: Job) -> None:
        jobs.append(job)
        await run(self, job)

    monkeypatch.setattr(Scheduler, "run", recorded)
    message = infer_request().SerializeToString()
    with served(bundle, concurrency=1, deadline=60) as own, grpc.insecure_channel(own.address) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        with held_up(monkeypatch) as begun:
            first = infer.future(message, timeout=20)
            assert begun.wait(20)
            waiting = infer.future(message, timeout=20)
            until(lambda: len(jobs) == 2)
            waiting.cancel()
            noted = ('"deadline"} 1.0', '"client_gone"} 2.0')
            until(lambda: hasattr(jobs[1], "done") and jobs[1].done.cancelled())
            until(lambda: own.metric('subspace_serve_rejections_total{reason="client_gone"} 1.0'))
            assert refused(lambda: infer(message, timeout=0.2))[0] == "DEADLINE_EXCEEDED"
            # At its deadline a client cancels, which may arrive before the server's own clock says so.
            until(lambda: any(own.metric(f"subspace_serve_rejections_total{{reason={found}") for found in noted))
            shorter = with_parameter("timeout", int64_param=100_000)
            code, text, _ = refused(lambda: infer(shorter, timeout=20))
            assert (code, text) == ("DEADLINE_EXCEEDED", "no answer within the request's timeout of 0.1 s")
            assert not first.done()
        assert first.result(timeout=20)
        until(lambda: own.metric("subspace_serve_requests_held 0.0"))
        assert infer(message, timeout=20) == first.result()


def test_a_failure_is_internal_and_says_no_more(service, monkeypatch, caplog):
    def fail(*arguments: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("service.grpc.methods.response_to", fail)
    caplog.set_level(logging.ERROR, "subspace_serve.service")
    monkeypatch.setattr(logging.getLogger("subspace_serve.service"), "propagate", True)
    message = infer_request().SerializeToString()
    found = refused(lambda: service.call("ModelInfer", message, [("x-request-id", "a1")]))
    assert found[:2] == ("INTERNAL", "the server failed; its log has the reason")
    assert found[2]["x-request-id"] == "a1"
    assert "request a1 failed" in caplog.text
    until(lambda: service.metric('requests_total{method="POST",route="grpc:ModelInfer",status="500"} 1.0'))


def test_metrics_the_log_and_the_trace(bundle, caplog, monkeypatch):
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    monkeypatch.setattr(logging.getLogger("subspace_serve.access"), "propagate", True)
    caplog.set_level(logging.INFO, "subspace_serve.access")
    with served(bundle, tracing=Tracing(SimpleSpanProcessor(exporter))) as own:
        own.call("ModelInfer", infer_request(model="endpoints").SerializeToString(),
                 [("x-request-id", "a1"), ("traceparent", parent)])  # fmt: skip
        own.call("ServerLive", b"")
        refused(lambda: own.call("Nonsense", b""))
        until(lambda: own.metric('requests_total{method="POST",route="grpc:unknown",status="405"} 1.0'))
        assert own.metric('requests_total{method="POST",route="grpc:ModelInfer",status="200"} 1.0')
        assert own.metric('requests_total{method="POST",route="grpc:ServerLive",status="200"} 1.0')
        assert own.metric('subspace_serve_images_total{model="endpoints"} 3.0')
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    first, second = [line for line in lines if line["method"] == "POST"]
    known = {"request_id": "a1", "client": "127.0.0.1", "path": f"/{SERVICE}/ModelInfer", "status": 200, "members": 2}
    assert known.items() <= first.items()
    assert (second["path"], second["status"]) == (f"/{SERVICE}/Nonsense", 405)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"POST grpc:ModelInfer", "decode", "queue", "inference", "POST grpc:unknown"}
    span = spans["POST grpc:ModelInfer"]
    assert f"{span.context.trace_id:032x}" in parent
    assert span.attributes["rpc.grpc.status_code"] == 0
    assert spans["POST grpc:unknown"].attributes["rpc.grpc.status_code"] == 12


def test_the_setting(monkeypatch):
    assert load_settings({}, {"SUBSPACE_SERVE_GRPC_PORT": "3001"}).grpc_port == 3001
    assert load_settings({}, {}).grpc_port is None
    with pytest.raises(SettingsError, match="grpc_port is 3000, which port is too"):
        load_settings({"grpc_port": 3000}, {})
    from service.grpc import check_installed

    monkeypatch.setattr("service.grpc.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'subspace-serve\[grpc\]'"):
        check_installed()


def test_tls(bundle, tmp_path):
    file, key = certificate(tmp_path)
    message = infer_request().SerializeToString()
    trusted = grpc.ssl_channel_credentials(file.read_bytes())
    with served(bundle, tls_certificate=file, tls_key=key) as own:
        with grpc.secure_channel(own.address, trusted) as channel:
            assert channel.unary_unary(f"/{SERVICE}/ModelInfer")(message, timeout=20)
        assert refused(lambda: own.call("ModelInfer", message))[0] == "UNAVAILABLE"


def status(channel: Any) -> int | None:
    with contextlib.suppress(grpc.RpcError):
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20).status
    return None


@pytest.mark.slow
def test_a_server_from_start_to_stop(bundle, tmp_path):
    port = free_port()
    message = infer_request().SerializeToString()
    with serving(bundle, tmp_path, grpc_port=port, workers=2, drain=1) as server:
        killed = server.workers()[0]
        killed.kill()
        server.until(lambda: killed not in server.workers() and server.is_complete(2))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            until(lambda: status(channel) == HEALTH.SERVING)
            answer = RESPONSES["ModelInfer"].FromString(infer(message, timeout=20, wait_for_ready=True))
            found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(3, -1)
            np.testing.assert_allclose(found, expected("midpoint"), atol=1e-6)
            server.signal(signal.SIGTERM)
            until(lambda: status(channel) == HEALTH.NOT_SERVING)
            assert infer(message, timeout=20)
            assert server.ended() == 0
            assert refused(lambda: infer(message, timeout=20))[0] == "UNAVAILABLE"
        assert "Traceback" not in server.log
