"""The service's configuration: environment variables, read once, checked by name."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from subspace_serve.bundle.images import MAX_PIXELS
from subspace_serve.bundle.manifest import Aggregate, Ensemble, Name, describe
from subspace_serve.bundle.session import Device
from subspace_serve.errors import SubspaceServeError

PREFIX = "SUBSPACE_SERVE_"
DATA_VARIABLE = "SUBSPACE_SERVE_DATA"  # the library's own, for training data
# Kubernetes sets such variables by itself for a Service whose name begins with subspace-serve.
_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$")
DEFAULT_BUNDLE = "runs/latest/bundle"


class SettingsError(SubspaceServeError):
    """A setting that is unknown or out of its range."""


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; each field is the variable SUBSPACE_SERVE_<FIELD>.

    `threads` are ONNX Runtime's, `concurrency` the requests worked on at once, both a worker; `queue` is how many more
    may wait there before the next is answered 429, and `deadline` is in seconds from a request's arrival. `ensembles`
    is a JSON object like a manifest's, where weights may be left out.
    """

    bundle: Path = Path(DEFAULT_BUNDLE)
    device: Device = "auto"
    workers: int = 1
    threads: int = 0
    concurrency: int = 2
    queue: int = 64
    deadline: float = 10.0
    max_body: int = 16 * 1024 * 1024
    max_pixels: int = MAX_PIXELS
    max_images: int = 64
    default: str | None = None
    ensembles: Mapping[str, Ensemble] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the variables. Raises `SettingsError` for an unknown one, naming the nearest, and for a wrong value."""
        environment = os.environ if environment is None else environment
        known = {PREFIX + item.name.upper(): item.name for item in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in environment.items():
            if not variable.startswith(PREFIX) or variable == DATA_VARIABLE or _KUBERNETES.search(variable):
                continue
            if variable not in known:
                near = difflib.get_close_matches(variable, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
                raise SettingsError(f"{variable} is not a setting; {hint}")
            name = known[variable]
            try:
                values[name] = _PARSERS[name](text)
            except ValueError as error:
                raise SettingsError(f"{variable} is {text!r:.100}; expected {error}") from None
        return cls(**values)

    @property
    def threads_per_worker(self) -> int:
        """`threads`, or an equal share of the cores when it is 0."""
        return self.threads or max(1, available_cores() // self.workers)


def available_cores() -> int:
    """Count the cores that this process may use, by its affinity and its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


class _ConfiguredEnsemble(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    members: tuple[Name, ...]
    weights: tuple[float, ...] | None = None
    aggregate: Aggregate = "probabilities"
    temperature: float = 1.0


_ENSEMBLES = TypeAdapter(dict[Name, _ConfiguredEnsemble])


def _ensembles(text: str) -> dict[str, Ensemble]:
    try:
        return {
            name: Ensemble(
                members=configured.members,
                weights=configured.weights or (1.0,) * len(configured.members),
                aggregate=configured.aggregate,
                temperature=configured.temperature,
            )
            for name, configured in _ENSEMBLES.validate_json(text, strict=True).items()
        }
    except ValidationError as error:
        example = '{"pair": {"members": ["endpoint-0", "endpoint-1"]}}'
        raise ValueError(f"JSON like {example} ({describe(error)})") from None


def _number(convert: Callable[[str], Any], minimum: float) -> Callable[[str], Any]:
    kind = "a whole number" if convert is int else "a number"

    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not minimum <= value < float("inf"):
            raise ValueError(f"{kind} of at least {minimum}")
        return value

    return parse


def _device(text: str) -> str:
    if text not in get_args(Device):
        raise ValueError(f"one of {', '.join(get_args(Device))}")
    return text


_PARSERS: dict[str, Callable[[str], Any]] = {
    "bundle": Path,
    "device": _device,
    "workers": _number(int, 1),
    "threads": _number(int, 0),
    "concurrency": _number(int, 1),
    "queue": _number(int, 0),
    "deadline": _number(float, 0.001),
    "max_body": _number(int, 1),
    "max_pixels": _number(int, 1),
    "max_images": _number(int, 1),
    "default": str,
    "ensembles": _ensembles,
}
