"""Which packages are installed, and in which version."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import subspace_serve

_PACKAGES = ("numpy", "onnxruntime-gpu", "onnxruntime", "torch")


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a loaded module without a spec, as of a package that was made unimportable
        return False


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, for its provenance: this program, Python and what computes."""
    found = {"subspace-serve": subspace_serve.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            # What is loaded also names its build, such as 2.14.1+cu130.
            found[package.removesuffix("-gpu")] = getattr(sys.modules.get(package), "__version__", version(package))
    return found
