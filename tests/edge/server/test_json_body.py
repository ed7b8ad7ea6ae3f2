"""A body's JSON is read as json reads it, within depth and size, wherever the borders of its chunks fall."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.limits import Limits
from edge.server import json_body
from edge.server.json_body import read_json
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
        patch.setattr(json_body, "_CHUNK_BYTES", chunk_bytes)
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


# --- outlines -----------------------------------------------------------------------------------------------------

LONG = "data:image/png;base64," + "QUJD" * 40_000


def read_both(data: bytes) -> tuple[object, object]:
    """What a body holds, or what is wrong with it: read at once, and by its outline first."""
    found: list[object] = []
    for by_outline in (False, True):
        try:
            if by_outline:
                outline, whole = json_body.read_outline(bytearray(data))
                found.append(outline if whole is None else whole())
            else:
                found.append(read_json(data))
        except ApiError as error:
            found.append((error.status_code, error.body))
    return found[0], found[1]


@pytest.mark.parametrize(
    "text",
    ['{"a": "LONG", "b": ["LONG", "x", {"c": "LONG"}]}', '{"input_audio": {"data" : "QUJDLONG"}}', '{"a": "é LONG é"}',
     '{"a": "LONGé\\u00e9"}', '{"a": "\\\\"LONG\\\\""}', '{"a": "LONG", "b": 1,}', '{"a": "LONG" "b": "LONG"}',
     '{"images": ["QUJDLONG"]}', '{"images" : [ "QUJDLONG" , "x", "QUJDLONG"], "b": "LONG"}', '{"images": ["x", "QLONG',
     '{"LONG": 1, "LONG": 2}', '{"a": "LONG", "b": NaN}', '{"a": "LONG', '["LONG"]', '{"a": "LONG", "b": "\\ud800"}'],
)  # fmt: skip
def test_an_outline_leads_to_what_is_read_at_once(text: str) -> None:
    one, other = read_both(text.replace("LONG", LONG).encode())
    assert one == other


@given(value=st.dictionaries(TEXTS, VALUES, max_size=4), at=st.integers(0, 1 << 18), byte=st.binary(max_size=2))
@settings(max_examples=60, deadline=None)
def test_damage_shows_in_an_outline_as_it_does_at_once(value: dict, at: int, byte: bytes) -> None:
    data = json.dumps({"image_url": LONG, "rest": value, "again": LONG}).encode()
    at %= len(data)
    one, other = read_both(data[:at] + byte + data[at + 1 :])
    assert one == other


def test_an_outline_has_the_beginning_of_media_and_is_short() -> None:
    outline, whole = json_body.read_outline(json.dumps({"url": LONG, "text": "a" * 200_000}).encode())
    assert whole is not None
    assert str(outline["url"]).startswith(LONG[:1000])
    assert len(str(outline["url"])) < 1200
    assert outline["text"] == "a" * 200_000


def test_an_outline_has_the_beginning_of_listed_images() -> None:
    image = "QUJD" * 40_000
    for between in (", ", ",", " ,\n "):
        listed = between.join((f'"{image}"', '"x"', f'"{image}"'))
        data = f'{{"a": ["x", "{image}"], "images": [{listed}], "b": "{image}"}}'.encode()
        outline, whole = json_body.read_outline(data)
        first, short, last = outline["images"]  # type: ignore[misc]
        assert image.startswith(first[:1000]) and len(first) == len(last) < 1200 and short == "x"
        assert outline["a"] == ["x", image] and outline["b"] == image  # what is not in the list is left as it is
        assert whole is not None and whole() == json.loads(data)


def test_a_body_that_is_refused_costs_little_beyond_itself() -> None:
    url = "data:image/png;base64," + "QUJD" * (2 << 20)
    for data in (json.dumps({"url": url})[:-1].encode(), json.dumps({"url": url, "x": float("nan")}).encode()):
        tracemalloc.start()
        with pytest.raises(ApiError):
            json_body.read_outline(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 << 20


def test_what_is_read_of_a_bytearray_empties_it() -> None:
    data = bytearray(json.dumps({"url": LONG}).encode())
    outline, whole = json_body.read_outline(data)
    assert data
    assert whole is not None
    assert whole() == {"url": LONG}
    assert not data
    assert len(outline) == 1
