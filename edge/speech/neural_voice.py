"""A neural voice: an installed voice bundle that says sentences, on the onnxruntime that runs everything else."""

import logging
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from edge.arrays import F32
from edge.bundle import store
from edge.bundle.bundle import VoiceBundle
from edge.bundle.manifest import VoiceManifest
from edge.bundle.store import Stored
from edge.bundle.voice_spec import MAX_SYMBOL_CHARS, SpeakerSpec
from edge.engine.session import thread_count
from edge.errors import BundleError, ParameterError, UnknownModelError, VoiceError, shown
from edge.speech.espeak import ESPEAK
from edge.speech.phonemes import Phonemizer
from edge.speech.voice import Stopped, check_speed
from edge.speech.voice_graphs import VoiceGraph, open_graph

_LOG = logging.getLogger("edge")
_QUIET: Final = 0.004  # -48 dB: below it nothing is said
_LEAD_S, _TAIL_S = 0.03, 0.1  # of quiet that is left before and behind what is said
_PAUSE_S: Final = 0.2  # behind a sentence, and behind each part of one that is too long for one run
# Codes of espeak-ng's that others spell in another way.
_SPELLINGS: Final = {"zh": "cmn", "no": "nb"}
_N_NAMED: Final = 8


class NeuralVoice:
    """A voice bundle, opened. name: its id, with the speaker behind a colon where it is not the first.

    Safe to call from one thread at a time; any of them may close it.
    """

    def __init__(self, bundle: VoiceBundle, speaker: int, *, threads: int | None = None) -> None:
        spec = bundle.manifest.voice
        chosen = spec.speakers[speaker]
        self.name = bundle.manifest.id + (f":{chosen.name}" if speaker else "")
        self.rate_hz = spec.rate_hz
        self.languages = (chosen.language,)
        self._spec = spec
        self._family = bundle.manifest.family
        self._speaker = speaker
        self._closing = threading.Lock()
        self._phonemizer = None
        if spec.alphabet != "text":
            self._phonemizer = Phonemizer.open(chosen.language, is_misaki=spec.alphabet == "misaki")
        self._graph: VoiceGraph | None = open_graph(bundle, threads=thread_count(threads))

    def __repr__(self) -> str:
        return f"NeuralVoice({self.name!r})"

    def say(self, sentence: str, *, speed: float = 1.0, stopped: Stopped | None = None) -> F32:
        """Return a sentence as samples (n,), with the pause behind it; none for one without words, or once `stopped`.

        stopped: asked every 20 ms; the graph ends at its next node.
        Raises: as `Voice.say`; VoiceError once it is closed, NonFiniteError, RuntimeFailure, MemoryExhausted.
        """
        check_speed(speed)
        with self._closing:
            graph = self._graph
        if graph is None:
            raise VoiceError(f"the voice {self.name} is closed")
        pause = np.zeros(round(_PAUSE_S / speed * self.rate_hz), np.float32)
        parts: list[F32] = []
        for ids in self._ids(sentence):
            said = graph.run(ids, speaker=self._speaker, speed=speed, stopped=stopped)
            if said is None:
                return np.zeros(0, np.float32)
            parts += [trimmed(said, self.rate_hz), pause]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def close(self) -> None:
        """Free its graph. Closing twice is fine."""
        with self._closing:
            self._graph = None

    def _ids(self, sentence: str) -> Iterator[list[int]]:
        """Yield the ids of each part of a sentence."""
        written = sentence if self._phonemizer is None else self._phonemizer.phonemes(sentence)
        text = unicodedata.normalize("NFD", written) if self._family == "vits" else written
        for part in parts_of(symbols_of(text, self._spec.symbols), self._spec.max_symbols):
            if not any(symbol.isalnum() for symbol in part):
                continue
            yield vits_ids(part, self._spec.symbols) if self._family == "vits" else kokoro_ids(part, self._spec.symbols)


def open_named(name: str | Path, *, language: str | None, threads: int | None = None) -> NeuralVoice:
    """Open an installed voice by its id or alias, with the name of a speaker behind a colon; or the folder of a bundle.

    language: of the text, which the voice has to speak; None for its own. Raises: ParameterError for a voice, a speaker
    or a language there is not, BundleError, VoiceError.
    """
    stored, speaker = _found(name)
    manifest = _manifest(stored)
    speakers = manifest.voice.speakers
    if speaker is not None:
        chosen = _speaker(manifest, speaker)
        if language is not None and not speaks(speakers[chosen], language):
            raise _wrong_language(stored.id, speakers[chosen].language, language)
    else:
        able = [n for n, each in enumerate(speakers) if language is None or speaks(each, language)]
        if not able:
            raise _wrong_language(stored.id, ", ".join(manifest.voice.languages), language or "")
        chosen = able[0]
    return NeuralVoice(VoiceBundle.open(stored.path), chosen, threads=threads)


