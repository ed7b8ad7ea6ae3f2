"""Voices by their names and languages; each opened once, spoken with by one at a time, freed when few need it."""

import threading
from pathlib import Path

import numpy as np
import pytest

from edge.chat.voices import VoiceChoice
from edge.errors import EngineClosed, ParameterError, UnsupportedError, VoiceError
from edge.speech.installed_voices import installed_voices
from tests.edge.asking import eventually
from tests.edge.speech.fake_voice import FakeVoice, FakeVoices

NONE = VoiceChoice(None, None)


def never() -> bool:
    return False


@pytest.mark.parametrize(
    ("name", "language", "choice"),
    [
        (None, None, NONE),
        (None, "de", VoiceChoice(None, "de")),
        ("tone", None, VoiceChoice("tone", None)),
        ("tone", "de-AT", VoiceChoice("tone", "de-AT")),
        ("tone@de", None, VoiceChoice("tone", "de")),
        ("tone@de", "en", VoiceChoice("tone", "de")),
        ("tone:high", "en-GB", VoiceChoice("tone:high", "en-GB")),
        ("tone:odd", None, VoiceChoice("tone:odd", None)),
    ],
)
def test_a_name_and_a_language_are_a_voice(name: str | None, language: str | None, choice: VoiceChoice) -> None:
    assert FakeVoices().choose(name, language) == choice


@pytest.mark.parametrize(
    ("name", "language", "words"),
    [
        ("tune", None, "voice: expected one of tone, tone:high, got 'tune'"),
        ("../tone", None, "voice: expected one of tone, tone:high, got '../tone'"),
        ("", None, "voice: expected one of tone, tone:high, got ''"),
        ("tone@fr", None, "voice: expected a language of the voice, such as en, en-gb, de, got 'fr'"),
        ("tone@", None, "voice: expected a language of the voice, such as en, en-gb, de, got ''"),
        ("tone:high", "de", "language: expected a language of the voice, such as en, got 'de'"),
        (None, "fr", "language: expected a language of the voice, such as en, en-gb, de, got 'fr'"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(name: str | None, language: str | None, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        FakeVoices().choose(name, language)
    assert str(caught.value) == words and caught.value.field == words.partition(":")[0]


def test_without_a_voice_the_package_is_named() -> None:
    with pytest.raises(UnsupportedError, match="no voice is installed on this device.*sudo apt install espeak-ng"):
        FakeVoices(installed=()).choose(None)


def test_a_voice_is_opened_once_for_all() -> None:
    voices = FakeVoices()
    for _ in range(2):
        with voices.speaking(NONE, never) as first, voices.speaking(NONE, never) as second:
            assert len(first.say("ab")) == len(second.say("ab")) == 2205
            assert (first.name, first.rate_hz) == ("tone", 22_050)
    assert len(voices.opened) == 1 and not voices.opened[0][2].is_closed


def test_those_that_nobody_needs_are_freed_but_two() -> None:
    voices = FakeVoices()
    with voices.speaking(VoiceChoice(None, "en"), never):
        for language in ("de", "en-gb", "fr", "it"):
            with voices.speaking(VoiceChoice(None, language), never):
                pass
        open_now = [language for _, language, voice in voices.opened if not voice.is_closed]
        assert open_now == ["en", "fr", "it"]
    voices.close()
    assert all(voice.is_closed for _, _, voice in voices.opened)


def test_once_all_are_closed_none_is_opened() -> None:
    voices = FakeVoices()
    voices.close()
    with pytest.raises(EngineClosed, match="the voices are closed"), voices.speaking(NONE, never):
        pass
    assert voices.opened == []


def test_one_speaks_at_a_time_and_who_is_stopped_does_not_wait() -> None:
    voice = FakeVoice()
    voices = FakeVoices(voice)
    stopped = threading.Event()
    lengths: dict[str, int] = {}

    def speak(text: str, is_stopped: threading.Event) -> None:
        with voices.speaking(NONE, is_stopped.is_set) as turn:
            lengths[text] = len(turn.say(text))

    with voices.speaking(NONE, never) as turn:
        turn.say("first")
    voice.gate.clear()
    threads = [
        threading.Thread(target=speak, args=("second", threading.Event())),
        threading.Thread(target=speak, args=("third", stopped)),
    ]
    threads[0].start()
    eventually(lambda: voice.n_speaking == 1)
    threads[1].start()
    stopped.set()
    threads[1].join(60)
    assert lengths == {"third": 0}
    voice.gate.set()
    threads[0].join(60)
    assert lengths["second"] > 0 and voice.most_speaking == 1


def test_a_voice_that_cannot_be_opened_is_tried_again() -> None:
    voices = FakeVoices()
    voices.error = VoiceError("espeak-ng lists no language")
    with pytest.raises(VoiceError), voices.speaking(NONE, never):
        pass
    voices.error = None
    with voices.speaking(NONE, never) as voice:
        assert np.any(voice.say("a"))


def test_without_espeak_there_is_no_voice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert installed_voices() == ()
