"""Elements of HTML and SVG as strings, everything that is not markup already escaped."""

import html
import re
from typing import Final, NewType

Markup = NewType("Markup", str)  # made here, where everything is escaped, and of the style sheet

EMPTY: Final = Markup("")
_VOID: Final = frozenset({"meta", "br", "wbr", "col"})  # elements of HTML that have no end tag
# Control characters, and those that turn the direction of the text around them: a name needs none.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\uffff]")


def plain(value: str, *, most: int = 200) -> str:
    """Return text without control and direction characters, cut to `most` characters."""
    shown = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", value[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def text(value: str, *, most: int = 200) -> Markup:
    """Return a string as the text of an element."""
    return Markup(html.escape(plain(value, most=most)))


def join(*parts: Markup) -> Markup:
    """Return parts one after another."""
    return Markup("".join(parts))


def element(name: str, /, *children: Markup, **attributes: str | float | None) -> Markup:
    """Return an element; `class_` is class, other underscores are hyphens, None is left out, numbers are rounded."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{''.join(children)}</{name}>")


def px(value: float) -> str:
    """Return a length or a place in the fewest digits, to a tenth of a pixel."""
    shown = f"{value:.1f}".removesuffix(".0")
    return "0" if shown == "-0" else shown


def _value(value: str | float) -> str:
    return px(value) if isinstance(value, int | float) else html.escape(plain(value, most=20_000))
