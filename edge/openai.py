"""OpenAI's chat completions: a request turned into ours, and our answers written as its clients read them."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge.chat import Reply
from edge.exchange import event, openai_error, refused
from edge.handle import Progress, TokenScore
from edge.messages import Loc, Problems, shown
from edge.types import ApiError, ChatMessage, ChatMessageChunk

Fields = dict[str, object]

_SAME = (
    "model", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed", "use_search_engine",
    "logprobs", "top_logprobs", "video_frames", "video_sound",
)  # fmt: skip
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool_output"}
_PARTS = {"audio_url": "input_audio", "pdf_url": "file"}  # what OpenAI calls them
_REFUSED = {
    "audio": "there is no audio output",
    "functions": "expected tools in their place",
    "function_call": "expected tool_choice in its place",
}


@dataclass(frozen=True)
class Completion:
    """A request for a completion: `fields` as /v1/chat takes them.

    places: which message each of ours began as; limit: what the request calls max_tokens.
    """

    fields: Fields
    places: tuple[int, ...]
    limit: str
    stream: bool
    include_usage: bool

    @property
    def writer(self) -> "OpenaiWriter":
        """What writes the answer as it was asked for."""
        return OpenaiWriter(self.stream, self.include_usage, scores=self.fields.get("logprobs") is True)

    def place(self, loc: Loc) -> Loc:
        """Return where something stands in the request as it came: tool messages in a row became one of ours.

        Parts have other names there.
        """
        match loc:
            case ("body", "messages", int(i), "content", int(j), "output" | "tool_call_id" as key):
                return ("body", "messages", self.places[i] + j, "content" if key == "output" else key)
            case ("body", "messages", int(i), "content", int(j), str(key)):
                return ("body", "messages", self.places[i], "content", j, _PARTS.get(key, key))
            case ("body", "messages", int(i), *rest):
                return ("body", "messages", self.places[i], *rest)
            case ("body", "tools", int(i), *rest):
                return ("body", "tools", i, "function", *rest)
            case ("body", "max_tokens"):
                return ("body", self.limit)
        return loc


@dataclass
class OpenaiWriter:
    """POST /v1/chat/completions: one choice; a stream of increments that ends with [DONE]."""

    streams: bool
    include_usage: bool
    created: int = field(default_factory=lambda: max(0, int(time.time())))
    scores: bool = False
    _sent: str = ""
    _n_scored: int = 0
    _begun: bool = False

    def whole(self, reply: Reply, last: Progress) -> object:
        answer = reply.response(last)
        message, reason = answer.responses[0].message, answer.responses[0].finish_reason
        calls = _calls(message)
        spoken: Fields = {"role": "assistant", "content": None if calls else message.content, "refusal": None}
        if calls:
            spoken["tool_calls"] = calls
        scores = _scored(last.scores) if self.scores else None
        choice = {"index": 0, "message": spoken, "logprobs": scores, "finish_reason": _reason(reason, calls)}
        head = self._head(reply, "chat.completion")
        return {**head, "choices": [choice], "usage": _usage(reply, last)}

    def events(self, reply: Reply, progress: Progress) -> bytes:
        response = reply.chunk(progress).responses[0]
        text, calls = str(response.chunk.content or ""), _calls(response.chunk)
        written = b"" if self._begun else self._event(reply, {"role": "assistant", "content": ""}, None)
        self._begun = True
        scores = progress.scores[self._n_scored :]  # of text that is still held back, too
        if len(text) > len(self._sent) or scores:
            written += self._event(reply, {"content": text[len(self._sent) :]}, None, scores)
            self._sent, self._n_scored = text, len(progress.scores)
        if calls:
            delta = [{"index": i, **call} for i, call in enumerate(calls)]
            written += self._event(reply, {"tool_calls": delta}, None)
        if progress.finish_reason is None:
            return written
        written += self._event(reply, {}, _reason(response.finish_reason, calls))
        if self.include_usage:
            head = self._head(reply, "chat.completion.chunk")
            written += event({**head, "choices": [], "usage": _usage(reply, progress)})
        return written + b"data: [DONE]\n\n"

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        return event(openai_error(error))

    def _event(self, reply: Reply, delta: Fields, reason: str | None, scores: Sequence[TokenScore] = ()) -> bytes:
        logprobs = _scored(scores) if scores else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._head(reply, "chat.completion.chunk"), "choices": [choice]}
        return event({**chunk, "usage": None} if self.include_usage else chunk)

    def _head(self, reply: Reply, kind: str) -> Fields:
        return {"id": f"chatcmpl-{reply.id}", "object": kind, "created": self.created, "model": reply.model}


def from_openai(body: Mapping[str, object]) -> Completion:
    """Return a request as /v1/chat takes it; unknown fields are ignored.

    Raises: ApiError 400 for what is not there, UnprocessableEntityError naming every field that is wrong.
    """
    _refuse(body)
    problems = Problems()
    fields: Fields = {name: body.get(name) for name in _SAME}
    limit = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    fields["max_tokens"] = body.get(limit)
    stop = body.get("stop")
    fields["stop"] = [stop] if isinstance(stop, str) else stop
    fields["messages"], places = _messages(body.get("messages"), problems)
    fields["tools"] = _tools(body.get("tools"), problems)
    fields["tool_choice"], fields["tools"] = _choice(body.get("tool_choice"), fields["tools"], problems)
    response_format = body.get("response_format")
    is_text = isinstance(response_format, Mapping) and response_format.get("type") == "text"
    fields["response_format"] = None if is_text else response_format
    options = body.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        problems.add(("body", "stream_options"), f"expected an object, got {shown(options)}", "dict_type")
    stream = _flag(body, "stream", problems)
    include_usage = isinstance(options, Mapping) and options.get("include_usage") is True
    problems.raise_any()
    return Completion(fields, places, limit, stream, include_usage)


def _refuse(body: Mapping[str, object]) -> None:
    """Refuse what there is not. Raises: ApiError 400."""
    n = body.get("n")
    if n is not None and (isinstance(n, bool) or n != 1):
        raise refused(400, f"n: expected 1, got {shown(n)}")
    if body.get("logit_bias"):
        raise refused(400, "logit_bias: not taken; expected none")
    modalities = body.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        raise refused(400, "modalities: there is no audio output; expected ['text']")
    for name, reason in _REFUSED.items():
        if body.get(name) is not None:
            raise refused(400, f"{name}: {reason}")


def _flag(body: Mapping[str, object], name: str, problems: Problems) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        problems.add(("body", name), f"expected true or false, got {shown(value)}", "bool_type")
    return value is True


def _messages(messages: object, problems: Problems) -> tuple[object, tuple[int, ...]]:
    """Return messages as ours; what is not a list of them is left for the chat's own check."""
    if not isinstance(messages, list):
        return messages, ()
    read: list[Fields] = []
    places: list[int] = []
    for i, message in enumerate(messages):
        loc: Loc = ("body", "messages", i)
        if not isinstance(message, Mapping):
            problems.add(loc, f"expected a message, got {shown(message)}", "dict_type")
            continue
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            problems.add((*loc, "role"), f"expected one of {', '.join(_ROLES)}, got {shown(role)}", "literal_error")
        elif role == "tool":
            output = {"tool_call_id": message.get("tool_call_id"), "output": _joined(message.get("content"))}
            if read and read[-1]["role"] == "tool_output":
                read[-1] = {"role": "tool_output", "content": [*_listed(read[-1]["content"]), output]}
                continue
            read.append({"role": "tool_output", "content": [output]})
            places.append(i)
        else:
            content = _content(message.get("content"), (*loc, "content"), problems)
            calls = _past_calls(message.get("tool_calls"), (*loc, "tool_calls"), problems)
            read.append({"role": _ROLES[role], "content": content, "tool_calls": calls})
            places.append(i)
    return read, tuple(places)


