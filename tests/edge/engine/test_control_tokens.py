"""Control tokens that a model samples amid an answer are never text: their names stay out of content and scores."""

import numpy as np
import pytest

from edge.engine.answer import Answer, Ends, Options
from edge.engine.handle import Handle, Progress
from tests.edge.engine.test_detokenizer import Pieces

PIECES = [b"<sep>", b"<image>", b"<tool_call>", b"</tool_call>", b"<|special_token_7|>", b"Hi", b" you", b""]
SEP, IMAGE, CALL, END_CALL, FILLER, HI, YOU, UNUSED = range(8)
CONTROL = frozenset({SEP, IMAGE, CALL, END_CALL, FILLER})
ENDS = Ends(frozenset({SEP}), (), control=CONTROL, call_tags=frozenset({CALL, END_CALL}))


def answer(*tokens: int, calls: bool = False, top_logprobs: int | None = None) -> Progress:
    """Return the answer of a model that chooses these tokens."""
    handle = Handle(Progress("", 1, 0, None), lambda _: None)
    options = Options(len(tokens), 0.0, 1.0, 8, 0.0, 0.0, 0, (), fresh=True, top_logprobs=top_logprobs, calls=calls)
    taking = Answer(handle, options, ENDS, Pieces(PIECES), 1)
    for token in tokens:
        logits = np.zeros(len(PIECES), np.float32)
        logits[token] = 9
        taking.take(logits, n_free=9)
    return handle.newest


@pytest.mark.parametrize("token", [IMAGE, CALL, END_CALL, FILLER, UNUSED])
@pytest.mark.parametrize("calls", [False, True])
def test_a_control_token_amid_an_answer_is_no_text(token: int, calls: bool) -> None:
    progress = answer(HI, token, YOU, SEP, calls=calls)
    is_tag = calls and token in (CALL, END_CALL)  # which whoever reads calls takes out
    assert progress.text == (f"Hi{PIECES[token].decode()} you" if is_tag else "Hi you")
    assert (progress.finish_reason, progress.output_tokens) == ("stop", 4)


def test_an_answer_of_control_tokens_is_empty() -> None:
    assert answer(IMAGE, FILLER, FILLER).text == ""


def test_control_tokens_have_no_bytes_among_the_scores_and_names_among_the_candidates() -> None:
    scores = answer(HI, FILLER, SEP, top_logprobs=1).scores
    assert [score.data for score in scores] == [b"Hi", b"", b""]
    assert [score.controls for score in scores] == [(False,), (True,), (True,)]
    assert scores[1].most_likely[0][0] == PIECES[FILLER]
