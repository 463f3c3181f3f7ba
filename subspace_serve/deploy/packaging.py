"""Packages a bundle with the service: as a Bento, and as the context of a container image. Needs no network."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from subspace_serve.bundle.reader import Bundle
from subspace_serve.errors import SubspaceServeError
from subspace_serve.files import (
    MANIFEST_FILE,
    atomic_file,
    atomic_folder,
    check_replaceable,
    sha256_of,
    temporary_folder,
)

BUNDLE_FOLDER = "bundle"
"""The bundle's folder in a Bento's sources and in a container's context."""

_PACKAGE = Path(__file__).parent.parent
_ROOT = _PACKAGE.parent
_ENTRY_FILE = "entry.py"
_ENTRY = f'''"""Starts the service on the bundle beside this file, or on the one that SUBSPACE_SERVE_BUNDLE names."""

import os
from pathlib import Path

os.environ.setdefault("SUBSPACE_SERVE_BUNDLE", str(Path(__file__).parent / "{BUNDLE_FOLDER}"))

from service import SubspaceService  # noqa: E402, F401
'''
_BENTO_PACKAGES = ("subspace_serve", "service")
_IMAGE_PACKAGES = ("subspace_serve", "service", "trainer")
_PART = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_RECIPE = ("Dockerfile", "pyproject.toml", "README.md", "LICENSE")
_LAST_STAGE = """

# What is built unless a target is named: the bundle is mounted at /bundle.
FROM server
"""


class PackagingError(SubspaceServeError):
    """A bundle that cannot be packaged as requested."""


@dataclass(frozen=True)
class BuiltBento:
    """A Bento in BentoML's store: its `tag` is NAME:VERSION, its `folder` what `bentoml serve` takes."""

    tag: str
    folder: Path


def build_bento(bundle: Bundle, *, name: str, version: str | None = None) -> BuiltBento:
    """Build a Bento of the service and a bundle in BentoML's store (BENTOML_HOME, or ~/bentoml).

    The version defaults to a shortened SHA-256 of the contents, and a Bento that exists already is then not built
    again. Raises `PackagingError` for an invalid name or version, for a given version that exists, and when BentoML
    fails.
    """
    for part, text in {"name": name, "version": version}.items():
        if text is not None and not _PART.fullmatch(text):
            raise PackagingError(
                f"the Bento's {part} is {text!r:.80}; give at most 63 small letters, digits, '-', '_' and '.', "
                "with a letter or digit first and last"
            )
    # Not in the store, which may be inside a hidden folder: BentoML includes nothing from those.
    with temporary_folder(Path(tempfile.gettempdir(), "subspace-serve-build"), hidden=False) as temporary:
        sources, tools = temporary / "sources", temporary / "bin"
        _write_sources(bundle, sources, name)
        tag = f"{name}:{version or _digest(sources)}"
        built = BuiltBento(tag, _store() / "bentos" / tag.replace(":", "/"))
        if not built.folder.exists():
            _stand_in_for_uv(tools)
            _bentoml(sources, "build", "--version", tag.partition(":")[2], "--output", "tag", tools=tools)
        elif version is not None:
            raise PackagingError(
                f"there is a Bento {tag} already; give another version, or `bentoml delete {tag}` first"
            )
    return built


def export_bento(bento: BuiltBento, archive: Path) -> None:
    """Write a Bento as one file NAME.bento, whole or not at all, for `bentoml import`. Raises `PackagingError`."""
    with atomic_file(archive.resolve()) as temporary:
        temporary.unlink()
        _bentoml(Path.cwd(), "export", bento.tag, str(temporary))


def write_container_context(bundle: Bundle, target: Path) -> None:
    """Write a folder from which `docker build` makes an image that serves the bundle: recipe, packages, bundle.

    A folder that this wrote before is replaced in one step. Raises `PackagingError` for any other that is not empty,
    and where the container's recipe is not installed.
    """
    check_context(target)
    recipe = _recipe()
    with atomic_folder(target) as context:
        for name in _RECIPE:
            _copy(recipe / name, context / name)
        _end_with_bundle(context / "Dockerfile")
        for package in _IMAGE_PACKAGES:
            _copy_package(package, context)
        _copy_bundle(bundle, context)


def check_context(target: Path) -> None:
    """Raise `PackagingError` unless a container's context can be written at `target`."""
    own = {*_RECIPE, *_IMAGE_PACKAGES, BUNDLE_FOLDER}
    whole = (target / BUNDLE_FOLDER / MANIFEST_FILE).is_file()
    check_replaceable(
        target,
        # A checkout has these names too, and others beside them.
        lambda names: set(names) - own if whole and own.issubset(names) else names,
        "{target} holds something else than a container's context ({found}); name a new folder",
        PackagingError,
    )


