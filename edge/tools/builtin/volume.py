"""The loudspeaker's volume, by what the system has for it: wpctl (PipeWire), pactl (PulseAudio) or amixer (ALSA)."""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import pydantic

from edge.errors import DeviceError
from edge.tools.tool import ToolFunction

_TIMEOUT_S = 5.0
Run = Callable[[Sequence[str]], str]
Percent = Annotated[int, pydantic.Field(ge=0, le=100, description="0 is silent, 100 is loudest")]


@dataclass(frozen=True)
class Mixer:
    """A program that tells and sets the volume. pattern: finds it in what `get` writes; scale: to percent."""

    program: str
    get: tuple[str, ...]
    set: tuple[str, ...]
    pattern: str
    scale: float = 1.0


MIXERS = (
    Mixer(
        "wpctl",
        ("get-volume", "@DEFAULT_AUDIO_SINK@"),
        ("set-volume", "@DEFAULT_AUDIO_SINK@", "{}%"),
        r"Volume:\s*([\d.]+)",
        100.0,
    ),
    Mixer(
        "pactl",
        ("get-sink-volume", "@DEFAULT_SINK@"),
        ("set-sink-volume", "@DEFAULT_SINK@", "{}%"),
        r"(\d+)%",
    ),
    Mixer("amixer", ("sget", "Master"), ("sset", "Master", "{}%"), r"\[(\d+)%\]"),
)


def volume_tools(*, run: Run | None = None) -> list[ToolFunction[..., object]]:
    """Return the tools get_volume, which only reads, and set_volume, which is asked about.

    run: runs a command and returns its output, in place of a process.
    """
    doing = run or _run

    def get_volume() -> str:
        """Tell how loud the loudspeaker is."""
        mixer, said = _first(doing, lambda mixer: mixer.get)
        return f"{_percent(mixer, said)} %"

    def set_volume(percent: Percent) -> str:
        """Set how loud the loudspeaker is."""
        _first(doing, lambda mixer: tuple(word.format(percent) for word in mixer.set))
        return f"{percent} %"

    return [ToolFunction(get_volume, read_only=True), ToolFunction(set_volume)]


def _first(run: Run, words: Callable[[Mixer], tuple[str, ...]]) -> tuple[Mixer, str]:
    """Run the first mixer that does it; return it and what it wrote. Raises: DeviceError."""
    tried = []
    for mixer in MIXERS:
        try:
            return mixer, run([mixer.program, *words(mixer)])
        except (OSError, subprocess.SubprocessError) as error:
            tried.append(f"{mixer.program}: {_why(error)}")
    raise DeviceError(f"the volume cannot be reached ({'; '.join(tried)})")


def _percent(mixer: Mixer, said: str) -> int:
    found = re.search(mixer.pattern, said)
    if found is None:
        raise DeviceError(f"{mixer.program} does not tell the volume")
    return round(float(found[1]) * mixer.scale)


def _run(command: Sequence[str]) -> str:
    """Run a program. Raises: OSError, subprocess.SubprocessError."""
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(command[0])
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
    )
    return done.stdout


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is not installed"
    if isinstance(error, subprocess.CalledProcessError):
        said = str(error.stderr or "").strip().splitlines()
        return said[-1][:100] if said else f"status {error.returncode}"
    return type(error).__name__
