"""Tool calls in an answer's text: found by a scanner that passes over it once, and never shown as text."""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from edge.chat.prompt import Call
from edge.engine.handle import FinishReason
from edge.engine.pieces import CALL_TAGS

OPEN, CLOSE = CALL_TAGS
MAX_CALLS = 64  # looked at in one answer


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says: text to show, or calls to make (then there is no text).

    spans: where the text to show stands in the answer. reasoning: what came before the answer proper.
    """

    content: str
    calls: tuple[Call, ...] = ()
    spans: tuple[tuple[int, int], ...] = field(default=(), compare=False)
    reasoning: str = ""


def shown(text: str, *spans: tuple[int, int], calls: Sequence[Call] = (), reasoning: str = "") -> ParsedAnswer:
    """Return parts of an answer's text as what it says."""
    content = "".join(text[start:end] for start, end in spans)
    return ParsedAnswer(content, tuple(calls), spans, reasoning)


def said(text: str, *, names: Collection[str], finish_reason: FinishReason | None, start: int = 0) -> ParsedAnswer:
    """Take an answer's text apart. names: of the tools on offer; finish_reason: None while the text still grows.

    start: where it begins. Until the end, what is shown stops before the first tag or half a tag. At the end the calls
    that can be read are the answer; if there is none, what was written in place of one is shown without its tags,
    unless it was cut off. Source: model-family.md, 7.
    """
    opening = text.find(OPEN, start)
    if opening < 0:
        half = _half_tag(text) if finish_reason is None else 0
        end = _before_space(text, start, len(text) - half) if half else len(text)
        return shown(text, (start, max(start, end)))
    if finish_reason is None:
        return shown(text, (start, _before_space(text, start, opening)))
    calls, loose = _scan(text, opening + len(OPEN), names, is_cut=finish_reason != "stop")
    return ParsedAnswer("", tuple(calls)) if calls else shown(text, *_stripped(text, [(start, opening), *loose]))


def _half_tag(text: str) -> int:
    """Return how many characters at the end of a text could become the opening tag."""
    return next((n for n in range(len(OPEN) - 1, 0, -1) if text.endswith(OPEN[:n])), 0)


def _scan(text: str, place: int, names: Collection[str], *, is_cut: bool) -> tuple[list[Call], list[tuple[int, int]]]:
    """Return the calls from the first opening tag on, and where text stands that is none. place: behind that tag."""
    calls: list[Call] = []
    loose: list[tuple[int, int]] = []
    for _ in range(MAX_CALLS):
        call, end = _read(text, place, names)
        if call is not None:
            calls.append(call)
        else:
            end = min((found for tag in (OPEN, CLOSE) if (found := text.find(tag, place)) >= 0), default=len(text))
            if end < len(text) or not is_cut:
                loose.append((min(end, _past_space(text, place)), _before_space(text, place, end)))
        end = _past_space(text, end)
        end += len(CLOSE) if text.startswith(CLOSE, end) else 0
        following = text.find(OPEN, end)
        loose.append((end, following if following >= 0 else len(text)))
        if following < 0:
            break
        place = following + len(OPEN)
    return calls, loose


def _stripped(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans without the white space at both ends of what they show."""
    left = [(start, end) for start, end in spans if end > start]
    while left:
        start, end = left[0]
        left[0] = (min(end, _past_space(text, start)), end)
        if left[0][0] < end:
            break
        left.pop(0)
    while left:
        start, end = left[-1]
        left[-1] = (start, _before_space(text, start, end))
        if start < left[-1][1]:
            break
        left.pop()
    return left


def _read(text: str, place: int, names: Collection[str]) -> tuple[Call | None, int]:
    """Read a call at a place in the text; return it and where it ends. None: there is no call of a tool on offer."""
    try:
        value, end = _DECODER.raw_decode(text, _past_space(text, place))
        if not isinstance(value, dict):
            return None, place
        arguments = value.get("arguments", value.get("parameters"))
        if isinstance(arguments, str):  # some models write the arguments as a string of JSON
            arguments = _DECODER.decode(arguments)
    except (ValueError, RecursionError):
        return None, place
    name = value.get("name")
    arguments = {} if arguments is None else arguments
    if isinstance(name, str) and name in names and isinstance(arguments, dict):
        return Call(name, arguments), end
    return None, place


def _before_space(text: str, start: int, end: int) -> int:
    """Return where the white space before `end` begins, at the earliest at `start`."""
    return start + len(text[start:end].rstrip())


def _past_space(text: str, place: int) -> int:
    return len(text) - len(text[place:].lstrip())


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {number!r:.100}")
    return value


# Python's own reader takes NaN, Infinity and numbers too large for a float: no JSON that is written could hold them.
_DECODER = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)
