"""The reasoning that Reka Flash writes before its answer, told apart from the answer. Source: model-family.md, 7."""

from dataclasses import dataclass
from typing import Literal

from edge.bundle.manifest import AnyManifest, Manifest

OPEN, CLOSE = "<reasoning>", "</reasoning>"

Start = Literal["none", "fresh", "open"]


@dataclass(frozen=True)
class Parted:
    """The reasoning so far, and where in the text the answer begins."""

    reasoning: str
    start: int


def reasons(manifest: AnyManifest) -> bool:
    """Return whether a bundle's model writes reasoning before its answers."""
    return isinstance(manifest, Manifest) and manifest.prompt.format == "flash"


def start_of(prefix: str | None) -> Start:
    """Return how an answer begins: with reasoning, perhaps ("fresh"), amid it, or behind it.

    prefix: what the assistant said already, where the answer goes on from there; None for a fresh turn.
    """
    if not prefix:
        return "fresh"
    begun = prefix.lstrip().startswith(OPEN)
    return "open" if begun and CLOSE not in prefix else "none"


def parted(text: str, *, start: Start, ended: bool) -> Parted:
    """Take reasoning and answer apart. text: so far, ended: whether it is whole.

    Half a tag at the end of a text that still grows is neither. Reasoning without an end is all reasoning.
    """
    if start == "none":
        return Parted("", 0)
    begin = 0
    if start == "fresh":
        blank = len(text) - len(text.lstrip())
        if not text.startswith(OPEN, blank):
            is_half = not ended and OPEN.startswith(text[blank:])
            return Parted("", len(text) if is_half else 0)
        begin = blank + len(OPEN)
    end = text.find(CLOSE, begin)
    if end < 0:
        return Parted(_without_half(text[begin:], ended).strip(), len(text))
    behind = end + len(CLOSE)
    return Parted(text[begin:end].strip(), behind + len(text[behind:]) - len(text[behind:].lstrip()))


def _without_half(text: str, ended: bool) -> str:
    """Return a text without what could become the closing tag."""
    n = 0 if ended else next((n for n in range(len(CLOSE) - 1, 0, -1) if text.endswith(CLOSE[:n])), 0)
    return text[: len(text) - n]
