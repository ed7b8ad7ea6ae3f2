"""Cameras: the newest frame and no backlog, errors instead of old pictures, and picked up again when they come back."""

import io
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import edge.devices.camera
import edge.devices.process
from edge.devices.camera import Camera
from edge.devices.sources import is_live, open_capture
from edge.errors import DeviceError
from tests.edge.asking import eventually

U8 = npt.NDArray[np.uint8]


class Fake:
    """A capture that yields what it is told to: a level to paint, an error to raise, None for its end."""

    def __init__(self, script: Iterator[int | Exception | None], pause_s: float = 0.002) -> None:
        self._script = script
        self._pause_s = pause_s
        self.closed = False

    def read(self) -> U8 | None:
        time.sleep(self._pause_s)
        what = next(self._script)
        if isinstance(what, Exception):
            raise what
        return None if what is None else np.full((48, 64, 3), what, np.uint8)

    def close(self) -> None:
        self.closed = True


def counting() -> Iterator[int | Exception | None]:
    yield from (i % 256 for i in range(100_000))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.devices.camera, "_RETRY_S", 0.05)
    monkeypatch.setattr(edge.devices.camera, "_LONGEST_RETRY_S", 0.2)


def test_only_the_newest_frame_is_kept() -> None:
    with Camera(lambda: Fake(counting())) as camera:
        first = camera.newest()
        eventually(lambda: camera.newest().number > first.number + 5)
        frame = camera.newest()
    assert frame.rgb[0, 0, 0] == (frame.number - 1) % 256
    assert first.at_s < frame.at_s <= time.monotonic()


def test_a_frame_that_is_too_old_is_an_error() -> None:
    gate = threading.Event()

    class Hanging(Fake):
        def read(self) -> U8 | None:
            rgb = super().read()
            gate.wait(20)
            return rgb

    once = iter([1, 2])
    capture = Hanging(once)
    gate.set()
    with Camera(lambda: capture, stale_s=0.2) as camera:
        assert camera.newest().number >= 1
        gate.clear()
        eventually(lambda: not fresh(camera))
        with pytest.raises(DeviceError, match=r"no new frame for \d+\.\d s"):
            camera.newest()
        gate.set()


def test_a_camera_that_vanishes_is_opened_again() -> None:
    scripts = [iter([1, 2, DeviceError("unplugged")]), iter([DeviceError("not yet")]), counting()]
    opened: list[Fake] = []

    def open_next() -> Fake:
        if len(opened) == 1:
            opened.append(Fake(scripts[1]))
            raise DeviceError("no such device")
        opened.append(Fake(scripts[len(opened)]))
        return opened[-1]

    with Camera(open_next, stale_s=0.1) as camera:
        camera.newest()
        eventually(lambda: len(opened) == 3)
        eventually(lambda: fresh(camera))
        assert opened[0].closed
        assert camera.newest().number > 2
    assert opened[2].closed


def fresh(camera: Camera) -> bool:
    try:
        camera.newest(wait_s=0)
    except DeviceError:
        return False
    return True


def test_what_is_wrong_with_a_camera_is_said() -> None:
    def fail() -> Fake:
        raise DeviceError("/dev/video7: no such device")

    with Camera(fail) as camera, pytest.raises(DeviceError, match="/dev/video7: no such device"):
        camera.newest()
    with pytest.raises(DeviceError, match="closed"):
        camera.newest()


def test_twenty_unpluggings_leave_no_threads_and_no_files() -> None:
    def short() -> Iterator[int | Exception | None]:
        yield from (1, 2, OSError("input/output error"))

    n_opened = 0

    def open_next() -> Fake:
        nonlocal n_opened
        n_opened += 1
        return Fake(short(), 0.0)

    before = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    with Camera(open_next) as camera:
        camera.newest()
        eventually(lambda: n_opened > 20)
        assert threading.active_count() == before[0] + 1
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == before


def test_a_image_that_never_changes_is_a_fault_of_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    n_opened = 0

    def open_frozen(source: object, *, size: object) -> Fake:
        nonlocal n_opened
        n_opened += 1
        return Fake(iter([7] * 100_000) if n_opened == 1 else counting())

    monkeypatch.setattr(edge.devices.camera, "open_capture", open_frozen)
    with Camera(0, stale_s=0.3) as camera:
        camera.newest()
        eventually(lambda: not fresh(camera))
        with pytest.raises(DeviceError, match="the same frame"):
            camera.newest()
        eventually(lambda: fresh(camera))  # opened again
        assert n_opened == 2


