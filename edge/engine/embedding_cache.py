"""The embeddings of media that were encoded lately, kept under a limit in bytes."""

from collections import OrderedDict

from edge.arrays import F32


class EmbeddingCache:
    """Embeddings by digest; over the limit the least recently used are evicted first."""

    def __init__(self, limit_bytes: int) -> None:
        self.nbytes = 0
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[str, F32] = OrderedDict()

    def recall(self, digest: str) -> F32 | None:
        """Return the embeddings kept under a digest."""
        embeddings = self._kept.get(digest)
        if embeddings is not None:
            self._kept.move_to_end(digest)
        return embeddings

    def remember(self, digest: str, embeddings: F32) -> None:
        """Keep embeddings, unless they alone are over the limit."""
        if embeddings.nbytes > self._limit_bytes or digest in self._kept:
            return
        while self.nbytes + embeddings.nbytes > self._limit_bytes:
            self.nbytes -= self._kept.popitem(last=False)[1].nbytes
        self._kept[digest] = embeddings
        self.nbytes += embeddings.nbytes

    def forget(self) -> None:
        """Drop everything kept."""
        self._kept.clear()
        self.nbytes = 0
