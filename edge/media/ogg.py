"""Which codecs an Ogg stream holds: what the first packet of each of its streams begins with. Source: RFC 3533."""

_HEAD_BYTES = 27
_BEGINS = 2  # a flag of a page: it begins a stream
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
    """Return the name of an Ogg stream's format, as `edge.media.formats` lists it; pictures count before audio."""
    found = set()
    at = 0
    while data[at : at + 4] == b"OggS" and len(data) >= at + _HEAD_BYTES and data[at + 5] & _BEGINS:
        table = data[at + _HEAD_BYTES : at + _HEAD_BYTES + data[at + 26]]
        start = at + _HEAD_BYTES + len(table)
        found |= {name for magic, name in _CODECS if data.startswith(magic, start)}
        at = start + sum(table)
    return next((name for _, name in _CODECS if name in found), "OGG")
