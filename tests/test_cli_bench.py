"""Load that does not wait for its answers, the search for the rate that a server takes, and the command `bench`."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from image_files import png
from ports import free_port
from service_client import IMAGES, served
from threaded_server import certificate, listening

from subspace_serve.bench import sending
from subspace_serve.bench.load import LoadReport, arrivals, percentiles, run_load
from subspace_serve.bench.saturation import find_saturation, holds
from subspace_serve.bench.workload import places_workload, workload
from subspace_serve.cli.benching import bench
from subspace_serve.client.catalogue import Catalogue, Domain, InputFormat, Model, Subspace
from subspace_serve.client.errors import ClientError, ConnectionFailed
from subspace_serve.client.wire import HttpRequest, Options

pytestmark = pytest.mark.slow

PING = [HttpRequest("POST", "/ping", b"ping")]


@pytest.fixture(scope="module")
def url(bundle) -> Iterator[str]:
    """Return the address of the real service."""
    with served(bundle, access_log=False, token="secret") as service, listening(service.app) as address:
        yield address


class Scripted:
    """A server of threads that answers a connection's requests in turn: with `script(number)`, unless it is None."""

    def __init__(self, script) -> None:
        self.connections = 0
        self.requests = 0
        self._script = script
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        counted = False
        with connection, contextlib.suppress(OSError):
            while request := connection.recv(65536):
                assert request.endswith(b"\r\n\r\nping")
                with self._lock:
                    self.connections += not counted
                    counted = True
                    number = self.requests
                    self.requests += 1
                    answer = self._script(number)
                if answer == b"":
                    return
                if answer is not None:
                    connection.sendall(answer)
                    if b"connection: close" in answer:
                        return

    def stop(self) -> None:
        with contextlib.suppress(OSError):  # it has been stopped before
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)


@contextlib.contextmanager
def scripted(script) -> Iterator[Scripted]:
    server = Scripted(script)
    try:
        yield server
    finally:
        server.stop()


