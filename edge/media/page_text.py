"""The text of a PDF's page as the page shows it: words as they are spaced, values of forms, notes; no hidden layers."""

import ctypes
import sys
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from edge.media.annotations import Written, annotations
from edge.media.layers import switched_off
from edge.media.reading import Line, in_order

Box = tuple[float, float, float, float]

_MAX_LINES = 5000
_MAX_PAGE_CHARS = 30_000  # what has more is read as it is stored
_APART = 0.7  # of the largest letter near by: what is further away is another line, or another column
_NEAR = 20  # letters
_WORD_GAP = 0.09  # of a letter's height, beyond the line's own spacing: what is less is no space between words
_SPREAD = 1.3  # how much wider than usual the spacing of letters may be in places
_SPREAD_LETTERS = 0.15  # of their size: letters that far apart are spread on purpose
_LEAST_GAPS = 4  # fewer say nothing about the spacing of letters
_LEAST_PIECES, _MOST_ACROSS = 8, 0.35  # letters stored one by one: how many, and how far apart they may be
_LINE_PT = 14.0  # of what was typed into a field of several lines


def page_text(page: pdfium.PdfPage, *, has_layers: bool, scale: float) -> str:
    """Return a page's text in the order it is read; as it is stored where it is in too many pieces to order.

    has_layers: whether some of it may be switched off. scale: pixels a point, for finding out. Notes come last, each
    as a line of its own. The page is of no use for drawing afterwards.
    """
    over = list(annotations(page))
    layer = page.get_textpage()
    try:
        text = _layer_text(page, layer, over, has_layers=has_layers, scale=scale)
    finally:
        layer.close()
    notes = [f"Note: {' '.join(written.text.split())}" for written in over if written.place is None]
    return "\n\n".join(part for part in (text, "\n".join(map(_plain, notes))) if part)


def _layer_text(
    page: pdfium.PdfPage, layer: pdfium.PdfTextPage, over: Sequence[Written], *, has_layers: bool, scale: float
) -> str:
    rotation, shown = page.get_rotation(), page.get_bbox()
    typed = [line for written in over if written.place for line in _typed(written.text, written.place, rotation)]
    if layer.count_chars() > _MAX_PAGE_CHARS:
        return "\n".join([_plain(layer.get_text_range()), *(line.text for line in typed)])
    glyphs = list(_glyphs(layer, shown, rotation))
    if has_layers:
        hidden = switched_off(page, _boxes(glyphs), shown, scale)
        glyphs = [glyph for glyph in glyphs if glyph.place is None or glyph.piece not in hidden]
    lines = [*_spelt(list(_lines(glyphs)), layer), *typed]
    if len(lines) > _MAX_LINES:
        return "\n".join(line.text for line in lines)
    return in_order(lines)


class _Glyph(NamedTuple):
    """A character and where it is shown, y growing downwards; without a place it is white space.

    piece: the stretch of text it is stored in, 0 for one that is not known. number: pdfium's own. box: where
    it is on the page as that is stored, (left, bottom, right, top).
    """

    text: str
    place: Box | None = None
    piece: int = 0
    number: int = -1
    box: Box = (0.0, 0.0, 0.0, 0.0)


_SPACE, _LINE_END = _Glyph(" "), _Glyph("\n")
_GAP = _Glyph("", number=-2)  # where pdfium thinks that a space should be
_NOTHING = _Glyph("", number=-3)


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
            yield _LINE_END if code in (0x0A, 0x0D) else _GAP if pdfium_c.FPDFText_IsGenerated(raw, i) == 1 else _SPACE
            continue
        box = left, bottom, right, top = _box(layer, i)
        if shown[0] <= (left + right) / 2 <= shown[2] and shown[1] <= (bottom + top) / 2 <= shown[3]:
            piece = ctypes.cast(pdfium_c.FPDFText_GetTextObject(raw, i), ctypes.c_void_p).value
            yield _Glyph(text, _turned(left, bottom, right, top, rotation), piece or 0, i, box)


def _box(layer: pdfium.PdfTextPage, i: int) -> Box:
    """Return (left, bottom, right, top) of a character's ink, of the room it has where it has none."""
    left, bottom, right, top = layer.get_charbox(i)
    return (left, bottom, right, top) if left < right and bottom < top else layer.get_charbox(i, loose=True)


def _boxes(glyphs: Iterable[_Glyph]) -> dict[int, Sequence[Box]]:
    boxes: dict[int, list[Box]] = {}
    for glyph in glyphs:
        if glyph.place is not None and glyph.piece:
            boxes.setdefault(glyph.piece, []).append(glyph.box)
    return dict(boxes)


def _lines(glyphs: Sequence[_Glyph]) -> Iterator[list[_Glyph]]:
    """Join characters that stand side by side, in however many pieces they are stored."""
    line: list[_Glyph] = []
    places: list[Box] = []
    apart = _Spacing([], [], {})  # on the lines before as well
    on_page = _usual(list(_inside(glyphs)))
    piece = 0
    for glyph in glyphs:
        if glyph.place is None:
            if glyph is _LINE_END:
                yield line
                line, places = [], []
            line.append(_SPACE if glyph is _LINE_END else glyph)
            continue
        if places and piece and glyph.piece == piece:
            apart.inside.append(_gap(places[-1], glyph.place))
        elif places and _is_apart(glyph.place, places, apart, on_page):
            yield line
            line, places = [], []
        elif places:
            apart.across.append(_gap(places[-1], glyph.place))
        line.append(glyph)
        places.append(glyph.place)
        piece = glyph.piece
    yield line


