"""The prompt of Reka Flash 3: one string, its separator plain text. Source: model-family.md, 7."""

from dataclasses import replace

import pytest

from edge.chat.prompt import Call, Tool, Turn, pieces
from edge.engine.pieces import Text
from edge.errors import MediaError, ParameterError, UnsupportedError
from tests.edge.chat.test_prompt import MANIFEST, assistant, image, system, user

FLASH = replace(
    MANIFEST, id="flash", family="llama", vision=None,
    prompt=replace(MANIFEST.prompt, format="flash", tools=None, control={"<|endoftext|>": 1}, stop_ids=(1,),
                   stop_strings=("<sep>",)),
)  # fmt: skip


def laid_out(*turns: Turn) -> str:
    (piece,) = pieces(turns, FLASH)
    assert isinstance(piece, Text)
    return piece.text


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user("hi")], "human: hi <sep> assistant:"),
        ([user("a", "b")], "human: a b <sep> assistant:"),
        ([user()], "human:  <sep> assistant:"),
        ([user("hi"), assistant("yes"), user("more")],
         "human: hi <sep> assistant: yes <sep> human: more <sep> assistant:"),
        ([user("a"), user("b")], "human: a <sep> human: b <sep> assistant:"),
        ([user("hi"), assistant("It is ")], "human: hi <sep> assistant: It is "),
        ([user("hi"), assistant()], "human: hi <sep> assistant: "),
        ([assistant("It is")], "assistant: It is"),
        ([assistant("yes"), user("more")], "assistant: yes <sep> human: more <sep> assistant:"),
    ],
)  # fmt: skip
def test_turns_are_parted_by_a_separator_with_spaces(turns: list[Turn], expected: str) -> None:
    assert laid_out(*turns) == expected


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([system("Be brief."), user("hi")], "human: Be brief. hi <sep> assistant:"),
        ([system("Be", "brief."), user("hi")], "human: Be brief. hi <sep> assistant:"),
        ([system("Be brief."), user("hi"), assistant("yes"), user("more")],
         "human: Be brief. hi <sep> assistant: yes <sep> human: more <sep> assistant:"),
        ([system("Be brief.")], "human: Be brief. <sep> assistant:"),
        ([system("Be brief."), assistant("It is")], "human: Be brief. <sep> assistant: It is"),
        ([system(""), user("hi")], "human: hi <sep> assistant:"),
    ],
)  # fmt: skip
def test_system_text_goes_in_front_of_the_first_user_text(turns: list[Turn], expected: str) -> None:
    assert laid_out(*turns) == expected


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("<reasoning>two\nlines</reasoning>\n\nFour.", "Four."),
        ("<reasoning>a</reasoning>b<reasoning>c</reasoning> d", "bd"),
        ("So <reasoning>cut off in the mid", "So "),
        ("<reasoning></reasoning>", ""),
        ("no <reason> here", "no <reason> here"),
    ],
)
def test_reasoning_of_earlier_turns_is_dropped(said: str, kept: str) -> None:
    expected = f"human: hi <sep> assistant: {kept} <sep> human: more <sep> assistant:"
    assert laid_out(user("hi"), assistant(said), user("more")) == expected


def test_reasoning_stays_where_it_is_no_earlier_turn() -> None:
    thought = "<reasoning>hm</reasoning> x"
    assert laid_out(user(thought), assistant(thought)) == f"human: {thought} <sep> assistant: {thought}"


def test_much_unclosed_reasoning_takes_no_time() -> None:
    assert laid_out(user("hi"), assistant("<reasoning>" * 50_000), user("b")).count("<reasoning>") == 0


def test_what_flash_has_not_is_refused_by_name() -> None:
    with pytest.raises(MediaError, match="image: flash accepts text only"):
        pieces([user(image())], FLASH)
    with pytest.raises(UnsupportedError, match="tools: flash does not support tool calls"):
        pieces([user("hi")], FLASH, tools=[Tool("f", None, None)])
    with pytest.raises(UnsupportedError, match="tools: flash does not support tool calls"):
        pieces([user("hi"), assistant(calls=(Call("f", {}),)), user("b")], FLASH)
    with pytest.raises(UnsupportedError, match="tools: flash does not support tool calls"):
        pieces([user("hi"), Turn("tool_output", results=("4",))], FLASH)
    with pytest.raises(ParameterError, match="only as the first message"):
        pieces([user("hi"), system("late"), user("b")], FLASH)
    with pytest.raises(ParameterError, match="text only in a system message"):
        pieces([system(image()), user("b")], FLASH)
