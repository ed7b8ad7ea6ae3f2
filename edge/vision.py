"""vision.onnx: a tile at a time to embeds, and the embeds of pictures seen lately."""

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge.bundle import VisionSpec
from edge.errors import NonFiniteError
from edge.session import check_shapes

if TYPE_CHECKING:
    import onnxruntime as ort

F32 = npt.NDArray[np.float32]


class Vision:
    """The vision tower, and a cache of whole pictures under a limit in bytes, the least recently used leaving first."""

    def __init__(
        self, session: "ort.InferenceSession", spec: VisionSpec, hidden_size: int, *, limit_bytes: int
    ) -> None:
        tile, embeds = (None, 3, spec.tile_px, spec.tile_px), (None, spec.tokens_per_tile, hidden_size)
        check_shapes(session, inputs={"tiles": tile}, outputs={"embeds": embeds}, file="vision.onnx")
        self.spec = spec
        self._session = session
        self._limit_bytes = limit_bytes
        self._seen: OrderedDict[str, F32] = OrderedDict()
        self._seen_bytes = 0

    @property
    def nbytes(self) -> int:
        """The bytes of the pictures kept."""
        return self._seen_bytes

    def encode(self, tile: F32, *, options: "ort.RunOptions") -> F32:
        """Return a tile's embeds. tile: (3, T, T) float32, normalised -> (tokens_per_tile, H).

        Raises: NonFiniteError.
        """
        (embeds,) = self._session.run(["embeds"], {"tiles": tile[None]}, options)
        if not np.isfinite(embeds).all():
            raise NonFiniteError("a picture's tile")
        rows: F32 = embeds[0]
        return rows

    def recall(self, digest: str) -> F32 | None:
        """Return the embeds of a picture seen lately."""
        embeds = self._seen.get(digest)
        if embeds is not None:
            self._seen.move_to_end(digest)
        return embeds

    def remember(self, digest: str, embeds: F32) -> None:
        """Keep a picture's embeds, unless they alone are over the limit."""
        if embeds.nbytes > self._limit_bytes or digest in self._seen:
            return
        while self._seen_bytes + embeds.nbytes > self._limit_bytes:
            self._seen_bytes -= self._seen.popitem(last=False)[1].nbytes
        self._seen[digest] = embeds
        self._seen_bytes += embeds.nbytes

    def forget(self) -> None:
        """Drop every picture kept."""
        self._seen.clear()
        self._seen_bytes = 0
