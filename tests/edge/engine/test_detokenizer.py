"""What leaves the decoder: whole characters, no half stop strings, white space as the prompt format has it."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engine.detokenizer import TextDecoder


class Pieces:
    """A tokenizer whose token i is the i-th of the given byte strings."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.pieces[i] for i in ids)


def run(
    pieces: Sequence[bytes | str],
    stop: Sequence[str] = (),
    turn_ends: Sequence[str] = (),
    *,
    fresh: bool = True,
    end_of_turn: bool = True,
) -> list[str]:
    """Everything that was shown, step by step, the finished text last; stops pushing when a stop string was found."""
    data = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    decoder = TextDecoder(Pieces(data), stop=stop, turn_ends=turn_ends, fresh=fresh)
    shown = []
    for i in range(len(data)):
        shown.append(decoder.push(i))
        if decoder.stopped:
            break
    return [*shown, decoder.finish(end_of_turn=end_of_turn)]


def test_half_character_is_held_back() -> None:
    first, second, third = "é漢".encode()[:1], "é漢".encode()[1:3], "é漢".encode()[3:]
    assert run([b"a" + first, second, third]) == ["a", "aé", "aé漢", "aé漢"]


def test_half_character_at_the_end_becomes_a_replacement_mark() -> None:
    assert run([b"ab\xe6\xbc"]) == ["ab", "ab\ufffd"]


def test_byte_that_cannot_be_a_character_is_replaced_at_once() -> None:
    assert run([b"a\xff", b"b"]) == ["a\ufffd", "a\ufffdb", "a\ufffdb"]


def test_stop_string_split_across_tokens() -> None:
    assert run(["one S", "TO", "P two"], ["STOP"]) == ["one", "one", "one ", "one "]


def test_half_stop_string_that_leads_nowhere_is_released() -> None:
    assert run(["a ST", "AR"], ["STOP"]) == ["a", "a STAR", "a STAR"]
    assert run(["a ST"], ["STOP"], end_of_turn=False)[-1] == "a ST"


def test_half_stop_string_at_the_end_of_turn_is_text() -> None:
    assert run(["a ST"], ["STOP"])[-1] == "a ST"


def test_first_of_several_stop_strings_counts() -> None:
    assert run(["abcdef"], ["ef", "cd", "zz"])[-1] == "ab"
    assert run(["ab", "c", "d"], ["abcX", "bcd"])[-1] == "a"


def test_stop_string_that_overlaps_itself() -> None:
    assert run(["a", "a", "b", "a", "a", "b", "c"], ["aabc"])[-1] == "aab"
    assert run(["x", "ababab", "ac"], ["ababac"])[-1] == "xab"


def test_stop_string_of_half_a_character_border() -> None:
    data = "né!".encode()
    assert run([data[:2], data[2:]], ["é"])[-1] == "n"


def test_nothing_comes_after_a_stop_string() -> None:
    decoder = TextDecoder(Pieces([b"a.b", b"c"]), stop=["."], turn_ends=(), fresh=True)
    assert decoder.push(0) == "a" and decoder.stopped
    assert decoder.push(1) == "a" and decoder.finish(end_of_turn=False) == "a"


@pytest.mark.parametrize(
    ("text", "found"), [("a STOP", "STOP"), ("a <sep>", None), ("a ST", None), ("END STOP", "END")]
)
def test_the_stop_string_that_ended_an_answer_is_told(text: str, found: str | None) -> None:
    decoder = TextDecoder(Pieces([text.encode()]), stop=["STOP", "END"], turn_ends=["<sep>", "STOP"], fresh=True)
    decoder.push(0)
    decoder.finish(end_of_turn=False)
    assert decoder.found == found


def test_leading_white_space_is_stripped_once_for_a_fresh_turn() -> None:
    assert run([" ", "\n", " a", " b"]) == ["", "", "a", "a b", "a b"]


def test_leading_white_space_of_a_completion_stays() -> None:
    assert run([" a"], fresh=False) == [" a", " a"]


def test_white_space_before_the_end_of_turn_is_dropped() -> None:
    assert run(["a.\n", "\n"]) == ["a.", "a.", "a."]
    assert run(["a.\n\n"], fresh=False)[-1] == "a."


def test_white_space_inside_is_held_until_something_follows() -> None:
    assert run(["a", " ", "\n\n", "b"]) == ["a", "a", "a", "a \n\nb", "a \n\nb"]


def test_white_space_stays_where_the_answer_was_cut() -> None:
    assert run(["a", " \n"], end_of_turn=False)[-1] == "a \n"


def test_white_space_before_a_stop_string_stays_and_before_a_turn_end_goes() -> None:
    assert run(["a \n#"], ["#"])[-1] == "a \n"
    assert run(["a ", "<s", "ep> b"], [], ["<sep>"]) == ["a", "a", "a", "a"]


def test_answer_of_white_space_alone_is_empty() -> None:
    assert run([" ", "\n"])[-1] == ""
    assert run([" ", "\n"], end_of_turn=False)[-1] == ""


@settings(max_examples=400, deadline=None)
@given(
    st.text("ab \n.é漢🙂", max_size=30),
    st.lists(st.integers(1, 4), min_size=1, max_size=8),
    st.lists(st.text("ab .é漢", min_size=1, max_size=4), max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_token_borders_do_not_matter(
    text: str, lengths: list[int], stop: list[str], fresh: bool, end_of_turn: bool
) -> None:
    data, pieces, place = text.encode(), [], 0
    while place < len(data):
        length = lengths[len(pieces) % len(lengths)]
        pieces.append(data[place : place + length])
        place += length
    shown = run(pieces, stop, fresh=fresh, end_of_turn=end_of_turn)
    assert shown[-1] == oracle(pieces, stop, fresh=fresh, end_of_turn=end_of_turn)
    for earlier, later in zip(shown, shown[1:], strict=False):
        assert later.startswith(earlier)
    assert all("\ufffd" not in part and part == part.rstrip() for part in shown[:-2])


def oracle(pieces: Sequence[bytes], stop: Sequence[str], *, fresh: bool, end_of_turn: bool) -> str:
    """The same by decoding everything from the beginning after each token."""
    text = ""
    for n in range(1, len(pieces) + 1):
        text = b"".join(pieces[:n]).decode(errors="ignore")
        text = text.lstrip() if fresh else text
        places = [text.find(s) for s in stop if s in text]
        if places:
            return text[: min(places)]
    return text.rstrip() if end_of_turn else text


@pytest.mark.parametrize("n", [1, 50])
def test_long_stop_strings_and_long_answers_stay_fast(n: int) -> None:
    stop = [chr(97 + i) * 255 + "!" for i in range(16)]
    assert run(["a" * n] * 400, stop)[-1] == "a" * n * 400
