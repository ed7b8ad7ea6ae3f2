"""What a bundle says: its own greedy answers, real text that it reads, and the logits behind both, in one file."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from edge.bundle.bundle import Bundle
from edge.engine.layout import Positions
from edge.media.resized import Resized
from export.arrays import F32, U8
from export.certificate.compare import Comparison, Scores
from export.certificate.extent import SLOTS
from export.certificate.passages import Passage, first, followed_by
from export.certificate.prompts import Question
from export.certificate.reader import Answer, Reader
from export.errors import CertificateError

STEPPED: Final = 64  # tokens at the end of a window that are scored by steps, too


@dataclass(frozen=True, eq=False)
class Transcript:
    """All answers in order; pictures: what was seen, and the bundle's embeddings (tokens, H), by digest."""

    answers: tuple[Answer, ...]
    images: Mapping[str, U8 | Resized]
    embeds: Mapping[str, F32]

    @property
    def positions(self) -> int:
        """How many tokens were answered in all."""
        return sum(len(answer.ids) for answer in self.answers)


def answer_all(bundle: Bundle, questions: Iterable[Question], *, logits: Path) -> Iterator[Transcript]:
    """Answer questions greedily, a few at a time; yields all answers so far after each group, until nobody asks more.

    logits: a new file; one row (V,) of float32 per token answered, in the order of the transcript.
    Raises: CertificateError when no prompt fits the model's context or a logit is not finite.
    """
    reader = Reader(bundle)
    answers: list[Answer] = []
    with logits.open("xb") as file:
        for group in _groups(reader.prompts(questions)):
            for answer, _ in answered(reader, group, file):
                answers.append(answer)
            file.flush()
            yield Transcript(tuple(answers), dict(reader.images), dict(reader.embeds))


def answered(reader: Reader, prompts: Sequence[Positions], file: BinaryIO) -> Iterator[tuple[Answer, F32]]:
    """Answer up to SLOTS prompts and write their logits; yields each answer with them, (n, V)."""
    for answer, rows in reader.answer(prompts):
        logits = np.stack(rows)
        _write(file, logits)
        yield answer, logits


def read(reader: Reader, passage: Passage, file: BinaryIO) -> F32:
    """Read a passage as a prompt and write the logits of its scored positions, (n, V); returns them."""
    return read_rows(reader, passage.positions, passage.scored, file)


def read_rows(reader: Reader, positions: Positions, scored: Sequence[int], file: BinaryIO) -> F32:
    """Read positions as a prompt and write the logits of the scored ones, (n, V); returns them."""
    start = scored[0]
    rows = reader.read(positions, n_logits=len(positions) - start)
    logits = rows if len(rows) == len(scored) else rows[[at - start for at in scored]]
    _write(file, logits)
    return logits


def reread(reader: Reader, answer: Answer, decoded: F32) -> Scores:
    """An answer's tokens scored by reading them as a prompt, against the steps that made them: KL(prefill || decode).

    decoded: (n, V), of the steps. The first token is left out: it was read from the prompt both times.
    """
    whole = followed_by(answer.prompt, answer.ids[:-1])
    prefilled = reader.read(whole, n_logits=len(answer.ids))
    return _scores(prefilled[1:], decoded[1:])


def stepped(reader: Reader, passages: Sequence[Passage], prefilled: Sequence[F32]) -> Scores | None:
    """The last STEPPED tokens of up to SLOTS windows, scored by steps against what reading them scored.

    prefilled: (n, V) each, of the last scored positions of a window. None where a window is too short for any.
    """
    n = min(STEPPED, *(len(passage.scored) for passage in passages))
    if n < 2:
        return None
    prompts = [first(passage.positions, len(passage.positions) - n + 1) for passage in passages]
    rows = reader.follow(prompts, [passage.targets[-n:] for passage in passages])
    return _scores(np.concatenate([each[-n + 1 :] for each in prefilled]), np.concatenate([each[1:] for each in rows]))


def _scores(one: F32, other: F32) -> Scores:
    comparison = Comparison(len(one))
    comparison.add(one, other)
    return comparison.scores()


def _groups(prompts: Iterator[Positions]) -> Iterator[list[Positions]]:
    while group := list(itertools.islice(prompts, SLOTS)):
        yield group


def _write(file: BinaryIO, rows: F32) -> None:
    if not np.isfinite(rows).all():
        raise CertificateError("an answer of the bundle has a logit that is not finite")
    file.write(np.ascontiguousarray(rows).data)


def file_rows(logits: Path, *, n_rows: int, vocab_size: int) -> F32:
    """The rows written by `answer_all`, mapped: (n_rows, V).

    Raises: CertificateError when the file is not that large.
    """
    expected = n_rows * vocab_size * 4
    found = logits.stat().st_size
    if found != expected:
        raise CertificateError(f"{logits.name}: {found} bytes, expected {expected}")
    return np.memmap(logits, np.float32, "r", shape=(n_rows, vocab_size))
