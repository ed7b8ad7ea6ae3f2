"""Ollama's chat and generate: a request turned into ours. How long a model stays loaded, and how, is the server's own.

Source: Ollama's API, "Generate a completion" and "Generate a chat completion".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge.chat import Chat
from edge.chat.messages import Loc, Problems, shown
from edge.chat.reasoning import reasons
from edge.chat.reply import api_errors, refused
from edge.errors import UnknownModelError
from edge.server.http import HttpResponse
from edge.server.ollama_messages import Read, read_messages
from edge.server.ollama_writer import Kind, OllamaWriter
from edge.server.openai import NO_TOP_K, read_functions
from edge.server.route import RouteRequest

Fields = dict[str, object]

LATEST = ":latest"
OPTIONS: Mapping[str, str] = {  # what they are called on /v1/chat
    "num_predict": "max_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "stop": "stop",
}
WHOLE = ("num_predict", "top_k", "seed")
OFF: Mapping[str, float] = {  # options that are not supported, and the value of each that does nothing
    "repeat_penalty": 1, "min_p": 0, "typical_p": 1, "tfs_z": 1, "mirostat": 0,
}  # fmt: skip
CUTS = ("truncate", "shift")  # switches that would cut a conversation
IMAGE_OUTPUT = ("width", "height", "steps")
LEVELS = ("low", "medium", "high", "max")  # of think
DURATION = r"^[+-]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|ms|s|m|h))+)$"  # of keep_alive, as Go writes them
_NO_TIME = re.compile(r"[+-]?[0.a-zµ]+")
_NO_LIMIT = (1 << 31) - 1  # more tokens than any context holds
_RAW = ("template", "system", "context")
_REFUSED: Mapping[str, tuple[str, object]] = {  # the reason, and what is as good as absent
    "suffix": ("text after the prompt is not supported; expected none", ""),
    "template": ("a bundle has its own prompt format; expected none, or raw and the whole prompt", ""),
    "context": ("ids of earlier turns are not supported; expected none, or POST /api/chat with its messages", []),
}


@dataclass(frozen=True)
class Asked:
    """A request for an answer: `fields` as /v1/chat accepts them; messages: None where a text is continued."""

    kind: Kind
    fields: Fields
    messages: Read | None

    def place(self, loc: Loc) -> Loc:
        """Return where something stands in the request as it came."""
        match loc:
            case ("body", "messages", *_):
                here = loc if self.messages is None else self.messages.place(loc)
                return here if self.kind == "chat" else _place_in_generate(here, self.fields)
            case ("body", "tools", int(i), *rest):
                return ("body", "tools", i, "function", *rest)
            case ("body", "response_format", *_):
                return ("body", "format")
            case ("body", str(field), *rest) if field in _THEIRS:
                return ("body", "options", _THEIRS[field], *rest)
        return loc


_THEIRS = {ours: theirs for theirs, ours in OPTIONS.items()}


def read_chat(chat: Chat, body: Mapping[str, object]) -> RouteRequest | HttpResponse:
    """Return what POST /api/chat asks for; without messages it loads a model. Raises: ApiError, as Chat.read."""
    problems = Problems()
    messages = [] if body.get("messages") is None else body["messages"]
    writer = _writer("chat", chat, body, problems)
    fields = _fields(chat, body, problems)
    if not isinstance(messages, list):
        problems.add(("body", "messages"), f"expected a list of messages, got {shown(messages)}", "list_type")
        messages = []
    tools = body.get("tools")
    fields["tools"] = read_functions(tools, problems)
    read = read_messages(messages, problems)
    problems.raise_any()
    if not messages:
        return _loaded(chat, fields, body, writer)
    asked = Asked("chat", {**fields, "messages": read.messages}, read)
    return RouteRequest(chat.read(asked.fields, place=asked.place), writer)


def read_generate(chat: Chat, body: Mapping[str, object]) -> RouteRequest | HttpResponse:
    """Return what POST /api/generate asks for; without a prompt it loads a model. Raises: ApiError, as Chat.read."""
    problems = Problems()
    writer = _writer("generate", chat, body, problems)
    fields = _fields(chat, body, problems)
    prompt, system = (_text(body, name, problems) for name in ("prompt", "system"))
    is_raw = problems.flag(("body", "raw"), body.get("raw"))
    _refuse_generate(body, is_raw=is_raw)
    if is_raw:
        problems.raise_any()
        if not prompt:
            return _loaded(chat, fields, body, writer)
        asked = Asked("generate", fields, None)
        return RouteRequest(chat.read_text(prompt, fields, place=asked.place), writer)
    messages: list[Fields] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt, "images": body.get("images")})
    of_messages = Problems(lambda loc: _place_in_generate(loc, {"messages": messages}))
    read = read_messages(messages, of_messages)
    problems.found += of_messages.found
    problems.raise_any()
    if not prompt and not body.get("images"):
        return _loaded(chat, fields, body, writer)
    asked = Asked("generate", {**fields, "messages": read.messages}, read)
    return RouteRequest(chat.read(asked.fields, place=asked.place), writer)


def name_of(chat: Chat, name: str) -> str:
    """Return a model's name as it is known here: without `:latest`, or with it, where only that is known."""
    other = name.removesuffix(LATEST) if name.endswith(LATEST) else f"{name}{LATEST}"
    for spelling in (name, other):
        try:
            chat.models.id_of(spelling)
        except UnknownModelError:
            continue
        return spelling
    return name


