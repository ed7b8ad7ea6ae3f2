"""The prompt of a checkpoint for its manifest: that of its family, or what its chat template tells."""

from pathlib import Path
from typing import Literal

from edge.bundle.manifest import PromptSpec
from export.checkpoint.config import ModelConfig
from export.checkpoint.files import has_file, read_bytes
from export.checkpoint.prompt_format import TEMPLATE, prompt_spec, read_source
from export.checkpoint.tokenizer import TokenizerFiles
from export.errors import UnsupportedError

_BYTES = 4 << 20
_WORDING_A = "Return calls inside <tool_call></tool_call>:"


def prompt_of(
    path: Path, config: ModelConfig, tokenizer: TokenizerFiles, *, chosen: str | None
) -> tuple[PromptSpec, tuple[str, ...], tuple[str, ...]]:
    """The prompt of a checkpoint, what people should know of it, and the files that were read for it.

    chosen: a format for a Llama-format model. Raises: UnsupportedError, TokenizerError, ConfigError, CheckpointError.
    """
    if config.family != "llama":
        return _reka_spec(path, config, tokenizer, chosen), (), ()
    source = read_source(path)
    spec, notes = prompt_spec(source, tokenizer.control, chosen=chosen)
    return spec, notes, source.files


def _reka_spec(path: Path, config: ModelConfig, tokenizer: TokenizerFiles, chosen: str | None) -> PromptSpec:
    """The prompt of Reka's own families, which is not told from a template."""
    if chosen is not None:
        raise no_choice(chosen, config.architecture)
    form: Literal["yasa", "yasa-timed"] = "yasa-timed" if config.family == "siglip" else "yasa"
    return PromptSpec(form, _tools(path), tokenizer.control, tokenizer.stop_ids, ())


def no_choice(chosen: str, found: str) -> UnsupportedError:
    """The error for a format that is chosen for a model whose format is known."""
    return UnsupportedError(f"--prompt-format {chosen}: only for Llama-format models, got {found}")


def _tools(folder: Path) -> Literal["A", "B"]:
    """The wording for tools that the checkpoint's template uses, looked up in its text; B if it has neither."""
    if not has_file(folder, TEMPLATE):
        return "B"
    template = read_bytes(folder, TEMPLATE, max_bytes=_BYTES)
    return "A" if _WORDING_A.encode() in template else "B"
