"""PDFs in a prompt: page by page an image, then the page's text, within a budget of tokens that is reported."""

from collections.abc import Callable, Sequence

from edge.arrays import U8
from edge.chat.prompt import DecodedImage, Part
from edge.media.detail import AUTO, ONE_TILE, Detail
from edge.media.image import digest

CUT = " […]"
_PAGE_CHARS = 100  # what has fewer may be a scan with a stamp on it, or a slide


class TextBudget:
    """How many tokens of pages' texts one request may hold, and what became of them.

    encode, decode: a tokenizer's. spent: tokens taken so far; cut: tokens that found no room.
    """

    def __init__(
        self, encode: Callable[[str], list[int]], decode: Callable[[Sequence[int]], str], n_tokens: int
    ) -> None:
        self.spent = 0
        self.cut = 0
        self._encode = encode
        self._decode = decode
        self._n_tokens = n_tokens

    def share(self, texts: Sequence[str]) -> list[str]:
        """Return the texts of a PDF's pages; where there is no room for all, each page has the same room.

        What short pages leave is for long ones. A text that is cut ends with CUT.
        """
        ids = [self._encode(text) for text in texts]
        kept = list(texts)
        left = self._n_tokens - self.spent
        for n_after, i in zip(range(len(ids), 0, -1), sorted(range(len(ids)), key=lambda i: len(ids[i])), strict=True):
            room = left // n_after
            if len(ids[i]) > room:
                kept[i] = self._decode(ids[i][:room]).rstrip("\ufffd") + CUT if room else ""
                self.cut += len(ids[i]) - room
            taken = min(room, len(ids[i]))
            self.spent += taken
            left -= taken
        return kept


def pdf_parts(pages: Sequence[U8], texts: Sequence[str], budget: TextBudget, detail: Detail = AUTO) -> list[Part]:
    """Return a PDF as parts of a message: each page's image, and its text with its number if it has one.

    detail: of the pages' images; "auto" is one tile for a page that is read from its text or is blank.
    """
    parts: list[Part] = []
    kept = budget.share(texts)
    for number, (rgb, whole, text) in enumerate(zip(pages, texts, kept, strict=True), 1):
        needs_one = detail.level == "auto" and (_is_text(whole, text) or rgb.min() == rgb.max())
        parts.append(DecodedImage(rgb, digest(rgb), ONE_TILE if needs_one else detail))
        if text:
            parts.append(f"Page {number} of {len(pages)}:\n{text}\n")
    return parts


def _is_text(whole: str, kept: str) -> bool:
    """Return whether a page's text is all in the prompt, and enough to be what the page is about."""
    return kept == whole and sum(not c.isspace() for c in whole) >= _PAGE_CHARS
