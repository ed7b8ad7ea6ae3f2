"""Anthropic's messages: a request turned into ours, or its prompt counted, and the models as its clients list them."""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge.chat import Chat
from edge.chat.messages import Loc, Place, Problems, shown
from edge.chat.reply import refused
from edge.chat.structured import structured
from edge.server.anthropic_errors import ERRORS as ERRORS
from edge.server.anthropic_errors import unthreaded
from edge.server.anthropic_messages import read_messages
from edge.server.anthropic_writer import MessageWriter
from edge.server.http import HttpRequest, HttpResponse, json_response
from edge.server.openai import refuse_absent, sampling
from edge.server.route import Backend, CountRequest, RouteRequest

Fields = dict[str, object]

REFUSED: Mapping[str, str] = {
    "stop": "expected stop_sequences in its place",
    "max_completion_tokens": "expected max_tokens in its place",
    "max_output_tokens": "expected max_tokens in its place",
    "input": "expected messages in its place",
    "container": "no code is run here",
    "compaction": "nothing is cut from a conversation",
    "context_management": "nothing is cut from a conversation",
    "top_logprobs": "there are no probabilities in a message",
}
EMPTY: Mapping[str, str] = {"mcp_servers": "no servers are called from here; expected none"}
SWITCHES: Mapping[str, str] = {"logprobs": "there are no probabilities in a message; expected false"}
THINKING = ("enabled", "adaptive", "disabled", "between_tools")
CHOICES = ("auto", "any", "tool", "none")
_UNSHOWN = ("disabled", "between_tools")
_RELEASED = "1970-01-01T00:00:00Z"  # what stands for a date that is not known
_CHOICE: Loc = ("body", "tool_choice")


@dataclass(frozen=True)
class Asked:
    """A request for a message: `fields` as /v1/chat accepts them. demand: what it calls response_format."""

    fields: Fields
    writer: MessageWriter
    of_messages: Place
    demand: tuple[str, ...]

    def place(self, loc: Loc) -> Loc:
        """Return where something stands in the request as it came."""
        match loc:
            case ("body", "messages", *_):
                return self.of_messages(loc)
            case ("body", "stop", *rest):
                return ("body", "stop_sequences", *rest)
            case ("body", "tools", int(i), "parameters", *rest):
                return ("body", "tools", i, "input_schema", *rest)
            case ("body", "response_format", *rest):
                return ("body", *self.demand, *rest)
        return loc


def is_client(headers: Mapping[str, str]) -> bool:
    """Tell Anthropic's clients, which read another list of models, by the version that they send."""
    return "anthropic-version" in headers


def read_message(chat: Chat, body: Mapping[str, object]) -> RouteRequest:
    """Return what POST /v1/messages asks for. Raises: as from_anthropic and Chat.read."""
    asked = from_anthropic(body)
    return RouteRequest(chat.read(asked.fields, place=asked.place), asked.writer)


def read_count(chat: Chat, body: Mapping[str, object]) -> CountRequest:
    """Return what POST /v1/messages/count_tokens asks for. Raises: as from_anthropic and Chat.read."""
    asked = from_anthropic(body)
    return CountRequest(chat.read(asked.fields, place=asked.place), lambda n_tokens: {"input_tokens": n_tokens})


def from_anthropic(body: Mapping[str, object]) -> Asked:
    """Return a request as /v1/chat accepts it; unknown fields are ignored.

    Raises: ApiError 400 for what is not there, UnprocessableEntityError naming every field that is wrong.
    """
    problems = Problems()
    _refuse(body, problems)
    fields = sampling(body)
    messages = read_messages(body, problems)
    fields |= {"messages": messages.messages, "stop": body.get("stop_sequences"), "max_tokens": body.get("max_tokens")}
    tools = _read_tools(body.get("tools"), problems)
    fields["tool_choice"], fields["tools"], is_single = _read_choice(body.get("tool_choice"), tools, problems)
    demand, fields["response_format"] = _read_format(body, problems)
    streams = problems.flag(("body", "stream"), body.get("stream"))
    thoughts = _read_thinking(body.get("thinking"), problems)
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        problems.add(("body", "metadata"), f"expected an object, got {shown(metadata)}", "dict_type")
    problems.raise_any()
    writer = MessageWriter(streams, thoughts, 1 if is_single else None)
    return Asked(fields, writer, messages.place, demand)


def list_models(backend: Backend, _: HttpRequest) -> HttpResponse:
    """Answer GET /v1/models, all in one page."""
    ids = backend.chat.models.ids()
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return json_response({"data": [_model(name) for name in ids], "has_more": False, **ends})


def show_model(backend: Backend, request: HttpRequest) -> HttpResponse:
    """Answer GET /v1/models/{model}, for a bundle's id or a name that it is the default for."""
    name = urllib.parse.unquote(request.path.removeprefix("/v1/models/"))
    return json_response(_model(backend.chat.models.id_of(name)))


def _model(name: str) -> Fields:
    return {"type": "model", "id": name, "display_name": name, "created_at": _RELEASED, "lifecycle": "active"}


