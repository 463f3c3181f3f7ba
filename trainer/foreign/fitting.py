"""From a foreign state dict to the weights of one of our networks: names, shapes and types, checked both ways."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from subspace_serve.errors import ArchitectureError, CheckpointError
from subspace_serve.space.architecture import Architecture
from subspace_serve.space.subspace import Weights
from subspace_serve.suggestions import listed
from trainer.architectures import build, penultimate
from trainer.foreign.published import split_endpoints
from trainer.foreign.reading import StateDict
from trainer.state import batchnorm_statistics, check_coordinates, kept_state, trained_parameters

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What data parallelism, torch.compile and wrappers put before every name."""

_COUNTERS = ("num_batches_tracked", "n_averaged")
_FLOATS = (torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Fitted:
    """One network's numbers, under the names and of the shapes that the architecture has.

    Attributes:
        name: where they are from, for messages.
        weights: its parameters, float32.
        statistics: its BatchNorm layers' running means and variances, empty where the file has none.
        constants: what else is neither, such as frozen parameters and buffers.
        notes: what was changed to make it fit, for people.
        new: parameters of the classifier that the file has for other classes, and that are left as they were drawn.
    """

    name: str
    weights: Weights
    statistics: Weights
    constants: Weights
    notes: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


@dataclass
class Fitter:
    """Fits state dicts to an architecture.

    Attributes:
        architecture: of the network.
        cast: bring other floating-point types to float32 instead of refusing them.
        new_head: leave a classifier of another size as it is, instead of refusing it.
    """

    architecture: Architecture
    cast: bool = False
    new_head: bool = False

    def __post_init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build(self.architecture)
        check_coordinates(network)
        self._expected = network.state_dict()
        self._buffers = dict(network.named_buffers())
        self._parameters = trained_parameters(network)
        self._statistics = batchnorm_statistics(network)
        self._drawn = kept_state(self.architecture, 0).keys()
        try:
            classifier = penultimate(network)
            self._head = next(name for name, module in network.named_modules() if module is classifier)
        except ArchitectureError:
            self._head = None

    def fit(self, found: StateDict) -> list[Fitted]:
        """Return the networks in a state dict: one, or the endpoints of a subspace of the paper's published code.

        Raises:
            CheckpointError: names, shapes or types are not the architecture's, or numbers are not finite.
        """
        tensors, notes = self._without_prefixes(found.tensors)
        tensors = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in _COUNTERS}
        endpoints = split_endpoints(tensors, self._expected)
        if len(endpoints) > 1:
            notes.append(f"{len(endpoints)} endpoints, as the paper's published code saves them")
        names = [found.name] if len(endpoints) == 1 else [f"{found.name}, endpoint {i}" for i in range(len(endpoints))]
        return [self._fitted(name, each, notes) for name, each in zip(names, endpoints, strict=True)]

    def _without_prefixes(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Take off what wrappers put before every name, unless the network itself has such names."""
        stripped = []
        while True:
            prefix = next((prefix for prefix in PREFIXES if _all_begin(tensors, prefix)), None)
            if prefix is None or any(name in self._expected for name in tensors):
                break
            stripped.append(prefix)
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        return tensors, [f"the prefix {''.join(stripped)} was taken off"] if stripped else []

    def _fitted(self, name: str, tensors: dict[str, Tensor], notes: Iterable[str]) -> Fitted:
        notes = list(notes)
        tensors = dict(tensors)
        self._fit_classifier(tensors, notes)
        self._check_names(name, tensors)
        new = self._check_shapes(name, tensors)
        arrays = self._checked_numbers(name, {key: value for key, value in tensors.items() if key not in new})
        fresh = {key: self._parameters[key].detach().numpy().copy() for key in new}
        weights = {key: fresh[key] if key in fresh else arrays[key] for key in self._parameters}
        statistics = {key: arrays[key] for key in self._statistics if key in arrays}
        constants = {key: value for key, value in arrays.items() if key not in weights and key not in statistics}
        if self._statistics and not statistics and not self.new_head:  # who trains on needs none
            notes.append("it has no BatchNorm statistics of its own")
        if new:
            notes.append(f"the classifier {self._head} is of another size in the file and starts anew")
        return Fitted(name, weights, statistics, constants, tuple(notes), new)

    def _fit_classifier(self, tensors: dict[str, Tensor], notes: list[str]) -> None:
        """Bring a classifier that is a 1x1 convolution, maybe without bias, to a linear layer, and the reverse."""
        weight, bias = f"{self._head}.weight", f"{self._head}.bias"
        if self._head is None or weight not in tensors:
            return
        found, wanted = tensors[weight], self._expected[weight]
        if found.dim() != wanted.dim() and {found.dim(), wanted.dim()} == {2, 4} and set(found.shape[2:]) <= {1}:
            tensors[weight] = found.reshape(*found.shape[:2], *wanted.shape[2:])
            notes.append(
                f"the classifier {self._head} was a {'1x1 convolution' if found.dim() == 4 else 'linear layer'}"
            )
            if bias in self._expected and bias not in tensors:
                tensors[bias] = torch.zeros(len(found), dtype=found.dtype)
                notes.append("its missing bias is zero")

    def _check_names(self, name: str, tensors: dict[str, Tensor]) -> None:
        # Of the statistics all may be missing, since they can be recomputed, and of the rest what every building gives.
        statistics = self._statistics if self._statistics.intersection(tensors) else frozenset()
        wanted = self._parameters.keys() | statistics | self._drawn
        # A buffer that is drawn anew in every building may be one that no state dict has: then no file can give it.
        missing = [key for key in self._expected | self._buffers if key in wanted and key not in tensors]
        excess = [key for key in tensors if key not in self._expected and key not in self._buffers]
        if missing or excess:
            parts = [f"missing {listed(missing, 3)}"] * bool(missing) + [f"unknown {listed(excess, 3)}"] * bool(excess)
            remedy = "" if missing and excess else ", or save what is missing too"
            wrapped = next((prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in excess)), None)
            if wrapped:
                remedy += f"; some names begin with {wrapped} and others do not: save that part's state dict alone"
            raise CheckpointError(
                f"{name} is not of {self.architecture.name}: {'; '.join(parts)}; choose its architecture with "
                f"--arch{remedy}"
            )

    def _check_shapes(self, name: str, tensors: dict[str, Tensor]) -> tuple[str, ...]:
        """Return the classifier's parameters, where it has another size and may; refuse every other shape."""
        wanted = {key: self._own(key).shape for key in tensors}
        other = [key for key, tensor in tensors.items() if tensor.shape != wanted[key]]
        if not other:
            return ()
        weight = f"{self._head}.weight"
        if set(other) <= {weight, f"{self._head}.bias"} and tensors[weight].shape[1:] == wanted[weight][1:]:
            if self.new_head:
                return tuple(other)
            raise CheckpointError(
                f"{name} has a classifier {self._head} of {len(tensors[weight])} classes and the network is to "
                f"have {self.architecture.classes}; give data (or labels) of its classes, or fine-tune it: "
                "subspace-serve train --init starts a classifier anew"
            )
        key = other[0]
        raise CheckpointError(
            f"{name} is not of {self.architecture.name}: {key} has shape {tuple(tensors[key].shape)}, expected "
            f"{tuple(wanted[key])}"
            + (f" ({len(other)} tensors differ)" if len(other) > 1 else "")
            + "; choose its architecture, channels (--channels) and image size"
        )

    def _checked_numbers(self, name: str, tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
        for key, tensor in tensors.items():
            if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
                kind = "quantised" if tensor.is_quantized else "empty of numbers" if tensor.is_meta else "sparse"
                raise CheckpointError(f"{name}: {key} is {kind}; save dense floating-point weights")
        types = {key: self._own(key).dtype for key in tensors}
        odd = {key: tensor.dtype for key, tensor in tensors.items() if tensor.dtype != types[key]}
        castable = all(kind in _FLOATS and types[key] == torch.float32 for key, kind in odd.items())
        if odd and not (self.cast and castable):
            shown = [f"{key} is {_type_text(kind)} and not {_type_text(types[key])}" for key, kind in odd.items()]
            remedy = "--cast float32 converts them" if castable else "save them in the network's own types"
            raise CheckpointError(f"{name} has numbers of another type: {listed(shown, 3)}; {remedy}")
        # Copied: the file may be mapped, and may be written to while we work.
        arrays = {key: np.array(tensor.to(types[key]).numpy(), order="C") for key, tensor in tensors.items()}
        for key, array in arrays.items():
            if not np.isfinite(array).all():
                raise CheckpointError(f"{name} has values in {key} that are not finite; take an earlier checkpoint")
            if key.endswith("running_var") and key in self._statistics and (array < 0).any():
                raise CheckpointError(f"{name} has negative variances in {key}; take another checkpoint")
        return arrays

    def _own(self, key: str) -> Tensor:
        """Return the network's own tensor of a name."""
        return self._expected[key] if key in self._expected else self._buffers[key]


def _type_text(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _all_begin(names: Iterable[str], prefix: str) -> bool:
    names = [name for name in names if name not in _COUNTERS]
    return bool(names) and all(name.startswith(prefix) for name in names)
