"""A neural voice says what its table and its graph make of a sentence, in the language and by the speaker asked for."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto

from edge.arrays import F32
from edge.bundle import store
from edge.bundle.bundle import VoiceBundle
from edge.bundle.install import install
from edge.engine import session
from edge.errors import BundleError, MemoryExhausted, NonFiniteError, ParameterError, VoiceError
from edge.speech import voice_graphs
from edge.speech.neural_voice import NeuralVoice, kokoro_ids, open_named, parts_of, symbols_of, trimmed, vits_ids
from edge.speech.speaker import Speaker
from edge.speech.voice_files import stage
from edge.speech.voice_graphs import samples_of
from edge.speech.voices import open_voice
from tests.edge.espeak import needs_espeak
from tests.edge.speech.made_voices import RATE_HZ, TABLE, tones, write_kokoro, write_piper

KNOWN = {symbol: tuple(ids) for symbol, ids in TABLE.items()}
PAUSE = round(0.2 * RATE_HZ)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def installed(source: Path, out: Path) -> str:
    out.mkdir()
    stage(source, out)
    return install(out).id


@pytest.fixture
def piper(tmp_path: Path) -> str:
    return installed(write_piper(tmp_path / "piper"), tmp_path / "staged")


def said(samples: F32) -> F32:
    """What is said, without the quiet around it."""
    loud = np.flatnonzero(np.abs(samples) > 0.004)
    return samples[loud[0] : loud[-1] + 1]


def expected(text: str, **how: float) -> F32:
    return said(tones(vits_ids(list(text), KNOWN), **{"loudness": 0.5, **how}))


def test_a_sentence_is_the_samples_of_its_symbols(piper: str) -> None:
    voice = open_named(piper, language=None)
    samples = voice.say("hello, you.")
    assert (voice.name, voice.rate_hz, voice.languages) == ("xx_XX-made-low", RATE_HZ, ("en-us",))
    assert samples.dtype == np.float32
    np.testing.assert_allclose(said(samples), expected("hello, you."), atol=2e-3)


def test_a_pause_is_behind_a_sentence(piper: str) -> None:
    samples = open_named(piper, language=None).say("hi")
    assert not samples[-PAUSE:].any()
    assert np.abs(samples[: -2 * PAUSE]).max() > 0.3


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_speed_shortens_what_is_said(piper: str, speed: float) -> None:
    voice = open_named(piper, language=None)
    np.testing.assert_allclose(said(voice.say("hello", speed=speed)), expected("hello", length=1 / speed), atol=2e-3)


@pytest.mark.parametrize("speed", [0.2, 4.1, float("nan")])
def test_a_speed_that_no_voice_has_is_refused(piper: str, speed: float) -> None:
    with pytest.raises(ParameterError, match="0.25 to 4"):
        open_named(piper, language=None).say("hello", speed=speed)


@pytest.mark.parametrize("text", ["", "  ", "...", "\u4e2d\u6587", "!?"])
def test_a_text_without_known_words_is_silence(piper: str, text: str) -> None:
    assert open_named(piper, language=None).say(text).shape == (0,)


def test_accents_are_read_by_their_parts() -> None:
    assert symbols_of("e\u0301a", KNOWN) == ["e", "a"]


def test_the_longest_symbol_is_taken() -> None:
    assert symbols_of("abc", {"a": (1,), "ab": (2,), "c": (3,)}) == ["ab", "c"]


def test_ids_stand_between_a_start_and_an_end_with_pads() -> None:
    assert vits_ids(["a", "b"], KNOWN) == [1, 0, 3, 0, 4, 0, 2]
    assert kokoro_ids(["a", "b"], KNOWN) == [3, 4]


def test_a_long_sentence_is_divided_at_its_last_mark_then_at_a_space() -> None:
    assert ["".join(part) for part in parts_of(list("ab, cd ef"), 4)] == ["ab,", "cd ", "ef"]
    assert ["".join(part) for part in parts_of(list("abcdefg"), 3)] == ["abc", "def", "g"]
    assert list(parts_of([], 3)) == []


def test_nothing_of_a_long_sentence_is_lost(piper: str) -> None:
    text = "abc def, " * 100
    samples = open_named(piper, language=None).say(text)
    n_symbols = len(text.strip())
    assert len(samples) > 2 * n_symbols * 400  # each symbol has a pad, of the same length, behind it


def test_quiet_is_cut_but_for_a_little() -> None:
    samples = np.zeros(RATE_HZ * 3, np.float32)
    samples[RATE_HZ : 2 * RATE_HZ] = 0.5
    assert len(trimmed(samples, RATE_HZ)) == pytest.approx(RATE_HZ * 1.13, abs=2)
    assert len(trimmed(np.zeros(100, np.float32), RATE_HZ)) == 100


def test_speakers_are_chosen_by_name(tmp_path: Path) -> None:
    name = installed(write_piper(tmp_path / "p", speakers=("anna", "bert")), tmp_path / "staged")
    first, second = open_named(name, language=None), open_named(f"{name}:bert", language=None)
    assert (first.name, second.name) == (name, f"{name}:bert")
    np.testing.assert_allclose(said(first.say("hello")), expected("hello", loudness=0.1), atol=2e-3)
    np.testing.assert_allclose(said(second.say("hello")), expected("hello", loudness=0.2), atol=2e-3)
    with pytest.raises(ParameterError, match=r"no speaker 'carl'; it has anna, bert"):
        open_named(f"{name}:carl", language=None)


def test_a_folder_is_a_voice_too(tmp_path: Path, models: Path) -> None:
    name = installed(write_piper(tmp_path / "p", speakers=("anna", "bert")), tmp_path / "staged")
    assert open_named(models / name, language=None).name == name
    assert open_named(f"{models / name}:bert", language=None).name == f"{name}:bert"


def test_a_voice_of_another_language_is_refused(piper: str) -> None:
    assert open_named(piper, language="en").languages == ("en-us",)
    with pytest.raises(ParameterError, match=r"speaks en-us, not 'de'"):
        open_named(piper, language="de")


def test_a_name_that_is_not_installed_says_what_is(piper: str) -> None:
    with pytest.raises(
        ParameterError, match=r"voice: expected one of xx_XX-made-low, espeak-ng, got 'nobody'. To add one"
    ):
        open_named("nobody", language=None)


def test_a_chat_bundle_is_no_voice(int8_bundle: Path) -> None:
    with pytest.raises(BundleError, match="is no voice"):
        open_named(int8_bundle, language=None)


def test_a_closed_voice_says_nothing(piper: str) -> None:
    voice = open_named(piper, language=None)
    voice.close()
    voice.close()
    with pytest.raises(VoiceError, match="closed"):
        voice.say("hello")


def test_a_graph_that_gives_no_numbers_is_an_error(tmp_path: Path) -> None:
    name = installed(write_piper(tmp_path / "p", loudness=float("nan")), tmp_path / "staged")
    with pytest.raises(NonFiniteError, match="voice"):
        open_named(name, language=None).say("hello")


def test_samples_stay_within_bounds(tmp_path: Path) -> None:
    name = installed(write_piper(tmp_path / "p", loudness=3.0), tmp_path / "staged")
    assert np.abs(open_named(name, language=None).say("hello")).max() == 1.0


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    graph = write_piper(tmp_path / "p")
    write_kokoro(tmp_path / "k")
    graph.write_bytes((tmp_path / "k/kokoro-made.onnx").read_bytes())
    name = installed(graph, tmp_path / "staged")
    with pytest.raises(BundleError, match="input 'input' is missing; expected input, input_lengths, scales"):
        open_named(name, language=None)


def test_a_graph_without_speakers_is_refused_for_several(tmp_path: Path) -> None:
    graph = write_piper(tmp_path / "p", num_speakers=2)
    with pytest.raises(BundleError, match="expected the input sid for 2 speakers"):
        open_named(installed(graph, tmp_path / "staged"), language=None)


def test_a_voice_that_was_changed_is_refused(piper: str, models: Path) -> None:
    graph = models / piper / "voice.onnx"
    data = bytearray(graph.read_bytes())
    data[-10] ^= 1
    graph.chmod(0o644)
    graph.write_bytes(data)
    with pytest.raises(BundleError, match="sha256"):
        open_named(piper, language=None)


def test_without_a_name_the_installed_voice_speaks(piper: str) -> None:
    with Speaker() as speaker:
        assert speaker.voice == piper
        assert [spoken.text for spoken in speaker.say("hello you. good day.")] == ["hello you.", "good day."]


def test_the_default_voice_comes_first(piper: str, tmp_path: Path) -> None:
    other = installed(write_piper(tmp_path / "q", "zz_ZZ-made-low"), tmp_path / "staged2")
    assert open_voice(None, language=None).name == piper
    store.set_default(other)
    assert open_voice(None, language=None).name == other


@needs_espeak
def test_a_language_that_no_installed_voice_speaks_is_espeaks(piper: str) -> None:
    assert open_voice(None, language="de").name == "espeak-ng"
    assert open_voice(None, language="en-US").name == piper
    assert open_voice(None, language="en-GB").name == "espeak-ng"


@needs_espeak
def test_a_voice_in_another_language_needs_no_language(tmp_path: Path) -> None:
    name = installed(write_piper(tmp_path / "p", language="de"), tmp_path / "staged")
    assert repr(Speaker(name)) == f"Speaker('{name}', language='de', speed=1)"
    assert Speaker("espeak-ng").voice == "espeak-ng"


@needs_espeak
def test_text_is_read_by_espeak_ng_where_the_voice_has_sounds(tmp_path: Path) -> None:
    name = installed(write_piper(tmp_path / "p", alphabet="espeak"), tmp_path / "staged")
    # t\u02c8u\u02d0: of these the table has t and u.
    np.testing.assert_allclose(said(open_named(name, language=None).say("two.")), expected("tu."), atol=2e-3)


@needs_espeak
def test_kokoro_speaks_by_its_styles_and_its_symbols(tmp_path: Path) -> None:
    name = installed(write_kokoro(tmp_path / "k"), tmp_path / "staged")
    voice = open_named(f"{name}:bm_george", language=None)
    assert (voice.rate_hz, voice.languages) == (24_000, ("en-gb",))
    # tˈuː in the letters of Kokoro: t 62, the stress 156, u 63, the length 158, and the mark 4.
    whole = tones([0, 62, 156, 63, 158, 4, 0], loudness=0.2)
    np.testing.assert_allclose(said(voice.say("two.")), said(whole), atol=2e-3)


@needs_espeak
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT32, TensorProto.DOUBLE])
def test_graphs_of_kokoro_by_other_makers_have_other_inputs(tmp_path: Path, kind: int) -> None:
    name = installed(write_kokoro(tmp_path / "k", ids="input_ids", speed=kind), tmp_path / "staged")
    whole = tones([0, 62, 156, 63, 4, 0], loudness=0.1, length=0.5)  # American has no length
    np.testing.assert_allclose(said(open_named(name, language=None).say("two.", speed=2.0)), said(whole), atol=2e-3)


@needs_espeak
def test_a_speaker_of_kokoro_is_found_by_its_language(tmp_path: Path) -> None:
    name = installed(write_kokoro(tmp_path / "k"), tmp_path / "staged")
    assert open_named(name, language="en").name == name
    assert open_named(name, language="en-GB").name == f"{name}:bm_george"
    with pytest.raises(ParameterError, match="speaks en-us, en-gb, not 'it'"):
        open_named(name, language="it")


def test_a_voice_needs_espeak_ng_for_its_sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = installed(write_piper(tmp_path / "p", alphabet="espeak"), tmp_path / "staged")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VoiceError, match="espeak-ng is not installed"):
        open_named(name, language=None)


@pytest.mark.skipif("EDGE_VOICE" not in os.environ, reason="EDGE_VOICE names no voice of Piper or Kokoro")
def test_a_real_voice_says_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "staged"
    out.mkdir()
    stage(Path(os.environ["EDGE_VOICE"]), out)
    voice = open_named(install(out).id, language=None)
    samples = voice.say("The quick brown fox jumps over the lazy dog.")
    assert 1.5 <= len(said(samples)) / voice.rate_hz <= 6
    assert 0.01 <= float(np.sqrt(np.mean(said(samples) ** 2))) <= 0.4
    slow = voice.say("The quick brown fox jumps over the lazy dog.", speed=0.5)
    assert 1.6 <= len(said(slow)) / len(said(samples)) <= 2.4


def test_an_opened_voice_has_the_bundles_speaker(piper: str, models: Path) -> None:
    assert repr(NeuralVoice(VoiceBundle.open(models / piper), 0, threads=1)) == "NeuralVoice('xx_XX-made-low')"


class StuckSession:
    """A session whose run lasts until it is told to end, as onnxruntime's does at its next node."""

    def get_outputs(self) -> list[object]:
        return [SimpleNamespace(name="output")]

    def run(self, _names: list[str], _feeds: object, options: object) -> list[F32]:
        while not options.terminate:  # type: ignore[attr-defined]
            time.sleep(0.001)
        raise RuntimeError("Exiting due to terminate flag being set to true.")


