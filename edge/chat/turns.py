"""What a conversation is made of, every part of it opened: turns, their texts and media, calls and results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.arrays import F32, U8
from edge.errors import MediaError, ParameterError
from edge.media.detail import AUTO, Detail
from edge.media.resized import Resized

Role = Literal["user", "assistant", "system", "tool_output"]


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded image.

    rgb: (H, W, 3) uint8, or what is left; digest: `edge.media.image.digest` of it; detail: how finely it is cut.
    """

    rgb: U8 | Resized
    digest: str
    detail: Detail = AUTO


@dataclass(frozen=True, eq=False)
class DecodedVideo:
    """Frames of a video in order, and at which second each is shown (frame index / frames per second, rounded down)."""

    frames: tuple[DecodedImage, ...]
    seconds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class DecodedAudio:
    """Decoded audio. samples: (n,) float32, mono, 16 kHz; digest: `edge.engine.audio_tower.digest` of them."""

    samples: F32
    digest: str


@dataclass(frozen=True)
class Transcript:
    """What a speech-to-text model understood in audio."""

    text: str


Part = str | DecodedImage | DecodedVideo | DecodedAudio | Transcript


@dataclass(frozen=True)
class Call:
    """A tool call that the assistant made earlier; text: what it wrote for arguments, where that is no JSON object."""

    name: str
    arguments: Mapping[str, object]
    text: str | None = None


@dataclass(frozen=True)
class Tool:
    """A function on offer; parameters is its JSON schema. What is None is left out of its line."""

    name: str
    description: str | None
    parameters: Mapping[str, object] | None


@dataclass(frozen=True)
class Turn:
    """One message: its parts in order, an assistant's calls, or (role tool_output) the results: texts, or parts."""

    role: Role
    parts: tuple[Part, ...] = ()
    calls: tuple[Call, ...] = ()
    results: tuple[str | tuple[Part, ...], ...] = ()


_KINDS: Mapping[type, str] = {DecodedImage: "image", DecodedVideo: "video", DecodedAudio: "audio"}


def texts_of(parts: Sequence[Part], *, model: str) -> list[str]:
    """Return the parts of a turn for a model of text alone; transcripts are text in their tags.

    model: its id, for the error. Raises: MediaError.
    """
    texts = []
    for part in parts:
        if not isinstance(part, str | Transcript):
            raise MediaError(f"{_KINDS[type(part)]}: {model} accepts text only")
        # Its vocabulary has no tokens for them: the same words, as text.
        texts.append(part if isinstance(part, str) else f"<transcript>{part.text}</transcript>")
    return texts


def system_texts(turn: Turn | None) -> list[str]:
    """Return the texts of a system turn. Raises: ParameterError for media."""
    parts = [part for part in turn.parts if isinstance(part, str)] if turn else []
    if turn and len(parts) != len(turn.parts):
        raise ParameterError("expected text only in a system message", field="messages")
    return parts


def late_system() -> ParameterError:
    """Return the error for a system turn that is not the first."""
    return ParameterError("expected a system message only as the first message", field="messages")
