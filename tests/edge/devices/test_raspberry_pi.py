"""A Raspberry Pi's camera, by stand-ins for picamera2 and rpicam-vid: no such camera is here."""

from __future__ import annotations

import builtins
import io
import logging
import os
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edge.devices.process
from edge.arrays import U8
from edge.devices.sources import open_capture
from edge.errors import DeviceError

Write = Callable[[str], Path]


class StandInPicamera2:
    """What picamera2.Picamera2 does, as far as it is used: a frame of one colour, in the order that was asked for."""

    opened: list[StandInPicamera2] = []  # noqa: RUF012
    fails: Mapping[str, Exception] = {}

    def __init__(self, number: int) -> None:
        self.number, self.calls = number, list[object]()
        self.opened.append(self)

    def call(self, name: str, *arguments: object) -> None:
        self.calls.append((name, *arguments))
        if name in self.fails:
            raise self.fails[name]

    def create_video_configuration(self, *, main: dict[str, object]) -> dict[str, object]:
        return main

    def configure(self, main: dict[str, object]) -> None:
        self.call("configure", main)

    def start(self) -> None:
        self.call("start")

    def capture_array(self, name: str) -> U8:
        self.call("capture_array", name)
        return np.full((4, 6, 3), (250, 10, 20), np.uint8)

    def close(self) -> None:
        self.call("close")


@pytest.fixture
def picamera2(monkeypatch: pytest.MonkeyPatch) -> type[StandInPicamera2]:
    """A module in the place of picamera2."""
    module = types.ModuleType("picamera2")
    vars(module)["Picamera2"] = StandInPicamera2
    monkeypatch.setitem(sys.modules, "picamera2", module)
    monkeypatch.setattr(StandInPicamera2, "opened", [])
    monkeypatch.setattr(StandInPicamera2, "fails", {})
    return StandInPicamera2


