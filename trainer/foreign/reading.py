"""State dicts from files that others wrote, read without running any code that they name."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from subspace_serve.errors import CheckpointError
from subspace_serve.suggestions import listed

PLACES = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "ema", "model_ema")
"""Where files that hold more than a state dict have it; the first that is there is taken unless another is named."""
SEVERAL = "state_dicts"
"""A list of state dicts, as the published code of the paper saves."""

_LARGEST_HEADER = 100 << 20
_REFUSED = re.compile(r"GLOBAL ([\w.]+)|(?:class|function) ([\w.]+)")


@dataclass(frozen=True)
class StateDict:
    """One network's tensors as a file has them.

    Attributes:
        name: the file, and the place in it, for messages.
        tensors: by the file's own names.
        others: further places of the file that hold state dicts.
    """

    name: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...] = ()


def read_state_dicts(file: Path, key: str | None = None) -> list[StateDict]:
    """Return the state dicts of a file: one, or several where the published code of the paper saved an ensemble.

    A file is what its first bytes say, whatever its name: safetensors, or what `torch.save` wrote.

    Args:
        file: to be read.
        key: the place in it (`ema`, `checkpoint.model`); None takes the whole, or the first of `PLACES`.

    Raises:
        CheckpointError: the file is missing, truncated or damaged, names code to run, or has no state dict there.
    """
    if not file.is_file():
        found = "a folder" if file.is_dir() else "no such file"
        raise CheckpointError(f"{file}: {found}; give a file of weights (.pt, .pth, .bin, .safetensors)")
    document = _load_safetensors(file) if _is_safetensors(file) else _load_pickled(file)
    return _found(document, file, key)


def _is_safetensors(file: Path) -> bool:
    """Return whether a file begins as safetensors do: the header's length, and an opening brace."""
    with file.open("rb") as opened:
        start = opened.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < _LARGEST_HEADER


def _load_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise CheckpointError(f"{file} is truncated or damaged ({error}); copy it again") from error


def _load_pickled(file: Path) -> Any:
    """Load what `torch.save` wrote; nothing that it names is called but what builds tensors and containers."""
    _check_kind(file)
    archive = zipfile.is_zipfile(file)
    if archive:
        _check_sums(file)
    try:
        with torch.serialization.safe_globals(_PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice to other programs
            # Mapped, so that a file takes memory once; the format of before torch 1.6 cannot be.
            return torch.load(file, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        if refused or archive or "Unsupported operand" in str(error):
            what = f"call {refused[1] or refused[2]}" if refused else "do what state dicts need not"
            raise CheckpointError(
                f"{file} is refused: to be read it would {what}, and weights are read without running code; save the "
                "state dict alone, torch.save(model.state_dict(), …), or as safetensors"
            ) from None
        raise _unreadable(file) from None
    except Exception as error:  # damaged bytes make torch.load fail in any way
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{file} is a TorchScript archive, which holds code; save torch.jit.load(…).state_dict()"
            ) from None
        raise _unreadable(file) from error


def _check_sums(file: Path) -> None:
    """Check an archive's own checksums, at which torch does not look."""
    try:
        with zipfile.ZipFile(file) as opened:
            damaged = opened.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, zlib.error) as error:
        raise _unreadable(file) from error
    if damaged is not None:
        raise CheckpointError(f"{file} is damaged (the checksum of {damaged} differs); copy it again")


def _unreadable(file: Path) -> CheckpointError:
    return CheckpointError(f"{file} is no file of weights, or is truncated or damaged; copy it again")


def _check_kind(file: Path) -> None:
    """Refuse what a failed download leaves, by its name."""
    with file.open("rb") as opened:
        start = opened.read(64).lstrip()
    if start.startswith(b"<"):
        raise CheckpointError(f"{file} is a web page; download the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file} is a pointer of Git LFS; fetch the file itself (git lfs pull)")


