"""Takes the weights out of an exported INT8 bundle, for a training run that continues from them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from scripts.tiny.lessons.sizes import Shape
from scripts.tiny.training.model import Yasa

Array = npt.NDArray[np.generic]

WORDS = (
    ("embeddings.patch_embeddings.", "patch."),
    ("embeddings.layernorm.", "patch_norm."),
    ("encoder.stages.", "stages."),
    ("downsampling_layer.0.", "down_norm."),
    ("downsampling_layer.1.", "down."),
    (".layers.", ".blocks."),
    (".layernorm.", ".norm."),
)


def load_tower(model: Yasa, bundle: Path) -> None:
    """Sets the model's tower to that of a bundle of the same sizes, with the rounding of its 8 bits.

    Raises: SystemExit naming the tensor that the bundle has in another shape or not at all.
    """
    kept = weights(bundle / "vision.onnx")
    with torch.no_grad():
        for name, parameter in model.model.vision_model.backbone.named_parameters():
            if name.startswith("layernorm."):
                continue  # applied to nothing
            if name.endswith("grn.bias"):
                parameter.zero_()  # the exporter has put it into the bias of the layer that follows
                continue
            put(parameter, tensor(kept, f"vision.{translated(name)}"), f"{bundle}: {name}")


def load_all(model: Yasa, bundle: Path) -> None:
    """Sets the model's tower, projector and decoder to those of a bundle of the same sizes, as load_tower does."""
    load_tower(model, bundle)
    seen, said = weights(bundle / "vision.onnx"), weights(bundle / "decoder.onnx")
    decoder = model.model.language_model
    told: dict[Tensor, Tensor] = {model.lm_head.weight: tensor(said, "decoder.head.weight")}
    told[decoder.norm.weight] = tensor(said, "text.norm")
    for i in (0, 2):
        for kind in ("weight", "bias"):
            told[getattr(model.model.language_projection[i], kind)] = tensor(seen, f"projection.{i}.{kind}")
    for n, layer in enumerate(decoder.blocks):
        own, mlp = layer.self_attn, layer.mlp
        fused = {
            "qkv": (own.q_proj, own.k_proj, own.v_proj), "o": (own.o_proj,), "gate_up": (mlp.gate_proj, mlp.up_proj),
            "down": (mlp.down_proj,),
        }  # fmt: skip
        for path, parts in fused.items():
            rows = tensor(said, f"decoder.layers.{n}.{path}.weight").split([part.out_features for part in parts])
            told |= {part.weight: some for part, some in zip(parts, rows, strict=True)}
        told[layer.input_layernorm.weight] = tensor(said, f"text.layers.{n}.norm1.weight")
        told[layer.post_attention_layernorm.weight] = tensor(said, f"text.layers.{n}.norm2.weight")
    told[decoder.embed_tokens.weight] = embedding_rows(bundle / "embedding.bin", *decoder.embed_tokens.weight.shape)
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for parameter, value in told.items():
            put(parameter, value, f"{bundle}: {names[parameter]}")


def read_bundle(bundle: Path) -> tuple[Yasa, str]:
    """A model with all of a bundle's weights, what only serves the training as it begins, and its tokenizer.json.

    Raises: SystemExit where the bundle is of other sizes than scripts/tiny trains.
    """
    text = json.loads(existing(bundle / "manifest.json").read_text())["text"]
    shape = Shape(vocab_size=text["vocab_size"])
    sizes = {"n_layers": shape.layers, "n_heads": shape.heads, "n_kv_heads": shape.kv_heads}
    sizes |= {"hidden_size": shape.hidden_size, "intermediate_size": shape.intermediate_size}
    for name, size in sizes.items():
        if text[name] != size:
            raise SystemExit(f"{bundle}: {name}: expected {size}, found {text[name]}")
    torch.manual_seed(0)
    model = Yasa(shape)
    load_all(model, bundle)
    return model, (bundle / "tokenizer.json").read_text()


def with_tower(model: Yasa, trained: dict[str, Tensor]) -> Yasa:
    """A model with the decoder and projector of this one, and for all else the weights of a run that has looked."""
    other = copy.deepcopy(model)
    spoken = ("model.language_model.", "model.language_projection.", "lm_head.")
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if not name.startswith(spoken):
                put(parameter, trained[name], f"the run that has looked: {name}")
    return other


def existing(file: Path) -> Path:
    """A file of a bundle. Raises: SystemExit where there is none."""
    if not file.exists():
        raise SystemExit(f"{file.parent}: expected a bundle, found no {file.name} in it")
    return file


def weights(graph: Path) -> dict[str, Array]:
    """All tensors that a graph keeps, by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(existing(graph)).graph.initializer}


def embedding_rows(table: Path, rows: int, width: int) -> Tensor:
    """(rows, width) float32 of an embedding.bin in int8, whose rows' scales follow all of them."""
    expected, kept = rows * (width + 4), np.fromfile(table, np.int8)
    if len(kept) != expected:
        raise SystemExit(f"{table}: expected {rows} rows of {width} int8 and their scales, found {len(kept)} bytes")
    scales = kept[rows * width :].view("<f4")
    return torch.from_numpy(kept[: rows * width].reshape(rows, width).astype(np.float32) * scales[:, None])


def put(parameter: Tensor, value: Tensor, name: str) -> None:
    if value.numel() != parameter.numel():
        raise SystemExit(f"{name}: expected {tuple(parameter.shape)}, found {tuple(value.shape)}")
    parameter.copy_(value.reshape(parameter.shape))


def translated(name: str) -> str:
    for ours, graphs in WORDS:
        name = name.replace(ours, graphs)
    return name


def tensor(kept: dict[str, Array], name: str) -> Tensor:
    """One tensor as float32, in the direction in which torch keeps it."""
    if name not in kept:
        raise SystemExit(f"{name}: the bundle has no such tensor")
    value = kept[name]
    if value.dtype == np.int8:
        scales = kept[name.replace(".weight", ".scales")].astype(np.float32)
        value = (value.astype(np.float32) * scales).T
    elif value.ndim == 2:
        raise SystemExit(f"{name}: expected a bundle of the recipe int8, found a matrix in {value.dtype}")
    return torch.from_numpy(np.array(value, np.float32, order="C"))
