"""edge chat --speak: answers as speech while they are shown, silenced by Ctrl-C and by the next question."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.commands.speaking import Speaking
from edge.errors import DeviceError
from edge.speech.speaker import Spoken
from tests.edge.commands.terminals import FAKE, RUN, Terminal
from tests.edge.espeak import needs_espeak

ROOT = Path(__file__).parents[3]


class Voice:
    """A speaker whose sentences are the pieces of a text, and a loudspeaker that notes what it plays."""

    def __init__(self, *, holds: bool = False) -> None:
        self.played: list[str] = []
        self.first = threading.Event()
        self._holds = holds

    def say(self, text: Iterable[str], *, stop: threading.Event) -> Iterator[Spoken]:
        for piece in text:
            if stop.is_set():
                return
            yield Spoken(piece, np.zeros(1, np.float32), 8000)

    def play(self, coming: Iterable[Spoken], *, stop: threading.Event) -> bool:
        for spoken in coming:
            self.played.append(spoken.text)
            self.first.set()
            if self._holds:
                stop.wait(600)
        return not stop.is_set()


def speaking(voice: Voice) -> Speaking:
    return Speaking(voice, voice)  # type: ignore[arg-type]


def test_what_is_new_in_an_answer_is_spoken_once() -> None:
    voice = Voice()
    with speaking(voice) as speaks:
        speaks.begin()
        for text in ("One. ", "One. Two. ", "One. Two. Three."):
            speaks.show(text)
        speaks.end()
        speaks.wait()
        assert not speaks.is_speaking
    assert voice.played == ["One. ", "Two. ", "Three."]


def test_another_answer_silences_the_one_before() -> None:
    voice = Voice(holds=True)
    with speaking(voice) as speaks:
        speaks.begin()
        speaks.show("Old.")
        assert voice.first.wait(60)
        speaks.show("Old. Never said.")
        speaks.begin()
        voice._holds = False
        speaks.show("New.")
        speaks.end()
        speaks.wait()
    assert voice.played == ["Old.", "New."]


def test_nothing_is_heard_once_silenced() -> None:
    voice = Voice(holds=True)
    with speaking(voice) as speaks:
        speaks.begin()
        speaks.show("Old.")
        assert voice.first.wait(60)
        assert speaks.is_speaking
        speaks.silence()
        speaks.show("Old. More.")
        assert not speaks.is_speaking
    assert voice.played == ["Old."]


def test_a_loudspeaker_that_fails_is_said_once_and_answers_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Voice):
        def play(self, coming: Iterable[Spoken], *, stop: threading.Event) -> bool:
            raise DeviceError("loudspeaker: gone")

    with speaking(Broken()) as speaks:
        for _ in range(2):
            speaks.begin()
            speaks.show("One.")
            speaks.end()
            speaks.wait()
        assert isinstance(speaks.failed, DeviceError)
    assert capsys.readouterr().err == "edge: loudspeaker: gone; answers are not spoken any more\n"


@needs_espeak
class TestChat:
    def test_an_answer_is_shown_and_spoken(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        options = ["Hi", "--speak", "--voice", "espeak-ng", "--loudspeaker", str(path)]
        code = f"{FAKE}sys.argv = ['edge', 'chat', *{options!r}]\n{RUN}sys.exit(status)\n"
        done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, cwd=ROOT)
        assert (done.returncode, done.stdout) == (0, b"Three red circles.\n"), done.stderr
        assert 0.8 < soundfile.info(path).duration < 3

    def test_every_answer_of_a_conversation_is_spoken(self, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        code = (
            f"{FAKE}sys.argv = ['edge', 'chat', '--speak', '--voice', 'espeak-ng', '--loudspeaker', {str(path)!r}]\n"
            "from edge.commands.speaking import Speaking\n"
            "begin = Speaking.begin\n"
            "def patient(self):\n    self.wait()\n    begin(self)\n"
            f"Speaking.begin = patient\n{RUN}sys.exit(status)\n"
        )
        with Terminal(code) as terminal:
            terminal.enter("One?", "Two?", "/quit")
            assert terminal.end() == 0
            assert terminal.shown().count("Three red circles.") == 2
        assert soundfile.info(path).duration > 0.8

    @pytest.mark.parametrize("keys", ["\x03", "Two?\n"])
    def test_ctrl_c_and_the_next_question_silence_an_answer(self, keys: str) -> None:
        code = (
            f"{FAKE}sys.argv = ['edge', 'chat', '--speak', '--voice', 'espeak-ng']\n"
            "from edge.devices.loudspeaker import Loudspeaker\n"
            "def play(self, coming, *, stop):\n"
            "    print('PLAYS', flush=True); stop.wait(600); print('SILENT', flush=True)\n"
            f"Loudspeaker.play = play\n{RUN}sys.exit(status)\n"
        )
        with Terminal(code) as terminal:
            terminal.enter("One?")
            terminal.expect("PLAYS")
            terminal.prompt()
            assert "SILENT" not in terminal.shown()
            terminal.send(keys)
            terminal.expect("SILENT")
            terminal.answered()
            terminal.send("/quit\n")
            assert terminal.end() == 0
            assert "/quit or Ctrl-D ends" not in terminal.shown()

    def test_ctrl_c_while_an_answer_comes_silences_it(self) -> None:
        code = (
            f"{FAKE}sys.argv = ['edge', 'chat', '--speak', '--voice', 'espeak-ng', '--plain']\n"
            "from edge.devices.loudspeaker import Loudspeaker\n"
            "from edge.commands.screen import PlainScreen\n"
            "import threading\n"
            "plays = threading.Event()\n"
            "def play(self, coming, *, stop):\n"
            "    plays.set(); stop.wait(600); print('SILENT', flush=True)\n"
            "def show(self, text):\n"
            "    plays.wait(600); raise KeyboardInterrupt\n"
            f"Loudspeaker.play, PlainScreen.show = play, show\n{RUN}sys.exit(status)\n"
        )
        with Terminal(code) as terminal:
            terminal.enter("One?")
            terminal.expect("SILENT")  # in front of the next question, not at the end
            terminal.expect("edge: stopped")
            terminal.enter("/quit")
            assert terminal.end() == 0

    def test_json_is_not_spoken(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "edge", "chat", "Hi", "--json", "--speak"],
            stdin=subprocess.DEVNULL, capture_output=True, cwd=ROOT, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (1, b"edge: --json, --speak: expected one of them\n")
