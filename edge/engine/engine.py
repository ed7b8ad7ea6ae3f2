"""A loaded bundle that answers: opened once, used from any thread, closed to free everything."""

import logging
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge.arrays import F32, U8
from edge.bundle import store
from edge.bundle.bundle import Bundle
from edge.bundle.loaded import LoadedFiles
from edge.bundle.manifest import Manifest
from edge.bundle.shape import of_manifest
from edge.engine import drafting, fit
from edge.engine.answer import Answer, Ends, Options, check
from edge.engine.available import memory
from edge.engine.drafting import Drafting
from edge.engine.generate import Tokens, generate
from edge.engine.grammar.constraint import Grammars, GrammarStats
from edge.engine.handle import Handle, Progress
from edge.engine.kv import KVS, CacheChoice, Kv
from edge.engine.layout import Positions, lay_out
from edge.engine.loading import load_model
from edge.engine.model import Model, Work, exhaust
from edge.engine.opening import Opening
from edge.engine.packing import Graphs, is_packed
from edge.engine.pieces import CALL_TAGS, Control, Media, Piece
from edge.engine.placing import Placing
from edge.engine.providers import DEFAULT, Provider, chosen
from edge.engine.sampling import Sampler, greedy
from edge.engine.session import thread_count
from edge.engine.tokenizer import Tokenizer
from edge.engine.worker import Worker
from edge.errors import MediaError, ParameterError
from edge.media.image import digest
from edge.media.tiles import tile_count

__all__ = ["Engine", "Handle", "Options", "Progress", "Stats"]


_LOG = logging.getLogger("edge")
_MOST_COUNTED = 1 << 20  # positions of a prompt that is only counted


@dataclass(frozen=True)
class Stats:
    """An engine's memory in bytes and its work so far; the cache's pages are taken as positions are written.

    kv: how keys and values are kept, fp32 or int8.
    """

    threads: int
    kv: Kv
    slots: int
    context: int
    weights_bytes: int
    cache_bytes: int
    cache_used_bytes: int
    images_bytes: int
    audio_cache_bytes: int
    work: Work
    held: GrammarStats


