"""The one way to decode media: the same here and in the process that is set apart for it."""

from edge.errors import MediaError
from edge.media.decoded import Decoded, Options

KINDS = ("image", "video")


def decode(kind: str, data: bytes, options: Options) -> Decoded:
    """Decode media of one of KINDS; which options there are, the function of its module says.

    Nothing is imported for a kind that is not asked for. Raises: MediaError, MemoryExhausted.
    """
    if kind == "image":
        from edge.media import image

        return image.decode(data, options)
    if kind == "video":
        from edge.media import video

        return video.decode(data, options)
    raise MediaError(f"{kind:.20}: expected one of {', '.join(KINDS)}")


def prepare(kind: str) -> None:
    """Import what decoding media of a kind needs."""
    if kind == "image":
        from edge.media import image  # noqa: F401
    if kind == "video":
        from edge.media import video  # noqa: F401
