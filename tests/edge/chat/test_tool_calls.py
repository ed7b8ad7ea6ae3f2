"""Tool calls in an answer's text: what is shown while it grows, and what it is in the end."""

import json
import time

import pytest

from edge.chat.prompt import Call
from edge.chat.tool_calls import CLOSE, OPEN, ParsedAnswer, said
from tests.edge.asking import HANGS_S

NAMES = frozenset({"weather", "add"})


def whole(text: str) -> ParsedAnswer:
    return said(text, names=NAMES, finish_reason="stop")


def written(name: str, **arguments: object) -> str:
    return OPEN + "\n" + json.dumps({"name": name, "arguments": arguments}) + "\n" + CLOSE


def test_text_stays_text() -> None:
    assert whole("3 < 4 <tools> </tool_call>") == ParsedAnswer("3 < 4 <tools> </tool_call>")


def test_a_call_is_a_call_and_no_text() -> None:
    assert whole("Let me look.\n" + written("weather", city="Rome")) == ParsedAnswer(
        "", (Call("weather", {"city": "Rome"}),)
    )


@pytest.mark.parametrize("between", ["", "\n", " \n\n "])
def test_calls_may_follow_each_other(between: str) -> None:
    text = between.join([written("add", a=1), written("weather"), written("add", a=2)])
    assert [call.name for call in whole(text).calls] == ["add", "weather", "add"]


@pytest.mark.parametrize(
    "inner",
    [
        '{"name": "add", "arguments": {"a": 1}}',
        '\n\n {"name": "add", "parameters": {"a": 1}}',
        '{"arguments": "{\\"a\\": 1}", "name": "add"}',
        '{"name": "add", "arguments": {"a": 1}} and so on',
    ],
)
def test_a_call_is_read_tolerantly(inner: str) -> None:
    assert whole(OPEN + inner + CLOSE).calls == (Call("add", {"a": 1}),)


def test_a_call_without_its_closing_tag_counts() -> None:
    assert whole(written("add").removesuffix(CLOSE)).calls == (Call("add", {}),)


def test_tags_inside_arguments_are_text() -> None:
    assert whole(written("add", a=CLOSE + OPEN)).calls == (Call("add", {"a": CLOSE + OPEN}),)


@pytest.mark.parametrize(
    "inner",
    [
        "no JSON",
        '{"name": "unknown", "arguments": {}}',
        '{"name": "add", "arguments": [1]}',
        '{"name": "add", "arguments": {"a": NaN}}',
        '{"name": "add", "arguments": {"a": 1e999}}',
        '{"name": 1}',
        "[" * 100_000,
        '{"name": "add", "arguments": {"a": ' + "1" * 5000 + "}}",
    ],
)
def test_what_is_no_call_is_shown_without_tags(inner: str) -> None:
    assert whole("See: " + OPEN + inner + CLOSE) == ParsedAnswer("See: " + inner)


def test_a_call_that_was_cut_off_is_not_shown() -> None:
    text = "See:" + written("add", a=1)[:30]
    assert said(text, names=NAMES, finish_reason="length") == ParsedAnswer("See:")


def test_good_calls_survive_bad_ones() -> None:
    assert whole(OPEN + "{" + CLOSE + written("add", a=1)).calls == (Call("add", {"a": 1}),)


def test_no_tag_or_half_a_tag_is_ever_shown() -> None:
    text = "Is 3 < 4? <b>\n" + written("add", a=1)
    # What the decoder of text lets out never ends in white space.
    shown = [said(text[:n].rstrip(), names=NAMES, finish_reason=None) for n in range(len(text))]
    for before, after in zip(shown, shown[1:], strict=False):
        assert after.content.startswith(before.content) and not after.calls
    assert shown[-1] == ParsedAnswer("Is 3 < 4? <b>")


@pytest.mark.parametrize(
    "piece", [OPEN, OPEN + "{", OPEN + "[" * 20, OPEN + '"', "<tool_", OPEN + " " * 50, OPEN + '["']
)
def test_a_mebibyte_of_malice_takes_no_time(piece: str) -> None:
    text = (piece * ((1 << 20) // len(piece) + 1))[: 1 << 20]
    started = time.process_time()
    whole(text)
    said(text, names=NAMES, finish_reason=None)
    assert time.process_time() - started < HANGS_S
