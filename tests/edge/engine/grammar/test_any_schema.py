"""Random schemas of every keyword, answered by a model that chooses at random: an instance, or a refusal before it."""

import json
import random

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from edge.engine.grammar.constraint import Grammars
from edge.engine.grammar.format import Format, call_format, schema_format
from edge.errors import SchemaError
from tests.edge.engine.grammar.any_schema import VALIDATES, any_schema

N_VOCABULARY = 700


class Vocabulary:
    """A tokenizer without merges: every byte, words as JSON has them, and what begins and ends a call."""

    missing = b""  # no byte is without a token

    def __init__(self) -> None:
        rng = random.Random(7)
        words = [
            '", "',
            '": ',
            '{"',
            '"}',
            "]}",
            "}}",
            ", ",
            "[]",
            "{}",
            "true",
            "null",
            "false",
            "00",
            "99",
            "0.",
            "-",
            "e1",
        ]
        words += ["".join(rng.choice("abcdefgxyz0123456789 -_.") for _ in range(rng.randint(2, 6))) for _ in range(440)]
        pieces = [bytes((byte,)) for byte in range(256)] + [word.encode() for word in dict.fromkeys(words)]
        self.pieces = pieces[: N_VOCABULARY - 3] + [b"<end>", b"<tool_call>", b"</tool_call>"]
        n = len(self.pieces)
        self.control = {"<end>": n - 3, "<tool_call>": n - 2, "</tool_call>": n - 1}

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token]

    def encode(self, text: str) -> list[int]:
        return [*text.encode()]


TOKENIZER = Vocabulary()
END = TOKENIZER.control["<end>"]
GRAMMARS = Grammars(TOKENIZER, vocab_size=len(TOKENIZER.pieces), end_ids=[END])  # type: ignore[arg-type]


def written(form: Format, max_tokens: int, seed: int) -> str:
    """What a model without any taste writes in at most max_tokens. Raises: SchemaError, before the first token."""
    rng = np.random.default_rng(seed)
    constraint = GRAMMARS.constraint(form, most=max_tokens)
    taste = rng.normal(size=len(TOKENIZER.pieces)).astype(np.float32) * rng.choice([0.1, 1, 8])
    taste[END] += rng.choice([-8, 0, 4])
    ids: list[int] = []

    def sample(logits: np.ndarray) -> int:
        return int(np.argmax(logits + rng.gumbel(size=len(logits))))

    for n_left in range(max_tokens, 0, -1):
        token = constraint.choose(taste, sample, n_left=n_left)
        if token == END:
            break
        ids.append(token)
        if constraint.is_done:
            break
    data = b"".join(TOKENIZER.token_bytes(token) for token in ids if token not in TOKENIZER.control.values())
    return data.decode()


def refused(message: str) -> str:
    """Check a refusal; return its kind."""
    assert message.startswith(("f: ", "max_tokens: ")) and "start:" not in message and "coerce" not in message
    return "too few tokens" if "at least" in message else message[:60]


def check(seed: int) -> str:
    """Check one schema, one answer; return how it came out."""
    rng = random.Random(seed)
    schema = any_schema(rng)
    max_tokens = rng.choice((1, 2, 3, 5, 8, 13, 30, 60, 120, 300))
    as_call = rng.random() < 0.2
    try:
        form = (
            call_format({"tool": {"type": "object", **schema}}, field="f")
            if as_call
            else schema_format(schema, field="f")
        )
        text = written(form, max_tokens, seed)
    except SchemaError as error:
        return refused(str(error))
    value = json.loads(text.strip(), parse_float=VALIDATES.number)
    problem = VALIDATES.problem(
        {"type": "object", **schema} if as_call else schema, value["arguments"] if as_call else value
    )
    assert problem is None, (seed, schema, text, problem)
    return "valid"


@hypothesis.settings(max_examples=150, derandomize=True, deadline=None, database=None)
@hypothesis.given(st.integers(0, 2**32))
def test_an_answer_is_an_instance_or_a_refusal_came_before_it(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_answers_are_instances_or_refused() -> None:
    outcomes = [check(seed) for seed in range(4000)]
    assert outcomes.count("valid") > 1000


@pytest.mark.parametrize("divisor", [3, 5, 7, 10, 100, 0.1, 0.01, 0.5])
@pytest.mark.parametrize("bounds", [{}, {"minimum": 1000.5}, {"maximum": -3, "minimum": -5000}])
def test_a_multiple_ends_in_time_for_every_seed(divisor: float, bounds: dict[str, float]) -> None:
    schema = {"type": "number", "multipleOf": divisor, **bounds}
    for seed in range(24):
        value = json.loads(written(schema_format(schema, field="f"), 80, seed), parse_float=VALIDATES.number)
        assert VALIDATES.problem(schema, value) is None
