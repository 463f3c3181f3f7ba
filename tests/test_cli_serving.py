"""The command `serve`: a real server from start to stop, and what it refuses before it starts."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import time

import numpy as np
import psutil
import pytest
from bundle_factory import make_bundle
from command_line import ended
from ports import free_port
from service_client import GOOD, IMAGES, expected, probabilities
from stress.server import Server, serving
from threaded_server import certificate

pytestmark = pytest.mark.slow


def test_a_server_from_start_to_stop(bundle, tmp_path):
    with serving(bundle, tmp_path, workers=2) as server:
        assert len(server.workers()) == 2
        for _ in range(10):
            response = server.client.post("/predict", json={"images": IMAGES.tolist(), "model": "endpoint-1"})
            np.testing.assert_allclose(probabilities(response), expected("endpoint-1"), atol=1e-6)
        odd = server.client.post("/predict", content=b"{}", headers={b"content-type": b"\xff\xfe"})
        assert odd.status_code == 415
        assert "server" not in odd.headers
        page = server.client.get("/metrics").text
        assert 'subspace_serve_images_total{model="endpoint-1"} 30.0' in page
        # Heads are bounded.
        begin = b"GET /livez HTTP/1.1\r\nhost: x\r\n"
        assert b"200 OK" in raw(server, begin + b"x: " + b"y" * 60_000 + b"\r\nconnection: close\r\n\r\n")
        refused = raw(server, begin, *[b"x%d: %s\r\n" % (index, b"y" * 1000) for index in range(500)])
        assert refused.startswith(b"HTTP/1.1 431 ")
        assert b'{"error":"the headers are over the limit of 65536 bytes"}' in refused
        # Two requests on one connection are counted apart.
        large = begin + b"x: " + b"y" * 50_000 + b"\r\n"
        twice = raw(server, large + b"\r\n", large + b"connection: close\r\n\r\n")
        assert twice.count(b"200 OK") == 2
        assert raw(server, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert server.stop() == 0
        with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", server.port)):
            pass
        assert "midpoint runs on CPUExecutionProvider" in server.log
        assert "Traceback" not in server.log
    assert list(tmp_path.rglob("subspace-serve-*")) == []


def raw(server: Server, *parts: bytes) -> bytes:
    """Send bytes as they are, and return what comes back until the connection is closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):  # the rest is not read where the first is refused
            for part in parts:
                connection.sendall(part)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                answer += part
    return answer


def test_a_worker_that_dies_before_it_answers_its_supervisor_is_replaced_at_once(bundle, tmp_path):
    with serving(bundle, tmp_path) as server:
        (worker,) = server.workers()
        worker.suspend()
        time.sleep(2)  # the supervisor asks twice a second, and would wait for 30 s
        worker.kill()
        server.until(lambda: server.workers() not in ([worker], []), seconds=15)
        server.until(lambda: server.client.get("/readyz").status_code == 200)
        assert f"worker {worker.pid} died and was replaced" in server.log


def test_reload_by_signal_and_by_request(bundle, tmp_path):
    own = shutil.copytree(bundle, tmp_path / "own")
    authorization = {"authorization": "Bearer secret"}
    with serving(own, tmp_path, workers=2, variables={"SUBSPACE_SERVE_TOKEN": "secret"}) as server:
        server.client.headers.update(authorization)
        first = server.client.get("/models").json()["bundle"]["sha256"]
        shutil.rmtree(own)
        make_bundle(own, temperatures={"midpoint": 2.0})
        reloaded = server.client.post("/admin/reload")
        assert reloaded.status_code == 200, reloaded.text
        second = reloaded.json()["bundle"]["sha256"]
        assert second != first
        answers = [server.client.post("/predict", json={"images": [GOOD]}).json() for _ in range(20)]
        assert {answer["temperature"] for answer in answers} == {2.0}
        assert {server.client.get("/models").json()["bundle"]["sha256"] for _ in range(10)} == {second}

        (own / "midpoint.onnx").write_bytes(b"damaged")
        refused = server.client.post("/admin/reload")
        assert refused.status_code == 409
        assert "still serving the old bundle" in refused.json()["error"]
        assert f"{own / 'midpoint.onnx'} was changed" in refused.json()["error"]
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: "ERROR still serving the old bundle" in server.log)
        assert server.client.post("/predict", json={"images": [GOOD]}).json()["temperature"] == 2.0

        shutil.rmtree(own)
        shutil.copytree(bundle, own)
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: server.client.get("/models").json()["bundle"]["sha256"] == first)
        for result in ("failed", "done"):  # one each by request and by signal
            counted = f'subspace_serve_reloads_total{{result="{result}"}} 2.0'
            server.until(lambda counted=counted: counted in server.client.get("/metrics").text)


