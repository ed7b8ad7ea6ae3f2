"""Gives every weight one role name, whatever form the checkpoint stores it in.

Legend: H hidden size, Q query rows (heads x head_dim), K key or value rows, I intermediate size, V vocabulary.
Source: model-family.md, 2 and 3.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from export.arrays import F32, U8
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.config import ModelConfig, TextConfig, VisionConfig
from export.checkpoint.encoder_names import audio_role, audio_roles, siglip_role, siglip_roles
from export.checkpoint.towers import SiglipConfig
from export.errors import CheckpointError, UnsupportedError

_DROPPED = (
    "*rotary_emb.inv_freq", "*cos_cached", "*sin_cached", "*causal_mask", "*casual_mask", "gpt_neox.bias",
    "*attention.bias", "*attention.masked_bias", "qformer*", "query_tokens", "connector.*", "audio_*",
    "audio2qformer_state*", "audioQformer2lan*", "vision_ln*", "optimizer*", "grad_acc*",
    "vision_model.backbone.layernorm.*", "vision_model.vision_model.head.*",
    "vision_model.vision_model.embeddings.position_ids",
)  # fmt: skip
_TEXT_PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.", "")

_TOP = {
    "embed_tokens.weight": "text.embed",
    "norm.weight": "text.norm",
    "norm.bias": "text.norm.bias",
    "lm_head.weight": "text.head",
    "gpt_neox.embed_in.weight": "text.embed",
    "gpt_neox.final_layer_norm.weight": "text.norm",
    "gpt_neox.final_layer_norm.bias": "text.norm.bias",
    "embed_out.weight": "text.head",
}
_LAYER = {
    "input_layernorm": "norm1", "post_attention_layernorm": "norm2",
    "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v", "self_attn.o_proj": "o",
    "self_attn.qkv_proj": "qkv", "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.gate_up_proj": "gate_up",
    "mlp.down_proj": "down",
}  # fmt: skip
_NEOX_LAYER = {
    "input_layernorm": "norm1", "post_attention_layernorm": "norm2", "attention.query_key_value": "qkv",
    "attention.dense": "o", "mlp.dense_h_to_4h": "gate_up", "mlp.dense_4h_to_h": "down",
}  # fmt: skip
_BLOCK = {"dwconv": "dwconv", "layernorm": "norm", "pwconv1": "pwconv1", "grn": "grn", "pwconv2": "pwconv2"}
_PARTS = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}

_LAYER_NAME = re.compile(r"(gpt_neox\.)?layers\.(0|[1-9]\d*)\.(.+)\.(weight|bias)")
_STAGE_NAME = re.compile(r"encoder\.stages\.(\d+)\.(?:downsampling_layer\.([01])|layers\.(\d+)\.(\w+))\.(weight|bias)")


@dataclass(frozen=True)
class Names:
    """Where each role is stored: `tensors` has the stored name by role, fused ones under `qkv` and `gate_up`."""

    config: ModelConfig
    tensors: Mapping[str, str]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Names":
        """Places every tensor of a checkpoint and checks every shape.

        Raises: CheckpointError for an unknown, missing, doubled or misshapen tensor, naming it; UnsupportedError for
        a layer norm with a bias in the text tower.
        """
        tensors: dict[str, str] = {}
        for name in checkpoint.names:
            role = _role(name, checkpoint.config)
            if role is None:
                continue
            if role in tensors:
                raise CheckpointError(f"{name} and {tensors[role]} are the same tensor ({role}): expected one of them")
            tensors[role] = name
        names = cls(checkpoint.config, tensors)
        _check_complete(names, checkpoint)
        return names

    def locate(self, role: str) -> tuple[str, str]:
        """The stored name of a role, and which part of it the role is ("" for all of it).

        Raises: CheckpointError if the role is not stored.
        """
        if role in self.tensors:
            return self.tensors[role], ""
        if role == "text.head" and self.config.text.tied:
            return self.locate("text.embed")
        fused, part = _fused(role)
        if fused in self.tensors:
            return self.tensors[fused], part
        raise CheckpointError(f"{role}: not in the checkpoint")

    def has(self, role: str) -> bool:
        """Whether the role is stored, alone, fused or tied."""
        fused, _ = _fused(role)
        return role in self.tensors or fused in self.tensors or (role == "text.head" and self.config.text.tied)


class Weights:
    """The weights of a checkpoint by role, read one at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises: as Names.of."""
        self.checkpoint = checkpoint
        self.names = Names.of(checkpoint)
        self._shapes = dict(expected(checkpoint.config))

    def has(self, role: str) -> bool:
        """Whether the checkpoint has this role."""
        return self.names.has(role)

    def source(self, role: str) -> str:
        """The stored name that a role is read from. Raises: CheckpointError."""
        return self.names.locate(role)[0]

    def shape(self, role: str) -> tuple[int, ...]:
        """The shape that `tensor` returns. Raises: CheckpointError."""
        if role not in self._shapes:
            raise CheckpointError(f"{role}: not a role of this checkpoint")
        return self._shapes[role]

    def kind(self, role: str) -> str:
        """How a role is stored: a type of safetensors or of GGUF. Raises: CheckpointError."""
        return self.checkpoint.kind(self.source(role))

    def stored_rows(self, role: str, rows: slice) -> U8:
        """Rows of a GGUF tensor as they are stored. Returns (rows, bytes of a row). Raises: CheckpointError."""
        return self.checkpoint.stored_rows(self.source(role), rows)

    def tensor(self, role: str, *, rows: slice | None = None) -> F32:
        """One weight: (out, in) of a linear layer, (out,) of a bias or norm, (C,) of GRN, as stored of a convolution.

        rows: only this range of the first axis (large tables are read in pieces).
        Raises: CheckpointError if it is not there, or holds a value that is not finite (naming tensor and row).
        """
        shape = self.shape(role)
        name, part = self.names.locate(role)
        if part in ("q", "k", "v"):
            values = self.checkpoint.read(name)[qkv_rows(self.names.config.text, part)]
            return values if rows is None else values[rows]
        first = shape[0] if part == "up" else 0
        start, stop, _ = (rows or slice(None)).indices(shape[0])
        if part == "" and rows is None:
            return self.checkpoint.read(name).reshape(shape)
        return self.checkpoint.read(name, rows=slice(first + start, first + stop)).reshape(stop - start, *shape[1:])


def _role(name: str, config: ModelConfig) -> str | None:
    """The role of a stored tensor, None if it is known and not needed."""
    bare = name.removeprefix("model.")
    audio = audio_role(bare) if config.audio is not None else None
    if audio is not None:
        return audio
    if any(fnmatchcase(name, pattern) or fnmatchcase(bare, pattern) for pattern in _DROPPED):
        return None
    role = _text_role(name)
    if role is None and config.vision is not None:
        role = _projection_role(bare)
        if role is None:
            role = siglip_role(bare) if isinstance(config.vision, SiglipConfig) else _vision_role(bare)
    if role is None:
        raise CheckpointError(f"{name}: unknown tensor, expected one of the forms of a {config.family} checkpoint")
    if role.startswith("text.") and role.endswith(("norm.bias", "norm1.bias", "norm2.bias")):
        raise UnsupportedError(f"{name}: a norm with a bias (LayerNorm) is not implemented by this version")
    if role == "text.head" and config.text.tied:
        return None  # a tied checkpoint may store its embedding a second time
    return role


def _text_role(name: str) -> str | None:
    for prefix in _TEXT_PREFIXES:
        if not name.startswith(prefix):
            continue
        rest = name.removeprefix(prefix)
        if rest in _TOP:
            return _TOP[rest]
        match = _LAYER_NAME.fullmatch(rest)
        if match is not None:
            forms = _NEOX_LAYER if match[1] else _LAYER
            if match[3] in forms:
                return f"text.layers.{match[2]}.{forms[match[3]]}.{match[4]}"
    return None


def _projection_role(bare: str) -> str | None:
    match = re.fullmatch(r"language_projection\.([02])\.(weight|bias)", bare)
    return None if match is None else f"projection.{match[1]}.{match[2]}"


def _vision_role(bare: str) -> str | None:
    if not bare.startswith("vision_model.backbone."):
        return None
    rest = bare.removeprefix("vision_model.backbone.")
    match = re.fullmatch(r"embeddings\.(patch_embeddings|layernorm)\.(weight|bias)", rest)
    if match is not None:
        return f"vision.{'patch' if match[1] == 'patch_embeddings' else 'patch_norm'}.{match[2]}"
    match = _STAGE_NAME.fullmatch(rest)
    if match is None or (match[4] is not None and match[4] not in _BLOCK):
        return None
    stage, down, block, layer, kind = match.groups()
    if down is not None:
        return f"vision.stages.{stage}.{'down_norm' if down == '0' else 'down'}.{kind}"
    return f"vision.stages.{stage}.blocks.{block}.{_BLOCK[layer]}.{kind}"


def _fused(role: str) -> tuple[str, str]:
    """The fused role that may hold this one, and the part: text.layers.0.q.weight -> text.layers.0.qkv.weight, q."""
    match = re.fullmatch(r"(text\.layers\.\d+)\.(q|k|v|gate|up)\.(weight|bias)", role)
    if match is None:
        return role, ""
    return f"{match[1]}.{_PARTS[match[2]]}.{match[3]}", match[2]


def qkv_rows(text: TextConfig, part: str) -> npt.NDArray[np.intp]:
    """The rows of one part in a group-major tensor: per key/value head its query heads, its key, its value."""
    per_group = text.n_heads // text.n_kv_heads
    heads = {"q": slice(0, per_group), "k": slice(per_group, per_group + 1), "v": slice(per_group + 1, per_group + 2)}
    n_rows = text.n_kv_heads * (per_group + 2) * text.head_dim
    rows = np.arange(n_rows).reshape(text.n_kv_heads, per_group + 2, text.head_dim)
    return rows[:, heads[part]].reshape(-1)


def expected(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every role that a checkpoint of this configuration has, with its shape."""
    yield from _text_roles(config.text)
    vision, hidden = config.vision, config.text.hidden_size
    if vision is not None:
        yield from siglip_roles(vision) if isinstance(vision, SiglipConfig) else _vision_roles(vision)
        yield from _linear("projection.0", hidden, vision.width, bias=True)
        yield from _linear("projection.2", hidden, hidden, bias=True)
    if config.audio is not None:
        yield from audio_roles(config.audio, hidden)


