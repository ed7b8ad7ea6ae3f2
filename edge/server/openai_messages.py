"""Messages as OpenAI's clients send them, turned into ours: roles, typed parts, calls and results of every spelling."""

import json
import math
from collections.abc import Mapping, Sequence

from edge.chat.messages import Loc, Problems, Unparsed, read_level, read_max_tiles, shown
from edge.media.data_url import of_base64

Fields = dict[str, object]

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool_output",
    "function": "tool_output",
}
TEXTS = ("text", "input_text", "output_text", "refusal")
_URLS: Mapping[str, str] = {
    "image_url": "image_url",
    "input_image": "image_url",
    "video_url": "video_url",
    "audio_url": "audio_url",
}
_PARTS = {"audio_url": "input_audio", "pdf_url": "file"}  # what OpenAI calls them
_SUPPORTED = "text, image_url, video_url, input_audio or file"


def read_messages(messages: object, problems: Problems) -> tuple[object, tuple[int, ...]]:
    """Return messages as ours, and which message of the request each of them began as.

    Leading system and developer messages are joined by a blank line; results in a row are one message. What is not a
    list of messages is left for the chat's own check. Source: chat-interface.md, 2 and 3.
    """
    if not isinstance(messages, list):
        return messages, ()
    n_leading = _n_leading(messages)
    read: list[Fields] = []
    places: list[int] = []
    if n_leading > 1:
        texts = [_system_text(message, i, problems) for i, message in enumerate(messages[:n_leading])]
        read.append({"role": "system", "content": "\n\n".join(filter(None, texts))})
        places.append(0)
    for i, message in enumerate(messages):
        if i >= n_leading or n_leading == 1:
            _add(message, i, read, places, problems)
    if len(read) > 1 and read[-1] == {"role": "assistant", "content": "", "tool_calls": None}:
        read.pop()  # nothing to continue: the answer begins a turn
        places.pop()
    return read, tuple(places)


def place_of_message(loc: Loc, places: Sequence[int]) -> Loc:
    """Return where something in a message of /v1/chat stood in the request.

    places: which message each of ours began as; results in a row became one of ours, and parts have other names there.
    """
    match loc:
        case ("body", "messages", int(i), "content", int(j), "output" | "tool_call_id" as key, *rest):
            named = [_PARTS.get(part, part) if isinstance(part, str) else part for part in rest]
            return ("body", "messages", places[i] + j, "content" if key == "output" else key, *named)
        case ("body", "messages", int(i), "content", int(j), str(key)):
            return ("body", "messages", places[i], "content", j, _PARTS.get(key, key))
        case ("body", "messages", int(i), *rest):
            return ("body", "messages", places[i], *rest)
    return loc


def _n_leading(messages: Sequence[object]) -> int:
    """Return how many system and developer messages come first."""
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or message.get("role") not in ("system", "developer"):
            return i
    return len(messages)


def _system_text(message: Mapping[str, object], i: int, problems: Problems) -> str:
    """Return the text of one of several system messages; its parts are joined by a space, as those of a single one."""
    loc: Loc = ("body", "messages", i, "content")
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        problems.add(loc, f"expected a string or a list of parts, got {shown(content)}", "string_type")
        return ""
    parts = [_part(part, (*loc, j), problems) for j, part in enumerate(content)]
    read = [part for part in parts if part is not None]
    if any("text" not in part for part in read):
        problems.add(loc, "expected text only in a system message", "value_error")
    return " ".join(str(part.get("text")) for part in read)


def _add(message: object, i: int, read: list[Fields], places: list[int], problems: Problems) -> None:
    """Add one message to those that are read, and its place to theirs."""
    loc: Loc = ("body", "messages", i)
    if not isinstance(message, Mapping):
        problems.add(loc, f"expected a message, got {shown(message)}", "dict_type")
        return
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        problems.add((*loc, "role"), f"expected one of {', '.join(ROLES)}, got {shown(role)}", "literal_error")
        return
    ours = ROLES[role]
    if ours == "tool_output":
        output = _output(message, role, loc, problems)
        if read and read[-1]["role"] == "tool_output":
            read[-1] = {"role": ours, "content": [*_listed(read[-1]["content"]), output]}
            return
        read.append({"role": ours, "content": [output]})
    elif ours == "assistant":
        read.append(_assistant(message, loc, problems))
    else:
        content = _content(message.get("content"), (*loc, "content"), problems)
        read.append({"role": ours, "content": content, "tool_calls": message.get("tool_calls")})
    places.append(i)


def _assistant(message: Mapping[str, object], loc: Loc, problems: Problems) -> Fields:
    """Return what the assistant said: text, a refusal in its place, calls, or nothing at all."""
    content = _content(message.get("content"), (*loc, "content"), problems)
    calls = _calls(message.get("tool_calls"), (*loc, "tool_calls"), problems)
    refusal, old_call = message.get("refusal"), message.get("function_call")
    if message.get("audio") is not None:
        problems.add((*loc, "audio"), "audio of earlier answers is not supported; expected their text", "value_error")
    if old_call is not None:
        fields = old_call if isinstance(old_call, Mapping) else {}
        old_calls = _calls([{"id": fields.get("name"), "function": fields}], (*loc, "function_call"), problems)
        calls = calls or old_calls
    if refusal is not None and not isinstance(refusal, str):
        problems.add((*loc, "refusal"), f"expected a string, got {shown(refusal)}", "string_type")
    elif refusal is not None and content in (None, "", []):
        content = refusal
    if content is None and not calls:
        content = ""
    return {"role": "assistant", "content": content, "tool_calls": calls}