class Engine:
    """A bundle in memory, its one worker thread, and everything that can be asked of them."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int,
        cache: CacheChoice,
        slots: int,
        draft: bool = True,
        providers: Sequence[Provider] = DEFAULT,
    ) -> None:
        self.manifest: Manifest = bundle.manifest
        self.threads = threads
        self.context = cache.context
        self.kv = cache.kv
        self.slots = slots
        prompt = bundle.manifest.prompt
        self._tokenizer = Tokenizer.open(bundle)
        control = self._tokenizer.control
        self._ends = Ends(
            frozenset(prompt.stop_ids),
            prompt.stop_strings,
            control=frozenset(control.values()),
            call_tags=frozenset(control[tag] for tag in CALL_TAGS if tag in control),
        )
        self._grammars = Grammars(self._tokenizer, vocab_size=bundle.manifest.text.vocab_size, end_ids=prompt.stop_ids)
        graphs = Graphs(bundle, threads=threads, kv=cache.kv)
        self._is_packed = graphs.packed is not None
        self.providers = tuple(providers)
        self._placing = Placing(graphs, bundle.manifest, bundle.path, threads=threads, providers=providers)
        self._files = LoadedFiles(bundle.path, bundle.manifest.files, graphs.packed)
        try:
            model = load_model(bundle, self._placing, cache=cache, slots=slots)
        except BaseException:
            self._files.close()
            raise
        self._drafting = Drafting() if draft else None
        self._worker = Worker(model, check=self._files.check, drafting=self._drafting)
        # Runs when the engine is forgotten and when the program ends, whichever comes first.
        openings = [tower.opening for tower in (model.vision, model.audio) if tower is not None]
        self._finalizer = weakref.finalize(self, _close, self._worker, openings, self._files)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        threads: int | None = None,
        context: int | None = None,
        slots: int = 1,
        verify: bool = False,
        draft: bool = True,
        check_memory: bool | None = None,
        kv: str | None = None,
        providers: Sequence[str] | str | None = None,
    ) -> "Engine":
        """Open the bundle in a folder.

        threads: every CPU unless given. context: positions (tokens) of a conversation, from 1 to the model's; unless
        given the model's, cut to what fits in the memory that is available. slots: conversations at a time, each with
        a context of its own. verify: read every byte against its sha256 first, not the small files alone. draft: guess
        tokens from what was said before and check several in one step, where that pays; answers are the same,
        and EDGE_DRAFT=off has the last word.
        check_memory: refuse what does not fit before anything is mapped; unless given, EDGE_MEMORY_CHECK says it. kv:
        how keys and values are kept, "fp32" or "int8", a quarter of the memory; unless given fp32 where a quarter of
        the available memory, and what the weights leave of it, hold the context in it or the bundle has no other, and a
        warning says so where not.

            with Engine.open("models/reka-edge-tiny", context=2048) as engine:
                ids = list(engine.generate(engine.tokenizer.encode("Once"), max_tokens=20))

        providers: what of onnxruntime's may compute, cpu, cuda, tensorrt, openvino: each graph is opened on the first
        that gives what the CPU gives; without cpu, an error says where none does. Unless given, EDGE_PROVIDERS says it,
        else the CPU.

        Raises: BundleError, ParameterError for context, slots, threads, kv or providers, MemoryLimitError,
        MemoryExhausted, RuntimeFailure for providers without cpu.
        """
        may_compute = chosen(providers)
        draft = draft and drafting.is_on()
        if verify:
            store.check(Path(path))
        bundle = Bundle.open(Path(path))
        if slots < 1:
            raise ParameterError(f"slots: expected an integer >= 1, got {slots!r:.200}", field="slots")
        here = memory()
        load, reason = fit.choose(
            bundle.manifest,
            kv=kv,
            context=context,
            slots=slots,
            here=here,
            is_packed=lambda each: is_packed(bundle.path, kv=each),
        )
        if fit.is_checked() if check_memory is None else check_memory:
            packed = [each for each in KVS if is_packed(bundle.path, kv=each)]
            fit.check(of_manifest(bundle.manifest), load, here, packed=packed)
        if reason is not None:
            _LOG.warning("%s: %s", bundle.manifest.id, reason)
        cache = CacheChoice(load.kv, load.context, reason)
        n_threads = thread_count(threads)
        return cls(bundle, threads=n_threads, cache=cache, slots=slots, draft=draft, providers=may_compute)

    def stream(self, prompt: Sequence[Piece], options: Options) -> Handle:
        """Queue a prompt and return the handle of its answer.

        Raises: ContextLengthError with both counts, ParameterError naming the field, SchemaError for a form that does
        not fit in what is left, TextError, EngineClosed.
        """
        check(options)
        self._files.check()
        positions = self._lay_out(prompt)
        constraint = None
        if options.form is not None:
            n_free = self.context - len(positions)
            constraint = self._grammars.constraint(options.form, most=min(options.max_tokens, n_free + 1))
        # A handle holds its engine: a generation that is being read keeps it open.
        handle = Handle(Progress("", len(positions), 0, None), self._cancel)
        draft = None if self._drafting is None else self._drafting.begin(positions.keys)
        answer = Answer(handle, options, self._ends, self._tokenizer, len(positions), constraint, draft)
        self._worker.submit(answer, positions)
        return handle

    def generate(
        self,
        prompt: Sequence[Piece] | Sequence[int],
        *,
        max_tokens: int,
        sample: Sampler = greedy,
        stop_ids: Collection[int] | None = None,
    ) -> Iterator[int]:
        """Return the token ids of an answer, one by one: the decode loop that the rest is built on, and nothing else.

        prompt: token ids, or pieces. max_tokens: at most so many ids. sample: from logits (V,) float32 to an id; always
        the most likely one unless given (`edge.engine.sampling.make_sampler` makes others). stop_ids: ids that end it
        and are not returned; those of the bundle's turns unless given.
        From its first id to its end it holds a slot, which others may wait for: close it where you leave early.

            for token in engine.generate(engine.tokenizer.encode("Once"), max_tokens=20):
                print(engine.tokenizer.decode([token]), end="")

        Raises: ContextLengthError with both counts, ParameterError naming the field, TextError, EngineClosed; while it
        runs NonFiniteError, RuntimeFailure, MemoryExhausted.
        """
        if max_tokens < 1:
            raise ParameterError(f"max_tokens: expected an integer >= 1, got {max_tokens!r:.200}", field="max_tokens")
        ends = self.manifest.prompt.stop_ids if stop_ids is None else stop_ids
        positions = self._lay_out(self._pieces(prompt))

        def tokens(model: Model) -> Tokens:
            return generate(model, positions, sample=sample, stop_ids=ends, max_tokens=max_tokens)

        return self._generated(tokens)

    def count(self, prompt: Sequence[Piece]) -> int:
        """Return how many positions a prompt takes, which may be more than the context holds.

        Raises: ContextLengthError for a million and more, TextError.
        """
        return len(lay_out(prompt, self._tokenizer, limit=max(self.context, _MOST_COUNTED)))

    @property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer: text to ids and back."""
        return self._tokenizer

    def logits(self, prompt: Sequence[Piece]) -> F32:
        """Return the logits (V,) of the token that follows a prompt. Raises: as stream."""
        logits: F32 = self._score(self._lay_out(prompt), 1)[0]
        return logits

    def score(self, prompt: Sequence[Piece], answer_ids: Sequence[int]) -> F32:
        """Return the logits (n, V) that predict each of n answer tokens when the ones before are given.

        Raises: as stream.
        """
        n = len(answer_ids)
        self._check_ids(answer_ids, field="answer_ids")
        return self._score(self._lay_out([*prompt, Control(tuple(answer_ids[:-1]))]), n)

    def encode_image(self, rgb: U8) -> F32:
        """Return an image's embeddings (n_tokens, H), computed anew. rgb: (H, W, 3) uint8. Raises: MediaError."""
        spec = self.manifest.vision
        if spec is None:
            raise MediaError("image: this bundle accepts text only")
        height, width = rgb.shape[:2]
        media = Media("image", rgb, tile_count(width, height, spec) * spec.tokens_per_tile, digest(rgb))
        return self._worker.call(lambda model: exhaust(model.encode(media, owner=None)))

    def encode_tile(self, tile: F32) -> F32:
        """Return the embeddings (n_tokens, H) of one tile, (3, T, T) as `edge.media.tiles.tiles` cuts it.

        Raises: MediaError, EngineClosed.
        """
        return self._worker.call(lambda model: model.encode_tile(tile, owner=None))

    def open_towers(self) -> None:
        """Open the towers now, which the first image and the first audio would otherwise.

        Raises: BundleError, MemoryExhausted, EngineClosed.
        """
        model = self._worker.model
        for tower in (model.vision, model.audio):
            if tower is not None:
                tower.opening.session()

    def stats(self) -> Stats:
        """Return what the engine holds and did. Raises: EngineClosed."""
        model = self._worker.model
        return Stats(
            threads=self.threads,
            kv=self.kv,
            slots=self.slots,
            context=self.context,
            weights_bytes=self.manifest.memory.weights_bytes,
            cache_bytes=model.cache.nbytes,
            cache_used_bytes=model.cache.used_bytes,
            images_bytes=0 if model.vision is None else model.vision.recent.nbytes,
            audio_cache_bytes=0 if model.audio is None else model.audio.recent.nbytes,
            work=replace(model.work),
            held=replace(self._grammars.held),
        )

    @property
    def where(self) -> Mapping[str, Provider]:
        """The provider that computes each graph that is open, by its file: decoder.onnx, vision.onnx, audio.onnx."""
        return dict(self._placing.where)

    @property
    def is_packed(self) -> bool:
        """Whether packed weights are mapped from files of this device."""
        return self._is_packed

    def changed(self) -> str | None:
        """Return what has changed on disk since the bundle was loaded; it is not used any more then. None: nothing."""
        return self._files.changed()

    def check_files(self) -> None:
        """Raise where a file has changed since it was loaded. Raises: BundleChanged."""
        self._files.check()

    def files_now(self) -> object:
        """Return what the system says of the bundle's files at present, to be compared with another time."""
        return self._files.now()

    def stalled_s(self) -> float:
        """Return the seconds in which its work has not moved on, 0.0 while it does or there is none: see `Pulse`."""
        return self._worker.stalled_s()

    def close(self) -> None:
        """End every answer with EngineClosed and free sessions and cache; closing twice is fine."""
        self._finalizer()

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", closed"
        return (
            f"Engine({self.manifest.id!r}, context={self.context}, slots={self.slots}, threads={self.threads},"
            f" kv={self.kv!r}{state})"
        )

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cancel(self, handle: Handle) -> None:
        self._worker.cancel(handle)

    def _lay_out(self, prompt: Sequence[Piece]) -> Positions:
        positions = lay_out(prompt, self._tokenizer, limit=self.context)
        if not len(positions):
            raise ParameterError("messages: expected a prompt of at least one token", field="messages")
        return positions

    def _pieces(self, prompt: Sequence[Piece] | Sequence[int]) -> list[Piece]:
        """Return a prompt as pieces; ids of the vocabulary become one. Raises: ParameterError for others."""
        ids = [token for token in prompt if isinstance(token, int | np.integer)]
        given = [piece for piece in prompt if isinstance(piece, Piece)]
        if len(prompt) not in (len(ids), len(given)):
            raise ParameterError("prompt: expected token ids alone, or pieces alone", field="prompt")
        if not ids:
            return given
        self._check_ids(ids, field="prompt")
        return [Control(tuple(map(int, ids)))]

    def _check_ids(self, ids: Sequence[int], *, field: str) -> None:
        if not (ids and all(0 <= token < self.manifest.text.vocab_size for token in ids)):
            raise ParameterError(f"{field}: expected ids of the vocabulary, at least one", field=field)

    def _generated(self, begin: Callable[[Model], Tokens]) -> Iterator[int]:
        """Run a decode loop on the worker's thread, a step for each id that is asked for, between the steps of others.

        Only its first step waits for a slot.
        """
        self._files.check()
        steps = self._worker.call(begin, needs_slot=False)
        needs_slot = True
        try:
            while (token := self._worker.call(lambda _: next(steps, None), needs_slot=needs_slot)) is not None:
                needs_slot = False
                yield token
        finally:
            self._worker.post(lambda _: steps.close())

    def _score(self, positions: Positions, n_logits: int) -> F32:
        def read(model: Model) -> F32:
            slot = model.cache.take(positions.keys, n_read=max(2, n_logits))
            try:
                return exhaust(model.read(positions, slot, n_logits=n_logits, owner=None))
            finally:
                model.cache.release(slot)

        return self._worker.call(read)


def _close(worker: Worker, openings: list[Opening], files: LoadedFiles) -> None:
    """Free the model; openings: of its towers, emptied for it."""
    worker.close()
    for opening in openings:
        opening.close()
    openings.clear()
    files.close()
