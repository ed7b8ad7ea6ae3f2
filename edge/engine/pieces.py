"""What a prompt is made of: control ids, runs of text, and media, in the order the decoder reads them."""

from dataclasses import dataclass
from typing import Literal

from edge.arrays import F32, U8
from edge.media.detail import AUTO, Detail
from edge.media.resized import Resized

CALL_TAGS = ("<tool_call>", "</tool_call>")  # the control tokens around a tool call


@dataclass(frozen=True)
class Control:
    """Token ids that stand for structure."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Text:
    """A run of text between control tokens or media; it is encoded as one string."""

    text: str


@dataclass(frozen=True, eq=False)
class Media:
    """An image, or a video's frame (always one tile), of n_tokens positions.

    rgb: (H, W, 3) uint8, or of a large image what its tiles are cut from; digest: of its pixels and, for a frame or
    another detail, of that: they make other embeddings. detail: how finely an image is cut into tiles.
    """

    kind: Literal["image", "frame"]
    rgb: U8 | Resized
    n_tokens: int
    digest: str
    detail: Detail = AUTO


@dataclass(frozen=True, eq=False)
class Audio:
    """Audio of n_tokens positions. samples: (n,) float32, mono, 16 kHz; digest: of them."""

    samples: F32
    n_tokens: int
    digest: str


@dataclass(frozen=True, eq=False)
class Encoded:
    """A tile whose embeddings are known. embeds: (n_tokens, H) float32; digest: equal ones mean equal embeddings."""

    embeddings: F32
    digest: str

    @property
    def n_tokens(self) -> int:
        """The positions it takes."""
        return len(self.embeddings)


Piece = Control | Text | Media | Audio | Encoded
