"""Forms with a file: read as clients write them, counted before anything is parsed, refused by name."""

import logging
import random

import httpx
import pytest

from edge.limits import Limits
from edge.server import multipart
from edge.server.multipart import Form, read_form
from edge.types import ApiError

TYPE = "multipart/form-data; boundary=B0undary"


def read(data: bytes | bytearray, kind: str = TYPE, **limits: int) -> Form:
    return read_form(data, kind, files=("file",), limits=Limits(**limits))  # type: ignore[arg-type]


def part(name: str, data: bytes = b"x", *headers: str) -> bytes:
    lines = (f'Content-Disposition: form-data; name="{name}"', *headers)
    return "\r\n".join(["--B0undary", *lines, "", ""]).encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B0undary--\r\n"


def refusal(data: bytes, kind: str = TYPE, **limits: int) -> tuple[int | None, str]:
    with pytest.raises(ApiError) as caught:
        read(data, kind, **limits)
    return caught.value.status_code, str(caught.value.body["detail"])


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 64, 1 << 18])
def test_what_a_client_writes_is_read(chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "_CHUNK_BYTES", chunk_bytes)
    luck = random.Random(0)
    for _ in range(20):
        # What looks like the beginning of a boundary, at any place.
        data = b"".join(luck.choice((b"\r\n--", b"\r", b"\n", b"-", b"\r\n--B0", luck.randbytes(5))) for _ in range(30))
        fields = {"model": "a", "prompt": "Größe \r\n-- \U0001f600", "include[]": ["b", "", "c"]}
        request = httpx.Request(
            "POST", "http://a", data=fields, files={"file": ('a"ä.wav', data)}, headers={"content-type": TYPE}
        )
        found = read(request.read(), request.headers["content-type"])
        assert found.files == {"file": data}
        assert found.texts == {"model": ("a",), "prompt": (fields["prompt"],), "include[]": ("b", "", "c")}


def test_a_body_is_emptied_once_it_is_read() -> None:
    body = bytearray(form(part("file", b"RIFF")))
    assert read(body).files == {"file": b"RIFF"} and not body


@pytest.mark.parametrize("name", ["file", "model"])
def test_an_empty_part_is_there(name: str) -> None:
    found = read(form(part(name, b"")))
    assert (found.files, found.texts) == (({"file": b""}, {}) if name == "file" else ({}, {"model": ("",)}))


def test_parts_are_counted_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(read(form(*[part("a")] * 32)).texts["a"]) == 32
    assert "expected at most 32 parts in the form" in refusal(form(*[part("a")] * 33))[1]
    monkeypatch.setattr(multipart, "_parsed", None)
    for data in (form(*[part("a")] * 34), form(part("file", b"\r\n--B0undaryX" * 40))):
        status, said = refusal(data)
        assert status == 400 and "expected at most 32 parts in the form" in said


LIMITS: list[tuple[str, bytes, bytes, str]] = [
    ("form_field_bytes", part("a", bytes(20)), part("a", bytes(21)), "a: expected at most 20 bytes of text, got 21"),
    ("form_headers", part("a", b"", *["X-A: b"] * 19), part("a", b"", *["X-A: b"] * 20), "at most 20 headers"),
    ("body_bytes", b"", bytes(99), "body: expected at most 20 bytes, got"),
]


@pytest.mark.parametrize(("name", "just", "over", "words"), LIMITS)
def test_limits_hold_at_their_value(name: str, just: bytes, over: bytes, words: str) -> None:
    if just:
        read(form(just), **{name: 20})
    status, said = refusal(form(over), **{name: 20})
    assert status == (413 if name == "body_bytes" else 400) and words in said


def test_a_header_has_so_many_bytes() -> None:
    line = len(b'Content-Disposition: form-data; name="a"')
    assert read(form(part("a", b"")), form_header_bytes=line).texts
    assert "headers of" in refusal(form(part("a", b"")), form_header_bytes=line - 1)[1]


def test_a_file_may_be_as_large_as_the_body() -> None:
    data = bytes(3 << 20)
    assert read(form(part("file", data)), form_field_bytes=4).files["file"] == data


WRONG: list[tuple[bytes, str, str]] = [
    (b"", TYPE, "it is cut off"),
    (part("a"), TYPE, "it is cut off"),
    (form(part("a"))[:-6], TYPE, "it is cut off"),
    (b"{}", TYPE, "it is damaged"),
    (b"--B0undaryX", TYPE, "it is damaged"),
    (form(b"--B0undary\r\nX\x00: a\r\n\r\nb\r\n"), TYPE, "it is damaged"),
    (form(b"--B0undary\r\nContent-Disposition: form-data\r\n\r\nb\r\n"), TYPE, "with a name in each part"),
    (form(b"--B0undary\r\nContent-Disposition: attachment; name=a\r\n\r\nb\r\n"), TYPE, "with a name in each part"),
    (form(b"--B0undary\r\n\r\nb\r\n"), TYPE, "with a name in each part"),
    (form(part("a", b"\xff")), TYPE, "a: expected UTF-8, got something else at byte 0"),
    (form(part("file"), part("file")), TYPE, "file: expected one file, got two"),
    (
        form(part("file", b"x", "Content-Transfer-Encoding: base64")),
        TYPE,
        "'base64' is not supported",
    ),
    (form(part("a")), "multipart/form-data", "a boundary of 1 to 70 bytes, got none"),
    (form(part("a")), 'multipart/form-data; boundary=""', "a boundary of 1 to 70 bytes, got none"),
    (form(part("a")), f"multipart/form-data; boundary={'a' * 71}", "got 71 bytes"),
]


@pytest.mark.parametrize(("data", "kind", "words"), WRONG)
def test_what_is_no_form_is_refused(data: bytes, kind: str, words: str) -> None:
    status, said = refusal(data, kind)
    assert status == 400 and words in said


def test_nothing_of_a_body_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        refusal(b"--B0undary\r\n\x01secret: a\r\n\r\n")
        read(form(part("a")) + b"secret epilogue")
    assert not caplog.records and capfd.readouterr() == ("", "")
