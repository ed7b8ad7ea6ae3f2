"""The table of bundles: its columns, as text for a terminal and as cells for the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from export.report.certificate import Certificate
from export.report.markup import plain
from export.report.numbers import NONE, megabytes, percent, significant
from export.report.speed import Speed
from export.report.subject import Subject

Value = Callable[[Subject], float | None]


@dataclass(frozen=True)
class Column:
    """One figure of every bundle. better: "less", "more", or "" where neither is."""

    head: str
    value: Value
    shown: Callable[[float], str]
    better: str = ""

    def text(self, subject: Subject) -> str:
        """Return the figure of a bundle, a dash where there is none."""
        value = self.value(subject)
        return NONE if value is None else self.shown(value)

    def best(self, subjects: Sequence[Subject]) -> float | None:
        """Return the best figure of the quantized bundles; None of fewer than two, or where they are all equal."""
        values = [value for subject in subjects if not subject.is_exact and (value := self.value(subject)) is not None]
        if not self.better or len(set(values)) < 2:
            return None
        return min(values) if self.better == "less" else max(values)


def _certified(value: Callable[[Certificate], float | None]) -> Value:
    return lambda subject: None if subject.certificate is None else value(subject.certificate)


def _timed(value: Callable[[Speed], float | None]) -> Value:
    return lambda subject: None if subject.speed is None else value(subject.speed)


def _bits(value: float) -> str:
    return f"{value:.2f}"


SIZE = Column("size", lambda subject: subject.n_bytes, megabytes, "less")
BITS = Column("bits/weight", lambda subject: subject.bits_per_weight, _bits, "less")
KL_MEAN = Column("KL mean", lambda subject: subject.kl, significant, "less")
KL_P99 = Column("KL p99", _certified(lambda found: found.kl.p99), significant, "less")
TOP1 = Column("top-1", _certified(lambda found: found.top1), percent, "more")
PERPLEXITY = Column(
    "perplexity", _certified(lambda found: found.perplexity.bundle), lambda value: significant(value, 4), "less"
)
PREFILL_DECODE = Column("prefill/decode KL", _certified(lambda found: found.prefill_decode_kl), significant, "less")
INT8_CACHE = Column("int8 cache KL", _certified(lambda found: found.int8_cache_kl), significant, "less")
PREFILL = Column("prefill tok/s", _timed(lambda found: found.prefill_tokens_per_s), significant, "more")
DECODE = Column("decode tok/s", _timed(lambda found: found.decode_tokens_per_s), significant, "more")
LOAD = Column("load", _timed(lambda found: found.load_s), lambda value: f"{significant(value)} s", "less")
TILE = Column("tile", _timed(lambda found: found.seconds_per_tile), lambda value: f"{significant(value)} s", "less")
ANONYMOUS = Column("anonymous memory", _timed(lambda found: found.anonymous_bytes), megabytes, "less")

COLUMNS = (SIZE, BITS, KL_MEAN, KL_P99, TOP1, PERPLEXITY, PREFILL_DECODE, INT8_CACHE, PREFILL, DECODE)


def known(subjects: Sequence[Subject]) -> list[Column]:
    """Return the columns in which any bundle has a figure."""
    return [column for column in COLUMNS if any(column.value(subject) is not None for subject in subjects)]


def lines(subjects: Sequence[Subject]) -> str:
    """Return the table as text: ids and recipes to the left, figures to the right."""
    columns = known(subjects)
    rows = [["bundle", "recipe", *(column.head for column in columns)]]
    for subject in subjects:
        names = [subject.manifest.id, plain(subject.manifest.recipe.name, most=40)]
        rows.append([*names, *(column.text(subject) for column in columns)])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
