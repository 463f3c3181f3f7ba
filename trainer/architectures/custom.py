"""The user's own architecture, `package.module:function`, imported only when the user names it."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable

from torch import nn

from subspace_serve.errors import ArchitectureError

SIGNATURE = "(*, classes, channels, height, width)"
"""What a builder of the user's own is called with: keyword arguments, and those of --arch-argument."""

_PATTERN = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")


def import_builder(name: str) -> Callable[..., nn.Module]:
    """Import the function that `package.module:function` names; the working directory is searched last.

    Raises:
        ArchitectureError: the name is malformed, its module cannot be imported, or has no such function.
    """
    match = _PATTERN.fullmatch(name)
    if match is None:
        raise ArchitectureError(f"An architecture of your own is named package.module:function; found {name!r}.")
    # An installed command does not search the working directory. Last, so that it hides nothing, and kept,
    # because the module may import its neighbours later.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(match["module"])
    except Exception as error:  # the user's module may fail in any way
        raise ArchitectureError(
            f"The module of architecture {name!r} cannot be imported: {type(error).__name__}: {error}; "
            "install it, run from the folder that holds it, or mend it."
        ) from error
    function = vars(module).get(match["function"])
    if function is None:
        raise ArchitectureError(
            f"Module {match['module']!r} ({module.__file__}) has no {match['function']!r}; check the spelling."
        )
    if not callable(function):
        raise ArchitectureError(
            f"{name!r} must be a function {SIGNATURE} that returns a torch.nn.Module; found {type(function).__name__}."
        )
    return function
