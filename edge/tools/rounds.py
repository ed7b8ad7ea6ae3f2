"""Rounds of a conversation with tools: an answer, its calls, their results, and another answer until there are none."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.chat.arguments import Fields
from edge.chat.reply import api_errors
from edge.errors import ContextLengthError, ParameterError, shown
from edge.tools.output import Part, ToolResult
from edge.tools.toolset import Toolset
from edge.types import (
    ApiError,
    ChatMessage,
    ChatResponse,
    ChunkChatResponse,
    FinishReason,
    MessageResponse,
    ToolCall,
    Usage,
)

MAX_ROUNDS = 8
MAX_REPEATS = 3  # of one call with one result
_MAX_IMAGES = 6  # of results in one conversation: as many as a message may have
_TOO_LONG = "Error: the result does not fit into the model's context"


@dataclass(frozen=True, eq=False)
class ToolStarted:
    """A call that is about to be made."""

    call: ToolCall


@dataclass(frozen=True, eq=False)
class ToolEnded:
    """A call and its result, whose `text` begins with "Error: " where `is_error`."""

    call: ToolCall
    result: ToolResult


class RunResponse(ChatResponse):
    """The last answer, and all that led to it.

    usage: the sum over all rounds. messages: the whole conversation, this answer included, as `messages` of the next
    request. calls: those that were made, in order. finish_reason: of the last answer ("stop", "length", "context"), or
    why it is one without tools: "max_rounds", or "repeated" for a call that had one result three times; "stopped".
    """

    messages: list[Any]
    calls: list[ToolCall]
    finish_reason: FinishReason | None = None

    @property
    def text(self) -> str:
        """The text of the answer."""
        return str(self.responses[0].message.content or "")


Event = ChunkChatResponse | ToolStarted | ToolEnded | RunResponse


class Rounds:
    """A conversation with tools as it goes on; it asks nobody and calls nothing itself.

    fields: the first request, as arguments of `create`; accepts_images: whether the model does, asked once an image is
    there. tool_choice is that of the first answer; later ones are free to call or not, and the last is not.
    Raises: UnprocessableEntityError for a number of rounds that is none.
    """

    def __init__(
        self, fields: Fields, tools: Toolset, *, max_rounds: int | None, accepts_images: Callable[[], bool]
    ) -> None:
        self._fields = fields
        self._tools = tools
        self._most = _rounds(max_rounds)
        self._accepts_images = accepts_images
        self._messages: list[Any] = list(fields["messages"])
        self._results: list[dict[str, Any]] = []  # of the round that goes on
        self._all_results: list[dict[str, Any]] = []
        self._calls: list[ToolCall] = []
        self._seen: Counter[str] = Counter()
        self._n_rounds = 0
        self._usage = Usage(input_tokens=0, output_tokens=0)
        self._last: ChunkChatResponse | None = None
        self._why: str | None = None  # the rounds end before the model ends them
        self.over = False

    def request(self) -> Fields:
        """Return what is asked next, as arguments of `create`."""
        if self._why is None and self._n_rounds >= self._most:
            self._why = "max_rounds"
        choice = "none" if self._why else self._fields.get("tool_choice") if self._n_rounds == 0 else None
        offered = self._tools.schemas or None
        return {**self._fields, "messages": list(self._messages), "tools": offered, "tool_choice": choice}

    def take(self, answer: ChunkChatResponse) -> Sequence[ToolCall]:
        """Take the last chunk of an answer; return its calls, each of which `add` is to be told the result of."""
        said, usage = answer.responses[0].chunk, answer.usage
        self._last = answer
        self._usage = Usage(
            input_tokens=self._usage.input_tokens + usage.input_tokens,
            output_tokens=self._usage.output_tokens + usage.output_tokens,
        )
        self._messages.append(_message(answer))
        calls: Sequence[ToolCall] = said.tool_calls or ()
        self.over = not calls
        if calls:
            self._n_rounds += 1
            self._results = []
            self._messages.append({"role": "tool_output", "content": self._results})
        return calls

    def add(self, call: ToolCall, result: ToolResult) -> None:
        """Take the result of a call."""
        self._calls.append(call)
        output = result.output
        if isinstance(output, list) and not self._accepts_images():
            output = "\n".join([*([result.text] if result.text else []), "[an image; this model accepts text only]"])
        entry = {"tool_call_id": call.id, "output": output}
        self._results.append(entry)
        self._all_results.append(entry)
        self._drop_images()
        key = json.dumps([call.name, call.parameters, result.text], sort_keys=True, default=str)
        self._seen[key] += not result.images
        if self._seen[key] >= MAX_REPEATS:
            self._why = "repeated"

    def stop(self) -> None:
        """End here; calls that were not made are told as such."""
        self._why, self.over = "stopped", True
        message = self._messages[-1]
        before = self._messages[-2] if len(self._messages) > 1 else None
        if isinstance(message, dict) and message.get("content") is self._results and isinstance(before, ChatMessage):
            made = {entry["tool_call_id"] for entry in self._results}
            for call in before.tool_calls or ():
                if call.id not in made:
                    self._results.append({"tool_call_id": call.id, "output": "Error: the call was stopped"})

    def shortened(self, error: ApiError) -> bool:
        """Leave out the results of this round where the prompt does not fit because of them; return whether it may fit.

        A result is told to be too long once: then the error stands.
        """
        if not isinstance(error.__cause__, ContextLengthError) or not self._results:
            return False
        long = [entry for entry in self._results if len(_text(entry["output"])) > len(_TOO_LONG)]
        for entry in long:
            entry["output"] = _TOO_LONG
        return bool(long)

    def response(self) -> RunResponse:
        """Return what came of it."""
        if self._last is None:
            with api_errors():
                raise ParameterError("the run was stopped before its first answer", field="stop")
        said = self._last.responses[0]
        answer = MessageResponse(message=_message(self._last), finish_reason=said.finish_reason)
        return RunResponse(
            id=self._last.id,
            model=self._last.model,
            responses=[answer],
            usage=self._usage,
            messages=self._messages,
            calls=self._calls,
            finish_reason=self._why or said.finish_reason,
        )

    def _drop_images(self) -> None:
        """Leave the newest images of results alone: earlier ones show what is past, and fill the context."""
        left = _MAX_IMAGES
        for entry in reversed(self._all_results):
            if isinstance(entry["output"], list):
                entry["output"], left = _with_images(entry["output"], left)


def _message(answer: ChunkChatResponse) -> ChatMessage:
    """Return an answer as a message."""
    said = answer.responses[0].chunk
    content = said.content if isinstance(said.content, str) else ""
    if said.tool_calls:
        return ChatMessage(role="assistant", content=content, tool_calls=said.tool_calls)
    return ChatMessage(role="assistant", content=content)


def _with_images(parts: Sequence[Part], left: int) -> tuple[list[Part], int]:
    """Return parts with so many images at most, the newest, and how many more there may be."""
    kept: list[Part] = []
    for part in reversed(parts):
        if "image" not in part:
            kept.append(part)
        elif left > 0:
            kept.append(part)
            left -= 1
        else:
            kept.append({"type": "text", "text": "[an earlier image]"})
    return kept[::-1], left


def _text(output: str | Sequence[Mapping[str, object]]) -> str:
    return output if isinstance(output, str) else " " * 1000


def _rounds(most: int | None) -> int:
    if most is None:
        return MAX_ROUNDS
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        with api_errors():
            raise ParameterError(f"max_rounds: expected an integer >= 0, got {shown(str(most))}", field="max_rounds")
    return most
