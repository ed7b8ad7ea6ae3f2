"""What a model reasons before it answers is no part of the answer, and neither is half a tag."""

import json

import pytest

from edge.chat.reasoning import CLOSE, OPEN, parted, start_of
from edge.chat.reply import Reply
from edge.chat.tool_calls import said
from edge.engine.handle import Handle, Progress
from edge.server.openai import OpenaiWriter

TEXT = f"{OPEN}\nThe user asks.\n{CLOSE}\n\nIt is a <b>."


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        (TEXT, "The user asks.", "It is a <b>."),
        ("Just an answer.", "", "Just an answer."),
        (f"{OPEN}cut off", "cut off", ""),
        (f"{OPEN}{CLOSE}x", "", "x"),
        (f"{OPEN}a{CLOSE}", "a", ""),
        ("<reason", "", "<reason"),
        (f"An {OPEN} amid text", "", f"An {OPEN} amid text"),
        (f"{OPEN}a {OPEN} b{CLOSE} c {CLOSE}", f"a {OPEN} b", f"c {CLOSE}"),
        ("", "", ""),
    ],
)
def test_reasoning_and_answer(text: str, reasoning: str, answer: str) -> None:
    found = parted(text, start="fresh", ended=True)
    assert (found.reasoning, text[found.start :]) == (reasoning, answer)


def test_what_is_shown_on_the_way_only_grows() -> None:
    shown = [parted(TEXT[:n].rstrip(), start="fresh", ended=False) for n in range(len(TEXT) + 1)]
    thoughts = [found.reasoning for found in shown]
    answers = [TEXT[:n].rstrip()[found.start :] for n, found in enumerate(shown)]
    for steps, last in ((thoughts, "The user asks."), (answers, "It is a <b>.")):
        assert all(after.startswith(before) for before, after in zip(steps, steps[1:], strict=False))
        assert steps[-1] == last


@pytest.mark.parametrize(
    ("prefix", "text", "reasoning", "answer"),
    [
        (f"{OPEN} I th", f"ink.{CLOSE} Yes", "ink.", "Yes"),
        (f"{OPEN} I think.{CLOSE} Ye", f"s {OPEN}", "", f"s {OPEN}"),
        ("Ye", f"{OPEN}s", "", f"{OPEN}s"),
        ("", TEXT, "The user asks.", "It is a <b>."),
        (None, TEXT, "The user asks.", "It is a <b>."),
    ],
)
def test_an_answer_that_goes_on(prefix: str | None, text: str, reasoning: str, answer: str) -> None:
    found = parted(text, start=start_of(prefix), ended=True)
    assert (found.reasoning, text[found.start :]) == (reasoning, answer)


def reply(start: str = "fresh", tools: frozenset[str] = frozenset()) -> Reply:
    return Reply("i", "m", Handle(Progress("", 1, 0, None), lambda _: None), tools, None, start)  # type: ignore[arg-type]


def steps(text: str) -> list[Progress]:
    """The progress of an answer, one character a step."""
    growing = [Progress(text[:n].rstrip(), 1, n, None) for n in range(1, len(text))]
    return [*growing, Progress(text, 1, len(text), "stop")]


def test_reasoning_is_a_field_in_rekas_form() -> None:
    message = reply().response(steps(TEXT)[-1]).dict()["responses"][0]["message"]
    assert message == {"role": "assistant", "content": "It is a <b>.", "reasoning_content": "The user asks."}
    chunks = [reply().chunk(progress).dict()["responses"][0]["chunk"] for progress in steps(TEXT)]
    assert chunks[-1] == message
    assert not any(OPEN[:-1] in str(chunk) or CLOSE in str(chunk) for chunk in chunks)
    plain = reply(start="none").response(Progress(TEXT, 1, 9, "stop")).dict()["responses"][0]["message"]
    assert plain == {"role": "assistant", "content": TEXT}


def test_reasoning_is_a_field_in_openais_form_and_streams_before_the_content() -> None:
    writer = OpenaiWriter(streams=False, include_usage=False)
    whole = writer.whole(reply(), steps(TEXT)[-1])
    assert isinstance(whole, dict)
    spoken = whole["choices"][0]["message"]
    assert (spoken["content"], spoken["reasoning_content"]) == ("It is a <b>.", "The user asks.")
    writer = OpenaiWriter(streams=True, include_usage=False)
    sent = b"".join(writer.events(reply(), progress) for progress in steps(TEXT))
    events = [json.loads(line.removeprefix("data: ")) for line in sent.decode().split("\n\n")[:-2]]
    deltas = [event["choices"][0]["delta"] for event in events]
    kinds = [next(iter(delta), None) for delta in deltas]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "The user asks."
    assert "".join(delta.get("content", "") for delta in deltas) == "It is a <b>."
    assert kinds.index("content", 1) > len(kinds) - kinds[::-1].index("reasoning_content") - 1


def test_calls_are_looked_for_behind_the_reasoning_alone() -> None:
    call = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    text = f"{OPEN}I could write {call}{CLOSE}No."
    answer = reply(tools=frozenset({"add"})).said(Progress(text, 1, 9, "stop"))
    assert (answer.content, answer.calls) == ("No.", ())
    assert len(said(text, names={"add"}, finish_reason="stop").calls) == 1
