"""Conversations and running text as the positions that a model reads, cut into windows."""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.bundle.manifest import Manifest, PromptSpec
from edge.chat.attachments import Access, open_media
from edge.chat.messages import MediaPart, Message
from edge.chat.pdf_text import TextBudget
from edge.chat.prompt import Turn, pieces
from edge.engine import pieces as kinds
from edge.engine.layout import Positions, Span
from edge.engine.pieces import Control, Piece
from edge.engine.tokenizer import Tokenizer
from edge.errors import EdgeError
from edge.limits import Limits
from export.errors import TextsError
from export.texts.read import Conversation, Entry, Text, scene_number
from export.texts.scenes import numbered

MEDIA_ID: Final = -1  # in `Sequence.ids`, where a row of media is fed


@dataclass(frozen=True, eq=False)
class Sequence:
    """One window of an entry, to be read from position 0 with an empty cache.

    positions: what is fed, media included; ids: (n,) int64, the token at each position, MEDIA_ID at rows of media;
    assistant: (n,) bool, which tokens the assistant wrote: its text, its calls and what ends its turn, without the
    words that open it; of running text none. where: file and line.
    """

    positions: Positions
    ids: npt.NDArray[np.int64]
    assistant: npt.NDArray[np.bool_]
    where: str

    def __len__(self) -> int:
        return len(self.positions)


def supported(entries: Iterable[Entry], manifest: Manifest) -> list[Entry]:
    """The entries that a bundle accepts: images need a vision tower, tools a prompt format that has them."""
    return [entry for entry in entries if isinstance(entry, Text) or _is_supported(entry, manifest)]


def _is_supported(conversation: Conversation, manifest: Manifest) -> bool:
    if conversation.images and manifest.vision is None:
        return False
    return manifest.prompt.tools is not None or not conversation.has_tools


def sequences(entries: Iterable[Entry], *, manifest: Manifest, tokenizer: Tokenizer, window: int) -> Iterator[Sequence]:
    """Lay entries out as a bundle's prompts, in order; those that it does not accept are left out.

    A conversation is what the device feeds for it, whole: the last answer ends with the end of its turn, and after
    anything else the assistant's turn is opened. Running text is fed as it is, behind the ids that every prompt of the
    bundle begins with, if there are any.
    What is longer than `window` positions is cut into windows of nearly equal length; an image is never cut. Of the
    manifest the specs of prompt, vision and audio are read, and the id.
    Raises: TextsError naming the entry for an image that cannot be decoded or has more than `window` positions.
    """
    if window < 1:
        raise ValueError(f"window: expected at least 1 position, got {window}")
    for entry in supported(entries, manifest):
        try:
            laid_out = _layout(entry, manifest, tokenizer)
        except EdgeError as error:
            raise TextsError(f"{entry.where}: {error}") from error
        yield from laid_out.windows(window, entry.where)


def spread(lengths: Items[int], n_positions: int) -> list[int]:
    """Which of some sequences to take: evenly spaced ones, of about n_positions together, at least one."""
    share = min(1.0, n_positions / max(1, sum(lengths)))
    taken = [at for at in range(len(lengths)) if int((at + 1) * share) > int(at * share)]
    return taken or list(range(len(lengths)))[:1]


def _layout(entry: Entry, manifest: Manifest, tokenizer: Tokenizer) -> "_Layout":
    if isinstance(entry, Text):
        first = [Control(manifest.prompt.start_ids)] if manifest.prompt.start_ids else []
        return _Layout([*first, kinds.Text(entry.text)], tokenizer)
    turns = _turns(entry, manifest, tokenizer)
    # An answer that comes last would be left open: it ends where a further turn begins.
    is_answered = turns[-1].role == "assistant"
    whole = [*turns, Turn("user")] if is_answered else turns
    layout = _Layout(pieces(whole, manifest, tools=entry.tools), tokenizer)
    end = 0
    for i, turn in enumerate(turns):
        if turn.role == "assistant":
            # Of two answers in a row the second begins where the first one ends.
            follows = i > 0 and turns[i - 1].role == "assistant"
            start = end if follows else _length(pieces(turns[:i], manifest, tools=entry.tools))
            end = layout.end_of_turn(start, manifest.prompt)
            layout.mark(start, end)
    if is_answered:
        layout.cut(end)
    return layout


def _turns(conversation: Conversation, manifest: Manifest, tokenizer: Tokenizer) -> list[Turn]:
    """Open the images of a conversation."""
    budget = TextBudget(tokenizer.encode, tokenizer.decode, 0)
    messages = [_opened(message, conversation) for message in conversation.messages]
    return open_media(messages, spec=manifest, access=Access(files=True), limits=Limits(), budget=budget)


