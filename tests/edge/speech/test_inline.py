"""Markdown within a sentence as plain text: what is read of marks, links, addresses, formulas and emojis."""

from __future__ import annotations

import random

import pytest

from edge.speech.inline import plain


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("**Bold**, *it*, ***both***, _u_, __v__ and ~~no~~.", "Bold, it, both, u, v and no."),
        ("snake_case and a*b and 5 * 3", "snake_case and a*b and 5 × 3"),
        ("See [the docs](https://x.y/z_(a) \"t\") and ![a cat](a.png).", "See the docs and a cat."),
        ("A [reference][1], a note[^2].", "A reference, a note."),
        ("Use `a_b*c` and ``x ` y`` here", "Use a_b*c and x ` y here"),
        ("A \\*star\\* and 5 \\$", "A *star* and 5 $"),
        ("Q&amp;A", "Q&A"),
        ("Go to https://www.Example.com/a/b?c=d. Or (https://x.org/y).", "Go to example.com. Or (x.org)."),
        ("At https://user:pw@h.org:8080/x, www.foo.de/x or mailto:me@x.de", "At h.org, foo.de or me@x.de"),
        ("It costs $5 and $6, or $5-$6.", "It costs $5 and $6, or $5-$6."),
        ("So $x$ is $\\frac{a}{b}$, \\(x^2\\) is $5$.", "So x is, is 5."),
        ("Hi 👋🏽 there 👨‍👩‍👧, ✅ done :-) ☀️", "Hi there, done"),
        ("1️⃣ One", "1 One"),
        ("A → B -> C", "A, B, C"),
        ("[x] done", "done"),
        ("A heading ##", "A heading"),
        ("A line\\", "A line"),
        ("[ref]: https://x.y/z \"Title\"", ""),
        ("Half a [link that was cut", "Half a [link that was cut"),
        ("and its end](https://a.b/c) here", "and its end here"),
        ("5 °C, © x² ½", "5 °C, © x² ½"),
        ("می‌خواهم", "می‌خواهم"),
        ("😀", ""),
        ("***", ""),
        ("()", ""),
    ],
)  # fmt: skip
def test_a_sentence_is_read_as(markdown: str, text: str) -> None:
    assert plain(markdown) == text


def test_plain_text_stays_as_it_is() -> None:
    text = "It's 5 o'clock, isn't it? Yes (it is): 3-4 people; \"so\" he said - and 50% left!"
    assert plain(text) == text


def test_any_signs_are_read_without_an_error() -> None:
    chance = random.Random(3)
    for _ in range(3000):
        text = "".join(chance.choices("*_`[]()!~\\$|<>&;#:/.ab 1w🙂", k=chance.randrange(1, 60)))
        found = plain(text)
        assert found == " ".join(found.split())
        assert "🙂" not in found or "`" in text
