"""A speech bundle at work: audio in, text with times out, window by window, always the most likely token.

Source: transformers' Whisper `generate` at temperature 0, without fallback and without the text of earlier windows.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.arrays import F32
from edge.bundle.bundle import SpeechBundle
from edge.bundle.loaded import LoadedFiles
from edge.bundle.manifest import SpeechSpec
from edge.engine.session import check_shapes, failure_of, open_session, run_options, thread_count
from edge.engine.tokenizer import text_pieces
from edge.errors import EdgeError, EngineClosed, NonFiniteError, ParameterError
from edge.media.mel import FRAME_SAMPLES, SAMPLE_RATE_HZ, log_mel
from edge.speech.rules import STEP_S, Rules
from edge.speech.transcript import Segment, Transcript

if TYPE_CHECKING:
    import onnxruntime as ort

Values = dict[str, F32]

ENCODER, DECODER, TOKENIZER = "encoder.onnx", "decoder.onnx", "tokenizer.json"

_PATIENCE_S = 0.2  # between two looks whether audio that waits its turn is still wanted
_FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
_FRAMES_PER_STEP = round(STEP_S / _FRAME_S)


class Speech:
    """An open speech bundle. Any thread may ask it; one recording is transcribed at a time."""

    def __init__(
        self,
        bundle: SpeechBundle,
        encoder: "ort.InferenceSession",
        decoder: "ort.InferenceSession",
        pieces: Sequence[bytes],
        files: LoadedFiles,
    ) -> None:
        self.id = bundle.manifest.id
        self.spec: SpeechSpec = bundle.manifest.speech
        self._encoder = encoder
        self._decoder = decoder
        self._pieces = pieces
        self._rules = Rules(self.spec)
        self._files = files
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, threads: int | None = None) -> "Speech":
        """Load a speech bundle. Raises: BundleError, MemoryExhausted."""
        bundle = SpeechBundle.open(path)
        spec, n_threads = bundle.manifest.speech, thread_count(threads)
        files = LoadedFiles(bundle.path, bundle.manifest.files)
        data = (bundle.path / TOKENIZER).read_bytes()
        pieces = text_pieces(data, n_text=spec.end, vocab_size=spec.vocab_size, file=str(bundle.path / TOKENIZER))
        encoder = open_session(bundle.path / ENCODER, threads=n_threads)
        decoder = open_session(bundle.path / DECODER, threads=n_threads)
        _check_graphs(encoder, decoder, spec)
        return cls(bundle, encoder, decoder, pieces, files)

    def transcribe(
        self,
        samples: F32,
        *,
        language: str | None = None,
        task: str = "transcribe",
        stopped: Callable[[], bool] | None = None,
        progress: Callable[[float, float], None] | None = None,
    ) -> Transcript:
        """Return what is said. samples: (n,) float32, mono, 16 kHz.

        language: a code such as "en", None to have it told by the first window; task: transcribe, or translate into
        English; stopped: asked between tokens; progress: called with seconds done and seconds in all.
        Raises: ParameterError, EngineClosed when stopped, NonFiniteError, RuntimeFailure, MemoryExhausted,
        BundleChanged.
        """
        check(self.spec, language=language, task=task)
        stopped = stopped or _never
        while not self._lock.acquire(timeout=_PATIENCE_S):
            _check_wanted(stopped)
        try:
            return self._transcribe(samples, language, task, stopped, progress)
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
        language: str | None,
        task: str,
        stopped: Callable[[], bool],
        progress: Callable[[float, float], None] | None,
    ) -> Transcript:
        spec = self.spec
        mel = self._frames(samples)
        n_frames, seek = mel.shape[1], 0
        token = spec.languages.get(language) if language is not None else None
        segments: list[Segment] = []
        while seek < n_frames:
            encoded = self.encode(_window(mel, seek, spec.n_frames))
            if seek == 0 and token is None and spec.languages:
                token = self._rules.language(self.logits([spec.start], self.empty_past(), encoded)[0][-1])
            prompt = [spec.start] if token is None else [spec.start, token, spec.tasks[task]]
            spoken = self._speak(prompt, encoded, stopped)
            n_seen = min(spec.n_frames, n_frames - seek)
            found, n_done = self._cut(spoken, seek * _FRAME_S, n_seen)
            segments += found
            seek += n_done
            if progress is not None:
                progress(min(seek, n_frames) * _FRAME_S, n_frames * _FRAME_S)
        told = next((name for name, number in spec.languages.items() if number == token), None)
        text = self._text(token for segment in segments for token in segment.tokens).strip()
        return Transcript(text, tuple(segments), told, len(samples) / SAMPLE_RATE_HZ)

    def _frames(self, samples: F32) -> F32:
        """Return the log-mel frames of audio, at least a window of them: silence fills it up."""
        n_least = self.spec.n_frames * FRAME_SAMPLES
        if len(samples) < n_least:
            samples = np.pad(samples, (0, n_least - len(samples)))
        return log_mel(samples, n_mels=self.spec.n_mels)

    def _speak(self, prompt: Sequence[int], encoded: Values, stopped: Callable[[], bool]) -> list[int]:
        """Choose a window's tokens, without the one that ends it."""
        spoken: list[int] = []
        logits, past = self.logits(prompt, self.empty_past(), encoded)
        while True:
            _check_wanted(stopped)
            if not np.isfinite(logits[-1]).all():
                raise NonFiniteError(f"token {len(spoken)} of a window of speech")
            token = self._rules.choose(logits[-1], spoken)
            if token == self.spec.end:
                return spoken
            spoken.append(token)
            if len(prompt) + len(spoken) >= self.spec.context:
                return spoken
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

    def _text(self, tokens: "Sequence[int] | Iterator[int]") -> str:
        """Return the text of tokens; those from the end token on stand for no text."""
        data = b"".join(self._pieces[token] for token in tokens if token < self.spec.end)
        return data.decode("utf-8", errors="replace")


def check(spec: SpeechSpec, *, language: str | None, task: str) -> None:
    """Check what is asked of a model besides audio. Raises: ParameterError saying what there is."""
    languages, tasks = spec.languages, spec.tasks or {"transcribe": 0}
    if language is not None and language not in languages:
        known = ", ".join(languages) or "none, as this model knows one language only"
        raise ParameterError(f"language: expected one of {known}; got {language!r:.200}", field="language")
    if task not in tasks:
        raise ParameterError(f"task: expected one of {', '.join(tasks)}; got {task!r:.200}", field="task")


def _values(whose: str, spec: SpeechSpec) -> list[str]:
    """Name the keys and values of every layer: cross (of the audio), past or present."""
    return [f"{whose}.{layer}.{part}" for layer in range(spec.n_layers) for part in ("key", "value")]


def _window(mel: F32, seek: int, n_frames: int) -> F32:
    """Return a window of frames, zeros behind the last one: (M, F)."""
    window = mel[:, seek : seek + n_frames]
    return np.pad(window, ((0, 0), (0, n_frames - window.shape[1])))


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
