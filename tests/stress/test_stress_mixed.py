"""All endpoints at once, a fifth of the requests malformed: nothing but the right answers, and nothing leaks."""

from __future__ import annotations

import asyncio
import base64
import random
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from stress import LONG
from stress.answers import TOLERANCE, answered, difference, good_cases, probabilities
from stress.broken_http import broken_http_cases
from stress.bundles import sound_images, write
from stress.cases import Case
from stress.hostile_images import odd_files
from stress.malformed import malformed_cases
from stress.server import Server, serving
from stress.traffic import drive
from stress.wire import document

pytestmark = pytest.mark.slow

COUNT = 100_000 if LONG else 2_500
CONNECTIONS = 16


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("mixed") / "bundle")


@pytest.fixture(scope="module")
def good() -> list[Case]:
    cases = [case for seed in range(10) for case in good_cases(sound_images(1 + seed % 3, seed))]
    for name, (file, pixels) in odd_files().items():
        expected = probabilities(pixels[None], ["first"], [1.0], "logits")
        data = document("/predict", {"images": [base64.b64encode(file).decode()]})
        cases.append(Case(name, data, check=lambda reply, expected=expected: difference(answered(reply), expected)))
    return cases


@pytest.fixture(scope="module")
def malformed() -> list[Case]:
    return [*malformed_cases(), *broken_http_cases()]


def test_what_is_expected_is_what_onnx_runtime_answers(bundle):
    """Every good answer of the mixed load is compared with numpy's; here that is compared with the served graphs."""
    images = np.concatenate([sound_images(1 + seed % 3, seed) for seed in range(10)])
    images = np.concatenate([images, *(pixels[None] for _, pixels in odd_files().values())])
    for name in ("first", "second", "third"):
        session = onnxruntime.InferenceSession(bundle / f"{name}.onnx", providers=["CPUExecutionProvider"])
        (answer,) = session.run(["probabilities"], {"image": images})
        np.testing.assert_allclose(answer, probabilities(images, [name], [1.0], "logits"), atol=TOLERANCE)


def mixed(good: list[Case], malformed: list[Case], count: int, seed: int) -> list[Case]:
    """Return cases in random order: a fifth malformed, every kind as often as another, the large ones seldom."""
    choice = random.Random(seed)
    small = [case for case in malformed if len(case.request) < 1_000_000 and case.delivery != "trickled"]
    wrong = [*malformed, *(choice.choice(small) for _ in range(count // 5 - len(malformed)))]
    cases = [*wrong, *(choice.choice(good) for _ in range(count - len(wrong)))]
    choice.shuffle(cases)
    return cases


def check(server: Server, cases: list[Case]) -> None:
    tally = asyncio.run(drive(server.port, cases, CONNECTIONS))
    print(f"\n{len(cases)} requests of {len(tally.kinds)} kinds: {tally}")
    assert not tally.wrong, "\n".join(tally.wrong)
    assert sum(tally.kinds.values()) == len(cases)


def test_mixed_load(bundle, good, malformed, tmp_path):
    assert len(malformed) >= 40
    with serving(bundle, tmp_path, workers=2) as server:
        workers = {worker.pid for worker in server.workers()}
        warm_up = COUNT // 5
        check(server, mixed(good, malformed, warm_up, 1))
        before = server.memory()
        check(server, mixed(good, malformed, COUNT - warm_up, 2))
        after = server.memory()
        print(
            f"memory of the workers: {before / 2**20:.1f} MiB, then {after / 2**20:.1f} MiB ({after / before - 1:+.2%})"
        )
        assert server.is_ready()
        assert {worker.pid for worker in server.workers()} == workers
        server.until(lambda: server.metric("requests_held") == 0)
        images = sound_images(2, 77)
        status, answer = server.predict(images.tolist(), model="second")
        assert status == 200
        assert answer["predictions"][0]["labels"][0]["index"] == int(
            np.argmax(probabilities(images[:1], ["second"], [1.0], "logits"))
        )
        assert "Traceback" not in server.log
        if LONG:
            assert after <= before * 1.03
