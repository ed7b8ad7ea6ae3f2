"""Wake words: small detectors that score audio block by block, from packages that carry their models.

Two packages offer them, each an extra, and both run TensorFlow Lite's C library, a runtime beside onnxruntime:
pymicro-wakeword (extra `wake`; code and models Apache-2.0, as their authors declare) and pyopen-wakeword (extra
`openwakeword`; code Apache-2.0, openWakeWord's models CC BY-NC-SA 4.0: not for commercial use).
"""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np

from edge.arrays import F32
from edge.errors import ParameterError
from edge.extras import missing

RATE_HZ = 16_000

_OPEN_THRESHOLD = 0.5  # of openWakeWord's models, by their authors
_OPEN_SAMPLES = 1280  # what its features are computed of, 80 ms
_PROBE_S = 60.0
_PROBE = (
    "import sys; from pathlib import Path; import numpy as np; from edge.speech import wake_word\n"
    "word = wake_word.load_file(Path(sys.argv[1])); word.score(np.zeros(32000, np.float32)); word.close()"
)

# Name -> package, in the order in which a bare name is looked for.
_MICRO = ("okay_nabu", "hey_jarvis", "hey_mycroft", "alexa")
_OPEN = (*_MICRO, "hey_rhasspy")
KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType({"micro": _MICRO, "open": _OPEN})
_PACKAGES: Mapping[str, str] = MappingProxyType({"micro": "pymicro_wakeword", "open": "pyopen_wakeword"})


class WakeWord(Protocol):
    """A detector of one wake word. name: as it is chosen; phrase: what is said; threshold: the score that wakes."""

    name: str
    phrase: str
    threshold: float

    def score(self, block: F32) -> float:
        """Take the next audio, (n,) at 16 kHz; return the highest score in it, 0 to 1."""

    def reset(self) -> None:
        """Forget what was heard."""

    def close(self) -> None:
        """Free the model. Closing twice is fine."""


@dataclass(frozen=True)
class Woken:
    """A wake word that was heard. phrase: what was said; score: 0 to 1."""

    phrase: str
    score: float


class WakeWords:
    """Several wake words at once, with a threshold and a refractory time.

    words: the detectors; threshold: the score that wakes, None for each detector's own; refractory_s: seconds of audio
    after a wake word in which none wakes, neither the rest of it nor its echo.
    """

    def __init__(self, words: Sequence[WakeWord], *, threshold: float | None, refractory_s: float) -> None:
        if threshold is not None and not 0 < threshold < 1:
            raise ParameterError(f"wake threshold: expected a number in (0, 1), got {threshold!r}", field="threshold")
        self.words = tuple(words)
        self._threshold = threshold
        self._refractory = round(refractory_s * RATE_HZ)
        self._deaf = 0  # samples that are left of it

    def heard(self, block: F32, *, raised: float = 0.0) -> Woken | None:
        """Take the next audio, (n,) at 16 kHz; return the wake word in it.

        raised: by what part of the rest to 1 the thresholds are raised: 0.5 makes 0.9 of 0.8.
        """
        scores = [(word.score(block), word) for word in self.words]
        self._deaf = max(0, self._deaf - len(block))
        if self._deaf > 0:
            return None
        for score, word in scores:
            threshold = word.threshold if self._threshold is None else self._threshold
            if score > threshold + (1 - threshold) * raised:
                self._deaf = self._refractory
                return Woken(word.phrase, score)
        return None

    def reset(self) -> None:
        """Forget what was heard, after a gap in the audio."""
        self._deaf = 0
        for word in self.words:
            word.reset()

    def close(self) -> None:
        """Free the models."""
        for word in self.words:
            word.close()


def known() -> list[str]:
    """Return the names of all wake words, whether their packages are installed or not."""
    return sorted({*_MICRO, *_OPEN})


def installed() -> list[str]:
    """Return the names of the wake words whose packages are installed, as `load` takes them; loads those packages."""
    found = [word for kind, words in KINDS.items() if _is_installed(_PACKAGES[kind]) for word in words]
    return sorted(set(found))


def load(name: str | Path) -> WakeWord:
    """Return the detector of a wake word.

    name: "okay_nabu" (microWakeWord's if installed, else openWakeWord's), "micro:okay_nabu" or "open:okay_nabu"; the
    path of a microWakeWord model's .json beside its .tflite, or of an openWakeWord .tflite. A file is tried in a
    process of its own first, for the library that reads it crashes on a damaged one. Raises: ParameterError.
    """
    path = Path(name)
    if path.suffix in (".json", ".tflite"):
        _probe(path)
        return load_file(path)
    kind, separator, word = str(name).rpartition(":")
    kinds = [kind] if separator else [kind for kind, words in KINDS.items() if word in words]
    if not kinds or word not in KINDS.get(kinds[0], ()):
        files = "a model's .json (microWakeWord) or .tflite (openWakeWord)"
        raise _wrong(f"wake word {str(name)!r:.200}: expected {', '.join(known())}, or the path of {files}")
    package = next((package for package in map(_PACKAGES.__getitem__, kinds) if _is_installed(package)), None)
    if package is None:
        raise _wrong(missing(_PACKAGES[kinds[0]], need=f"the wake word {word}"))
    return _builtin(package, word)