def answered(status: int = 200, head: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-length: 2\r\n{head}\r\nok".encode()


def load(server: Scripted, **options) -> LoadReport:
    return run_load(server.url, PING, **{"rate": 100, "duration": 1.0, "warm_up": 0, "uniform": True, **options})


def test_uniform_arrivals():
    np.testing.assert_allclose(arrivals(4, 1.5, uniform=True), [0, 0.25, 0.5, 0.75, 1, 1.25])
    assert len(arrivals(10, 0.3, uniform=True)) == 3


def test_poisson_arrivals():
    due = arrivals(200, 100, seed=3)
    np.testing.assert_array_equal(due, arrivals(200, 100, seed=3))
    assert len(due) != len(arrivals(200, 100, seed=4)) or (due != arrivals(200, 100, seed=4)).any()
    assert due[0] >= 0
    assert due[-1] < 100
    assert abs(len(due) - 20_000) < 5 * np.sqrt(20_000)
    gaps = np.diff(due)
    assert (gaps >= 0).all()
    # The gaps of a Poisson process are exponential: mean and deviation are both 1 / rate.
    np.testing.assert_allclose([gaps.mean(), gaps.std()], 1 / 200, rtol=0.05)


def test_percentiles_are_values_that_occurred():
    found = percentiles(np.arange(1, 1001) / 1000)
    assert found == {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    assert set(percentiles(np.array([0.3])).values()) == {0.3}
    assert percentiles(np.array([])) == {}


@pytest.mark.parametrize("connections", [1, 256])
def test_waiting_is_counted_from_when_a_request_was_due(connections):
    """The server stalls once, for half a second; everybody who would have asked meanwhile has waited."""

    def stall_once(number: int) -> bytes:
        if number == 0:
            time.sleep(0.5)
        return answered()

    with scripted(stall_once) as server:
        report = load(server, connections=connections)
    assert report.requests == report.statuses[200] == 100
    assert 0.5 <= report.latency["max"] < 5
    # Those due at t < 0.5 s waited for 0.5 - t: half of all, evenly. Who asks after an answer would see one such wait.
    assert report.latency["p90"] >= 0.39
    assert report.latency["p95"] >= 0.44
    assert report.latency["p99"] >= 0.48
    if connections == 1:
        assert server.connections == 1
        assert report.waited >= 45
    else:
        assert server.connections >= 45
        assert report.waited == 0


def test_what_the_report_counts():
    statuses = [200, 200, 429, 200, 503]
    with scripted(lambda number: answered(statuses[number % 5])) as server:
        report = load(server, rate=50, connections=1, warm_up=0.2)
    assert report.requests == 50
    assert report.offered == 50
    assert report.statuses == {200: 30, 429: 10, 503: 10}
    assert report.errors == {}
    assert server.requests == 60
    assert server.connections == 1
    assert report.throughput == pytest.approx(30, abs=5)
    assert 0 < report.latency["p50"] <= report.latency["p99"] <= report.latency["max"] < 1
    document = json.loads(json.dumps(report.to_json()))
    assert document["statuses"] == {"200": 30, "429": 10, "503": 10}
    assert document["latency_ms"]["max"] == pytest.approx(1e3 * report.latency["max"], abs=1e-3)


def test_requests_take_turns():
    seen: set[bytes] = set()

    async def app(scope, receive, send):
        seen.add((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    requests = [HttpRequest("POST", "/x", bytes([value])) for value in range(7)]
    with listening(app) as address:
        report = run_load(address, requests, rate=100, duration=0.2, warm_up=0)
    assert seen == {bytes([value]) for value in range(7)}
    assert set(report.statuses) == {200}


def test_an_iterators_requests_are_made_one_for_each_that_is_due():
    made: list[int] = []
    seen: list[bytes] = []

    def requests() -> Iterator[HttpRequest]:
        for number in itertools.count():
            made.append(number)
            yield HttpRequest("POST", "/x", b"%d" % number)

    async def app(scope, receive, send):
        seen.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    endless = requests()
    with listening(app) as address:
        for _ in range(2):
            report = run_load(address, endless, rate=100, duration=0.1, warm_up=0, uniform=True)
            assert report.statuses == {200: 10}
    assert made == list(range(20))  # none twice, and none that nobody was asked
    assert sorted(seen, key=int) == [b"%d" % number for number in range(20)]


def test_closed_connections_are_opened_again():
    with scripted(lambda number: answered(head="connection: close\r\n")) as server:
        report = load(server, duration=0.3)
    assert report.statuses == {200: 30}
    assert server.connections == 30


def test_a_connection_that_was_closed_while_idle_is_no_error():
    """The server closes a used connection when the next request arrives on it, as at the end of keep-alive."""
    with scripted(lambda number: b"" if number % 5 == 4 else answered()) as server:
        report = load(server, rate=50, duration=0.5, connections=1)
    assert report.statuses == {200: 25}
    assert report.errors == {}
    assert server.requests > 25


def test_answers_that_do_not_come():
    with scripted(lambda number: None if number % 2 else answered()) as server:
        start = time.monotonic()
        report = load(server, duration=0.2, timeout=0.3)
        assert time.monotonic() - start < 5
    assert report.statuses == {200: 10}
    assert report.errors == {"no answer within 0.3 s": 10}
    assert report.throughput == pytest.approx(50, rel=0.21)


def test_requests_that_were_never_begun(monkeypatch):
    """The generator itself stood still for longer than the timeout: what was due meanwhile is an error, too."""
    monkeypatch.setattr(sending, "_SWEEP_SECONDS", 0)
    due = np.array([-1.0, -0.9])
    log = sending.send_all({"host": "127.0.0.1", "port": 9}, iter([b""]), due, connections=1, timeout=0.1)
    assert set(log.statuses) == {sending.ERROR}
    assert log.errors == dict.fromkeys([0, 1], "no answer within 0.1 s")


def test_requests_that_wait_in_vain():
    with scripted(lambda number: None) as server:
        report = load(server, duration=0.2, timeout=0.3, connections=2)
    assert report.errors == {"no answer within 0.3 s": 20}
    assert report.latency == {}
    assert report.throughput == 0


@pytest.mark.parametrize(
    ("answer", "error"), [(b"", "connection lost: closed by the server"), (b"SSH-2.0-x\r\n", "not HTTP")]
)
def test_answers_that_are_none(answer, error):
    with scripted(lambda number: answer) as server:
        report = load(server, duration=0.1)
    (message,) = report.errors
    assert error in message
    assert report.errors[message] == 10


def test_a_server_that_ends():
    with scripted(lambda number: answered(head="connection: close\r\n")) as server:
        thread = threading.Timer(0.2, server.stop)
        thread.start()
        report = load(server, rate=50, duration=1.0)
        thread.join()
    errors = dict(report.errors)
    assert errors.pop("connection failed: connection refused") >= 30
    assert set(errors) <= {"connection lost: connection reset by peer"}  # of those that were not accepted yet
    assert 5 <= report.statuses[200] <= 20


def test_nobody_listens():
    port = free_port()
    with pytest.raises(ConnectionFailed, match="nobody listens at"):
        run_load(f"http://127.0.0.1:{port}", PING, rate=1, duration=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "the rate is 0"),
        ({"duration": float("inf")}, "the duration is inf"),
        ({"timeout": -1}, "the timeout is -1"),
        ({"rate": 1e6, "duration": 10.0}, "give a shorter duration"),
        ({"connections": 0}, "one connection or more"),
    ],
)
def test_loads_that_cannot_be(options, message):
    with pytest.raises(ClientError, match=message):
        run_load("http://127.0.0.1:9", PING, **{"rate": 1, "duration": 1, **options})


def test_tls(tmp_path):
    file, key = certificate(tmp_path)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    context = ssl.create_default_context(cafile=file)
    with listening(app, ssl_certfile=file, ssl_keyfile=key) as address:
        secure = address.replace("http://127.0.0.1", "https://localhost")
        report = run_load(secure, PING, rate=50, duration=0.4, warm_up=0, tls=context)
        assert report.statuses == {200: report.requests}
        report = run_load(secure, PING, rate=20, duration=0.2, warm_up=0, uniform=True)
    assert sum(report.errors.values()) == 4
    assert "certificate" in next(iter(report.errors)).lower()


REPORT = LoadReport(
    rate=100, duration=1, requests=100, offered=100, throughput=100, latency={"p99": 0.02}, statuses={200: 100},
    errors={}, late={"p99": 0.0005}, processor=0.1, waited=0,
)  # fmt: skip


def test_a_generator_that_falls_behind_says_so():
    assert not REPORT.fell_behind
    assert replace(REPORT, late={"p99": 0.0021}).fell_behind
    assert not replace(REPORT, late={"p99": 0.0021}, latency={"p99": 0.03}).fell_behind
    assert replace(REPORT, processor=0.95).fell_behind
    assert REPORT.to_json()["fell_behind"] is False


def test_what_holds():
    assert holds(REPORT, 0.02)
    assert not holds(REPORT, 0.019)
    assert holds(replace(REPORT, throughput=98), 0.1)
    assert not holds(replace(REPORT, throughput=97.9), 0.1)
    assert not holds(replace(REPORT, latency={}, throughput=0, offered=0), 0.1)


def server_of(capacity: float, rates: list[float]) -> Callable[[float], LoadReport]:
    def measure(rate: float) -> LoadReport:
        rates.append(rate)
        fine = rate <= capacity
        return replace(
            REPORT,
            rate=rate,
            offered=rate,
            throughput=min(rate, capacity),
            latency={"p99": 0.01 if fine else 1},
        )

    return measure


@pytest.mark.parametrize("capacity", [3.0, 49.0, 50.0, 333.0, 7000.0])
def test_saturation_is_found(capacity):
    rates: list[float] = []
    found = find_saturation(server_of(capacity, rates), objective=0.1)
    assert found.found
    assert found.rate <= capacity
    assert capacity - found.rate <= max(0.06 * capacity, 1)
    assert [report.rate for report in found.reports] == rates
    assert len(rates) < 40


def test_saturation_that_cannot_be_found():
    rates: list[float] = []
    found = find_saturation(server_of(1e9, rates), objective=0.1, limit=1000)
    assert (found.rate, found.found) == (1000, False)
    assert rates == [50, 100, 200, 400, 800, 1000]
    dead = find_saturation(lambda rate: replace(REPORT, rate=rate, throughput=0, latency={}), objective=0.1)
    assert dead.rate == 0


def test_a_generator_that_falls_behind_ends_the_search():
    def measure(rate: float) -> LoadReport:
        slow = rate > 150
        return replace(
            REPORT, rate=rate, offered=rate, throughput=90 if slow else rate, processor=0.99 if slow else 0.1
        )

    found = find_saturation(measure, objective=0.1)
    assert (found.rate, found.found) == (100, False)


def test_one_bad_moment_does_not_end_the_search():
    hiccups = iter([True])

    def measure(rate: float) -> LoadReport:
        bad = rate > 800 or (rate == 200 and next(hiccups, False))
        return replace(REPORT, rate=rate, offered=rate, throughput=rate, latency={"p99": 9.0 if bad else 0.01})

    assert find_saturation(measure, objective=0.1).rate >= 760


CATALOGUE = Catalogue(
    "pair", "0" * 64, {"pair": Model("pair", "ensemble", 1.0, members=("a", "b"))}, ("x", "y"),
    InputFormat("image", "uint8", "NHWC", 4, 5, 3),
)  # fmt: skip


def test_workloads():
    binary = workload(CATALOGUE, Options(), batch=3, seed=5)
    assert binary == workload(CATALOGUE, Options(), batch=3, seed=5)
    assert binary != workload(CATALOGUE, Options(), batch=3, seed=6)
    assert len({request.body for request in binary}) == len(binary) > 8
    length = int(binary[0].headers["Inference-Header-Content-Length"])
    assert binary[0].path == "/v2/models/pair/infer"
    assert len(binary[0].body) - length == 3 * 60
    (first, *_) = workload(CATALOGUE, Options(model="a"), protocol="json", batch=2)
    document = json.loads(first.body)
    assert np.array(document["images"]).shape == (2, 4, 5, 3)
    assert document["model"] == "a"
    forms = workload(CATALOGUE, Options(), files=[b"one", b"two", b"three"], batch=2)
    assert [request.path for request in forms] == ["/predict_image"] * 3
    assert b"three" in forms[2].body
    assert b"one" in forms[2].body
    assert b"two" not in forms[2].body
    assert b"\x89PNG" in workload(CATALOGUE, Options(), protocol="image")[0].body


WHOLE = replace(
    CATALOGUE,
    models={
        **CATALOGUE.models,
        "dusk": Model("dusk", "point", 1.0, alpha=0.4, statistics="dusk"),
    },
    subspace=Subspace("line", 2, "a number from 0 to 1", 0.01, ("training", "dusk")),
    domains={"dusk": Domain("dusk", "dusk", 0.4, 1.0), "moved": Domain("moved", "dusk", 0.6, 1.0)},
)


def sent(request: HttpRequest) -> dict[str, object]:
    """Return the document of a request as JSON, or with a binary tensor."""
    length = int(request.headers.get("Inference-Header-Content-Length", len(request.body)))
    return json.loads(request.body[:length])


def drawn(catalogue: Catalogue, options: Options, count: int, **more) -> list[HttpRequest]:
    return list(itertools.islice(places_workload(catalogue, options, **more), count))


@pytest.mark.parametrize("protocol", ["binary", "json", "image"])
def test_places_are_drawn_anew_for_each_request(protocol):
    requests = drawn(WHOLE, Options(domain="dusk"), 40, protocol=protocol, seed=5)
    assert len({request.body for request in requests}) == 40
    if protocol == "image":
        return
    assert requests == drawn(WHOLE, Options(domain="dusk"), 40, protocol=protocol, seed=5)
    assert requests[0] != drawn(WHOLE, Options(domain="dusk"), 1, protocol=protocol, seed=6)[0]
    documents = [sent(request) for request in requests]
    asked = [document["parameters"] if protocol == "binary" else document for document in documents]
    places = np.array([float(each["alpha"]) for each in asked])
    assert {each["domain"] for each in asked} == {"dusk"}
    assert len(set(places)) == 40
    assert 0 <= places.min() < 0.2
    assert 0.8 < places.max() <= 1


def test_places_are_drawn_from_a_simplex():
    triangle = replace(WHOLE, subspace=replace(WHOLE.subspace, geometry="simplex", endpoints=3))
    places = np.array([sent(request)["alpha"] for request in drawn(triangle, Options(), 30, protocol="json")])
    assert places.shape == (30, 3)
    assert places.min() >= 0
    np.testing.assert_allclose(places.sum(1), 1)


def test_places_that_cannot_be_drawn():
    with pytest.raises(ClientError, match="answers at its points only.*--points-only"):
        places_workload(CATALOGUE, Options())
    with pytest.raises(ClientError, match="alpha names one network"):
        next(places_workload(WHOLE, Options(model="pair")))


def test_a_domain_alone_is_its_point_in_binary_requests():
    (first, *_) = workload(WHOLE, Options(domain="dusk"))
    assert (first.path, sent(first)["parameters"]) == ("/v2/models/dusk/infer", {"domain": "dusk"})
    (first, *_) = workload(WHOLE, Options(domain="dusk", model="pair"))
    assert first.path == "/v2/models/pair/infer"
    with pytest.raises(ClientError, match="a domain alone by its point.*json"):
        workload(WHOLE, Options(domain="moved"))
    assert sent(workload(WHOLE, Options(domain="moved"), protocol="json")[0])["domain"] == "moved"
    with pytest.raises(ClientError, match="no domain 'fog'; its domains are dusk, moved"):
        workload(WHOLE, Options(domain="fog"))
    with pytest.raises(ClientError, match="no domain 'fog'; its domains are none"):
        workload(CATALOGUE, Options(domain="fog"))


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        (Options(members=(float("nan"),)), {"protocol": "json"}, "the options cannot be sent"),
        (Options(), {"files": [b"x"], "protocol": "binary"}, "binary requests carry pixels"),
        (Options(members=("a",)), {}, "binary requests name members within a model"),
    ],
)
def test_workloads_that_cannot_be(options, more, message):
    with pytest.raises(ClientError, match=message):
        workload(CATALOGUE, options, **more)
    odd = replace(CATALOGUE, input=replace(CATALOGUE.input, channels=5))
    with pytest.raises(ClientError, match="5 channels"):
        workload(odd, Options(), protocol="image")


