"""The text of a PDF page is what it shows: words, values of forms, notes, and no layer that is switched off."""

import io
import zlib
from collections.abc import Callable

import pytest
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from edge.errors import MediaError
from edge.media import pdf
from tests.edge.media.pdfs import by_hand, made_pdf

FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def texts(data: bytes) -> list[str]:
    found: list[str] = pdf.decode(data, {"max_pages": 20, "area_px": 200_000, "max_bytes": 1 << 28}).info["texts"]
    return found


def refused(data: bytes) -> str:
    with pytest.raises(MediaError) as caught:
        texts(data)
    return str(caught.value)


def stream(content: str, entries: str = "") -> str:
    return f"<< /Length {len(content)} {entries} >>\nstream\n{content}\nendstream"


def one_page(content: str, *, page: str = "", catalog: str = "", pages: str = "", more: tuple[str, ...] = ()) -> bytes:
    """A PDF of one page; more: objects from 6 on."""
    return by_hand(
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        f"<< /Type /Pages /Kids [3 0 R] /Count 1 {pages} >>",
        f"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F 5 0 R >> "
        f"/Properties << /On 6 0 R /Off 7 0 R >> /XObject << /X 8 0 R >> >> "
        f"{page if 'Box' in page or 'Box' in pages else '/MediaBox [0 0 300 300] ' + page} >>",
        stream(content),
        FONT,
        *more,
    )


# --- boxes --------------------------------------------------------------------------------------------------------


SAID = "BT /F 10 Tf 60 160 Td (shown) Tj 0 -130 Td (below) Tj 340 130 Td (beside) Tj ET"


@pytest.mark.parametrize(
    ("page", "pages", "text"),
    [
        ("/MediaBox [0 0 500 200]", "", "shown beside below"),
        ("/MediaBox [500 200 0 0]", "", "shown beside below"),
        ("", "/MediaBox [0 0 700 700]", "shown beside below"),
        ("/MediaBox [0 0 700 700] /CropBox [150 190 50 100]", "", "shown"),
        ("/MediaBox [0 0 700 700] /CropBox [0 0 0 0]", "", "shown beside below"),
        ("/MediaBox [0 0 700 700] /CropBox [10 10 10 100]", "", "shown beside below"),
        ("/MediaBox [0 100 300 200] /CropBox [-50 -50 900 900]", "", "shown"),
        ("/MediaBox [0 0 700 700]", "/CropBox [0 100 300 200]", "shown"),
        ("", "/MediaBox [0 100 300 200] /CropBox [0 0 1000 1000]", "shown"),
    ],
)
def test_boxes_are_those_that_are_drawn(page: str, pages: str, text: str) -> None:
    assert " ".join(texts(one_page(SAID, page=page, pages=pages))[0].split()) == text


# --- words --------------------------------------------------------------------------------------------------------


LINES = (
    "Invoice 138588 of The Metropolis Tower",
    "Total 4711.50 EUR due 31.12.2026",
    "IBAN DE02 1203 0000 0000 2020 51 and more",
)


