"""The metadata of a GGUF file as the config.json, generation_config.json and preprocessor_config.json it came from.

Source: llama.cpp's converter (conversion/base.py, conversion/llama.py), its loader of projectors (tools/mtmd/clip.cpp)
and docs/gguf.md of the ggml project.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from export.checkpoint.gguf.header import Header, Value
from export.errors import CheckpointError, UnsupportedError

ARCHITECTURE: Final = "llama"
PROJECTOR_ARCHITECTURE: Final = "clip"
PROJECTOR: Final = "yasa2"
# Control tokens that only the text tower of a model with vision has: its GGUF file says llama like any other.
VISION_TOKENS: Final = ("<image>", "</image>", "<REKA_IMG_TOKEN>", "<sep>")
POOLED: Final = 8  # the side of the pooled feature map: llama.cpp's graph of yasa2 has it fixed

# Keys of the architecture that change what is computed, each with the values under which it changes nothing.
_INERT: Final[Mapping[str, tuple[Value, ...]]] = {
    "expert_count": (0,), "expert_used_count": (0,), "attention.causal": (True,), "attention.sliding_window": (0,),
    "logit_scale": (0.0, 1.0), "embedding_scale": (0.0, 1.0), "residual_scale": (0.0, 1.0), "attention.scale": (0.0,),
    "attention.clamp_kqv": (0.0,), "attention.max_alibi_bias": (0.0,), "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,), "rope.scaling.attn_factor": (1.0,), "rope.scaling.yarn_ext_factor": (1.0,),
    "rope.scaling.yarn_log_multiplier": (0.0,), "use_parallel_residual": (False,), "pooling_type": (0,),
}  # fmt: skip
_KNOWN: Final = (
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length",
    "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count", "vocab_size",
    "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", "rope.scaling.original_context_length",
    "rope.scaling.finetuned", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
)  # fmt: skip


@dataclass(frozen=True)
class TextShape:
    """What the names of the tensors depend on."""

    n_heads: int
    n_kv_heads: int
    head_dim: int
    rotary_dim: int


class Metadata:
    """The metadata of one file, read by kind; messages name file, key, expectation and value."""

    def __init__(self, header: Header) -> None:
        self.file = header.path.name
        self.values = header.metadata

    def get(self, key: str) -> Value | None:
        """The raw value, None if absent."""
        return self.values.get(key)

    def text(self, key: str, *, default: str | None = None) -> str:
        """A string. Raises: CheckpointError, also if absent without a default."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def integer(self, key: str, *, default: int | None = None, least: int = 1) -> int:
        """A whole number; a list of one and the same for each layer counts as that number. Raises: CheckpointError."""
        value = self.values.get(key, default)
        if isinstance(value, list) and len(set(value)) == 1:
            value = value[0]
        if type(value) is not int or not least <= value < 1 << 31:
            if isinstance(value, list):
                raise UnsupportedError(f"{self.file}: {key} differs from layer to layer, which is not supported")
            raise self.wrong(key, f"an integer of at least {least}")
        return value

    def number(self, key: str, *, default: float | None = None) -> float:
        """A number. Raises: CheckpointError, also if absent without a default."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or False. Raises: CheckpointError."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def strings(self, key: str) -> list[str]:
        """A list of strings. Raises: CheckpointError, also if absent."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of strings")
        return [str(item) for item in value]

    def integers(self, key: str) -> list[int]:
        """A list of whole numbers. Raises: CheckpointError, also if absent."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.wrong(key, "a list of integers")
        return [int(item) for item in value]

    def numbers(self, key: str, length: int) -> list[float]:
        """A list of so many numbers. Raises: CheckpointError, also if absent."""
        value = self.values.get(key)
        if not isinstance(value, list) or len(value) != length or any(isinstance(item, str) for item in value):
            raise self.wrong(key, f"a list of {length} numbers")
        return [float(item) for item in value]

    def wrong(self, key: str, expected: str) -> CheckpointError:
        """The error for a key whose value is not what it has to be."""
        value = self.values.get(key)
        problem = "is missing" if value is None else f"is {str(value)[:60]!r}"
        return CheckpointError(f"{self.file}: {key} {problem}: expected {expected}")


def check_text(metadata: Metadata) -> None:
    """Refuse a file that is no llama-like text model, naming what it is. Raises: UnsupportedError, CheckpointError."""
    architecture = metadata.text("general.architecture")
    if architecture == PROJECTOR_ARCHITECTURE:
        raise UnsupportedError(
            f"{metadata.file}: is a projector file: name the file of the text model, and this one with --mmproj"
        )
    kind = metadata.text("general.type", default="model")
    if architecture != ARCHITECTURE or kind != "model":
        found = architecture if kind == "model" else f"{architecture}, {kind}"
        raise UnsupportedError(
            f"{metadata.file}: architecture {found!r} is not supported, expected {ARCHITECTURE!r} (Llama, Reka)"
        )
    if metadata.integer(f"{ARCHITECTURE}.expert_count", default=0, least=0):
        raise UnsupportedError(f"{metadata.file}: a mixture of experts is not supported")
    for key, inert in _INERT.items():
        value = metadata.get(f"{ARCHITECTURE}.{key}")
        if value is not None and value not in inert:
            raise UnsupportedError(
                f"{metadata.file}: {ARCHITECTURE}.{key} is {str(value)[:60]}: not supported, expected {inert[-1]}"
            )


def text_shape(metadata: Metadata) -> TextShape:
    """Heads and their rotated part. Raises: CheckpointError, UnsupportedError."""
    n_heads = metadata.integer(_key("attention.head_count"))
    hidden = metadata.integer(_key("embedding_length"))
    head_dim = metadata.integer(_key("attention.key_length"), default=max(1, hidden // n_heads))
    values = metadata.integer(_key("attention.value_length"), default=head_dim)
    rotary_dim = metadata.integer(_key("rope.dimension_count"), default=head_dim)
    if values != head_dim:
        raise UnsupportedError(f"{metadata.file}: keys of {head_dim} and values of {values} a head are not supported")
    if rotary_dim > head_dim or rotary_dim % 2:
        raise metadata.wrong(_key("rope.dimension_count"), f"an even number of at most {head_dim}")
    n_kv_heads = metadata.integer(_key("attention.head_count_kv"), default=n_heads)
    return TextShape(n_heads, n_kv_heads, head_dim, rotary_dim)


def text_config(
    metadata: Metadata, names: Sequence[str], *, vocab_size: int, rope_factors: Sequence[float] | None
) -> dict[str, object]:
    """The keys of config.json that describe the decoder.

    names: of the checkpoint's tensors; vocab_size: rows of the embedding; rope_factors: what each frequency is divided
    by, for a file that stores them. Raises: CheckpointError, UnsupportedError.
    """
    shape = text_shape(metadata)
    if rope_factors is not None and len(rope_factors) != shape.rotary_dim // 2:
        raise CheckpointError(
            f"{metadata.file}: rope_freqs.weight has {len(rope_factors)} factors, expected {shape.rotary_dim // 2}"
        )
    return {
        "hidden_size": metadata.integer(_key("embedding_length")),
        "num_hidden_layers": metadata.integer(_key("block_count")),
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": metadata.integer(_key("feed_forward_length")),
        "vocab_size": vocab_size,
        "max_position_embeddings": metadata.integer(_key("context_length")),
        "rms_norm_eps": metadata.number(_key("attention.layer_norm_rms_epsilon")),
        "rope_theta": metadata.number(_key("rope.freq_base"), default=10_000.0),
        "rope_scaling": _rope_scaling(metadata, rope_factors),
        "partial_rotary_factor": shape.rotary_dim / shape.head_dim,
        "hidden_act": "silu",
        "attention_bias": any(name.endswith("self_attn.q_proj.bias") for name in names),
        "mlp_bias": any(name.endswith("mlp.up_proj.bias") for name in names),
        "tie_word_embeddings": "lm_head.weight" not in names,
    }


def generation_config(metadata: Metadata) -> dict[str, object]:
    """The ids that end an answer and the one that begins a prompt, as generation_config.json has them."""
    ends = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom")]
    ids = [metadata.integer(key, least=0) for key in ends if metadata.get(key) is not None]
    config: dict[str, object] = {"eos_token_id": list(dict.fromkeys(ids))} if ids else {}
    if metadata.get("tokenizer.ggml.bos_token_id") is not None:
        config["bos_token_id"] = metadata.integer("tokenizer.ggml.bos_token_id", least=0)
    return config


def check_projector(metadata: Metadata) -> None:
    """Refuse a projector file of another kind, naming it. Raises: UnsupportedError, CheckpointError."""
    architecture = metadata.text("general.architecture")
    if architecture != PROJECTOR_ARCHITECTURE:
        raise UnsupportedError(
            f"{metadata.file}: architecture {architecture!r}: expected a projector file"
            f" ({PROJECTOR_ARCHITECTURE!r}) as --mmproj"
        )
    kind = metadata.get("clip.vision.projector_type") or metadata.get("clip.projector_type")
    if kind != PROJECTOR:
        raise UnsupportedError(f"{metadata.file}: projector type {kind!r} is not supported, expected {PROJECTOR!r}")


def vision_config(
    metadata: Metadata, widths: Sequence[int], depths: Sequence[int], *, pos_embed: bool
) -> dict[str, object]:
    """The keys of a yasa2 config.json beside the decoder's. Raises: CheckpointError."""
    tile, patch = metadata.integer("clip.vision.image_size"), metadata.integer("clip.vision.patch_size")
    side = min(POOLED, max(1, tile // patch >> (len(depths) - 1)))
    return {
        "vision_config": {
            "model_type": "convnextv2", "image_size": tile, "patch_size": patch, "num_channels": 3,
            "hidden_act": "gelu", "hidden_sizes": list(widths), "depths": list(depths),
        },
        "num_query_tokens": side * side,
        "use_vision_pos_embed": pos_embed,
    }  # fmt: skip


def preprocessor_config(metadata: Metadata) -> dict[str, object]:
    """Mean and deviation of an image's values. Raises: CheckpointError."""
    return {name: metadata.numbers(f"clip.vision.{name}", 3) for name in ("image_mean", "image_std")}


def unread(metadata: Metadata) -> tuple[str, ...]:
    """The keys of the architecture that say nothing to anyone here, sorted."""
    known = {_key(name) for name in (*_KNOWN, *_INERT)}
    return tuple(sorted(key for key in metadata.values if key.startswith(_key("")) and key not in known))


def _rope_scaling(metadata: Metadata, factors: Sequence[float] | None) -> dict[str, object] | None:
    kind = metadata.text(_key("rope.scaling.type"), default="linear")
    factor = metadata.number(_key("rope.scale_linear"), default=0.0)
    factor = metadata.number(_key("rope.scaling.factor"), default=factor) or 1.0
    plain = kind == "none" or (kind == "linear" and factor == 1.0)
    if factors is not None:
        if not plain:
            raise UnsupportedError(f"{metadata.file}: {kind} scaling beside rope_freqs.weight is not supported")
        return {"rope_type": "factors", "factors": list(factors)}
    if plain:
        return None
    if kind not in ("linear", "yarn"):
        raise UnsupportedError(
            f"{metadata.file}: {_key('rope.scaling.type')} is {kind!r}: not supported, expected none, linear or yarn"
        )
    scaling: dict[str, object] = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        renamed = {"yarn_attn_factor": "attention_factor", "yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow"}
        for name, spelled in renamed.items():
            if metadata.get(_key(f"rope.scaling.{name}")) is not None:
                scaling[spelled] = metadata.number(_key(f"rope.scaling.{name}"))
        scaling["original_max_position_embeddings"] = metadata.integer(_key("rope.scaling.original_context_length"))
    return scaling


def _key(name: str) -> str:
    return f"{ARCHITECTURE}.{name}"
