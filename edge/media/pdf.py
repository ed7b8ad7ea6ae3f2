"""PDFs: their pages as images, and the text that is on them, in the order it is read."""

import ctypes
import logging
import math
import threading

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from edge.arrays import U8
from edge.errors import MediaError
from edge.media.decoded import Decoded, Options
from edge.media.layers import may_have_layers
from edge.media.page_text import page_text
from edge.media.sniff import expect

MAX_SIDE_PX = 8192
MAX_CHARS = 400_000  # of a whole PDF: 20 pages of 20 000

_LOG = logging.getLogger("edge")
_LOCK = threading.Lock()  # pdfium takes one thread at a time
_DAMAGED = "pdf: the data is damaged or cut off"
_REASONS = {
    pdfium_c.FPDF_ERR_PASSWORD: "pdf: it is encrypted: expected one that opens without a password",
    pdfium_c.FPDF_ERR_SECURITY: "pdf: this kind of encryption is not supported: save it without, or print it to a PDF",
}


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
            raise MediaError(_DAMAGED) from error


def _decode(data: bytes, max_pages: int, area_px: int, max_bytes: int) -> Decoded:
    document = _opened(data)
    try:
        _check_forms(document)  # before its pages are counted
        n_pages = len(document)
        if not 1 <= n_pages <= max_pages:
            raise MediaError(f"pdf: expected 1 to {max_pages} pages, got {n_pages}")
        if n_pages * area_px * 3 > max_bytes:
            raise MediaError(f"pdf: expected pages of at most {max_bytes} bytes decoded, got {n_pages * area_px * 3}")
        has_layers = may_have_layers(data)
        images: list[U8] = []
        texts: list[str] = []
        for number in range(n_pages):
            page = document[number]
            scale = _scale(page, number + 1, area_px)
            images.append(_image(page, scale))
            texts.append(page_text(page, has_layers=has_layers, scale=scale))
            page.close()
        n_chars = sum(map(len, texts))
        if n_chars > MAX_CHARS:
            raise MediaError(f"pdf: expected at most {MAX_CHARS} characters of text, got {n_chars}")
        return Decoded(tuple(images), {"texts": texts})
    finally:
        document.close()


def _opened(data: bytes) -> pdfium.PdfDocument:
    """Open a document; data must outlive it. Raises: MediaError."""
    # pdfium keeps the number of the last error of any document: it means something only right behind a failure.
    raw = pdfium_c.FPDF_LoadMemDocument64(data, len(data), None)
    if not raw:
        raise MediaError(_REASONS.get(pdfium_c.FPDF_GetLastError(), _DAMAGED))
    return pdfium.PdfDocument(raw)


def _check_forms(document: pdfium.PdfDocument) -> None:
    """Have what was filled in drawn. Raises: MediaError for forms whose pages are drawn by a program inside of them."""
    kind = document.get_formtype()
    if kind == pdfium_c.FORMTYPE_XFA_FULL:
        raise MediaError("pdf: dynamic XFA forms are not supported: open it in Adobe Reader, and print it to a PDF")
    if kind != pdfium_c.FORMTYPE_NONE:
        document.init_forms()


def _scale(page: pdfium.PdfPage, number: int, area_px: int) -> float:
    """Return the pixels a point that give a page area_px pixels. Raises: MediaError for a page without an area."""
    width, height = page.get_size()  # points, UserUnit and rotation included
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise MediaError(f"pdf: page {number}: expected a page with an area, got {width:g} x {height:g}")
    scale: float = min(math.sqrt(area_px / width / height), MAX_SIDE_PX / width, MAX_SIDE_PX / height)
    return scale


def _image(page: pdfium.PdfPage, scale: float) -> U8:
    """Render a page: (H, W, 3)."""
    bitmap = page.render(scale=scale, rev_byteorder=True)
    try:
        return np.array(bitmap.to_numpy()[:, :, :3])
    finally:
        bitmap.close()