def _write_sources(bundle: Bundle, folder: Path, name: str) -> None:
    """Write the folder that `bentoml build` runs on: only what goes into the Bento, and its build file."""
    for package in _BENTO_PACKAGES:
        _copy_package(package, folder)
    _copy_bundle(bundle, folder)
    (folder / _ENTRY_FILE).write_text(_ENTRY, encoding="utf-8")
    build = {
        "service": f"{Path(_ENTRY_FILE).stem}:SubspaceService",
        "name": name,
        "description": _description(bundle),
        "labels": {"bundle-sha256": sha256_of(bundle.folder / MANIFEST_FILE)},
        "include": [f"/{_ENTRY_FILE}", *(f"/{folder}/" for folder in (*_BENTO_PACKAGES, BUNDLE_FOLDER))],
        # Locking asks a package index; these are the versions that the bundle was verified with.
        "python": {"packages": _requirements(), "lock_packages": False},
        "envs": [{"name": "BENTOML_DO_NOT_TRACK", "value": "true"}],
    }
    # JSON is YAML too.
    (folder / "bentofile.yaml").write_text(json.dumps(build, indent=2) + "\n", encoding="utf-8")


def _description(bundle: Bundle) -> str:
    points, ensembles = ", ".join(bundle.points), ", ".join(bundle.ensembles) or "none"
    return (
        f"Serves the points {points} and the ensembles {ensembles}; {bundle.default} answers unless another is named."
    )


def _requirements() -> list[str]:
    """Return what serving needs: as installed here, and as declared for other platforms. BentoML adds itself."""
    lines = []
    for text in importlib.metadata.requires("subspace-serve") or []:
        requirement = Requirement(text)
        if requirement.name == "bentoml" or "extra" in str(requirement.marker):
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            version = importlib.metadata.version(requirement.name).partition("+")[0]
            text = f"{requirement.name}=={version}" + (f"; {requirement.marker}" if requirement.marker else "")
        lines.append(text)
    return lines


def _stand_in_for_uv(folder: Path) -> None:
    """Put a dummy command `uv` into a folder: BentoML downloads uv where it is missing, though nothing is locked."""
    folder.mkdir()
    command = folder / "uv"
    command.write_text("#!/bin/sh\necho 'uv is not installed' >&2\nexit 127\n", encoding="utf-8")
    command.chmod(0o755)


def _bentoml(folder: Path, *arguments: str, tools: Path | None = None) -> None:
    """Run BentoML's command in a folder, without this process's settings of the service and without telemetry."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUBSPACE_SERVE_")}
    environment |= {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_NO_LOCAL_URL": "1"}
    if tools:
        environment["PATH"] = os.pathsep.join([environment.get("PATH", os.defpath), str(tools)])
    command = [sys.executable, "-m", "bentoml", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "no message")
        raise PackagingError(f"`bentoml {arguments[0]}` failed: {reason.strip()}")


def _store() -> Path:
    return Path(os.environ.get("BENTOML_HOME") or "~/bentoml").expanduser()


def _recipe() -> Path:
    """Return the folder with the Dockerfile and what it copies: inside an installed package, else the checkout."""
    for folder in (_PACKAGE / "recipe", _ROOT):
        if all((folder / name).is_file() for name in _RECIPE):
            return folder
    raise PackagingError(f"the container's recipe ({', '.join(_RECIPE)}) is not installed; run this from a checkout")


def _end_with_bundle(dockerfile: Path) -> None:
    """Remove the last stage, so that the one before it, with the bundle inside, is the default target."""
    text = dockerfile.read_text(encoding="utf-8").removesuffix(_LAST_STAGE)
    if not re.search(r"^FROM server AS with-bundle$(?!.*^FROM)", text, re.MULTILINE | re.DOTALL):
        raise PackagingError("the Dockerfile's last stage but one is not `with-bundle`; restore it")
    dockerfile.write_text(text.rstrip() + "\n", encoding="utf-8")


def _copy_bundle(bundle: Bundle, folder: Path) -> None:
    for name in (MANIFEST_FILE, *bundle.manifest.files):
        _copy(bundle.folder / name, folder / BUNDLE_FOLDER / name)
    Bundle.open(folder / BUNDLE_FOLDER)


def _copy_package(package: str, folder: Path) -> None:
    for file in _files(_ROOT / package):
        if "__pycache__" not in file.parts and file.parent.name != "recipe":
            _copy(file, folder / file.relative_to(_ROOT))


def _copy(source: Path, target: Path) -> None:
    """Copy a file's contents with mode 644, so that a server that runs as another user can read the copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(folder):
        digest.update(f"{file.relative_to(folder)} {sha256_of(file)}\n".encode())
    return digest.hexdigest()[:16]


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())
