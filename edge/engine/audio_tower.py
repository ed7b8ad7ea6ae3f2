"""The audio tower: log-mel windows in, embeddings out, and those of recent audio kept.

Source: model-family.md, 5 (native).
"""

from typing import TYPE_CHECKING

import numpy as np

from edge.arrays import F32
from edge.bundle.manifest import AudioSpec
from edge.engine.embedding_cache import EmbeddingCache
from edge.engine.session import check_shapes
from edge.errors import NonFiniteError

if TYPE_CHECKING:
    import onnxruntime as ort


class AudioTower:
    """audio.onnx: a window at a time to embeddings, and the embeddings of audio encoded lately."""

    def __init__(self, session: "ort.InferenceSession", spec: AudioSpec, hidden_size: int, *, limit_bytes: int) -> None:
        mel, embeddings = (None, spec.n_mels, spec.window_frames), (None, spec.tokens_per_window, hidden_size)
        check_shapes(session, inputs={"mel": mel}, outputs={"embeds": embeddings}, file="audio.onnx")
        self.spec = spec
        self.recent = EmbeddingCache(limit_bytes)
        self._session = session

    def encode(self, mel: F32, *, options: "ort.RunOptions") -> F32:
        """Return a window's embeddings. mel: (n_mels, window_frames) float32 -> (tokens_per_window, H).

        Raises: NonFiniteError.
        """
        (embeddings,) = self._session.run(["embeds"], {"mel": mel[None]}, options)
        if not np.isfinite(embeddings).all():
            raise NonFiniteError("a window of audio")
        rows: F32 = embeddings[0]
        return rows
