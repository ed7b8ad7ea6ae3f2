"""PDFs: every page as a picture of the size that was asked for, its text as it is read, and nothing hostile."""

import re
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reportlab.pdfbase.pdfmetrics import stringWidth

from edge.chat.pdf_text import CUT, TextBudget, pdf_parts
from edge.chat.prompt import DecodedImage
from edge.errors import MediaError
from edge.media import pdf
from edge.media.decoded import Decoded
from edge.media.reading import Line, in_order
from tests.edge.media.pdfs import A4, by_hand, made_pdf, page_of, scan

AREA = 200_000


def decoded(data: bytes, *, max_pages: int = 20, area_px: int = AREA, max_bytes: int = 1 << 28) -> Decoded:
    return pdf.decode(data, {"max_pages": max_pages, "area_px": area_px, "max_bytes": max_bytes})


def refused(data: bytes, *, max_pages: int = 20, max_bytes: int = 1 << 28) -> str:
    with pytest.raises(MediaError) as caught:
        decoded(data, max_pages=max_pages, max_bytes=max_bytes)
    return str(caught.value)


def texts(data: bytes) -> list[str]:
    found: list[str] = decoded(data).info["texts"]
    return found


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [A4, (842, 595), (100, 100), (40, 2000), (14400, 14400), (10, 10)])
@pytest.mark.parametrize("area_px", [50_000, 1_000_000])
def test_a_page_has_about_the_pixels_asked_for_and_its_own_proportions(size: tuple[int, int], area_px: int) -> None:
    height, width = decoded(made_pdf([], size=size), area_px=area_px).arrays[0].shape[:2]
    assert width * height == pytest.approx(area_px, rel=0.05)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.05)


def test_a_page_without_end_is_kept_within_bounds() -> None:
    height, width = decoded(made_pdf([], size=(3, 200_000)), area_px=4_000_000).arrays[0].shape[:2]
    assert height <= pdf.MAX_SIDE_PX + 1 and width >= 1


def test_colours_and_places_are_those_of_the_page() -> None:
    rgb = np.full((200, 300, 3), 255, np.uint8)
    rgb[20:60, 30:90] = (200, 30, 20)
    page = decoded(scan(rgb), area_px=60_000).arrays[0]
    assert page.shape == (200, 300, 3)
    assert np.abs(page.astype(int) - rgb).mean() < 1


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_page_is_shown_turned(degrees: int) -> None:
    data = page_of(f"/MediaBox [0 0 200 100] /Rotate {degrees}")
    height, width = decoded(data).arrays[0].shape[:2]
    assert (width > height) == (degrees % 180 == 0)


@pytest.mark.parametrize(
    "box",
    ["[0 0 1e6 1e6]", "[0 0 100 100] /UserUnit 75000", "[100 100 0 0]", "[-500 -500 500 500]", "[0 0 99999999999 1]",
     "[0 0 nan nan]", "[0 0 1e308 1e308]", "[0 0 0 0]", "[0 0]", "null", "[0 0 -1 -1]", "[0 0 1e-30 1e-30]"],
)  # fmt: skip
def test_odd_page_sizes_are_rendered_small_or_refused(box: str) -> None:
    try:
        [page] = decoded(page_of(f"/MediaBox {box}"), area_px=100_000).arrays
    except MediaError as error:
        message = str(error)
    else:
        message = ""
        assert page.shape[0] * page.shape[1] <= 2 * 100_000
    assert not message or message.startswith("pdf: ")


# --- how many pages -----------------------------------------------------------------------------------------------


def test_the_number_of_pages_is_limited() -> None:
    for n_pages in (19, 20):
        assert len(decoded(made_pdf(*[[]] * n_pages), area_px=10_000).arrays) == n_pages
    assert refused(made_pdf(*[[]] * 21)) == "pdf: expected 1 to 20 pages, got 21"


def test_a_pdf_of_500_pages_is_refused_with_both_numbers() -> None:
    assert refused(made_pdf(*[[]] * 500)) == "pdf: expected 1 to 20 pages, got 500"


def test_the_bytes_of_all_pages_are_limited_before_any_is_rendered() -> None:
    data, n_bytes = made_pdf([], []), 2 * AREA * 3
    assert decoded(data, max_bytes=n_bytes)
    assert f"at most {n_bytes - 1} bytes decoded, got {n_bytes}" in refused(data, max_bytes=n_bytes - 1)


def test_a_pdf_without_pages_is_refused() -> None:
    data = by_hand("<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [] /Count 0 >>")
    assert refused(data).startswith("pdf: ")


# --- the text -----------------------------------------------------------------------------------------------------


def test_every_page_has_its_text() -> None:
    assert texts(made_pdf([(50, 50, "first")], [], [(50, 50, "third, gr\u00fcn")])) == ["first", "", "third, gr\u00fcn"]


def test_a_scanned_page_has_none() -> None:
    assert texts(scan(np.zeros((50, 50, 3), np.uint8))) == [""]


