"""The service's configuration: a setting has the same name as a flag, in the TOML file and as a variable."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from subspace_serve.bundle.gate import GatePolicy
from subspace_serve.bundle.images import MAX_PIXELS
from subspace_serve.bundle.manifest import Aggregate, Count, Ensemble, Name, describe
from subspace_serve.cores import available_cores
from subspace_serve.errors import SubspaceServeError
from subspace_serve.network.sessions import Device
from subspace_serve.suggestions import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "SUBSPACE_SERVE_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
# Not settings: where the library keeps data sets, a running server's state folder, and the configuration file.
_OTHER_VARIABLES = {PREFIX + "DATA", PREFIX + "STATE", PREFIX + "RANKS_TIMEOUT", CONFIG_VARIABLE}
# Kubernetes itself sets such variables for a Service whose name begins with subspace-serve.
_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")

_TOKENS = {"token", "token_file"}  # two ways to give the same

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SettingsError(SubspaceServeError):
    """A setting that is unknown or out of its range."""


class ConfiguredEnsemble(BaseModel):
    """An ensemble in the configuration; without weights its members count equally."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    members: tuple[Name, ...]
    weights: tuple[float, ...] | None = None
    aggregate: Aggregate = "probabilities"
    temperature: float = 1.0

    @model_validator(mode="after")
    def _fits(self) -> ConfiguredEnsemble:
        self.as_ensemble()
        return self

    def as_ensemble(self) -> Ensemble:
        """Return it in the form of the manifest's ensembles."""
        return Ensemble(
            members=self.members,
            weights=self.weights or (1.0,) * len(self.members),
            aggregate=self.aggregate,
            temperature=self.temperature,
        )


