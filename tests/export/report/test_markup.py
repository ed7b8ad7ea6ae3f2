"""Elements: everything that goes in is escaped."""

from __future__ import annotations

import pytest

from export.report.markup import element, plain, px, text


def test_text_and_attributes_are_escaped() -> None:
    made = element("p", text("<script>&"), title='"><script>', class_="a b", aria_label=None)
    assert made == '<p title="&quot;&gt;&lt;script&gt;" class="a b">&lt;script&gt;&amp;</p>'


@pytest.mark.parametrize("bad", ["\0", "\x1b", "\n", "\u202e", "\u2067", "\u200b", "\ud800", "\x85", "\ufeff"])
def test_characters_that_nobody_sees_are_replaced(bad: str) -> None:
    assert plain(f"a{bad}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_long_text_is_cut() -> None:
    assert plain("x" * 500, most=10) == "x" * 9 + "…"
    assert plain("x" * 10, most=10) == "x" * 10


@pytest.mark.parametrize(("value", "shown"), [(0.04, "0"), (-0.04, "0"), (1.25, "1.2"), (7.0, "7"), (10.06, "10.1")])
def test_lengths_have_the_fewest_digits(value: float, shown: str) -> None:
    assert px(value) == shown


def test_void_elements_have_no_end() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
