"""The names of a GGUF file's tensors as those of a checkpoint, rows of queries and keys marked for their order.

Source: llama.cpp's converter (conversion/llama.py, gguf-py/gguf/tensor_mapping.py) and Reka's for yasa2, whose names
are those that tools/mtmd/clip.cpp loads.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from export.checkpoint.gguf.tensors import GgufEntry
from export.errors import CheckpointError, UnsupportedError

ROPE_FACTORS: Final = "rope_freqs.weight"
POSITIONS: Final = "v.vision_pos_embed"

_TOP: Final[Mapping[str, str]] = {
    "token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight",
}  # fmt: skip
_LAYER: Final[Mapping[str, str]] = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_VISION: Final[Mapping[str, str]] = {
    "v.patch_embd": "vision_model.backbone.embeddings.patch_embeddings",
    "v.patch_ln": "vision_model.backbone.embeddings.layernorm",
    "v.backbone_ln": "vision_model.backbone.layernorm",
    "mm.0": "language_projection.0", "mm.2": "language_projection.2",
}  # fmt: skip
_BLOCK: Final[Mapping[str, str]] = {
    "dw": "dwconv", "ln": "layernorm", "pw1": "pwconv1", "grn": "grn", "pw2": "pwconv2",
}  # fmt: skip
_DROPPED: Final = (ROPE_FACTORS, "blk.*.attn_rot_embd.*")  # the first is read with the configuration
_EXPERTS: Final = ("blk.*.ffn_*_exps.*", "blk.*.ffn_gate_inp.*", "blk.*.ffn_*_shexp.*", "blk.*.ffn_*.*.weight")

_LAYER_NAME: Final = re.compile(r"blk\.(0|[1-9]\d*)\.(\w+)\.(weight|bias)")
_STAGE_NAME: Final = re.compile(r"v\.stage\.(\d+)\.(?:down\.(ln|conv)|blk\.(\d+)\.(\w+))\.(weight|bias)")


def text_entries(
    stored: Mapping[str, GgufEntry], *, prefix: str, head_dim: int, rotary_dim: int, n_heads: int, n_kv_heads: int
) -> dict[str, GgufEntry]:
    """The tensors of a llama file under the names of a checkpoint. prefix: of all but the head.

    Raises: UnsupportedError for experts; CheckpointError for fused rows that do not add up. An unknown tensor keeps
    its name, so that whoever places the tensors refuses it.
    """

    def in_pairs(entry: GgufEntry) -> GgufEntry:
        return replace(entry, head_dim=head_dim, rotary_dim=rotary_dim)

    entries: dict[str, GgufEntry] = {}
    for name, entry in stored.items():
        if any(fnmatchcase(name, pattern) for pattern in _DROPPED):
            continue
        if any(fnmatchcase(name, pattern) for pattern in _EXPERTS):
            raise UnsupportedError(f"{entry.file.name}: {name}: a mixture of experts is not supported")
        match = _LAYER_NAME.fullmatch(name)
        if match is not None and match[2] == "attn_qkv":
            at = f"{prefix}layers.{match[1]}.self_attn"
            for part, rows in _split(entry, name, head_dim, n_heads, n_kv_heads):
                entries[f"{at}.{part}_proj.{match[3]}"] = rows if part == "v" else in_pairs(rows)
        elif match is not None and match[2] in _LAYER:
            placed = in_pairs(entry) if match[2] in ("attn_q", "attn_k") else entry
            entries[f"{prefix}layers.{match[1]}.{_LAYER[match[2]]}.{match[3]}"] = placed
        elif name == "output.weight":
            entries["lm_head.weight"] = entry
        else:
            entries[f"{prefix}{_TOP[name]}" if name in _TOP else name] = entry
    return entries


def vision_entries(stored: Mapping[str, GgufEntry]) -> dict[str, GgufEntry]:
    """The tensors of a yasa2 projector file under the names of a checkpoint; an unknown one keeps its name."""
    return {_vision_name(name): entry for name, entry in stored.items() if name != POSITIONS}


def stages(stored: Mapping[str, GgufEntry]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(channels of each stage, blocks of each stage) of a yasa2 tower, from the tensors that are there.

    Raises: CheckpointError if there is no stage.
    """
    widths: list[int] = []
    depths: list[int] = []
    while (first := stored.get(f"v.stage.{len(widths)}.blk.0.dw.weight")) is not None:
        at = f"v.stage.{len(widths)}.blk"
        depth = 1
        while f"{at}.{depth}.dw.weight" in stored:
            depth += 1
        widths.append(first.shape[0])
        depths.append(depth)
    if not widths:
        raise CheckpointError("v.stage.0.blk.0.dw.weight: not in the projector file: expected a yasa2 vision tower")
    return tuple(widths), tuple(depths)


def _vision_name(name: str) -> str:
    base, _, kind = name.rpartition(".")
    if base in _VISION and kind in ("weight", "bias"):
        return f"model.{_VISION[base]}.{kind}"
    match = _STAGE_NAME.fullmatch(name)
    if match is None or (match[4] is not None and match[4] not in _BLOCK):
        return name
    stage, down, block, layer, kind = match.groups()
    at = f"model.vision_model.backbone.encoder.stages.{stage}"
    if down is not None:
        return f"{at}.downsampling_layer.{0 if down == 'ln' else 1}.{kind}"
    return f"{at}.layers.{block}.{_BLOCK[layer]}.{kind}"


def _split(
    entry: GgufEntry, name: str, head_dim: int, n_heads: int, n_kv_heads: int
) -> Iterator[tuple[str, GgufEntry]]:
    """The queries, keys and values of a fused tensor, which follow one another."""
    parts = {"q": n_heads * head_dim, "k": n_kv_heads * head_dim, "v": n_kv_heads * head_dim}
    if entry.shape[0] != sum(parts.values()):
        raise CheckpointError(
            f"{entry.file.name}: {name}: {entry.shape[0]} rows, expected {sum(parts.values())} of queries, keys, values"
        )
    first = 0
    for part, n_rows in parts.items():
        offset, n_bytes = entry.offset + first * entry.row_bytes, n_rows * entry.row_bytes
        yield part, replace(entry, shape=(n_rows, *entry.shape[1:]), offset=offset, n_bytes=n_bytes)
        first += n_rows
