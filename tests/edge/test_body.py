"""A body's JSON is read as json reads it, within depth and size, wherever the borders of its chunks fall."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import body
from edge.body import read_json
from edge.limits import Limits
from edge.types import ApiError

TEXTS = st.text(alphabet='a"\\[]{},:é\n', max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def status(data: bytes, **changed: int) -> int:
    try:
        read_json(data, Limits(**changed))
    except ApiError as error:
        return int(error.status_code or 0)
    return 200


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 1 << 20])
@given(value=st.dictionaries(TEXTS, VALUES, max_size=4), ascii_only=st.booleans())
@settings(max_examples=60, deadline=None)
def test_it_is_what_json_reads_and_its_depth_is_counted(chunk_bytes: int, value: dict, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body, "_CHUNK_BYTES", chunk_bytes)
        assert read_json(data, Limits(json_depth=depth(value))) == value
        assert status(data, json_depth=depth(value) - 1) == 400


@given(data=st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    assert status(data) in (200, 400)


@pytest.mark.parametrize(("n", "expected"), [(99_999, 200), (100_000, 200), (100_001, 400)])
def test_the_number_of_values(n: int, expected: int) -> None:
    # The object counts as one value, its list and each comma as one more.
    assert status(b'{"a":[' + b",".join([b"1"] * (n - 2)) + b"]}") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [(b"[" * 63, "at most 64 levels of JSON, got 65 or more"), (b"{}," * 49_999, "100000 JSON values, got 100001")],
    ids=["deep", "many"],
)
def test_more_than_is_taken_is_refused_with_both_numbers(text: bytes, words: str) -> None:
    with pytest.raises(ApiError, match=words):
        read_json(b'{"a":[' + text + b"0")


@pytest.mark.parametrize("text", [b"[", b"{},", b'"",', b"1,"])
def test_refusing_a_large_body_costs_little_beside_it(text: bytes) -> None:
    data = (b'{"a":[' + text * (Limits().body_bytes // len(text)))[: Limits().body_bytes]
    tracemalloc.start()
    assert status(data) == 400
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 16 << 20


def test_bytes_at_the_limit() -> None:
    texts = [b'{"a": "' + b"a" * (n - 9) + b'"}' for n in (99, 100, 101)]
    assert [status(text, body_bytes=100) for text in texts] == [200, 200, 413]


def test_half_a_surrogate_pair_is_named_where_it_stands() -> None:
    with pytest.raises(ApiError) as caught:
        read_json(b'{"messages": [{"content": "a\\ud83d"}]}')
    assert "messages.0.content" in str(caught.value.body)
    assert read_json(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
