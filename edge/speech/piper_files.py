"""A voice as Piper publishes it: NAME.onnx, NAME.onnx.json and a model card. Source: Piper's own configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge.bundle import strict_json
from edge.bundle.bundle import MAX_MANIFEST_BYTES
from edge.bundle.voice_spec import MAX_SYMBOL_CHARS, Alphabet, Noise, SpeakerSpec, VoiceSpec
from edge.errors import BundleError, UnsupportedError

CONFIG: Final = ".json"  # behind the name of the graph

_ALPHABETS: Final[Mapping[str, Alphabet]] = {"espeak": "ipa", "text": "text"}
_MAX_SYMBOLS: Final = 400  # about half a minute: what a sentence takes in memory grows with its square
_TONE, _RHYTHM, _LENGTH = 0.667, 0.8, 1.0  # Piper's own, where a voice has none


def graphs(path: Path) -> list[Path]:
    """Return the graphs of Piper voices that a path stands for: the file itself, or those in the folder."""
    files = [path] if path.is_file() else sorted(path.glob("*.onnx")) if path.is_dir() else []
    return [file for file in files if file.suffix == ".onnx" and config_of(file).is_file()]


def config_of(graph: Path) -> Path:
    """Return the file that describes a graph."""
    return graph.with_name(graph.name + CONFIG)


def voice_spec(graph: Path) -> VoiceSpec:
    """Return what a voice's own description says of it.

    Raises: BundleError naming file and key, UnsupportedError for a voice whose text is not read by espeak-ng.
    """
    file = config_of(graph)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_MANIFEST_BYTES)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from error
    found = _Config(strict_json.load(data, file=str(file)), str(file))
    alphabet = _alphabet(found)
    inference = found.part("inference")
    noise = Noise(
        tone=inference.number("noise_scale", _TONE),
        rhythm=inference.number("noise_w", _RHYTHM),
        length=inference.number("length_scale", _LENGTH),
    )
    return VoiceSpec(
        rate_hz=round(found.part("audio").number("sample_rate")),
        alphabet=alphabet,
        symbols=_symbols(found),
        speakers=_speakers(found),
        max_symbols=_MAX_SYMBOLS,
        noise=noise,
    )


class _Config:
    """A JSON object of a file that is not ours: keys that nobody asks for are left alone."""

    def __init__(self, values: Mapping[str, object], file: str, key: str = "") -> None:
        self.values = values
        self._file = file
        self._key = key

    def part(self, name: str) -> "_Config":
        """Return an object in it, an empty one where it is missing. Raises: BundleError for something else."""
        value = self.values.get(name, {})
        if not isinstance(value, dict):
            raise self.fault(name, "an object")
        return _Config(value, self._file, f"{self._key}{name}.")

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number. Raises: BundleError for something else, and without a default for nothing."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fault(name, "a number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        """Return a text. Raises: BundleError for something else."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise self.fault(name, "a text")
        return value

    def fault(self, name: str, wanted: str) -> BundleError:
        """Return the error for a value."""
        return BundleError(f"{self._file}: {self._key}{name}: expected {wanted}, got {self.values.get(name)!r:.100}")


def _alphabet(found: _Config) -> Alphabet:
    kind = found.text("phoneme_type", "espeak")
    if kind not in _ALPHABETS:
        wanted = " or ".join(map(repr, _ALPHABETS))
        raise UnsupportedError(f"phoneme_type {kind!r:.60} is not supported: expected {wanted}; choose another voice")
    if found.part("phoneme_map").values:
        raise UnsupportedError("phoneme_map is not supported: choose a voice whose phoneme_map is empty")
    return _ALPHABETS[kind]


def _symbols(found: _Config) -> dict[str, tuple[int, ...]]:
    """Return ids by symbol: characters, and the clusters that the voice was trained on."""
    clusters = found.values.get("vowel_clusters") or []
    if not isinstance(clusters, list):
        raise found.fault("vowel_clusters", "a list")
    known = {"".join(map(str, each)) for each in clusters if isinstance(each, list)}
    symbols: dict[str, tuple[int, ...]] = {}
    table = found.part("phoneme_id_map")
    for symbol, ids in table.values.items():
        if not isinstance(ids, list) or not all(type(each) is int for each in ids):
            raise table.fault(symbol, "a list of ids")
        if len(symbol) == 1 or (symbol in known and len(symbol) <= MAX_SYMBOL_CHARS):
            symbols[symbol] = tuple(ids)
    return symbols


def _speakers(found: _Config) -> tuple[SpeakerSpec, ...]:
    """Return the speakers in the order of their ids, which begin at 0."""
    language = found.part("espeak").text("voice", "") or found.part("language").text("code", "")
    count, named = found.values.get("num_speakers", 1), found.part("speaker_id_map")
    if type(count) is not int or not 1 <= count <= 1 << 16:
        raise found.fault("num_speakers", "1 or more")
    names = {n: str(n) for n in range(count)}
    for name, n in named.values.items():
        if type(n) is not int or not 0 <= n < count:
            raise named.fault(name, f"an id below {count}")
        names[n] = name
    if count == 1:
        names = {0: next(iter(named.values), "default")}
    return tuple(SpeakerSpec(names[n], language) for n in range(count))
