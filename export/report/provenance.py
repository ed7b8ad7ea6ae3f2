"""The sections about how the figures came about: what each bundle is, what was measured where, what the words mean."""

from collections.abc import Iterator, Sequence

from edge.bundle.manifest import Manifest
from export.report.markup import Markup
from export.report.numbers import NONE, count, megabytes, printed
from export.report.parts import folded, section, terms
from export.report.subject import Subject

N_WORST = 5
_N_FILES = 32

MEANINGS = (
    (
        "KL divergence",
        "How far the bundle's next-token probabilities are from those of the model it was made from, in nats; 0 is the "
        "same. The mean is over all positions of the held-out prompts; 99 % of them stay below p99.",
    ),
    ("top-1", "Share of positions at which both find the same token most likely."),
    (
        "perplexity",
        "exp of the mean negative log-likelihood of held-out text. What the bundle loses shows as a higher figure than "
        "the reference's.",
    ),
    (
        "prefill/decode KL",
        "The bundle against itself: one text read at once, and token by token. It should be far below the divergence "
        "from the reference.",
    ),
    (
        "int8 cache KL",
        "The bundle against itself: one text read with keys and values in float32, and in 8 bits.",
    ),
    ("bits/weight", "Bytes of the decoder and its embedding table, scales included, by the number of their weights."),
    ("relative error", "|W − Wq| / |W|, by Frobenius norms, of one tensor."),
)


def details(subjects: Sequence[Subject]) -> Markup:
    """Return what each bundle is, folded, and what the words of the page mean."""
    bundles = [
        folded(f"{subject.manifest.id}", terms(list(_facts(subject)), "facts")) for subject in subjects
    ]  # fmt: skip
    return section("How this was made and measured", *bundles, folded("What the words mean", terms(MEANINGS, "facts")))


def _facts(subject: Subject) -> Iterator[tuple[str, str]]:
    manifest, found = subject.manifest, subject.certificate
    yield "recipe", manifest.recipe.name
    yield "architecture", f"{manifest.source.architecture} (family {manifest.family})"
    if isinstance(manifest, Manifest):
        yield "shape", _shape(manifest)
    yield "weights", megabytes(manifest.memory.weights_bytes)
    yield "cache", f"{count(manifest.memory.cache_bytes_per_token)} bytes for each position"
    worst = sorted(manifest.recipe.tensors.items(), key=lambda item: (-item[1].error, item[0]))[:N_WORST]
    yield "largest errors", "; ".join(f"{name} ({at.scheme}) {printed(at.error)}" for name, at in worst)
    for note in manifest.source.notes[:N_WORST]:
        yield "note", note
    for name, digest in sorted(manifest.source.files.items())[:_N_FILES]:
        yield name, f"sha256 {digest}"
    if found is None:
        yield "certificate", "none"
        return
    yield "certificate", ", ".join(_extent(subject))
    for what, mean, smallest in found.cosines:
        yield what, f"cosine {mean:.6f} mean" + ("" if smallest is None else f", {smallest:.6f} min")
    if found.largest_logit_difference is not None:
        yield "logits", f"{printed(found.largest_logit_difference)} largest difference"
    for name, limit in found.thresholds.items():
        yield f"threshold {name}", f"{limit:g}"
    for words, value in (("measured on", found.machine), ("with", found.versions)):
        if value:
            yield words, value
    for conditions in subject.speed.conditions if subject.speed else ():
        yield "speed measured on", conditions


def _extent(subject: Subject) -> Iterator[str]:
    found = subject.certificate
    if found is None:
        return
    if found.level is not None:
        yield found.level
    if found.positions is not None:
        yield f"{count(found.positions)} positions"
    if found.evaluation is not None:
        yield f"texts of {found.evaluation} (sha256 {(found.evaluation_sha256 or NONE)[:12]})"
    if found.wall_s is not None:
        yield f"{found.wall_s:.0f} s"


def _shape(manifest: Manifest) -> str:
    text_spec = manifest.text
    return (
        f"{text_spec.n_layers} layers, hidden {text_spec.hidden_size}, intermediate {text_spec.intermediate_size}, "
        f"{text_spec.n_heads} query and {text_spec.n_kv_heads} key/value heads of {text_spec.head_dim}, "
        f"vocabulary {count(text_spec.vocab_size)}, context {count(text_spec.context)}"
    )