def _text_roles(text: TextConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = text.hidden_size, text.intermediate_size
    queries, keys = text.n_heads * text.head_dim, text.n_kv_heads * text.head_dim
    yield "text.embed", (text.vocab_size, hidden)
    yield "text.norm", (hidden,)
    yield "text.head", (text.vocab_size, hidden)
    for layer in range(text.n_layers):
        at = f"text.layers.{layer}"
        yield f"{at}.norm1.weight", (hidden,)
        yield f"{at}.norm2.weight", (hidden,)
        for part, rows in (("q", queries), ("k", keys), ("v", keys)):
            yield from _linear(f"{at}.{part}", rows, hidden, bias=text.attention_bias)
        yield from _linear(f"{at}.o", hidden, queries, bias=text.attention_bias)
        yield from _linear(f"{at}.gate", inner, hidden, bias=text.mlp_bias)
        yield from _linear(f"{at}.up", inner, hidden, bias=text.mlp_bias)
        yield from _linear(f"{at}.down", hidden, inner, bias=text.mlp_bias)


def _vision_roles(vision: VisionConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    first = vision.hidden_sizes[0]
    yield from _affine("vision.patch", (first, 3, vision.patch_px, vision.patch_px), first)
    yield from _affine("vision.patch_norm", (first,), first)
    for stage, (width, depth) in enumerate(zip(vision.hidden_sizes, vision.depths, strict=True)):
        at = f"vision.stages.{stage}"
        if stage > 0:
            before = vision.hidden_sizes[stage - 1]
            yield from _affine(f"{at}.down_norm", (before,), before)
            yield from _affine(f"{at}.down", (width, before, 2, 2), width)
        for block in range(depth):
            here = f"{at}.blocks.{block}"
            yield from _affine(f"{here}.dwconv", (width, 1, 7, 7), width)
            yield from _affine(f"{here}.norm", (width,), width)
            yield from _linear(f"{here}.pwconv1", 4 * width, width, bias=True)
            yield from _affine(f"{here}.grn", (4 * width,), 4 * width)
            yield from _linear(f"{here}.pwconv2", width, 4 * width, bias=True)


def _affine(role: str, shape: tuple[int, ...], n_bias: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{role}.weight", shape
    yield f"{role}.bias", (n_bias,)


def _linear(role: str, rows: int, columns: int, *, bias: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{role}.weight", (rows, columns)
    if bias:
        yield f"{role}.bias", (rows,)


def _check_complete(names: Names, checkpoint: Checkpoint) -> None:
    """Every expected role is stored with its shape, and every stored one is expected."""
    used: set[str] = set()
    fused_rows: dict[str, list[tuple[int, ...]]] = {}
    for role, shape in expected(names.config):
        name, part = names.locate(role)
        used.add(name)
        if part:
            fused_rows.setdefault(name, []).append(shape)
            continue
        stored = checkpoint.shape(name)
        same = math.prod(stored) == math.prod(shape) if ".grn." in role else stored == shape
        if not same:
            raise CheckpointError(f"{name}: shape {stored}, expected {shape} ({role})")
    for name, shapes in fused_rows.items():
        shape = (sum(part[0] for part in shapes), *shapes[0][1:])
        if checkpoint.shape(name) != shape:
            raise CheckpointError(f"{name}: shape {checkpoint.shape(name)}, expected {shape}")
    extra = sorted(set(names.tensors.values()) - used)
    if extra:
        raise CheckpointError(f"{extra[0]}: not expected in a checkpoint of this configuration")
