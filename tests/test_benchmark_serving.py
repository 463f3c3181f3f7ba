"""The benchmark of serving runs with minimal settings and prints its document; how fast is no test's business."""

from __future__ import annotations

import json
import shutil
from itertools import islice

import numpy as np
import psutil
import pytest
from bundle_factory import random_images
from click import ClickException
from click.testing import CliRunner

from benchmarks import any_alpha, grpc_load, http_load, serving
from benchmarks.export import Exporter
from benchmarks.http_load import Burst
from benchmarks.servers import Server, asking, bare_starlette, free_port, running, subspace_serve
from benchmarks.servers.places import new_places

pytestmark = [pytest.mark.slow, pytest.mark.alone]

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="the load generator wrk is not installed")


def run(bundle, only: str, **options: int) -> dict:
    settings = {"rounds": 1, "seconds": 1, "requests": 10} | options
    arguments = [f"--bundle={bundle}", f"--only={only}", *(f"--{name}={value}" for name, value in settings.items())]
    result = CliRunner().invoke(serving.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert not psutil.Process().children(recursive=True)
    return json.loads(result.stdout)


@needs_wrk
def test_raw_pixels_against_bare_servers(bundle):
    document = run(bundle, "binary")
    figures = document["binary"]
    assert set(figures["requests_per_second"]) == {"subspace_serve", "starlette_inline", "starlette_threadpool"}
    assert all(figure["median"] > 0 for figure in figures["requests_per_second"].values())
    assert figures["reference"] in ("starlette_inline", "starlette_threadpool")
    others = [figures["requests_per_second"][name]["median"] for name in ("starlette_inline", "starlette_threadpool")]
    assert figures["requests_per_second"][figures["reference"]]["median"] == max(others)
    own = figures["requests_per_second"]["subspace_serve"]["median"]
    assert figures["to_reference"]["median"] == pytest.approx(own / max(others), rel=1e-2)
    assert figures["to_reference"]["at_least"] == 0.9
    assert {parser["parser"] for parser in figures["uvicorn"].values()} <= {"h11", "httptools"}
    assert document["versions"]["uvicorn"]
    assert document["hardware"]["cores"] >= 1


@needs_wrk
def test_grpc_against_http(bundle):
    figures = run(bundle, "grpc")["grpc"]
    rates = {name: figure["median"] for name, figure in figures["requests_per_second"].items()}
    assert set(rates) == {"http", "grpc"}
    assert figures["to_http"]["median"] == pytest.approx(rates["grpc"] / rates["http"], rel=1e-2)
    assert figures["to_http"]["at_least"] == 0.9
    assert all(figure["median"] > 0 for figure in figures["processor_seconds_per_request"].values())


@needs_wrk
def test_promises_against_none(tmp_path):
    exporter = Exporter("cresnet8-4", side=8, images=200, calibration=64)
    own = serving.labelled_by(exporter, side=8)
    exporter.export(tmp_path / "bundle", "midpoint", labelled=own)
    figures = run(tmp_path / "bundle", "promises")["promises"]
    assert set(figures["cpu_seconds_per_request"]) == {"neither", "coverage", "max_risk"}
    seconds = {name: figure["median"] for name, figure in figures["cpu_seconds_per_request"].items()}
    assert figures["cpu_coverage"]["median"] == pytest.approx(seconds["coverage"] / seconds["neither"], rel=1e-2)
    assert figures["cpu_max_risk"]["at_most"] == 1.03


@needs_wrk
def test_a_bundle_that_promises_nothing_is_not_measured(bundle):
    result = CliRunner().invoke(serving.main, ["--only", "promises", "--rounds", "1", "--bundle", str(bundle)])
    assert result.exit_code == 1
    assert "the bundle promises nothing" in result.output


def test_a_grpc_call_that_is_refused_is_no_answer(bundle):
    port = free_port()
    with running(subspace_serve(f"--grpc-port={port}"), bundle), pytest.raises(ClickException, match="refused a call"):
        grpc_load.burst(port, "/inference.GRPCInferenceService/ModelInfer", b"", seconds=1, in_flight=2)


@needs_wrk
def test_files_and_lists_against_plain_services(bundle):
    document = run(bundle, "image,json")
    for part in ("image", "json"):
        assert document[part]["to_bentoml"]["at_least"] == 2
        assert document[part]["to_bentoml_threads"]["median"] > 0
    assert ("to_litserve" in document["json"]) == ("litserve" in document["versions"])
    assert "binary" not in document


@needs_wrk
def test_an_ensemble_decodes_once(bundle):
    figures = run(bundle, "ensemble")["ensemble"]
    assert figures["decodes_per_request"]["ensemble"]["median"] == 1
    assert figures["decodes_per_request"]["member"]["median"] == 1
    for figure in ("seconds_per_request", "graph_seconds", "latency_of_one_client"):
        assert figures[figure]["at_most"] == 2.05
        assert figures[figure]["median"] > 0


@needs_wrk
def test_latency_overload_and_memory(bundle):
    document = run(bundle, "latency,overload,memory")
    latency = document["latency"]
    assert 0 < latency["median_seconds"]["median"] <= latency["p99_seconds"]["median"]
    assert latency["p99_over_median"]["at_most"] == 5
    overload = document["overload"]
    assert 0 <= overload["refused_share"]["median"] < 1
    assert overload["goodput_over_saturation"]["at_least"] == 0.9
    assert overload["saturation_per_second"]["median"] > 0
    memory = document["memory"]
    assert memory["requests"] >= 10
    assert memory["worker_bytes_after_requests"][0][0] == 0
    assert 20e6 < memory["worker_bytes"]["median"] < 2e9
    assert 0 < memory["ready_seconds"]["median"] < 120
    assert memory["growth"]["at_most"] == 0.03


@needs_wrk
def test_any_place_of_a_subspace(tmp_path):
    file = tmp_path / "report.json"
    options = ["--rounds=1", "--seconds=1", "--places=3", "--evictions=6", "--large=", f"--json={file}"]
    options += ["--architecture=cresnet8-4", "--small=cresnet8-4"]
    result = CliRunner().invoke(any_alpha.main, options, catch_exceptions=False)
    assert not psutil.Process().children(recursive=True)
    document = json.loads(file.read_text())
    figures = {
        name: figure
        for part in any_alpha.PARTS
        for name, figure in document[part].items()
        if isinstance(figure, dict) and "met" in figure
    }
    assert len(figures) == 7
    assert all(f"| {name} | {figure['median']:g}" in result.stdout for name, figure in figures.items())
    (first,) = (figure for name, figure in figures.items() if "first answer" in name)
    assert 0 < first["processor_seconds"] <= 5 * first["p90"]
    assert first["median"] <= first["p90"]
    assert document["flood"]["places_built_per_second"]["median"] > 0
    assert [number for number, _ in document["evictions"]["worker_bytes"]] == [3, 6]
    sizes = document["sizes"]
    assert 0 < sizes["statistics_bytes"] < sizes["bundle_bytes"]


def test_no_place_is_new_twice():
    places = list(islice(new_places(), 10_000))
    assert len(set(places)) == 10_000
    assert 0 <= min(places) < max(places) <= 1


@needs_wrk
def test_wrk_replays_files_in_turn_and_refusals_are_not_answers(bundle, tmp_path):
    pixels = random_images(1)
    good = asking.binary(pixels, "/inline")
    with running(bare_starlette(), bundle) as server:
        seen = http_load.burst(server.port, [good], tmp_path, seconds=1, connections=2)
        assert seen.requests > 0
        assert (seen.refused, seen.failed) == (0, 0)
        assert seen.p50 <= seen.p99
        bad = asking.binary(pixels, "/nowhere")
        mixed = http_load.burst(server.port, [good, bad], tmp_path, seconds=1, connections=2, may_refuse=True)
        assert mixed.refused == pytest.approx(mixed.requests / 2, rel=0.1, abs=4)
        with pytest.raises(ClickException, match=r"were refused"):
            http_load.burst(server.port, [bad], tmp_path, seconds=1, connections=2)


def test_an_answer_that_is_not_the_networks_is_refused(bundle):
    pixels = random_images(2)
    with running(bare_starlette(), bundle) as server:
        candidate = asking.Candidate(server, asking.binary(pixels[:1], "/inline"), asking.read_bytes)
        candidate.check(bundle, pixels[:1])
        with pytest.raises(ClickException, match=r"starlette /inline answers class . with"):
            candidate.check(bundle, pixels[1:])
        lost = asking.Candidate(server, asking.binary(pixels[:1], "/nowhere"), asking.read_bytes)
        with pytest.raises(ClickException, match=r"/nowhere answers 404"):
            lost.check(bundle, pixels[:1])


def test_a_server_that_ends_is_reported_and_nothing_is_left(bundle):
    broken = Server("broken", ["python3", "-c", "raise SystemExit('no such model')"], "/")
    message = r"(?s)broken ended with status 1 before it was ready.*no such model"
    with pytest.raises(ClickException, match=message), running(broken, bundle):
        pass
    with pytest.raises(KeyboardInterrupt), running(bare_starlette(), bundle) as server:
        server.suspend()
        raise KeyboardInterrupt
    assert not psutil.Process().children(recursive=True)


def test_unknown_parts_are_refused():
    result = CliRunner().invoke(serving.main, ["--only=binary,speed"])
    assert result.exit_code == 2
    assert "speed; there are binary, grpc, image, json, promises, ensemble, latency, overload, memory" in result.output


def test_rates_are_answers_over_time():
    assert Burst(requests=30, seconds=2.0, refused=0, failed=0, p50=0.1, p99=0.2).rate == 15
    request = asking.post("/predict", b"{}", "application/json", Accept="*/*")
    head, _, body = http_load.encoded(request, "http://127.0.0.1:8000").partition(b"\r\n\r\n")
    assert body == b"{}"
    assert head.splitlines() == [
        b"POST /predict HTTP/1.1",
        b"Host: 127.0.0.1:8000",
        b"Content-Length: 2",
        b"Content-Type: application/json",
        b"Accept: */*",
    ]


def test_pixels_become_a_form_with_one_png():
    pixels = random_images(1)[0]
    request = asking.upload(asking.png(pixels), model="midpoint")
    assert request.body.count(b'name="images"') == 1
    assert b'name="model"\r\n\r\nmidpoint\r\n' in request.body
    assert np.array_equal(np.asarray(asking.Image.open(asking.io.BytesIO(asking.png(pixels)))), pixels)