def _content(content: object, loc: Loc, problems: Problems) -> object:
    if not isinstance(content, list):
        return content
    parts = [_part(part, (*loc, i), problems) for i, part in enumerate(content)]
    return [part for part in parts if part is not None]


def _part(part: object, loc: Loc, problems: Problems) -> Fields | None:
    """Return one part as ours; what is wrong goes to `problems`."""
    fields = part if isinstance(part, Mapping) else {}
    kind = fields.get("type")
    value = fields.get(str(kind))
    if kind in ("text", "refusal"):
        if isinstance(value, str):
            return {"type": "text", "text": value}
        problems.add((*loc, str(kind)), f"expected a string, got {shown(value)}", "string_type")
    elif kind in ("image_url", "video_url"):
        url = value.get("url") if isinstance(value, Mapping) else value
        if isinstance(url, str):
            return {"type": str(kind), str(kind): url}
        problems.add((*loc, str(kind), "url"), f"expected a string, got {shown(url)}", "string_type")
    elif kind == "input_audio" and isinstance(value, Mapping):
        data, form = value.get("data"), value.get("format")
        if isinstance(data, str) and isinstance(form, str):
            return {"type": "audio_url", "audio_url": f"data:audio/{form};base64,{data}"}
        problems.add((*loc, "input_audio"), "expected data and format, both strings", "string_type")
    elif kind == "file" and isinstance(value, Mapping):
        data = value.get("file_data")
        if isinstance(data, str):
            url = data if data.startswith("data:") else f"data:application/pdf;base64,{data}"
            return {"type": "pdf_url", "pdf_url": url}
        problems.add((*loc, "file", "file_data"), f"expected a string, got {shown(data)}", "string_type")
    else:
        taken = "text, image_url, video_url, input_audio or file"
        problems.add((*loc, "type"), f"expected {taken}, got {shown(kind)}", "literal_error")
    return None


