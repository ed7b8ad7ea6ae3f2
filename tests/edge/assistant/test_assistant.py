"""The whole way, headless: a recording with a wake word and questions, an image as the camera, a WAV as loudspeaker.

Everything is heard and said on one timeline: a second of the microphone's file is a second of the loudspeaker's. No
trained speech bundle can be had here, so a stand-in gives the transcripts; wake word, model and voice are real.
"""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import soxr

from edge.assistant import blocks
from edge.assistant.assistant import Assistant, _transcriber
from edge.assistant.events import Event
from edge.assistant.players import RATE_HZ, Timeline
from edge.assistant.settings import Settings
from edge.assistant.states import What
from edge.assistant.view import View
from edge.bundle.manifest import AudioSpec
from edge.chat import Chat
from edge.chat.attachments import Access
from edge.engine.answer import Options
from edge.engine.handle import Handle
from edge.engine.pieces import Audio, Media, Piece
from edge.errors import DeviceError, RuntimeFailure, UnsupportedError
from edge.speech.speaker import Speaker, Spoken
from edge.speech.speech_to_text import SpeechToText
from edge.speech.wake_word import WakeWords, Woken
from edge.tools.toolset import Toolset
from tests.edge.assistant.recordings import F32, WAKE, Recording, read, stand_in, told
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest

pytestmark = [
    pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"),
]
pytest.importorskip("pymicro_wakeword")

IMAGE = Path(__file__).parents[3] / "models" / "sample.png"
QUESTION = "What is in the picture?"
SHAPES = ("red circle", "orange hexagon", "green triangle", "blue square")
QUIET = Settings(sounds=False, follow_up_s=3.0, temperature=0)


def fake(*answers: str, vision: bool = True) -> tuple[FakeEngine, Chat]:
    """Return an engine that answers with these words, and a chat on it."""
    engine = FakeEngine(manifest(vision=vision), words=answers)
    return engine, Chat(OneEngine(engine), Access())  # type: ignore[arg-type]


def heard(
    tmp_path: Path,
    recording: Recording,
    *questions: str,
    chat: Chat | None = None,
    settings: Settings = QUIET,
    camera: Path | None = None,
    tools: Toolset | None = None,
    on_event: Callable[[Assistant, Event], None] | None = None,
) -> tuple[list[Event], F32]:
    """Run an assistant over a recording; return its events, and what it said at RATE_HZ."""
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        if on_event is not None:
            on_event(assistant, event)

    microphone = recording.save(tmp_path / "microphone.wav")
    with Assistant(
        microphone=microphone, loudspeaker=tmp_path / "said.wav", camera=camera, chat=chat, voice="espeak-ng",
        transcribe=stand_in(*questions), on_event=tell, settings=settings, tools=tools,
    ) as assistant:  # fmt: skip
        assistant.run()
    samples, rate_hz = read(tmp_path / "said.wav")
    assert rate_hz == RATE_HZ
    return events, samples


def spoken(text: str) -> list[F32]:
    """Return the sentences of a text as they are to be in the loudspeaker's file."""
    with Speaker("espeak-ng") as speaker:
        return [soxr.resample(one.samples, one.rate_hz, RATE_HZ) for one in speaker.say(text)]


def one_question() -> Recording:
    return Recording().silence(1.5).say(WAKE).silence(0.6).say(QUESTION).silence(1.0)


def of(events: list[Event], what: What) -> Event:
    return next(event for event in events if event.what is what)


def test_a_question_about_an_image_is_answered_aloud(tmp_path: Path) -> None:
    settings = Settings(sounds=False, follow_up_s=3.0, temperature=0, system="")
    recording = one_question()
    events, said = heard(tmp_path, recording, QUESTION, camera=IMAGE, settings=settings)
    assert told(events) == [
        ("idle", "start"),
        ("listening", "wake"),
        ("thinking", "utterance"),
        ("thinking", "transcript"),
        ("speaking", "sentence"),
        ("follow-up", "spoken"),
        ("idle", "silence"),
        ("idle", "end"),
    ]
    wake, sentence, done = of(events, What.WAKE), of(events, What.SENTENCE), of(events, What.SPOKEN)
    assert (wake.fields["wake_word"], of(events, What.TRANSCRIPT).fields["transcript"]) == ("Okay Nabu", QUESTION)
    assert recording.ends_s[0] - 0.3 < wake.at_s < recording.ends_s[0] + 0.3
    answer = str(done.fields["answer"])
    assert done.fields["image"] and all(shape in answer for shape in SHAPES)

    start = round((sentence.at_s - 0.03) * RATE_HZ)
    expected = np.concatenate(spoken(answer))
    assert not said[:start].any()
    assert np.abs(said[start : start + len(expected)] - np.clip(expected, -1, 1)).max() < 1e-3
    assert not said[start + len(expected) :].any()


def test_the_same_recording_gives_the_same_timeline(tmp_path: Path) -> None:
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _, chat = fake("It is", " a house.", " It is red.")
        events, said = heard(tmp_path / name, one_question(), QUESTION, chat=chat, camera=IMAGE, settings=Settings())
        runs.append(([(event.at_s, event.state, event.what) for event in events], said))
    assert runs[0][0] == runs[1][0]
    assert np.array_equal(runs[0][1], runs[1][1])


def test_a_wake_word_silences_it_within_300_ms_and_ends_the_generation(tmp_path: Path) -> None:
    first = "The first sentence of this answer is so long that there is time enough to say something while it is said."
    engine, chat = fake(first, " And this", " is the rest, which nobody hears.")
    engine.n_free = 2
    engine.gate.clear()  # the rest never comes by itself: only a cancelled generation ends
    recording = one_question().silence(1.5).say(WAKE).silence(8)
    settings = Settings(sounds=False, listen_s=2.0)
    events, said = heard(tmp_path, recording, QUESTION, chat=chat, settings=settings)
    assert told(events)[4:] == [
        ("speaking", "sentence"),
        ("listening", "wake"),
        ("idle", "silence"),
        ("idle", "end"),
    ]
    called_s = recording.ends_s[2]
    loud = np.flatnonzero(np.abs(said) > 0.001) / RATE_HZ
    assert loud[0] < called_s - 1.0  # it was speaking
    assert loud[-1] - called_s < 0.3
    assert engine.cancelled == engine.handles


def test_the_end_of_its_own_voice_does_not_wake_it(tmp_path: Path) -> None:
    """The microphone hears what the loudspeaker says: an answer that has the wake word in it."""
    answer = "You wake me with the words okay nabu, and then you ask."
    _, chat = fake(answer)
    events, _ = heard(tmp_path, one_question().silence(10), QUESTION, chat=chat)
    at_s = of(events, What.SENTENCE).at_s - 0.03
    echo = soxr.resample(np.concatenate(spoken(answer)), RATE_HZ, 16_000).astype(np.float32)
    recording = one_question()
    samples = np.concatenate([*recording.parts, np.zeros(10 * 16_000, np.float32)])
    place = round(at_s * 16_000)
    samples[place : place + len(echo)] += echo
    _, chat = fake(answer)
    (tmp_path / "echo").mkdir()
    events, _ = heard(tmp_path / "echo", Recording([samples]), QUESTION, chat=chat)
    assert [event.what for event in events].count(What.WAKE) == 1
    assert what_of(events)[-4:] == ["sentence", "spoken", "silence", "end"]


def what_of(events: list[Event]) -> list[str]:
    return [event.what.value for event in events]


def test_a_follow_up_needs_no_wake_word_and_remembers(tmp_path: Path) -> None:
    engine, chat = fake("A house.")
    recording = one_question().silence(2.5).say("And how old is it?").silence(6)
    events, _ = heard(tmp_path, recording, "What is it?", "And how old is it?", chat=chat)
    assert what_of(events) == [
        "start", "wake", "utterance", "transcript", "sentence", "spoken",
        "speech", "utterance", "transcript", "sentence", "spoken", "silence", "end",
    ]  # fmt: skip
    texts = ["".join(str(piece) for piece in prompt) for prompt, _ in engine.asked]
    assert "What is it?" not in texts[0][: texts[0].index("What is it?")]
    assert "What is it?" in texts[1] and "A house." in texts[1] and "And how old is it?" in texts[1]


def test_without_follow_up_the_next_question_needs_the_wake_word(tmp_path: Path) -> None:
    engine, chat = fake("A house.")
    recording = one_question().silence(2.5).say("And how old is it?").silence(3)
    settings = Settings(sounds=False, follow_up_s=0)
    heard(tmp_path, recording, "What is it?", chat=chat, settings=settings)
    assert len(engine.asked) == 1


def test_only_a_question_about_what_is_seen_gets_an_image(tmp_path: Path) -> None:
    engine, chat = fake("Yes.")
    recording = one_question().silence(2.0).say(QUESTION).silence(6)
    events, _ = heard(tmp_path, recording, "Tell me a joke.", QUESTION, chat=chat, camera=IMAGE)
    assert [event.fields["image"] for event in events if event.what is What.SPOKEN] == [False, True]
    assert [any(isinstance(piece, Media) for piece in prompt) for prompt, _ in engine.asked] == [False, True]


def test_nobody_speaks_after_the_wake_word(tmp_path: Path) -> None:
    engine, chat = fake("Yes.")
    events, _ = heard(tmp_path, Recording().silence(1).say(WAKE).silence(8), chat=chat)
    assert told(events)[1:] == [("listening", "wake"), ("idle", "silence"), ("idle", "end")]
    assert events[2].fields == {"reason": "nobody spoke"}
    assert events[2].at_s - events[1].at_s == pytest.approx(Settings.listen_s, abs=0.1)
    assert not engine.asked


def test_a_question_in_one_breath_with_the_wake_word_is_heard_whole(tmp_path: Path) -> None:
    lengths_s = []
    _, chat = fake("Yes.")

    def look(assistant: Assistant, event: Event) -> None:
        if event.what is What.UTTERANCE:
            lengths_s.append(event.fields["seconds"])

    recording = Recording().silence(1).say(WAKE).silence(0.05).say(QUESTION).silence(3)
    heard(tmp_path, recording, QUESTION, chat=chat, on_event=look)
    assert lengths_s == [pytest.approx(recording.ends_s[1] - recording.ends_s[0] + 0.3, abs=0.4)]


def test_an_empty_transcript_is_no_question(tmp_path: Path) -> None:
    engine, chat = fake("Yes.")
    events, said = heard(tmp_path, one_question(), " ...", chat=chat)
    assert told(events)[3:] == [("idle", "empty"), ("idle", "end")]
    assert not engine.asked and not said.any()


