"""A prompt as positions: what stands at each, and the rows that are fed for them."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge.arrays import F32
from edge.engine.cache import ALIGNED
from edge.engine.embedding import Embedding
from edge.engine.pieces import Audio, Control, Encoded, Media, Piece, Text
from edge.engine.tokenizer import Tokenizer
from edge.errors import ContextLengthError

MAX_CHUNK = 32 * ALIGNED


@dataclass(frozen=True, eq=False)
class Span:
    """A piece at the positions start to stop - 1: token ids, or media."""

    start: int
    stop: int
    content: tuple[int, ...] | Media | Audio | Encoded


class Positions:
    """A prompt laid out. keys: a token's id, or a digest of media and a row: equal keys mean equal rows."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.keys: list[Hashable] = []
        self.spans = tuple(spans)
        for span in spans:
            content = span.content
            if isinstance(content, tuple):
                self.keys.extend(content)
            else:
                self.keys.extend((content.digest, row) for row in range(content.n_tokens))

    def __len__(self) -> int:
        return len(self.keys)

    def media(self, start: int, stop: int) -> list[Media | Audio | Encoded]:
        """Return the media that stand, in part at least, at the positions start to stop - 1."""
        return [span.content for span, _, _ in self._between(start, stop) if not isinstance(span.content, tuple)]

    def place(self, media: Media | Audio) -> tuple[int, int]:
        """Return which of the media of its kind one is, from 1 on, and how many there are."""
        alike = [span.content for span in self.spans if _kind(span.content) == _kind(media)]
        return next(i for i, each in enumerate(alike, 1) if each is media), len(alike)

    def embeddings(self, start: int, stop: int, embedding: Embedding, media: Mapping[str, F32]) -> F32:
        """Return the rows of the positions start to stop - 1: (n, H) float32. media: (n_tokens, H) by digest."""
        rows = []
        for span, first, last in self._between(start, stop):
            if isinstance(span.content, tuple):
                rows.append(embedding.rows(span.content[first:last]))
            else:
                rows.append(media[span.content.digest][first:last])
        return np.concatenate(rows)

    def _between(self, start: int, stop: int) -> Iterator[tuple[Span, int, int]]:
        """Yield (span, its first row, its last row + 1) for what lies between two positions."""
        for span in self.spans:
            first, last = max(start, span.start), min(stop, span.stop)
            if first < last:
                yield span, first - span.start, last - span.start


def lay_out(pieces: Sequence[Piece], tokenizer: Tokenizer, *, limit: int) -> Positions:
    """Encode the text of a prompt and give every piece its positions.

    Raises: ContextLengthError when there are more than `limit`; TextError for a text that cannot be encoded.
    """
    least = sum(_fewest(piece, tokenizer) for piece in pieces)
    if least > limit:  # far too long: the count is a lower bound, but nobody waits for megabytes to be encoded
        raise ContextLengthError(least, limit, at_least=True)
    spans: list[Span] = []
    at = 0
    for piece in pieces:
        content = piece if isinstance(piece, Media | Audio | Encoded) else _ids(piece, tokenizer)
        size = len(content) if isinstance(content, tuple) else content.n_tokens
        spans.append(Span(at, at + size, content))
        at += size
    if at > limit:
        raise ContextLengthError(at, limit)
    return Positions(spans)


def chunks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut positions into chunks of MAX_CHUNK rows and a last one of what is left.

    One row alone takes another way through the kernels, a few bits off: answers would depend on where chunks end. So
    where a single row would be left, the chunk before it leaves it ALIGNED more. For the same reason MAX_CHUNK is a
    multiple of ALIGNED: no group that kernels compute is cut.
    """
    while start < stop:
        end = min(start + MAX_CHUNK, stop)
        if stop - end == 1:
            end -= ALIGNED
        yield start, end
        start = end


def _kind(content: tuple[int, ...] | Media | Audio | Encoded) -> object:
    return content.kind if isinstance(content, Media) else type(content)


def _ids(piece: Control | Text, tokenizer: Tokenizer) -> tuple[int, ...]:
    return piece.ids if isinstance(piece, Control) else tuple(tokenizer.encode(piece.text))


def _fewest(piece: Piece, tokenizer: Tokenizer) -> int:
    if isinstance(piece, Text):
        return tokenizer.fewest_ids(piece.text)
    return len(piece.ids) if isinstance(piece, Control) else piece.n_tokens