def test_a_image_that_never_changes_may_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.devices.camera, "open_capture", lambda source, *, size: Fake(iter([7] * 100_000)))
    with Camera(0, stale_s=0.2, still=True) as camera:
        camera.newest()
        eventually(lambda: camera.newest().number > 60)


def test_a_read_that_never_returns_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.devices.camera, "_STUCK_S", 0.2)
    monkeypatch.setattr(edge.devices.camera, "_JOIN_S", 0.1)
    gate = threading.Event()
    n_opened = 0

    class Stuck(Fake):
        def read(self) -> U8 | None:
            gate.wait(600)
            return super().read()

    def open_next() -> Fake:
        nonlocal n_opened
        n_opened += 1
        return Stuck(counting()) if n_opened == 1 else Fake(counting())

    with Camera(open_next, stale_s=0.2) as camera:
        eventually(lambda: fresh(camera))
        assert n_opened == 2
    assert not gate.is_set()  # closing did not wait for it
    gate.set()


def test_closing_waits_two_seconds_at_most_for_a_read() -> None:
    gate = threading.Event()

    class Stuck(Fake):
        def read(self) -> U8 | None:
            gate.wait(600)
            return None

    assert edge.devices.camera._JOIN_S == 2
    camera = Camera(lambda: Stuck(counting()))
    camera.close()
    camera.close()
    assert not gate.is_set()
    gate.set()


def test_the_end_is_told_and_the_last_frame_stays() -> None:
    with Camera(lambda: Fake(iter([1, 2, 3, None])), stale_s=0.05) as camera:
        eventually(lambda: camera.ended)
        assert camera.newest().rgb[0, 0, 0] == 3


def test_what_has_nothing_more_to_give_does_not_begin_again() -> None:
    scripts = [iter([1, 2, None]), iter([None])]
    with Camera(lambda: Fake(scripts.pop(0)), loop=True) as camera:
        eventually(lambda: camera.ended)
        assert camera.newest().rgb[0, 0, 0] == 2


@pytest.mark.parametrize("shape", [(0, 0, 3), (48, 64), (48, 64, 4)])
def test_a_frame_that_is_none_is_a_fault(shape: tuple[int, ...]) -> None:
    class Odd(Fake):
        def read(self) -> U8 | None:
            return np.zeros(shape, np.uint8)

    with Camera(lambda: Odd(counting())) as camera, pytest.raises(DeviceError, match=r"expected frames of \(H, W, 3\)"):
        camera.newest()


def test_what_ends_may_begin_again() -> None:
    with Camera(lambda: Fake(iter([1, 2, 3, None])), loop=True) as camera:
        eventually(lambda: fresh(camera) and camera.newest().number > 9)
        assert not camera.ended


def test_a_folder_of_images_stands_in_for_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.devices.sources._IMAGE_S", 0.05)
    for name, level in (("b.png", 20), ("a.png", 10), ("notes.txt", 0)):
        if level:
            Image.new("RGB", (8, 6), (level,) * 3).save(tmp_path / name)
        else:
            (tmp_path / name).write_text("no picture")
    capture = open_capture(tmp_path, size=None)
    frames = [capture.read() for _ in range(3)]
    assert [None if frame is None else int(frame[0, 0, 0]) for frame in frames] == [10, 20, None]


