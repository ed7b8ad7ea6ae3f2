"""From a checkpoint to a bundle, in one page: read, plan, write the graphs, describe them, measure, publish."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from edge.bundle.bundle import Bundle
from edge.bundle.manifest import (
    CERTIFICATE,
    FORMAT,
    MANIFEST,
    AudioSpec,
    FileEntry,
    Manifest,
    MemorySpec,
    PromptSpec,
    RecipeRecord,
    Source,
    TensorRecord,
    cache_bytes_per_token,
    dump_manifest,
)
from edge.engine.tokenizer import Tokenizer
from edge.errors import BundleError
from edge.version import RUNTIME_VERSION
from export import cache_scales, outline, pack, speech
from export import calibrate as calibration
from export.arrays import F32
from export.certificate import certify
from export.certificate.readable import check_tokenizer
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.config import ModelConfig
from export.checkpoint.files import has_file, plain_file
from export.checkpoint.gguf.header import is_gguf
from export.checkpoint.gguf.source import is_quantized
from export.checkpoint.hub import name_of, origin
from export.checkpoint.names import Weights
from export.checkpoint.prompt import prompt_of
from export.checkpoint.prompt_format import TEMPLATE
from export.checkpoint.tokenizer import TOKENIZER, TokenizerFiles, control_of, convert
from export.checkpoint.towers import SiglipConfig
from export.checkpoint.whisper import is_whisper
from export.choices import CARRY, CERTIFICATE_LEVEL, RECIPE, SEARCHED_RECIPE, CertificateLevel
from export.errors import OutputError, RecipeError, UnsupportedError
from export.graphs import cuda
from export.graphs.audio import write_audio
from export.graphs.rotary import head_order
from export.graphs.siglip import write_siglip
from export.graphs.table import PATH, is_shared, write_embedding
from export.graphs.text import write_decoder
from export.graphs.vision import write_vision
from export.journal import VERSION as JOURNAL_VERSION
from export.journal import Journal
from export.memory import PeakMemory
from export.naming import checked_aliases, default_id
from export.outline import Outline
from export.plan import Plan, layer_bytes, plan, recipe_path, scratch_bytes
from export.quantize import carry
from export.quantize.calibration import Calibration
from export.quantize.rotation import RotatedWeights
from export.recipe import Recipe, dump, load, save
from export.specs import text_spec, vision_spec
from export.target import Target, settled
from export.texts.read import read, shipped_calibration

MIN_RUNTIME: Final = "0.2.0"  # the first that reads what is written here


@dataclass(frozen=True)
class Step:
    """Progress: `done` of `total` of a stage, in weights, bytes, tokens or layers."""

    stage: str
    done: int
    total: int


Progress = Callable[[Step], None]


def build(
    checkpoint: Path,
    out: Path,
    *,
    recipe: str | None = None,
    id: str | None = None,  # noqa: A002  (the manifest's own word)
    aliases: Sequence[str] = (),
    certificate: CertificateLevel = CERTIFICATE_LEVEL,
    evaluate: Path | None = None,
    strict: bool = False,
    ranks: Path | None = None,
    mmproj: Path | None = None,
    prompt_format: str | None = None,
    calibrate: Path | Literal["off"] | None = None,
    target: Target | None = None,
    save_recipe: Path | None = None,
    progress: Progress | None = None,
    announce: Callable[[Outline], None] | None = None,
) -> Path:
    """Export a checkpoint to the bundle folder `out`, which appears complete or not at all. Returns `out`.

    checkpoint: a folder or a GGUF file; recipe: a shipped one or a .toml file, int8 unless given (carry for a
    quantized GGUF file); id: of the bundle, FOLDER-RECIPE unless given (of a checkpoint in `runs/1b` and int4-mixed:
    1b-int4-mixed); aliases: further names for it;
    evaluate: a .txt or .jsonl file that the certificate measures with, the one that is included unless given; strict:
    whether a threshold of the recipe that is missed is an error, and not a warning in the certificate;
    ranks: a .tiktoken file for a checkpoint without tokenizer.json; mmproj: the projector of a GGUF file;
    prompt_format: "chatml" or "flash", for a Llama-format model, whatever its chat template is;
    calibrate: a .jsonl file of texts to calibrate with, whatever the recipe says, "off" to round to the nearest, the
    shipped texts for a recipe that calibrates unless given; target: what a search for the layers' schemes has to keep
    within; save_recipe: where to write the recipe that was exported;
    announce: called with what will be done, before anything is.
    Raises: ExportError, of the kind that names the cause; CertificateError, if strict, for a missed threshold.
    """
    out, tell = out.absolute(), progress or _silent
    if save_recipe is not None and not save_recipe.absolute().parent.is_dir():
        raise OutputError(f"{save_recipe}: its folder does not exist")
    recipe = recipe if recipe is not None else SEARCHED_RECIPE if target is not None else default_recipe(checkpoint)
    chosen = settled(load(recipe), calibrate, target)
    name = id if id is not None else default_id(name_of(checkpoint), chosen.name)
    names = checked_aliases(name, aliases)
    if evaluate is not None:
        read(evaluate)  # what is wrong with it is said now, not after an hour
    level = None if certificate == "off" else certificate
    with PeakMemory() as memory, pack.workspace(out) as work:
        if is_whisper(checkpoint):
            pack.begin_anew(work)
            speech.check(chosen, mmproj, prompt_format, evaluate)
            if target is not None or isinstance(calibrate, Path):
                raise UnsupportedError(
                    "--calibrate FILE, --target-size and --target-kl are not supported for a Whisper model: its layers"
                    " are stored as the rules of the recipe say"
                )
            if announce is not None:
                announce(outline.of_whisper(checkpoint, chosen, name, level, pack.free_bytes(work)))
            speech.write_bundle(
                work, checkpoint, recipe=chosen, id=name, aliases=names, min_runtime=MIN_RUNTIME, level=level,
                strict=strict, report=_steps(tell),
            )  # fmt: skip
            pack.publish(work)
            save(chosen, save_recipe)
            return out
        export = _Export.read(checkpoint, chosen, ranks, mmproj, prompt_format)
        scratch = 0 if certificate == "off" else scratch_bytes(export.config.text, certificate)
        if export.recipe.calibrate and (target is not None or export.recipe.search is not None):
            scratch = max(scratch, calibration.scratch_bytes(export.config.text))
        sizes = outline.Sizes(export.size(target), scratch, pack.free_bytes(work))
        if announce is not None:
            announce(
                outline.of_model(checkpoint, export.config, export.prompt, chosen, name, level, sizes, export.notes)
            )
        pack.check_space(work, sizes.bundle + scratch)
        data = export.calibration_data(calibrate, tell) if export.recipe.calibrate else []
        if data and (target is not None or export.recipe.search is not None):
            export = export.searched(data, target, work.scratch, tell)
        journal = None
        if data:  # it is carried from layer to layer
            pack.begin_anew(work)
        else:
            journal = Journal(work.journal, work.bundle, key=_key(export.weights, export.recipe, name))
            if journal.n_found:
                tell(Step("resumed", journal.n_found, journal.n_found))
        tensors = export.write(work.bundle, data, journal, tell)
        _finish(work.bundle, export.manifest(name, names, tensors, pack.file_entries(work.bundle), tell), tell)
        if certificate != "off":
            request = certify.Request(
                work.bundle, checkpoint, certificate, recipe, work.scratch, memory.peak(), mmproj, evaluate, strict
            )
            measured = certify.run(request, _steps(tell))
            (work.bundle / CERTIFICATE).write_bytes(measured)
        pack.publish(work)
    save(export.recipe, save_recipe)
    return out


def _describe(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes a folder a bundle. Raises: OutputError when it is none all the same."""
    try:
        (folder / MANIFEST).write_bytes(dump_manifest(manifest))
        Bundle.open(folder)
    except BundleError as error:
        raise OutputError(f"what was written is not a bundle: {error}") from error