def command(*arguments: str) -> object:
    return CliRunner().invoke(bench, [*arguments, "--token", "secret", "--warm-up", "0.1", "--duration", "0.4"])


def test_the_command_prints_a_row_for_each_rate(url, tmp_path):
    result = command(url + "/", "--rate", "20", "--rate", "50", "--uniform", "--json", str(tmp_path / "report"))
    assert result.exit_code == 0, result.output
    table = [line.split() for line in result.stdout.splitlines() if line and not line.startswith("at ")]
    assert table[0][:3] == ["rate/s", "offered/s", "200s/s"]
    assert [row[0] for row in table[1:]] == ["20", "50"]
    assert [row[9] for row in table[1:]] == ["200:8", "200:20"]
    document = json.loads((tmp_path / "report").read_text())
    assert (document["protocol"], document["model"], document["arrivals"]) == ("binary", "midpoint", "uniform")
    assert [row["requests"] for row in document["rates"]] == [8, 20]


@pytest.mark.parametrize(
    "options",
    [
        ["--protocol", "json", "--model", "endpoints", "--batch", "2"],
        ["--protocol", "json", "--members", "endpoint-0,midpoint"],
        ["--protocol", "image"],
        ["--model", "endpoints", "--members", "endpoint-1"],
        ["--image", "one.png", "--image", "two.png", "--batch", "3"],
        ["--images", "one.png", "--protocol", "json"],
    ],
)
def test_every_protocol(url, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    for name, image in (("one.png", IMAGES[0]), ("two.png", IMAGES[1])):
        Path(name).write_bytes(png(image))
    result = command(url, "--rate", "25", "--json", "-", *options)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    (row,) = document["rates"]
    assert row["statuses"] == {"200": row["requests"]}
    assert row["requests"] > 0


def test_the_command_finds_saturation(url):
    """With an objective that nothing can meet, so that it does not depend on this machine."""
    result = command(url, "--rate", "2", "--find-saturation", "--objective", "0.0001", "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["saturation"]["rate"] == 0
    result = command(url, "--rate", "2", "--find-saturation", "--objective", "0.0001")
    assert "no rate that was tried holds" in result.stdout


def test_a_question_that_is_refused_is_said_once(url):
    result = command(url, "--model", "nobody")
    assert isinstance(result.exception, ClientError)
    assert "there is no model 'nobody'" in str(result.exception)


def test_the_token_is_taken_from_the_environment(url):
    options = [url, "--duration", "0.1", "--warm-up", "0", "--rate", "50", "--uniform", "--json", "-"]
    assert "answered 401" in str(CliRunner().invoke(bench, options).exception)
    result = CliRunner().invoke(bench, options, env={"SUBSPACE_SERVE_TOKEN": "secret"})
    assert json.loads(result.stdout)["rates"][0]["statuses"] == {"200": 5}


@pytest.fixture(scope="module")
def whole(whole_bundle: Path) -> Iterator[str]:
    """Return the address of the service of a bundle that holds its subspace, at a step that is fine enough to build."""
    with (
        served(whole_bundle, access_log=False, token="secret", alpha_step=1e-4) as service,
        listening(service.app) as address,
    ):
        yield address


@pytest.mark.parametrize(
    ("options", "who"),
    [
        (["--alpha", "0.3"], {"alpha": 0.3}),
        (["--alpha", "0.3", "--domain", "inverted", "--protocol", "json"], {"alpha": 0.3, "domain": "inverted"}),
        (["--domain", "inverted"], {"domain": "inverted"}),
        (["--domain", "inverted", "--model", "endpoints"], {"domain": "inverted", "model": "endpoints"}),
        (["--members", "endpoint-0,0.3", "--protocol", "json"], {"members": ["endpoint-0", 0.3]}),
        (["--members", "endpoint-0,0.3", "--protocol", "image"], {"members": ["endpoint-0", 0.3]}),
        (["--alpha", "random"], {"alpha": "random"}),
        (
            ["--alpha", "random", "--domain", "inverted", "--protocol", "json"],
            {"alpha": "random", "domain": "inverted"},
        ),
        (["--alpha", "random", "--protocol", "image"], {"alpha": "random"}),
    ],
)
def test_the_command_asks_for_places_and_domains(whole, options, who):
    result = command(whole, "--rate", "25", "--json", "-", *options)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    found = {name: document[name] for name in ("model", "members", "alpha", "domain")}
    assert found == {"model": None, "members": None, "alpha": None, "domain": None} | who
    (row,) = document["rates"]
    assert row["requests"] > 0
    assert row["statuses"] == {"200": row["requests"]}


def test_each_random_place_is_built(whole_bundle):
    with served(whole_bundle, access_log=False, alpha_step=1e-6) as service, listening(service.app) as address:
        options = [
            "--alpha",
            "random",
            "--uniform",
            "--rate",
            "20",
            "--rate",
            "30",
            "--warm-up",
            "0",
            "--duration",
            "0.5",
        ]
        result = CliRunner().invoke(bench, [address, *options])
        assert result.exit_code == 0, result.output
        metrics = service.get("/metrics").text
    assert "subspace_serve_alpha_build_seconds_count 26.0" in metrics  # one before, and one for each request
    assert "subspace_serve_alpha_hits_total 0.0" in metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "1.5"], "alpha 1.5 lies outside"),
        (["--domain", "fog"], "no domain 'fog'; its domains are inverted"),
        (["--domain", "fog", "--protocol", "json"], "no domain 'fog' in this bundle"),
        (["--alpha", "random", "--model", "midpoint"], "alpha names one network"),
        (["--alpha", "0.3", "--members", "midpoint"], "alpha names one network"),
    ],
)
def test_places_and_domains_that_are_refused(whole, options, message):
    result = command(whole, *options)
    assert isinstance(result.exception, ClientError)
    assert message in str(result.exception)


def test_random_places_need_a_subspace(url):
    assert "answers at its points only" in str(command(url, "--alpha", "random").exception)
    result = command(url, "--alpha", "anywhere")
    assert result.exit_code == 2
    assert "'anywhere' is not a list of numbers" in result.output