def _refuse(body: Mapping[str, object], problems: Problems) -> None:
    """Refuse what there is not. Raises: ApiError 400."""
    refuse_absent(body)
    if body.get("thread") is not None and body["thread"] is not False:
        raise unthreaded()
    for name, reason in REFUSED.items():
        if body.get(name) is not None:
            raise refused(400, f"{name}: {reason}")
    for name, reason in EMPTY.items():
        if body.get(name) not in (None, []):
            raise refused(400, f"{name}: {reason}")
    for name, reason in SWITCHES.items():
        if problems.flag(("body", name), body.get(name)):
            raise refused(400, f"{name}: {reason}")


def _read_tools(tools: object, problems: Problems) -> object:
    """Return tools that the client runs as ours; no other kind is supported."""
    if not isinstance(tools, list):
        return tools
    read: list[Fields] = []
    for i, tool in enumerate(tools):
        fields = tool if isinstance(tool, Mapping) else {}
        if fields.get("type") not in (None, "custom") or not isinstance(tool, Mapping):
            got = f"type {shown(fields.get('type'))}" if isinstance(tool, Mapping) else shown(tool)
            msg = f"expected a tool of type custom, with a name and an input_schema, got {got}"
            problems.add(("body", "tools", i, "type"), msg, "literal_error")
        else:
            parameters = fields.get("input_schema")
            read.append({name: fields.get(name) for name in ("name", "description")} | {"parameters": parameters})
    return read


def _read_choice(choice: object, tools: object, problems: Problems) -> tuple[object, object, bool]:
    """Return tool_choice as ours, the tools it leaves, and whether one call is the most."""
    if choice is None:
        return None, tools, False
    fields = choice if isinstance(choice, Mapping) else {}
    kind = fields.get("type")
    if kind not in CHOICES:
        got = f"type {shown(kind)}" if isinstance(choice, Mapping) else shown(choice)
        msg = f"expected an object of type {', '.join(CHOICES[:-1])} or {CHOICES[-1]}, got {got}"
        problems.add((*_CHOICE, "type"), msg, "literal_error")
        return None, tools, False
    at = (*_CHOICE, "disable_parallel_tool_use")
    is_single = problems.flag(at, fields.get("disable_parallel_tool_use"))
    if kind == "tool":
        return "tool", _named(fields.get("name"), tools, problems), is_single
    return "tool" if kind == "any" else kind, tools, is_single


def _named(name: object, tools: object, problems: Problems) -> object:
    """Return the one tool that a choice names."""
    known: Sequence[Fields] = tools if isinstance(tools, list) else []
    found = [tool for tool in known if tool["name"] == name]
    if not found:
        problems.add((*_CHOICE, "name"), f"expected the name of one of the tools, got {shown(name)}", "value_error")
    return found or tools


def _read_format(body: Mapping[str, object], problems: Problems) -> tuple[tuple[str, ...], object]:
    """Return what an answer must be like, and the field that says so. Raises: ApiError 400 where two do."""
    config = body.get("output_config")
    if config is not None and not isinstance(config, Mapping):
        problems.add(("body", "output_config"), f"expected an object, got {shown(config)}", "dict_type")
    inner = config.get("format") if isinstance(config, Mapping) else None
    other = structured(body)
    given = {("output_config", "format"): inner, ("output_format",): body.get("output_format")}
    wanted = [(field, value) for field, value in given.items() if value is not None]
    names = [".".join(field) for field, _ in wanted] + [other.field] * (other.response_format is not None)
    if len(names) > 1:
        raise refused(400, f"{names[0]}: expected one field that says what the answer is, got {names[1]} beside it")
    if not wanted:
        return (other.field,), other.response_format
    field, value = wanted[0]
    kind = value.get("type") if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping) or kind != "json_schema":
        problems.add(("body", *field, "type"), f"expected type json_schema, got {shown(kind)}", "literal_error")
        return field, None
    return field, {"type": kind, "schema": value.get("schema")}


def _read_thinking(thinking: object, problems: Problems) -> bool:
    """Return whether reasoning is shown. It allows a model to reason: none is made to, and none is kept from it."""
    if thinking is None:
        return True
    loc: Loc = ("body", "thinking")
    fields = thinking if isinstance(thinking, Mapping) else {}
    kind, budget, display = fields.get("type"), fields.get("budget_tokens"), fields.get("display")
    if kind not in THINKING:
        got = f"type {shown(kind)}" if isinstance(thinking, Mapping) else shown(thinking)
        msg = f"expected an object of type {', '.join(THINKING[:-1])} or {THINKING[-1]}, got {got}"
        problems.add((*loc, "type"), msg, "literal_error")
    if kind == "enabled" and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 1):
        problems.add((*loc, "budget_tokens"), f"expected an integer >= 1, got {shown(budget)}", "int_type")
    if display not in (None, "summarized", "omitted"):
        problems.add((*loc, "display"), f"expected summarized or omitted, got {shown(display)}", "literal_error")
    return kind not in _UNSHOWN and display != "omitted"
