"""Rounds of a conversation with tools: an answer, its calls, their results, and another answer until there are none."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge.chat.arguments import Fields
from edge.chat.reply import api_errors
from edge.errors import ContextLengthError, MediaError, ParameterError, UnsupportedError, shown
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
_MOST_MEDIA = {"image": 6, "audio": 2}  # of results in one run: as many as a message may have
_KINDS = {"image": "image", "image_url": "image", "audio_url": "audio"}
_TOO_LONG = "Error: the result does not fit into the model's context"

_PLACE = re.compile(r"^(?:messages[\w.]*: )?(?:(?:image|audio): )?")  # of a part in a request

Output = str | list[Part]


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

    fields: the first request, as arguments of `create`. tool_choice is that of the first answer; later ones are free
    to call or not, and the last is not.
    Raises: UnprocessableEntityError for a number of rounds that is none.
    """

    def __init__(self, fields: Fields, tools: Toolset, *, max_rounds: int | None) -> None:
        self._fields = fields
        self._tools = tools
        self._most = _rounds(max_rounds)
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
        entry = {"tool_call_id": call.id, "output": result.output}
        self._results.append(entry)
        self._all_results.append(entry)
        self._drop_media()
        key = json.dumps([call.name, call.parameters, result.text], sort_keys=True, default=str)
        self._seen[key] += not result.media
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
        """Leave out what the model could not be asked with of this round's results; return whether that is anything.

        Results that do not fit, and media that the model does not accept or that cannot be decoded, are told as such.
        """
        cause = error.__cause__
        if isinstance(cause, ContextLengthError):
            return self._replace(lambda output: _TOO_LONG if _size(output) > len(_TOO_LONG) else output)
        if isinstance(cause, MediaError | UnsupportedError):
            return self._replace(lambda output: _without_media(output, _PLACE.sub("", str(cause))))
        return False

    def _replace(self, change: Callable[[Output], Output]) -> bool:
        """Change the results of this round; return whether any is another one now."""
        before = [entry["output"] for entry in self._results]
        for entry in self._results:
            entry["output"] = change(entry["output"])
        return any(entry["output"] is not output for entry, output in zip(self._results, before, strict=True))

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

    def _drop_media(self) -> None:
        """Leave the newest media of results alone: earlier ones show what is past, and fill the context."""
        left = dict(_MOST_MEDIA)
        for entry in reversed(self._all_results):
            if isinstance(entry["output"], list):
                entry["output"] = [_kept(part, left) for part in reversed(entry["output"])][::-1]


def _message(answer: ChunkChatResponse) -> ChatMessage:
    """Return an answer as a message."""
    said = answer.responses[0].chunk
    content = said.content if isinstance(said.content, str) else ""
    if said.tool_calls:
        return ChatMessage(role="assistant", content=content, tool_calls=said.tool_calls)
    return ChatMessage(role="assistant", content=content)


def _kept(part: Part, left: dict[str, int]) -> Part:
    """Return a part, or a note in its place where no more of its kind may stay. left: how many may, counted down."""
    kind = _KINDS.get(str(part.get("type")))
    if kind is None:
        return part
    left[kind] -= 1
    return part if left[kind] >= 0 else {"type": "text", "text": f"[{kind} of an earlier result]"}


def _without_media(output: Output, why: str) -> Output:
    """Return a result with a note in the place of its media."""
    if isinstance(output, str):
        return output
    texts = [str(part["text"]) for part in output if "text" in part]
    kinds = [kind for part in output if (kind := _KINDS.get(str(part.get("type"))))]
    return "\n".join([*texts, *(f"[{kind}, which cannot be shown: {why}]" for kind in kinds)])


def _size(output: Output) -> int:
    """Return how long a result is; one with media counts as long."""
    return len(output) if isinstance(output, str) else len(_TOO_LONG) + 1


def _rounds(most: int | None) -> int:
    if most is None:
        return MAX_ROUNDS
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        with api_errors():
            raise ParameterError(f"max_rounds: expected an integer >= 0, got {shown(str(most))}", field="max_rounds")
    return most
