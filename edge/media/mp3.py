"""The frames of MP3 data, whatever is between them, and how many there are: libsndfile reads only what is regular.

Source: ISO 11172-3, 2.4.1.3 (headers), ISO 13818-3 (lower rates); Xing's frame, as LAME writes it; VBRI, as Fraunhofer.
"""

import re
from dataclasses import dataclass

_BITRATES = {  # in kbit/s, of layer III, by index from 1 on; the first are those of MPEG 1
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version
_MPEG_1, _LAYER_3, _MONO = 3, 1, 3
_HEAD_BYTES = 4
_INFO_BITRATE = 9  # an index: long enough for a frame that says how many follow
_HAS_FRAMES = 1  # a flag of such a frame: the number of frames follows
_VBRI_AT = 36
_IN_A_ROW = 3  # frames that make sure it is not by chance that one seems to be there
_MAX_CHANCES = 100_000  # places looked at where one seemed to be
_LANDMARK = re.compile(
    rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]["
    + b"".join(re.escape(bytes([byte])) for byte in range(0x10, 0xF0) if byte >> 2 & 3 != 3)
    + rb"]|ID3[\x02-\x04]|APETAGEX",
    re.DOTALL,
)
_ID3V1_BYTES, _ID3V2_HEAD_BYTES, _APE_HEAD_BYTES = 128, 10, 32
_NOT_ZERO = re.compile(rb"[^\0]")


@dataclass(frozen=True)
class _Frame:
    """A header as one number, and what it says: lengths of the frame and its side information, samples."""

    head: int
    n_bytes: int
    n_samples: int
    n_side_bytes: int
    rate_hz: int

    @property
    def kind(self) -> tuple[int, bool]:
        """Rate, and whether it is mono: they stay the same within one recording."""
        return self.rate_hz, self.head >> 6 & 3 == _MONO


@dataclass(frozen=True)
class Found:
    """MP3 data taken apart. recordings: frame after frame; n_skipped: bytes that are no frames, tags or zeros."""

    recordings: tuple[bytes, ...]
    n_skipped: int = 0


def recordings(data: bytes, max_s: float) -> Found:
    """Return the recordings in MP3 data: they may be joined, and anything may be between their frames.

    One ends where another begins that says its length, or is of another rate. No more than max_s seconds are looked
    for, and a little. Data without frames of layer III is left as it is.
    """
    runs: list[list[tuple[int, int]]] = []  # of each recording: where frames follow one another without a gap
    kind, at, seconds, n_skipped, n_chances, is_in_step = None, 0, 0.0, 0, 0, False
    while at < len(data) and seconds <= max_s + 1:
        frame = _frame(data, at)
        if frame is None or not (is_in_step or _is_followed(data, at)):
            n_chances, is_in_step = n_chances + 1, False
            if n_chances > _MAX_CHANCES:
                n_skipped += len(data) - at
                break
            end = _behind(data, at)
            n_skipped += 0 if _is_empty(data, at) else min(end, len(data)) - at
            at = end
            continue
        if _is_info(data, at, frame) or frame.kind != kind:
            runs.append([(at, at)])
        elif not is_in_step:
            runs[-1].append((at, at))
        kind, is_in_step = frame.kind, True
        seconds += frame.n_samples / frame.rate_hz
        at += frame.n_bytes
        runs[-1][-1] = runs[-1][-1][0], at
    if not runs:
        return Found((data,))
    return Found(tuple(b"".join(data[start:end] for start, end in run) for run in runs), n_skipped)


def _is_followed(data: bytes, at: int) -> bool:
    """Return whether frames of one rate follow one another here, or whole ones are the last thing but tags."""
    rate_hz = None
    for n_before in range(_IN_A_ROW):
        frame = _frame(data, at)
        if frame is None:
            is_last = at == len(data) or (at < len(data) and _is_empty(data, at)) or (at > len(data) and n_before > 1)
            return n_before > 0 and is_last
        if rate_hz not in (None, frame.rate_hz):
            return False
        rate_hz = frame.rate_hz
        at += frame.n_bytes
    return True


def _is_empty(data: bytes, at: int) -> bool:
    """Return whether there is a tag or a zero, which are no audio that was lost."""
    return data[at] == 0 or data.startswith((b"ID3", b"TAG", b"APETAGEX"), at)


def _behind(data: bytes, at: int) -> int:
    """Return where to look next: behind a tag, behind zeros, else where a frame or a tag seems to be."""
    if data.startswith(b"ID3", at):
        size = 0
        for byte in data[at + 6 : at + _ID3V2_HEAD_BYTES]:  # seven bits each
            size = size << 7 | byte & 0x7F
        return at + _ID3V2_HEAD_BYTES + size
    if data.startswith(b"TAG", at):
        return at + _ID3V1_BYTES
    if data.startswith(b"APETAGEX", at):
        is_header = data[at + 23 : at + 24] >= b"\xa0"  # the footer says the same size
        return at + _APE_HEAD_BYTES + (int.from_bytes(data[at + 12 : at + 16], "little") if is_header else 0)
    found = (_LANDMARK if data[at] else _NOT_ZERO).search(data, at + 1)
    return len(data) if found is None else found.start()


def _is_info(data: bytes, at: int, frame: _Frame) -> bool:
    """Return whether a frame is none of audio, but says what follows."""
    return _said(data, at, frame) is not None or data.startswith(b"VBRI", at + _VBRI_AT)


def with_length(data: bytes, at: int, max_s: float) -> bytes:
    """Return a recording, whose first frame is to be at `at`, so that its first frame says how many there are.

    As it is where that is said rightly, or where every frame is as long as the others and nothing has to be said. No
    more is counted than max_s seconds and one frame.
    """
    first = _frame(data, at)
    if first is None:
        return data
    said = _said(data, at, first)
    start = at if said is None else at + first.n_bytes
    n_frames, varies = _count(data, start, max_s)
    if n_frames == 0 or (not varies if said is None else said >= n_frames):
        return data
    return data[:at] + _info(first, n_frames) + data[start:]


def _count(data: bytes, at: int, max_s: float) -> tuple[int, bool]:
    """Return how many frames follow one another, and whether their bitrate varies."""
    n_frames, seconds, bitrates = 0, 0.0, set()
    while seconds <= max_s and (frame := _frame(data, at)) is not None:
        n_frames += 1
        seconds += frame.n_samples / frame.rate_hz
        bitrates.add(frame.head >> 12 & 15)
        at += frame.n_bytes
    return n_frames, len(bitrates) > 1


def _frame(data: bytes, at: int) -> _Frame | None:
    """Return the frame whose header is there, None where there is none of layer III."""
    head = int.from_bytes(data[at : at + _HEAD_BYTES], "big")
    version, layer, bitrate, rate = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version not in _RATES_HZ or layer != _LAYER_3 or not 0 < bitrate < 15 or rate == 3:
        return None
    return _made(head)


def _made(head: int) -> _Frame:
    version, is_mono = head >> 19 & 3, head >> 6 & 3 == _MONO
    rate_hz, is_first = _RATES_HZ[version][head >> 10 & 3], version == _MPEG_1
    n_samples = 1152 if is_first else 576
    bits_per_s = 1000 * _BITRATES[is_first][(head >> 12 & 15) - 1]
    n_side_bytes = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return _Frame(head, n_samples // 8 * bits_per_s // rate_hz + (head >> 9 & 1), n_samples, n_side_bytes, rate_hz)


def _said(data: bytes, at: int, first: _Frame) -> int | None:
    """Return how many frames the first one says there are, 0 where it does not; None for one that is sound itself."""
    name = at + _HEAD_BYTES + first.n_side_bytes
    if data[name : name + 4] not in (b"Xing", b"Info"):
        return None
    flags = int.from_bytes(data[name + 4 : name + 8], "big")
    return int.from_bytes(data[name + 8 : name + 12], "big") if flags & _HAS_FRAMES else 0


def _info(like: _Frame, n_frames: int) -> bytes:
    """Return a frame without audio that says how many follow."""
    head = like.head & ~(15 << 12) & ~(1 << 9) | _INFO_BITRATE << 12 | 1 << 16  # no padding, no checksum
    said = b"Xing" + _HAS_FRAMES.to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    frame = _made(head)
    return (head.to_bytes(_HEAD_BYTES, "big") + bytes(frame.n_side_bytes) + said).ljust(frame.n_bytes, b"\0")


def frame_bytes(data: bytes, at: int) -> int:
    """Return how long the frame of layer III at `at` is, in bytes; 0 where there is none."""
    frame = _frame(data, at)
    return 0 if frame is None else frame.n_bytes
