"""What a tool returned, as a model is told: text of a bounded length, and images."""

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pydantic_core

from edge.arrays import U8

MAX_MEDIA = 4  # of one result
_MOST_REASON = 300
_PATH = re.compile(r"(?<![\w:/.])/(?:[^\s/'\":,;()]+/)+([^\s/'\":,;()]*)")  # absolute, of two parts or more
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")

Part = dict[str, object]


@dataclass(frozen=True, eq=False)
class ToolResult:
    """The result of a call.

    text: without media. media: parts of a message, such as {"type": "image", "image": (H, W, 3) uint8}. is_error: the
    text says what failed, after "Error: ".
    """

    text: str
    media: tuple[Part, ...] = ()
    is_error: bool = False

    @property
    def output(self) -> str | list[Part]:
        """The result as `output` of a tool_output: a text, or parts where there are media."""
        if not self.media:
            return self.text
        texts: list[Part] = [{"type": "text", "text": self.text}] if self.text else []
        return [*texts, *self.media]


def failure(reason: str) -> ToolResult:
    """Return the result of a call that failed."""
    return ToolResult(f"Error: {reason}", is_error=True)


def reason_of(error: BaseException) -> str:
    """Return why something failed, in one short line: no traceback, and of paths the last part alone."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        said = f"{said}: {os.path.basename(os.fsdecode(error.filename))!r}"  # noqa: PTH119 - no path is meant
    line = _PATH.sub(r"\1", " ".join(printable(said).split()))
    line = line if len(line) <= _MOST_REASON else f"{line[:_MOST_REASON]}..."
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def result_of(value: object, *, n_chars: int) -> ToolResult:
    """Return what a function returned as a result.

    value: a text; numbers, mappings, lists, dataclasses and pydantic models become JSON; an image is an (H, W, 3) uint8
    array, a PIL image or a frame of a camera, alone or in a list beside texts. n_chars: the most of its text.
    Raises: ValueError, TypeError for what is none of these.
    """
    if isinstance(value, ToolResult):
        return bounded(value, n_chars=n_chars)
    items = value if isinstance(value, list | tuple) and any(_image(item) is not None for item in value) else [value]
    images = [image for item in items if (image := _image(item)) is not None]
    texts = [_text(item) for item in items if _image(item) is None]
    media: list[Part] = []
    for image in images:
        media.append({"type": "image", "image": image})
    return bounded(ToolResult("\n".join(texts), tuple(media)), n_chars=n_chars)


def bounded(result: ToolResult, *, n_chars: int) -> ToolResult:
    """Return a result of at most so many characters and `MAX_MEDIA` parts; what is left out is told in it."""
    text, notes = printable(result.text), []
    if len(text) > n_chars:
        notes.append(f"[cut: the first {n_chars} of {len(text)} characters]")
    if len(result.media) > MAX_MEDIA:
        notes.append(f"[{len(result.media) - MAX_MEDIA} of {len(result.media)} media are left out]")
    text = "\n".join([text[:n_chars], *notes] if notes else [text])
    return ToolResult(text, result.media[:MAX_MEDIA], result.is_error)


def printable(text: str) -> str:
    """Return a text that every model can be given: without control characters, but for line ends and tabs."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(c for c in whole if c in "\n\t" or unicodedata.category(c) != "Cc")


def _text(value: object) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    return pydantic_core.to_json(value, fallback=_plain, inf_nan_mode="constants", bytes_mode="base64").decode()


def _plain(value: object) -> object:
    """Return what JSON has for a value that pydantic does not know: numbers of numpy's as numbers, else its text."""
    if isinstance(value, np.generic | np.ndarray):
        return cast(object, value.tolist())
    return str(value)


def _image(value: object) -> U8 | None:
    """Return an image as an array, None for what is none."""
    pixels: Any = getattr(value, "rgb", value)
    if type(pixels).__module__.partition(".")[0] == "PIL" and hasattr(pixels, "convert"):
        pixels = np.asarray(pixels.convert("RGB"))
    is_rgb = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    return pixels if is_rgb and min(pixels.shape) > 0 else None


def shown_arguments(arguments: Mapping[str, object], *, n_chars: int = 200) -> str:
    """Return the arguments of a call in one line, as a person is shown them: what cannot be seen is spelled out."""
    said = ", ".join(f"{name}={_shown(value)}" for name, value in arguments.items())
    line = visible(said)
    return line if len(line) <= n_chars else f"{line[: n_chars - 3]}..."


def visible(text: str) -> str:
    """Return a text in one line with every character that has no shape of its own as its number."""
    return "".join(c if unicodedata.category(c) not in _UNSEEN else f"\\u{ord(c):04x}" for c in text)


def _shown(value: object) -> str:
    return pydantic_core.to_json(value, fallback=str, inf_nan_mode="constants").decode()
