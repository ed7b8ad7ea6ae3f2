"""The speech-to-text model of a chat bundle without an audio tower: a speech bundle, opened with the first audio."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.arrays import F32
from edge.bundle import store
from edge.bundle.manifest import SpeechManifest, SpeechSpec
from edge.errors import BundleError
from edge.speech.transcriber import Heard, How, Speech
from edge.speech.transcript import Transcript

_N_KEPT = 64  # texts: a conversation sends its audio again with every turn

_OPEN: "weakref.WeakValueDictionary[Path, Speech]" = weakref.WeakValueDictionary()
_OPENING = threading.Lock()


class SpeechToText:
    """Transcribes audio, and keeps the latest transcripts. Safe to call from any thread.

    Instances on one bundle share the loaded model; it is freed with the last of them.
    """

    def __init__(self, path: Path, *, threads: int | None = None, providers: Sequence[str] | str | None = None) -> None:
        self._path = path.resolve()
        self._threads = threads
        self._providers = providers
        self._speech: Speech | None = None
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """The bundle's id. Raises: BundleError."""
        return self._manifest().id

    @property
    def spec(self) -> SpeechSpec:
        """What the model can do; nothing is loaded for it. Raises: BundleError."""
        return self._manifest().speech

    def open(self) -> None:
        """Load the model now instead of with the first audio. Raises: BundleError, MemoryExhausted, RuntimeFailure."""
        self._opened()

    def transcribe(self, samples: F32, digest: str, *, stopped: Callable[[], bool] | None = None) -> str:
        """Return what is said in audio. samples: (n,) float32, mono, 16 kHz; digest: of them.

        Raises: BundleError, MemoryExhausted, RuntimeFailure, NonFiniteError; EngineClosed when stopped.
        """
        with self._lock:
            known = self._texts.get(digest)
            if known is not None:
                self._texts.move_to_end(digest)
                return known
        text = self._opened().transcribe(samples, stopped=stopped).text
        with self._lock:
            self._texts[digest] = text
            while len(self._texts) > _N_KEPT:
                self._texts.popitem(last=False)
        return text

    def listen(
        self,
        samples: F32,
        *,
        how: How,
        stopped: Callable[[], bool],
        heard: Callable[[Heard], None],
    ) -> Transcript:
        """Return what is said in audio, with times; nothing is kept.

        As `Speech.transcribe`; the model is loaded with the first audio. Raises: as it, and BundleError.
        """
        return self._opened().transcribe(samples, how=how, stopped=stopped, heard=heard)

    def _manifest(self) -> SpeechManifest:
        manifest = store.at(self._path).manifest
        if not isinstance(manifest, SpeechManifest):
            raise BundleError(f"{manifest.id}: expected a speech bundle, got a chat bundle")
        return manifest

    def _opened(self) -> Speech:
        with _OPENING:
            if self._speech is None:
                self._speech = _OPEN.get(self._path) or Speech.open(
                    self._path, threads=self._threads, providers=self._providers
                )
                _OPEN[self._path] = self._speech
            return self._speech
