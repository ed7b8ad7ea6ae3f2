"""Messages as they come in, dicts or models of ours or the SDK's: checked, counted, their media not opened yet."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice, takewhile
from typing import cast

from edge.chat.prompt import Call, Role
from edge.errors import TextError
from edge.limits import Kind, Limits
from edge.media.detail import Level
from edge.types import ChatMessage, HttpValidationError, UnprocessableEntityError, ValidationError, fields_of

Loc = tuple[str | int, ...]
Place = Callable[[Loc], Loc]
MessageLike = ChatMessage | Mapping[str, object]

LEVELS: Mapping[str, Level] = {"auto": "auto", "low": "low", "high": "high", "original": "high"}  # what `detail` may be

_MOST_LEVELS = 500  # from 3.13 on, Python's own limit is ten times that of 3.11
_ROLES = ("user", "assistant", "system", "tool_output")
_KINDS: Mapping[str, Kind] = {
    "image_url": "image",
    "video_url": "video",
    "audio_url": "audio",
    "pdf_url": "pdf",
    "image": "image",
    "video": "video",
    "audio": "audio",
}
_DETAILED = ("image", "pdf")  # a frame of a video is one tile


@dataclass(frozen=True, eq=False)
class MediaPart:
    """A media part that was not opened yet; source: a URL or path, or (in process) what is decoded already.

    loc: where it stood in the request as it came. detail, max_tiles: of images and PDFs; None: as the request has it.
    """

    kind: Kind
    source: object
    loc: Loc
    is_url: bool = True
    detail: Level | None = None
    max_tiles: int | None = None


class Unparsed(str):
    """What a model wrote for the arguments of a call, where that is no JSON object."""


Result = str | tuple[str | MediaPart, ...]  # what a tool answered: text, or parts where it has media


@dataclass(frozen=True)
class Message:
    """A message whose shape is right; call_ids: of its calls, or of the calls that its results belong to."""

    role: Role
    parts: tuple[str | MediaPart, ...] = ()
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()
    call_ids: tuple[str, ...] = ()

    @property
    def all_parts(self) -> tuple[str | MediaPart, ...]:
        """Its parts, and those of its results."""
        of_results = (part for result in self.results for part in ((result,) if isinstance(result, str) else result))
        return (*self.parts, *of_results)


class Problems:
    """The mistakes found in a request so far, in the shape of a 422's body.

    place: where what stands here stood in the request as it came.
    """

    def __init__(self, place: Place | None = None) -> None:
        self.found: list[ValidationError] = []
        self._place = place

    def place(self, loc: Loc) -> Loc:
        return loc if self._place is None else self._place(loc)

    def add(self, loc: Loc, msg: str, kind: str) -> None:
        self.found.append(ValidationError(loc=list(self.place(loc)), msg=msg, type=kind))

    def flag(self, loc: Loc, value: object) -> bool:
        """Return whether a switch is on; null is off, and what is no boolean is a mistake."""
        if value is not None and not isinstance(value, bool):
            self.add(loc, not_boolean(value), "bool_type")
        return value is True

    def raise_any(self) -> None:
        """Raise: UnprocessableEntityError with all of them, if there are any."""
        if self.found:
            raise UnprocessableEntityError(HttpValidationError(detail=self.found))


def read_messages(messages: object, problems: Problems, limits: Limits) -> list[Message]:
    """Check the shape of messages and count what they hold; what is wrong goes to `problems`.

    Raises: TextError for half a surrogate pair in a text. Source: chat-interface.md, 2.
    """
    loc: Loc = ("body", "messages")
    if not isinstance(messages, Iterable) or isinstance(messages, str | bytes | Mapping):
        problems.add(loc, f"expected a list of messages, got {shown(messages)}", "list_type")
        return []
    items = list(messages)
    if not 1 <= len(items) <= limits.messages:
        kind = "too_long" if items else "too_short"
        problems.add(loc, f"expected 1 to {limits.messages} messages, got {len(items)}", kind)
        return []
    read = [_read_message(item, (*loc, i), problems) for i, item in enumerate(items)]
    _count(read, problems, limits)
    return _in_order_of_calls(read)


def _in_order_of_calls(messages: Sequence[Message]) -> list[Message]:
    """Order each run of results as the calls before it, by id; one that does not answer each call once stays as it is.

    The prompt tells results by their order alone.
    """
    ordered: list[Message] = []
    for role, group in groupby(messages, key=lambda message: message.role):
        run = list(group)
        if role == "tool_output":
            before = takewhile(lambda message: message.role == "assistant", reversed(ordered))
            wanted = [call_id for message in reversed(list(before)) for call_id in message.call_ids]
            run = _ordered(run, wanted)
        ordered += run
    return ordered


def _ordered(run: Sequence[Message], wanted: Sequence[str]) -> list[Message]:
    """Return messages of results with the results in the order of the ids that are wanted."""
    results = [pair for message in run for pair in zip(message.call_ids, message.results, strict=True)]
    by_id = dict(results)
    if len(by_id) != len(results) or len(wanted) != len(results) or set(wanted) != by_id.keys():
        return list(run)
    coming = iter(wanted)
    ids = [tuple(islice(coming, len(message.results))) for message in run]
    return [
        replace(message, results=tuple(by_id[call_id] for call_id in here), call_ids=here)
        for message, here in zip(run, ids, strict=True)
    ]


def not_boolean(value: object) -> str:
    """Return what an error says of a value where a boolean belongs."""
    return f"expected true or false, got {shown(value)}"


def shown(value: object) -> str:
    """Return a value as an error shows it: at most 200 characters, containers by their type alone."""
    if isinstance(value, str):
        return repr(value[:200])[:202]
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() < 512):
        return repr(value)
    return type(value).__name__


def _read_message(item: object, loc: Loc, problems: Problems) -> Message:
    fields = fields_of(item)
    if not isinstance(fields, Mapping):
        problems.add(loc, f"expected a message, got {shown(item)}", "dict_type")
        return Message("user")
    role = fields.get("role")
    if role not in _ROLES:
        problems.add((*loc, "role"), f"expected one of {', '.join(_ROLES)}, got {shown(role)}", "literal_error")
        return Message("user")
    if role == "system" and loc[-1] != 0:
        msg = f"expected a system message only first, got one at index {problems.place(loc)[-1]}: "
        problems.add((*loc, "role"), f"{msg}a later one is not supported; put its text into the first", "value_error")
    calls, call_ids = _read_calls(fields.get("tool_calls"), role, (*loc, "tool_calls"), problems)
    content, content_loc = fields.get("content"), (*loc, "content")
    if content is None and not fields.get("tool_calls"):
        problems.add(content_loc, "field required", "missing")
    if role == "tool_output":
        results, result_ids = _read_results(content, content_loc, problems)
        return Message("tool_output", results=results, call_ids=result_ids)
    parts = _read_parts(content, content_loc, problems)
    if role == "system" and any(isinstance(part, MediaPart) for part in parts):
        problems.add(content_loc, "expected text only in a system message", "value_error")
    return Message(cast(Role, role), parts, calls, call_ids=call_ids)


def _read_parts(content: object, loc: Loc, problems: Problems) -> tuple[str | MediaPart, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (_text(content, loc, problems),)
    if not isinstance(content, list | tuple):
        problems.add(loc, f"expected a string or a list of parts, got {shown(content)}", "string_type")
        return ()
    parts = [_read_part(part, (*loc, i), problems) for i, part in enumerate(content)]
    return tuple(part for part in parts if part is not None)


def _read_part(part: object, loc: Loc, problems: Problems) -> str | MediaPart | None:
    """Tell a part's kind by its keys; the other keys may be there as null."""
    fields = fields_of(part)
    if not isinstance(fields, Mapping):
        problems.add(loc, f"expected a text or media part, got {shown(part)}", "dict_type")
        return None
    present = [key for key in ("text", *_KINDS) if fields.get(key) is not None]
    if len(present) != 1:
        msg = f"expected exactly one of {', '.join(('text', *_KINDS))}, got {', '.join(present) or 'none'}"
        problems.add(loc, msg, "value_error")
        return None
    key = present[0]
    value, declared = fields[key], fields.get("type")
    if declared is not None and declared != key:
        msg = f"expected {key!r}, as the part has that key, got {shown(declared)}"
        problems.add((*loc, "type"), msg, "literal_error")
        return None
    if (key == "text" or key.endswith("_url")) and not isinstance(value, str):
        problems.add((*loc, key), f"expected a string, got {shown(value)}", "string_type")
        return None
    if key == "text":
        return _text(str(value), (*loc, key), problems)
    kind, level, most = _KINDS[key], None, None
    if kind in _DETAILED:
        level, most = (
            read_level(fields.get("detail"), loc, problems),
            read_max_tiles(fields.get("max_tiles"), loc, problems),
        )
    return MediaPart(kind, value, problems.place((*loc, key)), key.endswith("_url"), level, most)


