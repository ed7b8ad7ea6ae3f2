"""data: URLs, decoded as browsers decode them: line breaks, spaces, escapes, and base64 with or without padding.

Source: the URL and Infra standards of WHATWG (forgiving base64); the alphabet of RFC 4648, 5 as well.
"""

import binascii
import io
import re

from edge.errors import MediaError, shown

_HEAD = re.compile(r"data:[^,]*;[ ]*base64[ \t\r\n]*\Z", re.IGNORECASE)
_SCHEME = re.compile(r"[\0- ]*data:", re.IGNORECASE)
_MAX_HEAD_CHARS = 256
_CHUNK_CHARS = 1 << 20
_SPACE = b"\t\n\f\r "
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_STRANGE = re.compile(rb"[^A-Za-z0-9+/=]")


def is_data_url(url: str) -> bool:
    """Return whether a URL is a data: URL."""
    return _SCHEME.match(url) is not None


def of_base64(data: str, media_type: str) -> str:
    """Return base64 as a data: URL of a type; as it is where it is one already."""
    return data if is_data_url(data) else f"data:{media_type};base64,{data}"


def first_bytes(url: str, n_chars: int) -> bytes:
    """Return what the first characters of a data: URL's data stand for; nothing where it is none."""
    head, _, data = url[: _MAX_HEAD_CHARS + n_chars].partition(",")
    if not is_data_url(head):
        return b""
    try:
        whole, _ = _whole_escapes(data[:n_chars].encode("ascii"))
        letters = _unescaped(whole).translate(_URL_SAFE, _SPACE).partition(b"=")[0]
        return binascii.a2b_base64(letters[: len(letters) // 4 * 4])
    except ValueError:
        return b""


def read_data_url(url: str, *, max_bytes: int) -> bytes:
    """Decode data:<type>;base64,<data>: nothing is decoded before its length is known to be allowed.

    Raises: MediaError, which shows the beginning of the URL.
    """
    name = shown(url[:64])
    comma = url.find(",", 0, _MAX_HEAD_CHARS)
    if comma < 0 or not _HEAD.match(url[:comma].lstrip()):
        raise MediaError(f"{name}: expected data:<type>;base64,<data>")
    fragment = url.find("#", comma)
    start, end = comma + 1, len(url) if fragment < 0 else fragment
    _check_length(url, start, end, max_bytes, name)
    try:
        return _Base64(max_bytes).decode(url, start, end)
    except (ValueError, UnicodeError) as error:  # not ASCII, or an escape that is none
        raise MediaError(f"{name}: not base64") from error
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from error


def _check_length(url: str, start: int, end: int, max_bytes: int, name: str) -> None:
    """Refuse what is too long by its characters alone; escapes are counted when they are decoded."""
    if url.find("%", start, end) >= 0:
        return
    n_chars = end - start - sum(url.count(chr(space), start, end) for space in _SPACE)
    n_bytes = (n_chars - url.count("=", max(start, end - 4), end)) * 3 // 4
    if n_bytes > max_bytes:
        raise MediaError(f"{name}: expected at most {max_bytes} bytes, got {n_bytes}")


class _Base64:
    """Decodes base64 piece by piece, so that no copy of it is ever whole."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._decoded = io.BytesIO()
        self._letters = b""  # fewer than four: they wait for the next piece
        self._padding = b""

    def decode(self, url: str, start: int, end: int) -> bytes:
        """Decode what is between two places of a URL. Raises: MediaError, ValueError."""
        cut = b""
        for at in range(start, end, _CHUNK_CHARS):
            piece = cut + url[at : min(at + _CHUNK_CHARS, end)].encode("ascii")
            piece, cut = _whole_escapes(piece) if at + _CHUNK_CHARS < end else (piece, b"")
            self._add(_unescaped(piece).translate(_URL_SAFE, _SPACE))
        self._finish()
        return self._decoded.getvalue()

    def _add(self, piece: bytes) -> None:
        letters, mark, rest = piece.partition(b"=")
        self._padding += mark + rest
        if (self._padding and self._padding not in (b"=", b"==")) or (letters and self._padding and not (mark or rest)):
            raise MediaError("expected base64 padding only at the end, at most two characters")
        letters = self._letters + letters
        whole = len(letters) // 4 * 4
        self._letters = letters[whole:]
        self._write(letters[:whole])

    def _finish(self) -> None:
        n_left = len(self._letters)
        if not n_left and not self._decoded.tell():
            raise MediaError("expected base64 data, got none")
        if n_left == 1 or (self._padding and (n_left + len(self._padding)) != 4):
            raise MediaError("expected base64 in groups of four characters, at most two of them padding")
        self._write(self._letters + b"=" * (-n_left % 4))

    def _write(self, letters: bytes) -> None:
        try:
            self._decoded.write(binascii.a2b_base64(letters, strict_mode=True))
        except ValueError as error:
            strange = _STRANGE.search(letters)
            found = "something else" if strange is None else shown(strange[0].decode("latin-1"))
            raise MediaError(f"expected base64, got {found} in it") from error
        if self._decoded.tell() > self._max_bytes:
            n_bytes = self._decoded.tell()
            raise MediaError(f"expected at most {self._max_bytes} bytes, got {n_bytes} or more")


def _whole_escapes(piece: bytes) -> tuple[bytes, bytes]:
    """Return a piece without the %-escape that its end cuts, and that one."""
    escape = piece.rfind(b"%", max(0, len(piece) - 2))
    return (piece, b"") if escape < 0 else (piece[:escape], piece[escape:])


def _unescaped(piece: bytes) -> bytes:
    """Decode %-escapes. Raises: ValueError for one that is cut off or not of two hexadecimal digits."""
    if b"%" not in piece:
        return piece
    if b"\\" in piece:
        raise ValueError("a backslash")
    return piece.replace(b"%", b"\\x").decode("unicode_escape").encode("latin-1")
