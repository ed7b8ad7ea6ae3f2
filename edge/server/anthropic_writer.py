"""An answer as Anthropic's message: blocks of content, and the events of a stream in their order."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.chat.reply import Reply
from edge.engine.handle import Progress
from edge.server.anthropic_errors import ERRORS, named_event
from edge.types import ApiError, ToolCall

Fields = dict[str, object]

_ENDS: Mapping[str | None, str] = {"length": "max_tokens", "context": "model_context_window_exceeded"}
_SHOWN: Mapping[str, str] = {"text": "text", "thinking": "thinking"}  # of a block that grows: the field of its text


@dataclass
class MessageWriter:
    """POST /v1/messages: a message, or the events that it is made by.

    thoughts: whether reasoning is shown; most_calls: how many calls are, None for all.
    """

    streams: bool
    thoughts: bool = True
    most_calls: int | None = None
    _content: list[Fields] = field(default_factory=list)
    _is_open: bool = False
    _begun: bool = False
    _written: bytearray = field(default_factory=bytearray)
    _n_thought: int = 0
    _n_sent: int = 0

    def whole(self, reply: Reply, last: Progress) -> object:
        return self._take(reply, last)

    def events(self, reply: Reply, progress: Progress) -> bytes:
        if not self._begun:
            self._begun = True
            self._say("message_start", message=_message(reply, progress, [], None, None))
        message = self._take(reply, progress)
        if message is not None:
            delta = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
            self._say("message_delta", delta=delta, usage=message["usage"])
            self._say("message_stop")
        written = bytes(self._written)
        self._written.clear()
        return written

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        return ERRORS.event(error)

    def _take(self, reply: Reply, progress: Progress) -> Fields | None:
        """Take what is new of an answer; return the message once it is whole."""
        said = reply.said(progress)
        thought, text = said.reasoning[self._n_thought :], said.content[self._n_sent :]
        self._n_thought, self._n_sent = len(said.reasoning), max(self._n_sent, len(said.content))
        if thought and self.thoughts:
            self._grow("thinking", thought)
        if text:
            self._grow("text", text)
        return None if progress.finish_reason is None else self._end(reply, progress)

    def _end(self, reply: Reply, last: Progress) -> Fields:
        """Close what is open, add the calls, and return the message."""
        calls = (reply.response(last).responses[0].message.tool_calls or ())[: self.most_calls]
        if not calls and not self._content:
            self._open({"type": "text", "text": ""})
        self._close()
        for call in calls:
            self._call(call)
        reason = _ENDS.get(last.finish_reason, "end_turn")
        if calls:
            reason = "tool_use"
        elif last.finish_reason == "stop" and last.stop is not None:
            reason = "stop_sequence"
        stop = last.stop if reason == "stop_sequence" else None
        return _message(reply, last, self._content, reason, stop)

    def _grow(self, kind: str, text: str) -> None:
        """Add to the block that grows, which is opened where another one did."""
        name = _SHOWN[kind]
        if not self._is_open or self._content[-1]["type"] != kind:
            self._close()
            self._open({"type": kind, name: "", **({"signature": ""} if kind == "thinking" else {})})
        block = self._content[-1]
        block[name] = f"{block[name]}{text}"
        self._delta({"type": f"{kind}_delta", name: text})

    def _call(self, call: ToolCall) -> None:
        """Say a call, whole in one event of its input."""
        block: Fields = {"type": "tool_use", "id": f"toolu_{call.id.removeprefix('call_')}", "name": call.name}
        self._open({**block, "input": {}})
        self._delta({"type": "input_json_delta", "partial_json": json.dumps(call.parameters, ensure_ascii=False)})
        self._content[-1]["input"] = call.parameters
        self._close()

    def _open(self, block: Fields) -> None:
        self._content.append(block)
        self._is_open = True
        self._say("content_block_start", index=len(self._content) - 1, content_block=dict(block))
        if len(self._content) == 1:
            self._say("ping")

    def _delta(self, delta: Fields) -> None:
        self._say("content_block_delta", index=len(self._content) - 1, delta=delta)

    def _close(self) -> None:
        """End the block that is open, if one is; clients expect a signature below reasoning, and there is none."""
        if not self._is_open:
            return
        self._is_open = False
        if self._content[-1]["type"] == "thinking":
            self._delta({"type": "signature_delta", "signature": ""})
        self._say("content_block_stop", index=len(self._content) - 1)

    def _say(self, kind: str, **fields: object) -> None:
        """Write one event, which is named as its type says; only a stream needs it."""
        if self.streams:
            self._written += named_event({"type": kind, **fields})


def _message(reply: Reply, progress: Progress, content: list[Fields], reason: str | None, stop: str | None) -> Fields:
    """Return a message as far as it is."""
    head = {"id": f"msg_{reply.id.replace('-', '')}", "type": "message", "role": "assistant", "model": reply.model}
    end = {"stop_reason": reason, "stop_sequence": stop}
    return {**head, "content": content, **end, "usage": _usage(reply, progress)}


def _usage(reply: Reply, progress: Progress) -> Fields:
    return {
        "input_tokens": progress.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": progress.output_tokens,
        "output_tokens_details": {"thinking_tokens": reply.reasoning_tokens(progress)},
        **reply.pdf_usage,
    }
