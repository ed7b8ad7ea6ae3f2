"""Papers: the pages of a PDF as pictures, and the text that lies on them, in the order it is read."""

import ctypes
import logging
import math
import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from edge.errors import MediaError
from edge.media.decoded import Decoded, Options
from edge.media.reading import Line, in_order

U8 = npt.NDArray[np.uint8]

MAX_SIDE_PX = 8192
MAX_CHARS = 400_000  # of a whole paper: 20 pages of 20 000

_LOG = logging.getLogger("edge")
_LOCK = threading.Lock()  # pdfium takes one thread at a time
_MAGIC_WITHIN = 1024  # readers look for it that far, as writers put other things before it
_MAX_LINES = 5000


def decode(data: bytes, options: Options) -> Decoded:
    """Return the pages of a PDF: arrays (h, w, 3) uint8 RGB of about area_px pixels each.

    options: max_pages, area_px, max_bytes (of all pages decoded). info: texts, one a page, "" where there is none.
    Nothing outside of the data is read, nothing in it is run. Raises: MediaError. Source: limits.md.
    """
    if b"%PDF-" not in data[:_MAGIC_WITHIN]:
        raise MediaError("pdf: expected a PDF, got something else")
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
        n_lines = layer.count_rects()
        if n_lines > _MAX_LINES:
            return _plain(layer.get_text_range())
        return in_order(list(_lines(layer, n_lines, page.get_rotation())))
    finally:
        layer.close()


def _lines(layer: pdfium.PdfTextPage, n_lines: int, rotation: int) -> Iterator[Line]:
    for i in range(n_lines):
        left, bottom, right, top = layer.get_rect(i)
        text = _plain(layer.get_text_bounded(left, bottom, right, top)).strip()
        if text:
            yield Line(*_turned(left, bottom, right, top, rotation), text)


def _turned(left: float, bottom: float, right: float, top: float, rotation: int) -> tuple[float, float, float, float]:
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
