"""What a camera sees now, as an image in the conversation."""

from typing import Protocol

from edge.arrays import U8
from edge.tools.tool import ToolFunction

_WAIT_S = 4.0


class Frame(Protocol):
    """An image of a camera."""

    @property
    def rgb(self) -> U8:
        """Its pixels: (H, W, 3) uint8."""


class FrameSource(Protocol):
    """A camera: anything that gives its newest frame."""

    def newest(self, *, wait_s: float) -> Frame:
        """Return the newest frame. Raises: DeviceError when there is none, or only an old one."""


def camera_tools(camera: FrameSource) -> list[ToolFunction[..., object]]:
    """Return the tool `look`, whose result is the camera's newest frame."""

    def look() -> object:
        """Look through the camera. The result is the image that it sees now."""
        return camera.newest(wait_s=_WAIT_S)

    return [ToolFunction(look, read_only=True)]
