"""A bundle's own greedy answers and the logits behind them, computed by the runtime's own parts."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from edge.bundle.bundle import Bundle
from edge.bundle.manifest import Manifest, VisionSpec
from edge.chat.prompt import DecodedImage, Turn, pieces
from edge.engine.cache import Cache
from edge.engine.decoder import Decoder
from edge.engine.embedding import Embedding
from edge.engine.layout import Positions, lay_out
from edge.engine.model import Model, Units
from edge.engine.pieces import Media
from edge.engine.session import open_session, thread_count
from edge.engine.tokenizer import Tokenizer
from edge.engine.vision_tower import Vision
from edge.errors import ContextLengthError
from edge.media.image import digest
from export.arrays import F32, U8
from export.certificate.prompts import MAX_ANSWER, SLOTS, Question
from export.errors import CertificateError

TEXT_ROOM: Final = 512  # positions for the text of a prompt and its answer
IMAGES_BYTES: Final = 64 << 20  # of embeddings kept for the next questions about a picture
MAX_UNFIT: Final = 200  # prompts in a row that do not fit before giving up


@dataclass(frozen=True, eq=False)
class Answer:
    """A prompt and what the bundle went on with, the token that ended it included."""

    prompt: Positions
    ids: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Transcript:
    """All answers in order; pictures: what was seen, and the bundle's embeddings (tokens, H), by digest."""

    answers: tuple[Answer, ...]
    images: Mapping[str, U8]
    embeds: Mapping[str, F32]

    @property
    def positions(self) -> int:
        """How many tokens were answered in all."""
        return sum(len(answer.ids) for answer in self.answers)


def answer_all(bundle: Bundle, questions: Iterable[Question], *, logits: Path) -> Iterator[Transcript]:
    """Answer questions greedily, a few at a time; yields all answers so far after each group, until nobody asks more.

    logits: a new file; one row (V,) of float32 per token answered, in the order of the transcript.
    Raises: CertificateError when no prompt fits the model's context or a logit is not finite.
    """
    reader = _Reader(bundle)
    answers: list[Answer] = []
    with logits.open("xb") as file:
        for group in _groups(reader.prompts(questions)):
            for answer, rows in reader.answer(group):
                _write(file, rows)
                answers.append(answer)
            file.flush()
            yield Transcript(tuple(answers), dict(reader.images), dict(reader.embeds))


def _groups(prompts: Iterator[Positions]) -> Iterator[list[Positions]]:
    while group := list(itertools.islice(prompts, SLOTS)):
        yield group


def _write(file: BinaryIO, rows: list[F32]) -> None:
    for row in rows:
        if not np.isfinite(row).all():
            raise CertificateError("an answer of the bundle has a logit that is not finite")
        file.write(row.tobytes())


class _Reader:
    """The opened bundle: lays prompts out, looks at pictures, answers."""

    def __init__(self, bundle: Bundle) -> None:
        self.images: dict[str, U8] = {}
        self.embeds: dict[str, F32] = {}
        self._manifest = bundle.manifest
        self._tokenizer = Tokenizer.open(bundle)
        self._capacity = _capacity(bundle.manifest)
        self._model = _model(bundle, self._capacity)

    def prompts(self, questions: Iterable[Question]) -> Iterator[Positions]:
        """Lay the prompts out that leave room for an answer; look at their pictures."""
        unfit = 0
        for question in questions:
            try:
                prompt = self._lay_out(question)
            except ContextLengthError as error:
                unfit += 1
                if unfit > MAX_UNFIT:
                    raise CertificateError(f"no prompt fits a context of {self._capacity}: {error}") from error
                continue
            unfit = 0
            for media in prompt.media(0, len(prompt)):
                if isinstance(media, Media):
                    self._look(media)
            yield prompt

    def answer(self, prompts: list[Positions]) -> Iterator[tuple[Answer, list[F32]]]:
        """Answer up to SLOTS prompts together; yields each with the logits of its tokens, (V,) each."""
        slots, rows, ids, rooms = [], {}, {}, {}
        for prompt in prompts:
            slot = self._model.cache.take(prompt.keys, n_read=2)
            slots.append(slot)
            rows[slot] = [_exhaust(self._model.read(prompt, slot, n_logits=1, owner=None))[0]]
            ids[slot] = [int(rows[slot][0].argmax())]
            # The last token answered takes no position: nothing is read after it.
            rooms[slot] = min(MAX_ANSWER, self._model.cache.free(slot) + 1)
        while running := [slot for slot in slots if not self._has_ended(ids[slot], rooms[slot])]:
            for slot, row in zip(running, self._model.step(running, [ids[slot][-1] for slot in running]), strict=True):
                rows[slot].append(row)
                ids[slot].append(int(row.argmax()))
        for slot, prompt in zip(slots, prompts, strict=True):
            self._model.cache.release(slot)
            yield Answer(prompt, tuple(ids[slot])), rows[slot]

    def _has_ended(self, ids: list[int], room: int) -> bool:
        return ids[-1] in self._manifest.prompt.stop_ids or len(ids) == room

    def _lay_out(self, question: Question) -> Positions:
        image = question.image
        parts = (question.text,) if image is None else (DecodedImage(image, digest(image)), question.text)
        # One position at least is left for the answer to grow.
        return lay_out(pieces([Turn("user", parts)], self._manifest), self._tokenizer, limit=self._capacity - 1)

    def _look(self, media: Media) -> None:
        if media.digest not in self.embeds and self._model.vision is not None and isinstance(media.rgb, np.ndarray):
            rows = _exhaust(self._model.encode(media, owner=None))
            self._model.vision.recent.remember(media.digest, rows)
            self.images[media.digest], self.embeds[media.digest] = media.rgb, rows


def _model(bundle: Bundle, capacity: int) -> Model:
    """Open the graphs as the engine does, for SLOTS answers."""
    text, spec, threads = bundle.manifest.text, bundle.manifest.vision, thread_count(None)
    cache = Cache(text, capacity=capacity, slots=SLOTS)
    session = open_session(bundle.file("decoder.onnx"), threads=threads)
    decoder = Decoder(session, text, cache, in_pairs=bundle.manifest.recipe.in_blocks)
    vision = None
    if spec is not None:
        session = open_session(bundle.file("vision.onnx"), threads=threads)
        vision = Vision(session, spec, text.hidden_size, limit_bytes=IMAGES_BYTES)
    return Model(decoder, Embedding(bundle), vision)


def _exhaust(units: Units[F32]) -> F32:
    """Do all units of work and return the result."""
    while True:
        try:
            next(units)
        except StopIteration as end:
            result: F32 = end.value
            return result


def _capacity(manifest: Manifest) -> int:
    """Positions a prompt and its answer may take."""
    vision: VisionSpec | None = manifest.vision
    images = 0 if vision is None else (vision.max_tiles + 1) * vision.tokens_per_tile
    return min(manifest.text.context, images + TEXT_ROOM)


def file_rows(logits: Path, *, n_rows: int, vocab_size: int) -> F32:
    """The rows written by `answer_all`, mapped: (n_rows, V).

    Raises: CertificateError when the file is not that large.
    """
    expected = n_rows * vocab_size * 4
    found = logits.stat().st_size
    if found != expected:
        raise CertificateError(f"{logits.name}: {found} bytes, expected {expected}")
    return np.memmap(logits, np.float32, "r", shape=(n_rows, vocab_size))