def _writer(kind: Kind, chat: Chat, body: Mapping[str, object], problems: Problems) -> OllamaWriter:
    """Return what writes the answer as it is asked for: a stream, unless `stream` is false."""
    stream = body.get("stream")
    streams = stream is None or problems.flag(("body", "stream"), stream)
    thinks = _read_think(chat, body, problems)
    scores = problems.flag(("body", "logprobs"), body.get("logprobs"))
    return OllamaWriter(kind, str(body.get("model")), streams, thinks, scores)


def _fields(chat: Chat, body: Mapping[str, object], problems: Problems) -> Fields:
    """Return the fields that both routes have, as /v1/chat accepts them. Raises: ApiError 400 for what is not there."""
    for name in CUTS:
        if problems.flag(("body", name), body.get(name)):
            raise refused(400, f"{name}: nothing is cut from a conversation; expected false")
    top, model = body.get("top_logprobs"), body.get("model")
    wants_none = top == 0 and not isinstance(top, bool) and body.get("logprobs") is not True
    _read_keep_alive(body.get("keep_alive"), problems)
    return {
        **_read_options(body.get("options"), problems),
        "model": name_of(chat, model) if isinstance(model, str) and model else model,
        "response_format": _read_format(body.get("format"), problems),
        "logprobs": body.get("logprobs"),
        "top_logprobs": None if wants_none else top,
    }


def _read_options(options: object, problems: Problems) -> Fields:
    """Return the options that mean something here; what sizes and places a model, and unknown ones, are ignored.

    Raises: ApiError 400 for a way of sampling that is not supported.
    """
    if options is not None and not isinstance(options, Mapping):
        problems.add(("body", "options"), f"expected an object, got {shown(options)}", "dict_type")
    given = options if isinstance(options, Mapping) else {}
    for name, off in OFF.items():
        value = given.get(name)
        if value is not None and (isinstance(value, bool) or value != off):
            raise refused(400, f"options.{name}: it is not supported; expected none or {off}, got {shown(value)}")
    fields: Fields = {ours: given.get(name) for name, ours in OPTIONS.items()}
    for name in WHOLE:
        value = given.get(name)
        if isinstance(value, float) and value.is_integer():
            fields[OPTIONS[name]] = int(value)
    if _is_one_of(fields["max_tokens"], -1, -2):
        fields["max_tokens"] = _NO_LIMIT
    if _is_one_of(fields["top_k"], -1, 0):
        fields["top_k"] = NO_TOP_K
    if _is_one_of(fields["seed"], -1):
        fields["seed"] = None
    if isinstance(fields["stop"], str):
        fields["stop"] = [fields["stop"]]
    return fields


