"""Number options whose errors say in plain words what they take."""

from __future__ import annotations

import contextlib
from typing import Any

import click


class _NumberError(click.BadParameter):
    """A value that is no number, or outside its range."""

    def format_message(self) -> str:
        return self.message


class _InPlainWords(click.ParamType):
    """Mixed into click's own types of numbers, whose names and ranges `--help` shows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        with contextlib.suppress(click.BadParameter):
            number = super().convert(value, param, ctx)
            if number == number:  # a NaN is within every range, as click compares
                return number
        option = param.opts[-1] if param else "this"
        raise _NumberError(f"{option} takes {_described(self)}; found {str(value)!r:.100}", ctx, param)


class _Integer(_InPlainWords, click.types.IntParamType): ...


class _Float(_InPlainWords, click.types.FloatParamType): ...


class _IntRange(_InPlainWords, click.IntRange): ...


class _FloatRange(_InPlainWords, click.FloatRange): ...


def explain_numbers(command: click.Command) -> None:
    """Give every number option of a command a plain-worded error."""
    for parameter in command.params:
        parameter.type = _explained(parameter.type)


def _explained(type: click.ParamType) -> click.ParamType:
    if isinstance(type, click.IntRange | click.FloatRange):
        kind = _IntRange if isinstance(type, click.IntRange) else _FloatRange
        return kind(type.min, type.max, type.min_open, type.max_open, type.clamp)  # type: ignore[arg-type]
    if isinstance(type, click.types.IntParamType):
        return _Integer()
    if isinstance(type, click.types.FloatParamType):
        return _Float()
    return type


def _described(type: click.ParamType) -> str:
    """Return what a type of numbers takes: `a whole number from 1 to 5`."""
    words = "a whole number" if isinstance(type, click.types.IntParamType) else "a number"
    if not isinstance(type, click.IntRange | click.FloatRange):
        return words
    low, high, is_open = type.min, type.max, type.min_open or type.max_open
    if low is not None and high is not None and not is_open:
        return f"{words} from {low} to {high}"
    bounds = []
    if low is not None:
        bounds.append(f"greater than {low}" if type.min_open else f"of at least {low}")
    if high is not None:
        bounds.append(f"less than {high}" if type.max_open else f"of at most {high}")
    return " ".join([words, " and ".join(bounds)])
