"""What the figures say, in sentences: which bundle is smallest, closest, fastest, beaten; what was missed."""

from collections.abc import Callable, Iterator, Sequence

from export.report.certificate import Certificate
from export.report.numbers import megabytes, percent, printed
from export.report.subject import Subject


def findings(subjects: Sequence[Subject]) -> Iterator[str]:
    """Yield what is to be seen in several bundles, most important first."""
    stored = [subject for subject in subjects if not subject.is_exact]
    certified = [subject for subject in stored if subject.kl is not None]
    if len(stored) > 1:
        smallest = min(stored, key=lambda subject: subject.n_bytes)
        largest = max(subjects, key=lambda subject: subject.n_bytes)
        share = f", {percent(smallest.n_bytes / largest.n_bytes)} of {largest.label}" if largest is not smallest else ""
        yield f"{smallest.label} is the smallest: {megabytes(smallest.n_bytes)}{share}."
    if len(certified) > 1:
        closest = min(certified, key=lambda subject: subject.kl or 0.0)
        top1 = closest.certificate.top1 if closest.certificate else None
        agreed = f", the same most likely token at {percent(top1)} of the positions" if top1 is not None else ""
        yield f"{closest.label} is the closest to its reference: mean KL {printed(closest.kl or 0.0)}{agreed}."
    yield from _fastest(subjects)
    yield from _beaten(subjects)


def missed(subjects: Sequence[Subject]) -> Iterator[str]:
    """Yield each threshold of a recipe that its bundle misses."""
    for subject in subjects:
        for line in subject.certificate.missed if subject.certificate else ():
            yield f"{subject.label} misses a threshold of its recipe: {line}."


def cautions(subjects: Sequence[Subject]) -> Iterator[str]:
    """Yield what a reader must know before comparing: what was not measured, and what does not compare."""
    without = [subject.label for subject in subjects if subject.certificate is None]
    if without:
        yield f"Without a certificate, so that nobody knows what quantization cost: {', '.join(without)}."
    if _differ(subjects, _source):
        yield "The bundles were made from different checkpoints; each is compared with its own."
    extents: dict[str, list[str]] = {}
    for subject in subjects:
        if subject.certificate is not None:
            extents.setdefault(_measured_on(subject.certificate), []).append(subject.label)
    if len(extents) > 1:
        groups = "; ".join(f"{extent}: {', '.join(labels)}" for extent, labels in extents.items())
        yield f"The certificates differ in extent or texts, so their figures compare only roughly. {groups}."


def _fastest(subjects: Sequence[Subject]) -> Iterator[str]:
    timed = [(subject.speed.decode_tokens_per_s, subject) for subject in subjects if subject.speed]
    known = sorted(
        ((speed, subject) for speed, subject in timed if speed), key=lambda pair: (-pair[0], pair[1].number)
    )  # fmt: skip
    if len(known) > 1:
        (first, fastest), (second, next_one) = known[:2]
        yield (
            f"{fastest.label} generates fastest: {printed(first)} tokens/s, "
            f"{first / second:.2f} times as many as {next_one.label}."
        )


def _beaten(subjects: Sequence[Subject]) -> Iterator[str]:
    for subject in subjects:
        if subject.leads or subject.kl is None:
            continue
        better = [
            other for other in subjects
            if other.leads and other.kl is not None and other.kl <= subject.kl and other.n_bytes <= subject.n_bytes
        ]  # fmt: skip
        if better:
            other = min(better, key=lambda one: one.kl or 0.0)
            yield f"{subject.label} is beaten by {other.label}, which is no larger and no further from its reference."


def _differ(subjects: Sequence[Subject], key: Callable[[Subject], object]) -> bool:
    return len({value for subject in subjects if (value := key(subject)) is not None}) > 1


def _source(subject: Subject) -> object:
    """What a bundle was made from: the digests of its weights."""
    files = subject.manifest.source.files
    return tuple(sorted(digest for name, digest in files.items() if name.endswith((".safetensors", ".gguf"))))


def _measured_on(found: Certificate) -> str:
    kinds = ", ".join(one.name for one in found.sets)
    digest = f", texts {found.evaluation_sha256[:8]}" if found.evaluation_sha256 else ""
    return f"{found.level or 'unknown'}{f' ({kinds}{digest})' if kinds else ''}"
