"""A subspace as one graph with alpha as an input: against networks built at each place, and in a browser."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from command_line import invoke, run

from subspace_serve.bundle import Bundle
from subspace_serve.bundle.predict import Predictor
from subspace_serve.bundle.verify import verify_bundle
from subspace_serve.data import Preprocessing, load_data
from subspace_serve.errors import BundleError, ExportError
from subspace_serve.export.plan import BundlePlan, Origin
from subspace_serve.files import sha256_of
from subspace_serve.network.dynamic import dynamic_graph
from subspace_serve.network.network import Network
from subspace_serve.network.served import ServedGraph, as_served
from subspace_serve.network.skeleton import Skeleton
from subspace_serve.network.statistics_set import compute_statistics
from subspace_serve.space.geometry import Geometry, single_network

PAGE = Path(__file__).parent.parent / "docs" / "graphs" / "alpha.html"
GEOMETRIES = [Geometry("line", 2), Geometry("curve", 3), Geometry("simplex", 2), Geometry("simplex", 3)]
PACKAGE = "onnxruntime-web@1.30.0"


@pytest.fixture(scope="module")
def bundle(line_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle with its subspace's graph; tests must not change it."""
    folder = tmp_path_factory.mktemp("dynamic") / "bundle"
    words = ("--alpha", "midpoint", "--dynamic-alpha", "--no-sets", "--calibration-count", 256)
    run("export", line_run, *words, "--out", folder)
    return Bundle.open(folder)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("input_type", ["uint8", "float"])
def test_every_geometry_answers_as_networks_built_there(line_run: Path, geometry: Geometry, input_type: str) -> None:
    line = Network.open(line_run, device="cpu").with_threads(1)
    random = np.random.default_rng(5)
    ends = [line.endpoints[0] + random.normal(0, 0.05, line.endpoints[0].shape) for _ in range(geometry.endpoints)]
    skeleton = Skeleton.read(line_run)
    named = [
        {name: end.astype(np.float32)[slot.where].reshape(slot.shape) for name, slot in skeleton.parameters.items()}
        for end in ends
    ]
    data = load_data("digits")
    preprocessing = Preprocessing(mean=(0.3,), std=(0.35,))
    network = Network(
        skeleton, geometry, named, mean=preprocessing.mean, std=preprocessing.std, device="cpu", threads=1
    )
    images, _ = data.train.take(np.arange(96))
    statistics = compute_statistics(network, lambda: [images])
    served = ServedGraph(network, input_type)
    pixels = as_served(images[:9], input_type)
    for degree in (1, 2):
        own = statistics.with_degree(degree)
        graph = dynamic_graph(network, own, input_type)
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        places = [*geometry.ends, geometry.midpoint, *geometry.sample(random, 3).tolist()]
        for alpha in places:
            feeds = {"image": pixels, "alpha": np.atleast_1d(np.float32(alpha))}
            found, probabilities = session.run(["logits", "probabilities"], feeds)
            expected = served.session(network.weights(alpha), own.at(alpha)).run(["logits"], {"image": pixels})[0]
            np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
            np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_alpha_outside_the_domain_is_brought_back(bundle: Bundle) -> None:
    session = onnxruntime.InferenceSession(bundle.folder / "dynamic.onnx", providers=["CPUExecutionProvider"])
    images = np.load(bundle.golden)["images"]

    def logits(alpha: float) -> np.ndarray:
        return session.run(["logits"], {"image": images, "alpha": np.float32([alpha])})[0]

    np.testing.assert_array_equal(logits(1.7), logits(1.0))
    np.testing.assert_array_equal(logits(-3.0), logits(0.0))
    assert np.isnan(logits(float("nan"))).all()
    assert np.abs(logits(0.0) - logits(1.0)).max() > 0.1


