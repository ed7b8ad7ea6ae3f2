"""A reply on its way: progress as the API's chunks and responses, and errors in the API's shape."""

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge.chat.pdf_text import TextBudget
from edge.chat.reasoning import Start, parted
from edge.chat.tool_calls import ParsedAnswer, said, shown
from edge.engine.handle import Handle, Progress, Reading
from edge.errors import (
    BundleChanged,
    BundleError,
    EdgeError,
    ParameterError,
    RuntimeFailure,
    status_of,
)
from edge.types import (
    ApiError,
    ChatMessage,
    ChatMessageChunk,
    ChatResponse,
    ChunkChatResponse,
    ChunkMessageResponse,
    HttpValidationError,
    MessageResponse,
    ToolCall,
    UnprocessableEntityError,
    Usage,
    ValidationError,
)

_LOG = logging.getLogger("edge")


@dataclass(frozen=True)
class Reply:
    """The reply to one request, being made; `id` and `model` stand in every response and chunk of it.

    tools: names of those that may be called. budget: what became of the text of PDFs, None without any PDF.
    reasoning: whether the answer begins with some. encode: text as tokens of the model.
    """

    id: str
    model: str
    handle: Handle
    tools: frozenset[str] = frozenset()
    budget: TextBudget | None = None
    reasoning: Start = "none"
    encode: Callable[[str], Sequence[int]] | None = None

    def progress(self, on_reading: Callable[[Reading], object] | None = None) -> Generator[Progress, None, None]:
        """Yield the newest progress until the answer is whole; leaving early stops it. Raises: ApiError.

        on_reading: called with how far the prompt is read, before the first progress.
        """
        try:
            for event in _events(self.handle):
                if isinstance(event, Progress):
                    yield event
                elif on_reading is not None:
                    on_reading(event)
        finally:
            self.handle.cancel()

    def chunk(self, progress: Progress) -> ChunkChatResponse:
        """Return progress as a chunk: the whole text so far, `finish_reason` only when it is the last."""
        spoken = self.said(progress)
        chunk = ChatMessageChunk(role="assistant", content=spoken.content, **self._beside(spoken))
        last = {} if progress.finish_reason is None else {"finish_reason": progress.finish_reason}
        response = ChunkMessageResponse(chunk=chunk, **last)
        return ChunkChatResponse(id=self.id, model=self.model, responses=[response], usage=self.usage(progress))

    def response(self, progress: Progress) -> ChatResponse:
        """Return the last progress as a response."""
        spoken = self.said(progress)
        message = ChatMessage(role="assistant", content=spoken.content, **self._beside(spoken))
        response = MessageResponse(message=message, finish_reason=progress.finish_reason)
        return ChatResponse(id=self.id, model=self.model, responses=[response], usage=self.usage(progress))

    def usage(self, progress: Progress) -> Usage:
        """Return the tokens so far."""
        return Usage(input_tokens=progress.input_tokens, output_tokens=progress.output_tokens, **self.pdf_usage)

    @property
    def pdf_usage(self) -> dict[str, int]:
        """The tokens of PDFs' text: what was read, and what found no room; nothing without a PDF."""
        if self.budget is None:
            return {}
        return {"pdf_text_tokens": self.budget.spent, "pdf_text_cut": self.budget.cut}

    def reasoning_tokens(self, progress: Progress) -> int:
        """Return how many tokens the reasoning so far has, its text encoded anew; 0 where that cannot be encoded."""
        text = "" if self.reasoning == "none" else self.said(progress).reasoning
        if self.encode is None or not text:
            return 0
        with contextlib.suppress(EdgeError):
            return min(len(self.encode(text)), progress.output_tokens)
        return 0

    def said(self, progress: Progress) -> ParsedAnswer:
        """Return what progress says: text, or calls, after its reasoning. Only the last progress has calls."""
        text, reason = progress.text, progress.finish_reason
        thought = parted(text, start=self.reasoning, ended=reason is not None)
        if not self.tools:
            return shown(text, (thought.start, len(text)), reasoning=thought.reasoning)
        spoken = said(text, names=self.tools, finish_reason=reason, start=thought.start)
        return replace(spoken, reasoning=thought.reasoning)

    def _beside(self, spoken: ParsedAnswer) -> dict[str, Any]:
        """Return what a message has beside its content: calls, and reasoning as a field that the SDK does not name."""
        calls = {"tool_calls": self._calls(spoken)} if spoken.calls else {}
        return {**calls, **({"reasoning_content": spoken.reasoning} if spoken.reasoning else {})}

    def _calls(self, spoken: ParsedAnswer) -> list[ToolCall]:
        stem = self.id.replace("-", "")[:20]
        return [
            ToolCall(id=f"call_{stem}_{i}", name=call.name, parameters=dict(call.arguments))
            for i, call in enumerate(spoken.calls)
        ]


def _events(handle: Handle) -> Iterator[Reading | Progress]:
    """Yield what a handle tells. Raises: ApiError."""
    with api_errors():
        yield from handle.events()


def refused(status: int, detail: str) -> ApiError:
    """Return an error of the API."""
    return ApiError(status_code=status, body={"detail": detail})


@contextlib.contextmanager
def api_errors() -> Iterator[None]:
    """Turn the package's errors into the API's: the status of errors.STATUS, the body of chat-interface.md, 3."""
    try:
        yield
    except ApiError:
        raise
    except ParameterError as error:
        detail = ValidationError(loc=["body", error.field], msg=str(error), type="value_error")
        raise UnprocessableEntityError(HttpValidationError(detail=[detail])) from error
    except EdgeError as error:
        raise ApiError(status_code=status_of(error), body={"detail": _public(error)}) from error


def _public(error: EdgeError) -> str:
    """Return an error's text without paths: what failed inside stays in the log and in the error's cause."""
    if isinstance(error, BundleChanged):
        return str(error)
    if not isinstance(error, BundleError | RuntimeFailure) and type(error) is not EdgeError:
        return str(error)
    _LOG.error("%s: %s", type(error).__name__, error)
    return "the bundle cannot be used" if isinstance(error, BundleError) else "the model failed"
