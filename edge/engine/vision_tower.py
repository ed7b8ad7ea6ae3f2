"""vision.onnx: a tile at a time to embeddings, and the embeddings of images seen lately."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edge.arrays import F32
from edge.bundle.manifest import VisionSpec
from edge.engine.embedding_cache import EmbeddingCache
from edge.engine.opening import Opening
from edge.engine.session import check_shapes
from edge.errors import NonFiniteError

if TYPE_CHECKING:
    import onnxruntime as ort


class Vision:
    """The vision tower, opened with its first tile, and in `recent` the embeddings of whole images."""

    def __init__(
        self, open_it: "Callable[[], ort.InferenceSession]", spec: VisionSpec, hidden_size: int, *, limit_bytes: int
    ) -> None:
        tile, embeddings = (None, 3, spec.tile_px, spec.tile_px), (None, spec.tokens_per_tile, hidden_size)

        def checked() -> "ort.InferenceSession":
            session = open_it()
            check_shapes(session, inputs={"tiles": tile}, outputs={"embeds": embeddings}, file="vision.onnx")
            return session

        self.opening = Opening(checked)
        self.spec = spec
        self.recent = EmbeddingCache(limit_bytes)

    def encode(self, tile: F32, *, options: "ort.RunOptions") -> F32:
        """Return a tile's embeddings. tile: (3, T, T) float32, normalised -> (tokens_per_tile, H).

        Raises: NonFiniteError; BundleError, MemoryExhausted where it cannot be opened.
        """
        (embeddings,) = self.opening.session().run(["embeds"], {"tiles": tile[None]}, options)
        if not np.isfinite(embeddings).all():
            raise NonFiniteError("an image tile")
        rows: F32 = embeddings[0]
        return rows