def fails_to_import(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    real = builtins.__import__

    def importing(name: str, *arguments: object, **named: object) -> object:
        if name == "picamera2":
            raise error
        return real(name, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    monkeypatch.setattr("importlib.import_module", lambda name: importing(name) or sys.modules[name])


def jpeg(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 8), (red, 0, 0)).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture
def rpicam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Put a program in the place of rpicam-vid: Python code that finds `out`, the file of its images."""

    def write(code: str) -> Path:
        program = tmp_path / "rpicam-vid"
        head = (
            f"#!{sys.executable}\nimport sys, time, signal\nwords = sys.argv[1:]\n"
            f"open({str(tmp_path / 'words')!r}, 'w').write(' '.join(words))\n"
            "out = open(words[words.index('--output') + 1], 'wb', buffering=0)\n"
        )
        program.write_text(head + code)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        return tmp_path / "words"

    return write


def test_frames_of_picamera2_are_rgb_and_of_the_size(picamera2: type[StandInPicamera2]) -> None:
    capture = open_capture("pi:1", size=(1280, 720))
    frame = capture.read()
    capture.close()
    camera = picamera2.opened[0]
    assert frame is not None and frame[0, 0].tolist() == [250, 10, 20]
    assert camera.number == 1
    # picamera2 names the order of bits: BGR888 is R, G, B in memory.
    assert camera.calls == [
        ("configure", {"format": "BGR888", "size": (1280, 720)}),
        ("start",),
        ("capture_array", "main"),
        ("close",),
    ]


def test_a_camera_that_does_not_start_is_given_back(picamera2: type[StandInPicamera2]) -> None:
    picamera2.fails = {"start": RuntimeError("Device or resource busy")}
    with pytest.raises(DeviceError, match="pi:0: cannot be opened: Device or resource busy"):
        open_capture("pi", size=None)
    assert picamera2.opened[0].calls[-1] == ("close",)


def test_a_camera_that_stops_is_named(picamera2: type[StandInPicamera2]) -> None:
    capture = open_capture("pi", size=None)
    picamera2.fails = {"capture_array": TimeoutError()}
    with pytest.raises(DeviceError, match="pi:0: stopped delivering: TimeoutError"):
        capture.read()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'picamera2'"), "python3-picamera2, and an environment that sees system"),
        (ModuleNotFoundError("No module named 'libcamera._libcamera'"), "of the system's own Python [(]this is 3[.]"),
        (
            ValueError("numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header"),
            r"compiled for another numpy than .*pip install 'numpy>=1.26,<2' 'opencv-python-headless<4.12'",
        ),
        (RuntimeError("no pipeline handler"), "picamera2 cannot be imported: no pipeline handler"),
    ],
)
def test_why_picamera2_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, words: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    fails_to_import(monkeypatch, error)
    with pytest.raises(DeviceError, match=f"pi:0: .*{words}.*; and rpicam-vid .* is not installed"):
        open_capture("pi", size=None)


def test_without_picamera2_the_program_is_asked(
    rpicam: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails_to_import(monkeypatch, ModuleNotFoundError("No module named 'picamera2'"))
    words = rpicam(f"out.write({jpeg(200)!r}); time.sleep(60)\n")
    with caplog.at_level(logging.WARNING):
        capture = open_capture("pi:1", size=(800, 600))
    frame = capture.read()
    capture.close()
    assert frame is not None and frame.shape == (8, 16, 3) and abs(int(frame[0, 0, 0]) - 200) < 8
    assert "python3-picamera2" in caplog.text and "rpicam-vid is used" in caplog.text
    asked = words.read_text()
    assert asked.startswith("--timeout 0 --nopreview --flush --codec mjpeg --camera 1 --width 800 --height 600 ")
    assert "--framerate 10 --quality 90 --output /dev/fd/" in asked


def test_of_images_that_came_together_the_last_is_seen(rpicam: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_to_import(monkeypatch, ModuleNotFoundError("No module named 'picamera2'"))
    both = jpeg(20) + jpeg(220)
    rpicam(f"out.write({both!r}); time.sleep(60)\n")
    capture = open_capture("pi", size=None)
    frame = capture.read()
    capture.close()
    assert frame is not None and int(frame[0, 0, 0]) > 200


def test_images_that_cannot_be_decoded_are_passed_by(rpicam: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_to_import(monkeypatch, ModuleNotFoundError("No module named 'picamera2'"))
    whole = jpeg(220)
    start = whole.index(b"\xff\xc0")
    broken = whole[: start + 5] + bytes(4) + whole[start + 9 :]  # no pixels
    rpicam(f"out.write({broken!r}); time.sleep(0.3); out.write({whole!r}); time.sleep(60)\n")
    capture = open_capture("pi", size=None)
    frame = capture.read()
    capture.close()
    assert frame is not None and int(frame[0, 0, 0]) > 200
    rpicam(f"for i in range(20): out.write({broken!r}); time.sleep(0.05)\ntime.sleep(60)\n")
    monkeypatch.setattr("edge.devices.raspberry_pi._MAX_BROKEN", 1)
    capture = open_capture("pi", size=None)
    with pytest.raises(DeviceError, match="pi:0: image"):
        capture.read()
    capture.close()


def test_what_the_program_complains_about_is_said(rpicam: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_to_import(monkeypatch, ModuleNotFoundError("No module named 'picamera2'"))
    rpicam("sys.stderr.write('hello\\nERROR: *** no cameras available ***\\n'); sys.exit(255)\n")
    capture = open_capture("pi", size=None)
    with pytest.raises(DeviceError, match=r"pi:0: ended: ERROR: \*\*\* no cameras available"):
        capture.read()
    capture.close()


def test_a_program_that_hangs_is_ended(rpicam: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_to_import(monkeypatch, ModuleNotFoundError("No module named 'picamera2'"))
    rpicam("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)\n")
    monkeypatch.setattr(edge.devices.process, "_FIRST_S", 0.5)
    monkeypatch.setattr(edge.devices.process, "_END_S", 0.2)
    capture = open_capture("pi", size=None)
    with pytest.raises(DeviceError, match="pi:0: no frame for 0 s"):
        capture.read()
    capture.close()
