"""JSON Schemas, from the types that validate requests and those that describe answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema
from pydantic_core.core_schema import TypedDictSchema

Json = dict[str, Any]
Key = TypeVar("Key")

_REFERENCE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class DocumentedAs:
    """Annotates a type that pydantic does not validate with the type that documents it."""

    type: Any

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        """Return the other type's schema."""
        return handler(TypeAdapter(self.type).core_schema)


def alone(name: str, others: Sequence[str], absent: Json | bool) -> Json:
    """Return what makes a schema exclude `others` where the property `name` is present: there they are `absent`."""
    return {"dependentSchemas": {name: {"properties": dict.fromkeys(others, absent)}}}


def without_null(schema: Json) -> None:
    """Change an object's schema so that its properties may be left out, but not be null."""
    for value in schema["properties"].values():
        if "anyOf" in value:
            value |= value.pop("anyOf")[0]


def schemas_of(types: Mapping[Key, tuple[Any, bool]]) -> tuple[dict[Key, Json], Json]:
    """Return each type's schema, and the components that the schemas refer to, by name.

    `types` has, with each type, whether it is a request (validated) or an answer. Answers' objects allow no other
    properties.
    """
    inputs: list[Any] = [
        (key, "validation" if is_request else "serialization", TypeAdapter(type))
        for key, (type, is_request) in types.items()
    ]
    schemas, components = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE, schema_generator=_Generator)
    return {key: _plain(schema) for (key, _), schema in schemas.items()}, _plain(components.get("$defs", {}))


class _Generator(GenerateJsonSchema):
    def typed_dict_schema(self, schema: TypedDictSchema) -> Json:
        return super().typed_dict_schema(schema) | {"additionalProperties": False}


def _plain(schema: Any) -> Any:
    """Return a schema without titles, which repeat names, and without defaults that are null."""
    if isinstance(schema, dict):
        return {
            name: _plain(value)
            for name, value in schema.items()
            if not (name == "title" and isinstance(value, str)) and not (name == "default" and _is_nothing(value))
        }
    return [_plain(value) for value in schema] if isinstance(schema, list) else schema


def _is_nothing(default: Any) -> bool:
    return default is None or (isinstance(default, dict) and all(value is None for value in default.values()))