def read_level(detail: object, loc: Loc, problems: Problems) -> Level | None:
    """Return the `detail` of a part or a request, None where there is none; what is wrong goes to `problems`."""
    if detail is None or (isinstance(detail, str) and detail in LEVELS):
        return None if detail is None else LEVELS[detail]
    problems.add((*loc, "detail"), f"expected one of {', '.join(LEVELS)}, got {shown(detail)}", "literal_error")
    return None


def read_max_tiles(most: object, loc: Loc, problems: Problems) -> int | None:
    """Return the `max_tiles` of a part or a request, None where there is none; what is wrong goes to `problems`."""
    if isinstance(most, float) and most.is_integer():
        most = int(most)
    if most is None or (isinstance(most, int) and not isinstance(most, bool) and most >= 1):
        return most
    kind = "value_error" if isinstance(most, int) and not isinstance(most, bool) else "int_type"
    problems.add((*loc, "max_tiles"), f"expected an integer >= 1, got {shown(most)}", kind)
    return None


def _text(text: str, loc: Loc, problems: Problems) -> str:
    """Return a text that can be encoded. Raises: TextError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        place = ".".join(map(str, problems.place(loc)[1:]))
        raise TextError(f"{place}: expected Unicode text, got half a surrogate pair") from error
    return text


def _read_results(content: object, loc: Loc, problems: Problems) -> tuple[tuple[Result, ...], tuple[str, ...]]:
    """Return the results of a message and the ids of their calls."""
    if content is None:
        return (), ()
    if not isinstance(content, list | tuple) or not content:
        problems.add(loc, f"expected a list of tool_call_id and output, got {shown(content)}", "list_type")
        return (), ()
    results: list[Result] = []
    ids = []
    for i, item in enumerate(content):
        fields = fields_of(item)
        values = fields if isinstance(fields, Mapping) else {}
        call_id, output = values.get("tool_call_id"), values.get("output")
        for key, value in (("tool_call_id", call_id), ("output", output)):
            if not isinstance(value, str) and not (key == "output" and isinstance(value, list | tuple)):
                problems.add((*loc, i, key), f"expected a string, got {shown(value)}", "string_type")
        ids.append(str(call_id))
        place = (*loc, i, "output")
        is_text = not isinstance(output, list | tuple)
        results.append(_text(str(output), place, problems) if is_text else _read_parts(output, place, problems))
    return tuple(results), tuple(ids)


def _read_calls(calls: object, role: object, loc: Loc, problems: Problems) -> tuple[tuple[Call, ...], tuple[str, ...]]:
    """Return the calls of a message and their ids."""
    if calls is None or calls == []:
        return (), ()
    if role != "assistant" or not isinstance(calls, list | tuple):
        msg = "a list of calls" if role == "assistant" else f"none in a message of role {role}"
        problems.add(loc, f"expected {msg}, got {shown(calls)}", "list_type")
        return (), ()
    read, ids = [], []
    for i, item in enumerate(calls):
        fields = fields_of(item)
        values = fields if isinstance(fields, Mapping) else {}
        for key in ("id", "name"):
            if not isinstance(values.get(key), str) or not values[key]:
                problems.add((*loc, i, key), f"expected a string, got {shown(values.get(key))}", "string_type")
        parameters = values.get("parameters")
        ids.append(str(values.get("id")))
        if isinstance(parameters, Unparsed):
            read.append(Call(str(values.get("name")), {}, parameters))
        elif isinstance(parameters, Mapping) and _is_json(parameters):
            read.append(Call(str(values.get("name")), parameters))
        else:
            problems.add((*loc, i, "parameters"), f"expected a JSON object, got {shown(parameters)}", "dict_type")
    return tuple(read), tuple(ids)


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False, default=dict)
    except (TypeError, ValueError, RecursionError):
        return False
    return not is_deep(value)


def is_deep(value: object) -> bool:
    """Return whether what JSON can say has more levels than every Python's reader and writer of JSON goes down."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return False
    return True


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _count(messages: Sequence[Message], problems: Problems, limits: Limits) -> None:
    loc: Loc = ("body", "messages")
    n_parts = sum(len(message.all_parts) for message in messages)
    if n_parts > limits.parts:
        problems.add(loc, f"expected at most {limits.parts} parts in all, got {n_parts}", "too_long")
    for kind, name, most_here, most in limits.counts():
        counts = [sum(isinstance(p, MediaPart) and p.kind == kind for p in message.all_parts) for message in messages]
        for i, count in enumerate(counts):
            if count > most_here:
                msg = f"expected at most {most_here} {name} in a message, got {count}"
                problems.add((*loc, i, "content"), msg, "too_long")
        if sum(counts) > most:
            problems.add(loc, f"expected at most {most} {name} in all messages, got {sum(counts)}", "too_long")
