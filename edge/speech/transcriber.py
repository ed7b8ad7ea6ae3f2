"""A speech bundle at work: audio in, text with times out, window by window.

Source: transformers' Whisper `generate` at one temperature, without fallback and without the text of earlier windows.
"""

import functools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.arrays import F32
from edge.bundle.bundle import SpeechBundle
from edge.bundle.loaded import LoadedFiles
from edge.bundle.manifest import SpeechSpec
from edge.engine import self_test
from edge.engine.packing import Graphs
from edge.engine.placing import Placing
from edge.engine.providers import chosen
from edge.engine.session import check_shapes, failure_of, run_options, thread_count
from edge.engine.tokenizer import text_encoder, text_pieces
from edge.errors import EdgeError, EngineClosed, NonFiniteError, ParameterError
from edge.media.mel import FRAME_SAMPLES, SAMPLE_RATE_HZ, log_mel
from edge.speech.rules import STEP_S, Rules, log_sum, sampled
from edge.speech.transcript import Segment, Transcript, Window

if TYPE_CHECKING:
    import onnxruntime as ort

Values = dict[str, F32]

ENCODER, DECODER, TOKENIZER = "encoder.onnx", "decoder.onnx", "tokenizer.json"

ENGLISH = "en"  # what a model of one language knows

_PATIENCE_S = 0.2  # between two looks whether audio that waits its turn is still wanted
_FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
_FRAMES_PER_STEP = round(STEP_S / _FRAME_S)


@dataclass(frozen=True)
class How:
    """How audio is transcribed.

    language: a code such as "en", None to have it told by the first window; task: transcribe, or translate into
    English; prompt: a text that each window's is to continue, of which the end counts; temperature: 0 for the most
    likely token; seed: of what is chosen at a higher one.
    """

    language: str | None = None
    task: str = "transcribe"
    prompt: str = ""
    temperature: float = 0.0
    seed: int | None = None


@dataclass(frozen=True)
class Heard:
    """What is sure of a transcript so far. tokens: all of it, with their scores; n_read: positions fed.

    data: the bytes of each token that stands for text, None for others.
    """

    text: str
    tokens: tuple[int, ...]
    scores: tuple[float, ...]
    n_read: int
    data: tuple[bytes | None, ...]