def _finish(folder: Path, manifest: Manifest, tell: Progress) -> None:
    """Make a folder a bundle, which then reads text for its cache of 8 bits; one of float16 is for GPUs, and has none.

    Raises: OutputError, EdgeError, GraphError for a graph of float16 with an operator that no GPU computes.
    """
    _describe(folder, manifest)
    if manifest.recipe.activations == "fp16":
        cuda.check(folder)
    else:
        _describe(folder, cache_scales.added(folder, manifest, read(shipped_calibration()), _steps(tell)))


def read_small(
    path: Path, config: ModelConfig, ranks: Path | None, prompt_format: str | None
) -> tuple[TokenizerFiles, PromptSpec, tuple[str, ...], tuple[str, ...]]:
    """What is read of a checkpoint beside its weights: tokenizer, prompt, the files of the latter, notes for people.

    ranks, prompt_format: as for `build`. Raises: ExportError, of the kind that names the cause.
    """
    is_llama = config.family == "llama"
    needed = () if is_llama else control_of(config.family, sound=config.audio is not None)
    tokenizer = convert(path, ranks=ranks, needed=needed, general=is_llama)
    check_tokenizer(tokenizer, vocab_size=config.text.vocab_size)
    prompt, notes, files = prompt_of(path, config, tokenizer, chosen=prompt_format)
    return tokenizer, prompt, files, (*tokenizer.notes, *notes)


