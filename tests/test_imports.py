"""What begins quickly, or runs where little is installed, imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HELP = (
    "from click.testing import CliRunner; from subspace_serve.cli import cli; "
    "assert 'Train a subspace' in CliRunner().invoke(cli, ['--help']).output"
)
BUILT = (
    "from trainer.architectures import build; from subspace_serve.space.architecture import Architecture; "
    "build(Architecture('cresnet8', 10, 1, 8, 8))"
)
SENT = (
    "import numpy; from subspace_serve.client.images import listed; "
    "assert len(listed([numpy.zeros((4, 5)), b'file', 'path'])) == 3"
)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (HELP, "torch bentoml numpy onnxruntime pydantic"),
        ("import subspace_serve.client", "torch bentoml onnxruntime pydantic starlette service subspace_serve.bundle"),
        (SENT, "PIL"),
        ("import subspace_serve.space.alpha", "numpy"),
        ("import subspace_serve.measure.metrics, subspace_serve.show.plot", "torchmetrics matplotlib"),
        ("import subspace_serve.data.corruptions as c; c.available()", "imagecorruptions skimage torch"),
        (
            "import service.app, service.bento, subspace_serve.bundle.verify, subspace_serve.cli.serving",
            "torch trainer torchvision",
        ),
        ("import trainer.config, trainer.methods, trainer.presets", "torch"),
        (BUILT, "torchvision"),
    ],
    ids=["help", "client", "images sent", "alpha", "metrics", "corruptions", "service", "settings", "cresnet"],
)
def test_nothing_heavy_is_imported(code: str, absent: str) -> None:
    program = f"import sys; {code}; print(*sorted(set({absent.split()}) & set(sys.modules)))"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr + done.stdout
