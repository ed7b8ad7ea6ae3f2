"""The whole way with real speech to text, where EDGE_SPEECH names a speech bundle that knows English.

EDGE_VOICE names a voice of Piper or Kokoro that asks and answers; without it espeak-ng does, less clearly.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soxr

from edge.assistant.assistant import Assistant
from edge.assistant.events import Event
from edge.assistant.settings import Settings
from edge.assistant.states import What
from edge.bundle.install import install
from edge.speech.speaker import Speaker
from edge.speech.transcriber import Speech
from edge.speech.voice_files import stage
from tests.edge.assistant.recordings import F32, RATE_HZ, WAKE, Recording, read, trimmed
from tests.edge.espeak import needs_espeak

pytestmark = [
    pytest.mark.skipif("EDGE_SPEECH" not in os.environ, reason="EDGE_SPEECH names no speech bundle"),
    needs_espeak,
]
pytest.importorskip("pymicro_wakeword")

IMAGE = Path(__file__).parents[3] / "models" / "sample.png"
QUESTION = "What is in the picture?"
SHAPES = ("red circle", "orange hexagon", "green triangle", "blue square")


@pytest.fixture
def voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    if "EDGE_VOICE" not in os.environ:
        return "espeak-ng"
    (tmp_path / "staged").mkdir()
    stage(Path(os.environ["EDGE_VOICE"]), tmp_path / "staged")
    return str(install(tmp_path / "staged").id)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.casefold())


def spoken(text: str, voice: str) -> F32:
    with Speaker(voice) as speaker:
        return trimmed([soxr.resample(one.samples, one.rate_hz, RATE_HZ) for one in speaker.say(text)])


def test_a_spoken_question_is_understood_and_its_answer_as_well(voice: str, tmp_path: Path) -> None:
    speech, events = os.environ["EDGE_SPEECH"], list[Event]()
    recording = Recording().silence(1.5).say(WAKE).silence(0.6)
    recording.parts.append(spoken(QUESTION, voice))
    with Assistant(
        microphone=recording.silence(1).save(tmp_path / "asked.wav"), loudspeaker=tmp_path / "said.wav", camera=IMAGE,
        voice=voice, speech=speech, on_event=events.append, settings=Settings(sounds=False, temperature=0),
    ) as assistant:  # fmt: skip
        assistant.run()
    told = {event.what: event.fields for event in events}
    asked = words(str(told[What.TRANSCRIPT]["transcript"]))
    assert "picture" in asked and len(set(words(QUESTION)) - set(asked)) <= 1
    assert told[What.SPOKEN]["image"]
    answer = str(told[What.SPOKEN]["answer"])
    assert all(shape in answer for shape in SHAPES)

    samples, rate_hz = read(tmp_path / "said.wav")
    heard = words(
        Speech.open(Path(speech)).transcribe(soxr.resample(samples, rate_hz, RATE_HZ).astype(np.float32)).text
    )
    missed = [word for word in words(answer) if word not in heard]
    assert len(missed) <= (2 if voice == "espeak-ng" else 1) + len(words(answer)) // 10