def test_workers_end_when_their_supervisor_is_killed(bundle, tmp_path):
    with serving(bundle, tmp_path) as server:
        workers = server.workers()
        server.process.kill()
        gone, alive = psutil.wait_procs(workers, timeout=20)
        assert len(gone) == 1
        assert alive == []


def test_https(bundle, tmp_path):
    file, key = certificate(tmp_path)
    context = ssl.create_default_context(cafile=file)
    with serving(bundle, tmp_path, tls=context, tls_certificate=file, tls_key=key) as server:
        response = server.client.post("/predict", json={"images": IMAGES.tolist()})
        np.testing.assert_allclose(probabilities(response), expected("midpoint"), atol=1e-6)


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    """Run `serve`; return exit status, standard output and standard error. It must never come to serving."""
    monkeypatch.setattr("service.supervisor.supervise", lambda *arguments: pytest.fail("it started"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def call(*arguments) -> tuple[int, str, str]:
        found = ended("serve", *arguments)
        assert list(tmp_path.glob("subspace-serve-*")) == []
        assert capfd.readouterr() == ("", "")
        return found

    return call


def test_check_verifies_and_exits(run, bundle, tmp_path):
    config = tmp_path / "serve.toml"
    config.write_text('workers = 3\n[ensembles.pair]\nmembers = ["midpoint", "endpoint-0"]\n')
    status, output, error = run(bundle, "--check", "--config", config, "--threads", "1")
    assert (status, error) == (0, "")
    assert "4 files unchanged" in output
    assert "the configuration holds: 3 workers of 1 threads" in output


@pytest.mark.parametrize(
    ("toml", "options", "status", "message"),
    [
        ("", ["--port", "70000"], 2, "--port takes a whole number from 1 to 65535; found '70000'"),
        ("", ["--workers", "two"], 2, "--workers takes a whole number of at least 1; found 'two'"),
        ("", ["--deadline", "0"], 2, "--deadline takes a number greater than 0; found '0'"),
        ("deadline = 0", [], 1, "deadline is 0: Input should be greater than 0"),
        ("", ["--batching", "never"], 2, "'never' is not one of 'auto', 'on', 'off'"),
        ("batching = 'never'", [], 1, "batching is 'never': Input should be 'auto', 'on' or 'off'"),
        ("", ["--wrokers", "2"], 2, "--workers"),
        ("wrokers = 2", [], 1, "did you mean workers?"),
        ("default = 'nobody'", [], 1, "the default model does not fit the bundle"),
        ("models = ['nobody']", [], 1, "models names 'nobody'"),
        ("quorum = 3", [], 1, "no ensemble has more than 2 members"),
        ("[ensembles.pair]\nmembers = ['nobody']", [], 1, "the ensemble pair has the member nobody"),
        ("[ensembles.midpoint]\nmembers = ['endpoint-0']", [], 1, "has the name of a point"),
        ("", ["--tls-certificate", "/nowhere", "--tls-key", "/nowhere"], 1, "cannot be used"),
        ("", ["--host", "no.such.host.invalid"], 1, "cannot listen on no.such.host.invalid"),
    ],
)
def test_what_does_not_hold_is_refused(run, bundle, tmp_path, toml, options, status, message):
    config = tmp_path / "serve.toml"
    config.write_text(toml)
    found, output, error = run(bundle, "--config", config, "--device", "cpu", "--port", free_port(), *options)
    assert found == status
    assert message in error
    assert "Traceback" not in error
    assert output == ""


def test_a_changed_bundle_is_refused_with_its_own_path(run, tmp_path):
    own = make_bundle(tmp_path / "own")
    (own / "midpoint.onnx").write_bytes(b"x")
    status, _, error = run(own, "--port", free_port())
    assert status == 1
    assert f"Error: {own / 'midpoint.onnx'} was changed" in error
    status, _, error = run(tmp_path / "absent", "--port", free_port())
    assert status == 1
    assert "there is no bundle at" in error
    status, _, error = run(make_bundle(tmp_path / "other", golden_error=1.0), "--port", free_port())
    assert status == 1
    assert "differs from the golden logits of its export" in error


def test_a_port_in_use_is_refused(run, bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, error = run(bundle, "--port", port)
    assert status == 1
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in error
