"""A bundle's graphs and tables as one model: reads prompts unit by unit, steps, looks at images; knows no queue."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from edge.arrays import F32
from edge.bundle.manifest import VisionSpec
from edge.engine.ahead import ahead
from edge.engine.audio_tower import AudioTower
from edge.engine.decoder import Decoder
from edge.engine.embedding import Embedding
from edge.engine.embedding_cache import EmbeddingCache
from edge.engine.handle import Reading
from edge.engine.layout import Positions, chunks
from edge.engine.opening import Waiting
from edge.engine.pieces import Audio, Encoded, Media
from edge.engine.session import run_options, shrink
from edge.engine.vision_tower import Vision
from edge.errors import MediaError, NonFiniteError
from edge.media.tiles import frame_tile, tiles
from edge.media.windows import windows

if TYPE_CHECKING:
    import onnxruntime as ort

T = TypeVar("T")
Units = Generator[
    Reading | Waiting | None, None, T
]  # yields between units of work, one chunk or one tile each: what comes next


class Owner(Protocol):
    """Whoever a run is for; a run for one that is cancelled ends at its next node."""

    @property
    def cancelled(self) -> bool:
        """Whether the result is no longer wanted."""


@dataclass
class Work:
    """What was done so far: rows, tokens, tiles and windows of audio, and the seconds they took.

    n_drafted: tokens that were guessed and fed with others; n_accepted: those of them that were right.
    """

    n_read: int = 0
    read_s: float = 0.0
    n_generated: int = 0
    step_s: float = 0.0
    n_drafted: int = 0
    n_accepted: int = 0
    n_tiles: int = 0
    tile_s: float = 0.0
    n_windows: int = 0
    window_s: float = 0.0

    def verified(self, n_drafted: int, n_accepted: int) -> None:
        """Note a step with guesses."""
        self.n_generated += 1 + n_accepted
        self.n_drafted += n_drafted
        self.n_accepted += n_accepted


class Runs:
    """The run under way, and how to end it from another thread."""

    def __init__(self) -> None:
        self._current: tuple[Owner | None, ort.RunOptions] | None = None
        self._stopped = False

    @contextmanager
    def options(self, owner: Owner | None) -> Iterator["ort.RunOptions"]:
        """Give the options of a run for one conversation, or for several (None)."""
        options = run_options()
        self._current = (owner, options)
        # Looked at after _current is set: whoever cancels sets the flag first and looks at _current then.
        options.terminate = self._stopped or (owner is not None and owner.cancelled)
        try:
            yield options
        finally:
            self._current = None

    def end(self, owner: Owner) -> None:
        """End the run under way if it is for this owner alone."""
        current = self._current
        if current is not None and current[0] is owner:
            current[1].terminate = True

    def stop(self) -> None:
        """End the run under way and every later one."""
        self._stopped = True
        current = self._current
        if current is not None:
            current[1].terminate = True


class Model:
    """Decoder with its cache, embedding table and towers. One thread at a time."""

    def __init__(
        self, decoder: Decoder, embedding: Embedding, vision: Vision | None, audio: AudioTower | None = None
    ) -> None:
        self.cache = decoder.cache
        self.vision = vision
        self.audio = audio
        self.runs = Runs()
        self.work = Work()
        self._decoder = decoder
        self._embedding = embedding

    @property
    def can_verify(self) -> bool:
        """Whether `verify` gives what `step` gives."""
        return self._decoder.can_verify

    def read(self, positions: Positions, slot: int, *, n_logits: int, owner: Owner | None) -> Units[F32]:
        """Read the rest of a prompt into its slot, yielding between units; returns the last n_logits logits (n, V)."""
        known: dict[str, F32] = {}  # by digest
        scored: list[F32] = []
        first_scored = len(positions) - n_logits
        parts = list(chunks(self.cache.length(slot), len(positions)))
        for start, stop in parts:
            for media in positions.media(start, stop):
                if media.digest not in known:
                    known[media.digest] = yield from self._perceive(media, positions, owner)
            yield Reading("tokens", 0, 0, start, len(positions)) if len(parts) > 1 else None
            embeddings = positions.embeddings(start, stop, self._embedding, known)
            n_here = max(0, stop - max(start, first_scored))
            logits = self._read_chunk(slot, embeddings, max(1, n_here), owner)
            self.cache.wrote(slot, positions.keys[start:stop])
            if n_here:
                scored.append(logits)
            if stop < len(positions):
                following = {media.digest for media in positions.media(stop, stop + 1)}
                known = {digest: rows for digest, rows in known.items() if digest in following}
        return np.concatenate(scored)

    def step(self, slots: Sequence[int], tokens: Sequence[int]) -> F32:
        """Feed each conversation its newest token; return their logits (n, V)."""
        with self._stepping() as options:
            logits = self._decoder.step(slots, self._embedding.rows(tokens), options=options)
        for slot in slots:
            self.cache.grew(slot)
        self.work.n_generated += len(slots)
        return logits

    def verify(self, slot: int, tokens: Sequence[int]) -> F32:
        """Feed one conversation its newest token and guesses of those after it; return the logits (n, V) of each.

        They are the logits that `step` gives for one token after another, as far as the guesses are right; of the
        first alone where `can_verify` turns out to be false. The caller notes in the cache and in `work` how many were
        right.
        """
        with self._stepping() as options:
            return self._decoder.verify(slot, self._embedding.rows(tokens), options=options)

    @contextmanager
    def _stepping(self) -> Iterator["ort.RunOptions"]:
        started = time.monotonic()
        with self.runs.options(None) as options:
            yield options
        self.work.step_s += time.monotonic() - started

    def encode(self, media: Media | Audio, *, owner: Owner | None, place: tuple[int, int] = (1, 1)) -> Units[F32]:
        """Run media through their tower, yielding before each tile or window; returns their embeddings (n_tokens, H).

        place: which of the prompt's media of this kind they are, and of how many.
        Raises: MediaError when the bundle has no such tower or the media are not of n_tokens.
        """
        if isinstance(media, Audio):
            return (yield from self._encode_audio(media, owner, place))
        return (yield from self._look(media, owner, place))

    def encode_tile(self, tile: F32, *, owner: Owner | None, is_last: bool = False) -> F32:
        """Run one tile (3, T, T) through the tower; returns its embeddings (n, H). Raises: MediaError.

        is_last: give the memory of its activations back.
        """
        if self.vision is None:
            raise MediaError("image: this bundle accepts text only")
        self.vision.opening.session()  # its time is none of the tile's
        started = time.monotonic()
        with self.runs.options(owner) as options:
            if is_last:
                shrink(options)
            embeddings = self.vision.encode(tile, options=options)
        self.work.n_tiles += 1
        self.work.tile_s += time.monotonic() - started
        return embeddings

    def forget(self) -> None:
        """Drop what is only kept to be used again."""
        self.cache.forget()
        for tower in (self.vision, self.audio):
            if tower is not None:
                tower.recent.forget()

    def _perceive(self, media: Media | Audio | Encoded, positions: Positions, owner: Owner | None) -> Units[F32]:
        """Return the embeddings of media, from memory if they came lately."""
        if isinstance(media, Encoded):
            return media.embeddings
        tower = self.audio if isinstance(media, Audio) else self.vision
        recent = EmbeddingCache(0) if tower is None else tower.recent
        known = recent.recall(media.digest)
        if known is not None and len(known) == media.n_tokens:
            return known
        embeddings = yield from self.encode(media, owner=owner, place=positions.place(media))
        recent.remember(media.digest, embeddings)
        return embeddings

    def _look(self, media: Media, owner: Owner | None, place: tuple[int, int]) -> Units[F32]:
        if self.vision is None:
            raise MediaError("image: this bundle accepts text only")
        spec = self.vision.spec
        rows: list[F32] = []
        n_tiles = media.n_tokens // spec.tokens_per_tile
        made = _tiles(media, spec)
        yield from self.vision.opening.waits()
        for tile in made if n_tiles == 1 else ahead(made):
            yield Reading(media.kind, *place, len(rows) + 1, n_tiles)
            is_last = place[0] == place[1] and len(rows) + 1 == n_tiles
            rows.append(self.encode_tile(tile, owner=owner, is_last=is_last))
        embeddings = np.concatenate(rows)
        if len(embeddings) != media.n_tokens:
            raise MediaError(f"image: expected {media.n_tokens} positions, its tiles give {len(embeddings)}")
        return embeddings

    def _encode_audio(self, wave: Audio, owner: Owner | None, place: tuple[int, int]) -> Units[F32]:
        if self.audio is None:
            raise MediaError("audio: this bundle has no audio tower")
        rows: list[F32] = []
        yield from self.audio.opening.waits()
        n_windows = -(-wave.n_tokens // self.audio.spec.tokens_per_window)
        for mel in windows(wave.samples, self.audio.spec):
            yield Reading("audio", *place, len(rows) + 1, n_windows)
            started = time.monotonic()
            with self.runs.options(owner) as options:
                rows.append(self.audio.encode(mel, options=options))
            self.work.n_windows += 1
            self.work.window_s += time.monotonic() - started
        embeddings = np.concatenate(rows)[: wave.n_tokens]
        if len(embeddings) != wave.n_tokens:
            raise MediaError(f"audio: expected {wave.n_tokens} positions, its windows give {len(embeddings)}")
        return embeddings

    def _read_chunk(self, slot: int, embeddings: F32, n_logits: int, owner: Owner | None) -> F32:
        started = time.monotonic()
        with self.runs.options(owner) as options:
            logits = self._decoder.read(slot, embeddings, n_logits=n_logits, options=options)
        self.work.n_read += len(embeddings)
        self.work.read_s += time.monotonic() - started
        if not np.isfinite(logits).all():
            raise NonFiniteError(f"position {self.cache.length(slot) + len(embeddings)} of the prompt")
        return logits


def exhaust(units: Units[T]) -> T:
    """Do all units of work at once and return the result."""
    while True:
        try:
            next(units)
        except StopIteration as end:
            result: T = end.value
            return result


def _tiles(media: Media, spec: VisionSpec) -> Iterator[F32]:
    if media.kind == "frame" and isinstance(media.rgb, np.ndarray):
        return iter([frame_tile(media.rgb, spec)])
    return tiles(media.rgb, spec, media.detail)
