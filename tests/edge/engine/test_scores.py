"""Scores of tokens, cut to what is shown: they join to the text exactly, whole and streamed, however it is cut."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.chat.tool_calls import CLOSE, OPEN, said
from edge.engine.detokenizer import TextDecoder
from edge.engine.handle import TokenScore
from edge.engine.scores import ShownToken, ShownTokens
from tests.edge.engine.test_detokenizer import Pieces

NAMES = frozenset({"add"})
CALL = f'{OPEN}\n{{"name": "add", "arguments": {{}}}}\n{CLOSE}'


def scores(pieces: Sequence[bytes]) -> list[TokenScore]:
    return [TokenScore(piece, -float(i), ()) for i, piece in enumerate(pieces)]


def answered(
    pieces: Sequence[bytes], *, stop: Sequence[str] = (), fresh: bool = True, names: frozenset[str] = frozenset()
) -> tuple[str, list[ShownToken], list[str]]:
    """Return the content of an answer, its tokens, and the text that each step of a stream adds, checked on the way."""
    decoder = TextDecoder(Pieces(list(pieces)), stop=stop, turn_ends=(), fresh=fresh)
    streamed, steps = ShownTokens(), []
    given_out: list[ShownToken] = []
    taken = 0
    for i in range(len(pieces)):
        text = decoder.push(i)
        taken = i + 1
        if decoder.stopped:
            break
        shown = said(text, names=names, finish_reason=None)
        streamed.take(scores(pieces[:taken]))
        new = streamed.give(text, shown.spans, whole=False)
        given_out += new
        steps.append("".join(token.text for token in new))
        assert shown.content.startswith("".join(steps))
    text = decoder.finish(end_of_turn=True)
    last = said(text, names=names, finish_reason="stop")
    streamed.take(scores(pieces[:taken]))
    given_out += streamed.give(text, last.spans, whole=True)
    whole = ShownTokens()
    whole.take(scores(pieces[:taken]))
    tokens = whole.give(text, last.spans, whole=True)
    if not last.calls:
        assert given_out == tokens
    return last.content, tokens, steps


def joined(tokens: Sequence[ShownToken]) -> str:
    text = "".join(token.text for token in tokens)
    assert b"".join(token.data for token in tokens).decode("utf-8", "replace") == text
    return text


@given(
    pieces=st.lists(
        st.sampled_from([" ", "\n\n", "a", ".\n\n", " b", "é漢", "STOP", "ST", "OP"]).map(str.encode)
        | st.binary(max_size=4)
        | st.sampled_from([b"\xe6", b"\xbc", b"\xa2", b"\xe6\xbc", b"\xa2 x", b"a\xe6", b""]),
        max_size=12,
    ),
    fresh=st.booleans(),
    stop=st.sampled_from([(), ("STOP",), ("\n",), ("漢",)]),
)
@settings(max_examples=500, deadline=None)
def test_tokens_join_to_the_content(pieces: list[bytes], fresh: bool, stop: tuple[str, ...]) -> None:
    content, tokens, _ = answered(pieces, fresh=fresh, stop=stop)
    assert joined(tokens) == content


@given(st.lists(st.sampled_from([" ", "x", "\n", OPEN, CLOSE, CALL, "<tool", "{", "y z", " end "]), max_size=8))
@settings(max_examples=300, deadline=None)
def test_tokens_join_to_the_content_beside_calls(texts: list[str]) -> None:
    content, tokens, _ = answered([text.encode() for text in texts], names=NAMES)
    assert joined(tokens) == content


def test_a_token_is_cut_to_what_is_shown_of_it() -> None:
    content, tokens, _ = answered([b" Yes", b".\n\n"])
    assert (content, [token.text for token in tokens]) == ("Yes.", ["Yes", "."])
    assert [token.data for token in tokens] == [b"Yes", b"."]
    _, tokens, _ = answered([b"one S", b"TOP two"], stop=["STOP"])
    assert [token.text for token in tokens] == ["one "]


def test_a_character_of_two_tokens_is_the_last_ones_and_each_has_its_bytes() -> None:
    _, tokens, steps = answered([b"a\xe6", b"\xbc\xa2"])
    assert [(token.text, token.data) for token in tokens] == [("a", b"a\xe6"), ("漢", b"\xbc\xa2")]
    assert steps == ["", "a漢"]  # by whole tokens


def test_tokens_without_text_are_left_out() -> None:
    _, tokens, _ = answered([b" ", b"a", b"", b"b", b"\n"])
    assert [token.score.log_probability for token in tokens] == [-1.0, -3.0]


@pytest.mark.parametrize("tail", [b"", b" "])
def test_calls_have_no_text_and_so_no_tokens(tail: bytes) -> None:
    content, tokens, _ = answered([b"Let me ", b"see. ", CALL.encode() + tail], names=NAMES)
    assert (content, tokens) == ("", [])