def _content(content: object, loc: Loc, problems: Problems) -> object:
    if not isinstance(content, list):
        return content
    parts = [_part(part, (*loc, i), problems) for i, part in enumerate(content)]
    return [part for part in parts if part is not None]


def _part(part: object, loc: Loc, problems: Problems) -> Fields | None:
    """Return one part as ours; what is wrong goes to `problems`."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    fields = part if isinstance(part, Mapping) else {}
    kind = fields.get("type")
    value = fields.get(str(kind))
    if kind in TEXTS:
        key = "refusal" if kind == "refusal" else "text"
        return _checked("text", fields.get(key), (*loc, key), problems)
    if isinstance(kind, str) and kind in _URLS:
        return _named("image_url" if kind == "input_image" else kind, fields, loc, problems)
    if kind == "input_audio" and isinstance(value, Mapping):
        data, form = value.get("data"), value.get("format")
        if isinstance(data, str) and isinstance(form, str):
            return {"type": "audio_url", "audio_url": of_base64(data, "audio/wav")}  # its format is told by the data
        problems.add((*loc, "input_audio"), "expected data and format, both strings", "string_type")
    elif (kind == "file" and isinstance(value, Mapping)) or kind == "input_file":
        is_inner = kind == "file" and isinstance(value, Mapping)
        inner: Mapping[str, object] = value if isinstance(value, Mapping) and is_inner else fields
        return _file(inner, (*loc, "file") if is_inner else loc, problems)
    else:
        problems.add((*loc, "type"), f"expected {_SUPPORTED}, got {shown(kind)}", "literal_error")
    return None


def _named(key: str, fields: Mapping[str, object], loc: Loc, problems: Problems) -> Fields | None:
    """Return a part that names its media, by a URL or by an object that has one. key: of _URLS."""
    named = fields.get(key)
    inner = named if isinstance(named, Mapping) else {"url": named}
    part = _checked(_URLS[key], inner.get("url"), (*loc, key, "url"), problems)
    if part is None or _URLS[key] != "image_url":
        return part
    return {**part, **_detail(fields, loc, problems), **_detail(inner, (*loc, key), problems)}


def _checked(key: str, value: object, loc: Loc, problems: Problems) -> Fields | None:
    if isinstance(value, str):
        return {"type": key, key: value}
    problems.add(loc, f"expected a string, got {shown(value)}", "string_type")
    return None


def _detail(fields: Mapping[str, object], loc: Loc, problems: Problems) -> Fields:
    """Return how finely media are looked at, as far as these fields say it; what is wrong goes to `problems`."""
    read: Fields = {"detail": read_level(fields.get("detail"), loc, problems)}
    read["max_tiles"] = read_max_tiles(fields.get("max_tiles"), loc, problems)
    return {name: value for name, value in read.items() if value is not None}


def _file(fields: Mapping[str, object], loc: Loc, problems: Problems) -> Fields | None:
    """Return a file as a PDF, the one kind of file that there is; a file that is stored elsewhere is not."""
    data, url = fields.get("file_data"), fields.get("file_url")
    if data is None and isinstance(url, str):
        return {"type": "pdf_url", "pdf_url": url, **_detail(fields, loc, problems)}
    if isinstance(data, str):
        return {"type": "pdf_url", "pdf_url": of_base64(data, "application/pdf"), **_detail(fields, loc, problems)}
    problems.add((*loc, "file_data"), f"expected a string, got {shown(data)}", "string_type")
    return None


def _output(message: Mapping[str, object], role: str, loc: Loc, problems: Problems) -> Fields:
    """Return a tool message as a result: text, or parts where it has media; one without content is an empty text."""
    content = message.get("content")
    call_id = message.get("tool_call_id")
    if role == "function":
        call_id = message.get("name")
        if not isinstance(call_id, str):
            problems.add((*loc, "name"), f"expected a string, got {shown(call_id)}", "string_type")
            call_id = ""
    if content is None and "content" in message:
        content = ""
    if isinstance(content, list):
        parts = _content(content, (*loc, "content"), problems)
        texts = [part.get("text") for part in _listed(parts) if isinstance(part, Mapping)]
        content = "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else parts
    return {"tool_call_id": call_id, "output": content}


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _calls(calls: object, loc: Loc, problems: Problems) -> object:
    """Return an assistant's calls as ours, their arguments parsed; None where there are none."""
    if not isinstance(calls, list):
        return calls
    read: list[Fields] = []
    for i, call in enumerate(calls):
        fields = call if isinstance(call, Mapping) else {}
        custom = fields.get("custom")
        function = fields.get("function") if custom is None else custom
        named = function if isinstance(function, Mapping) else {}
        arguments = _arguments(named.get("arguments"))
        if isinstance(custom, Mapping):
            text = named.get("input")
            arguments = Unparsed(text) if isinstance(text, str) else None
        if not isinstance(arguments, Mapping | Unparsed):
            msg = f"expected a JSON object as a string, got {shown(arguments)}"
            problems.add((*loc, i, "function", "arguments"), msg, "json_invalid")
            continue
        read.append({"id": fields.get("id"), "name": named.get("name"), "parameters": arguments})
    return read or None


def _arguments(text: object) -> object:
    """Return the arguments of a call: an object, {} for none, and as its own text what a model wrote in its place."""
    if not isinstance(text, str):
        return text
    if not text.strip() or text.strip() == "null":
        return {}
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        return value if isinstance(value, dict) else Unparsed(text)
    except (ValueError, RecursionError):
        return Unparsed(text)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {number!r:.100}")
    return value