def _joined(content: object) -> object:
    """Return a tool message's content as one text, anything else as it is."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return "".join(str(text) for text in texts) if all(isinstance(text, str) for text in texts) else content


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _past_calls(calls: object, loc: Loc, problems: Problems) -> object:
    """Return an assistant's calls as ours, their arguments parsed."""
    if not isinstance(calls, list):
        return calls
    read: list[Fields] = []
    for i, call in enumerate(calls):
        function = call.get("function") if isinstance(call, Mapping) else None
        fields = function if isinstance(function, Mapping) else {}
        text = fields.get("arguments")
        try:
            parameters = json.loads(text) if isinstance(text, str) and text.strip() else {} if text == "" else None
        except (ValueError, RecursionError):
            parameters = None
        if not isinstance(parameters, dict):
            problems.add((*loc, i, "function", "arguments"), "expected a JSON object as a string", "json_invalid")
            continue
        call_id = call.get("id") if isinstance(call, Mapping) else None
        read.append({"id": call_id, "name": fields.get("name"), "parameters": parameters})
    return read


def _tools(tools: object, problems: Problems) -> object:
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


def _choice(choice: object, tools: object, problems: Problems) -> tuple[object, object]:
    """Return tool_choice as ours, and the tools it leaves: one, where it names one."""
    if choice == "required":
        return "tool", tools
    if choice is None or choice in ("auto", "none"):
        return choice, tools
    if not isinstance(choice, Mapping):
        msg = f"expected auto, none, required or one of the tools, got {shown(choice)}"
        problems.add(("body", "tool_choice"), msg, "literal_error")
        return None, tools
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    named = [tool for tool in tools if tool["name"] == name] if isinstance(tools, list) else []
    kind = choice.get("type")
    if kind != "function" or not named:
        got = f"type {shown(kind)}" if kind != "function" else shown(name)
        msg = f"expected auto, none, required or one of the tools, got {got}"
        problems.add(("body", "tool_choice"), msg, "value_error")
    return "tool", named


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


def _scored(scores: Sequence[TokenScore]) -> Fields:
    """Return the probabilities of tokens; half a character stands as U+FFFD, its bytes beside it."""
    content = []
    for score in scores:
        likeliest = [_score(data, value) for data, value in score.likeliest]
        content.append({**_score(score.data, score.log_probability), "top_logprobs": likeliest})
    return {"content": content, "refusal": None}


def _score(data: bytes, log_probability: float) -> Fields:
    return {"token": data.decode("utf-8", "replace"), "logprob": max(log_probability, -9999.0), "bytes": list(data)}


def _usage(reply: Reply, progress: Progress) -> dict[str, int]:
    prompt, completion = progress.input_tokens, progress.output_tokens
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **reply.paper_usage}