class Settings(BaseModel):
    """Everything that can be set. `concurrency`, `queue`, `threads` and `max_buffer` apply to each worker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: Path = Field(Path("runs/latest/bundle"), description="The bundle's folder.")
    default: str | None = Field(None, description="The model that answers when none is named (else the bundle's).")
    models: tuple[Name, ...] | None = Field(
        None, description="Points and ensembles to serve (else all, and any place of the bundle's subspace)."
    )
    ensembles: dict[Name, ConfiguredEnsemble] = Field({}, description="More ensembles, by name.")
    quorum: Annotated[int, Field(ge=0)] = Field(
        0, description="Members of an ensemble that must answer; 0 is all of them."
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every one.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(3000, description="Port to listen on.")
    grpc_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port of the Open Inference Protocol over gRPC (none unless given)."
    )
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain, for HTTPS.")
    tls_key: Path | None = Field(None, description="PEM file with the certificate's key.")
    token: str | None = Field(None, description="Bearer token that requests must carry.", min_length=1)
    token_file: Path | None = Field(None, description="File with that token.")
    cors_origins: tuple[str, ...] = Field((), description="Origins whose pages may ask (none unless given).")

    device: Device = Field("auto", description="auto, cpu or cuda; auto is CUDA where ONNX Runtime really gets it.")
    workers: Count = Field(1, description="Worker processes.")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="ONNX Runtime's threads; 0 shares out the cores.")
    concurrency: Count = Field(2, description="Graphs that run at once.")
    batching: Literal["auto", "on", "off"] = Field(
        "auto", description="Join waiting requests for the same members; auto does so on CUDA."
    )
    max_batch: Count = Field(32, description="Images, at most, that are joined in one batch.")
    batch_delay: Seconds = Field(0.0, description="Seconds that a batch may wait to fill.")

    precision_gate: GatePolicy = Field(
        "refuse",
        description="Where a point in fp16 or int8 loses too much here: refuse the bundle, answer with its float "
        "point, or off: look at none.",
    )

    alpha_memory: Annotated[int, Field(ge=0)] = Field(
        256 * 1024 * 1024,
        description="Bytes, on this host, of networks that are built between the points; 0 builds none.",
    )
    alpha_step: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.01, description="To multiples of this a place is brought before its network is built."
    )

    drift: bool = Field(True, description="Watch the answers for drift; see GET /models/NAME/drift.")

    queue: Annotated[int, Field(ge=0)] = Field(64, description="Requests that may wait; the next is answered 429.")
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        10.0, description="Seconds from a request's arrival to 504."
    )
    max_body: Count = Field(16 * 1024 * 1024, description="Bytes of one body.")
    max_buffer: Count = Field(256 * 1024 * 1024, description="Bytes of all bodies being received at once.")
    max_pixels: Count = Field(MAX_PIXELS, description="Pixels of one image file.")
    max_images: Count = Field(64, description="Images of one request.")

    drain: Seconds = Field(2.0, description="Seconds of failing readiness on SIGTERM before the port is closed.")
    grace: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        30.0, description="Seconds from SIGTERM until requests in flight are given up."
    )
    access_log: bool = Field(True, description="Log each request as a line of JSON on standard output.")
    trace_endpoint: str | None = Field(None, description="OTLP/HTTP address for trace spans.")

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both")
        if self.grpc_port == self.port:
            raise ValueError(f"grpc_port is {self.grpc_port}, which port is too; give another")
        if self.grpc_port is not None and self.token and not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("the token has characters other than printable ASCII, which gRPC cannot send")
        if self.grace < self.drain:
            raise ValueError(f"grace ({self.grace:g} s) is shorter than drain ({self.drain:g} s)")
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the file that SUBSPACE_SERVE_CONFIG names, and the variables, which override it.

        Raises `SettingsError`.
        """
        return load_settings({}, environment)

    def to_environment(self) -> dict[str, str]:
        """Return the variables that give a child process these settings."""
        values = self.model_dump(mode="json", exclude_unset=True, exclude={"token_file"})
        if self.token is not None:
            values["token_file"] = ""  # the token itself is among them; this takes the parent's own variable back
        return {
            PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
            if value is not None
        }

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Return what is printed of the settings: everything but the token."""
        return [(name, value) for name, value in super().__repr_args__() if name != "token"]

    @property
    def threads_per_worker(self) -> int:
        """`threads`, or an equal share of the cores when it is 0."""
        return self.threads or max(1, available_cores() // self.workers)


def load_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str] | None = None, config: Path | None = None
) -> Settings:
    """Combine settings: flags override variables, which override the file, which overrides the defaults.

    `flags` has the flags that were given, by the settings' names; `config` is the TOML file, by default the one that
    the variable SUBSPACE_SERVE_CONFIG names. Raises `SettingsError` for an unknown name, with the nearest known one,
    for a value out of its range, for a file that cannot be read, and for `token` and `token_file` side by side.
    """
    environment = os.environ if environment is None else environment
    if config is None and environment.get(CONFIG_VARIABLE):
        config = Path(environment[CONFIG_VARIABLE])
    values: dict[str, Any] = {}
    for origin, given in (
        (str(config), _from_file(config) if config else {}),
        ("the variables", _from_variables(environment)),
        ("the flags", {name: _checked(name, value, "--" + name.replace("_", "-")) for name, value in flags.items()}),
    ):
        if given.keys() >= _TOKENS:
            raise SettingsError(f"{origin}: token and token_file are both given; give one of them")
        if given.keys() & _TOKENS:  # either of them goes before both of an earlier origin
            values = {name: value for name, value in values.items() if name not in _TOKENS}
        values |= given
    if "token_file" in values:
        values["token"] = _read_token(values["token_file"])
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(describe(error)) from None


def _from_file(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the configuration {file} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the configuration {file} is not TOML: {error}") from None
    for name in document:
        if name not in Settings.model_fields:
            raise SettingsError(f"{file}: {name} is not a setting; {_nearest(name, list(Settings.model_fields))}")
    return {name: _checked(name, value, f"{file}: {name}") for name, value in document.items()}


def _from_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    values = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES or _is_kubernetes(variable, text):
            continue
        if variable not in known:
            raise SettingsError(f"{variable} is not a setting; {_nearest(variable, list(known))}")
        name = known[variable]
        if name == "token_file" and not text:  # see `Settings.to_environment`
            continue
        values[name] = _checked(name, _from_text(name, text), variable)
    return values


def _is_kubernetes(variable: str, text: str) -> bool:
    return bool(_KUBERNETES.search(variable)) or (variable == PREFIX + "PORT" and bool(_KUBERNETES_PORT.match(text)))


def _from_text(name: str, text: str) -> Any:
    """Return a variable's value: lists and tables are JSON; a list of names may also be separated by commas."""
    if name == "ensembles" or text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    if name in ("models", "cors_origins"):
        return [part.strip() for part in text.split(",")]
    return text


_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    for name, field in Settings.model_fields.items()
}


def _checked(name: str, value: Any, origin: str) -> Any:
    """Return a value converted to the setting's type. Raises `SettingsError`, naming where it came from."""
    try:
        return _ADAPTERS[name].validate_python(value)
    except ValidationError as error:
        shown = "not shown" if name == "token" else f"{value!r:.100}"
        raise SettingsError(f"{origin} is {shown}: {describe(error)}{_hint(name, error)}") from None


def _hint(name: str, error: ValidationError) -> str:
    if name != "ensembles":
        return ""
    for item in error.errors():
        if item["type"] == "extra_forbidden":
            return f"; {_nearest(str(item['loc'][-1]), list(ConfiguredEnsemble.model_fields))}"
    return '; give a table like {"pair": {"members": ["endpoint-0", "endpoint-1"]}}'


def _nearest(name: str, known: list[str]) -> str:
    return did_you_mean(name, known) or f"known are {', '.join(sorted(known))}"


def _read_token(file: Path) -> str:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"the token's file {file} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingsError(f"the token's file {file} is not text in UTF-8") from None
    if not token:
        raise SettingsError(f"the token's file {file} is empty")
    return token