def _opened(message: Message, conversation: Conversation) -> Message:
    """A message with its scenes drawn and its paths complete."""

    def opened(part: str | MediaPart) -> str | MediaPart:
        if not isinstance(part, MediaPart):
            return part
        number = scene_number(part)
        if number is not None:
            return replace(part, source=numbered(number), is_url=False)
        source = str(part.source)
        return part if source.startswith("data:") else replace(part, source=str(conversation.folder.resolve() / source))

    results = tuple(result if isinstance(result, str) else tuple(map(opened, result)) for result in message.results)
    return replace(message, parts=tuple(map(opened, message.parts)), results=results)


def _length(prompt: Iterable[Piece]) -> int:
    """The length of a prompt in symbols: bytes of text, control ids, and rows of media.

    A prompt of the first turns is, symbol by symbol, the beginning of the prompt of all of them; token by token it
    need not be, where a token goes over the end.
    """
    return sum(map(_n_symbols, prompt))


def _n_symbols(piece: Piece) -> int:
    if isinstance(piece, kinds.Text):
        return len(piece.text.encode())
    return len(piece.ids) if isinstance(piece, Control) else piece.n_tokens


class _Layout:
    """A prompt's spans, and at which symbol each of its positions starts."""

    def __init__(self, prompt: list[Piece], tokenizer: Tokenizer) -> None:
        self._pieces = prompt
        self._spans: list[Span] = []
        ids: list[int] = []
        starts: list[int] = []
        for piece, symbol in zip(prompt, accumulate(map(_n_symbols, prompt), initial=0), strict=False):
            content = _content(piece, tokenizer)
            tokens = content if isinstance(content, tuple) else (MEDIA_ID,) * content.n_tokens
            lengths = [len(tokenizer.token_bytes(token)) if isinstance(piece, kinds.Text) else 1 for token in tokens]
            self._spans.append(Span(len(ids), len(ids) + len(tokens), content))
            starts.extend(list(accumulate(lengths, initial=symbol))[:-1])
            ids.extend(tokens)
        self._starts: npt.NDArray[np.int64] = np.array(starts, np.int64)
        self._ids: npt.NDArray[np.int64] = np.array(ids, np.int64)
        self._assistant: npt.NDArray[np.bool_] = np.zeros(len(ids), np.bool_)

    def end_of_turn(self, start: int, prompt: PromptSpec) -> int:
        """The symbol after what ends a turn of the assistant's that starts at a symbol."""
        stops = np.flatnonzero(np.isin(self._ids, prompt.stop_ids) & (self._starts >= start))
        ends = [int(self._starts[stops[0]]) + 1] if len(stops) else []
        symbol = 0
        for piece in self._pieces:
            if isinstance(piece, kinds.Text):
                data = piece.text.encode()
                found = (data.find(stop.encode(), max(0, start - symbol)) for stop in prompt.stop_strings)
                ends += [
                    symbol + at + len(stop.encode())
                    for at, stop in zip(found, prompt.stop_strings, strict=True)
                    if at >= 0
                ]
            symbol += _n_symbols(piece)
        return min(ends, default=symbol)

    def mark(self, start: int, end: int) -> None:
        """Say that the assistant wrote the symbols start to end - 1."""
        self._assistant[(self._starts >= start) & (self._starts < end)] = True

    def cut(self, end: int) -> None:
        """Leave out what comes from a symbol on."""
        n = int(np.searchsorted(self._starts, end))
        self._spans = _between(self._spans, 0, n)
        self._ids, self._starts, self._assistant = self._ids[:n], self._starts[:n], self._assistant[:n]

    def windows(self, window: int, where: str) -> Iterator[Sequence]:
        """Cut the positions into as few windows as there can be, of nearly equal length."""
        start = 0
        while start < len(self._ids):
            left = len(self._ids) - start
            stop = self._uncut(start, start + -(-left // -(-left // window)))
            if stop - start > window:
                raise TextsError(f"{where}: an image has {stop - start} positions, expected at most {window}")
            spans = _between(self._spans, start, stop)
            yield Sequence(Positions(spans), self._ids[start:stop], self._assistant[start:stop], where)
            start = stop

    def _uncut(self, start: int, stop: int) -> int:
        """Where a window ends that would end at `stop`: before an image that it would cut, or behind its first."""
        for span in self._spans:
            if not isinstance(span.content, tuple) and span.start < stop < span.stop:
                return span.start if span.start > start else span.stop
        return stop


def _content(piece: Piece, tokenizer: Tokenizer) -> "tuple[int, ...] | kinds.Media | kinds.Audio | kinds.Encoded":
    if isinstance(piece, kinds.Text):
        return tuple(tokenizer.encode(piece.text))
    return piece.ids if isinstance(piece, Control) else piece


def _between(spans: Iterable[Span], start: int, stop: int) -> list[Span]:
    """The spans from position start to stop - 1 as spans of their own; no media are cut there."""
    found = []
    for span in spans:
        first, last = max(start, span.start), min(stop, span.stop)
        if first < last:
            content = span.content
            part = content[first - span.start : last - span.start] if isinstance(content, tuple) else content
            found.append(Span(first - start, last - start, part))
    return found
