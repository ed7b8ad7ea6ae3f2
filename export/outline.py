"""What an export is about to do, in a few lines, before it does anything: model, bundle, disk, memory."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.bundle.manifest import PromptSpec
from edge.bundle.sizes import stored_bytes
from export import calibrate
from export.certificate.extent import EXTENTS, Level
from export.checkpoint.config import Family, ModelConfig, TextConfig
from export.checkpoint.hub import origin
from export.checkpoint.names import expected
from export.checkpoint.whisper import ARCHITECTURE, WhisperCheckpoint
from export.plan import GRAPH_BYTES
from export.recipe import Recipe

# Measured: the libraries take 165 MiB. Without calibration, rows are quantized a few at a time, whatever the model.
LIBRARIES_BYTES: Final = 300 << 20
RUN_BYTES: Final = 200 << 20
COPIES: Final = 4  # of a speech model's weights, in float32
_HESSIANS: Final = 3  # of the layer that is calibrated: the sums, their factor, and what it is computed in

_FAMILIES: Mapping[Family, str] = {
    "yasa2": "Reka Edge (ConvNeXt V2): text and images", "siglip": "Reka's SigLIP family: text and images",
    "yasa": "Reka's text-only family: text", "llama": "Llama format: text",
}  # fmt: skip
_FORMATS: Mapping[str, str] = {
    "yasa": "Reka Edge", "yasa-timed": "Reka Edge, with times at frames", "flash": "Reka Flash", "chatml": "ChatML",
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Bytes: of the bundle, of what the certificate keeps beside it, and free on the disk."""

    bundle: int
    scratch: int
    free: int


@dataclass(frozen=True)
class Outline:
    """What is known before an export begins; sizes are estimates, in bytes.

    model: its family in words; n_parameters: of all weights, tied ones once; positions: of calibration, 0 without;
    calibration_s: the seconds that it takes at least, those for images apart;
    scratch_bytes: of the certificate, beside the bundle until that is published.
    """

    checkpoint: Path
    architecture: str
    model: str
    n_parameters: int
    prompt: str
    id: str
    recipe: str
    sizes: Sizes
    memory_bytes: int
    positions: int
    calibration_s: float
    level: Level | None
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def of_model(
    checkpoint: Path,
    config: ModelConfig,
    prompt: PromptSpec,
    recipe: Recipe,
    id: str,  # noqa: A002  (the manifest's own word)
    level: Level | None,
    sizes: Sizes,
    notes: tuple[str, ...],
) -> Outline:
    """The outline of a chat model's export."""
    text = config.text
    positions = calibrate.n_positions(text.hidden_size) if recipe.calibrate else 0
    return Outline(
        checkpoint, config.architecture, model_in_words(config), n_parameters(config), prompt_in_words(prompt), id,
        recipe.name, sizes, memory_bytes(text, positions=positions), positions, _calibration_s(text, recipe, positions),
        level, config.ignored, notes,
    )  # fmt: skip


def of_whisper(
    checkpoint: Path,
    recipe: Recipe,
    id: str,  # noqa: A002  (the manifest's own word)
    level: Level | None,
    free: int,
) -> Outline:
    """The outline of a speech model's export, which transformers loads whole. Raises: as WhisperCheckpoint.open."""
    source = WhisperCheckpoint.open(checkpoint)
    scheme = recipe.scheme("encoder.layers.0.fc1", n_layers=source.spec.n_layers)
    n_rows = source.n_weights // source.spec.hidden_size + source.spec.vocab_size  # the head is stored on its own
    n_bytes = stored_bytes(n_rows, source.spec.hidden_size, scheme)
    sizes = Sizes(GRAPH_BYTES + n_bytes + len(source.tokenizer_json), 0, free)
    memory = LIBRARIES_BYTES + COPIES * 4 * source.n_weights
    return Outline(
        checkpoint, ARCHITECTURE, "Whisper: audio to text", source.n_weights, "", id, recipe.name, sizes, memory, 0, 0,
        level, source.ignored, (),
    )  # fmt: skip


def model_in_words(config: ModelConfig) -> str:
    """A model's family, and what it accepts."""
    return _FAMILIES[config.family] + (" and audio" if config.audio is not None else "")


def prompt_in_words(prompt: PromptSpec) -> str:
    """A prompt format, and what it has beside."""
    parts = [f"format of {_FORMATS[prompt.format]}"]
    parts += [f"default system message of {len(prompt.system)} characters"] if prompt.system is not None else []
    parts += ["tools" if prompt.tools is not None else "no tools"]
    return ", ".join(parts)


def n_parameters(config: ModelConfig) -> int:
    """How many weights a model has; a head that is the embedding table counts once."""
    return sum(math.prod(shape) for role, shape in expected(config) if not (role == "text.head" and config.text.tied))


def memory_bytes(text: TextConfig, *, positions: int) -> int:
    """What an export takes of its own, mapped files and the certificate apart. positions: of calibration, 0 without."""
    if positions == 0:
        return LIBRARIES_BYTES + RUN_BYTES
    inner = text.n_heads * text.head_dim
    parts = (
        (text.hidden_size, inner + 2 * text.n_kv_heads * text.head_dim), (inner, text.hidden_size),
        (text.hidden_size, 2 * text.intermediate_size), (text.intermediate_size, text.hidden_size),
    )  # fmt: skip
    largest = max(
        _HESSIANS * n_in * n_in + 2 * n_in * n_out + positions * (text.hidden_size + max(n_in, n_out))
        for n_in, n_out in parts
    )
    return LIBRARIES_BYTES + RUN_BYTES + 4 * largest


def _calibration_s(text: TextConfig, recipe: Recipe, positions: int) -> float:
    if positions == 0:
        return 0
    operations = calibrate.operations(text, positions=positions, searched=recipe.search is not None)
    return operations / calibrate.operations_per_s()


def lines(outline: Outline) -> Iterator[tuple[str, str]]:
    """An outline as (heading, text)."""
    billions = outline.n_parameters / 1e9
    count = f"{billions:.2f} billion" if billions >= 1 else f"{outline.n_parameters / 1e6:,.1f} million"
    found = origin(outline.checkpoint)
    where = outline.checkpoint if found is None else f"{found.repository} at {found.revision[:12]}"
    yield "model", f"{where}: {outline.architecture}, {count} parameters"
    yield "", outline.model
    if outline.prompt:
        yield "prompt", outline.prompt
    yield "bundle", f"{outline.id}, recipe {outline.recipe}: about {_size(outline.sizes.bundle)}"
    beside = f", {_size(outline.sizes.scratch)} beside it for the certificate" if outline.sizes.scratch else ""
    yield "disk", f"{_size(outline.sizes.free)} free{beside}"
    calibration = f", calibration with up to {outline.positions:,} positions included" if outline.positions else ""
    beyond = "; the certificate, in a process of its own, may take more" if outline.level is not None else ""
    yield "memory", f"about {_size(outline.memory_bytes)}{calibration}; files are mapped{beyond}"
    if outline.positions:
        minutes = max(1, round(outline.calibration_s / 60))
        yield "calibration", f"about {minutes} min or more on this machine; --calibrate off exports without it"
    level = outline.level
    compared = f", up to {EXTENTS[level].positions:,} positions compared" if level and outline.prompt else ""
    yield "certificate", "none" if level is None else f"{level}{compared}"
    if outline.ignored:
        yield "not read", f"keys of the configuration: {', '.join(outline.ignored)}"
    for note in outline.notes:
        yield "note", note


def _size(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 30):,.1f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / (1 << 20):,.0f} MiB"
