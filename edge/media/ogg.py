"""Ogg: which codecs a stream holds, and its links one by one, with pages that readers do not drop. Source: RFC 3533."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from edge.media import opus

_HEAD_BYTES = 27
_FULL = 255  # the size of a part that is not the last one of its packet
_CONTINUES, _BEGINS = 1, 2  # flags of a page: it goes on with a packet, it begins a stream
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_AUDIO = (
    (b"OpusHead", "Opus"),
    (b"\x01vorbis", "Vorbis"),
    (b"\x7fFLAC", "FLAC"),
    (b"fLaC", "FLAC"),
    (b"Speex   ", "Speex"),
    (b"CELT    ", "CELT"),
    (b"PCM     ", "PCM"),
)
_CODECS = (
    (b"\x80theora", "Ogg Theora"),
    (b"BBCD", "Ogg Dirac"),
    (b"\x80daala", "Ogg Daala"),
    (b"\x01video", "OGM"),
    (b"OpusHead", "OGG"),
    (b"\x01vorbis", "OGG"),
    (b"\x7fFLAC", "Ogg FLAC"),
    (b"fLaC", "Ogg FLAC"),
    (b"Speex   ", "Ogg Speex"),
    (b"CELT    ", "Ogg CELT"),
    (b"PCM     ", "Ogg PCM"),
)


def name(data: bytes) -> str:
    """Return the name of an Ogg stream's format, as `edge.media.formats` lists it; images count before audio."""
    found = set()
    at = 0
    while data[at : at + 4] == b"OggS" and len(data) >= at + _HEAD_BYTES and data[at + 5] & _BEGINS:
        table = data[at + _HEAD_BYTES : at + _HEAD_BYTES + data[at + 26]]
        start = at + _HEAD_BYTES + len(table)
        found |= {name for magic, name in _CODECS if data.startswith(magic, start)}
        at = start + sum(table)
    return next((name for _, name in _CODECS if name in found), "OGG")


