"""A speaker: sentences as samples while the text grows, stopping, and files of every format."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edge
from edge.arrays import F32
from edge.errors import ParameterError
from edge.speech import speaker as module
from edge.speech.audio_file import FORMATS, AudioFile, encoded, wav_header
from edge.speech.speakable import speakable
from edge.speech.speaker import Speaker, Spoken
from edge.speech.voice import Stopped
from tests.edge.espeak import needs_espeak

TEXT = "# Weather\n\nIt is **5 °C** in Berlin. See [the map](https://a.b/c)!\n\n```\nno\n```\n"


class Parrot:
    """A voice that notes what it is to say; a sample for each letter."""

    name, rate_hz, languages = "parrot", 8000, ("en",)

    def __init__(self) -> None:
        self.said: list[str] = []
        self.closed = 0

    def say(self, sentence: str, *, speed: float = 1.0, stopped: Stopped | None = None) -> F32:
        self.said.append(sentence)
        return np.full(round(len(sentence) / speed), 0.5, np.float32)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> Parrot:
    parrot = Parrot()
    monkeypatch.setattr(module, "open_voice", lambda name, language: parrot)
    return parrot


@needs_espeak
@pytest.mark.parametrize("text", ["0." * 500, "½" * 900, "9" * 999])
def test_a_sentence_whose_words_are_too_many_is_spoken_as_it_is(text: str) -> None:
    words = speakable(text, language="en")
    assert len(words) <= 5000
    with Speaker("espeak-ng", speed=4) as speaker:
        assert next(speaker.say(text)).samples.any()


def test_markdown_is_shown_as_text_and_said_in_words(parrot: Parrot) -> None:
    spoken = list(Speaker().say(TEXT))
    assert [sentence.text for sentence in spoken] == ["Weather", "It is 5 °C in Berlin.", "See the map!"]
    assert parrot.said == ["Weather", "It is five degrees Celsius in Berlin.", "See the map!"]
    assert [len(sentence.samples) for sentence in spoken] == [len(said) for said in parrot.said]


def test_numbers_of_other_languages_are_left_to_the_voice(parrot: Parrot) -> None:
    list(Speaker(language="de").say("1. Es sind 5 km."))
    assert parrot.said == ["1, Es sind 5 km."]


def test_a_sentence_is_said_before_the_text_goes_on(parrot: Parrot) -> None:
    def growing() -> Iterator[str]:
        yield "Hello. "
        assert parrot.said == ["Hello."]
        yield "More. "

    assert [spoken.text for spoken in Speaker().say(growing())] == ["Hello.", "More."]


def test_nothing_more_is_said_once_stopped(parrot: Parrot) -> None:
    stop = threading.Event()
    coming = Speaker().say("One. Two. Three.", stop=stop)
    assert next(coming).text == "One."
    stop.set()
    assert list(coming) == []
    assert parrot.said == ["One."]


def test_a_text_that_grows_is_not_read_once_stopped(parrot: Parrot) -> None:
    stop = threading.Event()
    read: list[str] = []

    def growing() -> Iterator[str]:
        for word in ("No ", "end ", "of ", "it "):
            read.append(word)
            stop.set()
            yield word

    assert list(Speaker().say(growing(), stop=stop)) == []
    assert read == ["No "]


def test_speed_goes_to_the_voice(parrot: Parrot) -> None:
    assert len(next(iter(Speaker(speed=2).say("Hello me."))).samples) == 4


@pytest.mark.parametrize("speed", [0.1, 5, float("nan")])
def test_a_speed_out_of_range_is_refused_at_once(speed: float) -> None:
    with pytest.raises(ParameterError, match="speed: expected 0.25 to 4"):
        Speaker(speed=speed)


def test_closing_closes_the_voice(parrot: Parrot) -> None:
    with Speaker() as speaker:
        assert repr(speaker) == "Speaker('parrot', language='en', speed=1)"
    assert parrot.closed == 1


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".WAV"])
def test_a_file_holds_every_sentence(parrot: Parrot, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"said{suffix}"
    Speaker().save("Hello there. " * 200, path)
    samples, rate_hz = soundfile.read(path, dtype="float32")
    assert len(samples) / rate_hz == pytest.approx(12 * 200 / 8000, abs=0.15)


def test_a_file_of_another_suffix_is_refused_before_anything_is_said(parrot: Parrot, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"expected a file ending in \.wav, \.flac, \.ogg, \.opus, \.mp3"):
        Speaker().save("Hello.", tmp_path / "said.aac")
    assert (parrot.said, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rate_hz", [8000, 22050, 24000, 44100])
def test_samples_come_back_from_every_format(tmp_path: Path, format: str, rate_hz: int) -> None:  # noqa: A002
    tone = np.sin(np.arange(rate_hz, dtype=np.float32) * 2 * np.pi * 440 / rate_hz) / 2
    path = tmp_path / "tone"
    path.write_bytes(encoded(tone, rate_hz, format))
    samples, found_hz = soundfile.read(path, dtype="float32")
    assert len(samples) / found_hz == pytest.approx(1, abs=0.12)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) / len(samples) * found_hz == pytest.approx(440, abs=2)
    assert float(np.sqrt(np.mean(samples**2))) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


def test_samples_beyond_one_are_clipped(tmp_path: Path) -> None:
    with AudioFile(tmp_path / "loud.wav", 8000) as file:
        file.write(np.array([2.0, -2.0], np.float32))
    assert np.allclose(soundfile.read(tmp_path / "loud.wav")[0], [1, -1], atol=1e-3)


def test_a_wav_of_unknown_length_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav_header(16000) + bytes(3200))
    with soundfile.SoundFile(path) as file:
        assert (file.samplerate, file.channels, len(file.read(dtype="int16"))) == (16000, 1, 1600)


@needs_espeak
def test_each_sentence_is_as_long_and_as_loud_as_speech() -> None:
    text = "Good morning. It is 7:30 and 5 °C. The train to Berlin leaves in twenty minutes from platform 9."
    spoken = list(edge.Speaker().say(text))
    seconds = [len(sentence.samples) / sentence.rate_hz for sentence in spoken]
    loudness = [float(np.sqrt(np.mean(sentence.samples**2))) for sentence in spoken]
    assert len(spoken) == 3
    assert seconds[0] < seconds[1] < seconds[2] < 8
    assert all(0.02 < level < 0.5 for level in loudness)


@needs_espeak
def test_a_language_that_is_not_there_is_refused() -> None:
    with pytest.raises(ParameterError, match="language: espeak-ng has none of the code 'xx'"):
        edge.Speaker(language="xx")


def test_sentences_are_public() -> None:
    assert edge.Spoken is Spoken
