"""OpenAI's chat completions: a request turned into ours, and our answers written as its clients read them."""

import functools
import json
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge.chat import Chat
from edge.chat.messages import Loc, Problems, shown
from edge.chat.reply import Reply, refused
from edge.chat.structured import structured
from edge.chat.tool_calls import ParsedAnswer
from edge.engine.handle import Progress
from edge.engine.scores import ShownToken, ShownTokens
from edge.errors import ContextLengthError, UnknownModelError
from edge.server.http import HttpRequest, HttpResponse, event, json_response
from edge.server.openai_messages import place_of_message, read_messages
from edge.server.openapi_shapes import OPENAI_ERROR
from edge.server.route import Backend, ErrorForm, RouteRequest, detail_of, told
from edge.types import ApiError, ChatMessage, ChatMessageChunk

Fields = dict[str, object]

_SAME = (
    "model", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed", "use_search_engine",
    "logprobs", "top_logprobs", "video_frames", "video_sound", "detail", "max_tiles",
)  # fmt: skip
NO_TOP_K = (1 << 31) - 1  # more than any vocabulary has
_CHOICES = "expected auto, none, required, allowed_tools or one of the tools"
_REFUSED: Mapping[str, tuple[object, ...]] = {  # the reason, and what is as good as absent
    "audio": ("there is no audio output",),
    "functions": ("expected tools in their place", []),
    "function_call": ("expected tool_choice in its place", "none"),
}
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded", 503: "overloaded"}


@dataclass(frozen=True)
class Completion:
    """A request for a completion: `fields` as /v1/chat accepts them.

    places: which message each of ours began as; limit: what the request calls max_tokens; demand: what response_format.
    """

    fields: Fields
    places: tuple[int, ...]
    limit: str
    stream: bool
    include_usage: bool
    demand: str = "response_format"

    @property
    def writer(self) -> "OpenaiWriter":
        """What writes the answer as it was asked for."""
        return OpenaiWriter(self.stream, self.include_usage, scores=self.fields.get("logprobs") is True)

    def place(self, loc: Loc) -> Loc:
        """Return where something stands in the request as it came: tool messages in a row became one of ours.

        Parts have other names there.
        """
        match loc:
            case ("body", "messages", *_):
                return place_of_message(loc, self.places)
            case ("body", "tools", int(i), *rest):
                return ("body", "tools", i, "function", *rest)
            case ("body", "max_tokens"):
                return ("body", self.limit)
            case ("body", "response_format", *rest) if self.demand != "response_format":
                return ("body", self.demand)
        return loc


