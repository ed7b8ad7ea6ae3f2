"""From a Whisper checkpoint to a speech bundle: read, trace, quantize, describe, measure."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge.bundle.bundle import SpeechBundle
from edge.bundle.manifest import (
    CERTIFICATE,
    FORMAT,
    MANIFEST,
    MemorySpec,
    RecipeRecord,
    Source,
    SpeechManifest,
    cache_bytes_per_token,
    dump_manifest,
)
from edge.errors import BundleError
from export import pack
from export.certificate import certify, speech
from export.certificate.extent import Level
from export.checkpoint.files import plain_file
from export.checkpoint.hub import origin
from export.checkpoint.prompt import no_choice
from export.checkpoint.whisper import ARCHITECTURE, TOKENIZER, WhisperCheckpoint
from export.errors import OutputError, UnsupportedError
from export.graphs.speech import write_speech
from export.recipe import Recipe

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)

# What is on disk at once, in float32 weights: optimum's three graphs, of which two hold the whole decoder, and ours.
_COPIES: Final = 4


def write_bundle(
    work: pack.Workspace,
    checkpoint: Path,
    *,
    recipe: Recipe,
    id: str,  # noqa: A002  (the manifest's own word)
    aliases: tuple[str, ...],
    min_runtime: str,
    level: Level | None,
    strict: bool,
    report: Report,
) -> None:
    """Write a speech bundle into a workspace; level: of its certificate, None for none.

    strict: whether a threshold of the recipe that is missed is an error.
    Raises: ExportError of the kind that names the cause; CertificateError, if strict, for a missed threshold.
    """
    source = WhisperCheckpoint.open(checkpoint)
    pack.check_space(work, _COPIES * 4 * source.n_weights + len(source.tokenizer_json))
    model = source.model()
    done = 0

    def advance(_path: str, count: int) -> None:
        nonlocal done
        done += count
        report("weights", min(done, source.n_weights - 1), source.n_weights)

    report("tracing", 0, 1)
    tensors = write_speech(
        model, source.spec, recipe, work.bundle, scratch=work.scratch, traced=lambda: report("tracing", 1, 1),
        progress=advance,
    )  # fmt: skip
    (work.bundle / TOKENIZER).write_bytes(source.tokenizer_json)
    report("weights", source.n_weights, source.n_weights)  # with those that no recipe speaks of
    manifest = _manifest(source, work.bundle, RecipeRecord(recipe.name, tensors), id, aliases, min_runtime)
    try:
        (work.bundle / MANIFEST).write_bytes(dump_manifest(manifest))
        SpeechBundle.open(work.bundle)
    except BundleError as error:
        raise OutputError(f"what was written is not a bundle: {error}") from error
    report("source", 1, 1)
    if level is not None:
        data = speech.measure(work.bundle, manifest, model, recipe, level, report)
        certify.check(data, recipe=recipe.name, strict=strict)
        (work.bundle / CERTIFICATE).write_bytes(data)


def check(recipe: Recipe, mmproj: Path | None, prompt_format: str | None, evaluate: Path | None) -> None:
    """Refuse what says nothing to a Whisper model. Raises: UnsupportedError."""
    if prompt_format is not None:
        raise no_choice(prompt_format, "a Whisper model")
    if evaluate is not None:
        raise UnsupportedError("--evaluate: a speech bundle is measured on made sounds; expected no text")
    if recipe.activations != "fp32":
        raise UnsupportedError(
            f"recipe {recipe.name}: a Whisper model is not supported with {recipe.activations} activations: use"
            " --recipe fp32, whose encoder runs on a GPU as it is"
        )
    if mmproj is not None or recipe.carry:
        raise UnsupportedError("--mmproj and recipe carry belong to a GGUF file, and a Whisper model is none")


def _manifest(
    source: WhisperCheckpoint,
    folder: Path,
    recipe: RecipeRecord,
    name: str,
    aliases: tuple[str, ...],
    min_runtime: str,
) -> SpeechManifest:
    spec, files = source.spec, pack.file_entries(folder)
    return SpeechManifest(
        format=FORMAT,
        id=name,
        aliases=aliases,
        family="whisper",
        min_runtime=min_runtime,
        source=_source(source),
        recipe=recipe,
        speech=spec,
        memory=MemorySpec(
            weights_bytes=sum(entry.bytes for file, entry in files.items() if file.endswith(".bin")),
            cache_bytes_per_token=cache_bytes_per_token(
                n_layers=spec.n_layers, n_kv_heads=spec.n_heads, head_dim=spec.head_dim
            ),
        ),
        files=files,
    )


def _source(checkpoint: WhisperCheckpoint) -> Source:
    found = origin(checkpoint.path)
    repository, revision = (None, None) if found is None else (found.repository, found.revision)
    return Source(ARCHITECTURE, _hashes(checkpoint), checkpoint.ignored, (), repository, revision)


def _hashes(source: WhisperCheckpoint) -> dict[str, str]:
    """Hash every file that was read."""
    hashes = {}
    for name in sorted(source.files):
        with plain_file(source.path, name).open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
