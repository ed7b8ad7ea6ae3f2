"""Reads an answer such as `a red circle and two blue squares` into what it claims."""

from __future__ import annotations

import re
from collections import Counter

Thing = tuple[str, str]  # (colour, shape)

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
SHAPES = ("circle", "square", "triangle", "rectangle", "star", "hexagon")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
COUNTS = {word: count for count, word in enumerate(NUMBERS)} | {"a": 1, "an": 1, "another": 1, "zero": 0}
UNNAMED = "?"


def things(answer: str) -> Counter[Thing]:
    """The multiset of (colour, shape) that the answer names; `?` for a shape whose colour is not said.

    Order, commas, plurals, other adjectives and `gray` do not matter; `a red and two blue circles` is three circles.
    """
    found: Counter[Thing] = Counter()
    pending: list[tuple[int, str]] = []
    count: int | None = None
    for word in re.findall(r"[a-z]+|[0-9]+", answer.lower().replace("gray", "grey")):
        single = word if word in COLOURS or word in SHAPES else word.removesuffix("s")
        if word in COUNTS or word.isdigit():
            count = COUNTS[word] if word in COUNTS else int(word)
        elif single in COLOURS:
            pending.append((1 if count is None else count, single))
            count = None
        elif single in SHAPES:
            for number, colour in pending or [(1 if count is None else count, UNNAMED)]:
                found[colour, single] += number
            pending, count = [], None
    return +found


def says_unknown(answer: str) -> bool:
    """Whether the answer says that it does not know, instead of naming shapes."""
    text = answer.lower().replace("\u2019", "'")
    return ("don't know" in text or "do not know" in text) and not things(answer)


def parts(answer: str) -> dict[str, str]:
    """An answer about several pictures by its headings: `first picture: a red circle; second picture: …; in both: …`.

    Empty where a part has no heading or two have the same.
    """
    named = [part.partition(": ") for part in answer.strip().split("; ")]
    found = {heading.lower(): text for heading, colon, text in named if colon}
    return found if len(found) == len(named) else {}