def _inside(glyphs: Iterable[_Glyph]) -> Iterator[float]:
    """Yield how far neighbours of one piece are apart."""
    before = _NOTHING
    for glyph in glyphs:
        if before.place is not None and glyph.place is not None and glyph.piece == before.piece:
            yield _gap(before.place, glyph.place)
        before = glyph


def _is_apart(place: Box, places: Sequence[Box], apart: "_Spacing", on_page: float | None) -> bool:
    """Return whether a character stands too far from the last one to go on with it.

    apart: how far the letters before it are; on_page: how far they usually are.
    """
    size = max(max(box[2] - box[0], box[3] - box[1]) for box in (place, *places[-_NEAR:]))
    usual = _usual(apart.inside[-_NEAR:])
    if usual is None and len(apart.across) >= _LEAST_PIECES:
        usual = _usual(apart.across[-_NEAR:])
    usual = on_page if usual is None else usual
    if usual is None or usual <= _SPREAD_LETTERS * size:
        usual = 0.0
    return _gap(places[-1], place) >= _APART * size + usual


def _gap(one: Box, other: Box) -> float:
    """Return how far a box is from another, along the axis where that is more; less than 0 where they overlap."""
    return max(other[0] - one[2], one[0] - other[2], other[1] - one[3], one[1] - other[3])


def _spelt(lines: Sequence[Sequence[_Glyph]], layer: pdfium.PdfTextPage) -> Iterator[Line]:
    """Yield lines with their text; of the spaces that pdfium adds, those that the letters' spacing does not explain.

    The layer that a program for reading scans writes has its letters spread over the width of the image.
    """
    spacings = [_spacing(line, layer) if _GAP in line else _Spacing([], [], {}) for line in lines]
    usual = _own(spacings) or 0.0
    for line, spacing in zip(lines, spacings, strict=True):
        places = [glyph.place for glyph in line if glyph.place is not None]
        if places:
            own = _own([spacing])
            least = _SPREAD * (usual if own is None else own) + _WORD_GAP
            text = "".join(" " if spacing.gaps.get(i, 0.0) > least else glyph.text for i, glyph in enumerate(line))
            lefts, tops, rights, bottoms = zip(*places, strict=True)
            yield Line(min(lefts), min(tops), max(rights), max(bottoms), text.strip())


class _Spacing(NamedTuple):
    """How far letters are apart, in shares of their height.

    inside: those of one piece; across: of two; gaps: where pdfium adds a space, by its place in the line.
    """

    inside: list[float]
    across: list[float]
    gaps: dict[int, float]


def _spacing(line: Sequence[_Glyph], layer: pdfium.PdfTextPage) -> _Spacing:
    boxes = {i: layer.get_charbox(glyph.number, loose=True) for i, glyph in enumerate(line) if glyph.place is not None}
    height = median(max(box[2] - box[0], box[3] - box[1]) for box in boxes.values()) if boxes else 0.0
    found = _Spacing([], [], {})
    if height <= 0:
        return found
    before, between, at = -1, _NOTHING, -1
    for i, glyph in enumerate(line):
        if glyph.place is None:
            between = glyph if between is not _SPACE else between
            at = i
            continue
        if before >= 0 and between is not _SPACE:
            gap = _gap(boxes[before], boxes[i]) / height
            is_inside = glyph.piece and glyph.piece == line[before].piece
            (found.inside if is_inside else found.across).append(gap)
            if between is _GAP:
                found.gaps[at] = gap
        before, between = i, _NOTHING
    return found


def _usual(gaps: list[float]) -> float | None:
    """Return how far letters usually are apart; words are further, so the lower ones count."""
    return sorted(gaps)[len(gaps) // 4] if len(gaps) >= _LEAST_GAPS else None


def _own(spacings: Iterable[_Spacing]) -> float | None:
    """Return how far letters usually are apart, None where there are too few of them."""
    inside, across = [], []
    for spacing in spacings:
        inside += spacing.inside
        across += spacing.across
    own = _usual(inside)
    if own is None and len(across) >= _LEAST_PIECES:  # stored letter by letter
        own = min(_usual(across) or 0.0, _MOST_ACROSS)
    return None if own is None else max(0.0, own)


def _typed(text: str, box: Box, rotation: int) -> Iterator[Line]:
    """Yield the lines of what was typed into a box, from its top."""
    left, bottom, right, top = box
    spelt = [_plain(line).strip() for line in text.splitlines()]
    height = (top - bottom) / max(1, len(spelt))
    height = min(height, _LINE_PT) if len(spelt) > 1 or height > 2 * _LINE_PT else height
    for i, line in enumerate(spelt):
        if line:
            place = _turned(left, top - (i + 1) * height, right, top - i * height, rotation)
            yield Line(*place, line)


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
