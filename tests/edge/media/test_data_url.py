"""data: URLs wherever they are read: the v0 route's guess of a kind, and the OpenAI route's bare base64."""

import base64

import pytest

from edge.media.data_url import first_bytes, is_data_url, of_base64
from edge.media.fetch import read_url

HEAD = b"RIFF\0\0\0\0WAVEfmt " + bytes(range(256)) * 40
SPELT = base64.b64encode(HEAD).decode()


@pytest.mark.parametrize(
    "url",
    [
        f"data:application/octet-stream;base64,{SPELT}", f" DATA:;base64,{SPELT}",
        "data:;base64,\n" + base64.encodebytes(HEAD).decode(), "data:;base64," + SPELT.replace("A", "%41"),
        f"data:;base64,{base64.urlsafe_b64encode(HEAD).decode().rstrip('=')}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("n_chars", [63, 64, 65, 66, 1000])
def test_first_bytes_are_those_of_the_data(url: str, n_chars: int) -> None:
    found = first_bytes(url, n_chars)
    assert len(found) >= n_chars // 4
    assert HEAD.startswith(found)


@pytest.mark.parametrize("url", ["", "a.wav", "https://example.com/a.wav", "data:;base64,\u00e9", "data:;base64,%zz"])
def test_what_is_no_data_has_no_first_bytes(url: str) -> None:
    assert first_bytes(url, 64) == b""


def test_bare_base64_becomes_a_data_url_once() -> None:
    for spelt in (SPELT, f"{SPELT[:70]}\r\n{SPELT[70:]}", SPELT.rstrip("=")):
        url = of_base64(spelt, "audio/wav")
        assert is_data_url(url)
        assert of_base64(url, "application/pdf") == url
        assert read_url(url, files=False) == HEAD
