"""What a file that cannot be decoded is, where it is whole: a variant of its format that is not supported."""

import struct
from collections.abc import Callable, Iterator

from edge.media.formats import ADVICE

_FRAMES = {
    0xC3: "lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"),
    **dict.fromkeys((0xC9, 0xCA), "arithmetic-coded JPEG"),
    0xCB: "lossless arithmetic-coded JPEG",
}
_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # tables, and one that is reserved
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_BMP_BITS = (1, 4, 8, 16, 24, 32)
_BMP_PACKINGS = {
    4: "BMP with a JPEG inside",
    5: "BMP with a PNG inside",
    **dict.fromkeys((11, 12, 13), "CMYK BMP"),
}

_NEAR_BYTES = 1 << 16  # where headers are
_MOST_BITMAP_PACKINGS = 3  # numbers; what is more are letters that name a codec
_RAW_PIXELS = (
    b"I420",
    b"IYUV",
    b"YV12",
    b"YUY2",
    b"YUYV",
    b"UYVY",
    b"NV12",
    b"Y800",
    b"GREY",
    b"v210",
    b"DIB ",
    b"RGB ",
)
_WAV_CODECS = (0x0001, 0x0002, 0x0003, 0x0006, 0x0007, 0x0011, 0x0031, 0x0055, 0xFFFE)  # what libsndfile reads
_OTHER_WAV_CODECS = {
    **dict.fromkeys((0x0040, 0x0045, 0x0064, 0x0085), "G.721 or G.726"),
    **dict.fromkeys((0x0065, 0x028F), "G.722"),
    0x0014: "G.723",
    0x0022: "TrueSpeech",
    0x0050: "MPEG layer I or II",
    0x0083: "G.729",
    0x00FF: "AAC",
    0x0161: "WMA",
    0x2000: "AC-3",
    0x2001: "DTS",
}


def unsupported(name: str, data: bytes) -> str | None:
    """Return what is said of a variant of a format that is not supported, None where it is none."""
    variant = _VARIANTS[name](data) if name in _VARIANTS else None
    return variant and f"{variant} is not supported: {_ADVICE.get(name, 'save it as baseline JPEG or as PNG')}"


def _jpeg(data: bytes) -> str | None:
    for marker, at in _segments(data):
        if not 0xC0 <= marker <= 0xCF or marker in _NO_FRAMES:
            continue
        if len(data) < at + 10:
            return None
        depth, n_layers = data[at + 2], data[at + 7]
        if marker in _FRAMES:
            return _FRAMES[marker]
        if depth != 8:
            return f"JPEG of {depth} bits a level"
        return None if n_layers in (1, 3, 4) else f"JPEG of {n_layers} components"
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment and where its length is, as far as they follow one another."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a byte that fills
            at += 1
            continue
        yield marker, at + 2
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _png(data: bytes) -> str | None:
    return "Apple's CgBI variant of PNG" if data[12:16] == b"CgBI" else None


def _bmp(data: bytes) -> str | None:
    if len(data) < 34:
        return None
    (n_header,) = struct.unpack_from("<I", data, 14)
    if n_header not in _BMP_HEADERS:
        return f"BMP with a header of {n_header} bytes"
    if n_header == 12:
        bits, packing = struct.unpack_from("<H", data, 24)[0], 0
    else:
        bits, packing = struct.unpack_from("<HI", data, 28)
    if packing in _BMP_PACKINGS:
        return _BMP_PACKINGS[packing]
    if bits not in _BMP_BITS:
        return f"BMP of {bits} bits a pixel"
    is_known = packing == 0 or (packing, bits) in ((1, 8), (2, 4), (3, 16), (3, 32), (6, 16), (6, 32))
    return None if is_known else f"BMP of {bits} bits a pixel with compression {packing}"


def _wav(data: bytes) -> str | None:
    at = data.find(b"fmt ", 12, _NEAR_BYTES)
    if at < 0 or len(data) < at + 10:
        return None
    (codec,) = struct.unpack_from("<H", data, at + 8)
    return None if codec in _WAV_CODECS else f"WAV of {_OTHER_WAV_CODECS.get(codec, f'codec 0x{codec:04x}')}"


def _avi(data: bytes) -> str | None:
    at = data.find(b"strf", 12, _NEAR_BYTES)
    if at < 0 or len(data) < at + 28:
        return None
    (packing,) = struct.unpack_from("<I", data, at + 24)
    is_raw = packing <= _MOST_BITMAP_PACKINGS or data[at + 24 : at + 28] in _RAW_PIXELS
    return "uncompressed AVI" if is_raw else None


_VARIANTS: dict[str, Callable[[bytes], str | None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "BMP": _bmp,
    "WAV": _wav,
    "AVI": _avi,
}
_ADVICE = {"WAV": ADVICE["audio"], "AVI": ADVICE["video"]}
