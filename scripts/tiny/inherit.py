"""Takes the tower out of an exported bundle, for a training run that goes on from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from model import Yasa

WORDS = (
    ("embeddings.patch_embeddings.", "patch."),
    ("embeddings.layernorm.", "patch_norm."),
    ("encoder.stages.", "stages."),
    ("downsampling_layer.0.", "down_norm."),
    ("downsampling_layer.1.", "down."),
    (".layers.", ".blocks."),
    (".layernorm.", ".norm."),
)


def inherit_tower(model: Yasa, bundle: Path) -> None:
    """Sets the model's tower to that of a bundle of the same sizes, with the rounding of its 8 bits.

    Raises: SystemExit naming the tensor that the bundle has in another shape or not at all.
    """
    graph = onnx.load(bundle / "vision.onnx").graph
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    with torch.no_grad():
        for name, parameter in model.model.vision_model.backbone.named_parameters():
            if name.startswith("layernorm."):
                continue  # applied to nothing
            if name.endswith("grn.bias"):
                parameter.zero_()  # the exporter has put it into the bias of the layer that follows
                continue
            found = tensor(kept, f"vision.{translated(name)}")
            if found.numel() != parameter.numel():
                raise SystemExit(f"{bundle}: {name}: expected {tuple(parameter.shape)}, found {tuple(found.shape)}")
            parameter.copy_(found.reshape(parameter.shape))


def translated(name: str) -> str:
    for ours, graphs in WORDS:
        name = name.replace(ours, graphs)
    return name


def tensor(kept: dict[str, np.ndarray], name: str) -> Tensor:
    """One tensor as float32, in the direction in which torch keeps it."""
    if name not in kept:
        raise SystemExit(f"{name}: the bundle's vision.onnx has no such tensor")
    value = kept[name]
    if value.dtype == np.int8:
        value = (value.astype(np.float32) * kept[name.replace(".weight", ".scales")]).T
    return torch.from_numpy(np.array(value, np.float32, order="C"))
