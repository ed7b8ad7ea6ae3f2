"""From a request to a response: fields checked, every default filled in, answers and errors in the API's shape."""

import contextlib
import logging
import math
import sys
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge.answer import Options
from edge.calls import Said, said, shown
from edge.engine import Engine
from edge.errors import (
    BundleChanged,
    BundleError,
    EdgeError,
    ParameterError,
    RuntimeFailure,
    UnsupportedError,
    status_of,
)
from edge.handle import Handle, Progress
from edge.limits import Limits
from edge.listener import Listener
from edge.messages import MediaPart, Message, MessageLike, Place, Problems, read_messages
from edge.messages import shown as _shown
from edge.opening import Access, Hearing, decode_media, heard, turns
from edge.paper import TextBudget
from edge.pieces import F32
from edge.prompt import Tool, Turn, pieces
from edge.reasoning import Start, parted, start_of
from edge.tools import read_choice, read_form, read_tools
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
class _Number:
    """A numeric field: its default, and the range a value must lie in, `above` being outside of it."""

    default: int | float
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    whole: bool = False

    @property
    def wanted(self) -> str:
        kind = "an integer" if self.whole else "a number"
        if math.isfinite(self.above):
            return f"{kind} in ({self.above:g}, {self.high:g}]"
        return f"{kind} >= {self.low:g}" if math.isinf(self.high) else f"{kind} in [{self.low:g}, {self.high:g}]"


_NUMBERS: Mapping[str, _Number] = {
    "max_tokens": _Number(1024, low=1, whole=True),
    "temperature": _Number(0.4, low=0),
    "top_p": _Number(0.95, above=0, high=1),
    "top_k": _Number(1024, low=1, whole=True),
    "frequency_penalty": _Number(0.0, low=-2, high=2),
    "presence_penalty": _Number(0.0, low=-2, high=2),
}


@dataclass(frozen=True)
class Request:
    """A request whose fields are right, defaults filled in.

    tools: those that may be called. video_frames: how many of each film are looked at, None: as the bundle has it.
    video_sound: whether their sound tracks are heard, too.
    """

    model: str
    messages: Sequence[Message]
    options: Options
    tools: tuple[Tool, ...] = ()
    video_frames: int | None = None
    video_sound: bool = False

    @property
    def has_media(self) -> bool:
        """Whether any message names media."""
        return any(isinstance(part, MediaPart) for message in self.messages for part in message.parts)

    @property
    def has_paper(self) -> bool:
        """Whether any message names a PDF."""
        parts = (part for message in self.messages for part in message.all_parts)
        return any(isinstance(part, MediaPart) and part.kind == "pdf" for part in parts)


@dataclass(frozen=True)
class Reply:
    """The reply to one request, being made; `id` and `model` stand in every response and chunk of it.

    tools: names of those that may be called. budget: what became of the text of papers, None without any paper.
    reasoning: whether the answer begins with some.
    """

    id: str
    model: str
    handle: Handle
    tools: frozenset[str] = frozenset()
    budget: TextBudget | None = None
    reasoning: Start = "none"

    def progress(self) -> Generator[Progress, None, None]:
        """Yield the newest progress until the answer is whole; leaving early stops it. Raises: ApiError."""
        try:
            with api_errors():
                yield from self.handle
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
        return Usage(input_tokens=progress.input_tokens, output_tokens=progress.output_tokens, **self.paper_usage)

    @property
    def paper_usage(self) -> dict[str, int]:
        """The tokens of papers' text: what was read, and what found no room; nothing without a paper."""
        if self.budget is None:
            return {}
        return {"pdf_text_tokens": self.budget.spent, "pdf_text_cut": self.budget.cut}

    def said(self, progress: Progress) -> Said:
        """Return what progress says: text, or calls, after its reasoning. Only the last progress has calls."""
        text, reason = progress.text, progress.finish_reason
        thought = parted(text, start=self.reasoning, ended=reason is not None)
        if not self.tools:
            return shown(text, (thought.start, len(text)), reasoning=thought.reasoning)
        spoken = said(text, names=self.tools, finish_reason=reason, start=thought.start)
        return replace(spoken, reasoning=thought.reasoning)

    def _beside(self, spoken: Said) -> dict[str, Any]:
        """Return what a message has beside its content: calls, and reasoning as a field that the SDK does not name."""
        calls = {"tool_calls": self._calls(spoken)} if spoken.calls else {}
        return {**calls, **({"reasoning_content": spoken.reasoning} if spoken.reasoning else {})}

    def _calls(self, spoken: Said) -> list[ToolCall]:
        stem = self.id.replace("-", "")[:20]
        return [
            ToolCall(id=f"call_{stem}_{i}", name=call.name, parameters=dict(call.arguments))
            for i, call in enumerate(spoken.calls)
        ]


