"""A program that sends frames through a pipe: waited for with a limit, its complaints kept, ended when it hangs."""

import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence

from edge.errors import DeviceError

_FIRST_S, _NEXT_S = 15.0, 5.0  # how long a frame may take to come
_END_S = 1.0
_CHUNK_BYTES = 1 << 20
_COMPLAINT_BYTES = 2000


class FrameProcess:
    """A running program and the pipe that its frames come through.

    name: of the source, for errors; command: given the pipe's number, the words that start the program;
    lacking: what is missing where it cannot be started; complaints: what lines begin with that say what is wrong.
    Raises: DeviceError.
    """

    def __init__(
        self, name: str, command: Callable[[int], Sequence[str]], *, lacking: str, complaints: tuple[str, ...]
    ) -> None:
        self._name, self._marks = name, complaints
        self._complaints = b""
        self._complaints_end = False
        self._limit_s = _FIRST_S
        # Not standard output: some of these programs write words there.
        self._frames, ours = os.pipe()
        self._complaining, theirs = os.pipe()
        words = list(command(ours))
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs, pass_fds=(ours,)
            )
        except OSError as error:
            os.close(self._frames)
            os.close(self._complaining)
            raise DeviceError(f"{name}: {words[0]} cannot be run ({error.strerror}): {lacking}") from error
        finally:
            os.close(ours)
            os.close(theirs)

    def due_s(self) -> float:
        """Return until when the next frame has to be here, by the monotonic clock."""
        return time.monotonic() + self._limit_s

    def came(self) -> None:
        """Note that a frame came: the next ones are expected sooner."""
        self._limit_s = _NEXT_S

    def take(self, due_s: float) -> bytes:
        """Wait for bytes of frames; none where only complaints came. Raises: DeviceError at the end and when due."""
        watched = [self._frames, *([] if self._complaints_end else [self._complaining])]
        ready = select.select(watched, [], [], max(0.0, due_s - time.monotonic()))[0]
        if self._frames in ready:
            data = os.read(self._frames, _CHUNK_BYTES)
            if not data:
                raise DeviceError(f"{self._name}: ended{self._last_words()}")
            return data
        if not ready:
            raise DeviceError(f"{self._name}: no frame for {self._limit_s:.0f} s{self._last_words()}")
        self._listen()
        return b""

    def waiting(self) -> bool:
        """Return whether more bytes have come already."""
        return bool(select.select([self._frames], [], [], 0)[0])

    def close(self) -> None:
        """End the process, kindly first."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._frames)
        os.close(self._complaining)

    def _listen(self) -> None:
        data = os.read(self._complaining, _CHUNK_BYTES)
        self._complaints_end = not data
        self._complaints = (self._complaints + data)[-_COMPLAINT_BYTES:]

    def _last_words(self) -> str:
        """Return the program's own error, as far as it gave one."""
        while not self._complaints_end and select.select([self._complaining], [], [], _END_S)[0]:
            self._listen()
        lines = self._complaints.decode(errors="replace").splitlines()
        found = [line for line in lines if any(mark in line for mark in self._marks)]
        return f": {found[0][:300]}" if found else ""
