"""What data is, told by its first bytes: one list of formats, those that are supported and those refused by name."""

import base64
import codecs
import re
import struct
import unicodedata
from collections.abc import Callable

from edge.errors import MediaError
from edge.media import ogg
from edge.media.formats import (
    BRANDS,
    FORMATS,
    MAGIC,
    MARKUP,
    RIFF_TYPES,
    TIFF_MAKES,
    UNTAGGED,
    ZIP_MEMBERS,
    Format,
    named,
)
from edge.media.mp3 import frame_bytes

SNIFFED_BYTES = 64 << 10  # no more of the data is looked at

_PDF_WITHIN = 1024  # readers look for the mark that far, as writers put other things before it
_TEXT_BYTES = 1024
_LEAST_TEXT_BYTES = 64  # what is shorter is told by its magic bytes alone
_BASE64 = re.compile(r"[A-Za-z0-9+/_\r\n-]{64,}=*\s*")
_MPEG_FRAMES = 3  # in a row: fewer are found by chance
_MAX_ENTRIES = 512
_ALSO_TEXT = (b"%PDF-", b"GIF87a", b"GIF89a")  # these may go on in letters
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def expect(kind: str, data: bytes) -> Format:
    """Return the format of data that was sent as `kind`: image, video, audio or pdf.

    Raises: MediaError for a format that is not supported, or belongs elsewhere: what it is, and what to do.
    """
    found = named("PDF") if kind == "pdf" and b"%PDF-" in data[:_PDF_WITHIN] else sniff(data)
    if found is not None and found.is_supported and kind in found.kinds:
        return found
    raise MediaError(f"{kind}: {_refusal(kind, found, is_empty=not data)}")


def sniff(data: bytes) -> Format | None:
    """Tell a format by its first bytes, None for one that is not in the list."""
    head = data[:SNIFFED_BYTES]
    text = _text(head)
    is_long = len(head) >= _LEAST_TEXT_BYTES or is_utf16(head)
    if text is not None and is_long and not head.startswith(_ALSO_TEXT):
        return _markup(text)
    for rule in _RULES:
        if (name := rule(head)) is not None:
            return named(name)
    for offset, magic, name in MAGIC:
        if head.startswith(magic, offset):
            return named(name)
    if b"%PDF-" in head[:_PDF_WITHIN]:
        return named("PDF")
    if (name := _mpeg(data)) is not None:
        return named(name)
    return _markup(text) if text else None


def is_text(data: bytes) -> bool:
    """Return whether data is text in a Unicode encoding, and no PDF, which may be text as well."""
    return not data.startswith(_ALSO_TEXT) and _text(data[:SNIFFED_BYTES]) is not None


def is_utf16(data: bytes) -> bool:
    """Return whether data begins with a mark of UTF-16."""
    return data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _refusal(kind: str, found: Format | None, *, is_empty: bool) -> str:
    """Say what is wrong with a format, and what to do."""
    if found is None:
        return f"expected {FORMATS[kind]}, got {'no data' if is_empty else 'something else'}"
    if found.is_supported:
        kinds = " or ".join(f"{other}_url" for other in found.kinds)
        return f"this is {found.described}: send it as {kinds}; expected {FORMATS[kind]}"
    if not found.kinds:
        return f"expected {FORMATS[kind]}, got {found.name}: {found.advice}"
    also = "" if kind in found.kinds else f", and send it as {found.kinds[0]}_url"
    return f"{found.refusal(kind)}{also}; expected {FORMATS[kind]}"


def _text(head: bytes) -> str | None:
    """Return the beginning of what is text in a Unicode encoding, None for anything else."""
    data, encoding = head[:_TEXT_BYTES], "utf-8"
    for bom, spelt in _BOMS:
        if data.startswith(bom):
            data, encoding = data[len(bom) :], spelt
            break
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return None
    return text if not any(unicodedata.category(c) == "Cc" and c not in "\t\n\r\f\x1b" for c in text) else None


def _markup(text: str) -> Format:
    """Tell text by how it begins."""
    if "\n%PDF-" in text:
        return named("PDF")
    if _BASE64.fullmatch(text) and not is_text(inner := _decoded(text)) and sniff(inner) is not None:
        return named("base64 text")
    begin = text.lstrip().lower()
    for starts, contains, name in MARKUP:
        if begin.startswith(starts) and contains in begin:
            return named(name)
    return named("text")