def _is_one_of(value: object, *wanted: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in wanted


def _read_format(wanted: object, problems: Problems) -> object:
    """Return what an answer must be like, as a response_format."""
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return {"type": "json_object"}
    if not isinstance(wanted, Mapping):
        problems.add(("body", "format"), f"expected 'json' or a JSON schema, got {shown(wanted)}", "value_error")
        return None
    return {"type": "json_schema", "json_schema": {"schema": wanted}}


def _read_think(chat: Chat, body: Mapping[str, object], problems: Problems) -> bool:
    """Return whether reasoning is shown. Raises: ApiError 400 where it is asked of a model that does not reason."""
    think, name = body.get("think"), body.get("model")
    if think is None or think is False:
        return think is None
    if think is not True and think not in LEVELS:
        msg = f"expected true, false or one of {', '.join(LEVELS)}, got {shown(think)}"
        problems.add(("body", "think"), msg, "literal_error")
    elif isinstance(name, str) and name:
        with api_errors():
            stored = chat.models.bundle(name_of(chat, name))
        if not reasons(stored.manifest):
            raise refused(400, f'think: "{name[:200]}" does not support thinking; expected false')
    return True


def _read_keep_alive(value: object, problems: Problems) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_duration = isinstance(value, str) and re.match(DURATION, value) is not None
    if value is not None and not is_number and not is_duration:
        msg = f"expected seconds or a duration such as '5m', got {shown(value)}"
        problems.add(("body", "keep_alive"), msg, "value_error")


def _unloads(keep_alive: object) -> bool:
    """Return whether a model is to be unloaded at once: after no time."""
    return _NO_TIME.fullmatch(keep_alive) is not None if isinstance(keep_alive, str) else keep_alive == 0


def _loaded(chat: Chat, fields: Fields, body: Mapping[str, object], writer: OllamaWriter) -> HttpResponse:
    """Load a model and say so; one that is to be unloaded stays with the server. Raises: ApiError."""
    place = Asked(writer.kind, fields, None).place
    request = chat.read({**fields, "messages": [{"role": "user", "content": ""}]}, place=place)
    if _unloads(body.get("keep_alive")):
        with api_errors():
            chat.models.id_of(request.model)
        return writer.empty("unload")
    chat.engine(request.model)
    return writer.empty("load")


def _refuse_generate(body: Mapping[str, object], *, is_raw: bool) -> None:
    """Refuse what there is not. Raises: ApiError 400."""
    if is_raw and any(body.get(name) for name in _RAW):
        raise refused(400, "raw: it does not support template, system or context; expected none beside it")
    if is_raw and body.get("images") not in (None, []):
        raise refused(400, "images: they are not supported beside raw; expected none")
    for name, (reason, empty) in _REFUSED.items():
        if body.get(name) not in (None, empty):
            raise refused(400, f"{name}: {reason}")
    for name in IMAGE_OUTPUT:
        if isinstance(body.get(name), bool) or body.get(name) not in (None, 0):
            raise refused(400, f"{name}: there is no image output; expected none")


def _text(body: Mapping[str, object], name: str, problems: Problems) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        problems.add(("body", name), f"expected a string, got {shown(value)}", "string_type")
    return value if isinstance(value, str) else ""


def _place_in_generate(loc: Loc, fields: Mapping[str, object]) -> Loc:
    """Return where something in a message stood in a request that has a prompt in its place."""
    messages = fields.get("messages")
    last = len(messages) - 1 if isinstance(messages, list) else 0
    match loc:
        case ("body", "messages", int(_), "images", *rest):
            return ("body", "images", *rest)
        case ("body", "messages", int(i), *_) if i < last:
            return ("body", "system")
    return ("body", "prompt")
