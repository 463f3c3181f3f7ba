"""What the parts of a manifest have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Count = Annotated[int, Field(ge=1)]


class Record(BaseModel):
    """What every part of a manifest is: frozen, finite, and without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    _where_used: ClassVar[tuple[str, ...]] = ()
    """Later additions, written only where they are used, so that older readers can read every bundle without them."""

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        for name in self._where_used:
            if name in document and getattr(self, name) == type(self).model_fields[name].default:
                del document[name]
        return document
