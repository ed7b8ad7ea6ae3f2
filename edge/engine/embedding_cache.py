"""The embeddings of media that were seen or heard lately, kept under a limit in bytes."""

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
        embeds = self._kept.get(digest)
        if embeds is not None:
            self._kept.move_to_end(digest)
        return embeds

    def remember(self, digest: str, embeds: F32) -> None:
        """Keep embeddings, unless they alone are over the limit."""
        if embeds.nbytes > self._limit_bytes or digest in self._kept:
            return
        while self.nbytes + embeds.nbytes > self._limit_bytes:
            self.nbytes -= self._kept.popitem(last=False)[1].nbytes
        self._kept[digest] = embeds
        self.nbytes += embeds.nbytes

    def forget(self) -> None:
        """Drop everything kept."""
        self._kept.clear()
        self.nbytes = 0