def test_the_bundle_records_it_and_verify_compares_it(bundle: Bundle, tmp_path: Path) -> None:
    record = bundle.manifest.subspace.dynamic
    assert (record.file, record.size, record.places) == ("dynamic.onnx", 1, 6)
    assert record.parity.max_relative_difference < record.parity.tolerance == 1e-4
    report = verify_bundle(bundle.folder, device="cpu", threads=1)
    assert report.dynamic < 1e-5
    copy = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    subspace = Predictor(bundle, device="cpu").subspace
    shifted = dynamic_graph(subspace.network, subspace.statistics().with_degree(1), "uint8").replace(
        subspace.network.endpoints[1].tobytes(), subspace.network.endpoints[0].tobytes()
    )
    (copy / "dynamic.onnx").write_bytes(shifted)
    document = json.loads((copy / "manifest.json").read_text())
    document["subspace"]["dynamic"]["sha256"] = sha256_of(copy / "dynamic.onnx")
    (copy / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"with alpha as an input does not answer as the service does: at alpha 1"):
        verify_bundle(copy, device="cpu")


def test_what_has_no_alpha_is_refused(line_run: Path, tmp_path: Path) -> None:
    for words, message in (
        (("--points-only",), "is a graph of the subspace, which --points-only leaves out"),
        (("--layout", "triton"), "and no subspace"),
    ):
        done = invoke("export", line_run, "--dynamic-alpha", *words, "--out", tmp_path / "bundle")
        assert done.exit_code == 2
        assert message in done.output
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve a folder on a port of its own; yields its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder `dist` of onnxruntime-web, from ONNXRUNTIME_WEB or npm."""
    if folder := os.environ.get("ONNXRUNTIME_WEB"):
        return Path(folder)
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    try:
        words = ["npm", "pack", "--silent", "--prefer-offline", PACKAGE]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry does not answer")
    if done.returncode:
        pytest.skip(f"npm has no {PACKAGE}: {done.stderr.strip()[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package" / "dist"


@pytest.mark.slow
def test_the_page_answers_in_a_browser_as_the_service_does(bundle: Bundle, runtime: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("there is no /usr/bin/chromium")
    from test_playground import ARGUMENTS, CHROMIUM

    shutil.copyfile(PAGE, tmp_path / "alpha.html")
    shutil.copyfile(bundle.folder / "dynamic.onnx", tmp_path / "dynamic.onnx")
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.wasm", "ort-wasm-simd-threaded.mjs"):
        shutil.copyfile(runtime / name, tmp_path / name)
    pixels = np.load(bundle.golden)["images"][:1]
    predictor = Predictor(bundle, device="cpu")
    with files_served(tmp_path) as address, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 620, "height": 640})
        errors: list[str] = []
        requests: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{address}/alpha.html")
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        for alpha in (0.0, 0.3, 0.5, 1.0):
            found = page.evaluate(
                "([pixels, alpha]) => answer(Uint8Array.from(pixels), alpha)", [pixels.reshape(-1).tolist(), alpha]
            )
            expected = predictor.predict(pixels, predictor.select(alpha=alpha))
            np.testing.assert_allclose(found, expected.probabilities[0], atol=1e-5)
        # A stroke is another image, and so another answer.
        before = page.inner_text("#answer")
        box = page.locator("#drawing").bounding_box()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.1 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + 0.85 * box["height"], steps=12)
        page.mouse.up()
        page.wait_for_function("before => document.querySelector('#answer').innerText !== before", arg=before)
        if picture := os.environ.get("GRAPHS_SCREENSHOT"):
            page.screenshot(path=picture)
        browser.close()
    assert errors == []
    assert all(url.startswith((address, "blob:", "data:")) for url in requests)


def test_a_network_alone_has_no_alpha(line_run: Path) -> None:
    from dataclasses import replace

    from subspace_serve.run.opened import OpenRun
    from subspace_serve.space.alpha import parse_alphas
    from subspace_serve.space.subspace import Subspace

    run = OpenRun(line_run)
    single = Subspace(single_network(), run.subspace.architecture, run.subspace.endpoints[:1])
    request = parse_alphas(["midpoint"], single.geometry, {})
    plan = BundlePlan.of(
        request, dict.fromkeys(request.points, run.calibration), subspace=run.calibration, dynamic=True
    )
    origin = Origin(single, run.network, run.preprocessing, run.labels, "0" * 64, run.data.test, checkpoint=run.file)
    with pytest.raises(ExportError, match="a graph with alpha as an input takes a subspace"):
        replace(plan).checked(origin)
