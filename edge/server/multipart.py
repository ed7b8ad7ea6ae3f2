"""A request's body as a form with a file (multipart/form-data): counted before it is read, and copied only once."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.chat.reply import refused
from edge.limits import Limits

MEDIA_TYPE = "multipart/form-data"

_CHUNK_BYTES = 256 << 10
_MAX_BOUNDARY_BYTES = 70  # Source: RFC 2046, 5.1.1
_PLAIN = ("7bit", "8bit", "binary")  # transfer encodings that change nothing
_SILENT = logging.Logger("edge.server.multipart", logging.CRITICAL + 1)  # the parser's own words quote what was sent


@dataclass(frozen=True)
class Form:
    """A form: the texts of each field in their order, and the files; nobody else looks at a file's name."""

    texts: Mapping[str, tuple[str, ...]]
    files: Mapping[str, bytes]


@dataclass
class _Part:
    """A part of a body. start, n_bytes: where its data is."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    start: int = 0
    n_bytes: int = 0


def read_form(data: bytes | bytearray, content_type: str, *, files: tuple[str, ...], limits: Limits) -> Form:
    """Return the form that a body holds; a bytearray is emptied.

    files: the fields that are files, each at most once, and as large as the body may be. All others are short texts in
    UTF-8. Refused with a 400: what is no form, ends too early, or has more parts, headers or bytes in them than the
    limits allow; with a 413: a larger body. Raises: ApiError.
    """
    boundary = _boundary(content_type)
    if len(data) > limits.body_bytes:
        raise refused(413, f"body: expected at most {limits.body_bytes} bytes, got {len(data)}")
    # Everything that could take the parser long, or memory, has a boundary before it.
    n_parts = data.count(b"\r\n--" + boundary)
    if n_parts > limits.form_parts + 1:
        raise refused(400, f"body: expected at most {limits.form_parts} parts in the form, got {n_parts - 1} or more")
    parts = _parsed(data, boundary, limits)
    form = _form(data, parts, files, limits)
    if isinstance(data, bytearray):
        data.clear()
    return form


def _boundary(content_type: str) -> bytes:
    """Return what separates the parts. Raises: ApiError."""
    from python_multipart.multipart import parse_options_header  # of an extra, and batches and services do without it

    _, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _MAX_BOUNDARY_BYTES:
        found = f"{len(boundary)} bytes" if boundary else "none"
        raise refused(400, f"content-type: expected a boundary of 1 to {_MAX_BOUNDARY_BYTES} bytes, got {found}")
    return boundary


class _Reader:
    """What the parser calls: notes headers, and where the data of each part is in the body."""

    def __init__(self, most: int) -> None:
        self.parts: list[_Part] = []
        self.is_whole = False
        self._most = most
        self._name = b""
        self._value = b""
        self._chunk, self._base = b"", 0

    def take(self, chunk: bytes, base: int) -> None:
        """Take a chunk of the body that begins at `base`."""
        self._chunk, self._base = chunk, base

    def part_begin(self) -> None:
        if len(self.parts) == self._most:
            raise refused(400, f"body: expected at most {self._most} parts in the form, got more")
        self.parts.append(_Part())

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self.parts[-1].headers.setdefault(self._name.lower(), self._value)
        self._name = self._value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        if part.n_bytes == 0:
            # What looked like a boundary at the end of the last chunk comes from the parser's own memory.
            part.start = self._base + start if data is self._chunk else self._base - (end - start)
        part.n_bytes += end - start

    def end(self) -> None:
        self.is_whole = True


def _parsed(data: bytes | bytearray, boundary: bytes, limits: Limits) -> list[_Part]:
    """Return the parts of a body. Raises: ApiError."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    reader = _Reader(limits.form_parts)
    names = ("part_begin", "header_field", "header_value", "header_end", "part_data", "end")
    parser = MultipartParser(
        boundary,
        {f"on_{name}": getattr(reader, name) for name in names},  # type: ignore[arg-type]
        max_header_count=limits.form_headers,
        max_header_size=limits.form_header_bytes,
    )
    parser.logger = _SILENT
    try:
        with memoryview(data) as view:
            for base in range(0, len(data), _CHUNK_BYTES):
                chunk = bytes(view[base : base + _CHUNK_BYTES])
                reader.take(chunk, base)
                parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        limit = f"at most {limits.form_headers} headers of {limits.form_header_bytes} bytes to a part"
        raise refused(400, f"body: expected a form ({MEDIA_TYPE}; {limit}): it is damaged") from error
    if not reader.is_whole:
        raise refused(400, "body: expected a form that ends with its boundary; it is cut off")
    return reader.parts


def _form(data: bytes | bytearray, parts: list[_Part], files: tuple[str, ...], limits: Limits) -> Form:
    """Read the parts. Raises: ApiError."""
    texts: dict[str, tuple[str, ...]] = {}
    found: dict[str, bytes] = {}
    for part in parts:
        name = _name(part)
        if name in files:
            if name in found:
                raise refused(400, f"{name}: expected one file, got two")
            with memoryview(data) as view:
                found[name] = bytes(view[part.start : part.start + part.n_bytes])
        else:
            texts[name] = (*texts.get(name, ()), _text(data, part, name, limits))
    return Form(texts, found)


def _name(part: _Part) -> str:
    """Return the name of a part's field. Raises: ApiError."""
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(part.headers.get(b"content-disposition", b""))
    if kind != b"form-data" or b"name" not in options:
        raise refused(400, "body: expected Content-Disposition: form-data with a name in each part of the form")
    name = _decoded(options[b"name"], "body: a field's name")
    coding = part.headers.get(b"content-transfer-encoding", b"binary").decode("latin-1").strip().lower()
    if coding not in _PLAIN:
        raise refused(400, f"{name[:200]}: the transfer encoding {coding[:200]!r} is not supported; expected binary")
    return name


def _text(data: bytes | bytearray, part: _Part, name: str, limits: Limits) -> str:
    if part.n_bytes > limits.form_field_bytes:
        got = f"got {part.n_bytes}"
        raise refused(400, f"{name[:200]}: expected at most {limits.form_field_bytes} bytes of text, {got}")
    return _decoded(bytes(data[part.start : part.start + part.n_bytes]), name[:200])


def _decoded(data: bytes, place: str) -> str:
    """Return text. Raises: ApiError for what is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused(400, f"{place}: expected UTF-8, got something else at byte {error.start}") from error