def test_columns_are_read_one_after_the_other() -> None:
    words = "words enough to fill a line"
    left = [(50, 120 + 12 * i, f"left {i} {words}") for i in range(8)]
    right = [(310, 120 + 12 * i, f"right {i} {words}") for i in range(8)]
    mixed = [said for pair in zip(right, left, strict=True) for said in pair]
    title = (50, 80, "A title over both of the columns, which is as wide as the page is itself, or nearly so")
    [text] = texts(made_pdf([*mixed, title]))
    assert text.split("\n\n") == [title[2], "\n".join(said[2] for said in left), "\n".join(said[2] for said in right)]


def test_paragraphs_that_end_at_one_height_do_not_mix_columns() -> None:
    words = "words enough to fill a line"
    places = [120 + 12 * i + 10 * (i // 4) for i in range(8)]
    left = [(50, y, f"left {i} {words}") for i, y in enumerate(places)]
    right = [(310, y, f"right {i} {words}") for i, y in enumerate(places)]
    [text] = texts(made_pdf([*right, *left]))
    assert re.findall(r"left|right", text) == ["left"] * 8 + ["right"] * 8


def test_the_rows_of_a_table_stay_whole() -> None:
    cells = [(50 + 120 * x, 100 + 14 * y, f"r{y}c{x}") for x in range(3) for y in range(3)]
    assert texts(made_pdf(cells)) == ["r0c0 r0c1 r0c2\nr1c0 r1c1 r1c2\nr2c0 r2c1 r2c2"]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_the_text_of_a_turned_page_is_read_as_it_is_shown(degrees: int) -> None:
    upright = {0: "1 0 0 1 20 170", 90: "0 1 -1 0 30 20", 180: "-1 0 0 -1 180 30", 270: "0 -1 1 0 170 180"}[degrees]
    content = f"BT /F 10 Tf {upright} Tm (above) Tj 0 -20 Td (between) Tj 0 -20 Td (below) Tj ET"
    data = by_hand(
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Rotate {degrees} /Contents 4 0 R "
        "/Resources << /Font << /F 5 0 R >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    assert texts(data)[0].split() == ["above", "between", "below"]


def test_the_characters_of_a_pdf_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made_pdf([(50, 50, "12345")], [(50, 50, "67890")])
    for limit in (10, 11):
        monkeypatch.setattr(pdf, "MAX_CHARS", limit)
        assert texts(data) == ["12345", "67890"]
    monkeypatch.setattr(pdf, "MAX_CHARS", 9)
    assert refused(data) == "pdf: expected at most 9 characters of text, got 10"


def line(left: float, top: float, text: str, width: float = 50) -> Line:
    return Line(left, top, left + width, top + 10, text)


@given(
    st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5), st.floats(0, 1e4), st.floats(0, 1e4)), max_size=30)
)
def test_reading_loses_no_line_and_adds_none(places: list[tuple[float, float, float, float]]) -> None:
    lines = [Line(x, y, x + width, y + height, f"t{i}") for i, (x, y, width, height) in enumerate(places)]
    assert sorted(in_order(lines).split()) == sorted(line.text for line in lines)


def test_words_of_a_line_that_stand_a_little_apart_stay_on_it() -> None:
    assert in_order([line(60, 1, "b"), line(0, 0, "a"), line(0, 12, "c")]) == "a b\nc"


def test_a_line_stored_letter_by_letter_is_words() -> None:
    sentence = "Every letter stands alone in this line."
    canvas_x = [50 + stringWidth(sentence[:i], "Helvetica", 10) for i in range(len(sentence))]
    assert texts(made_pdf([(x, 50, c) for x, c in zip(canvas_x, sentence, strict=True) if c != " "])) == [sentence]


def test_lines_that_overlap_are_read_once() -> None:
    said = [(50, 100 + 6 * i, f"line {i} of a paragraph without room") for i in range(8)]
    assert texts(made_pdf(said)) == ["\n".join(text for _, _, text in said)]