def test_a_video_stands_in_for_a_camera(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "video.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 50, (64, 48))
    for i in range(10):
        video.write(np.full((48, 64, 3), (0, 0, 20 * i), np.uint8))  # blue, green, red
    video.release()
    capture = open_capture(path, size=None)
    started_s = time.monotonic()
    frames = [capture.read() for _ in range(11)]
    assert time.monotonic() - started_s >= 0.17
    assert frames[10] is None
    last = frames[9]
    assert last is not None and last.shape == (48, 64, 3)
    assert abs(int(last[24, 32, 0]) - 180) < 12 and last[24, 32, 2] < 12
    capture.close()


@pytest.mark.parametrize("kind", ["a text", "a folder"])
def test_images_that_cannot_be_decoded_are_passed_by(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.devices.sources._IMAGE_S", 0.05)
    for name, level in (("a.png", 10), ("c.png", 20)):
        Image.new("RGB", (8, 6), (level,) * 3).save(tmp_path / name)
    broken = tmp_path / "b.png"
    if kind == "a folder":
        broken.mkdir()
    else:
        broken.write_text("no picture")
    for _ in range(2):
        capture = open_capture(tmp_path, size=None)
        frames = [capture.read() for _ in range(3)]
        assert [None if frame is None else int(frame[0, 0, 0]) for frame in frames] == [10, 20, None]
    assert [record.message.partition(": ")[0] for record in caplog.records] == [str(broken)]


def test_a_folder_without_one_image_that_can_be_decoded_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with Camera(tmp_path) as camera, pytest.raises(DeviceError, match=r"a\.png: image: expected JPEG"):
        camera.newest()


@pytest.fixture
def reds() -> list[bytes]:
    """JPEG pictures of 16 x 8, redder and redder: 10, 90, 170."""
    made = []
    for i in range(3):
        data = io.BytesIO()
        Image.new("RGB", (16, 8), (80 * i + 10, 0, 0)).save(data, "JPEG", quality=95)
        made.append(data.getvalue())
    return made


SEEN = (
    "import logging, sys, edge.devices.sources; logging.basicConfig(format='%(message)s')\n"
    "edge.devices.sources._CHUNK_BYTES = int(sys.argv[1]); edge.devices.sources.MAX_FPS = float(sys.argv[2])\n"
    "capture = edge.devices.sources.open_capture('-', size=None)\n"
    "while (rgb := capture.read()) is not None: print(rgb.shape, rgb[4, 8, 0] // 10)\n"
)


def seen(stream: bytes, chunk_bytes: int, max_fps: float) -> tuple[list[str], str]:
    command = [sys.executable, "-c", SEEN, str(chunk_bytes), str(max_fps)]
    done = subprocess.run(command, input=stream, capture_output=True, check=False)
    return done.stdout.decode().splitlines(), done.stderr.decode()


def test_jpegs_on_standard_input_stand_in_for_a_camera(reds: list[bytes]) -> None:
    found, _ = seen(b"--border\r\n\r\n".join(reds), 100, 1e9)
    assert found == ["(8, 16, 3) 1", "(8, 16, 3) 9", "(8, 16, 3) 17"]


def test_of_jpegs_that_come_in_a_burst_the_last_is_seen(reds: list[bytes]) -> None:
    assert seen(b"".join(reds), 100, 1)[0] == ["(8, 16, 3) 1", "(8, 16, 3) 17"]


def test_the_last_jpeg_of_a_burst_is_seen_while_standard_input_stays_open(reds: list[bytes]) -> None:
    code = SEEN.replace("print(", "print(flush=True, *(").replace("// 10)", "// 10))")
    with subprocess.Popen(
        [sys.executable, "-c", code, "100", "5"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"".join(reds))
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(2)]
        process.kill()
    assert [line.split()[-1] for line in lines] == [b"1", b"17"]


def test_a_jpeg_that_cannot_be_decoded_is_passed_by(reds: list[bytes]) -> None:
    start = reds[1].index(b"\xff\xc0")
    broken = reds[1][: start + 5] + bytes(4) + reds[1][start + 9 :]  # no pixels
    found, said = seen(reds[0] + broken + reds[1][:300] + reds[2], 100, 1e9)
    assert found == ["(8, 16, 3) 1", "(8, 16, 3) 17"]
    assert said.startswith("standard input: ") and said.endswith("it is passed by\n") and said.count("\n") == 1
    found, said = seen(broken, 100, 1e9)
    assert not found and "edge.errors.DeviceError: standard input: " in said


def test_a_silent_standard_input_is_let_go_at_once() -> None:
    code = (
        "import logging, time; from edge.devices.camera import Camera\n"
        "camera = Camera('-'); time.sleep(0.2); camera.close()\n"
        "print('closed', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"closed\n"  # while nothing came, and nothing ended
        process.kill()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (97, "camera /dev/video97: no such device; those there: "),
        ("/dev/video97", "no such device"),
        ("nowhere.mp4", r"nowhere\.mp4: cannot be opened as a video"),
        ("nowhere.png", r"nowhere\.png: No such file"),
        ("pi", "pi:0: picamera2 cannot be imported"),
    ],
)
def test_a_source_that_is_not_there_is_named(source: int | str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        open_capture(source, size=None).read()


def test_a_camera_does_not_wait_for_a_file_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match=r"camera 'nowhere\.mp4': no such file; expected a device's number"):
        Camera("nowhere.mp4")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "camera '': no such file"),  # not the folder where the program runs
        ("csi:left", "camera 'csi:left': expected csi or csi:NUMBER"),
        ("pi:", "camera 'pi:': expected pi or pi:NUMBER"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused_at_once(source: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        Camera(source)


def test_an_empty_folder_and_a_text_file_are_no_cameras(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no images in this folder"):
        open_capture(tmp_path, size=None)
    (tmp_path / "video.mp4").write_text("no video")
    with pytest.raises(DeviceError, match=r"video\.mp4: cannot be opened as a video"):
        open_capture(tmp_path / "video.mp4", size=None)


def test_only_cameras_are_live() -> None:
    assert [is_live(name) for name in (0, "1", "/dev/video2", "csi:1", "pi", "videotestsrc ! tee")] == [True] * 6
    assert [is_live(name) for name in ("video.mp4", "pictures", "-", Path("pi.png"))] == [False] * 4


@pytest.fixture
def gst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a program in the place of GStreamer's: Python code that finds `out`, its frames' file, and its words."""

    def write(code: str) -> Path:
        program = tmp_path / "gst-launch-1.0"
        head = (
            f"#!{sys.executable}\nimport sys, os, time, signal\n"
            "words = sys.argv[1:]\nfd = int(next(w for w in words if w.startswith('fd=')).partition('=')[2])\n"
            "out = os.fdopen(fd, 'wb')\n"
            f"open({str(tmp_path / 'words')!r}, 'w').write(' '.join(words))\n"
        )
        program.write_text(head + code)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        return tmp_path / "words"

    return write


def test_frames_of_a_pipeline_are_read(gst: Callable[[str], Path]) -> None:
    words = gst("for i in range(3): out.write((bytes([i, 0, 9]) * 5 + b'x') * 2); out.flush()\ntime.sleep(60)\n")
    capture = open_capture("videotestsrc ! 'video/x-raw(memory:NVMM)' ! appsink drop=true", size=(5, 2))
    frames = [capture.read() for _ in range(3)]
    capture.close()
    for i, frame in enumerate(frames):
        assert frame is not None and frame.shape == (2, 5, 3)
        assert frame.tolist() == [[[i, 0, 9]] * 5] * 2
    assert words.read_text().startswith("-q videotestsrc ! video/x-raw(memory:NVMM) ! queue leaky=downstream")


def test_what_gstreamer_complains_about_is_said(gst: Callable[[str], Path]) -> None:
    gst("sys.stderr.write('WARNING: erroneous pipeline: no element \"nosuch\"\\n'); sys.exit(1)\n")
    capture = open_capture("nosuch ! fakesink", size=None)
    with pytest.raises(DeviceError, match='ended: WARNING: erroneous pipeline: no element "nosuch"'):
        capture.read()
    capture.close()


def test_a_pipeline_that_hangs_is_ended(gst: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    gst("signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', file=sys.stderr, flush=True); time.sleep(60)\n")
    monkeypatch.setattr(edge.devices.process, "_FIRST_S", 3.0)
    monkeypatch.setattr(edge.devices.process, "_END_S", 0.2)
    capture = open_capture("csi", size=(4, 4))
    with pytest.raises(DeviceError, match="pipeline: no frame for 3 s"):
        capture.read()
    capture.close()


def test_a_jetson_pipeline_asks_for_the_size(gst: Callable[[str], Path]) -> None:
    words = gst("out.write(bytes(1280 * 720 * 3)); out.flush(); time.sleep(60)\n")
    capture = open_capture("csi:1", size=(1280, 720))
    assert capture.read() is not None
    capture.close()
    assert (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1280,height=720 ! nvvidconv" in words.read_text()
    )


def test_without_gstreamer_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match=r"gst-launch-1\.0 cannot be run \(No such file or directory\): is GStreamer"):
        open_capture("csi", size=None)
