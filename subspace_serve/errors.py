"""Errors that a user can fix: each says what was wrong, what was found and what to do."""

from __future__ import annotations


class SubspaceServeError(Exception):
    """Base of every error that comes from the input and not from a bug.

    The command line prints its message and exits with status 1; no traceback.
    """


class GeometryError(SubspaceServeError):
    """An alpha outside its domain, of the wrong length, or a geometry with the wrong number of endpoints."""


class ArchitectureError(SubspaceServeError):
    """An unknown architecture, or one that cannot be built for the given input."""


class CheckpointError(SubspaceServeError):
    """A file of weights that is damaged, of another version, or of another network."""


class DataError(SubspaceServeError):
    """A data set that is missing, empty, or of the wrong shape, type or range."""


class CalibrationError(SubspaceServeError):
    """BatchNorm statistics that cannot be computed, or that do not belong to the network."""


class TrainingError(SubspaceServeError):
    """A training run that cannot start, go on or be resumed."""


class RankError(SubspaceServeError):
    """Ranks of one job that differ from each other or cannot connect, or one of which was lost."""


class ExportError(SubspaceServeError):
    """A network that cannot be exported, or whose exported graph disagrees with it."""


class BundleError(SubspaceServeError):
    """A bundle that is damaged, incomplete, altered, or does not fit what was asked of it."""


def reason_of(error: BaseException) -> str:
    """Return the beginning of another library's message, which may be empty, long or of many lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
