"""What a report knows of each bundle: its manifest, its certificate and its speed, side by side."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge.bundle.bundle import read_small
from edge.bundle.manifest import (
    MANIFEST,
    Manifest,
    SpeechManifest,
    TensorRecord,
    TextSpec,
    VoiceManifest,
    parse_manifest,
)
from edge.errors import BundleError
from export.errors import ReportError
from export.report import certificate, speed
from export.report.certificate import Certificate
from export.report.speed import Speed

MAX_BUNDLES: Final = 24
_MAX_LABEL = 28
_KERNEL_MULTIPLE = 16  # a rotated part that is none of it is filled up to the whole head
_SHARED = "int8-block32"  # the scheme in which a tied table is stored once


@dataclass(frozen=True)
class Subject:
    """One bundle. label: what tells it from the others; number: its place among them, which its mark is chosen by.

    leads: no other bundle is both smaller and closer to its reference.
    """

    path: Path
    manifest: Manifest | SpeechManifest
    certificate: Certificate | None
    speed: Speed | None = None
    label: str = ""
    number: int = 0
    leads: bool = True

    @property
    def n_bytes(self) -> int:
        """All files that the manifest lists, in bytes."""
        return sum(entry.bytes for entry in self.manifest.files.values())

    @property
    def kl(self) -> float | None:
        """The mean KL divergence to the reference in nats, None without a certificate."""
        return None if self.certificate is None else self.certificate.kl.mean

    @property
    def is_exact(self) -> bool:
        """Whether every tensor is stored as float32, so that no other bundle can be closer to the reference."""
        return all(record.scheme == "fp32" for record in self.manifest.recipe.tensors.values())

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of a weight of the decoder and its embedding table, scales included; None for a speech bundle."""
        if not isinstance(self.manifest, Manifest):
            return None
        files = self.manifest.files
        stored = files["decoder.bin"].bytes + files["embedding.bin"].bytes - _rotary_bytes(self.manifest.text)
        return 8 * max(0, stored) / n_weights(self.manifest)


def n_weights(manifest: Manifest) -> int:
    """Return how many weights a decoder has: linear layers, embedding table and, where it is one, the head."""
    text = manifest.text
    attention = 2 * (text.n_heads + text.n_kv_heads) * text.head_dim * text.hidden_size
    feed_forward = 3 * text.hidden_size * text.intermediate_size
    tables = 2 if _has_own_head(manifest.recipe.tensors) else 1
    return text.n_layers * (attention + feed_forward) + tables * text.vocab_size * text.hidden_size


def _rotary_bytes(text: TextSpec) -> int:
    """Return the bytes of the cos and sin tables in decoder.bin. Source: export.graphs.rotary."""
    rotated = round(text.head_dim * text.rotary_share)
    return 4 * text.context * (rotated if rotated % _KERNEL_MULTIPLE == 0 else text.head_dim)


def _has_own_head(tensors: Mapping[str, TensorRecord]) -> bool:
    """Whether the head has weights of its own: one that multiplies with the embedding table has the table's record."""
    head = tensors.get("decoder.head")
    return head is not None and not (head.scheme == _SHARED and head == tensors.get("decoder.embed"))


def read(paths: Sequence[Path], benches: Sequence[Path] = ()) -> tuple[Subject, ...]:
    """Read bundles: of each only the manifest and the certificate, so these two files are enough.

    benches: files of measurements, see `speed.read`. Raises: ReportError naming the file and what is wrong with it.
    """
    if not 1 <= len(paths) <= MAX_BUNDLES:
        raise ReportError(f"expected 1 to {MAX_BUNDLES} bundles, got {len(paths)}")
    subjects = [Subject(path, _manifest(path), certificate.read(path)) for path in paths]
    ids = [subject.manifest.id for subject in subjects]
    speeds, labels, leading = speed.read(benches, ids), _labels(ids, paths), _leading(subjects)
    return tuple(
        replace(
            subject, speed=speeds.get(subject.manifest.id), label=labels[number], number=number,
            leads=number in leading or subject.kl is None,
        )
        for number, subject in enumerate(subjects)
    )  # fmt: skip


def _manifest(path: Path) -> Manifest | SpeechManifest:
    try:
        manifest = parse_manifest(read_small(path / MANIFEST), file=str(path / MANIFEST))
    except OSError as error:
        raise ReportError(f"{path}: not a bundle: {MANIFEST} cannot be read: {error.strerror}") from error
    except BundleError as error:
        raise ReportError(str(error)) from error
    if isinstance(manifest, VoiceManifest):
        raise ReportError(f"{path}: {manifest.id} is a voice: a report is of chat and speech bundles")
    return manifest


def _labels(ids: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Return short names: ids without the words that they all begin with; folders and numbers where ids are equal."""
    names = list(ids)
    if max(Counter(names).values()) > 1:
        names = [path.absolute().name for path in paths]
    if max(Counter(names).values()) > 1:
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    prefix = shared_words(names)
    return [_short(name[len(prefix) :].removeprefix("-")) for name in names]


def shared_words(names: Sequence[str]) -> str:
    """Return the words between dashes that several different names all begin with, none of them whole."""
    words = [name.split("-") for name in names]
    n_shared = 0
    while len(names) > 1 and all(
        len(parts) > n_shared + 1 and parts[n_shared] == words[0][n_shared] for parts in words
    ):
        n_shared += 1
    return "-".join(words[0][:n_shared])


def _short(name: str) -> str:
    """Return a name cut in its middle: ids differ at their ends."""
    half = _MAX_LABEL // 2
    return name if len(name) <= _MAX_LABEL else f"{name[: half - 1]}…{name[-half:]}"


def _leading(subjects: Sequence[Subject]) -> set[int]:
    """Return which bundles no other one beats: as small and closer, or as close and smaller."""
    known = {number: (subject.n_bytes, subject.kl) for number, subject in enumerate(subjects) if subject.kl is not None}
    return {number for number, own in known.items() if not any(_beats(other, own) for other in known.values())}


def _beats(one: tuple[int, float | None], other: tuple[int, float | None]) -> bool:
    (size, kl), (other_size, other_kl) = one, other
    return kl is not None and other_kl is not None and size <= other_size and kl <= other_kl and one != other
