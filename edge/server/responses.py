"""OpenAI's responses: a request turned into ours. Nothing is stored: a request holds the whole conversation."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge.chat import Chat
from edge.chat.messages import Loc, Problems, shown
from edge.chat.reply import refused
from edge.chat.request import Request
from edge.chat.structured import structured
from edge.server.openai import errors_about, read_choice, refuse_absent, sampling
from edge.server.openai_messages import read_messages
from edge.server.responses_input import Input, read_input
from edge.server.responses_writer import ResponseWriter
from edge.server.route import RouteRequest

Fields = dict[str, object]

LOGPROBS = "message.output_text.logprobs"
INCLUDED = (
    LOGPROBS, "reasoning.encrypted_content", "message.input_image.image_url", "file_search_call.results",
    "web_search_call.results", "web_search_call.action.sources", "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)  # fmt: skip
REFUSED: Mapping[str, str] = {
    "previous_response_id": "nothing is stored; expected the whole conversation in input",
    "conversation": "nothing is stored; expected the whole conversation in input",
    "prompt": "there are no stored prompts; expected instructions and input",
    "moderation": "there is no moderation",
    "context_management": "nothing is cut from a conversation",
    "messages": "expected input in its place",
    "max_tokens": "expected max_output_tokens in its place",
    "max_completion_tokens": "expected max_output_tokens in its place",
}
SWITCHES: Mapping[str, str] = {  # which cannot be on
    "store": "nothing is stored; expected false",
    "background": "nothing runs in the background; expected false",
}
ERRORS = errors_about("input")
_REPEATED = ("user", "safety_identifier", "prompt_cache_key")


@dataclass(frozen=True)
class Asked:
    """A request for a response: `fields` as /v1/chat takes them.

    input: its messages; places: which of them each of ours began as; demand: what it calls response_format.
    """

    fields: Fields
    input: Input
    places: tuple[int, ...]
    demand: tuple[str, ...]
    stream: bool

    def place(self, loc: Loc) -> Loc:
        """Return where something stands in the request as it came."""
        match loc:
            case ("body", "max_tokens"):
                return ("body", "max_output_tokens")
            case ("body", "response_format", *rest):
                return ("body", *self.demand, *rest)
            case ("body", "messages", *_):
                return self.input.place_of(loc, self.places)
        return loc


def read_response(chat: Chat, body: Mapping[str, object]) -> RouteRequest:
    """Return what POST /v1/responses asks for. Raises: as from_responses and Chat.read."""
    asked = from_responses(body)
    request = chat.read(asked.fields, place=asked.place)
    scores = asked.fields["logprobs"] is True
    return RouteRequest(request, ResponseWriter(asked.stream, _repeated(body, request), scores))


def from_responses(body: Mapping[str, object]) -> Asked:
    """Return a request as /v1/chat takes it; unknown fields are ignored.

    Raises: ApiError 400 for what is not there, UnprocessableEntityError naming every field that is wrong.
    """
    problems = Problems()
    _refuse(body, problems)
    given = read_input(body, problems)
    fields = sampling(body)
    fields["max_tokens"] = body.get("max_output_tokens")
    fields["logprobs"], fields["top_logprobs"] = _read_logprobs(body, problems)
    of_messages = Problems(given.place)
    fields["messages"], places = read_messages(list(given.messages), of_messages)
    problems.found += of_messages.found
    tools = _read_tools(body.get("tools"), problems)
    fields["tool_choice"], fields["tools"] = read_choice(body.get("tool_choice"), tools, problems)
    demand, fields["response_format"] = _read_format(body, problems)
    stream = problems.flag(("body", "stream"), body.get("stream"))
    _check(body, problems)
    problems.raise_any()
    return Asked(fields, given, places, demand, stream)


def _refuse(body: Mapping[str, object], problems: Problems) -> None:
    """Refuse what there is not. Raises: ApiError 400."""
    refuse_absent(body)
    for name, reason in REFUSED.items():
        if body.get(name) is not None:
            raise refused(400, f"{name}: {reason}")
    for name, reason in SWITCHES.items():
        if problems.flag(("body", name), body.get(name)):
            raise refused(400, f"{name}: {reason}")
    if body.get("truncation") not in (None, "disabled"):
        got = shown(body["truncation"])
        raise refused(400, f"truncation: nothing is cut from a conversation; expected 'disabled', got {got}")


def _check(body: Mapping[str, object], problems: Problems) -> None:
    """Check fields that say nothing about the answer itself."""
    for name in ("reasoning", "stream_options"):
        if body.get(name) is not None and not isinstance(body[name], Mapping):
            problems.add(("body", name), f"expected an object, got {shown(body[name])}", "dict_type")
    options = body.get("stream_options")
    obfuscated = options.get("include_obfuscation") if isinstance(options, Mapping) else None
    if problems.flag(("body", "stream_options", "include_obfuscation"), obfuscated):
        msg = "it is not supported; expected false"
        problems.add(("body", "stream_options", "include_obfuscation"), msg, "value_error")
    metadata = body.get("metadata")
    is_text = isinstance(metadata, Mapping) and all(isinstance(value, str) for value in metadata.values())
    if metadata is not None and not is_text:
        problems.add(("body", "metadata"), f"expected an object of strings, got {shown(metadata)}", "dict_type")


def _read_logprobs(body: Mapping[str, object], problems: Problems) -> tuple[bool, object]:
    """Return whether probabilities are asked for, by `include` or by how many, and how many beside each token."""
    included, top = body.get("include"), body.get("top_logprobs")
    items = included if isinstance(included, list) else []
    if included is not None and not isinstance(included, list):
        problems.add(("body", "include"), f"expected a list, got {shown(included)}", "list_type")
    for i, item in enumerate(items):
        if item not in INCLUDED:
            msg = f"expected one of {', '.join(INCLUDED)}, got {shown(item)}"
            problems.add(("body", "include", i), msg, "literal_error")
    is_none = top is None or (top == 0 and not isinstance(top, bool))
    if LOGPROBS in items:
        return True, top
    return not is_none, None if is_none else top


def _read_tools(tools: object, problems: Problems) -> object:
    """Return functions as our tools; no other kind is supported."""
    if not isinstance(tools, list):
        return tools
    read: list[Fields] = []
    for i, tool in enumerate(tools):
        fields = tool if isinstance(tool, Mapping) else {}
        if fields.get("type") != "function":
            msg = f"expected 'function', the only kind that is supported, got {shown(fields.get('type'))}"
            problems.add(("body", "tools", i, "type"), msg, "literal_error")
        else:
            read.append({name: fields.get(name) for name in ("name", "description", "parameters")})
    return read


def _read_format(body: Mapping[str, object], problems: Problems) -> tuple[tuple[str, ...], object]:
    """Return what an answer must be like, and the field that says so. Raises: ApiError 400 where two do."""
    other = structured(body)
    text, here = body.get("text"), ("text", "format")
    if text is not None and not isinstance(text, Mapping):
        problems.add(("body", "text"), f"expected an object, got {shown(text)}", "dict_type")
        return here, None
    wanted = text.get("format") if isinstance(text, Mapping) else None
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if wanted is None or kind == "text":
        return (here, None) if other.response_format is None else ((other.field,), other.response_format)
    if other.response_format is not None:
        raise refused(400, f"text.format: expected one field that says what the answer is, got {other.field} beside it")
    if not isinstance(wanted, Mapping):
        return here, wanted
    return here, {"type": kind, "schema": wanted.get("schema"), "pattern": wanted.get("pattern")}


def _repeated(body: Mapping[str, object], request: Request) -> Fields:
    """Return what a response repeats of its request, every default filled in."""
    options, text = request.options, body.get("text")
    form = text.get("format") if isinstance(text, Mapping) else None
    parallel = body.get("parallel_tool_calls")
    return {
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": parallel if isinstance(parallel, bool) else True,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "top_logprobs": options.top_logprobs or 0,
        "text": {"format": {"type": "text"} if form is None else form},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [_tool(tool) for tool in _listed(body.get("tools"))],
        **{name: body[name] if isinstance(body.get(name), str) else None for name in _REPEATED},
    }


def _tool(tool: object) -> object:
    """Return a tool as a response repeats it, with the fields that clients expect."""
    absent: Fields = {"description": None, "parameters": None, "strict": None}
    return {**absent, **tool} if isinstance(tool, Mapping) else tool


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []
