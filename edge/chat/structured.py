"""What other servers call a constrained answer, in the field that says it here: response_format.

vLLM has `guided_json` and its kin, later `structured_outputs`; llama.cpp has `json_schema` and `grammar`; SGLang has
`regex` and `ebnf`. Those that mean a JSON schema, a list of choices or a regular expression are the same as a
response_format; a grammar is not supported. At most one of all may be given.
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from edge.chat.messages import not_boolean, shown
from edge.chat.reply import refused

Fields = dict[str, object]

_SCHEMAS = frozenset({"json", "guided_json", "json_schema"})
_OBJECTS = frozenset({"json_object", "guided_json_object"})
_PATTERNS = frozenset({"regex", "guided_regex"})
_CHOICES = frozenset({"choice", "guided_choice"})
_GRAMMARS = frozenset({"grammar", "guided_grammar", "ebnf", "structural_tag"})
_INNER = ("json", "json_object", "regex", "choice", "grammar", "structural_tag")  # of structured_outputs
_OUTER = (
    "guided_json", "guided_json_object", "guided_regex", "guided_choice", "guided_grammar", "json_schema", "grammar",
    "regex", "ebnf",
)  # fmt: skip
_INSTEAD = "a JSON schema in response_format, or a regular expression in guided_regex, is"


class Structured(NamedTuple):
    """What an answer must be like, as a response_format, and the field that said so."""

    field: str
    response_format: object


def structured(body: Mapping[str, object]) -> Structured:
    """Return what a request says an answer must be like. Raises: ApiError 400 that names the field."""
    given = [(name, name, body[name]) for name in _OUTER if _is_given(name, body.get(name))]
    nested = body.get("structured_outputs")
    if nested is not None:
        given += _nested(nested)
    response_format = body.get("response_format")
    is_text = isinstance(response_format, Mapping) and response_format.get("type") == "text"
    names = ["response_format"] * (response_format is not None and not is_text) + [field for field, _, _ in given]
    if len(names) > 1:
        raise refused(400, f"{names[0]}: expected one field that says what the answer is, got {names[1]} beside it")
    if given:
        field, name, value = given[0]
        return Structured(field, _response_format(field, name, value))
    return Structured("response_format", None if is_text else response_format)


def _is_given(name: str, value: object) -> bool:
    return value is not None and value is not False and (value != "" or name in _SCHEMAS)


def _nested(nested: object) -> list[tuple[str, str, object]]:
    """Return the constraints in structured_outputs, each with its field's whole name."""
    if not isinstance(nested, Mapping):
        raise refused(400, f"structured_outputs: expected an object, got {shown(nested)}")
    found = [(f"structured_outputs.{name}", name, nested[name]) for name in _INNER if _is_given(name, nested.get(name))]
    if not found:
        raise refused(400, "structured_outputs: expected one of json, json_object, regex and choice, got none of them")
    return found


def _response_format(field: str, name: str, value: object) -> Fields:
    if name in _GRAMMARS:
        raise refused(400, f"{field}: a grammar is not supported; {_INSTEAD}")
    if name in _OBJECTS:
        if value is not True:
            raise refused(400, f"{field}: {not_boolean(value)}")
        return {"type": "json_object"}
    if name in _PATTERNS:
        if not isinstance(value, str):
            raise refused(400, f"{field}: expected a regular expression, got {shown(value)}")
        return {"type": "regex", "pattern": value}
    if name in _CHOICES:
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            raise refused(400, f"{field}: expected a list of strings that are not empty, got {shown(value)}")
        return {"type": "regex", "pattern": "|".join(map(re.escape, dict.fromkeys(value)))}
    return {"type": "json_schema", "json_schema": {"schema": _schema(field, value)}}


def _schema(field: str, value: object) -> object:
    """Return a schema, which may be written as a string of JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise refused(400, f"{field}: expected a JSON schema, got a string that is not JSON") from error
    if not isinstance(value, Mapping | bool):
        raise refused(400, f"{field}: expected a JSON schema, got {shown(value)}")
    return value