@dataclass
class OpenaiWriter:
    """POST /v1/chat/completions: one choice; a stream of increments that ends with [DONE]."""

    streams: bool
    include_usage: bool
    created: int = field(default_factory=lambda: now_s())
    scores: bool = False
    _sent: str = ""
    _reasoned: str = ""
    _begun: bool = False
    _tokens: ShownTokens = field(default_factory=ShownTokens)

    def whole(self, reply: Reply, last: Progress) -> object:
        answer = reply.response(last)
        message, reason = answer.responses[0].message, answer.responses[0].finish_reason
        calls = _calls(message)
        said = reply.said(last)
        spoken: Fields = {"role": "assistant", "content": None if calls else message.content, "refusal": None}
        if calls:
            spoken["tool_calls"] = calls
        if said.reasoning:
            spoken["reasoning_content"] = said.reasoning
        scores = _logprobs(self._shown(last, said)) if self.scores else None
        choice = {"index": 0, "message": spoken, "logprobs": scores, "finish_reason": _reason(reason, calls)}
        head = self._head(reply, "chat.completion")
        return {**head, "choices": [choice], "usage": openai_usage(reply, last)}

    def events(self, reply: Reply, progress: Progress) -> bytes:
        response = reply.chunk(progress).responses[0]
        said, calls = reply.said(progress), _calls(response.chunk)
        written = b"" if self._begun else self._event(reply, {"role": "assistant", "content": ""}, None)
        self._begun = True
        if len(said.reasoning) > len(self._reasoned):
            written += self._event(reply, {"reasoning_content": said.reasoning[len(self._reasoned) :]}, None)
            self._reasoned = said.reasoning
        tokens = self._shown(progress, said) if self.scores else []
        # With probabilities, text goes out by whole tokens.
        text = "".join(token.text for token in tokens) if self.scores else said.content[len(self._sent) :]
        if text or tokens:
            written += self._event(reply, {"content": text}, None, tokens)
            self._sent += text
        if calls:
            delta = [{"index": i, **call} for i, call in enumerate(calls)]
            written += self._event(reply, {"tool_calls": delta}, None)
        if progress.finish_reason is None:
            return written
        written += self._event(reply, {}, _reason(response.finish_reason, calls))
        if self.include_usage:
            head = self._head(reply, "chat.completion.chunk")
            written += event({**head, "choices": [], "usage": openai_usage(reply, progress)})
        return written + b"data: [DONE]\n\n"

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        return ERRORS.event(error)

    def _shown(self, progress: Progress, said: ParsedAnswer) -> list[ShownToken]:
        """Return the tokens whose text is shown by now, each once."""
        self._tokens.take(progress.scores)
        return self._tokens.give(progress.text, said.spans, whole=progress.finish_reason is not None)

    def _event(self, reply: Reply, delta: Fields, reason: str | None, tokens: Sequence[ShownToken] = ()) -> bytes:
        logprobs = _logprobs(tokens) if tokens else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._head(reply, "chat.completion.chunk"), "choices": [choice]}
        return event({**chunk, "usage": None} if self.include_usage else chunk)

    def _head(self, reply: Reply, kind: str) -> Fields:
        return {"id": f"chatcmpl-{reply.id}", "object": kind, "created": self.created, "model": reply.model}


def now_s() -> int:
    """Return the seconds since 1970, for people: they say when an answer was made."""
    return max(0, int(time.time()))


def from_openai(body: Mapping[str, object]) -> Completion:
    """Return a request as /v1/chat accepts it; unknown fields are ignored.

    Raises: ApiError 400 for what is not there, UnprocessableEntityError naming every field that is wrong.
    """
    refuse_absent(body)
    problems = Problems()
    fields = sampling(body)
    limit = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    fields["max_tokens"] = body.get(limit)
    other = body.get("max_tokens")
    if other is not None and not _is_count(other):
        problems.add(("body", "max_tokens"), f"expected an integer >= 1, got {shown(other)}", "int_type")
        fields["max_tokens"] = body.get("max_completion_tokens")
    fields["messages"], places = read_messages(body.get("messages"), problems)
    fields["tools"] = read_functions(body.get("tools"), problems)
    fields["tool_choice"], fields["tools"] = read_choice(body.get("tool_choice"), fields["tools"], problems)
    demand = structured(body)
    fields["response_format"] = demand.response_format
    options = body.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        problems.add(("body", "stream_options"), f"expected an object, got {shown(options)}", "dict_type")
    stream = _flag(body, "stream", ("body",), problems)
    asked = options if isinstance(options, Mapping) else {}
    include_usage = _flag(asked, "include_usage", ("body", "stream_options"), problems)
    problems.raise_any()
    return Completion(fields, places, limit, stream, include_usage, demand.field)


def _is_count(value: object) -> bool:
    """Whether it is an integer from 1 on, as JSON has them: 2.0 is one."""
    if isinstance(value, float):
        return value.is_integer() and value >= 1
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def sampling(body: Mapping[str, object]) -> Fields:
    """Return the fields that mean the same on /v1/chat; one stop string is a list of it, a top_k of -1 no limit."""
    fields: Fields = {name: body.get(name) for name in _SAME}
    if fields["top_k"] == -1 and not isinstance(fields["top_k"], bool):
        fields["top_k"] = NO_TOP_K
    stop = body.get("stop")
    return {**fields, "stop": [stop] if isinstance(stop, str) else stop}


