"""Texts that grow, cut into sentences: the same ones in whatever pieces they come, each as soon as it is complete."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.speech.sentences import sentences

ANSWER = """# Results

Dr. Smith paid $3.14, e.g. for a bun. "Really?" he asked. See https://a.b/c.d?x=1. Then...

1. First, open it.
2. Then close it!

```python
x = 1. y
```
<ref>cat</ref><bbox>10,20,30.5,40</bbox> and `a. b`. | no table
| Name | Age |
|------|-----|
| Ann | 5 |

> A quote that
> goes on. 你好。今天天气很好！“好的。”他说。
$$
x. y
$$
The end"""
SPOKEN = [
    "Results",
    "Dr. Smith paid $3.14, e.g. for a bun.",
    '"Really?" he asked.',
    "See https://a.b/c.d?x=1.",
    "Then...",
    "1. First, open it.",
    "2. Then close it!",
    "cat and `a. b`.",
    "| no table",
    "Name, Age",
    "Ann, 5",
    "A quote that goes on.",
    "你好。",
    "今天天气很好！",
    "“好的。”",
    "他说。",
    "The end",
]
WORDS = st.lists(
    st.sampled_from(
        ["Hello", "world.", "Dr.", "No.", "5", "3.14", "e.g.", "Yes!", "why?", "...", "\n", "\n\n", "- item", "`a. b`",
         "```", "你好。", "！", '"Go."', "**bold.**", "| a | b |\n", "# Head", "<b>", "<box>1,2,3,4</box>", "<", "$$",
         "https://a.b/c.", "x" * 130 + ",", "J.", "K.", "\r\n", "1. ", "> q", "(see", "this.)", "“Ja。”",
         "<think>", "\t"]
    ),
    max_size=40,
)  # fmt: skip


def cut(text: str, language: str = "en") -> list[str]:
    return list(sentences([text], language=language))


def test_an_answer_is_cut_into_sentences() -> None:
    assert cut(ANSWER) == SPOKEN


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_pieces_of_any_size_give_the_same_sentences(n: int) -> None:
    assert list(sentences([ANSWER[i : i + n] for i in range(0, len(ANSWER), n)], language="en")) == SPOKEN


@settings(max_examples=400, deadline=None)
@given(words=WORDS, cuts=st.lists(st.integers(0, 2000), max_size=20), spaces=st.booleans())
def test_any_pieces_of_any_text_give_the_same_sentences(words: list[str], cuts: list[int], spaces: bool) -> None:
    text = (" " if spaces else "").join(words)
    ends = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    assert list(sentences(pieces, language="en")) == cut(text)


@settings(max_examples=400, deadline=None)
@given(text=st.text(st.sampled_from("aB1 .,!?\n。”'\"():;é你"), max_size=600))
def test_nothing_of_plain_text_is_lost_or_said_twice(text: str) -> None:
    plain = "\n".join(line for line in text.split("\n"))
    assert "".join("".join(cut(plain)).split()) == "".join(plain.split())


@pytest.mark.parametrize("size", [241, 5000])
def test_a_long_sentence_is_cut_without_losing_anything(size: int) -> None:
    for text in ("word " * size, "a, b " * size, "字" * size, "x" * size):
        parts = cut(text)
        assert "".join("".join(parts).split()) == "".join(text.split())
        assert all(len(part) <= 1000 for part in parts)


def test_a_long_sentence_is_cut_at_commas_sooner_than_at_words() -> None:
    text = f"{'word ' * 20}end, {'word ' * 40}"
    assert cut(text)[0].endswith("end,")


@pytest.mark.parametrize(
    ("text", "first"),
    [("Hello there. ", "Hello there."), ("Is it? ", "Is it?"), ("One line\nN", "One line"), ("Done.\n", "Done.")],
)
def test_a_sentence_is_there_before_the_text_goes_on(text: str, first: str) -> None:
    def growing() -> object:
        yield text
        raise AssertionError("the first sentence was not complete by then")

    assert next(sentences(growing(), language="en")) == first  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. Smith saw Mrs. Jones.", "It is 3.14 and 10.30 now.", "He came at 5 p.m. and left.",
        "See No. 5 and Fig. 3.",
        "J. R. R. Tolkien wrote it.", "The U.S. Army left.", "Well... maybe not.", "Apples, pears, etc. are here.",
        "Ask e.g. Anna, i.e. her.", "Go to www.a.com/x.html?y=1.2 now.", "He said \"Stop!\" and left.",
        "Use `a. B` here.",
        "Mix (see p. 5) well.", "On Jan. 5 it rained.", "Version 1.2.3 is out.",
    ],
)  # fmt: skip
def test_points_within_a_sentence_do_not_end_it(sentence: str) -> None:
    assert cut(f"{sentence} Then it went on.") == [sentence, "Then it went on."]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("He saw art. Then he said no. It was I. We left at 5 p.m. They stayed, etc. But why?", 6),
        ("It was 1984. Then came 5. 6 people left.", 3),
        ("First line\nSecond line\n\nThird", 3),
        ("- one\n- two\n* three\n1) four", 4),
        ("He paid 5! Really?! Yes.", 3),
        ("**Done.** *Next.* (Last.) End", 4),
    ],
)
def test_sentences_end_where_readers_pause(text: str, count: int) -> None:
    assert len(cut(text)) == count


def test_a_line_that_was_wrapped_goes_on() -> None:
    wrapped = "This line was wrapped by an editor at about seventy characters, as\nProse often is, and it\ngoes on."
    assert cut(wrapped) == [wrapped.replace("\n", " ")]


def test_line_ends_of_every_kind_are_one() -> None:
    line = "This line was wrapped by an editor at about seventy characters, as"
    for end in ("\n", "\r\n", "\r", "\u2028"):
        assert list(sentences([line, *end, "prose often is."], language="en")) == [f"{line} prose often is."]


def test_german_ordinals_do_not_end_a_sentence() -> None:
    assert cut("Am 3. Mai kam z. B. Hr. Alt. Es war 1984. Dann", "de-AT") == [
        "Am 3. Mai kam z. B. Hr. Alt.",
        "Es war 1984.",
        "Dann",
    ]


def test_code_is_not_read_even_while_it_is_open() -> None:
    assert cut("Look:\n```python\nprint(1). No\n") == ["Look:"]
    assert cut("~~~~\n```\n~~~\nx. y\n~~~~\nAfter") == ["After"]
    assert cut("a\n```py\nx. y\n```\nb") == ["a", "b"]


def test_inline_code_in_three_backticks_is_read() -> None:
    assert cut("```x = 1``` is code.") == ["```x = 1``` is code."]


@pytest.mark.parametrize("tag", ["think", "reasoning", "thinking"])
def test_reasoning_in_front_is_not_read(tag: str) -> None:
    assert cut(f"\n<{tag}>Hmm. ```\nWhat?</{tag}>\n\nYes. No") == ["Yes.", "No"]
    assert cut(f"<{tag}>Hmm. What?") == []
    assert cut(f"The <{tag}> tag. Yes.") == ["The  tag.".replace("  ", " "), "Yes."]


def test_boxes_are_left_out_and_their_labels_are_read() -> None:
    assert cut("A <ref>big cat</ref><bbox>10,20,30.5,40</bbox>, a dog <box>1, 2, 3, 4</box>.") == ["A big cat, a dog ."]
    assert cut("<bbox>not a box</bbox> here.") == ["not a box here."]


def test_what_is_no_tag_stays() -> None:
    assert cut("a < b and 3 <5 or x<y.") == ["a < b and 3 <5 or x<y."]
    assert cut("It is 5 <") == ["It is 5 <"]
    assert cut("<details open><summary>More</summary>Text<p class='a'>Here</p><hr>There</details>") == [
        "More", "Text", "Here", "There",
    ]  # fmt: skip
    assert cut("`<b>` is a tag, <b>this</b> is bold<br>Next") == ["`<b>` is a tag, this is bold", "Next"]


def test_control_characters_are_no_text_and_end_nothing() -> None:
    assert cut("One\0two\x1b three\ufeff.\x0c Four\u200b.") == ["One two  three.".replace("  ", " "), "Four."]


def test_rules_and_underlines_are_not_read() -> None:
    assert cut("Title\n=====\nText\n---\n* * *\nMore\n***") == ["Title", "Text", "More"]
