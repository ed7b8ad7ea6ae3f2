"""What is piped into `edge chat` is read up to a limit, and no further."""

import io
import sys

import pytest

from edge.commands import console
from edge.media import fetch


class Endless(io.RawIOBase):
    """A stream without an end that counts what was read of it."""

    n_read = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size > 0, "expected a limit"
        self.n_read += size
        return bytes(size)


def test_more_than_the_limit_is_refused_and_not_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = Endless()
    monkeypatch.setattr(fetch, "MAX_BYTES", 1000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(endless))  # type: ignore[type-var]
    with pytest.raises(SystemExit):
        console.piped("What is it?")
    assert "standard input: expected at most 1000 bytes, got more" in capsys.readouterr().err
    assert endless.n_read == 1001


@pytest.mark.parametrize("n_chars", [999, 1000])
def test_the_limit_itself_is_taken(monkeypatch: pytest.MonkeyPatch, n_chars: int) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 1000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a" * n_chars)))
    assert console.piped(None) == ("a" * n_chars, [])
