"""Calibration data in the decoder against transformers' modules on the same data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.errors import CalibrationError
from export.graphs.rotary import head_order
from export.quantize import gptq
from export.quantize.blocks import Format
from export.quantize.calibration import Calibration
from tests.export.checkpoint.random_weights import TEXT, RandomWeights, model
from tests.export.graphs import llama

FORM = Format(4, 32)
PARTS = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
MODULES = {"qkv": "self_attn.q_proj", "o": "self_attn.o_proj", "gate_up": "mlp.up_proj", "down": "mlp.down_proj"}
FUSED = MODULES | {"qkv": "self_attn.qkv_proj", "gate_up": "mlp.gate_up_proj"}


def prompts(text: TextConfig) -> list[F32]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal((length, text.hidden_size)).astype(np.float32) for length in (40, 23, 64)]


def ordered(values: F32, role: str, text: TextConfig) -> F32:
    """Rows of query and key heads in the order that the graph stores them in."""
    order = head_order(text)
    if order is None or role not in ("q", "k"):
        return values
    return values.reshape(-1, text.head_dim, values.shape[1])[:, order].reshape(values.shape)


def matrix(weights: RandomWeights, text: TextConfig, layer: int, part: str) -> F32:
    at = f"text.layers.{layer}"
    return np.concatenate([ordered(weights.tensor(f"{at}.{role}.weight"), role, text) for role in PARTS[part]])


def inputs_of(weights: RandomWeights, text: TextConfig, layer: int, part: str) -> F32:
    """What the linear layer of transformers' module is fed, all prompts together."""
    whole = text.rotary_share == 1
    reference = llama.llama(weights, text) if whole else llama.phi3(weights, text)
    seen: list[F32] = []
    module = reference.model.layers[layer].get_submodule((MODULES if whole else FUSED)[part])
    module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][0].numpy()))
    for prompt in prompts(text):
        llama.logits(reference, prompt[None])
    return np.concatenate(seen)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("wanted", [(0, "qkv"), (0, "o"), (0, "down"), (1, "qkv"), (1, "gate_up"), (1, "down")])
def test_each_layer_sees_what_transformers_feeds_it(wanted: tuple[int, str], share: float) -> None:
    text = TEXT if share == 1 else replace(TEXT, rotary_share=share, n_heads=2, n_kv_heads=1, head_dim=48)
    weights = RandomWeights(model(text))
    calibration = Calibration(weights, text, prompts(text), head_order=head_order(text))
    for layer in range(text.n_layers):
        for part in PARTS:
            path, stored = f"decoder.layers.{layer}.{part}", matrix(weights, text, layer, part)
            if (layer, part) == wanted:
                inputs = inputs_of(weights, text, layer, part)
                expected = gptq.quantize(stored, torch.from_numpy(inputs.T @ inputs), FORM)
                found = calibration.quantize(path, stored, FORM)
                # The same sums in another order: now and then a weight between two levels goes the other way.
                assert np.mean(found.values != expected.values) < 0.01
                assert np.allclose(found.scales, expected.scales, rtol=0.01)
                return
            calibration.advance(path, stored, None)


def test_layers_out_of_order_are_an_error() -> None:
    weights = RandomWeights(model(TEXT))
    calibration = Calibration(weights, TEXT, prompts(TEXT))
    with pytest.raises(CalibrationError, match=r"come to decoder\.layers\.0\.qkv, got decoder\.layers\.0\.o"):
        calibration.quantize("decoder.layers.0.o", matrix(weights, TEXT, 0, "o"), FORM)


def test_no_data_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="expected at least one text"):
        Calibration(RandomWeights(model(TEXT)), TEXT, [])


def test_towers_head_and_table_are_not_covered() -> None:
    calibration = Calibration(RandomWeights(model(TEXT)), TEXT, prompts(TEXT))
    assert [calibration.covers(path) for path in ("decoder.layers.1.o", "decoder.head", "vision.layers.0.o")] == [
        True, False, False,
    ]  # fmt: skip
