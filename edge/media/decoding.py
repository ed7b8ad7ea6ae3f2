"""The one way to decode media: the same here and in the separate process for it."""

from edge.errors import MediaError
from edge.media.decoded import Decode, Decoded, Options

KINDS = ("image", "video", "pdf", "audio")


def decode(kind: str, data: bytes, options: Options) -> Decoded:
    """Decode media of one of KINDS; which options there are, the `decode` of its module says.

    Nothing is imported for a kind that is not asked for. Raises: MediaError, MemoryExhausted.
    """
    return prepare(kind)(data, options)


def prepare(kind: str) -> Decode:
    """Import what decoding media of a kind needs, and return what does it. Raises: MediaError."""
    if kind == "image":
        from edge.media import image

        return image.decode
    if kind == "video":
        from edge.media import video

        return video.decode
    if kind == "pdf":
        from edge.media import pdf

        return pdf.decode
    if kind == "audio":
        from edge.media import audio

        return audio.decode
    raise MediaError(f"{kind:.20}: expected one of {', '.join(KINDS)}")
