"""The graphs of neural voices: ids of symbols in, samples out. One class a family, by the interface of its files."""

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from edge.arrays import F32, I64
from edge.bundle.bundle import VoiceBundle
from edge.bundle.manifest import VoiceManifest
from edge.bundle.voice_spec import SPEAKERS, STYLE_ROWS, STYLE_WIDTH, VOICE, Noise
from edge.engine.session import failure_of, open_session, run_options, shrink
from edge.errors import BundleError, NonFiniteError
from edge.speech.voice import Stopped

if TYPE_CHECKING:
    import onnxruntime as ort

_LOOK_S: Final = 0.02  # between looks at whether a sentence is stopped
_INT64: Final = "tensor(int64)"
_FLOAT: Final = "tensor(float)"
_SPEEDS: Final = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int32)": np.int32}
_IDS_OF_KOKORO: Final = ("tokens", "input_ids")  # kokoro-onnx's, and those of transformers.js


class VoiceGraph(Protocol):
    """Turns ids into samples."""

    def run(self, ids: list[int], *, speaker: int, speed: float, stopped: Stopped | None = None) -> F32 | None:
        """Return samples (n,), None once `stopped`. Raises: NonFiniteError, RuntimeFailure, MemoryExhausted."""


_OPEN: "weakref.WeakValueDictionary[tuple[object, ...], Vits | Kokoro]" = weakref.WeakValueDictionary()
_OPENING = threading.Lock()


def open_graph(bundle: VoiceBundle, *, threads: int) -> VoiceGraph:
    """Load the graph of a voice; the speakers of a bundle share it, for as long as one of them is open.

    Raises: BundleError for one that has not its family's inputs, MemoryExhausted.
    """
    key = (os.getpid(), bundle.path, threads, *(entry.sha256 for entry in bundle.manifest.files.values()))
    with _OPENING:
        graph = _OPEN.get(key)
        if graph is None:
            session = open_session(bundle.path / VOICE, threads=threads)
            file = bundle.path / VOICE
            is_vits = bundle.manifest.family == "vits"
            graph = Vits(session, bundle.manifest, file=file) if is_vits else Kokoro(session, bundle, file=file)
            _OPEN[key] = graph
        return graph


class Vits:
    """A VITS model as Piper exports it: ids (1, n), their number, (tone, length, rhythm), the speaker; samples out.

    Each sentence is a little different: its tone and its rhythm are drawn anew.
    """

    def __init__(self, session: "ort.InferenceSession", manifest: VoiceManifest, *, file: Path) -> None:
        wanted = {"input": _INT64, "input_lengths": _INT64, "scales": _FLOAT}
        if "sid" in {each.name for each in session.get_inputs()}:
            wanted["sid"] = _INT64
        elif len(manifest.voice.speakers) > 1:
            raise BundleError(f"{file}: expected the input sid for {len(manifest.voice.speakers)} speakers, got none")
        check_inputs(session, wanted, file=file)
        self._session = session
        self._has_speakers = "sid" in wanted
        self._noise = manifest.voice.noise or Noise(0.0, 0.0, 1.0)

    def run(self, ids: list[int], *, speaker: int, speed: float, stopped: Stopped | None = None) -> F32 | None:
        """Return samples (n,), None once `stopped`. Raises: as `VoiceGraph.run`."""
        noise = self._noise
        feeds: dict[str, I64 | F32] = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([noise.tone, noise.length / speed, noise.rhythm], np.float32),
        }
        if self._has_speakers:
            feeds["sid"] = np.array([speaker], np.int64)
        return samples_of(self._session, feeds, stopped)


class Kokoro:
    """Kokoro-82M: ids (1, n) between two pads, a row of the speaker's style by their number, the speed; samples out."""

    def __init__(self, session: "ort.InferenceSession", bundle: VoiceBundle, *, file: Path) -> None:
        kinds = {each.name: each.type for each in session.get_inputs()}
        self._ids = next((name for name in _IDS_OF_KOKORO if name in kinds), _IDS_OF_KOKORO[0])
        speed = kinds.get("speed", _FLOAT)
        wanted = {self._ids: _INT64, "style": _FLOAT, "speed": speed if speed in _SPEEDS else _FLOAT}
        check_inputs(session, wanted, file=file)
        self._speed = _SPEEDS[wanted["speed"]]
        self._session = session
        self._styles = _styles(bundle)

    def run(self, ids: list[int], *, speaker: int, speed: float, stopped: Stopped | None = None) -> F32 | None:
        """Return samples (n,), None once `stopped`. Raises: as `VoiceGraph.run`."""
        padded = [0, *ids, 0]
        feeds: dict[str, I64 | F32] = {
            self._ids: np.array([padded], np.int64),
            "style": self._styles[speaker, min(len(ids), STYLE_ROWS) - 1][None],
            "speed": np.array([max(speed, 1.0) if self._speed is np.int32 else speed], self._speed),
        }
        return samples_of(self._session, feeds, stopped)


def check_inputs(session: "ort.InferenceSession", wanted: dict[str, str], *, file: Path) -> None:
    """Compare a graph's inputs with those of its family. Raises: BundleError naming the input."""
    found = {each.name: each.type for each in session.get_inputs()}
    for name in sorted(found.keys() ^ wanted.keys()):
        what = "is missing" if name in wanted else "is not known"
        raise BundleError(f"{file}: input {name!r:.100} {what}; expected {', '.join(wanted)}")
    for name, kind in wanted.items():
        if found[name] != kind:
            raise BundleError(f"{file}: input {name}: expected {kind}, got {found[name]!r:.100}")


def _styles(bundle: VoiceBundle) -> F32:
    """Map the styles of a bundle's speakers: (speakers, rows, width). Raises: BundleError."""
    shape = (len(bundle.manifest.voice.speakers), STYLE_ROWS, STYLE_WIDTH)
    try:
        return np.memmap(bundle.path / SPEAKERS, dtype=np.float32, mode="r", shape=shape)
    except (OSError, ValueError) as error:
        raise BundleError(f"{bundle.path / SPEAKERS}: cannot be read: {error}") from error


def samples_of(
    session: "ort.InferenceSession", feeds: dict[str, I64 | F32], stopped: Stopped | None = None
) -> F32 | None:
    """Run a graph; return its samples (n,), None where it was stopped.

    Raises: NonFiniteError, RuntimeFailure, MemoryExhausted.
    """
    options = run_options()
    shrink(options)  # sentences differ in length: what the longest took is not kept
    with _ended_by(stopped, options):
        try:
            found = session.run([session.get_outputs()[0].name], feeds, options)[0]
        except Exception as error:
            if stopped is not None and stopped():
                return None
            raise failure_of(error) from error
    samples = np.asarray(found, np.float32).reshape(-1)
    if not np.isfinite(samples).all():
        raise NonFiniteError("a sentence of the voice")
    return np.clip(samples, -1.0, 1.0)


@contextlib.contextmanager
def _ended_by(stopped: Stopped | None, options: "ort.RunOptions") -> Iterator[None]:
    """Have a run end at its next node once `stopped` says so; a thread asks while it lasts."""
    if stopped is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            if stopped():
                options.terminate = True
                return

    watching = threading.Thread(target=watch, name="edge-voice-stop", daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
