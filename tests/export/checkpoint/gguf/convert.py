"""Runs llama.cpp's own converter in a process of its own: convert.py SOURCES ARGUMENTS...

SOURCES is a folder of llama.cpp's sources. A random vocabulary has no pre-tokenizer that the converter knows, so it is
given one. For yasa2 the converter has no classes; these write the names and metadata of Reka's convert_reka_vlm_to_gguf
and use the converter for everything else.
"""

import re
import sys
from collections.abc import Iterable

sys.path.insert(0, sys.argv.pop(1))

import convert_hf_to_gguf as converter
import numpy as np
import torch
from conversion.base import MmprojModel, TextModel, gguf
from conversion.llama import LlamaModel

PARTS = {"dwconv": "dw", "layernorm": "ln", "pwconv1": "pw1", "grn": "grn", "pwconv2": "pw2"}
TOP = {"patch_embeddings": "v.patch_embd", "layernorm": "v.patch_ln"}


class Text(LlamaModel):  # type: ignore[misc]
    """The decoder: a Llama with other names."""

    model_arch = gguf.MODEL_ARCH.LLAMA

    def set_vocab(self) -> None:
        self._set_vocab_gpt2()

    def modify_tensors(
        self, data_torch: torch.Tensor, name: str, bid: int | None
    ) -> Iterable[tuple[str, torch.Tensor]]:
        name = re.sub(r"^model\.language_model\.", "model.", name)
        if name == "lm_head.weight" or name.startswith(("model.embed_tokens.", "model.norm.", "model.layers.")):
            yield from super().modify_tensors(data_torch, name, bid)


class Vision(MmprojModel):  # type: ignore[misc]
    """The tower and its projection."""

    model_arch = gguf.MODEL_ARCH.MMPROJ

    def get_vision_config(self) -> dict[str, object]:
        config = dict(self.global_config["vision_config"])
        return {**config, "num_hidden_layers": sum(config["depths"])}

    def set_gguf_parameters(self) -> None:
        vision, writer = self.global_config["vision_config"], self.gguf_writer
        writer.add_file_type(self.ftype)
        writer.add_clip_has_vision_encoder(True)
        writer.add_clip_projector_type("yasa2")
        writer.add_vision_projection_dim(self.n_embd_text)
        writer.add_vision_image_size(vision["image_size"])
        writer.add_vision_patch_size(vision["patch_size"])
        writer.add_vision_embedding_length(vision["hidden_sizes"][-1])
        writer.add_vision_feed_forward_length(vision["hidden_sizes"][-1])
        writer.add_vision_block_count(0)
        writer.add_vision_head_count(1)
        writer.add_vision_attention_layernorm_eps(1e-6)
        writer.add_vision_use_gelu(True)
        writer.add_vision_image_mean(self.preprocessor_config["image_mean"])
        writer.add_vision_image_std(self.preprocessor_config["image_std"])

    def generate_extra_tensors(self) -> Iterable[tuple[str, torch.Tensor]]:
        width = self.global_config["vision_config"]["hidden_sizes"][-1]
        omega = 1 / 10_000.0 ** (np.arange(width // 4, dtype=np.float32) / (width / 4))
        cells = np.arange(256)
        waves = [wave(np.outer(at, omega)) for at in (cells % 50, cells // 50) for wave in (np.sin, np.cos)]
        yield "v.vision_pos_embed", torch.from_numpy(np.concatenate(waves, 1).astype(np.float32))

    def modify_tensors(
        self, data_torch: torch.Tensor, name: str, bid: int | None
    ) -> Iterable[tuple[str, torch.Tensor]]:
        spelled = name if name.startswith("v.") else placed(name.removeprefix("model."))
        if spelled is not None:
            yield spelled, data_torch


def placed(name: str) -> str | None:
    """The name that llama.cpp's graph of yasa2 loads a tensor by."""
    if name.startswith("language_projection."):
        return name.replace("language_projection.", "mm.")
    base, _, kind = name.removeprefix("vision_model.backbone.").rpartition(".")
    if base == "layernorm":
        return f"v.backbone_ln.{kind}"
    if base.startswith("embeddings."):
        return f"{TOP[base.removeprefix('embeddings.')]}.{kind}"
    stage, _, rest = base.removeprefix("encoder.stages.").partition(".")
    if rest.startswith("downsampling_layer."):
        return f"v.stage.{stage}.down.{'ln' if rest.endswith('0') else 'conv'}.{kind}"
    match = re.fullmatch(r"layers\.(\d+)\.(\w+)", rest)
    return None if match is None else f"v.stage.{stage}.blk.{match[1]}.{PARTS[match[2]]}.{kind}"


def no_model(self: TextModel) -> None:
    """The converter asks for the package sentencepiece before it looks whether there is anything to read by it."""
    raise FileNotFoundError


def class_of(architecture: str, *, mmproj: bool = False) -> type:
    """The converter's class, ours for yasa2."""
    if architecture == "Yasa2ForConditionalGeneration":
        return Vision if mmproj else Text
    return registered(architecture, mmproj=mmproj)


registered = converter.get_model_class
converter.get_model_class = class_of
TextModel._set_vocab_sentencepiece = no_model
TextModel.get_vocab_base_pre = lambda self, tokenizer: "llama-bpe"

if __name__ == "__main__":
    converter.main()
