"""What is scored of an evaluation file: windows of running text, and what the assistant says in conversations.

The tokens are given, not chosen (teacher forcing): bundle and reference read the same ones, and both say at every
scored position what should come next.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from edge.bundle.manifest import Manifest
from edge.engine.layout import Positions, Span
from edge.engine.tokenizer import Tokenizer
from export.errors import TextsError
from export.texts import sequences as laid_out
from export.texts.read import Conversation, Entry, Text

Kind = Literal["text", "chat", "images"]

KINDS: Final[tuple[Kind, ...]] = ("text", "chat", "images")
WARM_UP: Final = 16  # tokens of a window that are read and not scored: nothing can be foretold of its first words


@dataclass(frozen=True, eq=False)
class Passage:
    """positions: what is read; scored: ascending positions whose next token is scored; targets: those tokens."""

    kind: Kind
    positions: Positions
    scored: tuple[int, ...]
    targets: tuple[int, ...]

    def limited(self, n: int) -> "Passage":
        """The same with its first n scored positions alone; what follows them is not read."""
        if n >= len(self.scored):
            return self
        return Passage(self.kind, first(self.positions, self.scored[n - 1] + 1), self.scored[:n], self.targets[:n])


class Passages:
    """The passages of an evaluation file for one bundle.

    skipped: why entries are left out that this bundle cannot read (a character that its tokenizer has no tokens for).
    """

    def __init__(self, entries: Sequence[Entry], manifest: Manifest, tokenizer: Tokenizer) -> None:
        self.skipped: list[str] = []
        self._entries = entries
        self._manifest = manifest
        self._tokenizer = tokenizer

    def windows(self, *, size: int) -> Iterator[Passage]:
        """Running text in windows of at most `size` tokens: the first of every text, then the second of every text.

        A window of fewer than WARM_UP + 2 tokens is left out.
        """
        cut = [self._windows(entry, size) for entry in self._entries if isinstance(entry, Text)]
        for window in itertools.chain.from_iterable(itertools.zip_longest(*cut)):
            if window is not None and len(window) >= WARM_UP + 2:
                yield _passage("text", window, range(WARM_UP - 1, len(window) - 1))

    def conversations(self, *, size: int) -> Iterator[Passage]:
        """Conversations that the bundle accepts, in windows of `size` positions; what the assistant says is scored."""
        for entry in self._talks():
            for window in self._windows(entry, size):
                scored = [at for at in range(len(window) - 1) if window.assistant[at + 1]]
                if scored:
                    kind: Kind = "images" if window.positions.media(0, len(window)) else "chat"
                    yield _passage(kind, window, scored)

    def questions(self, *, size: int) -> Iterator[Positions]:
        """The prompts of conversations that end with something to answer, where they have at most `size` positions."""
        for entry in self._talks():
            if entry.messages[-1].role != "assistant":
                cut = list(self._windows(entry, size))
                if len(cut) == 1:
                    yield cut[0].positions

    def _talks(self) -> list[Conversation]:
        return [entry for entry in self._entries if isinstance(entry, Conversation)]

    def _windows(self, entry: Entry, size: int) -> Iterator[laid_out.Sequence]:
        cut = laid_out.sequences([entry], manifest=self._manifest, tokenizer=self._tokenizer, window=max(1, size))
        try:
            yield from cut
        except TextsError as error:
            if str(error) not in self.skipped:
                self.skipped.append(str(error))


def limited(passages: Iterator[Passage], limits: Mapping[Kind, int]) -> Iterator[Passage]:
    """Passages until every kind has as many scored positions as its limit, the last one cut."""
    left = dict(limits)
    for passage in passages:
        room = left.get(passage.kind, 0)
        if room > 0:
            cut = passage.limited(room)
            left[passage.kind] = room - len(cut.scored)
            yield cut
        if not any(left.values()):
            return


def first(positions: Positions, stop: int) -> Positions:
    """The first `stop` positions, which do not end inside of media."""
    spans: list[Span] = []
    for span in positions.spans:
        if span.start >= stop:
            break
        content = span.content
        if isinstance(content, tuple) and span.stop > stop:
            content = content[: stop - span.start]
        spans.append(Span(span.start, min(span.stop, stop), content))
    return Positions(spans)


def followed_by(positions: Positions, ids: Sequence[int]) -> Positions:
    """The same positions and some tokens behind them."""
    n = len(positions)
    return Positions([*positions.spans, Span(n, n + len(ids), tuple(ids))] if ids else positions.spans)


def _passage(kind: Kind, window: laid_out.Sequence, scored: Sequence[int]) -> Passage:
    """What follows the last scored position is scored, and read by nobody."""
    targets = tuple(int(window.ids[at + 1]) for at in scored)
    return Passage(kind, first(window.positions, scored[-1] + 1), tuple(scored), targets)
