"""What the makers of voices publish becomes a bundle: the graph bit for bit, the rest checked and written anew."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge.bundle import store
from edge.bundle.bundle import VoiceBundle
from edge.bundle.install import install
from edge.bundle.manifest import VoiceManifest
from edge.bundle.voice_spec import SPEAKER_BYTES, Noise, SpeakerSpec
from edge.errors import BundleError, EdgeError, ParameterError, UnsupportedError
from edge.speech.voice_files import is_upstream, stage
from tests.edge.speech.made_voices import TABLE, write_kokoro, write_piper


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "staged").mkdir()
    return tmp_path / "staged"


def changed(graph: Path, **keys: object) -> None:
    path = graph.with_name(graph.name + ".json")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | keys), "utf-8")


def test_a_piper_voice_is_described_and_its_graph_stays_as_it_is(tmp_path: Path, out: Path) -> None:
    graph = write_piper(
        tmp_path / "p", "de_DE-eva-low", language="de", card="* License: CC BY 4.0\n* URL: eva.example\n"
    )
    made = stage(graph, out)
    assert install(out).path == tmp_path / "models/de_DE-eva-low"
    bundle = VoiceBundle.open(tmp_path / "models/de_DE-eva-low")
    assert bundle.manifest == made
    assert (bundle.path / "voice.onnx").read_bytes() == graph.read_bytes()
    assert (made.family, made.license.name, made.license.use, made.license.credit) == (
        "vits",
        "CC BY 4.0",
        "any",
        "eva.example",
    )
    assert made.voice.speakers == (SpeakerSpec("default", "de"),)
    assert made.voice.noise == Noise(0.0, 0.0, 1.0)
    assert made.voice.symbols["a"] == tuple(TABLE["a"])
    assert set(made.source.files) == {"de_DE-eva-low.onnx", "de_DE-eva-low.onnx.json", "MODEL_CARD"}


def test_a_folder_with_one_voice_is_that_voice(tmp_path: Path, out: Path) -> None:
    write_piper(tmp_path / "p")
    assert is_upstream(tmp_path / "p")
    assert stage(tmp_path / "p", out).id == "xx_XX-made-low"


def test_of_several_voices_one_is_to_be_named(tmp_path: Path, out: Path) -> None:
    write_piper(tmp_path / "p", "a")
    write_piper(tmp_path / "p", "b")
    with pytest.raises(ParameterError, match=r"has 2 voices \(a.onnx, b.onnx\): name one of the files"):
        stage(tmp_path / "p", out)
    assert stage(tmp_path / "p/b.onnx", out).id == "b"


def test_bundles_and_other_files_are_no_upstream_voices(tmp_path: Path, out: Path) -> None:
    graph = write_piper(tmp_path / "p")
    stage(graph, out)
    (tmp_path / "alone.onnx").write_bytes(graph.read_bytes())
    (tmp_path / "empty").mkdir()
    for path in (out, tmp_path / "alone.onnx", tmp_path / "empty", tmp_path / "nowhere"):
        assert not is_upstream(path)
    with pytest.raises(BundleError, match=r"no voice: a Piper voice is NAME.onnx with NAME.onnx.json"):
        stage(tmp_path / "empty", tmp_path / "other")


def test_speakers_stand_by_their_ids(tmp_path: Path, out: Path) -> None:
    graph = write_piper(tmp_path / "p", num_speakers=3, speaker_id_map={"bert": 1, "anna": 0})
    assert [speaker.name for speaker in stage(graph, out).voice.speakers] == ["anna", "bert", "2"]


def test_clusters_are_symbols_and_other_pairs_are_not(tmp_path: Path, out: Path) -> None:
    table = {**TABLE, "ai": [90], "ou": [91]}
    graph = write_piper(tmp_path / "p", phoneme_id_map=table, vowel_clusters=[["a", "i"]])
    symbols = stage(graph, out).voice.symbols
    assert symbols["ai"] == (90,)
    assert "ou" not in symbols


def test_a_licence_can_be_given_where_none_is_stated(tmp_path: Path, out: Path) -> None:
    graph = write_piper(tmp_path / "p", card=None)
    assert stage(graph, out).license.use == "unknown"
    for path in out.iterdir():
        path.unlink()
    assert stage(graph, out, license="CC-BY-NC-4.0").license.use == "non-commercial"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"phoneme_type": "pinyin"}, UnsupportedError, "phoneme_type 'pinyin' is not supported"),
        ({"phoneme_map": {"a": ["b"]}}, UnsupportedError, "phoneme_map is not supported"),
        ({"phoneme_id_map": {"a": "1"}}, BundleError, "phoneme_id_map.a: expected a list of ids, got '1'"),
        ({"phoneme_id_map": {"a": [1]}}, BundleError, "voice.symbols.[_^$]: expected ids"),
        ({"phoneme_id_map": []}, BundleError, "phoneme_id_map: expected an object"),
        ({"phoneme_id_map": {**TABLE, "a": [1 << 20]}}, BundleError, "voice.symbols.'a'"),
        ({"audio": {}}, BundleError, "audio.sample_rate: expected a number"),
        ({"audio": {"sample_rate": 4}}, BundleError, "voice.rate_hz: expected 8000 to 48000, got 4"),
        ({"audio": {"sample_rate": True}}, BundleError, "audio.sample_rate: expected a number"),
        ({"num_speakers": 0}, BundleError, "num_speakers: expected 1 or more"),
        ({"num_speakers": 9999}, BundleError, "voice.speakers: expected 1 to 4096 speakers"),
        ({"num_speakers": 2, "speaker_id_map": {"a": 2}}, BundleError, "speaker_id_map.a: expected an id below 2"),
        ({"num_speakers": 2, "speaker_id_map": {"\x1b[2J": 1}}, BundleError, "voice.speakers"),
        ({"espeak": {"voice": "en; rm"}}, BundleError, "voice.speakers"),
        ({"espeak": {"voice": "-x"}}, BundleError, "voice.speakers"),
        ({"inference": {"length_scale": 1000}}, BundleError, "voice.noise.length: expected 0.1 to 10, got 1000"),
        ({"inference": {"noise_w": -1}}, BundleError, "voice.noise.rhythm"),
    ],
)
def test_a_description_that_is_wrong_is_refused(
    tmp_path: Path, out: Path, changes: dict[str, object], error: type[EdgeError], words: str
) -> None:
    with pytest.raises(error, match=words):
        stage(write_piper(tmp_path / "p", **changes), out)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff"])
def test_a_description_that_is_no_json_is_refused(tmp_path: Path, out: Path, data: bytes) -> None:
    graph = write_piper(tmp_path / "p")
    graph.with_name(graph.name + ".json").write_bytes(data)
    with pytest.raises(BundleError, match=r"onnx\.json"):
        stage(graph, out)


@pytest.mark.parametrize("archive", [False, True])
def test_speakers_of_kokoro_come_from_files_or_an_archive(tmp_path: Path, out: Path, archive: bool) -> None:
    names = ("bm_george", "af_heart", "jf_alpha", "if_sara")
    made = stage(write_kokoro(tmp_path / "k", names, archive=archive), out)
    assert made.voice.speakers == (
        SpeakerSpec("af_heart", "en-us"),
        SpeakerSpec("bm_george", "en-gb"),
        SpeakerSpec("if_sara", "it"),
    )
    assert made.source.notes == ("speakers without a phonemizer, left out: jf_alpha",)
    styles = np.fromfile(out / "speakers.bin", np.float32).reshape(3, -1)
    assert styles[:, 0].tolist() == pytest.approx([0.2, 0.1, 0.4])
    assert (made.family, made.id, made.voice.rate_hz, made.license.name) == (
        "kokoro",
        "kokoro-made",
        24_000,
        "Apache-2.0",
    )
    assert (made.voice.symbols["A"], made.voice.symbols["ᵻ"], len(made.voice.symbols)) == ((24,), (177,), 114)
    assert install(out).kind == "voice"


def test_a_graph_below_onnx_has_its_files_above(tmp_path: Path, out: Path) -> None:
    folder = write_kokoro(tmp_path / "k")
    (folder / "onnx").mkdir()
    (folder / "kokoro-made.onnx").rename(folder / "onnx/model.onnx")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 7, "ab": 8}}}), "utf-8")
    made = stage(folder / "onnx/model.onnx", out)
    assert (made.id, made.voice.symbols, made.license.name) == ("kokoro", {"a": (7,)}, "Apache-2.0")


def test_speakers_of_japanese_and_chinese_alone_are_not_supported(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"\(jf_alpha, zf_xiaobei\): Japanese and Chinese are not"):
        stage(write_kokoro(tmp_path / "k", ("jf_alpha", "zf_xiaobei")), out)


def test_a_style_that_is_not_finite_is_refused(tmp_path: Path, out: Path) -> None:
    folder = write_kokoro(tmp_path / "k")
    (folder / "voices/af_heart.bin").write_bytes(np.full(SPEAKER_BYTES // 4, np.nan, np.float32).tobytes())
    with pytest.raises(BundleError, match="'af_heart' is not finite"):
        stage(folder, out)


@pytest.mark.parametrize("kind", ["small", "large", "pickled", "doubles"])
def test_an_archive_of_something_else_is_refused(tmp_path: Path, out: Path, kind: str) -> None:
    folder = write_kokoro(tmp_path / "k", archive=True)
    entry = {
        "small": np.zeros(3, np.float32),
        "large": np.zeros(SPEAKER_BYTES, np.float32),
        "pickled": np.array([{"a": 1}] * (SPEAKER_BYTES // 8), object),
        "doubles": np.zeros(SPEAKER_BYTES // 8, np.float64),
    }[kind]
    np.savez(folder / "voices-made.npz", af_heart=entry)
    (folder / "voices-made.bin").unlink()
    with pytest.raises(BundleError, match="voices-made.npz"):
        stage(folder, out)


def test_a_broken_archive_is_refused(tmp_path: Path, out: Path) -> None:
    folder = write_kokoro(tmp_path / "k", archive=True)
    data = bytearray((folder / "voices-made.bin").read_bytes())
    data[200] ^= 255
    (folder / "voices-made.bin").write_bytes(data)
    assert zipfile.is_zipfile(folder / "voices-made.bin")
    with pytest.raises(BundleError, match="styles of speakers cannot be read"):
        stage(folder, out)


def _header(text: str) -> bytes:
    """Return an entry of the right size, whose header is this text."""
    header = text.encode().ljust(117) + b"\n"
    whole = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    return whole.ljust(SPEAKER_BYTES + 128, b"\0")


def _nested() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("x.npy", bytes(SPEAKER_BYTES))
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("af_heart.npy", _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }")),
        ("af_heart.npy", _header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,), }")),
        ("af_heart.npy", _header("{'descr': '<f4', (((")),
        ("af_heart.npy", _nested()),
        ("", _header("{'descr': '<f4', 'fortran_order': False, 'shape': (510, 1, 256), }")),
    ],
    ids=["more than the memory", "more than a size", "no header", "an archive within", "no name"],
)
def test_an_entry_that_is_no_style_is_refused(name: str, data: bytes, tmp_path: Path, out: Path) -> None:
    folder = write_kokoro(tmp_path / "k", archive=True)
    with zipfile.ZipFile(folder / "voices-made.bin", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), data)
    with pytest.raises(BundleError, match=r"voices-made\.bin"):
        stage(folder, out)


@pytest.mark.parametrize("coding", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_that_cannot_be_unpacked_is_refused(coding: int, tmp_path: Path, out: Path) -> None:
    folder = write_kokoro(tmp_path / "k", archive=True)
    file = folder / "voices-made.bin"
    with zipfile.ZipFile(file, "w", coding) as archive:
        archive.writestr("af_heart.npy", _header("{}"))
    data = bytearray(file.read_bytes())
    data[50:90] = bytes(each ^ 0x5A for each in data[50:90])
    file.write_bytes(data)
    with pytest.raises(BundleError, match="styles of speakers cannot be read"):
        stage(folder, out)


def test_an_archive_with_a_password_is_refused(tmp_path: Path, out: Path) -> None:
    folder = write_kokoro(tmp_path / "k", archive=True)
    file = folder / "voices-made.bin"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("af_heart.npy", _header("{}"))
    data = bytearray(file.read_bytes())
    data[6] |= 1
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match="password required"):
        stage(folder, out)


def test_a_file_of_speakers_of_another_size_is_refused(tmp_path: Path, out: Path) -> None:
    stage(write_kokoro(tmp_path / "k"), out)
    with (out / "speakers.bin").open("ab") as file:
        file.write(b"1234")
    with pytest.raises(BundleError, match=r"speakers.bin: expected (at most )?1044480 bytes"):
        install(out)


def test_a_voice_is_of_its_own_kind(tmp_path: Path, out: Path) -> None:
    stage(write_piper(tmp_path / "p"), out)
    stored = install(out)
    assert (stored.kind, isinstance(stored.manifest, VoiceManifest)) == ("voice", True)
    assert [each.id for each in store.bundles("voice")] == [stored.id]
    assert stored.id not in [each.id for each in [*store.bundles(), *store.bundles("speech")]]
    assert stored.id in [each.id for each in store.bundles(None)]
    assert store.verify(stored) == ([], True)