def test_a_sentence_that_is_stopped_ends_within_its_graph() -> None:
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(True)
        return len(asked) > 3

    assert samples_of(StuckSession(), {}, stopped) is None  # type: ignore[arg-type]
    assert len(asked) > 3


def test_a_failure_is_none_of_a_stop() -> None:
    class Failing(StuckSession):
        def run(self, *_: object) -> list[F32]:
            raise RuntimeError("bad_alloc")

    with pytest.raises(MemoryExhausted):
        samples_of(Failing(), {}, lambda: False)  # type: ignore[arg-type]


def test_a_real_graph_that_is_stopped_gives_no_samples(piper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = session.run_options()
    options.terminate = True
    monkeypatch.setattr(voice_graphs, "run_options", lambda: options)
    assert open_named(piper, language=None).say("hello", stopped=lambda: True).shape == (0,)


def test_watching_for_a_stop_leaves_no_thread(piper: str) -> None:
    voice = open_named(piper, language=None)
    assert len(voice.say("hello", stopped=lambda: False))
    assert "edge-voice-stop" not in [thread.name for thread in threading.enumerate()]


def test_speakers_of_a_bundle_share_its_graph_while_one_is_open(tmp_path: Path) -> None:
    name = installed(write_piper(tmp_path / "p", speakers=("anna", "bert")), tmp_path / "staged")
    first, second = open_named(name, language=None), open_named(f"{name}:bert", language=None)
    assert len(voice_graphs._OPEN) == 1
    first.close()
    assert len(second.say("hello"))
    second.close()
    gc.collect()
    assert len(voice_graphs._OPEN) == 0


def test_a_bundle_that_was_replaced_is_loaded_anew(tmp_path: Path, models: Path) -> None:
    quiet = write_piper(tmp_path / "p", "eva", loudness=0.2)
    name = installed(quiet, tmp_path / "staged")
    before = open_named(name, language=None)
    write_piper(tmp_path / "p", "eva", loudness=0.4)
    (tmp_path / "again").mkdir()
    stage(quiet, tmp_path / "again")
    install(tmp_path / "again", replaces=True)
    after = open_named(name, language=None)
    assert np.abs(before.say("hello")).max() == pytest.approx(0.2, abs=0.01)
    assert np.abs(after.say("hello")).max() == pytest.approx(0.4, abs=0.01)
