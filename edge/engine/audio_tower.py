"""The audio tower: log-mel windows in, embeddings out, and those of recent audio kept.

Source: model-family.md, 5 (native).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edge.arrays import F32
from edge.bundle.manifest import AudioSpec
from edge.engine.embedding_cache import EmbeddingCache
from edge.engine.opening import Opening
from edge.engine.session import check_shapes
from edge.errors import NonFiniteError

if TYPE_CHECKING:
    import onnxruntime as ort


class AudioTower:
    """audio.onnx, opened with its first window: embeddings of each, and those of audio encoded lately."""

    def __init__(
        self, open_it: "Callable[[], ort.InferenceSession]", spec: AudioSpec, hidden_size: int, *, limit_bytes: int
    ) -> None:
        mel, embeddings = (None, spec.n_mels, spec.window_frames), (None, spec.tokens_per_window, hidden_size)

        def checked() -> "ort.InferenceSession":
            session = open_it()
            check_shapes(session, inputs={"mel": mel}, outputs={"embeds": embeddings}, file="audio.onnx")
            return session

        self.opening = Opening(checked)
        self.spec = spec
        self.recent = EmbeddingCache(limit_bytes)

    def encode(self, mel: F32, *, options: "ort.RunOptions") -> F32:
        """Return a window's embeddings. mel: (n_mels, window_frames) float32 -> (tokens_per_window, H).

        Raises: NonFiniteError; BundleError, MemoryExhausted where it cannot be opened.
        """
        (embeddings,) = self.opening.session().run(["embeds"], {"mel": mel[None]}, options)
        if not np.isfinite(embeddings).all():
            raise NonFiniteError("a window of audio")
        rows: F32 = embeddings[0]
        return rows
