"""Loudspeakers: files, programs and sounddevice in their place; what is played, what stops, and what gets lost."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
import threading
import time
import types
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.arrays import F32
from edge.devices import player
from edge.devices.loudspeaker import Loudspeaker
from edge.errors import DeviceError, VoiceError
from edge.speech.speaker import Spoken

RATE_HZ = 8000
# A program in the place of paplay: keeps what it is started with and what it gets.
KEEPS = (
    "import os, sys\n"
    "folder = os.environ['KEPT']\n"
    "open(folder + '/arguments', 'w').write(' '.join(sys.argv[1:]))\n"
    "open(folder + '/pid', 'w').write(str(os.getpid()))\n"
)
READS = KEEPS + "samples = sys.stdin.buffer.read(); open(folder + '/samples', 'wb').write(samples)\n"


def said(level: float, n: int = 400, rate_hz: int = RATE_HZ) -> Spoken:
    return Spoken(f"{level}", np.full(n, level, np.float32), rate_hz)


def program(
    folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch, *, pulse: bool = False, pipewire: bool = False
) -> None:
    """Has the path hold one program of this Python code, and sounddevice be missing."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)
    runtime = folder / "run"
    (runtime / "pulse").mkdir(parents=True)
    for socket, is_there in (("pulse/native", pulse), ("pipewire-0", pipewire)):
        if is_there:
            (runtime / socket).touch()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("KEPT", str(folder))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.delenv("PULSE_SERVER", raising=False)
    monkeypatch.delenv("PIPEWIRE_REMOTE", raising=False)
    monkeypatch.setitem(sys.modules, "sounddevice", None)


def kept(folder: Path) -> F32:
    return np.frombuffer((folder / "samples").read_bytes(), "<i2").astype(np.float32) / 32767


def trimmed(samples: F32) -> F32:
    """Samples without the silence that keeps a device going until the first sentence is there."""
    return samples[np.flatnonzero(samples)[0] :] if samples.any() else samples[:0]


class TestFile:
    def test_sentences_are_in_their_order(self, tmp_path: Path) -> None:
        with Loudspeaker(tmp_path / "out.wav") as loudspeaker:
            assert loudspeaker.play([said(0.25), said(0.5)])
            assert loudspeaker.play([said(0.75)])
        samples, rate_hz = soundfile.read(tmp_path / "out.wav", dtype="float32")
        assert rate_hz == RATE_HZ
        assert np.allclose(samples, np.repeat([0.25, 0.5, 0.75], 400), atol=1e-3)

    @pytest.mark.parametrize("name", ["out.flac", "out.ogg", "out.mp3"])
    def test_the_suffix_is_the_format(self, tmp_path: Path, name: str) -> None:
        with Loudspeaker(str(tmp_path / name)) as loudspeaker:
            assert loudspeaker.play([said(0.5, 8000)])
        assert soundfile.info(tmp_path / name).duration == pytest.approx(1, abs=0.15)

    def test_another_rate_becomes_that_of_the_first(self, tmp_path: Path) -> None:
        with Loudspeaker(tmp_path / "out.wav") as loudspeaker:
            loudspeaker.play([said(0.5, 8000), said(0.5, 16000, 16000)])
        samples, rate_hz = soundfile.read(tmp_path / "out.wav")
        assert (rate_hz, len(samples)) == (8000, 16000)

    def test_standard_output_is_a_wav(self) -> None:
        code = (
            "import numpy as np; from edge.devices.loudspeaker import Loudspeaker\n"
            "from edge.speech.speaker import Spoken\n"
            "with Loudspeaker('-') as loudspeaker:\n"
            "    loudspeaker.play([Spoken('', np.full(400, 0.5, np.float32), 8000)] * 2)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        with wave.open(io.BytesIO(done.stdout)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        assert np.allclose(np.frombuffer(done.stdout, "<i2", offset=44) / 32767, 0.5, atol=1e-3)
        assert len(done.stdout) == 44 + 1600

    def test_nothing_is_played_once_stopped(self, tmp_path: Path) -> None:
        stop = threading.Event()

        def coming() -> Iterator[Spoken]:
            yield said(0.25)
            stop.set()
            yield said(0.5)

        with Loudspeaker(tmp_path / "out.wav") as loudspeaker:
            assert not loudspeaker.play(coming(), stop=stop)
            assert loudspeaker.play([said(0.75)])
        assert set(np.round(soundfile.read(tmp_path / "out.wav")[0], 2)) <= {0.25, 0.75}

    def test_a_file_that_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match=r"^loudspeaker .*out\.wav: No such file or directory$"):
            Loudspeaker(tmp_path / "nowhere" / "out.wav").play([said(0.5)])
        with pytest.raises(DeviceError, match=r"expected a file ending in \.wav"):
            Loudspeaker(tmp_path / "out.aac").play([said(0.5)])

    def test_an_error_of_the_voice_comes_through(self, tmp_path: Path) -> None:
        def coming() -> Iterator[Spoken]:
            yield said(0.25)
            raise VoiceError("no voice")

        with Loudspeaker(tmp_path / "out.wav") as loudspeaker, pytest.raises(VoiceError, match="no voice"):
            loudspeaker.play(coming())

    def test_what_was_coming_is_closed_when_stopped(self, tmp_path: Path) -> None:
        stop, closed = threading.Event(), threading.Event()

        def coming() -> Iterator[Spoken]:
            try:
                while True:
                    yield said(0.25)
                    stop.set()
            finally:
                closed.set()

        with Loudspeaker(tmp_path / "out.wav") as loudspeaker:
            assert not loudspeaker.play(coming(), stop=stop)
        assert closed.wait(60)


