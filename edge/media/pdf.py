"""Papers: the pages of a PDF as pictures, and the text that lies on them, in the order it is read."""

import ctypes
import logging
import math
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from edge.errors import MediaError
from edge.media.decoded import Decoded, Options
from edge.media.reading import Line, in_order
from edge.media.sniff import expect

U8 = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]

MAX_SIDE_PX = 8192
MAX_CHARS = 400_000  # of a whole paper: 20 pages of 20 000

_LOG = logging.getLogger("edge")
_LOCK = threading.Lock()  # pdfium takes one thread at a time
_MAX_LINES = 5000
_MAX_PAGE_CHARS = 30_000  # what has more is read as it is stored
_APART = 0.7  # of the largest letter near by: what is further away is another line, or another column
_NEAR = 20  # letters


def decode(data: bytes, options: Options) -> Decoded:
    """Return the pages of a PDF: arrays (h, w, 3) uint8 RGB of about area_px pixels each.

    options: max_pages, area_px, max_bytes (of all pages decoded). info: texts, one a page, "" where there is none.
    Nothing outside of the data is read, nothing in it is run. Raises: MediaError. Source: limits.md.
    """
    expect("pdf", data)
    with _LOCK:
        try:
            return _decode(data, *(int(options[name] or 0) for name in ("max_pages", "area_px", "max_bytes")))
        except (pdfium.PdfiumError, ValueError, UnicodeError, ctypes.ArgumentError) as error:
            _LOG.debug("pdf: not decoded", exc_info=True)
            raise MediaError(_reason(error)) from error


def _decode(data: bytes, max_pages: int, area_px: int, max_bytes: int) -> Decoded:
    document = pdfium.PdfDocument(data)
    try:
        n_pages = len(document)
        if not 1 <= n_pages <= max_pages:
            raise MediaError(f"pdf: expected 1 to {max_pages} pages, got {n_pages}")
        if n_pages * area_px * 3 > max_bytes:
            raise MediaError(f"pdf: expected pages of at most {max_bytes} bytes decoded, got {n_pages * area_px * 3}")
        if document.get_formtype() != pdfium_c.FORMTYPE_NONE:
            document.init_forms()  # what was filled in belongs to the page
        pictures: list[U8] = []
        texts: list[str] = []
        for number in range(n_pages):
            page = document[number]
            pictures.append(_picture(page, number + 1, area_px))
            texts.append(_text(page))
            page.close()
        n_chars = sum(map(len, texts))
        if n_chars > MAX_CHARS:
            raise MediaError(f"pdf: expected at most {MAX_CHARS} characters of text, got {n_chars}")
        return Decoded(tuple(pictures), {"texts": texts})
    finally:
        document.close()


def _reason(error: Exception) -> str:
    code = getattr(error, "err_code", None)
    if code == pdfium_c.FPDF_ERR_PASSWORD:
        return "pdf: it is encrypted: expected one that opens without a password"
    if code == pdfium_c.FPDF_ERR_SECURITY:
        return "pdf: it is encrypted in a way that is not taken"
    return "pdf: the data is damaged or cut off"


def _picture(page: pdfium.PdfPage, number: int, area_px: int) -> U8:
    """Render a page at the scale that gives it area_px pixels; nothing is allocated before its size is known."""
    width, height = page.get_size()  # points, UserUnit and rotation included
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise MediaError(f"pdf: page {number}: expected a page with an area, got {width:g} x {height:g}")
    scale = min(math.sqrt(area_px / width / height), MAX_SIDE_PX / width, MAX_SIDE_PX / height)
    bitmap = page.render(scale=scale, rev_byteorder=True)
    try:
        rgb = np.array(bitmap.to_numpy()[:, :, :3])
    finally:
        bitmap.close()
    return rgb


def _text(page: pdfium.PdfPage) -> str:
    """Return a page's text in the order it is read; as it is stored where it is in too many pieces to order."""
    layer = page.get_textpage()
    try:
        if layer.count_chars() > _MAX_PAGE_CHARS:
            return _plain(layer.get_text_range())
        lines = list(_lines(_glyphs(layer, _shown(page), page.get_rotation())))
        return _plain(layer.get_text_range()) if len(lines) > _MAX_LINES else in_order(lines)
    finally:
        layer.close()


