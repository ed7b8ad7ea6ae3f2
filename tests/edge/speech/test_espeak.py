"""espeak-ng as a voice: languages, speed, what it must not obey, and every way in which a program can fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ParameterError, VoiceError
from edge.speech.espeak import Espeak, harmless
from edge.speech.voice import Voice
from edge.speech.voices import open_voice
from tests.edge.espeak import needs_espeak

LIST = "Pty Language Age/Gender VoiceName File Other\\n 5 en --/M English gmw/en (en-gb 2)\\n"


def program(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a program of this Python code in the place of espeak-ng; it lists one language."""
    path = folder / "espeak-ng"
    path.write_text(
        f"#!{sys.executable}\nimport os, sys, time\nif '--voices' in sys.argv: print('{LIST}'), sys.exit()\n{code}\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def espeak() -> Espeak:
    return Espeak()


@needs_espeak
class TestReal:
    def test_a_sentence_is_mono_samples(self, espeak: Espeak) -> None:
        voice: Voice = espeak
        samples = voice.say("Hello there.")
        assert (samples.dtype, samples.ndim, voice.rate_hz) == (np.float32, 1, 22050)
        assert 0.5 * 22050 < len(samples) < 2 * 22050
        assert 0.1 < float(np.abs(samples).max()) <= 1

    def test_speed_is_a_factor_of_the_duration(self, espeak: Espeak) -> None:
        text = "The quick brown fox jumps over the lazy dog and runs away into the forest"
        slow, normal, fast = (len(espeak.say(text, speed=speed)) for speed in (0.5, 1.0, 2.0))
        assert 1.6 < slow / normal < 2.4
        assert 1.6 < normal / fast < 2.4

    def test_a_nul_and_control_characters_do_not_end_the_text(self, espeak: Espeak) -> None:
        whole = espeak.say("one two three four five six")
        assert np.array_equal(espeak.say("one two\0three\x01 four\x1b five\ufeff six\ud800"), whole)

    def test_a_text_is_no_option(self, espeak: Espeak, tmp_path: Path) -> None:
        target = tmp_path / "written.wav"
        assert len(espeak.say(f"-w {target} --voices")) > 22050
        assert not target.exists()

    def test_phonemes_and_markup_are_text(self, espeak: Espeak) -> None:
        assert len(espeak.say("[[h@l'oU]]")) != len(espeak.say("hello"))
        assert len(espeak.say("<voice name='de'>hello</voice>")) > len(espeak.say("hello"))

    def test_a_text_without_words_is_no_samples(self, espeak: Espeak) -> None:
        assert len(espeak.say("")) == len(espeak.say("\0 \n")) == 0

    def test_languages_are_those_that_espeak_lists(self, espeak: Espeak) -> None:
        assert {"en", "en-us", "de", "fr-fr", "zh", "pt-br"} <= set(espeak.languages)

    @pytest.mark.parametrize("language", ["de", "de-AT", "EN_us", "pt-BR", "zh"])
    def test_a_region_that_is_not_known_is_its_language(self, language: str) -> None:
        assert len(Espeak(language=language).say("1 2 3")) > 5000

    def test_another_language_sounds_otherwise(self, espeak: Espeak) -> None:
        assert len(Espeak(language="de").say("die rose")) != len(espeak.say("die rose"))

    @pytest.mark.parametrize("language", ["xx", "", "english", "../en", "-w x"])
    def test_a_language_that_is_not_there_names_some_that_are(self, language: str) -> None:
        with pytest.raises(
            ParameterError, match=r"^language: espeak-ng has none of the code .*some of its \d+: en, de, es"
        ):
            Espeak(language=language)

    def test_a_variant_is_another_voice(self, espeak: Espeak) -> None:
        woman = open_voice("espeak-ng:f3", language="en")
        assert woman.name == "espeak-ng:f3"
        assert not np.array_equal(woman.say("hello"), espeak.say("hello"))

    @pytest.mark.parametrize("name", ["espeak-ng:nobody", "espeak-ng:../f3", "espeak-ng:f3 -w x"])
    def test_a_variant_that_is_not_there_names_some_that_are(self, name: str) -> None:
        with pytest.raises(ParameterError, match=r"no variant .*some of them: .*,"):
            open_voice(name, language="en")

    @pytest.mark.parametrize("speed", [0.0, 0.24, 4.1, -1.0, float("nan"), float("inf")])
    def test_a_speed_out_of_range_is_refused(self, espeak: Espeak, speed: float) -> None:
        with pytest.raises(ParameterError, match="speed: expected 0.25 to 4, got"):
            espeak.say("hello", speed=speed)

    def test_a_sentence_that_is_none_any_more_is_refused(self, espeak: Espeak) -> None:
        with pytest.raises(ParameterError, match="expected at most 5000 characters, got 5001"):
            espeak.say("x" * 5001)


@needs_espeak
def test_a_voice_that_is_not_known_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"^voice: expected one of .*espeak-ng.*got 'alloy'"):
        open_voice("alloy", language="en")


def test_without_espeak_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VoiceError, match=r"^espeak-ng is not installed; .*: sudo apt install espeak-ng$"):
        Espeak()


def test_a_program_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)", monkeypatch)
    espeak = Espeak(timeout_s=5)
    with pytest.raises(VoiceError, match="did not end within 5 s and was killed"):
        espeak.say("hello")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit('no data\\n here')", "espeak-ng failed with status 1: no data here"),
        ("sys.exit(3)", "espeak-ng failed with status 3"),
        ("os.kill(os.getpid(), 11)", "espeak-ng was ended by signal 11"),
        ("print('RIFF')", "espeak-ng wrote 5 bytes that are no WAV of plain samples"),
        ("sys.stdout.buffer.write(bytes(100))", "espeak-ng wrote 100 bytes that are no WAV of plain samples"),
    ],
)
def test_a_program_that_fails_is_an_error_with_its_words(
    code: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path, code, monkeypatch)
    with pytest.raises(VoiceError) as caught:
        Espeak().say("hello")
    assert str(caught.value) == message


def test_a_program_that_lists_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "espeak-ng").write_text("#!/bin/sh\n")
    (tmp_path / "espeak-ng").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VoiceError, match="lists no language"):
        Espeak()


def test_text_for_espeak_has_nothing_that_it_obeys() -> None:
    assert harmless("a\0b\x01c\n\t d [[x]] [[[y \u200b") == "a b c d [ [x]] [ [ [y"
    assert harmless("می‌خواهم") == "می‌خواهم"
