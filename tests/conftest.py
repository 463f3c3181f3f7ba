"""What the tests share: one thread for torch, a tiny trained line, and a bundle of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx
    import numpy as np

# Networks this small lose more by threads waiting for each other than they gain; child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = {"data": "digits", "architecture": "cresnet8-4", "epochs": 4, "batch_size": 128, "subspace": "line"}


@pytest.fixture(scope="session")
def line_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a line trained for a few epochs on digits; tests must not change it."""
    from trainer.config import TrainingConfig
    from trainer.training import train

    folder = tmp_path_factory.mktemp("line") / "runs" / "line"
    train(TrainingConfig(**TINY), folder)
    return folder


@pytest.fixture
def own_run(line_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the trained line that a test may change."""
    return Path(shutil.copytree(line_run, tmp_path / "copy"))


@pytest.fixture(scope="session")
def standard_run(line_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a standard network with a record of training like the line's: one that was never trained."""
    from subspace_serve.space.checkpoint import load_subspace, save_subspace
    from subspace_serve.space.geometry import single_network
    from subspace_serve.space.subspace import Subspace
    from trainer.architectures import build
    from trainer.modules import weights_of

    folder = tmp_path_factory.mktemp("runs") / "standard"
    line = load_subspace(line_run)
    weights = weights_of(build(line.architecture))
    save_subspace(Subspace(single_network(), line.architecture, (weights,), line.provenance), folder)
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of linear classifiers, whose answers numpy knows; tests must not change it."""
    from bundle_factory import make_bundle

    return make_bundle(tmp_path_factory.mktemp("linear") / "bundle")


@pytest.fixture(scope="session")
def line_bundle(line_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of the line's midpoint and ends; tests must not change it."""
    from subspace_serve.export import BundlePlan, Origin, export_bundle
    from subspace_serve.run.opened import OpenRun
    from subspace_serve.space.alpha import parse_alphas

    run = OpenRun(line_run)
    request = parse_alphas(["midpoint", "endpoints"], run.subspace.geometry, {})
    return export_bundle(
        Origin(run.subspace, run.network, run.preprocessing, run.labels, run.checkpoint_sha256, run.data.test),
        BundlePlan.of(request, dict.fromkeys(request.points, run.calibration), evaluation=run.data.test),
        tmp_path_factory.mktemp("exported") / "bundle",
    )


@pytest.fixture(scope="session")
def whole_bundle(line_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that holds the line itself, with a domain `inverted`; tests must not change it."""
    import numpy as np

    from subspace_serve.adapt import adapt, write_adaptation
    from subspace_serve.bundle import Bundle
    from subspace_serve.bundle.subspace import BundledSubspace
    from subspace_serve.data import MemoryImages
    from subspace_serve.export import BundlePlan, Origin, export_bundle
    from subspace_serve.run.opened import OpenRun
    from subspace_serve.space.alpha import parse_alphas

    run = OpenRun(line_run, calibration_count=512)
    request = parse_alphas(["midpoint", "endpoints"], run.subspace.geometry, {})
    folder = export_bundle(
        Origin(
            run.subspace, run.network, run.preprocessing, run.labels, run.checkpoint_sha256, run.data.test,
            checkpoint=run.file,
        ),
        BundlePlan.of(request, dict.fromkeys(request.points, run.calibration), subspace=run.calibration),
        tmp_path_factory.mktemp("whole") / "bundle",
    )  # fmt: skip
    pixels, labels = run.data.test.take(np.arange(64))
    subspace = BundledSubspace(Bundle.open(folder), device="cpu", threads=1)
    inverted = MemoryImages(255 - pixels, labels)
    write_adaptation(subspace, adapt(subspace, inverted, name="inverted", data="inverted digits"), folder)
    return folder


@pytest.fixture
def new(line_run: Path, tmp_path: Path) -> Path:
    """Return a file of the trained line's validation images, darker."""
    import numpy as np

    from subspace_serve.run.opened import OpenRun

    run = OpenRun(line_run)
    pixels, labels = run.data.validation.take(np.arange(len(run.data.validation)))
    np.savez(tmp_path / "new.npz", images=pixels // 2, labels=labels, label_names=run.labels)
    return tmp_path / "new.npz"


@pytest.fixture(scope="session")
def images(line_run: Path) -> np.ndarray:
    """Return four test images of the trained line."""
    import numpy as np

    from subspace_serve.run.opened import OpenRun

    return OpenRun(line_run).data.test.take(np.arange(100, 104))[0]


@pytest.fixture
def seen() -> list[httpx.Request]:
    """Return the requests that a client has sent, for a transport to note them in."""
    return []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that workers end together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
