"""`edge assistant` in a process: lines of JSON, commands, signals, keys. A stand-in gives the transcripts."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.assistant.control import send
from edge.commands.assistant_keys import keys
from tests.edge.assistant.recordings import WAKE, Recording, read

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")

STAND_IN = """
import sys
from edge import cli
from edge.bundle import store
from edge.models import Models
class StandIn:
    class spec: languages = None
    def open(self):
        pass

    def listen(self, samples, *, how, stopped, heard):
        class Transcript: text = "What is in the picture?"
        return Transcript
store.speech_model = lambda bundle: "a stand-in"
Models.speech_model = lambda self, name: StandIn()
sys.argv = ["edge", "assistant", *sys.argv[1:]]
cli.main()
"""
ROOT = Path(__file__).parents[3]
IMAGE = str(ROOT / "models" / "sample.png")


def command(*options: str) -> list[str]:
    return [sys.executable, "-c", STAND_IN, *options]


@contextlib.contextmanager
def running(*options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run an assistant that hears a soft hiss for as long as it is there."""
    process = subprocess.Popen(
        command("--microphone", "-", "--loudspeaker", "none", "--sounds", "off", *options),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    hiss = np.zeros(48_000, "<i2").tobytes()

    def feed() -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            while True:
                process.stdin.write(hiss)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        thread.join()
        process.stdout.close()  # type: ignore[union-attr]


def until(process: "subprocess.Popen[bytes]", what: str) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        if event["what"] == what:
            return event
    raise AssertionError(f"it ended before {what}")


def test_each_event_is_a_line_of_json_and_a_file_is_worked_through(tmp_path: Path) -> None:
    pytest.importorskip("pymicro_wakeword")
    microphone = Recording().silence(1.5).say(WAKE).silence(0.6).say("What is in the picture?").silence(1).save(
        tmp_path / "microphone.wav"
    )  # fmt: skip
    done = subprocess.run(
        command(
            "--microphone", str(microphone), "--loudspeaker", str(tmp_path / "said.wav"), "--camera", IMAGE,
            "--system", "", "--temperature", "0", "--control", str(tmp_path / "control"), "--voice", "espeak-ng",
        ),
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["what"] for event in events] == [
        "start", "wake", "utterance", "transcript", "sentence", "spoken", "silence", "end",
    ]  # fmt: skip
    assert all({"time", "at_s", "state", "what"} <= set(event) for event in events)
    spoken = events[5]
    assert "circle" in spoken["answer"] and spoken["image"] is True
    assert set(spoken["ms"]) == {"transcript", "token", "sentence", "answer"}
    samples, rate_hz = read(tmp_path / "said.wav")
    assert len(samples) / rate_hz == pytest.approx(events[-1]["at_s"], abs=0.1)
    assert np.abs(samples).max() > 0.1


def test_a_command_talks_and_stops_and_mutes_the_one_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with running("--wake", "none", "--control", str(path)) as process:
        until(process, "start")
        for word, before, after in (
            ("talk", "idle", "listening"), ("stop", "listening", "idle"), ("mute", "idle", "muted"),
            ("mute", "muted", "idle"),
        ):  # fmt: skip
            told = [sys.executable, "-m", "edge", "assistant", word, "--control", str(path)]
            assert subprocess.run(told, capture_output=True, text=True, check=True, cwd=ROOT).stdout == f"{before}\n"
            assert until(process, word)["state"] == after


def test_a_signal_talks_and_another_ends_it_cleanly(tmp_path: Path) -> None:
    path = tmp_path / "control"
    for number in (signal.SIGTERM, signal.SIGINT):
        with running("--wake", "none", "--control", str(path)) as process:
            until(process, "start")
            process.send_signal(signal.SIGUSR1)
            assert until(process, "talk")["state"] == "listening"
            process.send_signal(number)
            until(process, "end")
            assert process.wait(60) == 0
        assert not path.exists()


def test_a_microphone_that_says_nothing_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    options = ["--microphone", "-", "--loudspeaker", "none", "--wake", "none", "--control", str(tmp_path / "control")]
    with subprocess.Popen(command(*options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        until(process, "start")
        process.send_signal(signal.SIGTERM)
        until(process, "end")
        assert process.wait(60) == 0


def test_without_an_assistant_a_command_fails_and_says_so(tmp_path: Path) -> None:
    told = [sys.executable, "-m", "edge", "assistant", "talk", "--control", str(tmp_path / "control")]
    done = subprocess.run(told, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("edge: no assistant is running: none listens at ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--wake", "computer"], "expected alexa, hey_jarvis"),
        (["--loudspeaker", "-"], "standard output has the events"),
        (["--microphone", "nowhere.wav", "--loudspeaker", "none"], "nowhere.wav': No such file"),
        (["--camera", "nowhere.png", "--loudspeaker", "none"], "nowhere.png"),
        (["--silence", "nan", "--loudspeaker", "none"], "silence_s: expected 0.1 or more"),
        (["--listen", "0", "--loudspeaker", "none"], "listen_s: expected 0.1 or more"),
    ],
)
def test_what_it_cannot_work_with_is_one_line(options: list[str], words: str, tmp_path: Path) -> None:
    own = ["--control", str(tmp_path / "control")]
    if "--microphone" not in options:
        own += ["--microphone", "-"]
    done = subprocess.run(command(*own, *options), capture_output=True, text=True, check=False, cwd=ROOT, input="")
    assert done.returncode == 1
    assert words in done.stderr and done.stderr.startswith("edge: ") and done.stderr.count("\n") == 1


def test_a_model_without_audio_names_the_command_that_adds_it() -> None:
    told = [sys.executable, "-m", "edge", "assistant", "--microphone", "-"]
    environment = {**os.environ, "EDGE_MODELS": "/nowhere"}
    done = subprocess.run(told, capture_output=True, text=True, check=False, cwd=ROOT, input="", env=environment)
    assert done.returncode == 1
    assert "edge models speech reka-edge-tiny SPEECH-BUNDLE" in done.stderr


def test_keys_of_a_terminal_are_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard, screen = pty.openpty()
    pressed: list[str] = []
    over = threading.Event()

    def end() -> None:
        pressed.append("end")
        over.set()

    with os.fdopen(screen, "r+b", buffering=0) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with keys({" ": lambda: pressed.append("talk"), "s": lambda: pressed.append("stop"), "q": end}) as is_terminal:
            assert is_terminal
            os.write(keyboard, b" xsq")
            assert over.wait(60)
    os.close(keyboard)
    assert pressed == ["talk", "stop", "end"]


def test_without_a_terminal_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with keys({}) as is_terminal:
            assert not is_terminal


def test_send_is_what_the_command_sends(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with running("--wake", "none", "--control", str(path)) as process:
        until(process, "start")
        assert send("state", path) == "idle"