class _Glyph(NamedTuple):
    """A character and where it is shown, y growing downwards; without a place it is white space.

    piece: which stretch of text it is stored in, 0 for one that is not known.
    """

    text: str
    place: Box | None = None
    piece: int = 0


_SPACE, _LINE_END = _Glyph(" "), _Glyph("\n")


def _shown(page: pdfium.PdfPage) -> Box:
    """Return (left, bottom, right, top) of what is shown of a page, before it is turned."""
    (left, bottom, right, top), crop = page.get_mediabox(), page.get_cropbox()
    return max(left, crop[0]), max(bottom, crop[1]), min(right, crop[2]), min(top, crop[3])


def _glyphs(layer: pdfium.PdfTextPage, shown: Box, rotation: int) -> Iterator[_Glyph]:
    """Yield the characters of a page in the order that pdfium tells them; what lies outside of the page is left out.

    A page may have many thousands, and a board counts every call.
    """
    raw, high = layer.raw, 0
    for i in range(layer.count_chars()):
        code = pdfium_c.FPDFText_GetUnicode(raw, i)
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if 0xDC00 <= code < 0xE000:
            code = 0x10000 + (high - 0xD800 << 10) + (code - 0xDC00) if high else 0
        high = 0
        text = chr(code) if code <= sys.maxunicode else ""
        text = _SPELT.get(text, text)
        if not text or text.isspace():
            yield _LINE_END if code in (0x0A, 0x0D) else _SPACE
            continue
        left, bottom, right, top = _box(layer, i)
        if shown[0] <= (left + right) / 2 <= shown[2] and shown[1] <= (bottom + top) / 2 <= shown[3]:
            piece = ctypes.cast(pdfium_c.FPDFText_GetTextObject(raw, i), ctypes.c_void_p).value
            yield _Glyph(text, _turned(left, bottom, right, top, rotation), piece or 0)


def _box(layer: pdfium.PdfTextPage, i: int) -> Box:
    """Return (left, bottom, right, top) of a character's ink, of the room it has where it has none."""
    left, bottom, right, top = layer.get_charbox(i)
    return (left, bottom, right, top) if left < right and bottom < top else layer.get_charbox(i, loose=True)


def _lines(glyphs: Iterable[_Glyph]) -> Iterator[Line]:
    """Join characters that stand side by side, in however many pieces they are stored."""
    text: list[str] = []
    places: list[Box] = []
    piece = 0
    for glyph in glyphs:
        if glyph.place is None:
            if glyph is _LINE_END:
                yield from _line(text, places)
                text, places = [], []
            text.append(" ")
            continue
        if places and (glyph.piece != piece or not piece) and _is_apart(glyph.place, places):
            yield from _line(text, places)
            text, places = [], []
        text.append(glyph.text)
        places.append(glyph.place)
        piece = glyph.piece
    yield from _line(text, places)


def _line(text: list[str], places: list[Box]) -> Iterator[Line]:
    if places:
        lefts, tops, rights, bottoms = zip(*places, strict=True)
        yield Line(min(lefts), min(tops), max(rights), max(bottoms), "".join(text).strip())


def _is_apart(place: Box, places: Sequence[Box]) -> bool:
    """Return whether a character stands too far from the last one to go on with it."""
    (left, top, right, bottom), last = place, places[-1]
    gap = max(left - last[2], last[0] - right, top - last[3], last[1] - bottom)
    size = max(max(box[2] - box[0], box[3] - box[1]) for box in (place, *places[-_NEAR:]))
    return gap >= _APART * size


def _turned(left: float, bottom: float, right: float, top: float, rotation: int) -> Box:
    """Return (left, top, right, bottom), y growing downwards, of a box on a page that is shown turned clockwise."""
    if rotation == 90:
        return bottom, left, top, right
    if rotation == 180:
        return -right, bottom, -left, top
    if rotation == 270:
        return -top, -right, -bottom, -left
    return left, -top, right, -bottom


def _plain(text: str) -> str:
    """Return text without what no page shows: NULs, and the marks pdfium puts for hyphens at a line's end."""
    return "".join(_SPELT.get(c, c) for c in text if not "\ud800" <= c <= "\udfff")


_SPELT = {"\x00": "", "\x02": "-", "\r": "", "\ufffe": "-", "\uffff": ""}