def load_file(path: Path) -> WakeWord:
    """Return the detector of a model's file, of which `load` says more. Raises: ParameterError."""
    is_micro = path.suffix == ".json"
    package = _PACKAGES["micro" if is_micro else "open"]
    if not _is_installed(package):
        raise _wrong(missing(package, need=f"the wake word {path.name}"))
    library = importlib.import_module(package)
    try:
        if is_micro:
            model = library.MicroWakeWord.from_config(path)
            return _Micro(path.stem, model, library.MicroWakeWordFeatures)
        return _Open(path.stem, library.OpenWakeWord.from_model(path), library.OpenWakeWordFeatures.from_builtin)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _wrong(f"wake word {str(path)!r:.200}: {type(error).__name__}: {error}") from error


def _builtin(package: str, word: str) -> WakeWord:
    library = importlib.import_module(package)
    if package == _PACKAGES["micro"]:
        return _Micro(word, library.MicroWakeWord.from_builtin(library.Model(word)), library.MicroWakeWordFeatures)
    model = library.OpenWakeWord.from_builtin(library.Model(word))
    return _Open(word, model, library.OpenWakeWordFeatures.from_builtin)


def _probe(path: Path) -> None:
    """Load a file in another process. Raises: ParameterError for one that cannot be used."""
    if not path.is_file():
        raise _wrong(f"wake word {str(path)!r:.200}: no such file")
    if not _is_installed(_PACKAGES["micro" if path.suffix == ".json" else "open"]):
        return  # told where it is loaded
    command = [sys.executable, "-c", _PROBE, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PROBE_S)
    except subprocess.TimeoutExpired as error:
        raise _wrong(f"wake word {str(path)!r:.200}: loading it does not end") from error
    if done.returncode < 0:
        raise _wrong(f"wake word {str(path)!r:.200}: expected a model for TensorFlow Lite; reading it crashes")
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or ["it cannot be loaded"])[-1]
        raise _wrong(f"wake word {str(path)!r:.200}: {last.removeprefix('edge.errors.ParameterError: ')[:300]}")


def _is_installed(package: str) -> bool:
    try:
        importlib.import_module(package)
    except (ImportError, OSError):  # OSError: a library that is not for this machine
        return False
    return True


def _wrong(message: str) -> ParameterError:
    return ParameterError(message, field="wake")


def _pcm(block: F32) -> bytes:
    return (np.clip(block, -1, 1) * 32767).astype("<i2").tobytes()


class _MicroModel(Protocol):
    wake_word: str
    probability_cutoff: float

    def process_streaming_prob(self, features: F32) -> float | None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


class _OpenModel(Protocol):
    def process_streaming(self, embeddings: F32) -> Iterable[float]: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


class _Features(Protocol):
    def process_streaming(self, audio: bytes) -> Iterable[F32]: ...

    def reset(self) -> None: ...


class _Micro:
    """A model of microWakeWord: features each 10 ms, a score each 30 ms."""

    def __init__(self, name: str, model: _MicroModel, features: Callable[[], _Features]) -> None:
        self.name, self.phrase, self.threshold = name, model.wake_word, model.probability_cutoff
        self._model = model
        self._features = features()

    def score(self, block: F32) -> float:
        found = self._features.process_streaming(_pcm(block))
        return max((self._model.process_streaming_prob(part) or 0.0 for part in found), default=0.0)

    def reset(self) -> None:
        self._features.reset()
        self._model.reset()

    def close(self) -> None:
        self._model.close()


class _Open:
    """A model of openWakeWord: features and a score each 80 ms."""

    def __init__(self, name: str, model: _OpenModel, features: Callable[[], _Features]) -> None:
        self.name, self.phrase, self.threshold = name, name.replace("_", " "), _OPEN_THRESHOLD
        self._model = model
        self._features = features()
        self._waiting: F32 = np.zeros(0, np.float32)

    def score(self, block: F32) -> float:
        self._waiting = np.concatenate([self._waiting, block])
        highest = 0.0
        while len(self._waiting) >= _OPEN_SAMPLES:
            part, self._waiting = self._waiting[:_OPEN_SAMPLES], self._waiting[_OPEN_SAMPLES:]
            for features in self._features.process_streaming(_pcm(part)):
                highest = max([highest, *self._model.process_streaming(features)])
        return highest

    def reset(self) -> None:
        self._waiting = self._waiting[:0]
        self._features.reset()
        self._model.reset()

    def close(self) -> None:
        self._model.close()
        cast(_OpenModel, self._features).close()
