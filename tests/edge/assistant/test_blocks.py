"""The microphone's audio without an end: lost and back, and the end of a file."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.assistant import blocks
from edge.assistant.blocks import Blocks, is_device
from edge.devices.voice_activity import BLOCK_S, BLOCK_SAMPLES
from edge.errors import DeviceError
from tests.edge.assistant.recordings import F32, Recording

BLOCK = np.full(BLOCK_SAMPLES, 0.5, np.float32)


class Source:
    """A microphone that delivers some blocks and is gone."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.closed = False

    def blocks(self) -> Iterator[F32]:
        for _ in range(self.n):
            yield BLOCK
        raise DeviceError("microphone: no samples for 2 s")

    def close(self) -> None:
        self.closed = True


def test_a_device_that_is_lost_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Source | None] = []

    def open_ear(source: object, *, stale_s: float) -> Source:
        opened.append(Source(2) if len(opened) != 1 else None)
        if opened[-1] is None:
            raise DeviceError("microphone: cannot be opened")
        return opened[-1]

    monkeypatch.setattr(blocks, "open_ear", open_ear)
    monkeypatch.setattr(blocks, "sounddevice", lambda need: None)
    monkeypatch.setattr(blocks, "_RETRY_S", 0.01)
    stopping = threading.Event()
    coming = Blocks(None, paced=False, stopping=stopping)
    seen: list[tuple[bool, str | None]] = []
    for block in coming:
        seen.append((block is not None, coming.lost))
        if len(opened) == 3 and block is not None:
            break
    shown = list(dict.fromkeys(seen))
    assert shown == [
        (True, None),
        (False, "microphone: no samples for 2 s"),
        (False, "microphone: cannot be opened"),
    ]
    assert seen[-1] == (True, None)
    assert opened[0] is not None and opened[0].closed


def test_after_the_end_of_a_file_there_is_silence(tmp_path: Path) -> None:
    path = Recording([np.concatenate([BLOCK] * 3)]).save(tmp_path / "a.wav")
    coming = Blocks(path, paced=False, stopping=threading.Event())
    heard = [block for block, _ in zip(coming, range(6), strict=False)]
    levels = [None if block is None else round(float(block.max()), 2) for block in heard]
    assert levels == [0.5, 0.5, 0.5, 0, 0, 0]
    assert coming.ended


class Clock:
    """Time that passes only where it is waited for, and the event that ends blocks."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return False

    def is_set(self) -> bool:
        return False


def test_the_silence_behind_standard_input_comes_in_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(blocks, "time", clock)
    monkeypatch.setattr(blocks, "open_ear", lambda source, *, stale_s: Ended())
    coming = Blocks("-", paced=False, stopping=clock)  # type: ignore[arg-type]
    n = sum(1 for _ in zip(coming, range(100), strict=False))
    assert coming.ended and n == 100
    assert clock.now_s == pytest.approx(97 * BLOCK_S, abs=2 * BLOCK_S)


class Ended:
    """Standard input with three blocks."""

    def blocks(self) -> Iterator[F32]:
        yield from [BLOCK] * 3

    def close(self) -> None:
        """Do nothing."""


def test_a_file_that_is_not_there_is_an_error_and_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="No such file"):
        next(iter(Blocks(tmp_path / "nowhere.wav", paced=False, stopping=threading.Event())))


def test_it_ends_when_it_is_told_to() -> None:
    stopping = threading.Event()
    stopping.set()
    assert list(Blocks(Source(5), paced=False, stopping=stopping)) == []


@pytest.mark.parametrize(
    ("source", "device"),
    [(None, True), (3, True), ("3", True), ("USB Audio", True), ("-", False), ("a.wav", False), (Source(1), False)],
)
def test_what_is_a_device(source: object, device: bool) -> None:
    assert is_device(source) == device  # type: ignore[arg-type]
