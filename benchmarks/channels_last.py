"""Where torch's strided convolutions go wrong in channels-last order on a CPU: `python -m benchmarks.channels_last`.

Each case runs one convolution forward and backward, twice, in its own process, since a case that writes outside its
memory may end the process or corrupt the next case. A case is `killed` (by a signal), `hangs`, is `wrong` (output or
gradients differ from those in contiguous order), an `error` or `fine`. glibc's checking allocator, if it is installed,
turns writes beyond a block into an abort, which reveals corruption that would not have crashed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import click

CHECKING_ALLOCATOR = "libc_malloc_debug.so.0"
_PATIENCE = 20.0
_TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Case:
    """One convolution and its input."""

    channels: int
    side: int
    batch: int = 16
    outputs: int = 16
    kernel: int = 1
    stride: int = 2
    groups: int = 1
    dtype: str = "float32"
    threads: int = 1


def sweeps() -> dict[str, Iterator[Case]]:
    """Return the cases, by the setting that is varied."""
    sides = (8, 14, 16, 28, 32, 56, 64, 112, 224)
    channels = range(1, 65)
    few = (1, 3, 4, 7, 8, 12, 15, 16, 17, 24, 31, 32, 48, 63, 64)
    plain = [Case(count, side) for count, side in product(channels, sides)]
    some = [Case(count, side) for count, side in product(few, (16, 32, 64, 112))]
    return {
        "channels and sides": iter(plain),
        "batch sizes": (replace(case, batch=batch) for case, batch in product(some, (1, 2, 7, 64))),
        "output channels": (replace(case, outputs=outputs) for case, outputs in product(some, (1, 8, 24, 64))),
        "strides": (replace(case, stride=stride) for case, stride in product(some, (1, 3, 4))),
        "groups": (
            replace(case, channels=case.channels * groups, outputs=16 * groups, groups=groups)
            for case, groups in product(some, (2, 4))
        ),
        "bfloat16": (replace(case, dtype="bfloat16") for case in some),
        "two threads": (replace(case, threads=2) for case in some),
        "3x3 kernels": (replace(case, kernel=3) for case in some),
        "2x2 kernels": (replace(case, kernel=2) for case in some),
    }


def outcome(case: Case) -> str:
    """Run a case in a forked process; return `fine`, `wrong`, `hangs`, `killed by signal N` or `error`."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115 -- the process ends here
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            code = 0 if agrees(case) else 1
        finally:
            os._exit(code)
    deadline = time.monotonic() + _PATIENCE
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.005)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "hangs"
    status = ended[1]
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}"
    return {0: "fine", 1: "wrong"}.get(os.WEXITSTATUS(status), "error")


def agrees(case: Case) -> bool:
    """Compare output and gradients in channels-last with those in contiguous order."""
    import torch

    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, case.dtype)
    images = torch.randn(case.batch, case.channels, case.side, case.side)
    weight = torch.randn(case.outputs, case.channels // case.groups, case.kernel, case.kernel)

    def passes(order: torch.memory_format) -> list[torch.Tensor]:
        # `clone` and not `contiguous`, since with one channel a tensor is in both orders at once.
        inputs = [tensor.to(dtype).clone(memory_format=order).requires_grad_() for tensor in (images, weight)]
        output = torch.nn.functional.conv2d(inputs[0], inputs[1], stride=case.stride, groups=case.groups)
        output.float().square().mean().backward()
        return [output.detach(), *(tensor.grad for tensor in inputs if tensor.grad is not None)]

    expected = passes(torch.contiguous_format)
    for _ in range(2):
        found = passes(torch.channels_last)
        for value, right in zip(found, expected, strict=True):
            scale = right.float().abs().max().item()
            if not (value.float() - right.float()).abs().max().item() <= _TOLERANCES[case.dtype] * scale:
                return False
        del found, value, right
    return True


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as text, with consecutive ones joined: 1-7, 9."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "none"


def _with_checking_allocator() -> None:
    """Start this program again under glibc's checking allocator, unless it runs under it already."""
    if os.environ.get("LD_PRELOAD") or not any(Path(lib, CHECKING_ALLOCATOR).exists() for lib in _LIBRARIES):
        return
    os.environ |= {"LD_PRELOAD": CHECKING_ALLOCATOR, "GLIBC_TUNABLES": "glibc.malloc.check=3"}
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.channels_last", *sys.argv[1:]])


_LIBRARIES = ("/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib")


@click.command()
@click.option("--only", multiple=True, help="Name of a sweep (repeatable).")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every case's outcome to a file.")
def main(only: tuple[str, ...], json_file: Path | None) -> None:
    """Run the sweeps; print, for each setting, which numbers of input channels per group had which outcome."""
    _with_checking_allocator()
    import torch  # noqa: F401 -- loaded once, before forking

    results = []
    for name, cases in sweeps().items():
        if only and name not in only:
            continue
        bad: dict[tuple, dict[str, list[int]]] = {}
        for case in cases:
            found = outcome(case)
            results.append({"sweep": name, **asdict(case), "outcome": found})
            setting = tuple((key, value) for key, value in asdict(case).items() if key != "channels")
            bad.setdefault(setting, {}).setdefault(found, []).append(case.channels // case.groups)
        click.echo(f"{name}:")
        for settings, outcomes in bad.items():
            text = " ".join(f"{key} {value}" for key, value in settings)
            click.echo(f"  {text}: " + "; ".join(f"{what} {ranges(counts)}" for what, counts in outcomes.items()))
    if json_file:
        json_file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
