"""Tags of HTML and boxes of answers, left out of a text that still grows."""

import re

from edge.speech.markdown_blocks import HARD, SOFT

_MAX_CHARS = 200
_BOX = re.compile(r"</?\s*b?box\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"</?\s*[a-z][a-z0-9-]*(?:\s[^<>]*)?/?>|<!--.*-->", re.IGNORECASE)
_BLOCKS = "p|div|li|ul|ol|tr|table|h[1-6]|summary|details|blockquote|dl|dt|dd|pre|section|article|figcaption"
_LINE_END = re.compile(rf"<(?:br|hr|/?(?:{_BLOCKS}))(?:\s[^<>]*)?/?>", re.IGNORECASE)
_CELL_END = re.compile(r"</t[dh]\s*>", re.IGNORECASE)
_LINK = re.compile(r"<((?:https?://|mailto:)[^\s<>]+|[^\s<>@]+@[^\s<>@]+)>", re.IGNORECASE)
_CORNERS = re.compile(r"[\d\s.,;()\[\]%+-]*")


class Tags:
    """Leaves tags out as they come, and the corners of boxes with them; labels of boxes are read.

    What is no tag stays: "a < b", and everything in inline code. `<br>` ends a line, links in `<>` are links.
    """

    def __init__(self) -> None:
        self._held = ""  # from a "<" on
        self._corners: str | None = None  # what stands in a box so far
        self._is_code = False

    def add(self, text: str) -> str:
        """Return what can be read of a text by now; an end of line is passed on, and what is held in front of it."""
        return "".join(map(self._take, text))

    def _take(self, c: str) -> str:
        if c in (SOFT, HARD):
            held, self._held, self._is_code = self._held, "", False
            return self._in_box(held) + self._left() + c
        if self._held:
            return self._hold(c)
        if c == "<" and not self._is_code:
            self._held = c
            return ""
        if c == "`":
            self._is_code = not self._is_code
        return self._in_box(c)

    def _hold(self, c: str) -> str:
        """Take what may be a tag a character further."""
        if c == "<":
            held, self._held = self._held, c
            return self._in_box(held)
        self._held += c
        if c == ">":
            tag, self._held = self._held, ""
            return self._tag(tag)
        if (len(self._held) == 2 and not (c.isalpha() or c in "/!")) or len(self._held) > _MAX_CHARS:
            held, self._held = self._held, ""
            return self._in_box(held)
        return ""

    def _tag(self, tag: str) -> str:
        if _BOX.fullmatch(tag):
            self._corners = "" if not tag.startswith("</") else None
            return ""
        self._corners = None
        link = _LINK.fullmatch(tag)
        if link is not None:
            return link[1]
        if _LINE_END.fullmatch(tag):
            return SOFT
        if _CELL_END.fullmatch(tag):
            return ", "
        return "" if _TAG.fullmatch(tag) else tag

    def _in_box(self, text: str) -> str:
        """Hold back the corners of a box; what is no corner is text, and so is what was held back before it."""
        if self._corners is None:
            return text
        self._corners += text
        if _CORNERS.fullmatch(self._corners) and len(self._corners) <= _MAX_CHARS:
            return ""
        return self._left()

    def _left(self) -> str:
        """Give back what stands in a box that is none."""
        corners, self._corners = self._corners or "", None
        return "" if _CORNERS.fullmatch(corners) else corners
