"""What a certificate says, read from a file that may be older than this version, or untrusted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.bundle.bundle import read_small
from edge.bundle.manifest import CERTIFICATE
from edge.bundle.strict_json import load
from edge.errors import BundleError
from export.errors import ReportError
from export.report.fields import Fields

MAX_SETS: Final = 16
MAX_POSITIONS: Final = 1 << 16  # of one set
MAX_LINES: Final = 16


@dataclass(frozen=True)
class Divergence:
    """KL(reference || bundle) in nats over the positions of a set."""

    mean: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True)
class Perplexity:
    """The bundle's on held-out text, and the reference's on the same."""

    bundle: float | None
    reference: float | None


@dataclass(frozen=True)
class TextSet:
    """One kind of held-out text: its figures, and the divergence at some of its positions, sorted."""

    name: str
    positions: int | None
    kl: Divergence
    top1: float | None
    perplexity: Perplexity
    kl_positions: tuple[float, ...]


@dataclass(frozen=True)
class Certificate:
    """The figures of one bundle, each None where its certificate has none.

    evaluation, evaluation_sha256: the held-out texts, as a file's name and digest;
    cosines: (what, mean, smallest) of embeddings; thresholds: what the recipe asks for; missed: what was not reached;
    machine, versions: where it was measured.
    """

    level: str | None
    positions: int | None
    evaluation: str | None
    evaluation_sha256: str | None
    kl: Divergence
    top1: float | None
    largest_logit_difference: float | None
    perplexity: Perplexity
    prefill_decode_kl: float | None
    int8_cache_kl: float | None
    cosines: tuple[tuple[str, float, float | None], ...]
    sets: tuple[TextSet, ...]
    thresholds: Mapping[str, float]
    missed: tuple[str, ...]
    wall_s: float | None
    machine: str
    versions: str


def read(folder: Path) -> Certificate | None:
    """Read the certificate of a bundle's folder; None where it has none. Raises: ReportError naming file and key."""
    path = folder / CERTIFICATE
    try:
        return parse(read_small(path), file=str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except BundleError as error:
        raise ReportError(str(error)) from error


def parse(data: bytes, *, file: str) -> Certificate:
    """Parse a certificate: keys may be missing or unknown, values are of their kinds. Raises: ReportError."""
    try:
        fields = Fields(load(data, file=file), file)
    except BundleError as error:
        raise ReportError(str(error)) from error
    return Certificate(
        level=fields.text("level"),
        positions=fields.whole("positions"),
        evaluation=fields.child("evaluation").text("file"),
        evaluation_sha256=fields.child("evaluation").text("sha256"),
        kl=_divergence(fields),
        top1=_share(fields, "top1_agreement"),
        largest_logit_difference=fields.number("largest_logit_difference", low=0),
        perplexity=_perplexity(fields),
        prefill_decode_kl=_prefill_decode(fields),
        int8_cache_kl=_int8_cache(fields),
        cosines=tuple(_cosines(fields)),
        sets=_sets(fields),
        thresholds=_thresholds(fields.child("thresholds")),
        missed=fields.texts("missed", most=MAX_LINES),
        wall_s=fields.number("wall_s", low=0),
        machine=_machine(fields.child("machine")),
        versions=_versions(fields.child("versions")),
    )


def _divergence(fields: Fields) -> Divergence:
    kl = fields.child("kl")
    return Divergence(kl.number("mean", low=0), kl.number("p99", low=0), kl.number("max", low=0))


def _share(fields: Fields, key: str) -> float | None:
    return fields.number(key, low=0, high=1)


def _perplexity(fields: Fields) -> Perplexity:
    found = fields.child("perplexity")
    return Perplexity(found.number("bundle", low=0), found.number("reference", low=0))


def _prefill_decode(fields: Fields) -> float | None:
    """The mean divergence between the bundle's own logits by prefill and by decode."""
    return _divergence(fields.child("prefill_decode")).mean


def _int8_cache(fields: Fields) -> float | None:
    """The mean divergence between the bundle's own logits with keys and values in float32 and in 8 bits."""
    return _divergence(fields.child("int8_cache").child("to_float32")).mean


def _cosines(fields: Fields) -> Iterator[tuple[str, float, float | None]]:
    for key, what in (("image_cosine", "image embeddings"), ("encoder_cosine", "encoder rows")):
        found = fields.child(key)
        mean = found.number("mean", low=-1.001, high=1.001)
        if mean is not None:
            yield what, mean, found.number("min", low=-1.001, high=1.001)


def _sets(fields: Fields) -> tuple[TextSet, ...]:
    """The sets in the order of the certificate; those that only have positions come last."""
    positions = {}
    for entry in fields.children("kl_positions", most=MAX_SETS):
        name = entry.text("set") or "all"
        positions[name] = tuple(sorted(entry.numbers("kl", most=MAX_POSITIONS, low=0)))
    figures = fields.child("sets")
    names = list(figures.data)
    if len(names) > MAX_SETS:
        raise ReportError(f"{fields.file}: sets: expected at most {MAX_SETS}, got {len(names)}")
    return tuple(
        _set(name, figures.child(name), positions.get(name, ())) for name in [*names, *(positions.keys() - names)]
    )


def _set(name: str, fields: Fields, kl_positions: tuple[float, ...]) -> TextSet:
    return TextSet(
        name=name,
        positions=fields.whole("positions"),
        kl=_divergence(fields),
        top1=_share(fields, "top1_agreement"),
        perplexity=_perplexity(fields),
        kl_positions=kl_positions,
    )


def _thresholds(fields: Fields) -> dict[str, float]:
    found = {name: fields.number(name) for name in sorted(fields.data)[:MAX_LINES]}
    return {name: value for name, value in found.items() if value is not None}


def _machine(fields: Fields) -> str:
    cores = fields.whole("cores")
    words = [fields.text(key) or "" for key in ("processor", "architecture", "system")]
    return ", ".join([*filter(None, words), *([f"{cores} cores"] if cores else [])])


def _versions(fields: Fields) -> str:
    return ", ".join(f"{name} {fields.text(name)}" for name in sorted(fields.data)[:MAX_LINES] if fields.text(name))