def installed(language: str | None) -> Stored | None:
    """Return the installed voice that speaks a language, the default first; None where there is none."""
    for stored in store.bundles("voice"):
        if language is None or any(speaks(each, language) for each in _manifest(stored).voice.speakers):
            return stored
    return None


def speaks(speaker: SpeakerSpec, language: str) -> bool:
    """Return whether a speaker reads a language: `en` is read by any of English, `en-GB` by one of en-gb."""
    wanted, has = language.strip().lower().replace("_", "-"), speaker.language.lower()
    wanted = _SPELLINGS.get(wanted, wanted)
    return has == wanted or has.startswith(f"{wanted}-") or has == wanted.partition("-")[0]


def symbols_of(text: str, known: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the symbols of a text that a voice knows, the longest first where several fit; others are left out."""
    longest = min(MAX_SYMBOL_CHARS, max(map(len, known)))
    found, at, unknown = [], 0, set()
    while at < len(text):
        for n in range(longest, 0, -1):
            if text[at : at + n] in known and len(text[at : at + n]) == n:
                found.append(text[at : at + n])
                at += n
                break
        else:
            unknown.add(text[at])
            at += 1
    if unknown:
        _LOG.debug("the voice has no sound for %s", " ".join(sorted(unknown)))
    return found


def parts_of(symbols: list[str], most: int) -> Iterator[list[str]]:
    """Yield symbols in runs of at most `most`, ended at a mark, else at a space, where there is one."""
    while len(symbols) > most:
        window = symbols[:most]
        ends = [n for n, symbol in enumerate(window) if symbol in ".!?;:,"] or [
            n for n, s in enumerate(window) if s == " "
        ]
        end = ends[-1] + 1 if ends and ends[-1] else most
        yield symbols[:end]
        symbols = symbols[end:]
        while symbols and symbols[0] == " ":
            symbols = symbols[1:]
    if symbols:
        yield symbols


def vits_ids(symbols: list[str], known: Mapping[str, tuple[int, ...]]) -> list[int]:
    """Return the ids of symbols, a pad behind each, between a start and an end. Source: Piper's phonemes to ids."""
    start, pad, end = known["^"], known["_"], known["$"]
    body = [each for symbol in symbols for each in (*known[symbol], *pad)]
    return [*start, *pad, *body, *end]


def kokoro_ids(symbols: list[str], known: Mapping[str, tuple[int, ...]]) -> list[int]:
    """Return the ids of symbols; the graph gets a pad at each end."""
    return [each for symbol in symbols for each in known[symbol]]


def trimmed(samples: F32, rate_hz: int) -> F32:
    """Return samples without the quiet before and behind what is said, but for a little of it."""
    loud = np.flatnonzero(np.abs(samples) > _QUIET)
    if not len(loud):
        return samples
    start, end = loud[0] - round(_LEAD_S * rate_hz), loud[-1] + round(_TAIL_S * rate_hz)
    return samples[max(0, start) : end]


def _found(name: str | Path) -> tuple[Stored, str | None]:
    """Return the bundle that a name or a folder stands for, and the speaker that is named behind a colon."""
    if isinstance(name, Path) or "/" in name:
        if Path(name).is_dir() or isinstance(name, Path):
            return store.at(Path(name)), None
        folder, _, speaker = str(name).rpartition(":")
        return store.at(Path(folder or str(name))), speaker if folder else None
    bundle_id, _, speaker = name.partition(":")
    try:
        return store.named(bundle_id, "voice"), speaker or None
    except UnknownModelError as error:
        there = ", ".join([*(stored.id for stored in store.bundles("voice")), ESPEAK])
        ways = "edge models install NAME.onnx for one of Piper's, edge models install DIR for Kokoro"
        msg = f"voice: expected one of {there}, got {shown(bundle_id)}. To add one: {ways}"
        raise ParameterError(msg, field="voice") from error


def _manifest(stored: Stored) -> VoiceManifest:
    if not isinstance(stored.manifest, VoiceManifest):
        raise BundleError(f"{stored.path}: {stored.id} is no voice: its family is {stored.manifest.family!r}")
    return stored.manifest


def _speaker(manifest: VoiceManifest, wanted: str) -> int:
    names = [speaker.name for speaker in manifest.voice.speakers]
    if wanted not in names:
        some = ", ".join(names[:_N_NAMED]) + (f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else "")
        raise ParameterError(f"voice: {manifest.id} has no speaker {shown(wanted)}; it has {some}", field="voice")
    return names.index(wanted)


def _wrong_language(name: str, spoken: str, wanted: str) -> ParameterError:
    msg = f"language: the voice {name} speaks {spoken}, not {shown(wanted)}: name another voice (edge models list)"
    return ParameterError(msg, field="language")