class _Type:
    """A NumPy type as pickles describe it; NumPy itself is not called."""

    def __new__(cls, code: str = "", *_: Any) -> _Type:
        made = super().__new__(cls)
        made.code, made.order = str(code), "<"
        return made

    code: str
    order: str

    def __setstate__(self, state: tuple) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _number(kind: _Type, data: bytes | str = b"") -> float | int | bool | complex | str:
    """Return a NumPy scalar's value; text where its type is none of a number."""
    if not isinstance(kind, _Type) or not re.fullmatch(r"[bifuc]\d{1,2}", kind.code):
        return "a value that is not a number"
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(raw, kind.order + kind.code)[0].item()


def _text(text: str, encoding: str = "") -> bytes:
    """Return the bytes that old pickles write as text."""
    return text.encode("latin1")


class _Ignored:
    """Stands for a value that holds no weights, such as a namespace of arguments; nothing of it is kept."""

    def __new__(cls, *_: Any, **__: Any) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""


_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_PLAIN: list[Any] = [
    *((_number, f"{module}.scalar") for module in _NUMPY),
    *((_Ignored, f"{module}._reconstruct") for module in _NUMPY),
    (_Type, "numpy.dtype"),
    (_Ignored, "numpy.ndarray"),
    (_text, "_codecs.encode"),
    (_Ignored, "types.SimpleNamespace"),
    (_Ignored, "argparse.Namespace"),
    *(
        (_Ignored, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    ),
]
"""What files name beside tensors and containers, each with what is built instead."""


def _found(document: Any, file: Path, key: str | None) -> list[StateDict]:
    """Return the state dicts of what was loaded from a file."""
    if key is not None:
        value = document
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if not _holds_tensors(value):
            places = _places(document)
            raise CheckpointError(
                f"{file} has no state dict at {key!r}; "
                + (f"it has some at {listed(places)}" if places else f"found {_described(document)}")
            )
        return [StateDict(f"{file} ({key})", _tensors(value, file))]
    several = document.get(SEVERAL) if isinstance(document, Mapping) else None
    if isinstance(several, list) and several and all(map(_holds_tensors, several)):
        names = [f"{file} ({SEVERAL}[{index}])" for index in range(len(several))] if len(several) > 1 else [str(file)]
        return [StateDict(name, _tensors(entry, file)) for name, entry in zip(names, several, strict=True)]
    if places := _places(document):
        value = document
        for part in places[0].split("."):
            value = value[part]
        return [StateDict(f"{file} ({places[0]})", _tensors(value, file), tuple(places[1:]))]
    if _holds_tensors(document):
        return [StateDict(str(file), _tensors(document, file))]
    raise CheckpointError(
        f"{file} holds no state dict: found {_described(document)}; give a file that torch.save(model.state_dict(), …) "
        "wrote, or one that has it below " + ", ".join(PLACES[:3])
    )


def _places(document: Any) -> list[str]:
    """Return where a document holds state dicts below usual names, also one level deeper (`ema.state_dict`)."""
    if not isinstance(document, Mapping):
        return []
    found = []
    for name in PLACES:
        value = document.get(name)
        if isinstance(value, Mapping):
            deeper = [inner for inner in PLACES if _holds_tensors(value.get(inner))]
            found += [f"{name}.{inner}" for inner in deeper] or ([name] if _holds_tensors(value) else [])
    return found


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values())


def _tensors(document: Mapping[Any, Any], file: Path) -> dict[str, Tensor]:
    odd = next((name for name, value in document.items() if not isinstance(value, Tensor)), None)
    # Layers may keep something of their own beside their tensors.
    if odd is not None and not str(odd).endswith("_extra_state"):
        raise CheckpointError(
            f"{file}: {odd!r} among the weights is {type(document[odd]).__name__}, not a tensor; save the state dict "
            "alone"
        )
    # A name may hold anything, and stands in messages.
    tensors = {name: value.detach() for name, value in document.items() if isinstance(value, Tensor)}
    return {str(name).encode("unicode_escape").decode(): tensor for name, tensor in tensors.items()}


def _described(document: Any) -> str:
    """Return what a document is, for somebody who wonders why it is refused."""
    if not isinstance(document, Mapping):
        return f"a {type(document).__name__}"
    if {"state", "param_groups"} <= document.keys():
        return "an optimiser's state only"
    if not document:
        return "nothing"
    names = [str(name) for name in document]
    return "an optimiser's state only" if any("optim" in name for name in names) else listed(names, 5)