def read_request(body: Mapping[str, object], *, limits: Limits, place: Place | None = None) -> Request:
    """Check a request's fields; null or absent is the default, unknown fields are ignored.

    place: where what stands here stood in a request that came in another form.
    Raises: UnprocessableEntityError naming every field that is wrong, ApiError 400 for what this version has not.
    Source: chat-api, 2.
    """
    problems = Problems(place)
    with api_errors():
        messages = read_messages(body.get("messages"), problems, limits)
    model = body.get("model")
    if model is None:
        problems.add(("body", "model"), "expected a model's name, got none", "missing")
    elif not isinstance(model, str) or not model:
        problems.add(("body", "model"), f"expected a model's name, got {_shown(model)}", "string_type")
    numbers = {name: _read_number(name, body.get(name), problems) for name in _NUMBERS}
    seed = body.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        problems.add(("body", "seed"), f"expected an integer, got {_shown(seed)}", "int_type")
    stop = _read_stop(body.get("stop"), problems, limits)
    tools = read_tools(body.get("tools"), problems)
    choice = read_choice(body.get("tool_choice"), tools, problems)
    with api_errors():
        form = read_form(body.get("response_format"), choice, tools, problems)
    if form is not None:
        form = replace(form, limit=str(problems.place(("body", "max_tokens"))[-1]))
    top_logprobs = _read_logprobs(body, problems, limits)
    frames = _read_frames(body.get("video_frames"), problems, limits)
    sound = body.get("video_sound")
    if sound is not None and not isinstance(sound, bool):
        problems.add(("body", "video_sound"), f"expected true or false, got {_shown(sound)}", "bool_type")
    _check_features(body, problems)
    problems.raise_any()
    _refuse_features(body)
    options = Options(
        max_tokens=int(numbers["max_tokens"]),
        temperature=numbers["temperature"],
        top_p=numbers["top_p"],
        top_k=int(numbers["top_k"]),
        frequency_penalty=numbers["frequency_penalty"],
        presence_penalty=numbers["presence_penalty"],
        seed=seed if isinstance(seed, int) else None,
        stop=stop,
        fresh=messages[-1].role != "assistant",
        form=form,
        top_logprobs=top_logprobs,
        calls=bool(tools) and choice != "none",
    )
    return Request(str(model), messages, options, () if choice == "none" else tools, frames, sound is True)


@dataclass(frozen=True, eq=False)
class Opened:
    """A request's media, decoded; sounds are not turned into text yet. budget: what became of the text of papers."""

    turns: Sequence[Turn]
    budget: TextBudget


def opened(
    engine: Engine, request: Request, *, access: Access, limits: Limits, listener: Listener | None = None
) -> Opened:
    """Open a request's media, without the engine's help. Raises: ApiError. The parameters are those of `start`."""
    with api_errors():
        budget = _text_budget(engine, limits)
        turns = decode_media(
            request.messages,
            spec=engine.manifest,
            access=access,
            budget=budget,
            limits=limits,
            frames=request.video_frames,
            hearing=Hearing(listener, request.video_sound),
        )
        return Opened(turns, budget)


def start(
    engine: Engine,
    request: Request,
    *,
    access: Access,
    limits: Limits,
    listener: Listener | None = None,
    stopped: Callable[[], bool] | None = None,
    media: Opened | None = None,
) -> Reply:
    """Open the request's media, lay out its prompt and hand it to the engine. Raises: ApiError.

    listener: what hears sounds for a bundle without an audio tower; stopped: asked while it does. media: what `opened`
    gave, if it was called before.
    """
    media = media or opened(engine, request, access=access, limits=limits, listener=listener)
    with api_errors():
        manifest = engine.manifest
        turns = heard(media.turns, spec=manifest, hearing=Hearing(listener, request.video_sound, stopped))
        handle = engine.stream(pieces(turns, manifest, tools=request.tools), request.options)
        return Reply(
            str(uuid.uuid4()),
            manifest.id,
            handle,
            frozenset(tool.name for tool in request.tools),
            media.budget if request.has_paper else None,
            _reasoning(request.messages[-1]) if manifest.prompt.format == "flash" else "none",
        )