class Speech:
    """An open speech bundle. Any thread may ask it; one recording is transcribed at a time."""

    def __init__(
        self,
        bundle: SpeechBundle,
        encoder: "ort.InferenceSession",
        decoder: "ort.InferenceSession",
        pieces: Sequence[bytes],
        files: LoadedFiles,
        encoder_of_text: Callable[[], Callable[[str], list[int]]],
    ) -> None:
        self.id = bundle.manifest.id
        self.spec: SpeechSpec = bundle.manifest.speech
        self._encoder = encoder
        self._decoder = decoder
        self._pieces = pieces
        self._rules = Rules(self.spec)
        self._files = files
        self._lock = threading.Lock()
        self._encoder_of_text = encoder_of_text
        self._encode_text: Callable[[str], list[int]] | None = None  # made with the first prompt
        self._lock_of_encoder = threading.Lock()
        weakref.finalize(self, files.close)

    @classmethod
    def open(cls, path: Path, *, threads: int | None = None, providers: Sequence[str] | str | None = None) -> "Speech":
        """Load a speech bundle. providers: as for `Engine.open`; the decoder stays on the CPU.

        Raises: BundleError, MemoryExhausted; ParameterError, RuntimeFailure for providers.
        """
        may_compute = chosen(providers)
        bundle = SpeechBundle.open(path)
        spec, n_threads = bundle.manifest.speech, thread_count(threads)
        graphs = Graphs(bundle, threads=n_threads)
        files = LoadedFiles(bundle.path, bundle.manifest.files, graphs.packed)
        data, file = (bundle.path / TOKENIZER).read_bytes(), str(bundle.path / TOKENIZER)
        pieces = text_pieces(data, n_text=spec.end, vocab_size=spec.vocab_size, file=file)
        of_text = functools.partial(text_encoder, data, n_text=spec.end, vocab_size=spec.vocab_size, file=file)
        placing = Placing(graphs, bundle.manifest, bundle.path, threads=n_threads, providers=may_compute)
        encoder, decoder = placing.open(ENCODER, functools.partial(_hidden, spec)), graphs.open(DECODER)
        _check_graphs(encoder, decoder, spec)
        return cls(bundle, encoder, decoder, pieces, files, of_text)

    def transcribe(
        self,
        samples: F32,
        *,
        how: How | None = None,
        stopped: Callable[[], bool] | None = None,
        progress: Callable[[float, float], None] | None = None,
        heard: Callable[[Heard], None] | None = None,
    ) -> Transcript:
        """Return what is said. samples: (n,) float32, mono, 16 kHz.

        stopped: asked between tokens; progress: called with seconds done and seconds in all; heard: called with what
        there is after each stretch of text.
        Raises: ParameterError, EngineClosed when stopped, NonFiniteError, RuntimeFailure, MemoryExhausted,
        BundleChanged.
        """
        how = how or How()
        check(self.spec, language=how.language, task=how.task, prompt=how.prompt)
        stopped = stopped or _never
        while not self._lock.acquire(timeout=_PATIENCE_S):
            _check_wanted(stopped)
        try:
            return self._transcribe(samples, how, stopped, progress, heard)
        except EdgeError:
            raise
        except Exception as error:
            raise failure_of(error) from error
        finally:
            self._lock.release()

    def encode(self, mel: F32) -> Values:
        """Run the encoder. mel: (M, F) -> hidden: (1, T, H), and the audio's keys and values by layer, (1, A, T, d)."""
        self._files.check()
        names = ["hidden", *_values("cross", self.spec)]
        return dict(zip(names, self._encoder.run(names, {"mel": mel[None]}, run_options()), strict=True))

    def logits(self, tokens: Sequence[int], past: Values, encoded: Values) -> tuple[F32, Values]:
        """Feed tokens; returns logits (S, V) and the longer past. past: of what was fed, at first `empty_past()`."""
        cross = {name: encoded[name] for name in _values("cross", self.spec)}
        self._files.check()
        names = ["logits", *_values("present", self.spec)]
        feeds = {"tokens": np.array([tokens], np.int64), **past, **cross}
        logits, *present = self._decoder.run(names, feeds, run_options())
        return logits[0], dict(zip(_values("past", self.spec), present, strict=True))

    def empty_past(self) -> Values:
        """Return the past of a text that has not begun."""
        nothing = np.zeros((1, self.spec.n_heads, 0, self.spec.head_dim), np.float32)
        return dict.fromkeys(_values("past", self.spec), nothing)

    def _transcribe(
        self,
        samples: F32,
        how: How,
        stopped: Callable[[], bool],
        progress: Callable[[float, float], None] | None,
        heard: Callable[[Heard], None] | None,
    ) -> Transcript:
        spec = self.spec
        mel = self._frames(samples)
        n_frames, seek, n_read = mel.shape[1], 0, 0
        token = spec.languages.get(how.language) if how.language is not None else None
        before, luck = self._before(how.prompt), np.random.default_rng(how.seed)
        segments: list[Segment] = []
        while seek < n_frames:
            encoded = self.encode(_window(mel, seek, spec.n_frames))
            if seek == 0 and token is None and spec.languages:
                token = self._rules.language(self.logits([spec.start], self.empty_past(), encoded)[0][-1])
            control = [spec.start] if token is None else [spec.start, token, spec.tasks[how.task]]
            n_read += spec.n_positions + len(before) + len(control)
            said = _Said(seek, len(before), how.temperature, luck)
            for is_pair in self._speak(said, [*before, *control], encoded, stopped):
                if is_pair and heard is not None:
                    heard(self._heard(segments, said, n_read))
            n_seen = min(spec.n_frames, n_frames - seek)
            found, n_done = self._cut(said.tokens, seek * _FRAME_S, n_seen)
            segments += self._scored(found, said)
            seek += n_done
            if progress is not None:
                progress(min(seek, n_frames) * _FRAME_S, n_frames * _FRAME_S)
            if heard is not None:
                heard(self._heard(segments, None, n_read))
        told = next((name for name, number in spec.languages.items() if number == token), None)
        text = self._text(token for segment in segments for token in segment.tokens).strip()
        return Transcript(text, tuple(segments), told, len(samples) / SAMPLE_RATE_HZ)

    def _before(self, prompt: str) -> list[int]:
        """Return the tokens of a text that is to be continued: its end, at most half a context of it."""
        text, previous = prompt.strip(), self.spec.previous
        if not text or previous is None:
            return []
        with self._lock_of_encoder:
            if self._encode_text is None:
                self._encode_text = self._encoder_of_text()
        return [previous, *self._encode_text(f" {text}")[-(self.spec.context // 2 - 1) :]]

    def _heard(self, segments: Sequence[Segment], said: "_Said | None", n_read: int) -> Heard:
        """Return what is sure so far: earlier windows, and what a window has before its last timestamp."""
        tokens = [token for segment in segments for token in segment.tokens]
        scores = [score for segment in segments for score in segment.scores]
        if said is not None:
            tokens, scores = [*tokens, *said.tokens[:-1]], [*scores, *said.scores[:-1]]
        # The end may be half a character, or white space that the whole text does not end with.
        text = self._text(tokens).strip().rstrip("\ufffd").rstrip()
        data = tuple(self._pieces[token] if token < self.spec.end else None for token in tokens)
        return Heard(text, tuple(tokens), tuple(scores), n_read, data)

    def _scored(self, segments: Sequence[Segment], said: "_Said") -> list[Segment]:
        """Return a window's segments with what the model thinks of them."""
        mean = (sum(said.scores) + said.end_score) / (len(said.scores) + 1)
        text = self._text(token for segment in segments for token in segment.tokens)
        window = Window(said.seek, said.temperature, mean, said.no_speech, text)
        scored, at = [], 0
        for segment in segments:
            n_tokens = len(segment.tokens)
            scored.append(replace(segment, scores=tuple(said.scores[at : at + n_tokens]), window=window))
            at += n_tokens
        return scored

    def _frames(self, samples: F32) -> F32:
        """Return the log-mel frames of audio, at least a window of them: silence fills it up."""
        n_least = self.spec.n_frames * FRAME_SAMPLES
        if len(samples) < n_least:
            samples = np.pad(samples, (0, n_least - len(samples)))
        return log_mel(samples, n_mels=self.spec.n_mels)

    def _speak(
        self, said: "_Said", prompt: Sequence[int], encoded: Values, stopped: Callable[[], bool]
    ) -> Iterator[bool]:
        """Choose a window's tokens, without the one that ends it; yield after each whether it is a second timestamp."""
        logits, past = self.logits(prompt, self.empty_past(), encoded)
        first, spoken = self.spec.first_timestamp, said.tokens
        if self.spec.no_speech is not None:
            row = logits[said.n_before]
            said.no_speech = float(np.exp(row[self.spec.no_speech] - log_sum(row)))
        while len(prompt) + len(spoken) < self.spec.context:
            _check_wanted(stopped)
            if not np.isfinite(logits[-1]).all():
                raise NonFiniteError(f"token {len(spoken)} of a window of speech")
            scores = self._rules.allowed(logits[-1], spoken)
            token = sampled(scores, said.temperature, said.luck)
            score = float(scores[token]) - log_sum(scores)
            if token == self.spec.end:
                said.end_score = score
                return
            spoken.append(token)
            said.scores.append(score)
            yield len(spoken) > 1 and token >= first and spoken[-2] >= first
            if len(prompt) + len(spoken) < self.spec.context:
                logits, past = self.logits([token], past, encoded)

    def _cut(self, spoken: Sequence[int], offset_s: float, n_frames: int) -> tuple[list[Segment], int]:
        """Cut a window's tokens at its pairs of timestamps; returns the stretches, and how many frames are done with.

        A window that ends with one timestamp says that nothing follows; what follows the last pair is left for the
        next window, which starts there.
        """
        first = self.spec.first_timestamp
        is_time = [token >= first for token in spoken]
        ends = [i + 1 for i in range(len(spoken) - 1) if is_time[i] and is_time[i + 1]]
        if not ends:
            times = [token - first for token in spoken if token >= first]
            n_steps = times[-1] if times and times[-1] else n_frames // _FRAMES_PER_STEP
            return [self._segment(spoken, offset_s, offset_s + n_steps * STEP_S)], n_frames
        is_finished = is_time[-2:] == [False, True]
        if is_finished:
            ends.append(len(spoken))
        segments = []
        for start, end in zip([0, *ends], ends, strict=False):
            # The end of the last stretch is kept with both timestamps, when another stretch had begun.
            kept = spoken[start : end if is_finished or end != ends[-1] else end + 1]
            begin_s, end_s = ((token - first) * STEP_S for token in (kept[0], spoken[end - 1]))
            segments.append(self._segment(kept, offset_s + begin_s, offset_s + end_s))
        # By the rules at least a step; whatever a damaged model says, the next window is a later one.
        n_steps = max(1, spoken[ends[-1] - 1] - first)
        return segments, n_frames if is_finished else n_steps * _FRAMES_PER_STEP

    def _segment(self, tokens: Sequence[int], start_s: float, end_s: float) -> Segment:
        return Segment(start_s, end_s, self._text(tokens), tuple(tokens))

    def _text(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; those from the end token on stand for no text."""
        data = b"".join(self._pieces[token] for token in tokens if token < self.spec.end)
        return data.decode("utf-8", errors="replace")


@dataclass
class _Said:
    """A window's tokens so far. n_before: tokens before the start token; end_score: of the token that ended it."""

    seek: int
    n_before: int
    temperature: float
    luck: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    end_score: float = 0.0
    no_speech: float | None = None


def check(spec: SpeechSpec, *, language: str | None, task: str, prompt: str = "") -> None:
    """Check what is asked of a model besides audio. Raises: ParameterError saying what there is."""
    languages, tasks = spec.languages or {ENGLISH: 0}, spec.tasks or {"transcribe": 0}
    if language is not None and language not in languages:
        known = ", ".join(languages)
        raise ParameterError(f"language: expected one of {known}; got {language!r:.200}", field="language")
    if task not in tasks:
        raise ParameterError(f"task: expected one of {', '.join(tasks)}; got {task!r:.200}", field="task")
    if prompt.strip() and spec.previous is None:
        raise ParameterError(
            "prompt: this model's vocabulary has no token for earlier text; expected none", field="prompt"
        )


def _values(whose: str, spec: SpeechSpec) -> list[str]:
    """Name the keys and values of every layer: cross (of the audio), past or present."""
    return [f"{whose}.{layer}.{part}" for layer in range(spec.n_layers) for part in ("key", "value")]


def _window(mel: F32, seek: int, n_frames: int) -> F32:
    """Return a window of frames, zeros behind the last one: (M, F)."""
    window = mel[:, seek : seek + n_frames]
    return np.pad(window, ((0, 0), (0, n_frames - window.shape[1])))


def _hidden(spec: SpeechSpec, session: "ort.InferenceSession", _device: str | None) -> F32:
    """Return what the encoder makes of a fixed input, to be compared."""
    return self_test.tower_output(session, "mel", (1, spec.n_mels, spec.n_frames), "hidden")


def _check_graphs(encoder: "ort.InferenceSession", decoder: "ort.InferenceSession", spec: SpeechSpec) -> None:
    """Compare the graphs with the manifest. Raises: BundleError."""
    rows, cache = (1, spec.n_heads, spec.n_positions, spec.head_dim), (1, spec.n_heads, None, spec.head_dim)
    cross = dict.fromkeys(_values("cross", spec), rows)
    hidden = (1, spec.n_positions, spec.hidden_size)
    mel = (1, spec.n_mels, spec.n_frames)
    check_shapes(encoder, inputs={"mel": mel}, outputs={"hidden": hidden, **cross}, file=ENCODER)
    past, present = (dict.fromkeys(_values(whose, spec), cache) for whose in ("past", "present"))
    outputs = {"logits": (1, None, spec.vocab_size), **present}
    check_shapes(decoder, inputs={"tokens": (1, None), **past, **cross}, outputs=outputs, file=DECODER)


def _check_wanted(stopped: Callable[[], bool]) -> None:
    """Raises: EngineClosed when nobody wants the text any more."""
    if stopped():
        raise EngineClosed("the transcription was stopped before its end")


def _never() -> bool:
    return False