# --- links --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Page:
    """A page: its head without sizes, the sizes of the parts of packets in it, and those parts.

    is_damaged: whether its bytes have another checksum than it says.
    """

    head: bytes
    sizes: bytes
    body: bytes
    is_damaged: bool = False

    @property
    def flags(self) -> int:
        return self.head[5]

    @property
    def serial(self) -> bytes:
        return self.head[14:18]

    @property
    def data(self) -> bytes:
        """The page with the checksum of its bytes: readers drop one with another, though a second of audio is in it."""
        page = self.head[:22] + bytes(4) + bytes([len(self.sizes)]) + self.sizes + self.body
        return page[:22] + _checksum(page) + page[26:]

    def parts(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the packets in this page, as far as they are in it, and whether each ends here."""
        start = end = 0
        for size in self.sizes:
            end += size
            if size < _FULL:
                yield self.body[start:end], True
                start = end
        if start < end or self.sizes[-1:] == bytes([_FULL]):
            yield self.body[start:end], False


@dataclass
class Link:
    """One stream of a chain: what its codec is called, and its pages."""

    codec: str
    pages: list[_Page] = field(default_factory=list)

    @property
    def n_damaged(self) -> int:
        return sum(page.is_damaged for page in self.pages)

    @property
    def data(self) -> bytes:
        """The stream as a file of its own; packets of Opus that no decoder reads are replaced by silence."""
        pages = self.pages[:1] + _readable(self.pages[1:]) if self.codec == "Opus" else self.pages
        return b"".join(page.data for page in pages)

    def packets(self) -> Iterator[bytes]:
        """Yield the packets, put together from the pages."""
        parts: list[bytes] = []
        for page in self.pages:
            if not page.flags & _CONTINUES:
                parts.clear()
            for part, is_end in page.parts():
                parts.append(part)
                if is_end:
                    yield b"".join(parts)
                    parts.clear()


def _readable(pages: list[_Page]) -> list[_Page]:
    """Return pages of Opus in which each packet, where it is whole in its page, is one that decoders read."""
    usual: bytes | None = None
    found = []
    for page in pages:
        packets = []
        for i, (part, is_end) in enumerate(page.parts()):
            is_whole = is_end and not (i == 0 and page.flags & _CONTINUES) and not part.startswith(b"OpusTags")
            ms = opus.length_ms(part) if is_whole else None
            is_odd = usual is not None and page.is_damaged and ms != opus.length_ms(usual)
            if is_whole and usual is not None and (ms is None or is_odd):
                packets.append((opus.silent(usual), True))
            else:
                usual = part if ms is not None else usual
                packets.append((part, is_end))
        found.append(_packed(page, packets))
    return found


def _packed(page: _Page, packets: list[tuple[bytes, bool]]) -> _Page:
    sizes = [_sizes(len(packet), is_end=is_end) for packet, is_end in packets]
    return replace(page, sizes=b"".join(sizes), body=b"".join(packet for packet, _ in packets))


def _sizes(n_bytes: int, *, is_end: bool) -> bytes:
    n_full, rest = divmod(n_bytes, _FULL)
    return bytes([_FULL]) * n_full + (bytes([rest]) if is_end else b"")


def links(data: bytes) -> list[Link]:
    """Return the streams of audio that follow one another, one where several play at the same time."""
    found: list[Link] = []
    serial: bytes | None = None
    is_head = False
    for page in _pages(data):
        if page.flags & _BEGINS:
            if not is_head:
                serial = None
            is_head = True
            codec = next((called for magic, called in _AUDIO if page.body.startswith(magic)), None)
            if serial is None and codec is not None:
                serial = page.serial
                found.append(Link(codec))
        else:
            is_head = False
        if page.serial == serial and found:
            found[-1].pages.append(page)
    return found


def native_flac(link: Link) -> bytes:
    """Return the FLAC of a stream without Ogg around it."""
    packets = link.packets()
    first = next(packets, b"")
    info = bytearray(first[9:] if first[:1] == b"\x7f" else first + next(packets, b""))  # mark, head of a block, block
    info[4:5] = bytes([0x80])  # the last of its kind: the others hold no audio
    return bytes(info) + b"".join(packet for packet in packets if packet[:1] == b"\xff")


def _pages(data: bytes) -> Iterator[_Page]:
    """Yield the pages, wherever each begins; of one that is cut off, the packets that are whole."""
    at = data.find(b"OggS")
    while 0 <= at <= len(data) - _HEAD_BYTES:
        head = data[at : at + _HEAD_BYTES - 1]
        sizes = data[at + _HEAD_BYTES : at + _HEAD_BYTES + data[at + _HEAD_BYTES - 1]]
        start = at + _HEAD_BYTES + len(sizes)
        end = start + sum(sizes)
        page = _Page(head, sizes, data[start:end])
        page = replace(page, is_damaged=page.data[22:26] != head[22:26])
        is_followed = data.startswith(b"OggS", end)
        if end > len(data) and data.find(b"OggS", at + 4) < 0:
            yield _cut(page)
            return
        if end <= len(data) and (is_followed or end == len(data) or not page.is_damaged):
            yield page
        at = end if is_followed else data.find(b"OggS", at + 4)


def _cut(page: _Page) -> _Page:
    """Return a page that its data ends in, without the packet that is cut off."""
    n_sizes = n_bytes = end = 0
    for i, size in enumerate(page.sizes):
        end += size
        if end > len(page.body):
            break
        if size < _FULL:
            n_sizes, n_bytes = i + 1, end
    return replace(page, sizes=page.sizes[:n_sizes], body=page.body[:n_bytes], is_damaged=True)


def _checksum(page: bytes) -> bytes:
    """Return the checksum of a page: zlib's polynomial with the bits of each byte in the other order."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_REVERSED)
