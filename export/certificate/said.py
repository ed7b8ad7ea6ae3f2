"""The bundle's half of a certificate: it reads real text, answers prompts, and its logits are kept in a file."""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edge.bundle.bundle import Bundle
from edge.media.resized import Resized
from export.arrays import F32, U8
from export.certificate.answers import STEPPED, answered, read, reread, stepped
from export.certificate.compare import NOT_GIVEN, Bools, Scores
from export.certificate.evaluation import Evaluation
from export.certificate.extent import EXTENTS, MAX_ANSWER, SLOTS, Extent, Level
from export.certificate.passages import Kind, Passage, Passages, limited
from export.certificate.prompts import questions
from export.certificate.reader import Answer, Reader

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)


@dataclass(frozen=True, eq=False)
class Scored:
    """What the reference reads too. keys: of all positions; scored: whose next token is; targets: as in Comparison."""

    kind: Kind
    keys: Sequence[Hashable]
    scored: Sequence[int]
    targets: Sequence[int]


@dataclass(frozen=True, eq=False)
class Said:
    """parts: in the order of the file's rows; images: what was seen, embeds: the bundle's of it (tokens, H), by digest.

    prefill_decode: the same tokens scored by reading them and by steps; n_answers, n_windows, n_conversations: of the
    parts; skipped: why entries of the evaluation file are left out.
    """

    parts: tuple[Scored, ...]
    images: Mapping[str, U8 | Resized]
    embeds: Mapping[str, F32]
    prefill_decode: Scores
    n_answers: int
    n_windows: int
    n_conversations: int
    skipped: tuple[str, ...]

    @property
    def positions(self) -> int:
        """How many positions are scored in all."""
        return sum(len(part.scored) for part in self.parts)

    @property
    def targets(self) -> list[int]:
        """What follows each scored position."""
        return [target for part in self.parts for target in part.targets]

    def of_kind(self, kind: Kind) -> Bools:
        """Which of the scored positions are of a kind: (positions,)."""
        return np.concatenate([np.full(len(part.scored), part.kind == kind) for part in self.parts])


def transcribe(bundle: Bundle, evaluation: Evaluation, level: Level, logits: Path, report: Report) -> Said:
    """Have a bundle read and answer as much as a level asks for; its sessions are gone when this returns.

    logits: a new file, one row (V,) of float32 for each scored position. Raises: CertificateError, EdgeError.
    """
    extent, reader = EXTENTS[level], Reader(bundle)
    passages = Passages(evaluation.entries, bundle.manifest, reader.tokenizer)
    with logits.open("xb") as file:
        bench = _Bench(reader, passages, file, report)
        bench.read_windows(extent)
        bench.read_conversations(extent)
        bench.answer(extent, level)
    return bench.said()


class _Bench:
    """What the bundle said so far."""

    def __init__(self, reader: Reader, passages: Passages, file: BinaryIO, report: Report) -> None:
        self._reader = reader
        self._passages = passages
        self._file = file
        self._report = report
        self._parts: list[Scored] = []
        self._prefill_decode: list[Scores] = []
        self._counts = {"windows": 0, "conversations": 0, "answers": 0}

    def read_windows(self, extent: Extent) -> None:
        """Read running text, a few windows at a time; the first of them by steps, too."""
        reader = self._reader
        size = min(extent.window, reader.capacity)
        left, done = limited(self._passages.windows(size=size), {"text": extent.text}), 0
        while group := list(itertools.islice(left, SLOTS)):
            # Of each window, what may be scored by steps: all of it is hundreds of MB in a large vocabulary.
            rows = [read(reader, passage, self._file)[-STEPPED:].copy() for passage in group]
            if self._counts["windows"] < extent.stepped_windows:
                scores = stepped(reader, group, rows)
                self._prefill_decode += [] if scores is None else [scores]
            self._note("windows", [_given(passage) for passage in group])
            done += sum(len(passage.scored) for passage in group)
            self._report("text", done, extent.text)
        if done:
            self._report("text", extent.text, extent.text)  # a shorter text ends earlier

    def read_conversations(self, extent: Extent) -> None:
        """Read conversations whose answers are given."""
        reader = self._reader
        limits: dict[Kind, int] = {"chat": extent.chat}
        if reader.manifest.vision is not None:
            limits["images"] = extent.images
        total, done = sum(limits.values()), 0
        for passage in limited(self._passages.conversations(size=reader.capacity), limits):
            read(reader, passage, self._file)
            self._note("conversations", [_given(passage)])
            done += len(passage.scored)
            self._report("conversations", done, total)
        if done:
            self._report("conversations", total, total)

    def answer(self, extent: Extent, level: Level) -> None:
        """Answer greedily: conversations that end with a question, then made-up prompts, until there are enough."""
        reader = self._reader
        asked = self._passages.questions(size=reader.capacity - MAX_ANSWER)
        made_up = questions(images=reader.manifest.vision is not None, level=level)
        prompts = itertools.chain(asked, reader.prompts(made_up))
        done = 0
        while done < extent.answers:
            for answer, rows in list(answered(reader, list(itertools.islice(prompts, SLOTS)), self._file)):
                self._note("answers", [_answered(answer)])
                self._prefill_decode.append(reread(reader, answer, rows))
                done += len(answer.ids)
            self._report("answers", min(done, extent.answers), extent.answers)

    def said(self) -> Said:
        """Everything together."""
        reader, counts = self._reader, self._counts
        return Said(
            parts=tuple(self._parts),
            images=dict(reader.images),
            embeds=dict(reader.embeds),
            prefill_decode=Scores.joined(self._prefill_decode),
            n_answers=counts["answers"],
            n_windows=counts["windows"],
            n_conversations=counts["conversations"],
            skipped=tuple(self._passages.skipped),
        )

    def _note(self, what: str, parts: list[Scored]) -> None:
        self._parts += parts
        self._counts[what] += len(parts)


def _given(passage: Passage) -> Scored:
    return Scored(passage.kind, passage.positions.keys, passage.scored, passage.targets)


def _answered(answer: Answer) -> Scored:
    """An answer: the prompt's last position predicts its first token; which tokens should follow, nobody says."""
    prompt = answer.prompt
    kind: Kind = "images" if prompt.media(0, len(prompt)) else "chat"
    start, n = len(prompt) - 1, len(answer.ids)
    return Scored(kind, [*prompt.keys, *answer.ids[:-1]], range(start, start + n), [NOT_GIVEN] * n)
