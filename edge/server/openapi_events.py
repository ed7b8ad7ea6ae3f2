"""The events of a stream in the document at /openapi.json.

OpenAPI 3.1 has one schema for a body. Of `text/event-stream` it is that of each event, by the names of its fields, as
checkers and generators read it; OpenAPI 3.2 calls it itemSchema. Comments are not events.
"""

from collections.abc import Mapping

from edge.server.openapi_shapes import STRING, Fields, closed, either

_DONE: Fields = {"const": "[DONE]"}
_UNNAMED: Fields = {"const": "message"}  # what a reader calls an event without a name


def event_of(
    payload: Mapping[str, object],
    words: str,
    *,
    is_named: bool = False,
    ends: bool = False,
    switch: str = "`stream`",
) -> Fields:
    """Return the schema of each event of a stream.

    payload: of its data, which is JSON. words: what the events are. is_named: whether each has its type as its name;
    ends: whether `data: [DONE]`, which has no name, is the last. switch: the field that asks for them.
    """
    json: Fields = {"type": "string", "contentMediaType": "application/json", "contentSchema": dict(payload)}
    described = {"description": f"With {switch}: one of the server-sent events, {words}."}
    unnamed = closed({"data": either(json, _DONE) if ends else json}, {"event": _UNNAMED})
    if not is_named:
        return {**unnamed, **described}
    named = closed({"event": STRING, "data": json})
    done = closed({"data": _DONE}, {"event": _UNNAMED})
    return {**(either(named, done) if ends else named), **described}
