"""llama.cpp's side: the reference as GGUF, quantized by llama.cpp itself, its tensor types, bytes and logits.

llama-cpp-python is part of no environment but this benchmark's.
"""

from __future__ import annotations

import ctypes
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import gguf
import numpy as np
from safetensors.numpy import load_file

from export.arrays import F32
from scripts.quality.gguf_names import checkpoint_name, to_gguf
from scripts.quality.passages import WINDOW

# Names of llama.cpp's file types, and their numbers in its header.
FORMATS: Final[Mapping[str, int]] = {
    "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q3_K_M": 12, "Q4_K_S": 14, "Q4_K_M": 15,
    "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30,
}  # fmt: skip
_UNCOPIED: Final = ("general.architecture", "general.file_type", "general.quantization_version")


def write_f32(packaged: Path, checkpoint: Path, out: Path) -> None:
    """Write a checkpoint of the packaged model's shape as GGUF in float32, with the packaged file's metadata."""
    source = gguf.GGUFReader(packaged)
    weights = load_file(checkpoint / "model.safetensors")
    writer = gguf.GGUFWriter(out, "llama")
    for field in source.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in _UNCOPIED:
            kind, part = field.types[0], field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, part)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in source.tensors:
        weight = to_gguf(source, tensor.name, weights[checkpoint_name(tensor.name)])
        writer.add_tensor(tensor.name, np.ascontiguousarray(weight, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source: Path, out: Path, name: str, *, threads: int) -> None:
    """Have llama.cpp quantize a file, with its own defaults. Raises: SystemExit where it fails."""
    import llama_cpp

    logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL)  # a warning a tensor
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = FORMATS[name], threads
    status = llama_cpp.llama_model_quantize(bytes(source), bytes(out), ctypes.byref(parameters))
    if status != 0:
        raise SystemExit(f"llama.cpp cannot write {source.name} as {name}: llama_model_quantize returned {status}")


def tensor_types(file: Path) -> dict[str, dict[str, int]]:
    """How many tensors of each kind (attn_q, ffn_down, ...) have which type."""
    found: dict[str, Counter[str]] = {}
    for tensor in gguf.GGUFReader(file).tensors:
        kind = tensor.name.removesuffix(".weight").rpartition(".")[2]
        found.setdefault(kind, Counter())[tensor.tensor_type.name] += 1
    return {kind: dict(types) for kind, types in found.items()}


def tensor_bytes(file: Path) -> int:
    """The bytes of all tensors, norms included, without metadata and padding."""
    return sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(file).tensors)


class LlamaCpp:
    """A GGUF file opened by llama.cpp, its other settings its own defaults."""

    def __init__(
        self, file: Path, *, threads: int, context: int = WINDOW, scoring: bool = True, batch: int = WINDOW
    ) -> None:
        import llama_cpp

        self._model = llama_cpp.Llama(
            str(file), n_ctx=context, n_batch=batch, n_ubatch=batch, logits_all=scoring, n_threads=threads,
            n_threads_batch=threads, verbose=False,
        )  # fmt: skip

    def logits(self, ids: list[int]) -> F32:
        """The logits (n, V) behind each token of a window, read at once."""
        self.read(ids)
        scores: F32 = self._model.scores[: len(ids)]
        return scores

    def read(self, ids: list[int]) -> None:
        """Read a prompt from its beginning."""
        self._model.reset()
        self._model.eval(ids)

    def step(self, token: int) -> None:
        """Read one more token."""
        self._model.eval([token])

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return int(self._model.n_vocab())

    def best(self) -> int:
        """The most likely token behind what was read."""
        import llama_cpp

        logits = llama_cpp.llama_get_logits_ith(self._model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax())


def version() -> str:
    """The version of llama-cpp-python, and what its build says of this CPU."""
    import llama_cpp

    features = llama_cpp.llama_print_system_info().decode()
    return f"llama-cpp-python {llama_cpp.__version__} ({features.strip(' |')})"