def next_logits(engine: Engine, messages: Sequence[MessageLike]) -> F32:
    """Return the logits (V,) of the first token of an answer; messages as chat.create takes them.

    Raises: as `Engine.stream`, and MediaError.
    """
    budget = _text_budget(engine, Limits())
    conversation = turns(messages, spec=engine.manifest, access=Access(files=True), budget=budget)
    return engine.logits(pieces(conversation, engine.manifest))


def _text_budget(engine: Engine, limits: Limits) -> TextBudget:
    """Return a budget for the text of PDFs in one request: at most a quarter of the context."""
    n_tokens = min(limits.page_text_tokens, engine.context // 4)
    return TextBudget(engine.tokenizer.encode, engine.tokenizer.decode, n_tokens)


def _reasoning(last: Message) -> Start:
    """Return how the answer of a model that reasons begins; last: the message that it answers or goes on from."""
    if last.role != "assistant":
        return start_of(None)
    return start_of(" ".join(part for part in last.parts if isinstance(part, str)))


@contextlib.contextmanager
def api_errors() -> Iterator[None]:
    """Turn the package's errors into the API's: the status of errors.STATUS, the body of chat-api, 3."""
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


def _read_number(name: str, value: object, problems: Problems) -> float:
    """Return a numeric field's value, its default for null; what is wrong goes to `problems`."""
    number = _NUMBERS[name]
    if value is None:
        return number.default
    kinds = (int,) if number.whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool):
        kind = "int_type" if number.whole else "float_type"
        problems.add(("body", name), f"expected {number.wanted}, got {_shown(value)}", kind)
        return number.default
    # Python's integers go past what the sampler's floats can hold.
    largest = math.inf if number.whole else sys.float_info.max
    if not (number.low <= value <= number.high and value > number.above and abs(value) <= largest):
        problems.add(("body", name), f"expected {number.wanted}, got {_shown(value)}", "value_error")
        return number.default
    return value


def _read_stop(stop: object, problems: Problems, limits: Limits) -> tuple[str, ...]:
    if stop is None:
        return ()
    if not isinstance(stop, list | tuple):
        problems.add(("body", "stop"), f"expected a list of strings, got {_shown(stop)}", "list_type")
        return ()
    if len(stop) > limits.stop:
        problems.add(("body", "stop"), f"expected at most {limits.stop} strings, got {len(stop)}", "too_long")
        return ()
    for i, text in enumerate(stop):
        n_bytes = len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0
        if not 1 <= n_bytes <= limits.stop_bytes:
            msg = f"expected a string of 1 to {limits.stop_bytes} bytes, got {_shown(text)} of {n_bytes} bytes"
            problems.add(("body", "stop", i), msg, "string_type" if not isinstance(text, str) else "value_error")
    return tuple(stop)


def _read_frames(value: object, problems: Problems, limits: Limits) -> int | None:
    """Return how many frames of a film are looked at, None for the bundle's own number."""
    most = limits.video_frames
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most):
        return value
    msg = f"expected an integer in [1, {most}], got {_shown(value)}"
    problems.add(("body", "video_frames"), msg, "value_error" if isinstance(value, int) else "int_type")
    return None


def _read_logprobs(body: Mapping[str, object], problems: Problems, limits: Limits) -> int | None:
    """Return how many likeliest tokens to report beside each one; None when no probabilities are asked for."""
    wanted, top = body.get("logprobs"), body.get("top_logprobs")
    if wanted is not None and not isinstance(wanted, bool):
        problems.add(("body", "logprobs"), f"expected true or false, got {_shown(wanted)}", "bool_type")
    if top is None:
        return 0 if wanted is True else None
    if not isinstance(top, int) or isinstance(top, bool) or not 0 <= top <= limits.top_logprobs:
        msg = f"expected an integer in [0, {limits.top_logprobs}], got {_shown(top)}"
        problems.add(("body", "top_logprobs"), msg, "value_error")
        return None
    if wanted is not True:
        problems.add(("body", "top_logprobs"), "expected logprobs true beside it", "value_error")
    return top


def _check_features(body: Mapping[str, object], problems: Problems) -> None:
    """Check the types of fields whose features this version refuses."""
    search = body.get("use_search_engine")
    if search is not None and not isinstance(search, bool):
        problems.add(("body", "use_search_engine"), f"expected true or false, got {_shown(search)}", "bool_type")


def _refuse_features(body: Mapping[str, object]) -> None:
    """Refuse what this version has not, instead of answering without it. Raises: ApiError 400."""
    with api_errors():
        if body.get("use_search_engine"):
            raise UnsupportedError("use_search_engine: there is no search offline; expected false")
