"""What one request may hold, and how long it may take; the owner may change each. Source: limits.md."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from edge.errors import ParameterError

Kind = Literal["image", "video", "audio", "pdf"]

_SMALL_BOARD_BYTES = 4_500_000_000  # a board sold with 4 GB, and no less than that of anything larger
_AUDIO = "audio_"


@dataclass(frozen=True)
class AudioLimits:
    """What audio may hold: seconds, bytes of PCM (16 bits) before it is resampled, channels. Source: limits.md."""

    seconds: int = 600
    pcm_bytes: int = 64 << 20
    channels: int = 8


@dataclass(frozen=True)
class Limits:
    """The most of each; `_s` are seconds, `_px` pixels. All a server's are here, its slots and context apart.

    form_: of a form that is uploaded, beside its file: parts, bytes of a field, headers of a part, bytes of each.
    tokenized_bytes: of a text whose tokens are asked for. speech_chars: of a text that is spoken.
    waiting, wait_s: requests in the queue, and how long each waits. answer_s: of one generation, by the clock.
    decoding_s: of one client's media in any decoding_window_s, a client being a key, or without keys an address.
    """

    messages: int = 256
    parts: int = 512
    images_per_message: int = 6
    images: int = 32
    videos_per_message: int = 3
    videos: int = 6
    audios_per_message: int = 2
    audios: int = 6
    pages_per_message: int = 20
    pages: int = 40
    image_px: int = 64_000_000
    decoded_bytes: int = 256 << 20
    video_s: int = 120
    video_decoded_frames: int = 7200
    video_px: int = 9_000_000
    video_frames: int = 32
    audio: AudioLimits = field(default_factory=AudioLimits)
    page_px: int = 4_000_000
    page_text_tokens: int = 4096
    stop: int = 16
    stop_bytes: int = 256
    top_logprobs: int = 20
    body_bytes: int = 40 << 20
    json_depth: int = 64
    json_values: int = 100_000
    form_parts: int = 32
    form_field_bytes: int = 64 << 10
    form_headers: int = 8
    form_header_bytes: int = 4 << 10
    header_bytes: int = 32 << 10
    headers: int = 100
    tokenized_bytes: int = 1 << 20
    speech_chars: int = 4096
    waiting: int = 8
    wait_s: float = 60.0
    answer_s: float = 1800.0
    decoding_s: float = 60.0
    decoding_window_s: float = 600.0
    redirects: int = 3
    connect_s: float = 10.0
    fetch_s: float = 30.0
    fetch_bytes: int = 32 << 20

    @classmethod
    def of_this_machine(cls) -> "Limits":
        """Return the defaults, half the pixels and bytes on boards with 4 GB or less."""
        return cls(image_px=32_000_000, decoded_bytes=128 << 20) if is_small_board() else cls()

    def counts(self) -> Iterator[tuple[Kind, str, int, int]]:
        """Yield (kind, its name, how many in a message, how many in all); a PDF has one page at least."""
        yield "image", "images", self.images_per_message, self.images
        yield "video", "videos", self.videos_per_message, self.videos
        yield "audio", "audio parts", self.audios_per_message, self.audios
        yield "pdf", "PDFs", self.pages_per_message, self.pages

    def changed(self, wanted: Iterable[str]) -> "Limits":
        """Return these with others in their place, each as NAME=NUMBER: images=2, audio_seconds=60, wait_s=0.5.

        Raises: ParameterError naming what is no limit, or no number of its kind from 0 on.
        """
        known = self._numbers()
        changes: dict[str, float] = {}
        for text in wanted:
            name, separator, value = text.partition("=")
            if not separator or name not in known:
                raise ParameterError(
                    f"limit {text!r:.200}: expected NAME=NUMBER, NAME one of {', '.join(known)}", field="limit"
                )
            changes[name] = _number(name, value, whole=isinstance(known[name], int))
        audio = {name.removeprefix(_AUDIO): changes.pop(name) for name in list(changes) if name.startswith(_AUDIO)}
        return replace(self, **changes, audio=replace(self.audio, **audio))  # type: ignore[arg-type]

    def _numbers(self) -> dict[str, float]:
        """Return each limit by the name that `changed` knows it by."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "audio"}
        return own | {_AUDIO + f.name: getattr(self.audio, f.name) for f in fields(self.audio)}


def is_small_board() -> bool:
    """Return whether this machine was sold with 4 GB or less."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") <= _SMALL_BOARD_BYTES


def _number(name: str, text: str, *, whole: bool) -> float:
    kind = "a whole number" if whole else "a number"
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 2**53:
        raise ParameterError(f"limit {name}: expected {kind} from 0 to {2**53}, got {text!r:.200}", field="limit")
    return value
