"""Stands in for pydantic on a machine without it: settings are taken as they are given, and not checked.

Import this before `trainer`. Where pydantic is installed it does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar


class Field:
    """A setting's default."""

    def __init__(self, default: Any = None, *, default_factory: Callable[[], Any] | None = None, **_: Any) -> None:
        self.default = default
        self.make = default_factory or (lambda: default)


class BaseModel:
    """Settings with the defaults of their class."""

    model_fields: ClassVar[dict[str, Field]]

    def __init_subclass__(cls) -> None:
        given = {name: cls.__dict__.get(name) for name in cls.__annotations__ if name != "model_config"}
        cls.model_fields = {name: each if isinstance(each, Field) else Field(each) for name, each in given.items()}

    def __init__(self, **given: Any) -> None:
        if unknown := given.keys() - self.model_fields.keys():
            raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
        for name, field in self.model_fields.items():
            setattr(self, name, given.get(name, field.make()))

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields}


def _stand_in() -> ModuleType:
    module = ModuleType("pydantic")
    module.__dict__.update(
        AfterValidator=lambda check: check,
        BaseModel=BaseModel,
        ConfigDict=dict,
        Field=Field,
        ValidationError=type("ValidationError", (ValueError,), {}),
    )
    return module


try:
    import pydantic  # noqa: F401
except ImportError:
    sys.modules["pydantic"] = _stand_in()
