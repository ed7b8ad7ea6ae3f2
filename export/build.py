"""From a checkpoint to a bundle, in one page: read, plan, write the graphs, describe them, measure, publish."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    TextSpec,
    VisionSpec,
    cache_bytes_per_token,
    dump_manifest,
)
from edge.errors import BundleError
from export import pack, speech
from export.certificate import certify
from export.certificate.readable import check_tokenizer
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.config import ModelConfig, VisionConfig
from export.checkpoint.files import has_file, plain_file, read_bytes
from export.checkpoint.gguf.header import SUFFIX as GGUF_SUFFIX
from export.checkpoint.names import Weights
from export.checkpoint.prompt_format import prompt_spec, read_source
from export.checkpoint.tokenizer import TOKENIZER, TokenizerFiles, control_of, convert
from export.checkpoint.towers import SiglipConfig
from export.checkpoint.whisper import is_whisper
from export.choices import CERTIFICATE_LEVEL, RECIPE, CertificateLevel
from export.errors import OutputError, UnsupportedError
from export.graphs.audio import write_audio
from export.graphs.siglip import write_siglip
from export.graphs.table import PATH, is_shared, table_scheme, write_embedding
from export.graphs.text import write_decoder
from export.graphs.vision import write_vision
from export.memory import PeakMemory
from export.plan import plan, scratch_bytes
from export.recipe import Recipe, load

MIN_RUNTIME: Final = "0.1.0"  # the first that reads what is written here
VIDEO_FRAMES: Final = 6
FAMILY_ALIASES: Final = ("reka-edge", "reka-flash")  # what a bundle of such a name answers to

_TEMPLATE = "chat_template.jinja"
_TEMPLATE_BYTES = 4 << 20
_WORDING_A = "Return calls inside <tool_call></tool_call>:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
    recipe: str = RECIPE,
    id: str | None = None,  # noqa: A002  (the manifest's own word)
    aliases: Sequence[str] = (),
    certificate: CertificateLevel = CERTIFICATE_LEVEL,
    ranks: Path | None = None,
    mmproj: Path | None = None,
    prompt_format: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Export a checkpoint to the bundle folder `out`, which appears complete or not at all. Returns `out`.

    checkpoint: a folder or a GGUF file; recipe: a shipped one or a .toml file; id: of the bundle, FOLDER-RECIPE unless
    given (of a checkpoint in `runs/1b` and int4-mixed: 1b-int4-mixed); aliases: further names for it;
    ranks: a .tiktoken file for a checkpoint without tokenizer.json; mmproj: the projector of a GGUF file;
    prompt_format: "chatml" or "flash", for a Llama-format model, whatever its chat template is.
    Raises: ExportError, of the kind that names the cause; CertificateError when a threshold of the recipe is missed.
    """
    out, tell = out.absolute(), progress or _silent
    chosen = load(recipe)
    name = id if id is not None else _default_id(checkpoint, chosen.name)
    names = _names(name, aliases)
    with PeakMemory() as memory, pack.workspace(out) as work:
        if is_whisper(checkpoint):
            if prompt_format is not None:
                raise _no_choice(prompt_format, "a Whisper model")
            level = None if certificate == "off" else certificate
            speech.write_bundle(
                work, checkpoint, recipe=chosen, id=name, aliases=names, min_runtime=MIN_RUNTIME, level=level,
                report=lambda stage, done, total: tell(Step(stage, done, total)),
            )  # fmt: skip
            pack.publish(work)
            return out
        export = _Export.read(checkpoint, chosen, ranks, mmproj, prompt_format)
        planned = plan(export.config, export.recipe, tokenizer_bytes=len(export.tokenizer.tokenizer_json))
        scratch = 0 if certificate == "off" else scratch_bytes(export.config.text, certificate)
        pack.check_space(work, planned.n_bytes + scratch)
        tensors = export.write(work.bundle, planned.n_weights, tell)
        manifest = export.manifest(name, names, tensors, pack.file_entries(work.bundle), tell)
        try:
            (work.bundle / MANIFEST).write_bytes(dump_manifest(manifest))
            Bundle.open(work.bundle)
        except BundleError as error:
            raise OutputError(f"what was written is not a bundle: {error}") from error
        if certificate != "off":
            request = certify.Request(work.bundle, checkpoint, certificate, recipe, work.scratch, memory.peak(), mmproj)
            data = certify.run(request, lambda stage, done, total: tell(Step(stage, done, total)))
            (work.bundle / CERTIFICATE).write_bytes(data)
        pack.publish(work)
    return out


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
        is_llama = config.family == "llama"
        needed = () if is_llama else control_of(config.family, sound=config.audio is not None)
        tokenizer = convert(path, ranks=ranks, needed=needed, general=is_llama)
        check_tokenizer(tokenizer, vocab_size=config.text.vocab_size)
        if is_llama:
            source = read_source(path)
            prompt, notes = prompt_spec(source, tokenizer.control, chosen=prompt_format)
            files = source.files
        else:
            prompt, notes, files = _prompt_spec(path, config, tokenizer, prompt_format), (), ()
        notes = (*config.notes, *tokenizer.notes, *notes)
        return cls(Weights(checkpoint), config, recipe, tokenizer, prompt, files, notes)

    def write(self, folder: Path, n_weights: int, tell: Progress) -> dict[str, TensorRecord]:
        """Write every file but the manifest; returns what was done to each tensor."""
        done = 0

        def advance(_path: str, count: int) -> None:
            nonlocal done
            done += count
            tell(Step("weights", done, n_weights))

        text = self.config.text
        tensors = write_embedding(self.weights, text, self.recipe, folder, progress=advance)
        tensors |= write_decoder(self.weights, text, self.recipe, folder, progress=advance)
        if is_shared(text, self.recipe):
            tensors["decoder.head"] = tensors[PATH]
        if self.config.vision is not None:
            write = write_siglip if isinstance(self.config.vision, SiglipConfig) else write_vision
            tensors |= write(self.weights, self.config, self.recipe, folder, progress=advance)
        if self.config.audio is not None:
            tensors |= write_audio(self.weights, self.config, self.recipe, folder, progress=advance)
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
        text, vision, audio = self.config.text, self.config.vision, self.config.audio
        return Manifest(
            format=FORMAT,
            id=name,
            aliases=aliases,
            family=self.config.family,
            min_runtime=MIN_RUNTIME,
            source=self._source(tell),
            recipe=RecipeRecord(self.recipe.name, tensors),
            text=self._text_spec(),
            vision=None if vision is None else _vision_spec(vision),
            audio=None if audio is None else AudioSpec(audio.n_mels, audio.n_frames, audio.tokens),
            prompt=self.prompt,
            memory=MemorySpec(
                weights_bytes=sum(entry.bytes for file, entry in files.items() if file.endswith(".bin")),
                cache_bytes_per_token=cache_bytes_per_token(
                    n_layers=text.n_layers, n_kv_heads=text.n_kv_heads, head_dim=text.head_dim
                ),
            ),
            files=files,
        )

    def _text_spec(self) -> TextSpec:
        text = self.config.text
        return TextSpec(
            hidden_size=text.hidden_size,
            n_layers=text.n_layers,
            n_heads=text.n_heads,
            n_kv_heads=text.n_kv_heads,
            head_dim=text.head_dim,
            intermediate_size=text.intermediate_size,
            vocab_size=text.vocab_size,
            context=text.context,
            rotary_share=text.rotary_share,
            rope_base=text.rope_base,
            norm_eps=text.norm_eps,
            logit_scale=text.logit_scale,
            embedding=table_scheme(self.recipe, text.n_layers),
        )

    def _source(self, tell: Progress) -> Source:
        """Hash every file that was read."""
        paths = self._sources()
        files = {}
        for index, name in enumerate(sorted(paths)):
            with paths[name].open("rb") as file:
                files[name] = hashlib.file_digest(file, "sha256").hexdigest()
            tell(Step("source", index + 1, len(paths)))
        return Source(self.config.architecture, files, self.config.ignored, self.notes)

    def _sources(self) -> Mapping[str, Path]:
        """Where every file that was read is, by its name."""
        checkpoint = self.weights.checkpoint
        if checkpoint.parts:  # of a GGUF file: the rest was built from its metadata
            return checkpoint.parts
        names = {*checkpoint.files, *self.tokenizer.files, *self.prompt_files}
        names |= {_TEMPLATE} if has_file(checkpoint.path, _TEMPLATE) else set()
        return {name: plain_file(checkpoint.path, name) for name in names}


