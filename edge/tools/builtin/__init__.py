"""Tools that are included: the time, timers, the volume, and what a camera sees."""

from edge.tools.builtin.camera import FrameSource, camera_tools
from edge.tools.builtin.clock import time_tools
from edge.tools.builtin.timers import Timers
from edge.tools.builtin.volume import volume_tools

INCLUDED = ("time", "timer", "volume", "camera")

__all__ = ["INCLUDED", "FrameSource", "Timers", "camera_tools", "time_tools", "volume_tools"]
