"""Kokoro as others publish it: a graph, the styles of its speakers, and its table of symbols."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from edge.arrays import F32
from edge.bundle import strict_json
from edge.bundle.bundle import MAX_MANIFEST_BYTES
from edge.bundle.voice_spec import SPEAKER_BYTES, STYLE_ROWS, STYLE_WIDTH, SpeakerSpec, VoiceSpec
from edge.errors import BundleError, UnsupportedError

RATE_HZ: Final = 24_000
# The first letter of a speaker's name is its language; those of Japanese and Chinese need phonemizers of their own.
LANGUAGES: Final[Mapping[str, str]] = {
    "a": "en-us", "b": "en-gb", "e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"
}  # fmt: skip
_FIRST: Final = "af_heart"  # the one with the best marks of its makers
_TABLES: Final = ("config.json", "vocab.json", "tokenizer.json")
_MAX_SPEAKERS: Final = 512
_HEADER_BYTES: Final = 4096
# Kokoro-82M's own: symbols from an id on. Source: its config.json.
_RUNS: Final[Mapping[int, str]] = {
    1: ";:,.!?", 9: '—…"()“” \u0303ʣʥʦʨᵝ\uab67AI', 31: "O", 33: "Q", 35: "ST", 39: "W", 41: "Yᵊabcdef",
    50: "hijklmnopqrstuvwxyzɑɐɒæ", 75: "βɔɕç", 80: "ɖðʤə", 85: "ɚɛɜ", 90: "ɟ", 92: "ɡ", 99: "ɥ", 101: "ɨɪʝ",
    110: "ɯɰŋɳɲɴø", 118: "ɸθœ", 123: "ɹ", 125: "ɾɻ", 128: "ʁɽʂʃʈʧ", 135: "ʊʋ", 138: "ʌɣɤ", 142: "χʎ", 147: "ʒʔ",
    156: "ˈˌː", 162: "ʰ", 164: "ʲ", 169: "↓", 171: "→↗↘", 177: "ᵻ",
}  # fmt: skip


def graphs(path: Path) -> list[Path]:
    """Return the graphs of Kokoro that a path stands for: the file itself, or those in the folder with styles."""
    if path.is_file():
        return [path] if path.suffix == ".onnx" and _places(_root(path)) else []
    if not path.is_dir() or not _places(path):
        return []
    return sorted([*path.glob("*.onnx"), *path.glob("onnx/*.onnx")])


def voice_spec(graph: Path, names: list[str]) -> VoiceSpec:
    """Return what a Kokoro voice is, with the speakers of these names. Raises: BundleError."""
    symbols = {symbol: (number,) for symbol, number in _table(_root(graph)).items() if len(symbol) == 1}
    speakers = tuple(SpeakerSpec(name, LANGUAGES[name[0]]) for name in names)
    return VoiceSpec(RATE_HZ, "misaki", symbols, speakers, STYLE_ROWS)


def styles(graph: Path) -> tuple[dict[str, F32], list[str], list[Path]]:
    """Return the styles (rows, 256) of the speakers by name, the first choice first; who is left out; the files.

    Raises: BundleError for a file that has something else, UnsupportedError where no speaker's language is supported.
    """
    places = _places(_root(graph))
    found = dict(_all_styles(places))
    left_out = sorted(name for name in found if name[0] not in LANGUAGES)
    able = sorted((name for name in found if name[0] in LANGUAGES), key=lambda name: (name != _FIRST, name))
    if not able:
        some = ", ".join(left_out[:8])
        raise UnsupportedError(f"{places[0]}: none of its speakers is supported ({some}): Japanese and Chinese are not")
    if len(able) > _MAX_SPEAKERS:
        raise BundleError(f"{places[0]}: expected at most {_MAX_SPEAKERS} speakers, got {len(able)}")
    return {name: found[name] for name in able}, left_out, places


def _root(graph: Path) -> Path:
    """Return the folder of a model: that of the graph, or the one above `onnx`."""
    return graph.parent.parent if graph.parent.name == "onnx" else graph.parent


def _places(folder: Path) -> list[Path]:
    """Return the files that have styles: one archive of all, or a file for each speaker."""
    archives = [path for path in sorted([*folder.glob("*.npz"), *folder.glob("*.bin")]) if _is_archive(path)]
    if archives:
        return archives[:1]
    single = [*folder.glob("voices/*.bin"), *folder.glob("*.bin")]
    return sorted(path for path in single if path.stat().st_size == SPEAKER_BYTES)


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except OSError:
        return False


def _all_styles(places: list[Path]) -> Iterator[tuple[str, F32]]:
    for path in places:
        try:
            if _is_archive(path):
                yield from _of_archive(path)
            else:
                yield path.stem, np.fromfile(path, np.float32)
        except BundleError:
            raise
        except Exception as error:  # zipfile, its codings and NumPy's reader of headers have no error in common
            raise BundleError(f"{path}: styles of speakers cannot be read: {error}") from error


def _of_archive(path: Path) -> Iterator[tuple[str, F32]]:
    """Yield the arrays of an archive of NumPy's, each of the one size that a style has."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist()[: 2 * _MAX_SPEAKERS]:
            if not SPEAKER_BYTES <= entry.file_size <= SPEAKER_BYTES + _HEADER_BYTES:
                wanted = f"{STYLE_ROWS} rows of {STYLE_WIDTH}"
                raise BundleError(f"{path}: {entry.filename!r:.60}: expected {wanted}, got {entry.file_size} bytes")
            array = np.load(io.BytesIO(archive.read(entry)))  # of numbers: it refuses objects
            if not isinstance(array, np.ndarray):
                raise BundleError(f"{path}: {entry.filename!r:.60}: expected an array, got an archive")
            if array.dtype != np.float32 or array.size != STYLE_ROWS * STYLE_WIDTH:
                raise BundleError(f"{path}: {entry.filename!r:.60}: expected float32, got {array.dtype} {array.shape}")
            yield _name_of(path, entry.filename), array.reshape(-1)


def _name_of(path: Path, entry: str) -> str:
    """Return the name of a speaker. Raises: BundleError for none."""
    name = Path(entry).stem
    if not name:
        raise BundleError(f"{path}: {entry!r:.60}: expected the name of a speaker")
    return name


def _table(folder: Path) -> Mapping[str, int]:
    """Return ids by symbol: those of the model's own files, else Kokoro-82M's. Raises: BundleError."""
    for name in _TABLES:
        path = folder / name
        if not path.is_file():
            continue
        with path.open("rb") as opened:
            document = strict_json.load(opened.read(MAX_MANIFEST_BYTES), file=str(path))
        model = document.get("model")
        vocab = document.get("vocab", model.get("vocab") if isinstance(model, dict) else None)
        if isinstance(vocab, dict):
            if not all(type(number) is int for number in vocab.values()):
                raise BundleError(f"{path}: vocab: expected ids by symbol, got {json.dumps(vocab)[:100]}")
            return {str(symbol): int(str(number)) for symbol, number in vocab.items()}
    return {symbol: first + n for first, symbols in _RUNS.items() for n, symbol in enumerate(symbols)}