@dataclass(frozen=True, eq=False)
class _Export:
    """What was read: everything the bundle is made of."""

    weights: Weights
    config: ModelConfig
    recipe: Recipe
    tokenizer: TokenizerFiles
    prompt: PromptSpec
    prompt_files: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def read(
        cls, path: Path, recipe: Recipe, ranks: Path | None, mmproj: Path | None, prompt_format: str | None
    ) -> "_Export":
        checkpoint = Checkpoint.open(path, mmproj=mmproj)
        config = checkpoint.config
        tokenizer, prompt, files, notes = read_small(path, config, ranks, prompt_format)
        notes = (*config.notes, *notes)
        weights = RotatedWeights(checkpoint) if recipe.rotate else Weights(checkpoint)
        if recipe.carry:
            recipe = carry.resolve(recipe, weights, recipe_path)
        return cls(weights, config, recipe, tokenizer, prompt, files, notes)

    def size(self, target: Target | None) -> int:
        """The bytes of the bundle: what a search keeps within, else what is planned."""
        return self.planned().n_bytes if target is None or target.n_bytes is None else int(target.n_bytes)

    def planned(self) -> Plan:
        """How much there is to write. Raises: RecipeError when the recipe leaves a tensor out."""
        return plan(self.config, self.recipe, tokenizer_bytes=len(self.tokenizer.tokenizer_json))

    def calibration_data(self, calibrate: Path | Literal["off"] | None, tell: Progress) -> list[F32]:
        """The embeddings of calibration texts, the shipped ones unless others are given. Raises: ExportError."""
        entries = read(calibrate if isinstance(calibrate, Path) else shipped_calibration())
        draft = self._manifest("calibration", (), {}, {}, Source(self.config.architecture, {}, (), ()))
        tokenizer = Tokenizer.parse(
            self.tokenizer.tokenizer_json, control=self.prompt.control, vocab_size=self.config.text.vocab_size
        )
        return calibration.prompts(self.weights, draft, tokenizer, entries, _steps(tell))

    def searched(self, data: list[F32], target: Target | None, scratch: Path, tell: Progress) -> "_Export":
        """The export with a scheme for each of the decoder's layers. Raises: RecipeError when none keeps within."""
        limit = None
        if target is not None and target.n_bytes is not None:
            others = self.planned().n_bytes - layer_bytes(self.config, self.recipe)
            limit = target.n_bytes - others
            if limit <= 0:
                raise RecipeError(
                    f"a bundle of {target.n_bytes:.0f} bytes: all but the decoder's layers takes about {others}: choose"
                    " a larger size"
                )
        found = calibration.found_recipe(
            self.recipe, self.weights, self.config.text, data, limit_bytes=limit,
            limit_kl=target.kl if target else None, scratch=scratch, report=_steps(tell),
        )  # fmt: skip
        return replace(self, recipe=found)

    def write(self, folder: Path, data: list[F32], journal: Journal | None, tell: Progress) -> dict[str, TensorRecord]:
        """Write every file but the manifest; returns what was done to each tensor.

        data: to calibrate with, if any; journal: of what is finished already.
        """
        n_weights = self.planned().n_weights
        done = 0

        def advance(_path: str, count: int) -> None:
            nonlocal done
            done += count
            tell(Step("weights", done, n_weights))

        text = self.config.text
        tensors = write_embedding(self.weights, text, self.recipe, folder, progress=advance, journal=journal)
        correction = Calibration(self.weights, text, data, head_order=head_order(text)) if data else None
        data.clear()  # the streams are the calibration's, which gives them up layer by layer
        tensors |= write_decoder(
            self.weights, text, self.recipe, folder, correction=correction, progress=advance, journal=journal
        )
        if is_shared(text, self.recipe):
            tensors["decoder.head"] = tensors[PATH]
        if self.config.vision is not None:
            write = write_siglip if isinstance(self.config.vision, SiglipConfig) else write_vision
            tensors |= write(self.weights, self.config, self.recipe, folder, progress=advance, journal=journal)
        if self.config.audio is not None:
            tensors |= write_audio(self.weights, self.config, self.recipe, folder, progress=advance, journal=journal)
        (folder / TOKENIZER).write_bytes(self.tokenizer.tokenizer_json)
        return tensors

    def manifest(
        self,
        name: str,
        aliases: tuple[str, ...],
        tensors: Mapping[str, TensorRecord],
        files: Mapping[str, FileEntry],
        tell: Progress,
    ) -> Manifest:
        """Describe what was written."""
        return self._manifest(name, aliases, tensors, files, self._source(tell))

    def _manifest(
        self,
        name: str,
        aliases: tuple[str, ...],
        tensors: Mapping[str, TensorRecord],
        files: Mapping[str, FileEntry],
        source: Source,
    ) -> Manifest:
        text, vision, audio = self.config.text, self.config.vision, self.config.audio
        return Manifest(
            format=FORMAT,
            id=name,
            aliases=aliases,
            family=self.config.family,
            min_runtime=MIN_RUNTIME,
            source=source,
            recipe=RecipeRecord(
                self.recipe.name, tensors, self.recipe.calibrate, self.recipe.rotate, self.recipe.activations
            ),
            text=text_spec(self.config.text, self.recipe),
            vision=None if vision is None else vision_spec(vision),
            audio=None if audio is None else AudioSpec(audio.n_mels, audio.n_frames, audio.tokens),
            prompt=self.prompt,
            memory=MemorySpec(
                weights_bytes=sum(entry.bytes for file, entry in files.items() if file.endswith(".bin")),
                cache_bytes_per_token=cache_bytes_per_token(
                    n_layers=text.n_layers,
                    n_kv_heads=text.n_kv_heads,
                    head_dim=text.head_dim,
                    value_bytes=4 if self.recipe.activations == "fp32" else 2,
                ),
            ),
            files=files,
        )

    def _source(self, tell: Progress) -> Source:
        """Hash every file that was read."""
        paths = self._sources()
        files = {}
        for index, name in enumerate(sorted(paths)):
            with paths[name].open("rb") as file:
                files[name] = hashlib.file_digest(file, "sha256").hexdigest()
            tell(Step("source", index + 1, len(paths)))
        found = origin(self.weights.checkpoint.path)
        repository, revision = (None, None) if found is None else (found.repository, found.revision)
        return Source(self.config.architecture, files, self.config.ignored, self.notes, repository, revision)

    def _sources(self) -> Mapping[str, Path]:
        """Where every file that was read is, by its name."""
        checkpoint = self.weights.checkpoint
        if checkpoint.parts:  # of a GGUF file: the rest was built from its metadata
            return checkpoint.parts
        names = {*checkpoint.files, *self.tokenizer.files, *self.prompt_files}
        names |= {TEMPLATE} if has_file(checkpoint.path, TEMPLATE) else set()
        return {name: plain_file(checkpoint.path, name) for name in names}


def _key(weights: Weights, recipe: Recipe, name: str) -> str:
    """What an export depends on: the files of the checkpoint as the system sees them, the recipe, the id, the code."""
    checkpoint = weights.checkpoint
    paths = checkpoint.parts or {file: checkpoint.path / file for file in checkpoint.files}
    seen = {file: _seen(path) for file, path in sorted(paths.items())}
    told = json.dumps([JOURNAL_VERSION, RUNTIME_VERSION, name, dump(recipe), seen])
    return hashlib.sha256(told.encode()).hexdigest()


def _seen(path: Path) -> tuple[str, int, int, int]:
    """A file as the system sees it; where it is, too: of copies and archives, sizes and times may all be the same."""
    found = path.stat()
    return str(path.resolve()), found.st_ino, found.st_size, found.st_mtime_ns


def default_recipe(checkpoint: Path) -> str:
    """The recipe for a checkpoint where none is named. Raises: CheckpointError, UnsupportedError."""
    return CARRY if is_gguf(checkpoint) and is_quantized(checkpoint) else RECIPE


def _steps(tell: Progress) -> Callable[[str, int, int], None]:
    return lambda stage, done, total: tell(Step(stage, done, total))


def _silent(_step: Step) -> None:
    """Tell nobody."""
