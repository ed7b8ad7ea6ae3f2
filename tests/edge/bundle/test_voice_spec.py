"""What a voice's manifest may say: every value outside its range is an error that names its key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.bundle import certificate
from edge.bundle.bundle import Bundle, SpeechBundle, VoiceBundle
from edge.bundle.manifest import MANIFEST, dump_manifest, parse_manifest
from edge.errors import BundleError
from edge.speech.voice_files import stage
from tests.edge.speech.made_voices import write_kokoro, write_piper


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("voice")
    stage(write_piper(folder / "p", "eva"), out := folder)
    return json.loads((out / MANIFEST).read_bytes())


def parsed(document: dict[str, object], path: str, value: object) -> object:
    changed = json.loads(json.dumps(document))
    *parents, last = path.split(".")
    place = changed
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return parse_manifest(json.dumps(changed).encode(), file="m")


def test_a_manifest_is_written_as_it_is_read(document: dict[str, object]) -> None:
    made = parse_manifest(json.dumps(document).encode(), file="m")
    assert parse_manifest(dump_manifest(made), file="m") == made


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("voice.rate_hz", 7999, "voice.rate_hz: expected 8000 to 48000, got 7999"),
        ("voice.rate_hz", 48_001, "voice.rate_hz"),
        ("voice.max_symbols", 0, "voice.max_symbols: expected 1 to 4096, got 0"),
        ("voice.max_symbols", 4097, "voice.max_symbols"),
        ("voice.alphabet", "sampa", "voice.alphabet: expected 'ipa' or 'misaki' or 'text'"),
        ("voice.noise", None, "voice.noise: expected an object for family 'vits'"),
        ("voice.noise.tone", 11, "voice.noise.tone: expected 0 to 10, got 11"),
        ("voice.noise.rhythm", -0.1, "voice.noise.rhythm"),
        ("voice.noise.length", 0, "voice.noise.length: expected 0.1 to 10"),
        ("voice.symbols", {}, "voice.symbols: expected 1 to 4096 symbols"),
        ("voice.symbols.^", None, "voice.symbols.^: expected ids, which every sentence"),
        ("voice.symbols.a", [], "voice.symbols.'a'"),
        ("voice.symbols.a", [-1], "voice.symbols.'a'"),
        ("voice.symbols.abcde", [3], "voice.symbols.'abcde'"),
        ("voice.speakers", [], "voice.speakers: expected 1 to 4096 speakers"),
        ("voice.speakers", [{"name": "a", "language": "en"}] * 2, "of different names, got 2"),
        ("voice.speakers.0.language", "../en", "voice.speakers: expected a name, and a language"),
        ("voice.speakers.0.name", "a\nb", "voice.speakers"),
        ("voice.pitch", 1, "unknown key voice.pitch"),
        ("license.use", "some", "license.use: expected 'any' or 'non-commercial' or 'unknown'"),
        ("license.name", "x" * 2001, "license.name: expected at most 2000 characters"),
        ("license", None, "missing key license"),
        ("files", {}, "files.voice.onnx: expected this file"),
        ("family", "kokoro", "expected"),
        ("family", "bark", "family: expected"),
    ],
)
def test_a_value_out_of_range_is_named(document: dict[str, object], path: str, value: object, words: str) -> None:
    with pytest.raises(BundleError) as caught:
        parsed(document, path, value)
    assert words in str(caught.value)


def test_kokoro_has_no_more_symbols_than_rows_of_style(tmp_path: Path) -> None:
    stage(write_kokoro(tmp_path / "k"), tmp_path)
    document = json.loads((tmp_path / MANIFEST).read_bytes())
    with pytest.raises(BundleError, match="at most 510 for family 'kokoro', got 511"):
        parsed(document, "voice.max_symbols", 511)
    with pytest.raises(BundleError, match="voice.noise: expected null for family 'kokoro'"):
        parsed(document, "voice.noise", {"tone": 1, "rhythm": 1, "length": 1})


def test_a_voice_is_opened_as_nothing_else(tmp_path: Path, int8_bundle: Path) -> None:
    graph = write_piper(tmp_path / "p", "eva")
    (tmp_path / "out").mkdir()
    stage(graph, tmp_path / "out")
    (tmp_path / "out/voice.onnx").unlink()
    graph.rename(tmp_path / "out/voice.onnx")
    assert VoiceBundle.open(tmp_path / "out").manifest.id == "eva"
    with pytest.raises(BundleError, match=r"expected a chat bundle, got a voice bundle \(family 'vits'\)"):
        Bundle.open(tmp_path / "out")
    with pytest.raises(BundleError, match="expected a speech bundle"):
        SpeechBundle.open(tmp_path / "out")
    with pytest.raises(BundleError, match=r"expected a voice bundle \(family 'vits' or 'kokoro'\), got family 'yasa2'"):
        VoiceBundle.open(int8_bundle)


def test_golden_tokens_are_none_of_a_voices(document: dict[str, object]) -> None:
    made = parse_manifest(json.dumps(document).encode(), file="m")
    with pytest.raises(BundleError, match="golden: expected none for a voice"):
        certificate.parse(b'{"golden": {"format": 1}}', made)