def _prompt_spec(path: Path, config: ModelConfig, tokenizer: TokenizerFiles, chosen: str | None) -> PromptSpec:
    """The prompt of Reka's own families, which is not told from a template."""
    if chosen is not None:
        raise _no_choice(chosen, config.architecture)
    form: Literal["yasa", "yasa-timed"] = "yasa-timed" if config.family == "siglip" else "yasa"
    return PromptSpec(form, _tools(path), tokenizer.control, tokenizer.stop_ids, ())


def _no_choice(chosen: str, found: str) -> UnsupportedError:
    return UnsupportedError(f"--prompt-format {chosen}: only for Llama-format models, got {found}")


def _tools(folder: Path) -> Literal["A", "B"]:
    """The wording for tools that the checkpoint's template uses, looked up in its text; B if it has neither."""
    if not has_file(folder, _TEMPLATE):
        return "B"
    template = read_bytes(folder, _TEMPLATE, max_bytes=_TEMPLATE_BYTES)
    return "A" if _WORDING_A.encode() in template else "B"


def _vision_spec(vision: VisionConfig | SiglipConfig) -> VisionSpec:
    return VisionSpec(
        tile_px=vision.tile_px,
        patch_px=vision.patch_px,
        max_tiles=vision.max_tiles,
        tokens_per_tile=vision.tokens_per_tile,
        resample=vision.resample,
        mean=vision.mean,
        std=vision.std,
        crop_share=vision.crop_share,
        order=vision.order,
        frames=VIDEO_FRAMES,
    )


def _default_id(checkpoint: Path, recipe: str) -> str:
    """The name of the checkpoint's folder or GGUF file, and the recipe behind it unless it is there already."""
    name = checkpoint.resolve().name.removesuffix(GGUF_SUFFIX)
    return name if name.endswith(f"-{recipe}") else f"{name}-{recipe}"


def _names(name: str, aliases: Sequence[str]) -> tuple[str, ...]:
    """The aliases of a bundle, checked together with its id before anything is read. Raises: OutputError."""
    aliases = aliases or tuple(alias for alias in FAMILY_ALIASES if name.startswith(alias))
    for each in (name, *aliases):
        if not _NAME.fullmatch(each):
            raise OutputError(f"{each!r} as id or alias: expected letters, digits, dots and dashes, at most 100")
    return tuple(sorted(set(aliases) - {name}))


def _silent(_step: Step) -> None:
    """Tell nobody."""
