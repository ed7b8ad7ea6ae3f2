"""PDFs in a prompt: page by page an image, then the page's text, within a budget of tokens that is reported."""

from collections.abc import Callable, Sequence

from edge.arrays import U8
from edge.chat.prompt import DecodedImage, Part
from edge.media.image import digest

CUT = " […]"


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


def pdf_parts(pages: Sequence[U8], texts: Sequence[str], budget: TextBudget) -> list[Part]:
    """Return a PDF as parts of a message: each page's image, and its text with its number if it has one."""
    parts: list[Part] = []
    for number, (rgb, text) in enumerate(zip(pages, budget.share(texts), strict=True), 1):
        parts.append(DecodedImage(rgb, digest(rgb)))
        if text:
            parts.append(f"Page {number} of {len(pages)}:\n{text}\n")
    return parts
