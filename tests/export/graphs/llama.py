"""The decoder in transformers' own modules, loaded with weights by role."""

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM, PreTrainedModel

from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.checkpoint.rope import RopeScaling
from tests.export.checkpoint.random_weights import RandomWeights

_SPLIT = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
_FUSED = {
    "self_attn.qkv_proj": ("q", "k", "v"), "self_attn.o_proj": ("o",),
    "mlp.gate_up_proj": ("gate", "up"), "mlp.down_proj": ("down",),
}  # fmt: skip


def settings(text: TextConfig) -> dict[str, object]:
    """What both configurations share."""
    return {
        "hidden_size": text.hidden_size, "num_hidden_layers": text.n_layers, "num_attention_heads": text.n_heads,
        "num_key_value_heads": text.n_kv_heads, "intermediate_size": text.intermediate_size,
        "vocab_size": text.vocab_size, "max_position_embeddings": text.context, "rms_norm_eps": text.norm_eps,
        "rope_theta": text.rope_base, "tie_word_embeddings": text.tied, "attn_implementation": "eager",
        "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip


def scaling(rope: RopeScaling | None) -> dict[str, object] | None:
    """rope_scaling as transformers wants it."""
    if rope is None:
        return None
    fields: dict[str, object] = {"rope_type": rope.kind, "factor": rope.factor}
    if rope.kind == "llama3":
        fields |= {"low_freq_factor": rope.low_freq_factor, "high_freq_factor": rope.high_freq_factor}
    if rope.kind == "yarn":
        fields |= {"beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow}
    if rope.kind != "linear":
        fields["original_max_position_embeddings"] = rope.original_context
    return fields


def llama_config(text: TextConfig) -> LlamaConfig:
    return LlamaConfig(
        **settings(text), head_dim=text.head_dim, attention_bias=text.attention_bias, mlp_bias=text.mlp_bias,
        rope_scaling=scaling(text.rope_scaling),
    )  # fmt: skip


def llama(weights: RandomWeights, text: TextConfig) -> PreTrainedModel:
    """The whole head rotated, biases as configured."""
    state = _shared(weights, text)
    for layer in range(text.n_layers):
        for part, name in _SPLIT.items():
            for kind in ("weight", "bias"):
                if weights.has(f"text.layers.{layer}.{part}.{kind}"):
                    state[f"model.layers.{layer}.{name}.{kind}"] = weights.tensor(f"text.layers.{layer}.{part}.{kind}")
    return _loaded(LlamaForCausalLM(llama_config(text)), state)


def phi3(weights: RandomWeights, text: TextConfig) -> PreTrainedModel:
    """The same decoder, but for a partly rotated head; qkv and gate_up are fused in it."""
    state = _shared(weights, text)
    for layer in range(text.n_layers):
        for name, parts in _FUSED.items():
            rows = [weights.tensor(f"text.layers.{layer}.{part}.weight") for part in parts]
            state[f"model.layers.{layer}.{name}.weight"] = np.concatenate(rows)
    return _loaded(Phi3ForCausalLM(Phi3Config(**settings(text), partial_rotary_factor=text.rotary_share)), state)


def logits(reference: PreTrainedModel, embeds: F32) -> F32:
    """embeds: (B, S, H) -> (B, S, V)."""
    with torch.no_grad():
        found: F32 = reference(inputs_embeds=torch.from_numpy(embeds)).logits.numpy()
    return found


def _shared(weights: RandomWeights, text: TextConfig) -> dict[str, F32]:
    state = {"model.embed_tokens.weight": weights.tensor("text.embed"), "lm_head.weight": weights.tensor("text.head")}
    state["model.norm.weight"] = weights.tensor("text.norm")
    for layer in range(text.n_layers):
        names = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
        for role, name in names.items():
            state[f"model.layers.{layer}.{name}.weight"] = weights.tensor(f"text.layers.{layer}.{role}.weight")
    return state


def _loaded(reference: PreTrainedModel, state: dict[str, F32]) -> PreTrainedModel:
    reference.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    return reference.eval()
