"""Whether several networks train faster at once than one after another: `python -m benchmarks.batched`.

Prints one JSON document: the time of the forward and the backward pass of several networks as one, their weights
stacked and their convolutions grouped (`torch.func.vmap`), over the time of as many passes, of batches of 64 images of
14 pixels a side; and how much arithmetic the separate passes do in a second.
"""

from __future__ import annotations

from collections.abc import Callable

import click
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import environment, interleaved, measurement_options, ratio, report, summary, use_threads
from subspace_serve.space.architecture import Architecture
from trainer.architectures import build

BATCH, SIDE, CLASSES = 64, 14, 10
WIDTHS, COUNTS = (8, 16, 32), (2, 3)


def passes(width: int, count: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what takes the gradients of `count` networks one after another, and what takes them at once."""
    architecture = Architecture(f"cresnet8-{width}", CLASSES, 1, SIDE, SIDE)
    models = [build(architecture).train().to(memory_format=torch.channels_last) for _ in range(count)]  # type: ignore
    images = torch.randn(count, BATCH, 1, SIDE, SIDE)
    labels = torch.arange(count * BATCH).view(count, BATCH) % CLASSES
    parameters, buffers = stack_module_state(models)

    def loss(weights: dict[str, Tensor], state: dict[str, Tensor], inputs: Tensor, answers: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(models[0], (weights, state), inputs), answers)

    at_once = vmap(grad(loss))

    def separately() -> None:
        for model, inputs, answers in zip(models, images, labels, strict=True):
            nn.functional.cross_entropy(model(inputs), answers).backward()
            model.zero_grad()

    return separately, lambda: at_once(parameters, buffers, images, labels)


def operations(call: Callable[[], object]) -> int:
    """Return how many floating-point operations the convolutions and matrix products of a call take."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@click.command()
@measurement_options
def main(rounds: int, threads: int, json_file: str | None) -> None:
    """Time the passes of several networks at once against as many passes."""
    use_threads(threads)
    found = {}
    for width in WIDTHS:
        for count in COUNTS:
            separately, at_once = passes(width, count)
            seconds = interleaved({"separately": separately, "at once": at_once}, rounds=rounds, warm_up=2)
            rates = [operations(separately) / each / 1e9 for each in seconds["separately"]]
            found[f"{count} of cresnet8-{width}"] = {
                "at_once_over_separately": ratio(seconds["at once"], seconds["separately"]),
                "separately_gigaflops_a_second": summary(rates),
            }
    report({**environment(), "passes": found}, json_file)


if __name__ == "__main__":
    main()
