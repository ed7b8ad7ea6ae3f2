"""Random weights of the released vision tower for llama.cpp: a projector file in float16, a decoder of one layer."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.config import VisionConfig
from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import ONE_B
from scripts.quality.shape import write_f16
from scripts.speed import figures
from scripts.speed.figures import Figures

SHAPE: Final = replace(ONE_B, n_layers=1, n_mergeable=1000)
PROJECTOR, TEXT = "mmproj.gguf", "text.gguf"
_LAYERS: Final = {"dwconv": "dw", "layernorm": "ln", "pwconv1": "pw1", "grn": "grn", "pwconv2": "pw2"}
_TOP: Final = {
    "vision_model.backbone.embeddings.patch_embeddings": "v.patch_embd",
    "vision_model.backbone.embeddings.layernorm": "v.patch_ln",
    "vision_model.backbone.layernorm": "v.backbone_ln",
    "language_projection.0": "mm.0",
    "language_projection.2": "mm.2",
}
_STAGE: Final = re.compile(
    r"vision_model\.backbone\.encoder\.stages\.(\d+)\.(?:downsampling_layer\.(\d)|layers\.(\d+)\.(\w+))"
)


def build(work: Path) -> tuple[Path, Path]:
    """Write the checkpoint and llama.cpp's two files under work unless they are there. Returns both folders."""
    checkpoint, folder = work / "tower" / "checkpoint", work / "tower" / "gguf"
    if not checkpoint.exists():
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(checkpoint, SHAPE, seed=0)
    if not folder.exists():
        folder.mkdir(parents=True)
        text = replace(SHAPE, tower=None, prefix="model.", is_llama=True)
        write_checkpoint(work / "tower" / "text", text, seed=0)
        write_f16(work / "tower" / "text", text, folder / TEXT)
        write_projector(checkpoint, folder / PROJECTOR)
    return checkpoint, folder


def write_projector(checkpoint: Path, out: Path) -> None:
    """Write the tower of a yasa2 checkpoint as Reka's converter does: matrices and kernels in float16."""
    source = Checkpoint.open(checkpoint)
    vision = source.config.vision
    if not isinstance(vision, VisionConfig):
        raise SystemExit(f"{checkpoint}: has no ConvNeXt V2 tower")
    writer = gguf.GGUFWriter(out, "clip")
    writer.add_string("general.type", "mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", True)
    writer.add_string("clip.projector_type", "yasa2")
    numbers = {
        "projection_dim": source.config.text.hidden_size, "image_size": vision.tile_px, "patch_size": vision.patch_px,
        "embedding_length": vision.width, "feed_forward_length": vision.width, "block_count": 0,
        "attention.head_count": 1,
    }  # fmt: skip
    for key, number in numbers.items():
        writer.add_uint32(f"clip.vision.{key}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", list(vision.mean))
    writer.add_array("clip.vision.image_std", list(vision.std))
    cells = (vision.tile_px // vision.patch_px // 8) ** 2
    writer.add_tensor("v.vision_pos_embed", np.zeros((cells, vision.width), np.float32))
    for name in source.names:
        stored = stored_name(name.removeprefix("model."))
        if stored is not None:
            values = source.read(name)
            is_vector = values.size == max(values.shape)
            values = values.reshape(-1) if is_vector else values
            writer.add_tensor(stored, values.astype(np.float32 if is_vector else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stored_name(name: str) -> str | None:
    """The name of a tower's tensor in a projector file, None for one of the decoder."""
    base, _, kind = name.rpartition(".")
    if base in _TOP:
        return f"{_TOP[base]}.{kind}"
    match = _STAGE.fullmatch(base)
    if match is None:
        return None
    stage, down, block, layer = match.groups()
    if down is not None:
        return f"v.stage.{stage}.down.{'ln' if down == '0' else 'conv'}.{kind}"
    return f"v.stage.{stage}.blk.{block}.{_LAYERS[layer]}.{kind}"


def tile_seconds(folder: Path, threads: int) -> Figures:
    """Seconds of one tile in llama.cpp's multimodal library."""
    import llama_cpp
    import llama_cpp.mtmd_cpp as mtmd

    llama: Any = llama_cpp
    model = llama.llama_model_load_from_file(bytes(folder / TEXT), llama.llama_model_default_params())
    parameters = mtmd.mtmd_context_params_default()
    parameters.use_gpu, parameters.n_threads = False, threads
    context = mtmd.mtmd_init_from_file(bytes(folder / PROJECTOR), model, parameters)
    if not context:
        raise SystemExit(f"{folder}: llama.cpp cannot open the projector file")
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    bitmap = mtmd.mtmd_bitmap_init(512, 512, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
    marker = mtmd.mtmd_get_marker(context)
    asked = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
    chunks = mtmd.mtmd_input_chunks_init()
    bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
    if mtmd.mtmd_tokenize(context, chunks, ctypes.byref(asked), bitmaps, 1) != 0:
        raise SystemExit(f"{folder}: llama.cpp cannot lay out an image")
    found = (mtmd.mtmd_input_chunks_get(chunks, at) for at in range(mtmd.mtmd_input_chunks_size(chunks)))
    chunk = next(each for each in found if mtmd.mtmd_input_chunk_get_type(each) == 1)  # an image
    mtmd.mtmd_encode_chunk(context, chunk)
    return {"tile_s": figures.median_seconds(lambda: mtmd.mtmd_encode_chunk(context, chunk)), **figures.memory()}