def read_completion(chat: Chat, body: Mapping[str, object]) -> RouteRequest:
    """Return what POST /v1/chat/completions asks for. Raises: as from_openai and Chat.read."""
    completion = from_openai(body)
    return RouteRequest(chat.read(completion.fields, place=completion.place), completion.writer)


def list_models(backend: Backend, _: HttpRequest) -> HttpResponse:
    """Answer GET /v1/models."""
    return json_response({"object": "list", "data": [_model(name) for name in backend.chat.models.ids()]})


def show_model(backend: Backend, request: HttpRequest) -> HttpResponse:
    """Answer GET /v1/models/{model}, for a bundle's id or a name that it is the default for."""
    name = urllib.parse.unquote(request.path.removeprefix("/v1/models/"))
    return json_response(_model(backend.chat.models.id_of(name)))


def openai_error(error: ApiError, prompt: str = "messages") -> dict[str, object]:
    """Return an error as OpenAI's clients read it: message, type, param and code. prompt: the field that holds it."""
    status, detail = error.status_code or 500, detail_of(error)
    param, message = None, str(detail)
    if isinstance(detail, list):
        param = ".".join(map(str, detail[0]["loc"][1:])) if detail else None
        message = told(detail)
    if isinstance(error.__cause__, ContextLengthError):
        param, message = prompt, _too_long(error.__cause__)
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": _code(error)}}


ERRORS = ErrorForm(openai_error, OPENAI_ERROR, statuses={422: 400})


def errors_about(prompt: str) -> ErrorForm:
    """Return the form of errors of a route whose prompt is in another field."""
    return replace(ERRORS, body=functools.partial(openai_error, prompt=prompt))


def _code(error: ApiError) -> str | None:
    if isinstance(error.__cause__, ContextLengthError):
        return "context_length_exceeded"
    if isinstance(error.__cause__, UnknownModelError):
        return "model_not_found"
    return _CODES.get(error.status_code or 500)


def _too_long(error: ContextLengthError) -> str:
    """Say that a prompt does not fit in the words that OpenAI's clients look for."""
    needed = f"at least {error.needed}" if error.at_least else str(error.needed)
    limit = f"This model's maximum context length is {error.limit} tokens."
    return f"{limit} However, your messages resulted in {needed} tokens: please shorten them."


def _model(name: str) -> Fields:
    return {"id": name, "object": "model", "created": 0, "owned_by": "edge"}


def refuse_absent(body: Mapping[str, object]) -> None:
    """Refuse what there is not. Raises: ApiError 400."""
    n = body.get("n")
    if n is not None and (isinstance(n, bool) or n != 1):
        raise refused(400, f"n: expected 1, got {shown(n)}")
    if body.get("logit_bias") not in (None, {}):
        raise refused(400, "logit_bias: it is not supported; expected none")
    modalities = body.get("modalities")
    if modalities is not None and not (isinstance(modalities, list) and all(kind == "text" for kind in modalities)):
        raise refused(400, f"modalities: expected ['text'], the only one there is, got {shown(modalities)}")
    for name, (reason, *empty) in _REFUSED.items():
        if body.get(name) not in (None, *empty):
            raise refused(400, f"{name}: {reason}")


def _flag(fields: Mapping[str, object], name: str, loc: Loc, problems: Problems) -> bool:
    return problems.flag((*loc, name), fields.get(name))


def read_functions(tools: object, problems: Problems) -> object:
    """Return functions on offer as ours; what is wrong goes to `problems`."""
    if not isinstance(tools, list):
        return tools
    read: list[Fields] = []
    for i, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            problems.add(("body", "tools", i, "function"), "expected a function with a name", "dict_type")
            continue
        read.append({name: function.get(name) for name in ("name", "description", "parameters")})
    return read


