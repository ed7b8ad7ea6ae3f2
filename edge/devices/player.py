"""A loudspeaker by a program that plays: paplay, pw-play or aplay. It gets samples, and is killed to be silent."""

import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np

from edge.arrays import F32
from edge.errors import DeviceError

_AHEAD_S = 0.06  # how far in front of the clock samples are handed over
_STALE_S = 2.0  # a program that takes nothing for so long hangs
_END_S = 5.0
_PIPE_BYTES = 4096  # the fewest that a pipe can hold: what waits in it is said before silence
_COMPLAINT_BYTES = 300


def installed_players() -> list[str]:
    """Return the programs that can play here, the best in front; those of a sound server where one runs."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    has_pulse = "PULSE_SERVER" in os.environ or (runtime / "pulse/native").exists()
    has_pipewire = "PIPEWIRE_REMOTE" in os.environ or (runtime / "pipewire-0").exists()
    usable = {"paplay": has_pulse, "pw-play": has_pipewire, "aplay": True}
    return [name for name, is_usable in usable.items() if is_usable and shutil.which(name)]


@cache
def _knows_raw() -> bool:
    """Return whether pw-play has to be told that samples are raw: old versions take nothing else from a pipe."""
    try:
        done = subprocess.run(["pw-play", "--help"], capture_output=True, timeout=_END_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"--raw" in done.stdout + done.stderr


class Player:
    """A program that plays what it gets on standard input; started with the first block, ended by silence or drain."""

    def __init__(self, program: str, device: int | str | None) -> None:
        self._program = program
        self._device = device
        self._name = f"loudspeaker{'' if device is None else f' {device}'}"[:200] + f" ({program})"
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        self._rate_hz = 0
        self._due_s = 0.0  # when everything that was written is played

    def begin(self, rate_hz: int) -> int:
        """As `AudioSink.begin`: a program for another rate is started once the one before has played."""
        if self._process is None or rate_hz != self._rate_hz:
            self._end(wait=True)
            self._start(rate_hz)
        return rate_hz

    def write(self, block: F32) -> None:
        """As `AudioSink.write`."""
        self._send(self._encoded(block))
        now_s = time.monotonic()
        self._due_s = max(self._due_s, now_s) + len(block) / self._rate_hz
        time.sleep(max(0.0, self._due_s - now_s - _AHEAD_S))

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """As `AudioSink.wait`: silence is written, without which a device would click or fall asleep."""
        if self._process is None:
            stopped.wait(seconds)
        else:
            self.write(np.zeros(round(self._rate_hz * seconds), np.float32))

    def drain(self, stopped: threading.Event) -> bool:
        """As `AudioSink.drain`."""
        process = self._process
        if process is None:
            return not stopped.is_set()
        if process.stdin is not None:
            process.stdin.close()
        give_up_s = max(time.monotonic(), self._due_s) + _END_S
        while process.poll() is None and time.monotonic() < give_up_s:
            if stopped.wait(0.01):
                return False
        status = process.poll()
        self._end(wait=False)
        if status is None:
            raise DeviceError(f"{self._name}: does not come to its end")
        if status:
            raise DeviceError(f"{self._name}: {self._last_words()}")
        return True

    def silence(self) -> None:
        """End the program at once: the system drops what it had not played."""
        self._end(wait=False)

    def close(self) -> None:
        """End the program."""
        self._end(wait=False)
        self._complaints.close()

    def _start(self, rate_hz: int) -> None:
        self._complaints.seek(0)
        self._complaints.truncate()
        try:
            self._process = subprocess.Popen(
                self._command(rate_hz), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._complaints,
                bufsize=0, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise DeviceError(f"{self._name}: cannot be run: {error.strerror}") from error
        fd = self._stdin()
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(fd, False)
        self._rate_hz = rate_hz
        self._due_s = 0.0

    def _command(self, rate_hz: int) -> list[str]:
        device = self._device
        if self._program == "paplay":
            chosen = [] if device is None else [f"--device={device}"]
            return [
                "paplay",
                "--raw",
                f"--rate={rate_hz}",
                "--channels=1",
                "--format=s16le",
                "--latency-msec=60",
                *chosen,
            ]
        if self._program == "pw-play":
            form = [*["--raw"] * _knows_raw(), f"--rate={rate_hz}", "--channels=1", "--format=s16"]
            return ["pw-play", *form, "--latency=60ms", *([] if device is None else [f"--target={device}"]), "-"]
        name = f"plughw:{device}" if isinstance(device, int) else device
        form = ["-t", "raw", "-f", "S16_LE", "-c", "1", "-r", str(rate_hz), "--buffer-time=80000"]
        return ["aplay", "-q", *form, *([] if name is None else ["-D", name]), "-"]

    def _encoded(self, block: F32) -> bytes:
        whole = np.clip(np.round(block * 32767), -32768, 32767)
        return whole.astype("<i2").tobytes()

    def _send(self, data: bytes) -> None:
        """Hand bytes over. Raises: DeviceError when the program ended or takes none."""
        fd = self._stdin()
        while data:
            if not select.select([], [fd], [], _STALE_S)[1]:
                raise DeviceError(f"{self._name}: takes no samples for {_STALE_S:g} s")
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                with contextlib.suppress(subprocess.TimeoutExpired):  # it listens no more, and does not end either
                    if self._process is not None:
                        self._process.wait(_END_S)
                raise DeviceError(f"{self._name}: {self._last_words()}") from error

    def _stdin(self) -> int:
        if self._process is None or self._process.stdin is None:
            raise DeviceError(f"{self._name}: is closed")
        return self._process.stdin.fileno()

    def _end(self, *, wait: bool) -> None:
        """End the program; wait: once it has played what it got."""
        process, self._process = self._process, None
        if process is None:
            return
        if not wait:
            process.kill()  # first: at the end of its input, a program plays what it still holds
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_words(self) -> str:
        """Return what the program said at its end."""
        self._complaints.seek(0)
        said = " ".join(self._complaints.read(_COMPLAINT_BYTES).decode("utf-8", "replace").split())
        return said or "ended"
