"""Wake words: what wakes and what does not, with the real models, and names and files that are wrong."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import edge.speech.wake_word
from edge.errors import ParameterError
from edge.speech import wake_word
from edge.speech.wake_word import WakeWord, WakeWords
from tests.edge.assistant.recordings import F32, RATE_HZ, Recording, words

spoken = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
BLOCK = 480
OTHER = (
    "Hey, Jason, come over here.",
    "The weather was fine on Tuesday, and we walked along the river until it was dark.",
    "Alexander and Alicia have a new microphone.",
    "I never knew that nobody could do it.",
    "One, two, three, four, five, six, seven, eight, nine, ten.",
)


def blocks(samples: F32) -> Iterator[F32]:
    for start in range(0, len(samples) - BLOCK + 1, BLOCK):
        yield samples[start : start + BLOCK]


def wakes_s(names: list[str], recording: Recording, *, raised: float = 0.0) -> list[tuple[str, float]]:
    """Return which phrases wake in a recording, and when, in seconds."""
    detector = WakeWords([wake_word.load(name) for name in names], threshold=None, refractory_s=2.0)
    found = []
    for number, block in enumerate(blocks(np.concatenate(recording.parts)), 1):
        woken = detector.heard(block, raised=raised)
        if woken is not None:
            found.append((woken.phrase, number * BLOCK / RATE_HZ))
    detector.close()
    return found


@spoken
@pytest.mark.parametrize(
    ("name", "said", "phrase"),
    [
        ("micro:okay_nabu", "Okay nabu", "Okay Nabu"),
        ("micro:alexa", "Alexa", "Alexa"),
        ("micro:hey_mycroft", "Hey Mycroft", "Hey Mycroft"),
        ("open:hey_jarvis", "Hey Jarvis", "hey jarvis"),
        ("open:alexa", "Alexa", "alexa"),
    ],
)
def test_espeak_wakes_the_real_models_soon_after_the_word(name: str, said: str, phrase: str) -> None:
    pytest.importorskip(f"py{name.partition(':')[0]}_wakeword")
    recording = Recording().silence(2).say(said).silence(2)
    ((woken, at_s),) = wakes_s([name], recording)
    assert woken == phrase
    assert -0.3 < at_s - recording.ends_s[0] < 0.5


@spoken
@pytest.mark.parametrize("name", ["micro:okay_nabu", "micro:alexa", "micro:hey_jarvis", "micro:hey_mycroft"])
def test_other_speech_does_not_wake(name: str) -> None:
    pytest.importorskip("pymicro_wakeword")
    recording = Recording().silence(1)
    for sentence in OTHER:
        recording.say(sentence).silence(0.5)
    assert wakes_s([name], recording) == []


@spoken
def test_a_wake_word_wakes_once_and_again_after_a_while() -> None:
    pytest.importorskip("pymicro_wakeword")
    recording = Recording().silence(1).say("Okay nabu").silence(3).say("Okay nabu").silence(2)
    assert len(wakes_s(["okay_nabu"], recording)) == 2


@spoken
def test_any_of_several_wake_words_wakes() -> None:
    pytest.importorskip("pymicro_wakeword")
    recording = Recording().silence(1).say("Okay nabu").silence(3).say("Alexa").silence(2)
    assert [phrase for phrase, _ in wakes_s(["okay_nabu", "alexa"], recording)] == ["Okay Nabu", "Alexa"]


class Scored:
    """A stand-in for a detector: its scores are given."""

    name, phrase, threshold = "word", "word", 0.8

    def __init__(self, *scores: float) -> None:
        self._scores = iter(scores)
        self.calls: list[str] = []

    def score(self, block: F32) -> float:
        return next(self._scores)

    def reset(self) -> None:
        self.calls.append("reset")

    def close(self) -> None:
        self.calls.append("close")


@pytest.mark.parametrize(
    ("threshold", "raised", "score", "wakes"),
    [
        (None, 0.0, 0.81, True),
        (None, 0.0, 0.8, False),
        (None, 0.5, 0.89, False),
        (None, 0.5, 0.91, True),
        (0.5, 0.0, 0.6, True),
        (0.95, 0.0, 0.94, False),
    ],
)
def test_thresholds_and_how_they_are_raised(threshold: float | None, raised: float, score: float, wakes: bool) -> None:
    detector = WakeWords([Scored(score)], threshold=threshold, refractory_s=0)
    assert (detector.heard(np.zeros(BLOCK, np.float32), raised=raised) is not None) == wakes


def test_no_second_wake_word_within_the_refractory_time_of_the_audio() -> None:
    detector = WakeWords([Scored(*[1.0] * 100)], threshold=None, refractory_s=0.3)
    heard = [detector.heard(np.zeros(BLOCK, np.float32)) is not None for _ in range(31)]
    assert [number for number, woken in enumerate(heard) if woken] == [0, 10, 20, 30]


def test_reset_and_close_reach_every_detector() -> None:
    words = [Scored(), Scored()]
    detector = WakeWords(words, threshold=None, refractory_s=1)
    detector.reset()
    detector.close()
    assert [word.calls for word in words] == [["reset", "close"]] * 2


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(ParameterError, match=r"^wake threshold: expected a number in \(0, 1\), got"):
        WakeWords([], threshold=threshold, refractory_s=1)


@pytest.mark.parametrize("name", ["computer", "micro:hey_rhasspy", "other:alexa", "", "okay nabu"])
def test_an_unknown_name_is_an_error_with_the_list(name: str) -> None:
    with pytest.raises(ParameterError, match="expected alexa, hey_jarvis, hey_mycroft, hey_rhasspy, okay_nabu, or the"):
        wake_word.load(name)


def test_a_bare_name_is_the_freely_licensed_model_where_both_are_installed() -> None:
    pytest.importorskip("pymicro_wakeword")
    detector = wake_word.load("okay_nabu")
    assert detector.threshold == pytest.approx(0.85)  # microWakeWord's own; openWakeWord's are 0.5
    detector.close()


@pytest.mark.parametrize(("name", "extra"), [("okay_nabu", "wake"), ("hey_rhasspy", "openwakeword")])
def test_without_its_package_the_extra_is_named(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.speech.wake_word, "_is_installed", lambda package: False)
    with pytest.raises(ParameterError, match=rf"part of the extra `{extra}`.*pip install '\.\[{extra}\]'$"):
        wake_word.load(name)


def test_a_models_file_is_a_wake_word_of_its_own(tmp_path: Path) -> None:
    package = pytest.importorskip("pymicro_wakeword")
    models = Path(package.__file__).parent / "models"
    for name in ("alexa.json", "alexa.tflite"):
        shutil.copy(models / name, tmp_path / name.replace("alexa.json", "mine.json"))
    detector = wake_word.load(tmp_path / "mine.json")
    assert (detector.name, detector.phrase) == ("mine", "Alexa")
    detector.close()


def damaged(data: bytes) -> list[bytes]:
    return [b"", b"no model", data[: len(data) // 2], data[:100] + b"\xff" * 2000 + data[2100:]]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("kind", ["micro", "open"])
def test_a_damaged_file_is_an_error_and_no_crash(number: int, kind: str, tmp_path: Path) -> None:
    package = pytest.importorskip(f"py{kind}_wakeword")
    models = Path(package.__file__).parent / "models"
    (tmp_path / "alexa.tflite").write_bytes(damaged((models / "alexa.tflite").read_bytes())[number])
    if kind == "micro":
        shutil.copy(models / "alexa.json", tmp_path)
    name = "alexa.json" if kind == "micro" else "alexa.tflite"
    with pytest.raises(ParameterError, match=r"^wake word .*alexa\.(json|tflite)': "):
        wake_word.load(tmp_path / name)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"micro": {}}'])
def test_a_wrong_description_is_an_error(text: str, tmp_path: Path) -> None:
    pytest.importorskip("pymicro_wakeword")
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(ParameterError, match=r"mine\.json'"):
        wake_word.load(tmp_path / "mine.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"nowhere\.tflite': no such file$"):
        wake_word.load(tmp_path / "nowhere.tflite")


@spoken
@pytest.mark.parametrize("load", [lambda: wake_word.load("micro:okay_nabu"), lambda: wake_word.load("open:alexa")])
def test_after_a_reset_the_score_is_that_of_a_new_detector(load: Callable[[], WakeWord]) -> None:
    pytest.importorskip("pymicro_wakeword")
    pytest.importorskip("pyopen_wakeword")
    detector, samples = load(), np.concatenate([np.zeros(RATE_HZ, np.float32), words("Okay nabu, Alexa")])
    first = [detector.score(block) for block in blocks(samples)]
    detector.reset()
    again = [detector.score(block) for block in blocks(samples)]
    detector.close()
    assert again == pytest.approx(first, abs=0.05)


@spoken
def test_three_minutes_of_other_speech_do_not_wake_it() -> None:
    pytest.importorskip("pymicro_wakeword")
    texts = (Path(__file__).parents[3] / "export" / "texts" / "evaluation.jsonl").read_text("utf-8").splitlines()
    running = [str(text) for line in texts if (text := json.loads(line).get("text"))]
    recording = Recording().silence(1)
    while recording.seconds < 180:
        recording.say(running.pop(0)[:1000]).silence(0.5)
    assert wakes_s(["micro:okay_nabu"], recording) == []
