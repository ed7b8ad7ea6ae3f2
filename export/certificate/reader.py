"""An opened bundle that reads, answers and steps for its certificate, by the runtime's own parts."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.bundle.bundle import Bundle
from edge.bundle.manifest import Manifest, VisionSpec
from edge.chat.prompt import DecodedImage, Turn, pieces
from edge.engine.cache import Cache
from edge.engine.decoder import Decoder
from edge.engine.embedding import Embedding
from edge.engine.kv import GRAPHS, Kv, kvs_of
from edge.engine.layout import Positions, lay_out
from edge.engine.model import Model, exhaust
from edge.engine.pieces import Media
from edge.engine.session import open_session, thread_count
from edge.engine.tokenizer import Tokenizer
from edge.engine.vision_tower import Vision
from edge.errors import ContextLengthError
from edge.media.image import digest
from edge.media.resized import Resized
from export.arrays import F32, U8
from export.certificate.extent import MAX_ANSWER, SLOTS
from export.certificate.prompts import Question
from export.errors import CertificateError

TEXT_ROOM: Final = 512  # positions for the text of a prompt and its answer
IMAGES_BYTES: Final = 64 << 20  # of embeddings kept for the next questions about a picture
MAX_UNFIT: Final = 200  # prompts in a row that do not fit before giving up


@dataclass(frozen=True, eq=False)
class Answer:
    """A prompt and what the bundle went on with, the token that ended it included."""

    prompt: Positions
    ids: tuple[int, ...]


class Reader:
    """The opened bundle. images: every picture seen; embeds: the bundle's embeddings of them, (tokens, H) by digest."""

    def __init__(self, bundle: Bundle, *, kv: Kv | None = None) -> None:
        """kv: how keys and values are kept, as decoder.onnx has them unless given; with int8 no tower is opened, and
        images are fed as embeddings."""
        self.images: dict[str, U8 | Resized] = {}
        self.embeds: dict[str, F32] = {}
        self.manifest = bundle.manifest
        self.tokenizer = Tokenizer.open(bundle)
        self.capacity = _capacity(bundle.manifest)
        self._model = _model(bundle, self.capacity, kv or kvs_of(bundle.manifest)[0])

    def prompts(self, questions: Iterable[Question]) -> Iterator[Positions]:
        """Lay the prompts out that leave room for an answer."""
        unfit = 0
        for question in questions:
            try:
                prompt = self._lay_out(question)
            except ContextLengthError as error:
                unfit += 1
                if unfit > MAX_UNFIT:
                    raise CertificateError(f"no prompt fits a context of {self.capacity}: {error}") from error
                continue
            unfit = 0
            yield prompt

    def answer(self, prompts: Sequence[Positions]) -> Iterator[tuple[Answer, list[F32]]]:
        """Answer up to SLOTS prompts together, greedily; yields each with the logits of its tokens, (V,) each."""
        for prompt in prompts:
            self.look(prompt)
        rows: dict[int, list[F32]] = {}
        slots = [self._begin(prompt, rows) for prompt in prompts]
        # The last token answered takes no position: nothing is read after it.
        rooms = {slot: min(MAX_ANSWER, self._model.cache.free(slot) + 1) for slot in slots}
        ids = {slot: [int(rows[slot][0].argmax())] for slot in slots}
        while running := [slot for slot in slots if not self._has_ended(ids[slot], rooms[slot])]:
            self._step(running, [ids[slot][-1] for slot in running], rows)
            for slot in running:
                ids[slot].append(int(rows[slot][-1].argmax()))
        for slot, prompt in zip(slots, prompts, strict=True):
            self._model.cache.release(slot)
            yield Answer(prompt, tuple(ids[slot])), rows[slot]

    def follow(self, prompts: Sequence[Positions], ids: Sequence[Sequence[int]]) -> list[F32]:
        """Feed up to SLOTS prompts together and then, step by step, given tokens; returns what predicts each, (n, V).

        ids: equally many for every prompt.
        """
        rows: dict[int, list[F32]] = {}
        slots = [self._begin(prompt, rows) for prompt in prompts]
        for tokens in itertools.islice(zip(*ids, strict=True), len(ids[0]) - 1):
            self._step(slots, tokens, rows)
        for slot in slots:
            self._model.cache.release(slot)
        return [np.stack(rows[slot]) for slot in slots]

    def read(self, positions: Positions, *, n_logits: int) -> F32:
        """Read positions as a prompt; returns the logits of the last n_logits of them, (n_logits, V)."""
        self.look(positions)
        slot = self._model.cache.take(positions.keys, n_read=max(2, n_logits))
        rows: F32 = exhaust(self._model.read(positions, slot, n_logits=n_logits, owner=None))
        self._model.cache.release(slot)
        return rows

    def look(self, positions: Positions) -> None:
        """Have the pictures of a prompt embedded that were not seen yet."""
        for media in positions.media(0, len(positions)):
            if isinstance(media, Media):
                self._look(media)

    def _begin(self, prompt: Positions, rows: dict[int, list[F32]]) -> int:
        """Read a prompt; returns its slot."""
        slot = self._model.cache.take(prompt.keys, n_read=2)
        rows[slot] = [exhaust(self._model.read(prompt, slot, n_logits=1, owner=None))[0]]
        return slot

    def _step(self, slots: Sequence[int], tokens: Sequence[int], rows: dict[int, list[F32]]) -> None:
        for slot, row in zip(slots, self._model.step(slots, tokens), strict=True):
            rows[slot].append(row)

    def _has_ended(self, ids: list[int], room: int) -> bool:
        return ids[-1] in self.manifest.prompt.stop_ids or len(ids) == room

    def _lay_out(self, question: Question) -> Positions:
        image = question.image
        parts = (question.text,) if image is None else (DecodedImage(image, digest(image)), question.text)
        # One position at least is left for the answer to grow.
        return lay_out(pieces([Turn("user", parts)], self.manifest), self.tokenizer, limit=self.capacity - 1)

    def _look(self, media: Media) -> None:
        if media.digest not in self.embeds and self._model.vision is not None:
            rows = exhaust(self._model.encode(media, owner=None))
            self._model.vision.recent.remember(media.digest, rows)
            self.images[media.digest], self.embeds[media.digest] = media.rgb, rows


def _model(bundle: Bundle, capacity: int, kv: Kv) -> Model:
    """Open the graphs as the engine does, for SLOTS answers."""
    text, spec, threads = bundle.manifest.text, bundle.manifest.vision, thread_count(None)
    cache = Cache(text, capacity=capacity, slots=SLOTS, kv=kv)
    session = open_session(bundle.file(GRAPHS[kv]), threads=threads)
    decoder = Decoder(session, text, cache)
    vision = None
    if spec is not None and kv != "int8":
        file = bundle.file("vision.onnx")
        vision = Vision(lambda: open_session(file, threads=threads), spec, text.hidden_size, limit_bytes=IMAGES_BYTES)
    return Model(decoder, Embedding(bundle), vision)


def _capacity(manifest: Manifest) -> int:
    """Positions a prompt and its answer may take."""
    vision: VisionSpec | None = manifest.vision
    images = 0 if vision is None else (vision.max_tiles + 1) * vision.tokens_per_tile
    return min(manifest.text.context, images + TEXT_ROOM)
