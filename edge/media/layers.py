"""Which text of a PDF's page is on layers that are switched off: found by having pdfium draw the text alone."""

import ctypes
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

Box = tuple[float, float, float, float]

_MARK = b"/OCProperties"
_STREAM = re.compile(rb"/ObjStm\b.{0,400}?stream\r?\n", re.DOTALL)
_MAX_STREAMS = 2000
_MAX_STREAM_BYTES = 4 << 20
_MAX_DEPTH = 8
_WHITE, _UNKNOWN = 0xFFFFFF, 1 << 24  # the latter is no colour
_COLOUR_STEP = 37  # any odd number: neighbours in the order of text get colours that differ


def may_have_layers(data: bytes) -> bool:
    """Return whether a PDF says that some of its content is optional, or keeps that where only pdfium reads it."""
    if _MARK in data or b"/Encrypt" in data:
        return True
    for found, _ in zip(_STREAM.finditer(data), range(_MAX_STREAMS), strict=False):
        try:
            unpacked = zlib.decompressobj().decompress(
                data[found.end() : found.end() + _MAX_STREAM_BYTES], _MAX_STREAM_BYTES
            )
        except zlib.error:
            continue
        if _MARK in unpacked:
            return True
    return False


def switched_off(page: pdfium.PdfPage, pieces: dict[int, Sequence[Box]], shown: Box, scale: float) -> set[int]:
    """Return which text objects are not drawn at all.

    pieces: the address of each, and where its characters are, (left, bottom, right, top) in points. The page's objects
    are changed by it: it is of no use for anything else afterwards. Each gets a colour of its own and is drawn without
    soft edges, so that what is drawn over another does not stand for it.
    """
    _leave_text(_objects_of(page))
    colours = {}
    for number, piece in enumerate(pieces, 1):
        code = number * _COLOUR_STEP % (1 << 24)
        colours[piece] = code
        text = ctypes.cast(piece, pdfium_c.FPDF_PAGEOBJECT)
        pdfium_c.FPDFTextObj_SetTextRenderMode(text, pdfium_c.FPDF_TEXTRENDERMODE_FILL)
        pdfium_c.FPDFPageObj_SetFillColor(text, code >> 16, code >> 8 & 255, code & 255, 255)
    options = {"may_draw_forms": False, "draw_annots": False, "no_smoothtext": True, "no_smoothpath": True}
    bitmap = page.render(scale=scale, rev_byteorder=True, rotation=-page.get_rotation() % 360, **options)
    try:
        rgb = bitmap.to_numpy()[:, :, :3].astype(np.uint32)
    finally:
        bitmap.close()
    drawn = rgb[:, :, 0] << 16 | rgb[:, :, 1] << 8 | rgb[:, :, 2]
    # What nobody chose, such as a colour that shows through, may be of any of them.
    drawn[~np.isin(drawn, np.array([*colours.values(), _WHITE], np.uint32))] = _UNKNOWN
    return {piece for piece, boxes in pieces.items() if not _is_drawn(drawn, boxes, colours[piece], shown)}


def _is_drawn(drawn: npt.NDArray[np.uint32], boxes: Sequence[Box], colour: int, shown: Box) -> bool:
    """Return whether a colour, or an unknown one, is anywhere in boxes."""
    height, width = drawn.shape
    per_x, per_y = width / (shown[2] - shown[0]), height / (shown[3] - shown[1])
    for left, bottom, right, top in boxes:
        x, y = max(0, int((left - shown[0]) * per_x) - 1), max(0, int((shown[3] - top) * per_y) - 1)
        patch = drawn[y : int((shown[3] - bottom) * per_y) + 2, x : int((right - shown[0]) * per_x) + 2]
        if ((patch == colour) | (patch == _UNKNOWN)).any():
            return True
    return False


def _objects_of(page: pdfium.PdfPage) -> Iterator[pdfium_c.FPDF_PAGEOBJECT]:
    for i in range(pdfium_c.FPDFPage_CountObjects(page.raw)):
        yield pdfium_c.FPDFPage_GetObject(page.raw, i)


def _leave_text(objects: Iterator[pdfium_c.FPDF_PAGEOBJECT], depth: int = 0) -> None:
    """Switch off whatever is neither text nor holds some."""
    for thing in objects:
        kind = pdfium_c.FPDFPageObj_GetType(thing)
        if kind == pdfium_c.FPDF_PAGEOBJ_FORM and depth < _MAX_DEPTH:
            n_inside = pdfium_c.FPDFFormObj_CountObjects(thing)
            _leave_text((pdfium_c.FPDFFormObj_GetObject(thing, i) for i in range(max(0, n_inside))), depth + 1)
        elif kind != pdfium_c.FPDF_PAGEOBJ_TEXT:
            pdfium_c.FPDFPageObj_SetIsActive(thing, False)