def _decoded(text: str) -> bytes:
    letters = "".join(text.split()).rstrip("=")
    return base64.b64decode(letters[: len(letters) // 4 * 4], altchars=b"-_" if "-" in text or "_" in text else None)


def _bmp(head: bytes) -> str | None:
    is_bmp = head[:2] == b"BM" and (len(head) < 18 or struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS)
    return "BMP" if is_bmp else None


def _riff(head: bytes) -> str | None:
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return None
    name = RIFF_TYPES.get(head[8:12])
    return "RF64" if name == "WAV" and head[:4] in (b"RF64", b"BW64") else name


def _iso_media(head: bytes) -> str | None:
    """Tell what the boxes of ISO 14496-12 hold, by the brands that the file names."""
    if head[4:8] in UNTAGGED:
        return "MOV"
    if head[4:8] != b"ftyp":
        return None
    (n_bytes,) = struct.unpack(">I", head[:4])
    listed = head[8 : max(12, min(n_bytes, 256))]
    name = BRANDS.get(listed[:4], "MP4")
    if name != "HEIF":
        return name
    # An image, whose codec is a brand further on.
    others = [BRANDS.get(listed[at : at + 4], "HEIF") for at in range(8, len(listed), 4)]
    return next((other for other in others if other != "HEIF"), "HEIF")


def _matroska(head: bytes) -> str | None:
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return None
    return "WebM" if b"\x42\x82\x84webm" in head[:64] else "Matroska"


def _ogg(head: bytes) -> str | None:
    return ogg.name(head) if head[:4] == b"OggS" else None


def _zip(head: bytes) -> str | None:
    if head[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
        return None
    return next((name for member, name in ZIP_MEMBERS if member in head), "ZIP")


def _tiff(head: bytes) -> str | None:
    """Tell TIFF from the cameras' formats that are built like it, by the tags of the first directory."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None:
        return None
    if head[8:10] == b"CR":
        return "camera raw (CR2)"
    try:
        tags, make = _tags(head, order)
    except struct.error:
        return "TIFF"
    if 0xC612 in tags:  # DNGVersion
        return "camera raw (DNG)"
    is_raw = 0x14A in tags and 0x103 in tags  # SubIFDs: what the camera saw is in another directory
    return next((name for start, name in TIFF_MAKES if is_raw and make.startswith(start)), "TIFF")


def _tags(head: bytes, order: str) -> tuple[set[int], bytes]:
    """Return the tags of a TIFF's first directory, and who made the camera. Raises: struct.error."""
    (directory,) = struct.unpack_from(order + "I", head, 4)
    (n_entries,) = struct.unpack_from(order + "H", head, directory)
    tags, make = set(), b""
    for i in range(min(n_entries, _MAX_ENTRIES)):
        tag, _, n_bytes, at = struct.unpack_from(order + "HHII", head, directory + 2 + 12 * i)
        tags.add(tag)
        if tag == 0x10F and n_bytes > 4:
            make = head[at : at + n_bytes].upper()
    return tags, make


def _icon(head: bytes) -> str | None:
    """Tell icons and cursors: their magic bytes are few, so the first entry must make sense as well."""
    if len(head) < 22 or head[:2] != b"\0\0" or head[2:4] not in (b"\1\0", b"\2\0"):
        return None
    n_images, reserved = head[4] | head[5] << 8, head[9]
    name = "ICO" if head[2] == 1 else "CUR"
    return name if 0 < n_images < 256 and reserved in (0, 255) else None


def _transport(head: bytes) -> str | None:
    """Tell MPEG-TS by its packets: of 188 bytes, or 192 with a time before each."""
    for start, step in ((0, 188), (4, 192)):
        marks = head[start : start + 4 * step : step]
        if len(marks) >= 3 and set(marks) == {0x47}:
            return "MPEG-TS"
    return None


def _mpeg(data: bytes) -> str | None:
    """Tell MP3, MP2 and AAC by their frames, behind tags, silence or the rest of a frame that was cut off."""
    at = tag_bytes(data)
    frame = data[at : at + 4]
    is_synced = len(frame) > 1 and frame[0] == 0xFF and frame[1] & 0xE0 == 0xE0
    if is_synced and frame[1] & 0xF6 == 0xF0:
        return "AAC"
    if is_synced and _is_older_mpeg(frame):
        return "MP2"
    if is_synced or at:
        return "MP3"
    head = data[:SNIFFED_BYTES]
    at = head.find(b"\xff")
    while at >= 0:
        if _are_mpeg_frames(head, at):
            return "MP3"
        at = head.find(b"\xff", at + 1)
    return None


def _is_older_mpeg(frame: bytes) -> bool:
    """Return whether a frame is one of layer I or II. Source: ISO 11172-3, 2.4.1.3."""
    if len(frame) < 4:
        return False
    version, layer, bitrate, rate = frame[1] >> 3 & 3, frame[1] >> 1 & 3, frame[2] >> 4, frame[2] >> 2 & 3
    return version != 1 and layer in (2, 3) and 0 < bitrate < 15 and rate != 3


def _are_mpeg_frames(head: bytes, at: int) -> bool:
    for _ in range(_MPEG_FRAMES):
        n_bytes = frame_bytes(head, at)
        if not n_bytes:
            return False
        at += n_bytes
    return True


def tag_bytes(data: bytes) -> int:
    """Return how long the ID3 tag before audio is, 0 without one: MP3 may follow it, and AAC."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:  # seven bits each
        size = size << 7 | byte & 0x7F
    return 10 + size


_RULES: tuple[Callable[[bytes], str | None], ...] = (
    _bmp,
    _riff,
    _iso_media,
    _matroska,
    _ogg,
    _zip,
    _tiff,
    _icon,
    _transport,
)