@pytest.mark.parametrize("box", ["CropBox", "MediaBox"])
def test_text_outside_of_what_is_shown_is_left_out(box: str) -> None:
    content = "BT /F 10 Tf 60 160 Td (shown) Tj 0 -130 Td (below) Tj 110 130 Td (beside) Tj ET"
    data = by_hand(
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R {'/MediaBox [0 0 200 200]' * (box == 'CropBox')} /{box} [50 100 150 190] "
        "/Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    assert texts(data) == ["shown"]


def test_a_title_to_the_right_of_the_line_below_comes_first() -> None:
    assert in_order([line(0, 20, "below", 200), line(300, 0, "title", 200)]) == "title\nbelow"


def test_words_of_a_script_from_right_to_left_are_read_that_way() -> None:
    words = [line(120, 0, "\u05d0\u05d1"), line(60, 0, "\u05d2\u05d3"), line(0, 0, "\u05d4")]
    assert in_order(words).split() == ["\u05d0\u05d1", "\u05d2\u05d3", "\u05d4"]
    right = [line(200, 12 * i, "\u05d0\u05d1", 150) for i in range(3)]
    left = [line(0, 12 * i, "\u05d2\u05d3", 150) for i in range(3)]
    assert in_order([*left, *right]).split() == ["\u05d0\u05d1"] * 3 + ["\u05d2\u05d3"] * 3


# --- what is refused ----------------------------------------------------------------------------------------------


def test_encrypted_pdfs_say_so_and_those_with_an_empty_password_open() -> None:
    assert texts(made_pdf([(50, 50, "open")], password="")) == ["open"]
    message = refused(made_pdf([(50, 50, "closed")], password="secret"))
    assert message == "pdf: it is encrypted: expected one that opens without a password"


@pytest.mark.parametrize("data", [b"", b"x" * 2000, b"\x89PNG\r\n\x1a\n", b" " * 2000 + b"%PDF-1.4"])
def test_what_is_no_pdf_is_refused_by_its_first_bytes(data: bytes) -> None:
    message = refused(data)
    assert "expected a PDF" in message
    assert "damaged" not in message


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_cut_pdfs_are_damaged(share: float) -> None:
    data = made_pdf([(50, 50, "text")])
    assert refused(data[: int(len(data) * share)]) == "pdf: the data is damaged or cut off"


HOSTILE = {
    "pages that hold themselves": by_hand(
        "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [2 0 R] /Count 1 >>"
    ),
    "a million pages told": by_hand(
        "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1000000 >>", "<< /Type /Page >>"
    ),
    "a negative count": by_hand(
        "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count -1 >>", "<< /Type /Page >>"
    ),
    "a catalog that is itself": by_hand("1 0 R"),
    "a table that points at itself": b"%PDF-1.4\nxref\n0 1\n0000000000 65535 f \ntrailer\n<< /Root 1 0 R /Prev 9 >>\n"
    b"startxref\n9\n%%EOF",
    "nothing but a head": b"%PDF-1.7\n%%EOF",
    "deep arrays": by_hand("<< /Type /Catalog /Pages 2 0 R >>", "[" * 5000 + "]" * 5000),
    "a script that runs when it is opened": by_hand(
        "<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /JavaScript /JS (while(1);) >> >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 100 100] >>",
    ),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pdfs_are_read_or_refused(data: bytes) -> None:
    try:
        found = decoded(data)
    except MediaError as error:
        words = str(error)
        found = None
    else:
        words = "pdf: "
    assert words.startswith("pdf: ") and "0x" not in words
    assert found is None or len(found.arrays) <= 20


def test_threads_take_turns() -> None:
    data, found = made_pdf([(50, 50, "text")], [(50, 50, "more")]), []

    def read() -> None:
        for _ in range(5):
            found.append(texts(data))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["text", "more"]] * 20


# --- the budget ---------------------------------------------------------------------------------------------------


def budget(n_tokens: int) -> TextBudget:
    """A budget where every character is a token."""
    return TextBudget(lambda text: list(map(ord, text)), lambda ids: "".join(map(chr, ids)), n_tokens)


@pytest.mark.parametrize("n_tokens", [9, 10, 11])
def test_text_is_cut_where_the_budget_ends(n_tokens: int) -> None:
    room = budget(n_tokens)
    [text] = room.share(["0123456789"])
    assert text == ("012345678" + CUT if n_tokens == 9 else "0123456789")
    assert (room.spent, room.cut) == (min(n_tokens, 10), max(0, 10 - n_tokens))


def test_what_short_pages_leave_is_for_long_ones() -> None:
    room = budget(30)
    shared = room.share(["a" * 100, "", "b" * 4, "c" * 50])
    assert shared == ["a" * 13 + CUT, "", "bbbb", "c" * 13 + CUT]
    assert (room.spent, room.cut) == (30, 87 + 37)
    assert room.share(["more"]) == [""]
    assert room.cut == 87 + 37 + 4


@given(st.lists(st.text("ab ", max_size=40), max_size=8), st.integers(0, 100))
def test_the_budget_is_kept_and_used(pages: list[str], n_tokens: int) -> None:
    room = budget(n_tokens)
    shared = room.share(pages)
    total = sum(map(len, pages))
    assert room.spent <= n_tokens and room.spent + room.cut == total
    assert total <= n_tokens or room.spent > n_tokens - len(pages)
    for page, kept in zip(pages, shared, strict=True):
        assert page.startswith(kept.removesuffix(CUT))


def test_a_pdf_is_its_pages_in_order_each_with_its_text() -> None:
    pages = [np.full((4, 4, 3), level, np.uint8) for level in range(3)]
    parts = pdf_parts(pages, ["one", "", "three"], budget(100))
    seen = [int(part.rgb[0, 0, 0]) if isinstance(part, DecodedImage) else part for part in parts]
    assert seen == [0, "Page 1 of 3:\none\n", 1, 2, "Page 3 of 3:\nthree\n"]


def test_a_image_on_a_page_is_that_image() -> None:
    rgb = np.asarray(Image.effect_noise((300, 200), 80).convert("RGB"))
    page = decoded(scan(rgb), area_px=60_000).arrays[0]
    assert np.array_equal(page, rgb)