def test_a_failure_is_one_spoken_sentence_and_the_next_question_is_answered(tmp_path: Path) -> None:
    engine, chat = fake("A", " house.")
    engine.error = RuntimeFailure("Kernel 7 failed at 0x1234")
    recording = one_question().silence(6).say(WAKE).silence(0.6).say(QUESTION).silence(3)

    def mend(assistant: Assistant, event: Event) -> None:
        if event.what is What.FAILED:
            engine.error = None

    events, said = heard(tmp_path, recording, "One?", "Two?", chat=chat, on_event=mend)
    failed, after = of(events, What.FAILED), events[what_of(events).index("failed") + 1]
    assert "Kernel 7" in str(failed.fields["reason"]) and failed.state.value == "error"
    assert (after.state.value, after.what.value) == ("idle", "spoken")
    assert what_of(events)[-5:] == ["transcript", "sentence", "spoken", "silence", "end"]
    start = round(failed.at_s * RATE_HZ)
    apology = np.concatenate(spoken("Something went wrong, please ask again."))
    window = said[start - RATE_HZ // 10 : start + len(apology) + 3 * RATE_HZ]
    assert np.correlate(window, apology, "valid").max() > 0.99 * float(np.dot(apology, apology))


def test_a_camera_that_fails_is_told_where_a_question_is_about_what_is_seen(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    engine, chat = fake("A house.")
    recording = one_question().silence(5).say(WAKE).silence(0.6).say("Tell me a joke.").silence(3)
    events, _ = heard(tmp_path, recording, QUESTION, "Tell me a joke.", chat=chat, camera=tmp_path / "broken.png")
    assert "camera" in str(of(events, What.FAILED).fields["reason"])
    assert what_of(events).count("sentence") == 1 and len(engine.asked) == 1


def test_the_button_talks_and_ends_a_question(tmp_path: Path) -> None:
    _, chat = fake("Yes.")
    settings = Settings(wake=(), sounds=False, follow_up_s=0, silence_s=60)

    def press(assistant: Assistant, event: Event) -> None:
        if event.what is What.START:
            assistant.talk()
        if event.what is What.SPEECH or (event.what is What.TALK and len(pressed) == 0):
            pressed.append(event)

    pressed: list[Event] = []
    events, _ = heard(
        tmp_path,
        Recording().silence(0.5).say(QUESTION).silence(2),
        "Well?",
        chat=chat,
        settings=settings,
        on_event=press,
    )
    assert told(events)[1] == ("listening", "talk")


def test_a_short_word_right_after_the_button_is_a_question_although_a_wake_word_was_heard_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after a wake word, it would be the rest of that."""
    blocks = iter(range(1000))
    monkeypatch.setattr(
        WakeWords, "heard", lambda self, block, *, raised: Woken("Okay Nabu", 0.9) if next(blocks) == 10 else None
    )
    _, chat = fake("Yes.")

    def press(assistant: Assistant, event: Event) -> None:
        if event.what is What.WAKE:
            assistant.stop()
        if event.what is What.STOP:
            assistant.talk()

    recording = Recording().silence(0.45)
    recording.parts.append(np.sin(np.arange(5760) / 8).astype(np.float32) / 2)
    settings = replace(QUIET, vad="loudness", silence_s=0.3, follow_up_s=0)
    events, _ = heard(tmp_path, recording.silence(3), "Well?", chat=chat, settings=settings, on_event=press)
    assert what_of(events)[:5] == ["start", "wake", "stop", "talk", "utterance"]


def test_once_ends_after_one_answer(tmp_path: Path) -> None:
    _, chat = fake("Yes.")
    recording = one_question().silence(60)
    events, said = heard(tmp_path, recording, "Well?", chat=chat, settings=Settings(sounds=False, once=True))
    assert told(events)[-2:] == [("follow-up", "spoken"), ("follow-up", "end")]
    assert len(said) / RATE_HZ < 20


def test_a_timer_rings_and_says_so_when_nothing_else_is_said(tmp_path: Path) -> None:
    _, chat = fake("A house.")
    rung = threading.Event()

    def ring(assistant: Assistant, event: Event) -> None:
        if event.what is What.UTTERANCE:
            assistant.ring("The eggs are done.")
        if event.what is What.RING:
            rung.set()

    events, said = heard(tmp_path, one_question().silence(12), "Well?", chat=chat, on_event=ring)
    assert what_of(events)[-6:] == ["sentence", "spoken", "ring", "spoken", "silence", "end"]
    assert rung.is_set()
    start = round(of(events, What.RING).at_s * RATE_HZ)
    eggs = np.concatenate(spoken("The eggs are done."))
    assert np.correlate(said[start - RATE_HZ :], eggs, "valid").max() > 0.99 * float(np.dot(eggs, eggs))


def test_a_camera_is_open_while_a_question_is_asked_and_answered_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tale: list[str] = []
    monkeypatch.setattr(View, "open", _noted(View.open, tale, "open"))
    monkeypatch.setattr(View, "close", _noted(View.close, tale, "close"))
    _, chat = fake("A house.")
    heard(
        tmp_path, one_question().silence(6), QUESTION, chat=chat, camera=IMAGE,
        on_event=lambda _, event: tale.append(event.state.value),
    )  # fmt: skip
    assert tale[:3] == ["idle", "listening", "open"]
    assert "close" not in tale[: tale.index("follow-up")]
    assert tale[tale.index("idle", 3) :][:2] == ["idle", "close"]


def _noted(method: Callable[[View], None], tale: list[str], word: str) -> Callable[[View], None]:
    def noted(view: View) -> None:
        tale.append(word)
        method(view)

    return noted


class Scripted(FakeEngine):
    """A stand-in for a model: an answer for each request, in order."""

    def __init__(self, *answers: str) -> None:
        super().__init__(manifest())
        self._answers = iter(answers)

    def stream(self, prompt: Sequence[Piece], options: Options) -> Handle:
        self.words = (next(self._answers),)
        return super().stream(prompt, options)


def test_a_tool_is_called_and_its_result_spoken_of(tmp_path: Path) -> None:
    rung: list[str] = []

    def water_flowers(minutes: int) -> str:
        """Water the flowers."""
        rung.append(f"{minutes} minutes")
        return "watered"

    call = '<tool_call>{"name": "water_flowers", "arguments": {"minutes": 3}}</tool_call>'
    engine = Scripted(call, "The flowers have water.")
    chat = Chat(OneEngine(engine), Access())  # type: ignore[arg-type]
    tools = Toolset([water_flowers], allow=["water_flowers"])
    events, said = heard(tmp_path, one_question().silence(5), "Water the flowers.", chat=chat, tools=tools)
    assert rung == ["3 minutes"]
    assert what_of(events)[3:7] == ["transcript", "tool", "sentence", "spoken"]
    assert of(events, What.TOOL).fields == {"tool": "water_flowers"}
    assert of(events, What.SPOKEN).fields["answer"] == "The flowers have water."
    assert said.any()


def test_a_tool_that_nobody_allowed_is_not_called(tmp_path: Path) -> None:
    def open_door() -> str:
        """Open the door."""
        raise AssertionError("it was opened")

    engine = Scripted('<tool_call>{"name": "open_door", "arguments": {}}</tool_call>', "I may not open the door.")
    chat = Chat(OneEngine(engine), Access())  # type: ignore[arg-type]
    events, _ = heard(
        tmp_path, one_question().silence(5), "Open the door.", chat=chat, tools=Toolset([open_door])
    )  # fmt: skip
    assert of(events, What.SPOKEN).fields["answer"] == "I may not open the door."


class Gone:
    """A microphone that is gone after some blocks."""

    def __init__(self, n: int) -> None:
        self.n = n

    def blocks(self) -> Iterator[F32]:
        for _ in range(self.n):
            yield np.zeros(480, np.float32)
        raise DeviceError("microphone: no samples for 2 s")

    def close(self) -> None:
        """Nothing is held."""


def lost_and_back(monkeypatch: pytest.MonkeyPatch, on_event: Callable[[Assistant, Event], None]) -> list[Event]:
    """Run an assistant whose microphone is lost and comes back, until it is back; return its events."""
    sources = iter([Gone(5), Gone(10**9)])
    monkeypatch.setattr(blocks, "open_ear", lambda source, stale_s: next(sources))
    monkeypatch.setattr(blocks, "sounddevice", lambda need: None)
    monkeypatch.setattr(blocks, "_RETRY_S", 0.01)
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        on_event(assistant, event)
        if event.what is What.BACK:
            assistant.end()

    _, chat = fake("Yes.")
    with Assistant(
        loudspeaker="none", chat=chat, voice="espeak-ng", transcribe=stand_in(), on_event=tell,
        settings=Settings(sounds=False),
    ) as assistant:  # fmt: skip
        assistant.run()
    return events


def test_a_microphone_that_is_lost_is_told_and_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    events = lost_and_back(monkeypatch, lambda assistant, event: None)
    assert told(events) == [("idle", "start"), ("lost", "lost"), ("idle", "back"), ("idle", "end")]
    assert events[1].fields == {"reason": "microphone: no samples for 2 s"}


def test_a_timer_is_told_to_its_end_before_a_microphone_that_is_back_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    put = Timeline.put

    def noted(self: Timeline, spoken: Spoken) -> None:
        said.append(spoken.text)
        put(self, spoken)

    def ring(assistant: Assistant, event: Event) -> None:
        if event.what is What.LOST:
            assistant.ring("The eggs are done.")
        said.append(event.what.value)

    monkeypatch.setattr(Timeline, "put", noted)
    lost_and_back(monkeypatch, ring)
    assert said == ["start", "lost", "ring", "", "The eggs are done.", "back", "end"]


def listening_model(*answers: str) -> tuple[FakeEngine, Chat]:
    """Return a stand-in for a model with an audio tower, and a chat on it."""
    made = manifest()
    control = {**made.prompt.control, "<audio>": 40, "</audio>": 41}
    spec = replace(made, audio=AudioSpec(80, 3000, 4), prompt=replace(made.prompt, control=control))
    engine = FakeEngine(spec, words=answers)
    return engine, Chat(OneEngine(engine), Access())  # type: ignore[arg-type]


def test_a_model_that_accepts_audio_hears_the_question_itself_and_sees_an_image(tmp_path: Path) -> None:
    engine, chat = listening_model("A house.")
    events: list[Event] = []
    with Assistant(
        microphone=one_question().silence(5).save(tmp_path / "a.wav"), loudspeaker=tmp_path / "said.wav", camera=IMAGE,
        chat=chat, voice="espeak-ng", on_event=events.append, settings=QUIET,
    ) as assistant:  # fmt: skip
        assistant.run()
    assert what_of(events) == ["start", "wake", "utterance", "sentence", "spoken", "silence", "end"]
    media = [type(piece) for piece in engine.asked[0][0] if isinstance(piece, Media | Audio)]
    assert media == [Media, Audio]


def test_a_model_without_audio_and_without_a_speech_to_text_model_is_refused(tmp_path: Path) -> None:
    _, chat = fake("A house.")
    microphone = Recording().silence(1).save(tmp_path / "a.wav")
    with pytest.raises(UnsupportedError, match="^a-model does not accept audio: edge models speech a-model "):
        Assistant(microphone=microphone, loudspeaker="none", chat=chat, voice="espeak-ng")


def test_a_model_without_vision_is_refused_beside_a_camera(tmp_path: Path) -> None:
    _, chat = fake("A house.", vision=False)
    microphone = Recording().silence(1).save(tmp_path / "a.wav")
    with pytest.raises(UnsupportedError, match="accepts no images"):
        Assistant(
            microphone=microphone, loudspeaker="none", camera=IMAGE, chat=chat, voice="espeak-ng",
            transcribe=stand_in(),
        )  # fmt: skip


class EnglishOnly:
    """A stand-in for a speech-to-text model that knows one language."""

    id, spec = "english-only", SimpleNamespace(languages={})
    opened = False

    def open(self) -> None:
        self.opened = True


def test_a_model_of_english_is_not_given_another_language() -> None:
    model = cast("SpeechToText", EnglishOnly())
    with pytest.raises(UnsupportedError, match="^english-only transcribes English only, not 'de'"):
        _transcriber(model, "de")


def test_the_speech_to_text_model_is_loaded_before_the_first_question() -> None:
    model = EnglishOnly()
    _transcriber(cast("SpeechToText", model), "en-GB")
    assert model.opened


def test_a_question_that_does_not_end_is_asked_when_it_is_long_enough(tmp_path: Path) -> None:
    _, chat = fake("Yes.")
    recording = Recording().silence(1.5).say(WAKE).silence(0.6)
    for _ in range(6):
        recording.say("And then there was another thing that I wanted to ask you")
    settings = Settings(sounds=False, longest_s=3.0, follow_up_s=0)
    events, _ = heard(tmp_path, recording.silence(1), "Well?", chat=chat, settings=settings)
    assert of(events, What.UTTERANCE).fields["seconds"] == pytest.approx(3.0, abs=0.1)