def read_choice(choice: object, tools: object, problems: Problems) -> tuple[object, object]:
    """Return tool_choice as ours, and the tools it leaves: those that it names, where it names some."""
    if choice == "required":
        return "tool", tools
    if choice is None or choice in ("auto", "none"):
        return choice, tools
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if isinstance(choice, Mapping) and kind == "allowed_tools":
        return _allowed(choice, tools, problems)
    if not isinstance(choice, Mapping) or kind != "function":
        got = f"type {shown(kind)}" if isinstance(choice, Mapping) else shown(choice)
        problems.add(("body", "tool_choice"), f"{_CHOICES}, got {got}", "literal_error")
        return None, tools
    return "tool", _named([choice], tools, problems)


def _allowed(choice: Mapping[str, object], tools: object, problems: Problems) -> tuple[object, object]:
    """Return what a choice of type allowed_tools says: its mode, and the tools that it allows."""
    inner = choice.get("allowed_tools")
    fields = choice if inner is None else inner if isinstance(inner, Mapping) else {}
    mode, wanted = fields.get("mode"), fields.get("tools")
    loc = ("body", "tool_choice", "allowed_tools")
    if mode not in ("auto", "required"):
        problems.add((*loc, "mode"), f"expected auto or required, got {shown(mode)}", "literal_error")
    if not isinstance(wanted, list) or not wanted:
        problems.add((*loc, "tools"), f"expected a list of tools, got {shown(wanted)}", "list_type")
        return None, tools
    return "tool" if mode == "required" else "auto", _named(wanted, tools, problems)


def _named(wanted: Sequence[object], tools: object, problems: Problems) -> object:
    """Return the tools that are wanted by name, in their order among the tools."""
    names = [_name(item) for item in wanted]
    known = [tool["name"] for tool in tools] if isinstance(tools, list) else []
    for name in names:
        if name not in known:
            problems.add(("body", "tool_choice"), f"{_CHOICES}, got {shown(name)}", "value_error")
    return [tool for tool in tools if tool["name"] in names] if isinstance(tools, list) else tools


def _name(item: object) -> object:
    """Return the name of a function that a choice holds, in it or beside its type."""
    fields = item if isinstance(item, Mapping) else {}
    function = fields.get("function")
    if function is None:
        return fields.get("name")
    return function.get("name") if isinstance(function, Mapping) else None


def _calls(message: ChatMessage | ChatMessageChunk) -> list[Fields]:
    calls = message.tool_calls or ()
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.parameters, ensure_ascii=False)},
        }
        for call in calls
    ]


def _reason(reason: object, calls: list[Fields]) -> str:
    if calls and reason == "stop":
        return "tool_calls"
    return "length" if reason == "context" else str(reason)


def _logprobs(tokens: Sequence[ShownToken]) -> Fields:
    return {"content": scored(tokens), "refusal": None}


def scored(tokens: Sequence[ShownToken], *, no_bytes: list[int] | None = None) -> list[object]:
    """Return the probabilities of tokens, whose texts and bytes join to the content. no_bytes: of control tokens."""
    content: list[object] = []
    for token in tokens:
        pairs = zip(token.score.most_likely, token.score.controls, strict=True)
        most_likely = [_candidate(*pair, no_bytes) for pair in pairs]
        logprob = finite(token.score.log_probability)
        here = {"token": token.text, "logprob": logprob, "bytes": list(token.data)}
        content.append({**here, "top_logprobs": most_likely})
    return content


def _candidate(candidate: tuple[bytes, float], is_control: bool, no_bytes: list[int] | None) -> Fields:
    """Return a token that might have been chosen; a control token has a name and no bytes."""
    data, log_probability = candidate
    text = data.decode("utf-8", "replace")
    return {"token": text, "logprob": finite(log_probability), "bytes": no_bytes if is_control else list(data)}


def finite(log_probability: float) -> float:
    """Return a logarithm that JSON can hold."""
    return max(log_probability, -9999.0)


def openai_usage(reply: Reply, progress: Progress) -> dict[str, int]:
    """Return the tokens of an answer, as OpenAI's completions count them."""
    prompt, completion = progress.input_tokens, progress.output_tokens
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **reply.pdf_usage}
