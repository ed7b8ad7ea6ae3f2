"""What lies over the page of a PDF and can be read: values of form fields, texts that were typed on it, notes."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

Box = tuple[float, float, float, float]

MAX_ANNOTATIONS = 2000  # of a page: what is beyond is left out
CHECKED = "[x]"

_MAX_CHARS = 20_000
_HIDDEN = pdfium_c.FPDF_ANNOT_FLAG_HIDDEN | pdfium_c.FPDF_ANNOT_FLAG_NOVIEW
_PASSWORD = 1 << 13  # of the flags of a text field
_TYPED = (
    pdfium_c.FPDF_FORMFIELD_TEXTFIELD,
    pdfium_c.FPDF_FORMFIELD_COMBOBOX,
    pdfium_c.FPDF_FORMFIELD_LISTBOX,
)
_TICKED = (pdfium_c.FPDF_FORMFIELD_CHECKBOX, pdfium_c.FPDF_FORMFIELD_RADIOBUTTON)
# What has a text of its own that no note is: links and widgets are no notes, pop-ups repeat what they belong to.
_NO_NOTES = (pdfium_c.FPDF_ANNOT_LINK, pdfium_c.FPDF_ANNOT_WIDGET, pdfium_c.FPDF_ANNOT_POPUP)


@dataclass(frozen=True)
class Written:
    """A text over a page. place: (left, bottom, right, top) in points; None for a note, which is not shown there."""

    text: str
    place: Box | None


def annotations(page: pdfium.PdfPage) -> Iterator[Written]:
    """Yield what is filled in, typed on and noted on a page, hidden annotations left out."""
    for i in range(min(pdfium_c.FPDFPage_GetAnnotCount(page.raw), MAX_ANNOTATIONS)):
        with _opened(page, i) as annotation:
            if annotation is None or pdfium_c.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
                continue
            kind = pdfium_c.FPDFAnnot_GetSubtype(annotation)
            if kind == pdfium_c.FPDF_ANNOT_WIDGET:
                text = _value(annotation, page.formenv)
            else:
                text = "" if kind in _NO_NOTES else _entry(annotation, b"Contents")
            if text.strip():
                is_shown = kind in (pdfium_c.FPDF_ANNOT_WIDGET, pdfium_c.FPDF_ANNOT_FREETEXT)
                yield Written(text, _place(annotation) if is_shown else None)


@contextmanager
def _opened(page: pdfium.PdfPage, i: int) -> Iterator[pdfium_c.FPDF_ANNOTATION | None]:
    annotation = pdfium_c.FPDFPage_GetAnnot(page.raw, i)
    try:
        yield annotation or None
    finally:
        if annotation:
            pdfium_c.FPDFPage_CloseAnnot(annotation)


def _value(annotation: pdfium_c.FPDF_ANNOTATION, form: pdfium.PdfFormEnv | None) -> str:
    """Return what a field shows: a text, or a mark where it is ticked."""
    if form is None:
        return _entry(annotation, b"V") if _entry(annotation, b"FT") == "Tx" else ""
    kind = pdfium_c.FPDFAnnot_GetFormFieldType(form.raw, annotation)
    if kind in _TICKED:
        return CHECKED if pdfium_c.FPDFAnnot_IsChecked(form.raw, annotation) else ""
    if kind not in _TYPED:
        return ""
    text = _string(lambda buffer, n: pdfium_c.FPDFAnnot_GetFormFieldValue(form.raw, annotation, buffer, n))
    is_secret = pdfium_c.FPDFAnnot_GetFormFieldFlags(form.raw, annotation) & _PASSWORD
    return "*" * len(text) if is_secret and kind == pdfium_c.FPDF_FORMFIELD_TEXTFIELD else text


def _entry(annotation: pdfium_c.FPDF_ANNOTATION, key: bytes) -> str:
    return _string(lambda buffer, n: pdfium_c.FPDFAnnot_GetStringValue(annotation, key, buffer, n))


def _string(read: Callable[[object, int], int]) -> str:
    """Return a text that pdfium writes into a buffer, as UTF-16 with a NUL at its end."""
    n_bytes = min(int(read(None, 0)), 2 * _MAX_CHARS)
    if n_bytes <= 2:
        return ""
    buffer = (ctypes.c_ushort * (n_bytes // 2 + 1))()
    if read(buffer, n_bytes) > n_bytes:
        return ""
    return bytes(buffer)[: n_bytes - 2].decode("utf-16-le", errors="ignore")


def _place(annotation: pdfium_c.FPDF_ANNOTATION) -> Box:
    rect = pdfium_c.FS_RECTF()
    pdfium_c.FPDFAnnot_GetRect(annotation, rect)
    return (
        min(rect.left, rect.right),
        min(rect.bottom, rect.top),
        max(rect.left, rect.right),
        max(rect.bottom, rect.top),
    )
