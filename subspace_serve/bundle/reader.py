"""Opens a bundle and refuses, by name, whatever is missing, extra or changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from subspace_serve.bundle.manifest import Ensemble, Manifest, Point, parse_manifest
from subspace_serve.errors import BundleError
from subspace_serve.files import MANIFEST_FILE, sha256_of
from subspace_serve.suggestions import listed


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk that holds exactly the files that its manifest names. For example::

        bundle = Bundle.open("runs/latest/bundle")
        bundle.manifest.input.shape     # one image's shape
        bundle.path("midpoint")         # that point's ONNX file

    Files are checked when the bundle is opened; later changes on disk go unnoticed.
    """

    folder: Path
    manifest: Manifest
    float_points: Mapping[str, str] = field(default_factory=dict)
    """Of points in fewer bits that did not pass their gates here: the float points that answer in their stead."""

    @classmethod
    def open(cls, path: Path | str, *, check_hashes: bool = True) -> Bundle:
        """Read the manifest and compare the folder with it.

        Raises `BundleError` when there is no bundle at `path`, when its format, version or schema is not this
        program's, or when a file is missing, extra or (with `check_hashes`) changed.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise BundleError(
                f"there is no bundle at {folder}; make one with `subspace-serve export`, or give its folder"
            )
        file = folder / MANIFEST_FILE
        if not file.is_file():
            raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST_FILE}; give the folder that export wrote")
        manifest = parse_manifest(file.read_bytes(), origin=str(file))
        bundle = cls(folder, manifest)
        bundle._check_names()
        if check_hashes:
            bundle._check_hashes()
        return bundle

    @property
    def points(self) -> dict[str, Point]:
        """The points by name."""
        return self.manifest.points

    @property
    def ensembles(self) -> dict[str, Ensemble]:
        """The ensembles by name."""
        return self.manifest.ensembles

    @property
    def labels(self) -> tuple[str, ...]:
        """The class labels, in the order of the logits."""
        return self.manifest.labels

    @property
    def default(self) -> str:
        """The name of the point or ensemble that answers when none is asked for."""
        return self.manifest.default

    def path(self, point: str) -> Path:
        """Return the path of a point's ONNX file."""
        return self.folder / self.points[point].file

    @property
    def golden(self) -> Path:
        """The path of the file with golden images and logits."""
        return self.folder / self.manifest.golden.file

    def _check_names(self) -> None:
        expected = {MANIFEST_FILE, *self.manifest.files}
        found = {entry.name for entry in self.folder.iterdir()}
        missing = sorted(name for name in expected if not (self.folder / name).is_file())
        if missing:
            raise BundleError(
                f"bundle {self.folder} lacks {listed(missing)}, named in its manifest; export it again or copy it whole"
            )
        if extra := sorted(found - expected):
            raise BundleError(
                f"bundle {self.folder} holds {listed(extra)}, not named in its manifest; remove what is not its own"
            )

    def _check_hashes(self) -> None:
        for name, expected in self.manifest.files.items():
            found = sha256_of(self.folder / name)
            if found != expected:
                raise BundleError(
                    f"{self.folder / name} was changed: its SHA-256 is {found[:12]}..., "
                    f"the manifest's {expected[:12]}...; export the bundle again or copy it whole"
                )
