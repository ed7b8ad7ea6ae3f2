"""No byte that OpenCV has not written is ever taken for a picture, and versions that leave some out are refused."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.devices.sources import open_capture
from edge.errors import DeviceError, MediaError
from edge.media import opencv, video
from edge.media.opencv import Unwritten, retrieve
from tests.edge.media.videos import made_video

U8 = npt.NDArray[np.uint8]
Write = Callable[[U8], None]
OPENCV_CAPTURE = cv2.VideoCapture

OPTIONS = {"frames": 2, "max_s": 10, "max_frames": 100, "max_px": 10**6, "side": 64, "crop_share": None,
           "resample": "bilinear"}  # fmt: skip


class Broken:
    """A capture whose conversion says that it is done, and writes what it is told to."""

    def __init__(self, write: Write, shape: tuple[int, ...] = (8, 6, 3), *, told: tuple[int, int] = (6, 8)) -> None:
        self._write = write
        self._shape = shape
        self._told = {cv2.CAP_PROP_FRAME_WIDTH: told[0], cv2.CAP_PROP_FRAME_HEIGHT: told[1]}

    def get(self, number: int) -> float:
        return self._told[number]

    def retrieve(self, image: U8) -> tuple[bool, U8]:
        if image.shape != self._shape:
            image = np.full(self._shape, 77, np.uint8)  # memory of its own: another video's pixels
        self._write(image)
        return True, image


def nothing(image: U8) -> None:
    pass


def all_but_a_byte(image: U8) -> None:
    last = image[-1, -1, -1]
    image[:] = 200
    image[-1, -1, -1] = last


def upper_half(image: U8) -> None:
    image[: len(image) // 2] = 9


@pytest.mark.parametrize("write", [nothing, all_but_a_byte, upper_half])
@pytest.mark.parametrize("told", [(6, 8), (16, 16), (0, 0)])
def test_frame_that_is_not_wholly_written_is_refused(write: Write, told: tuple[int, int]) -> None:
    with pytest.raises(Unwritten):
        retrieve(Broken(write, told=told))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 77, 127, 128, 255])
@pytest.mark.parametrize("told", [(6, 8), (16, 16), (0, 0)])
def test_frame_of_any_one_color_is_a_frame(value: int, told: tuple[int, int]) -> None:
    frame = retrieve(Broken(lambda image: image.fill(value), told=told))  # type: ignore[arg-type]
    assert frame is not None and frame.shape == (8, 6, 3) and (frame == value).all()


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 4), (0, 6, 3)])
def test_frame_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Unwritten):
        retrieve(Broken(nothing, shape))  # type: ignore[arg-type]


def test_frame_that_cannot_be_decoded_is_none() -> None:
    class Failing(Broken):
        def retrieve(self, image: U8) -> tuple[bool, U8]:
            return False, image

    assert retrieve(Failing(nothing)) is None  # type: ignore[arg-type]


class LeavingOut:
    """OpenCV's own, but for its conversion."""

    def __init__(self, *arguments: object) -> None:
        self._capture = OPENCV_CAPTURE(*arguments)

    def __getattr__(self, name: str) -> object:
        return getattr(self._capture, name)

    def retrieve(self, image: U8 | None = None, flag: int = 0) -> tuple[bool, U8]:
        return True, np.full((64, 96, 3), 77, np.uint8) if image is None else image


def test_video_whose_frames_are_not_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = made_video(3)
    (path := tmp_path / "video.mp4").write_bytes(data)
    monkeypatch.setattr(cv2, "VideoCapture", LeavingOut)
    with pytest.raises(MediaError, match="cannot convert its frames: pip install 'opencv-python-headless>="):
        video.decode(data, OPTIONS)
    with pytest.raises(DeviceError, match="cannot convert its frames"):
        open_capture(path, size=None).read()


@pytest.mark.parametrize("version", ["4.10.0", "4.11.0", "4.12.0", "4.12.1-dev"])
def test_versions_that_are_right_are_supported(version: str) -> None:
    assert opencv.fault(version) is None


@pytest.mark.parametrize("version", ["4.8.1", "4.9.0", "4.13.0", "4.14.0", "5.0.0", "5.0.0-pre", "10.0", "", "unknown"])
def test_other_versions_are_refused_by_name(version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = f"OpenCV {version} is not supported for video: pip install '{opencv.SUPPORTED}'"
    assert opencv.fault(version) == said
    data = made_video(3)
    (path := tmp_path / "video.mp4").write_bytes(data)
    monkeypatch.setattr(cv2, "__version__", version)
    with pytest.raises(MediaError) as caught:
        video.decode(data, OPTIONS)
    assert str(caught.value) == f"video: {said}"
    with pytest.raises(DeviceError, match="is not supported for video"):
        open_capture(path, size=None)


def test_supported_versions_are_those_that_are_installed_with_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))["project"]
    assert opencv.SUPPORTED in project["dependencies"]
    bounds = ".".join(map(str, opencv.LOWEST)), ".".join(map(str, opencv.TOO_NEW))
    assert opencv.SUPPORTED.endswith(f">={bounds[0]},<{bounds[1]}")
