"""What a cache of 8 bits costs: the same text read once more with it, against float32 keys and values.

The same bundle reads the same positions both times, so what differs is the cache; answers, which grew by steps, are
left out. Images are fed as the bundle has already seen them: no tower is opened.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.bundle.bundle import Bundle
from edge.engine.layout import Positions, Span
from edge.engine.pieces import Encoded
from export.arrays import F32
from export.certificate.answers import file_rows, read_rows
from export.certificate.compare import NOT_GIVEN, Comparison, Scores
from export.certificate.extent import INT8_POSITIONS
from export.certificate.reader import Reader
from export.certificate.said import Said, Scored
from export.texts.sequences import spread

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)


@dataclass(frozen=True, eq=False)
class Reread:
    """at: the rows of the first file that were scored again, (n,); logits: the file of the second time, n rows."""

    at: npt.NDArray[np.int64]
    targets: Sequence[int]
    logits: Path


@dataclass(frozen=True, eq=False)
class CacheCost:
    """The same positions three times: 8 bits against float32 keys and values, and both against the reference."""

    to_float32: Scores
    to_reference: Scores
    float32_to_reference: Scores


class CacheComparison:
    """Gathers runs of the vocabulary, as `Comparison` does. logits: of the bundle with float32 keys and values."""

    def __init__(self, again: Reread, logits: F32) -> None:
        n, self._again, self._logits = len(again.at), again, logits
        self._rows = file_rows(again.logits, n_rows=n, vocab_size=logits.shape[1])
        self._to_float32, self._to_reference = Comparison(n), Comparison(n, again.targets)
        self._float32 = Comparison(n, again.targets)

    def add(self, run: slice, expected: F32) -> None:
        """Take the next run of what the reference says. expected: (positions, run), of all positions."""
        at = self._again.at
        reference, float32, int8 = expected[at], self._logits[at, run], self._rows[:, run]
        self._to_float32.add(float32, int8)
        self._to_reference.add(reference, int8)
        self._float32.add(reference, float32)

    def cost(self) -> CacheCost:
        """What was seen."""
        return CacheCost(self._to_float32.scores(), self._to_reference.scores(), self._float32.scores())


def reread(bundle: Bundle, said: Said, logits: Path, report: Report) -> Reread | None:
    """Read what was said again with a cache of 8 bits; None for a bundle without one. logits: a new file.

    Raises: CertificateError, EdgeError.
    """
    given = [(start, part) for start, part in _starts(said.parts) if all(at != NOT_GIVEN for at in part.targets)]
    if bundle.manifest.int8_cache is None or not given:
        return None
    chosen = [given[n] for n in spread([len(part.scored) for _, part in given], INT8_POSITIONS)]
    reader, total = Reader(bundle, kv="int8"), sum(len(part.scored) for _, part in chosen)
    at: list[int] = []
    with logits.open("xb") as file:
        for start, part in chosen:
            read_rows(reader, _positions(part.keys, said.embeds), part.scored, file)
            at += range(start, start + len(part.scored))
            report("int8 cache", len(at), total)
    return Reread(np.array(at), [target for _, part in chosen for target in part.targets], logits)


def _starts(parts: Sequence[Scored]) -> Iterator[tuple[int, Scored]]:
    """Each part and its first row in the file."""
    counts = itertools.accumulate((len(part.scored) for part in parts), initial=0)
    return zip(counts, parts, strict=False)


def _positions(keys: Sequence[Hashable], images: Mapping[str, F32]) -> Positions:
    """What has these keys, images as their embeddings. images: (tokens, H) by digest."""
    spans: list[Span] = []
    at = 0
    for digest, group in itertools.groupby(keys, key=lambda key: key[0] if isinstance(key, tuple) else None):
        found = tuple(group)
        ids = tuple(key for key in found if isinstance(key, int))
        # The same image twice in a row is one group.
        content = [ids] if digest is None else [Encoded(images[digest], digest)] * (len(found) // len(images[digest]))
        for each in content:
            size = len(each) if isinstance(each, tuple) else each.n_tokens
            spans.append(Span(at, at + size, each))
            at += size
    return Positions(spans)
