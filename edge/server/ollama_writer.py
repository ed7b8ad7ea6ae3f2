"""Answers as Ollama's clients read them: one object, or lines of JSON of which the last has counts and durations."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from edge.chat.messages import shown
from edge.chat.reply import Reply
from edge.chat.tool_calls import ParsedAnswer
from edge.engine.handle import Progress
from edge.engine.scores import ShownToken, ShownTokens
from edge.errors import ContextLengthError, UnknownModelError
from edge.server.http import HttpResponse, dumped, json_response
from edge.server.openai import scored
from edge.server.openapi_shapes import OLLAMA_ERROR
from edge.server.route import ErrorForm, detail_of
from edge.types import ApiError, ToolCall

Fields = dict[str, object]
Kind = Literal["chat", "generate"]

LINES = "application/x-ndjson"
# Of bodies: LiteLLM says nothing of theirs, or the second; `curl -d`, as Ollama's examples have it, says the third. A
# foreign page can send the last two unasked, but browsers name its Origin then, which is refused.
ACCEPTED = ("application/json", "application/octet-stream", "application/x-www-form-urlencoded", "")


def line(value: object) -> bytes:
    """Return one object of a stream: a line of JSON."""
    return dumped(value) + b"\n"


def ollama_error(error: ApiError) -> Fields:
    """Return an error as Ollama's clients read it: a text, of unknown models in the words that they look for."""
    detail = detail_of(error)
    text = str(detail)
    if isinstance(detail, list):
        text = "; ".join(f"{'.'.join(map(str, found['loc'][1:]))}: {found['msg']}" for found in detail)
    cause = error.__cause__
    if isinstance(cause, UnknownModelError):
        text = f"model {shown(cause.name)} not found: {detail}"
    if isinstance(cause, ContextLengthError):
        text = f"the input length exceeds the context length: {detail}"
    return {"error": text}


ERRORS = ErrorForm(ollama_error, OLLAMA_ERROR, statuses={422: 400}, framed=line)


@dataclass
class OllamaWriter:
    """POST /api/chat and /api/generate. model: its name as it was asked for; thinks: whether reasoning is shown."""

    kind: Kind
    model: str
    streams: bool
    thinks: bool = True
    scores: bool = False
    begun_s: float = field(default_factory=time.monotonic)
    _n_sent: int = 0
    _n_thought: int = 0
    _tokens: ShownTokens = field(default_factory=ShownTokens)

    def whole(self, reply: Reply, last: Progress) -> object:
        said = reply.said(last)
        thinking = said.reasoning if self.thinks else ""
        content = self._said(said.content, thinking, _calls_of(reply, last))
        scores = {"logprobs": _logprobs(self._shown(last, said))} if self.scores else {}
        return {**self._head(), **content, **scores, **self._end(reply, last)}

    def events(self, reply: Reply, progress: Progress) -> bytes:
        said, written = reply.said(progress), b""
        thinking = said.reasoning[self._n_thought :] if self.thinks else ""
        if thinking:
            self._n_thought += len(thinking)
            written += self._line(self._said("", thinking, ()))
        tokens = self._shown(progress, said) if self.scores else []
        # With probabilities, text goes out by whole tokens.
        text = "".join(token.text for token in tokens) if self.scores else said.content[self._n_sent :]
        if text or tokens:
            self._n_sent += len(text)
            scores = {"logprobs": _logprobs(tokens)} if self.scores else {}
            written += self._line({**self._said(text, "", ()), **scores})
        if progress.finish_reason is None:
            return written
        calls = _calls_of(reply, progress)
        if calls:
            written += self._line(self._said("", "", calls))
        return written + line({**self._head(), **self._said("", "", ()), **self._end(reply, progress)})

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        return ERRORS.event(error)

    def empty(self, reason: str) -> HttpResponse:
        """Return the answer to a request that asks for none. reason: "load" or "unload"."""
        ended = {"done": True, "done_reason": reason}
        return json_response({**self._head(), **self._said("", "", ()), **ended})

    def _head(self) -> Fields:
        return {"model": self.model, "created_at": now()}

    def _line(self, fields: Mapping[str, object]) -> bytes:
        return line({**self._head(), **fields, "done": False})

    def _said(self, content: str, thinking: str, calls: Sequence[ToolCall]) -> Fields:
        thought = {"thinking": thinking} if thinking else {}
        if self.kind == "generate":
            return {"response": content, **thought}
        called = {"tool_calls": [_call(k, call) for k, call in enumerate(calls)]} if calls else {}
        return {"message": {"role": "assistant", "content": content, **thought, **called}}

    def _shown(self, progress: Progress, said: ParsedAnswer) -> list[ShownToken]:
        """Return the tokens whose text is shown by now, each once."""
        self._tokens.take(progress.scores)
        return self._tokens.give(progress.text, said.spans, whole=progress.finish_reason is not None)

    def _end(self, reply: Reply, last: Progress) -> Fields:
        """Return why an answer ended, its tokens and, in nanoseconds, its times.

        Loading is all that comes before the engine has the prompt: waiting for a place, and opening media, too.
        """
        times = reply.handle.times
        ended_s = times.ended_s or time.monotonic()
        first_s = times.first_s or ended_s
        return {
            "done": True,
            "done_reason": "length" if last.finish_reason == "context" else last.finish_reason,
            "total_duration": _ns(ended_s - self.begun_s),
            "load_duration": _ns(times.begun_s - self.begun_s),
            "prompt_eval_count": last.input_tokens,
            "prompt_eval_duration": _ns(first_s - times.begun_s),
            "eval_count": last.output_tokens,
            "eval_duration": _ns(ended_s - first_s),
        }


def now() -> str:
    """Return this moment as Ollama writes it: UTC, in microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


def _calls_of(reply: Reply, last: Progress) -> Sequence[ToolCall]:
    return reply.response(last).responses[0].message.tool_calls or ()


def _call(k: int, call: ToolCall) -> Fields:
    return {"id": call.id, "function": {"index": k, "name": call.name, "arguments": call.parameters}}


def _logprobs(tokens: Sequence[ShownToken]) -> list[object]:
    return scored(tokens, no_bytes=[])
