"""Command-line flags, made from settings that are declared once as a pydantic model, and extra arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def _argument(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Read KEY=VALUE pairs; a value that is not valid JSON is text."""
    arguments: dict[str, Any] = {}
    for pair in values:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE")
        try:
            arguments[key] = json.loads(text)
        except ValueError:
            arguments[key] = text
    return arguments


architecture_arguments = click.option(
    "--arch-argument",
    "arguments",
    multiple=True,
    callback=_argument,
    metavar="KEY=VALUE",
    help="Extra argument of the architecture, such as dropout=0.1. Repeatable.",
)


def setting_options(
    model: type[BaseModel],
    *,
    without: Collection[str] = (),
    flags: Mapping[str, str] | None = None,
    metavars: Mapping[str, str] | None = None,
) -> Callable[[Callable], Callable]:
    """Return a decorator that adds a flag for every setting; those that are not given arrive as None, or as ().

    Args:
        model: declares the settings, with types, bounds, defaults and descriptions.
        without: settings that get no flag.
        flags: by setting, where the flag's name differs from the setting's.
        metavars: by setting, what the value is called where that is not the last word of the setting's name.
    """

    def decorate(command: Callable) -> Callable:
        for name, field in reversed(model.model_fields.items()):
            if name in without:
                continue
            command = click.option(
                (flags or {}).get(name) or _flag(name, field),
                name,
                default=None,
                is_flag=field.annotation is bool or None,
                type=_type(field),
                multiple=_takes_several(field),
                metavar=(metavars or {}).get(name) or _metavar(name, field),
                help=_help(field),
            )(command)
        return command

    return decorate


def _flag(name: str, field: FieldInfo) -> str:
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if field.default is True else f"--{flag}"


def _takes_several(field: FieldInfo) -> bool:
    return "tuple" in str(field.annotation)


def _choices(field: FieldInfo) -> list[str]:
    return [choice for choice in get_args(field.annotation) if isinstance(choice, str)]


def _type(field: FieldInfo) -> click.ParamType | None:
    """Return a choice, or a number type with the setting's own bounds; None for other settings."""
    if choices := _choices(field):
        return click.Choice(choices)
    kinds = {field.annotation, *get_args(field.annotation)}
    bounds = {
        name: getattr(part, name) for part in field.metadata for name in ("ge", "gt", "le") if hasattr(part, name)
    }
    low, high, is_open = bounds.get("gt", bounds.get("ge")), bounds.get("le"), "gt" in bounds
    if float in kinds:
        return click.FloatRange(low, high, min_open=is_open) if bounds else click.FLOAT
    if int in kinds:
        return click.IntRange(low, high, min_open=is_open) if bounds else click.INT
    return None


def _metavar(name: str, field: FieldInfo) -> str | None:
    if field.annotation is bool:
        return None
    if choices := _choices(field):
        return "|".join(choices)
    return "FILE" if "Path" in str(field.annotation) else name.rsplit("_", 1)[-1].upper()


def _help(field: FieldInfo) -> str:
    """Return the description, with the default where there is one that the description does not state."""
    text, default = field.description or "", field.default
    if _takes_several(field):
        text += " Repeatable."
    if default in (None, ()) or default is False or "[default:" in text:
        return text
    return f"{text}  [default: {default:g}]" if isinstance(default, float) else f"{text}  [default: {default}]"
