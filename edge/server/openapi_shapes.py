"""The shapes that the document at /openapi.json is made of."""

from collections.abc import Mapping, Sequence

Fields = dict[str, object]

NULL: Fields = {"type": "null"}
STRING: Fields = {"type": "string"}
FILLED: Fields = {"type": "string", "minLength": 1}
COUNT: Fields = {"type": "integer", "minimum": 0}
ANY_OBJECT: Fields = {"type": "object"}
MAYBE_STRING: Fields = {"type": ["string", "null"]}
MAYBE_BOOLEAN: Fields = {"type": ["boolean", "null"]}

REKA_ERROR: Fields = {"type": "object", "required": ["detail"], "properties": {"detail": STRING}}
OPENAI_ERROR: Fields = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": STRING, "type": STRING, "param": MAYBE_STRING, "code": MAYBE_STRING},
        }
    },
}

ANTHROPIC_ERROR: Fields = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": STRING, "message": STRING, "details": ANY_OBJECT},
        },
    },
}


OLLAMA_ERROR: Fields = {"type": "object", "required": ["error"], "properties": {"error": STRING}}


def closed(properties: Mapping[str, object], optional: Mapping[str, object] | None = None) -> Fields:
    """Return an object of ours: these fields, perhaps the optional ones, and no others."""
    return {**shape({**properties, **(optional or {})}, *properties), "additionalProperties": False}


def shape(properties: Mapping[str, object], *required: str) -> Fields:
    """Return an object that may have further fields."""
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def listed(item: Mapping[str, object], *, least: int = 0, most: int | None = None) -> Fields:
    """Return a list of equal items."""
    few = {"minItems": least} if least else {}
    return {"type": "array", "items": dict(item), **few, **({} if most is None else {"maxItems": most})}


def either(*schemas: Mapping[str, object]) -> Fields:
    return {"anyOf": [dict(schema) for schema in schemas]}


def maybe(schema: Mapping[str, object]) -> Fields:
    """Return a schema, or null, which is as good as absent."""
    return either(schema, NULL)


def one_of_values(values: Sequence[object]) -> Fields:
    return {"enum": [*values, None]}
