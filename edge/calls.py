"""Tool calls in an answer's text: found by a scanner that passes over it once, and never shown as text."""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass

from edge.handle import FinishReason
from edge.prompt import Call

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_CALLS = 64  # looked at in one answer


@dataclass(frozen=True)
class Said:
    """What an answer says: text to show, or calls to make (then there is no text)."""

    content: str
    calls: tuple[Call, ...] = ()


def said(text: str, *, names: Collection[str], finish_reason: FinishReason | None) -> Said:
    """Take an answer's text apart. names: of the tools on offer; finish_reason: None while the text still grows.

    Until the end, what is shown stops before the first tag or half a tag. At the end the calls that can be read are
    the answer; if there is none, what was written in place of one is shown without its tags, unless it was cut off.
    Source: reka-edge.md, 7.
    """
    head, tag, rest = text.partition(OPEN)
    if not tag:
        half = _half_tag(text) if finish_reason is None else 0
        return Said(text[: len(text) - half].rstrip() if half else text)
    if finish_reason is None:
        return Said(head.rstrip())
    calls, loose = _scan(rest, names, is_cut=finish_reason != "stop")
    return Said("", tuple(calls)) if calls else Said("".join([head, *loose]).strip())


def _half_tag(text: str) -> int:
    """Return how many characters at the end of a text could become the opening tag."""
    return next((n for n in range(len(OPEN) - 1, 0, -1) if text.endswith(OPEN[:n])), 0)


def _scan(text: str, names: Collection[str], *, is_cut: bool) -> tuple[list[Call], list[str]]:
    """Return the calls in what follows the first opening tag, and the text that is none."""
    calls: list[Call] = []
    loose: list[str] = []
    place = 0  # behind an opening tag
    for _ in range(MAX_CALLS):
        call, end = _read(text, place, names)
        if call is not None:
            calls.append(call)
        else:
            end = min((found for tag in (OPEN, CLOSE) if (found := text.find(tag, place)) >= 0), default=len(text))
            if end < len(text) or not is_cut:
                loose.append(text[place:end].strip())
        end = _past_space(text, end)
        end += len(CLOSE) if text.startswith(CLOSE, end) else 0
        following = text.find(OPEN, end)
        loose.append(text[end : following if following >= 0 else len(text)])
        if following < 0:
            break
        place = following + len(OPEN)
    return calls, loose


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


def _past_space(text: str, place: int) -> int:
    return len(text) - len(text[place:].lstrip())


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {number!r:.100}")
    return value


# Python's own reader takes NaN, Infinity and numbers too large for a float: no JSON that is written could hold them.
_DECODER = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)
