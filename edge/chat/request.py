"""A request's fields, checked, every default filled in."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge.chat.messages import MediaPart, Message, Place, Problems, read_level, read_max_tiles, read_messages
from edge.chat.messages import shown as _shown
from edge.chat.prompt import Tool
from edge.chat.reply import api_errors
from edge.chat.tools import read_choice, read_form, read_tools
from edge.engine.answer import Options
from edge.errors import (
    UnsupportedError,
)
from edge.limits import Limits
from edge.media.detail import AUTO, Detail


@dataclass(frozen=True)
class Number:
    """A numeric field: its default, and the range a value must lie in, `above` being outside of it."""

    default: int | float
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    whole: bool = False

    @property
    def wanted(self) -> str:
        """What an error says of its range."""
        kind = "an integer" if self.whole else "a number"
        if math.isfinite(self.above):
            return f"{kind} in ({self.above:g}, {self.high:g}]"
        return f"{kind} >= {self.low:g}" if math.isinf(self.high) else f"{kind} in [{self.low:g}, {self.high:g}]"


NUMBERS: Mapping[str, Number] = {
    "max_tokens": Number(1024, low=1, whole=True),
    "temperature": Number(0.4, low=0),
    "top_p": Number(0.95, above=0, high=1),
    "top_k": Number(1024, low=1, whole=True),
    "frequency_penalty": Number(0.0, low=-2, high=2),
    "presence_penalty": Number(0.0, low=-2, high=2),
}


@dataclass(frozen=True)
class Request:
    """A request whose fields are right, defaults filled in.

    tools: those that may be called. video_frames: how many of each video are looked at, None: as the bundle has it.
    video_sound: whether their audio tracks are used, too. text: what is continued as it stands. detail: how finely
    images and pages of PDFs are looked at, where their part does not say.
    """

    model: str
    messages: Sequence[Message]
    options: Options
    tools: tuple[Tool, ...] = ()
    video_frames: int | None = None
    video_sound: bool = False
    text: str | None = None
    detail: Detail = AUTO

    @property
    def has_media(self) -> bool:
        """Whether any message names media."""
        return any(isinstance(part, MediaPart) for message in self.messages for part in message.parts)

    @property
    def has_pdf(self) -> bool:
        """Whether any message names a PDF."""
        parts = (part for message in self.messages for part in message.all_parts)
        return any(isinstance(part, MediaPart) and part.kind == "pdf" for part in parts)


def read_request(body: Mapping[str, object], *, limits: Limits, place: Place | None = None) -> Request:
    """Check a request's fields; null or absent is the default, unknown fields are ignored.

    place: where what stands here stood in a request that came in another form.
    Raises: UnprocessableEntityError naming every field that is wrong, ApiError 400 for what this version has not.
    Source: chat-interface.md, 2.
    """
    problems = Problems(place)
    with api_errors():
        messages = read_messages(body.get("messages"), problems, limits)
    model = body.get("model")
    if model is None:
        problems.add(("body", "model"), "expected a model's name, got none", "missing")
    elif not isinstance(model, str) or not model:
        problems.add(("body", "model"), f"expected a model's name, got {_shown(model)}", "string_type")
    numbers = {name: _read_number(name, body.get(name), problems) for name in NUMBERS}
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
    with_audio = problems.flag(("body", "video_sound"), body.get("video_sound"))
    level = read_level(body.get("detail"), ("body",), problems)
    detail = Detail(level or AUTO.level, read_max_tiles(body.get("max_tiles"), ("body",), problems))
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
    offered = () if choice == "none" else tools
    return Request(str(model), messages, options, offered, frames, with_audio, detail=detail)


def read_continuation(text: str, body: Mapping[str, object], *, limits: Limits, place: Place | None = None) -> Request:
    """Check a request to continue a text as it stands; its other fields, errors and `place` as in `read_request`."""
    messages = [{"role": "assistant", "content": text}]
    request = read_request({**body, "messages": messages}, limits=limits, place=place)
    return replace(request, text=text)


def _read_number(name: str, value: object, problems: Problems) -> float:
    """Return a numeric field's value, its default for null; what is wrong goes to `problems`."""
    number = NUMBERS[name]
    if value is None:
        return number.default
    kinds = (int,) if number.whole else (int, float)
    if number.whole and isinstance(value, float) and value.is_integer():
        value = int(value)  # 40.0 is an integer in JSON, as it is for Reka's service
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
    """Return how many frames of a video are looked at, None for the bundle's own number."""
    most = limits.video_frames
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most):
        return value
    msg = f"expected an integer in [1, {most}], got {_shown(value)}"
    problems.add(("body", "video_frames"), msg, "value_error" if isinstance(value, int) else "int_type")
    return None


def _read_logprobs(body: Mapping[str, object], problems: Problems, limits: Limits) -> int | None:
    """Return how many most likely tokens to report beside each one; None when no probabilities are asked for."""
    wanted, top = problems.flag(("body", "logprobs"), body.get("logprobs")), body.get("top_logprobs")
    if top is None:
        return 0 if wanted else None
    if not isinstance(top, int) or isinstance(top, bool) or not 0 <= top <= limits.top_logprobs:
        msg = f"expected an integer in [0, {limits.top_logprobs}], got {_shown(top)}"
        problems.add(("body", "top_logprobs"), msg, "value_error")
        return None
    if not wanted:
        problems.add(("body", "top_logprobs"), "expected logprobs true beside it", "value_error")
    return top


def _check_features(body: Mapping[str, object], problems: Problems) -> None:
    """Check the types of fields whose features this version refuses."""
    problems.flag(("body", "use_search_engine"), body.get("use_search_engine"))


def _refuse_features(body: Mapping[str, object]) -> None:
    """Refuse what this version has not, instead of answering without it. Raises: ApiError 400."""
    with api_errors():
        if body.get("use_search_engine"):
            raise UnsupportedError("use_search_engine: there is no search offline; expected false")
