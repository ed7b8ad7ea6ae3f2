"""Pieces that every section of the page is made of: figures, tables, legends, and the marks beside names."""

from collections.abc import Sequence

from export.report.axes import Mark, mark
from export.report.markup import EMPTY, Markup, element, text
from export.report.subject import Subject


def mark_of(subject: Subject) -> Mark:
    """Return how a bundle is drawn in every plot."""
    return Mark(subject.number, subject.leads)


def section(title: str, *children: Markup) -> Markup:
    """Return a section with its heading."""
    return element("section", element("h2", text(title)), *children)


def prose(words: str, class_: str | None = None) -> Markup:
    """Return a paragraph."""
    return element("p", text(words, most=4000), class_=class_)


def figure(drawing: Markup, behind: Markup) -> Markup:
    """Return a drawing with the table of its figures, folded."""
    return element("figure", drawing, folded("The figures as a table", behind))


def folded(summary: str, *children: Markup) -> Markup:
    """Return what opens under its summary."""
    return element("details", element("summary", text(summary)), *children)


def table(heads: Sequence[str], rows: Sequence[Sequence[Markup]], caption: str, *, n_names: int = 1) -> Markup:
    """Return a table that scrolls by itself where the page is narrow; the first n_names columns are names."""
    head = element("tr", *(_head(words, place < n_names) for place, words in enumerate(heads)))
    body = [element("tr", *(_cell(cell, place, n_names) for place, cell in enumerate(row))) for row in rows]
    inside = element(
        "table", element("caption", text(caption)), element("thead", head), element("tbody", *body)
    )  # fmt: skip
    return element("div", inside, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _head(words: str, is_name: bool) -> Markup:
    return element("th", text(words), scope="col", class_="words" if is_name else None)


def _cell(cell: Markup, place: int, n_names: int) -> Markup:
    if place == 0:
        return element("th", cell, scope="row")
    return element("td", cell, class_="words" if place < n_names else None)


def name(subject: Subject) -> Markup:
    """Return a bundle's mark and its label."""
    return element("span", glyph(subject), text(subject.label), class_="bundle")


def glyph(subject: Subject) -> Markup:
    """Return a bundle's mark alone, as large as a letter."""
    return element("svg", mark(mark_of(subject), 8, 8), viewBox="0 0 16 16", width=16, height=16, aria_hidden="true")


def legend(subjects: Sequence[Subject]) -> Markup:
    """Return the marks of all bundles with their labels; nothing for a single one."""
    if len(subjects) < 2:
        return EMPTY
    return element("ul", *(element("li", name(subject)) for subject in subjects), class_="legend")


def values(cells: Sequence[str]) -> list[Markup]:
    """Return plain strings as cells."""
    return [text(cell) for cell in cells]


def terms(pairs: Sequence[tuple[str, str]], class_: str | None = None) -> Markup:
    """Return terms and what belongs to each."""
    inside = [element("div", element("dt", text(term)), element("dd", text(words, most=4000))) for term, words in pairs]
    return element("dl", *inside, class_=class_)
