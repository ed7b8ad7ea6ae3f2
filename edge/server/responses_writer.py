"""An answer as OpenAI's response: items of output, and the events of a stream in their order."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.chat.reply import Reply
from edge.chat.tool_calls import ParsedAnswer
from edge.engine.handle import Progress
from edge.engine.scores import ShownTokens
from edge.server.http import event
from edge.server.openai import now_s, scored
from edge.server.route import detail_of
from edge.types import ApiError, ToolCall

Fields = dict[str, object]

# What there is not, as a response says it.
_ABSENT: Mapping[str, object] = {
    "background": False,
    "max_tool_calls": None,
    "previous_response_id": None,
    "prompt": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": False,
    "truncation": "disabled",
}


@dataclass
class _Growing:
    """The item of a stream that grows: reasoning, or a message. place: its id and its index in the output."""

    kind: str
    place: Fields
    text: str = ""
    logprobs: list[object] = field(default_factory=list)

    @property
    def delta(self) -> str:
        """The type of the events of its text, without their last word."""
        return "response.output_text" if self.kind == "message" else "response.reasoning_text"

    @property
    def beside(self) -> Fields:
        """What events of its text have besides."""
        return {"logprobs": list(self.logprobs)} if self.kind == "message" else {}

    def part(self) -> Fields:
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": list(self.logprobs)}

    def item(self, status: str, parts: list[Fields]) -> Fields:
        head = {"id": self.place["item_id"], "type": self.kind, "status": status}
        if self.kind == "reasoning":
            return {**head, "summary": [], "content": parts}
        return {**head, "role": "assistant", "content": parts}


@dataclass
class ResponseWriter:
    """POST /v1/responses: a response, or the events that it is made by.

    said: what the response repeats of the request; scores: whether text has its probabilities.
    """

    streams: bool
    said: Mapping[str, object]
    scores: bool = False
    created: int = field(default_factory=now_s)
    _output: list[Fields] = field(default_factory=list)
    _growing: _Growing | None = None
    _written: bytearray = field(default_factory=bytearray)
    _n_events: int = 0
    _n_reasoned: int = 0
    _n_sent: int = 0
    _tokens: ShownTokens = field(default_factory=ShownTokens)

    def whole(self, reply: Reply, last: Progress) -> object:
        return self._take(reply, last)

    def events(self, reply: Reply, progress: Progress) -> bytes:
        if self._n_events == 0:
            for name in ("response.created", "response.in_progress"):
                self._say(name, response=self._response(reply, "in_progress"))
        response = self._take(reply, progress)
        if response is not None:
            self._say(f"response.{response['status']}", response=response)
            self._written += b"data: [DONE]\n\n"
        return self._flushed()

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        self._close("incomplete")
        reason = {"code": "server_error", "message": str(detail_of(error))}
        response = self._response(reply, "failed", error=reason, usage=_usage(reply, newest))
        self._say("response.failed", response=response)
        return self._flushed()

    def _take(self, reply: Reply, progress: Progress) -> Fields | None:
        """Take what is new of an answer; return the response once it is whole."""
        said = reply.said(progress)
        if len(said.reasoning) > self._n_reasoned:
            self._grow(reply, "reasoning", said.reasoning[self._n_reasoned :], [])
            self._n_reasoned = len(said.reasoning)
        text, logprobs = self._news(progress, said)
        if text or logprobs:
            self._grow(reply, "message", text, logprobs)
            self._n_sent += len(text)
        return None if progress.finish_reason is None else self._end(reply, progress)

    def _news(self, progress: Progress, said: ParsedAnswer) -> tuple[str, list[object]]:
        """Return the text that is new, with probabilities by whole tokens."""
        if not self.scores:
            return said.content[self._n_sent :], []
        self._tokens.take(progress.scores)
        tokens = self._tokens.give(progress.text, said.spans, whole=progress.finish_reason is not None)
        return "".join(token.text for token in tokens), scored(tokens, no_bytes=[])

    def _end(self, reply: Reply, last: Progress) -> Fields:
        """Close what is open, add the calls, and return the response."""
        is_whole = last.finish_reason == "stop"
        status = "completed" if is_whole else "incomplete"
        calls = reply.response(last).responses[0].message.tool_calls or ()
        has_message = any(item["type"] == "message" for item in (*self._output, self._open_item()))
        if not calls and not has_message and (is_whole or not self._n_reasoned):
            self._grow(reply, "message", "", [])
        self._close(status)
        for i, call in enumerate(calls):
            self._call(reply, i, call)
        why = None if is_whole else {"reason": "max_output_tokens"}
        ended = now_s() if is_whole else None
        return self._response(reply, status, incomplete_details=why, completed_at=ended, usage=_usage(reply, last))

    def _grow(self, reply: Reply, kind: str, text: str, logprobs: list[object]) -> None:
        """Add to the item that grows, which is opened where another one did."""
        if self._growing is None or self._growing.kind != kind:
            self._close("completed")
            self._growing = self._opened(reply, kind)
        item = self._growing
        item.text += text
        item.logprobs += logprobs
        if text or logprobs:
            beside: Fields = {"logprobs": logprobs} if kind == "message" else {}
            self._say(f"{item.delta}.delta", **item.place, content_index=0, delta=text, **beside)

    def _opened(self, reply: Reply, kind: str) -> _Growing:
        stem = {"reasoning": "rs", "message": "msg"}[kind]
        item = _Growing(kind, {"item_id": f"{stem}_{_hex(reply)}", "output_index": len(self._output)})
        self._say("response.output_item.added", **_index(item.place), item=item.item("in_progress", []))
        self._say("response.content_part.added", **item.place, content_index=0, part=item.part())
        return item

    def _close(self, status: str) -> None:
        """End the item that grows, if one does. status: of the item."""
        item, self._growing = self._growing, None
        if item is None:
            return
        self._say(f"{item.delta}.done", **item.place, content_index=0, text=item.text, **item.beside)
        self._say("response.content_part.done", **item.place, content_index=0, part=item.part())
        whole = item.item(status, [item.part()])
        self._say("response.output_item.done", **_index(item.place), item=whole)
        self._output.append(whole)

    def _call(self, reply: Reply, i: int, call: ToolCall) -> None:
        """Say a call, whole in one event of its arguments."""
        place: Fields = {"item_id": f"fc_{_hex(reply)}_{i}", "output_index": len(self._output)}
        arguments = json.dumps(call.parameters, ensure_ascii=False)
        head = {"id": place["item_id"], "type": "function_call", "call_id": call.id, "name": call.name}
        begun = {**head, "arguments": "", "status": "in_progress"}
        whole = {**head, "arguments": arguments, "status": "completed"}
        self._say("response.output_item.added", **_index(place), item=begun)
        self._say("response.function_call_arguments.delta", **place, delta=arguments)
        self._say("response.function_call_arguments.done", **place, name=call.name, arguments=arguments)
        self._say("response.output_item.done", **_index(place), item=whole)
        self._output.append(whole)

    def _response(self, reply: Reply, status: str, **ended: object) -> Fields:
        """Return the response as far as it is. ended: what only one that ended has."""
        head: Fields = {"id": f"resp_{_hex(reply)}", "object": "response", "created_at": self.created}
        end: Fields = {"completed_at": None, "error": None, "incomplete_details": None, "usage": None, **ended}
        output = list(self._output)
        return {**head, "status": status, **end, "model": reply.model, "output": output, **_ABSENT, **self.said}

    def _open_item(self) -> Fields:
        return {"type": None if self._growing is None else self._growing.kind}

    def _say(self, kind: str, **fields: object) -> None:
        """Write one event, which is named as its type says; only a stream needs it."""
        if self.streams:
            numbered = {"type": kind, "sequence_number": self._n_events, **fields}
            self._written += b"event: " + kind.encode() + b"\n" + event(numbered)
        self._n_events += 1

    def _flushed(self) -> bytes:
        written = bytes(self._written)
        self._written.clear()
        return written


def _index(place: Fields) -> Fields:
    return {"output_index": place["output_index"]}


def _hex(reply: Reply) -> str:
    return reply.id.replace("-", "")


def _usage(reply: Reply, progress: Progress) -> Fields:
    n_input, n_output = progress.input_tokens, progress.output_tokens
    return {
        "input_tokens": n_input,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": n_output,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens(progress)},
        "total_tokens": n_input + n_output,
        **reply.pdf_usage,
    }