def spread(spacing_pt: float, cut: Callable[[str], list[str]], *, font: str, spaces: bool) -> bytes:
    """A text layer as programs for reading scans write it: words in pieces, their letters spread."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(800, 400), invariant=1)
    for row, line in enumerate(LINES):
        x = 40.0
        for word in line.split():
            for piece in (*cut(word), " ") if spaces else cut(word):
                text = canvas.beginText(x, 300 - 20 * row)
                text.setFont(font, 8)
                text.setCharSpace(spacing_pt)
                text.textOut(piece)
                canvas.drawText(text)
                x += stringWidth(piece, font, 8) + spacing_pt * len(piece)
            x += 0 if spaces else stringWidth(" ", font, 8) + spacing_pt
    canvas.save()
    return buffer.getvalue()


@pytest.mark.parametrize("spaces", [True, False])
@pytest.mark.parametrize("font", ["Helvetica", "Courier", "Times-Roman"])
@pytest.mark.parametrize("spacing_pt", [0, 0.3, 1, 2.1, 3])
def test_spread_words_and_numbers_stay_whole(spacing_pt: float, font: str, spaces: bool) -> None:
    for cut in (lambda word: [word], lambda word: [word[:-1], word[-1:]], lambda word: [word[:2], word[2:]]):
        [text] = texts(spread(spacing_pt, lambda word, cut=cut: [p for p in cut(word) if p], font=font, spaces=spaces))
        assert text.split() == " ".join(LINES).split()


@pytest.mark.parametrize("font", ["Helvetica", "Times-Roman"])
def test_words_that_are_stored_letter_by_letter_stay_whole(font: str) -> None:
    for spacing_pt in (0, 0.4):
        [text] = texts(spread(spacing_pt, list, font=font, spaces=False))
        assert text.split() == " ".join(LINES).split()


@pytest.mark.parametrize("gap", [250, 333, 600])
def test_words_that_only_a_distance_parts_are_parted(gap: int) -> None:
    words = f" {-gap} ".join(f"({word})" for word in LINES[0].split())
    assert texts(one_page(f"BT /F 10 Tf 20 200 Td [{words}] TJ ET"))[0].split() == LINES[0].split()


# --- layers -------------------------------------------------------------------------------------------------------


LAYERS = ("<< /Type /OCG /Name (on) >>", "<< /Type /OCG /Name (off) >>")
FORM = "/Type /XObject /Subtype /Form /BBox [0 0 300 300] /Resources << /Font << /F 5 0 R >> >>"
SWITCHED = "/OCProperties << /OCGs [6 0 R 7 0 R] /D << /OFF [7 0 R] >> >>"


def said(words: str, y: int, *, layer: str = "") -> str:
    text = f"BT /F 10 Tf 20 {y} Td ({words}) Tj ET"
    return f"/OC /{layer} BDC {text} EMC" if layer else text


def test_text_on_a_layer_that_is_switched_off_is_left_out() -> None:
    content = " ".join([said("always", 200), said("shown", 150, layer="On"), said("hidden", 100, layer="Off")])
    form = stream("", FORM)
    assert texts(one_page(content, catalog=SWITCHED, more=(*LAYERS, form)))[0].split() == ["always", "shown"]
    assert texts(one_page(content, more=(*LAYERS, form)))[0].split() == ["always", "shown", "hidden"]


def test_layers_in_one_place_do_not_stand_for_each_other() -> None:
    content = " ".join([said("hidden words", 100, layer="Off"), said("what is shown", 100, layer="On")])
    assert texts(one_page(content, catalog=SWITCHED, more=(*LAYERS, stream("", FORM)))) == ["what is shown"]


@pytest.mark.parametrize(("layer", "found"), [("6 0 R", ["plain", "inside"]), ("7 0 R", ["plain"])])
def test_forms_on_layers_are_found_out(layer: str, found: list[str]) -> None:
    form = stream(said("inside", 100), f"{FORM} /OC {layer}")
    assert texts(one_page(f"{said('plain', 200)} /X Do", catalog=SWITCHED, more=(*LAYERS, form)))[0].split() == found


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_layers_of_a_turned_and_cut_page_are_found_out(degrees: int) -> None:
    content = " ".join([said("shown", 150, layer="On"), said("hidden", 100, layer="Off")])
    page = f"/MediaBox [0 0 300 300] /CropBox [10 60 200 280] /Rotate {degrees}"
    data = one_page(content, page=page, catalog=SWITCHED, more=(*LAYERS, stream("", FORM)))
    assert texts(data) == ["shown"]


def test_text_that_is_seen_in_no_other_way_is_kept_on_a_layer_that_is_on() -> None:
    invisible = "/OC /On BDC BT 3 Tr /F 10 Tf 20 150 Td (read from a scan) Tj ET EMC"
    covered = "/OC /On BDC 1 1 1 rg BT /F 10 Tf 20 100 Td (white) Tj ET EMC 0 0 1 rg 0 90 300 100 re f"
    data = one_page(f"{invisible} {covered}", catalog=SWITCHED, more=(*LAYERS, stream("", FORM)))
    assert texts(data)[0].split() == ["read", "from", "a", "scan", "white"]


def test_layers_that_are_declared_in_a_packed_object_are_found_out() -> None:
    inside = b"1 0 << /Type /Catalog /Pages 2 0 R /OCProperties << >> >>"
    packed = zlib.compress(inside)
    assert pdf.may_have_layers(b"<< /Type /ObjStm /N 1 /First 4 /Filter /FlateDecode >>\nstream\r\n" + packed)
    assert not pdf.may_have_layers(b"<< /Type /ObjStm /Filter /FlateDecode >>\nstream\n" + zlib.compress(b"1 0 << >>"))
    assert not pdf.may_have_layers(made_pdf([(50, 50, "no layers")]))


# --- forms and notes ----------------------------------------------------------------------------------------------


def filled(*widgets: str, others: tuple[str, ...] = ()) -> bytes:
    """A form of widgets, objects 9 and on, and other annotations behind them."""
    fields = " ".join(f"{9 + i} 0 R" for i in range(len(widgets)))
    annotations = " ".join(f"{9 + i} 0 R" for i in range(len(widgets) + len(others)))
    form = f"/AcroForm << /Fields [{fields}] /DA (/F 10 Tf 0 g) /DR << /Font << /F 5 0 R >> >> >>"
    more = (*LAYERS, stream("", FORM), *(f"<< /Type /Annot {entries} >>" for entries in (*widgets, *others)))
    return one_page(
        said("Order form", 250), page=f"/Annots [{annotations}]", catalog=form if widgets else "", more=more
    )


def widget(entries: str, y: int) -> str:
    return f"/Subtype /Widget /Rect [100 {y} 250 {y + 16}] {entries}"


def test_values_of_form_fields_are_in_the_text_with_and_without_appearance() -> None:
    data = filled(
        widget("/FT /Tx /T (name) /V (Ada Lovelace)", 220),
        widget("/FT /Ch /Ff 131072 /T (land) /Opt [(France) (Spain)] /V (Spain)", 190),
        widget("/FT /Tx /Ff 8192 /T (secret) /V (hush)", 160),
        widget("/FT /Tx /F 2 /T (gone) /V (hidden)", 130),
        widget("/FT /Tx /T (utf) /V <FEFF00FC03A9>", 100),
        widget("/FT /Tx /T (empty)", 70),
    )
    assert texts(data)[0].split() == ["Order", "form", "Ada", "Lovelace", "Spain", "****", "\u00fc\u03a9"]


def test_ticked_boxes_are_marked() -> None:
    look = "/AP << /N << /Yes 8 0 R /Off 8 0 R >> >>"
    data = filled(
        widget(f"/FT /Btn /T (a) /V /Yes /AS /Yes {look}", 220), widget(f"/FT /Btn /T (b) /V /Off /AS /Off {look}", 190)
    )
    assert texts(data)[0].split() == ["Order", "form", "[x]"]


def test_values_stand_beside_their_labels() -> None:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(400, 300), invariant=1)
    for i, (label, value) in enumerate((("Name", "Ada"), ("City", "London"))):
        canvas.drawString(40, 250 - 30 * i, label)
        canvas.acroForm.textfield(name=label, value=value, x=120, y=244 - 30 * i, width=120, height=18, fontSize=10)
    canvas.save()
    assert texts(buffer.getvalue())[0].split("\n") == ["Name Ada", "City London"]


def test_what_was_typed_on_a_page_is_text_and_notes_come_last() -> None:
    data = filled(
        others=(
            "/Subtype /Text /Rect [10 10 30 30] /Contents (ask\nthe seller)",
            "/Subtype /FreeText /Rect [20 100 200 130] /DA (/F 10 Tf) /Contents (paid in\ncash)",
            "/Subtype /Highlight /Rect [20 240 90 260] /QuadPoints [20 260 90 260 20 240 90 240] /Contents (why?)",
            "/Subtype /Popup /Rect [0 0 9 9] /Contents (the same again)",
            "/Subtype /Link /Rect [0 0 9 9] /Contents (a link)",
            "/Subtype /Text /F 2 /Rect [10 10 30 30] /Contents (deleted)",
            "/Subtype /Text /Rect [10 10 30 30]",
        )
    )
    assert texts(data) == ["Order form\n\npaid in\ncash\n\nNote: ask the seller\nNote: why?"]


# --- refusals -----------------------------------------------------------------------------------------------------


def test_errors_are_of_this_document_and_not_of_the_one_before() -> None:
    locked = made_pdf([(50, 50, "closed")], password="secret")
    empty = by_hand("<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [] /Count 0 >>")
    wanted = {
        locked: "pdf: it is encrypted: expected one that opens without a password",
        empty: "pdf: expected 1 to 20 pages, got 0",
        b"%PDF-1.7\nnothing": "pdf: the data is damaged or cut off",
    }
    for first in wanted:
        for second in wanted:
            assert [refused(first), refused(second)] == [wanted[first], wanted[second]]
    assert texts(made_pdf([(50, 50, "open")])) == ["open"]


def test_an_encryption_that_nobody_knows_is_not_called_damage() -> None:
    data = by_hand(
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
        "<< /Filter /Adobe.PubSec /V 4 /SubFilter /adbe.pkcs7.s5 >>",
        trailer="/Root 1 0 R /Encrypt 4 0 R /ID [<00> <00>]",
    )
    assert refused(data).startswith("pdf: this kind of encryption is not supported")


def test_a_form_that_draws_itself_is_refused_by_name() -> None:
    xfa = "/AcroForm << /Fields [] /XFA [(template) 9 0 R] >> /NeedsRendering true"
    data = one_page(said("Please wait...", 200), catalog=xfa, more=(*LAYERS, stream("", FORM), stream("<template/>")))
    assert refused(data).startswith("pdf: dynamic XFA forms are not supported: ")
    static = one_page(
        said("Name:", 200),
        catalog=xfa.replace("/NeedsRendering true", ""),
        more=(*LAYERS, stream("", FORM), stream("<template/>")),
    )
    assert texts(static) == ["Name:"]
