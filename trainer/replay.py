"""Kernels that are recorded once and then launched together.

A small network's step is hundreds of kernels that each take less time than their launch. A CUDA graph launches all of
them at once (Nguyen, Carilli et al. 2021, "Accelerating PyTorch with CUDA Graphs"). It always reads and writes the same
memory, so inputs are copied into place before it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import torch
from torch import Tensor

WARM_UP = 3
"""Runs before recording, in which libraries choose their algorithms and allocate what they keep."""

Run = Callable[[], None]
Record = Callable[[Run], Run]
"""Given something to run, returns what runs it again."""


def cuda_graph(run: Run) -> Run:
    """Record the kernels that `run` launches; return what launches them again.

    `run` must not wait for the device, and must compute on the current one (`torch.cuda.set_device`): streams and
    graphs belong to that.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def run_again(run: Run) -> Run:
    """Return `run` itself: what stands in for a recording where there is no CUDA."""
    return run


class Replayed:
    """A function of tensors, recorded on its first call and replayed on others with inputs of the same shapes.

    Args:
        function: takes tensors, and constants by keyword; returns tensors. Other tensors that it reads or writes must
            stay where they are.
        record: `cuda_graph`, or `run_again` without CUDA.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]], record: Record = cuda_graph) -> None:
        self._function = function
        self._record = record
        self._recorded_for: Hashable = None
        self._inputs: list[Tensor] = []
        self._outputs: Sequence[Tensor] = ()
        self._again: Run = lambda: None

    def __call__(self, *inputs: Tensor, **constants: Hashable) -> tuple[Tensor, ...]:
        """Return the function's results, as copies that stay when it is called again."""
        wanted = (tuple(each.shape for each in inputs), tuple(constants.items()))
        if wanted != self._recorded_for:
            self._inputs = [each.clone() for each in inputs]
            self._again = self._record(partial(self._run, **constants))
            self._recorded_for = wanted
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._again()
        return tuple(each.clone() for each in self._outputs)

    def _run(self, **constants: Hashable) -> None:
        self._outputs = self._function(*self._inputs, **constants)
