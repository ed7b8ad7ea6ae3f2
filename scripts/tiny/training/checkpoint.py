"""Save a training run as a checkpoint in the released format: config, tokenizer and safetensors, these in float32."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from scripts.tiny.lessons.sizes import Shape
from scripts.tiny.training.model import MEAN, STD, Yasa


def configuration(shape: Shape) -> dict[str, object]:
    text = {
        "model_type": "yasa_model",
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_query_groups": shape.kv_heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.intermediate_size,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.context,
        "rotary_pct": shape.rotary_pct,
        "rotary_emb_base": 10000,
        "rms_norm_eps": 1e-5,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
    }
    vision = {
        "model_type": "convnextv2",
        "image_size": shape.tile_px,
        "patch_size": shape.patch_px,
        "hidden_sizes": list(shape.dims),
        "depths": list(shape.depths),
        "num_channels": 3,
    }
    return {
        "architectures": ["Yasa2ForConditionalGeneration"],
        "model_type": "yasa2",
        "torch_dtype": "float32",
        "text_config": text,
        "vision_config": vision,
        "vision_max_tiles_num": 1,
        "num_query_tokens": shape.tokens,
        "use_vision_pos_embed": True,
    }


def save(run: Path, folder: Path) -> None:
    """Writes the slow average of the run's weights, which answers better than the last step's, over what an earlier end
    of the run left. In float32: what came out of a bundle's 8 bits and stayed as it was goes back into the same ones.
    """
    state = torch.load(run / "run.pt", weights_only=True)
    shape = Shape(vocab_size=state["model"]["lm_head.weight"].shape[0])
    model = Yasa(shape)
    model.load_state_dict(state["slow"])
    kept = {
        k: v.detach().float().contiguous()
        for k, v in model.state_dict().items()
        if k.startswith(("model.", "lm_head."))
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    preprocessor = {"image_mean": list(MEAN), "image_std": list(STD), "resample": 2}
    for name, content in (("config.json", configuration(shape)), ("preprocessor_config.json", preprocessor)):
        (folder / name).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    (folder / "tokenizer.json").write_text((run / "tokenizer.json").read_text())