class TestProgram:
    def test_paplay_gets_every_sample(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program(tmp_path, "paplay", READS, monkeypatch, pulse=True)
        with Loudspeaker("kitchen") as loudspeaker:
            assert loudspeaker.play([said(0.25), said(0.5)])
        assert np.allclose(trimmed(kept(tmp_path))[:400], 0.25, atol=1e-3)
        assert np.count_nonzero(np.isclose(kept(tmp_path), 0.5, atol=1e-3)) == 400
        arguments = (tmp_path / "arguments").read_text()
        assert "--raw --rate=8000 --channels=1 --format=s16le" in arguments
        assert arguments.endswith("--device=kitchen")

    def test_aplay_is_there_without_a_sound_server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program(tmp_path, "aplay", READS, monkeypatch)
        with Loudspeaker(1) as loudspeaker:
            assert loudspeaker.play([said(0.5)])
        assert np.count_nonzero(np.isclose(kept(tmp_path), 0.5, atol=1e-3)) == 400
        arguments = (tmp_path / "arguments").read_text()
        assert "-t raw -f S16_LE -c 1 -r 8000" in arguments
        assert arguments.endswith("-D plughw:1 -")

    @pytest.mark.parametrize("has_raw", [False, True])
    def test_pw_play_is_told_that_samples_are_raw_where_it_knows_that(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_raw: bool
    ) -> None:
        helps = f"import sys\nif '--help' in sys.argv: print('-a | --raw' * {has_raw}), sys.exit()\n"
        program(tmp_path, "pw-play", helps + READS, monkeypatch, pipewire=True)
        player._knows_raw.cache_clear()
        with Loudspeaker("kitchen") as loudspeaker:
            assert loudspeaker.play([said(0.5)])
        player._knows_raw.cache_clear()
        assert np.count_nonzero(np.isclose(kept(tmp_path), 0.5, atol=1e-3)) == 400
        arguments = (tmp_path / "arguments").read_text()
        assert arguments.endswith("--rate=8000 --channels=1 --format=s16 --latency=60ms --target=kitchen -")
        assert arguments.startswith("--raw ") == has_raw

    @pytest.mark.parametrize("name", ["paplay", "pw-play"])
    def test_a_sound_server_that_does_not_run_is_not_asked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        program(tmp_path, name, READS, monkeypatch)
        with pytest.raises(DeviceError, match=r"^a loudspeaker needs sounddevice.*pulseaudio-utils.*alsa-utils"):
            Loudspeaker().play([said(0.5)])

    def test_a_machine_without_portaudio_is_told_to_install_that(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        real = importlib.import_module

        def without_portaudio(name: str, package: str | None = None) -> object:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")
            return real(name, package)

        monkeypatch.setattr(importlib, "import_module", without_portaudio)
        with pytest.raises(DeviceError, match=r"^a loudspeaker needs PortAudio.*libportaudio2; or a program"):
            Loudspeaker().play([said(0.5)])

    def test_stopping_ends_the_program_whatever_it_still_holds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(tmp_path, "paplay", READS, monkeypatch, pulse=True)
        stop = threading.Event()

        def coming() -> Iterator[Spoken]:
            yield said(0.5, 3600 * RATE_HZ)

        def when_it_plays() -> None:
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                stop.wait(0.01)
            stop.set()

        watching = threading.Thread(target=when_it_plays)
        watching.start()
        with Loudspeaker() as loudspeaker:
            assert not loudspeaker.play(coming(), stop=stop)
            watching.join()
            with pytest.raises(ProcessLookupError):
                os.kill(int((tmp_path / "pid").read_text()), 0)
            assert not (tmp_path / "samples").exists()

    def test_a_program_that_ends_is_a_lost_device_and_is_started_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(tmp_path, "paplay", "import sys; sys.exit('Connection\\nterminated')", monkeypatch, pulse=True)
        loudspeaker = Loudspeaker()
        with pytest.raises(DeviceError, match=r"^loudspeaker \(paplay\): Connection terminated$"):
            loudspeaker.play([said(0.5, 80_000)])
        (tmp_path / "paplay").write_text(f"#!{sys.executable}\n{READS}")
        with loudspeaker:
            assert loudspeaker.play([said(0.5)])

    def test_a_program_that_fails_at_its_end_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program(tmp_path, "aplay", READS + "sys.exit('no card')", monkeypatch)
        with pytest.raises(DeviceError, match=r"^loudspeaker x \(aplay\): no card$"):
            Loudspeaker("x").play([said(0.5)])

    def test_a_program_that_never_ends_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(player, "_END_S", 0.2)
        program(tmp_path, "aplay", READS + "import time; time.sleep(600)", monkeypatch)
        with pytest.raises(DeviceError, match=r"^loudspeaker \(aplay\): does not come to its end$"):
            Loudspeaker().play([said(0.5)])

    def test_a_program_that_takes_nothing_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(player, "_STALE_S", 0.2)
        program(tmp_path, "aplay", KEEPS + "import time; time.sleep(600)", monkeypatch)
        with pytest.raises(DeviceError, match=r"takes no samples for 0\.2 s"):
            Loudspeaker().play([said(0.5, 80_000)])

    def test_a_program_that_listens_no_more_and_does_not_end_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(player, "_END_S", 0.2)
        program(tmp_path, "aplay", KEEPS + "os.close(0)\nimport time; time.sleep(600)", monkeypatch)
        with pytest.raises(DeviceError, match=r"^loudspeaker \(aplay\): ended$"):
            Loudspeaker().play([said(0.5, 80_000)])

    def test_a_device_is_kept_going_until_the_next_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(tmp_path, "paplay", READS, monkeypatch, pulse=True)
        silent = threading.Event()
        real = player.Player.wait

        def wait(self: player.Player, seconds: float, stopped: threading.Event) -> None:
            real(self, seconds, stopped)
            if self._process is not None:
                silent.set()

        monkeypatch.setattr(player.Player, "wait", wait)

        def coming() -> Iterator[Spoken]:
            yield said(0.25)
            assert silent.wait(60)
            yield said(0.5)

        with Loudspeaker() as loudspeaker:
            assert loudspeaker.play(coming())
        samples = kept(tmp_path)
        gap = samples[np.flatnonzero(samples)[399] + 1 : np.flatnonzero(np.isclose(samples, 0.5, atol=1e-3))[0]]
        assert len(gap) >= 160
        assert not gap.any()


class FakeOutput:
    """A stream of sounddevice whose device takes 100 samples at a time, as fast as it can."""

    latency = 0.0
    opened: list[FakeOutput]

    def __init__(self, take: Callable[[F32, int, object, object], None]) -> None:
        self._take = take
        self.heard: list[float] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def abort(self) -> None:
        self.ended.set()
        self._thread.join()

    def close(self) -> None:
        self.ended.set()

    def _run(self) -> None:
        out = np.empty((100, 1), np.float32)
        while not self.ended.wait(0.001):
            self._take(out, 100, None, None)
            self.heard.extend(out[:, 0].tolist())


class PortAudioError(Exception):
    pass


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[FakeOutput]:
    """The streams that are opened; the device named `fixed` knows 16 kHz alone, `gone` cannot be opened."""
    opened: list[FakeOutput] = []

    def open_stream(**options: object) -> FakeOutput:
        if options["device"] == "gone" or (options["device"] == "fixed" and options["samplerate"] != 16000):
            raise PortAudioError("Invalid sample rate")
        opened.append(FakeOutput(options["callback"]))  # type: ignore[arg-type]
        return opened[-1]

    library = types.ModuleType("sounddevice")
    library.OutputStream = open_stream  # type: ignore[attr-defined]
    library.PortAudioError = PortAudioError  # type: ignore[attr-defined]
    library.query_devices = lambda device, kind: {"default_samplerate": 16000.0}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    return opened


class TestSounddevice:
    def test_every_sample_is_played_in_order(self, outputs: list[FakeOutput]) -> None:
        with Loudspeaker() as loudspeaker:
            assert loudspeaker.play([said(0.25, 1234), said(0.5, 777)])
        heard = np.array(outputs[0].heard, np.float32)
        assert np.count_nonzero(heard == 0.25) == 1234
        assert np.count_nonzero(heard == 0.5) == 777
        assert np.flatnonzero(heard == 0.5)[0] > np.flatnonzero(heard == 0.25)[-1]
        assert outputs[0].ended.is_set()

    def test_a_device_of_another_rate_gets_that(self, outputs: list[FakeOutput]) -> None:
        with Loudspeaker("fixed") as loudspeaker:
            assert loudspeaker.play([said(0.5, 8000)])
        loud = np.count_nonzero(np.array(outputs[0].heard) > 0.4)
        assert loud == pytest.approx(16000, rel=0.02)

    def test_stopping_drops_what_the_device_holds(self, outputs: list[FakeOutput]) -> None:
        stop = threading.Event()

        def coming() -> Iterator[Spoken]:
            yield said(0.25)
            stop.set()
            yield said(0.5)

        with Loudspeaker() as loudspeaker:
            assert not loudspeaker.play(coming(), stop=stop)
            assert all(output.ended.is_set() for output in outputs)
        assert not any(0.5 in output.heard for output in outputs)

    def test_a_device_that_is_not_there_is_an_error(self, outputs: list[FakeOutput]) -> None:
        with pytest.raises(DeviceError, match=r"^loudspeaker gone: cannot be opened: Invalid sample rate$"):
            Loudspeaker("gone").play([said(0.5)])

    def test_a_device_that_takes_nothing_any_more_is_lost(
        self, outputs: list[FakeOutput], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edge.devices.playback._STALE_S", 0.2)

        def coming() -> Iterator[Spoken]:
            yield said(0.25)
            while not outputs:
                time.sleep(0.001)
            outputs[0].ended.set()
            yield said(0.5, 80_000)

        with Loudspeaker() as loudspeaker, pytest.raises(DeviceError, match=r"takes no samples for 0\.2 s"):
            loudspeaker.play(coming())


def test_a_loudspeaker_says_what_it_is() -> None:
    assert repr(Loudspeaker("x")) == "Loudspeaker('x')"
