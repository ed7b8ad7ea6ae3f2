"""A conversation in a file: JSON that holds its images, audio and videos too, so that it can be moved."""

import base64
import contextlib
import io
import json
import os
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from edge.errors import MediaError, ParameterError
from edge.media.data_url import is_data_url

Message = dict[str, object]

_FORMAT = "edge-conversation-1"
_MAX_BYTES = 256 << 20


def save(path: Path, messages: Sequence[Mapping[str, object]], *, model: str) -> None:
    """Write a conversation; a file that exists is replaced only if it holds one.

    Raises: ParameterError for a file that is something else, MediaError for media that are gone, OSError.
    """
    if path.exists() and not _is_ours(path):
        raise ParameterError(f"{path}: exists and is not a saved conversation; expected another name", field="file")
    held = [{**message, "content": _held(message.get("content"))} for message in messages]
    data = json.dumps({"format": _FORMAT, "model": model, "messages": held}, ensure_ascii=False, indent=1)
    # Only its owner reads it, and what was there stays until the new one is whole.
    with NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data.encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(file.name).unlink()
            raise


def load(path: Path) -> list[Message]:
    """Read a conversation. Its media are in it: names of files or addresses are not taken from it.

    Raises: ParameterError for a file that holds none, OSError.
    """
    from edge.chat.messages import Problems, read_messages
    from edge.limits import Limits

    if path.stat().st_size > _MAX_BYTES:
        raise ParameterError(f"{path}: expected at most {_MAX_BYTES} bytes", field="file")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{path}: not a saved conversation: not JSON", field="file") from error
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(messages, list) or document.get("format") != _FORMAT:
        raise ParameterError(f"{path}: not a saved conversation: expected format {_FORMAT!r}", field="file")
    problems = Problems()
    if messages:
        read_messages(messages, problems, Limits())
    for found in problems.found[:1]:
        raise ParameterError(f"{path}: {'.'.join(map(str, found.loc[1:]))}: {found.msg}", field="file")
    for message in messages:
        _check_media(path, message.get("content"))
    return messages


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return _FORMAT.encode() in file.read(100)


def _check_media(path: Path, content: object) -> None:
    for part in content if isinstance(content, list) else []:
        _check_media(path, part.get("output"))
        for key, value in part.items():
            is_media = key.endswith("_url") and value is not None
            if is_media and not (isinstance(value, str) and is_data_url(value)):
                raise ParameterError(f"{path}: {key}: expected a data: URL", field="file")


def _held(content: object) -> object:
    """Return a message's content with what it names inside it."""
    return [_held_part(part) for part in content] if isinstance(content, list) else content


def _held_part(part: Mapping[str, object]) -> Mapping[str, object]:
    if "tool_call_id" in part:
        return {**part, "output": _held(part["output"])}
    if "image" in part:
        return {"type": "image_url", "image_url": _data_url("image/png", _png(part["image"]))}
    if "audio" in part:
        return {"type": "audio_url", "audio_url": _data_url("audio/wav", _wav(part["audio"]))}
    return {key: _held_url(str(value)) if key.endswith("_url") else value for key, value in part.items()}


def _held_url(url: str) -> str:
    from edge.media.fetch import read_url

    if is_data_url(url):
        return url
    return _data_url("application/octet-stream", read_url(url, files=True))


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _png(rgb: object) -> bytes:
    from PIL import Image

    if not isinstance(rgb, np.ndarray):
        raise MediaError(f"image: expected an array, got {type(rgb).__name__}")
    data = io.BytesIO()
    Image.fromarray(rgb).save(data, "PNG")
    return data.getvalue()


def _wav(audio: object) -> bytes:
    """Return a (samples, rate) as a WAV of 16 bits."""
    if not (isinstance(audio, tuple) and len(audio) == 2 and isinstance(audio[0], np.ndarray)):
        raise MediaError(f"audio: expected samples and their rate, got {type(audio).__name__}")
    samples, rate_hz = audio
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(int(rate_hz))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return data.getvalue()
