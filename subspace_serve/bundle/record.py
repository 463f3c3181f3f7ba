"""What the parts of a manifest have in common: names, numbers, files, and how a part is read and written."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Count = Annotated[int, Field(ge=1)]
Unit = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
# A plain name: a manifest can point nowhere but into its own folder.
FileName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=200)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Temperature = Annotated[float, Field(gt=0)]


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


class BundleFile(Record):
    """A file of the bundle."""

    file: FileName
    sha256: Sha256
