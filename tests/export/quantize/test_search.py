"""What rounding a layer is expected to cost, against what it costs; and the choice of schemes by it."""

import weakref
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.bundle.manifest import Scheme
from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.checkpoint.names import Weights
from export.errors import RecipeError
from export.quantize import blocks, sensitivity
from export.quantize.search import CORRECTED, divergence, tensor_bytes, within_bytes, within_kl
from export.quantize.sensitivity import Sensitivity, sensitivities
from tests.export.checkpoint.random_weights import TEXT, RandomWeights, model
from tests.export.graphs import llama

SCHEMES: tuple[Scheme, ...] = ("int4-block32", "int8-block32")
TEXT_1 = replace(TEXT, n_layers=1)


def layers() -> list[Sensitivity]:
    rng = np.random.default_rng(2)
    shapes = [(64, 64), (64, 256), (256, 64), (96, 96), (64, 128)]
    costs = rng.random(len(shapes))
    return [
        Sensitivity(
            f"decoder.layers.{n}.o",
            shape,
            {"int4-block64": 1.3 * cost, "int4-block32": cost, "int8-block32": 0.01 * cost},
        )
        for n, (shape, cost) in enumerate(zip(shapes, costs, strict=True))
    ]


def prompts(n_prompts: int = 24) -> list[F32]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal((48, TEXT.hidden_size)).astype(np.float32) for _ in range(n_prompts)]


def test_a_layer_is_given_up_before_the_next_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[object] = weakref.WeakSet()
    begin, most = sensitivity._Layer.__init__, [0]

    def counted(self: sensitivity._Layer, weights: Weights, text: TextConfig, n: int) -> None:
        alive.add(self)
        most.append(len(alive))
        begin(self, weights, text, n)

    monkeypatch.setattr(sensitivity._Layer, "__init__", counted)
    sensitivities(
        RandomWeights(model(TEXT)), TEXT, prompts(2), schemes=SCHEMES, scratch=tmp_path, progress=lambda *_: None
    )  # type: ignore[arg-type]
    assert len(most) > 2 and max(most) == 1


def test_rows_worked_on_at_once_change_no_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for n_bytes in (sensitivity.BLOCK_BYTES, 7 * 4 * TEXT.hidden_size):
        monkeypatch.setattr(sensitivity, "BLOCK_BYTES", n_bytes)
        estimates = sensitivities(
            RandomWeights(model(TEXT)), TEXT, prompts(2), schemes=SCHEMES, scratch=tmp_path, progress=lambda *_: None
        )  # type: ignore[arg-type]
        found.append([each.kl[scheme] for each in estimates for scheme in SCHEMES])
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("changes", [{}, {"logit_scale": 3.0, "attention_bias": True}])
def test_estimates_add_up_to_the_divergence_of_the_rounded_model(tmp_path: Path, changes: dict[str, object]) -> None:
    text = replace(TEXT, **{"logit_scale": 6.0} | changes)
    weights, form = RandomWeights(model(text)), blocks.Format(4, 32)
    found = sensitivities(weights, text, prompts(), schemes=SCHEMES, scratch=tmp_path, progress=lambda *_: None)
    assert [each.path for each in found[:4]] == [f"decoder.layers.1.{part}" for part in ("qkv", "o", "gate_up", "down")]
    whole, coarse = llama.llama(weights, text), llama.llama(weights, text)
    for name, parameter in coarse.named_parameters():
        if "proj" in name and name.endswith("weight"):
            rounded = blocks.quantize(parameter.detach().numpy(), form)
            parameter.data = torch.from_numpy(blocks.dequantize(rounded, columns=parameter.shape[1]))
    total = []
    for prompt in prompts():
        expected, got = (
            torch.log_softmax(torch.from_numpy(llama.logits(each, prompt[None])[0] * text.logit_scale), -1)
            for each in (whole, coarse)
        )
        total.append(float((expected.exp() * (expected - got)).sum(-1).mean()))
    estimate = sum(each.kl["int4-block32"] for each in found)
    assert 0.4 < estimate / np.mean(total) < 2.5
    assert sum(each.kl["int8-block32"] for each in found) < 0.02 * estimate


def test_bytes_are_kept_within_and_spent() -> None:
    each = layers()
    smallest, largest = ({layer.path: scheme for layer in each} for scheme in ("int4-block64", "int8-block32"))
    limit = (tensor_bytes(each, smallest) + tensor_bytes(each, largest)) / 2
    choice = within_bytes(each, limit)
    assert 0.9 * limit < tensor_bytes(each, choice) <= limit


def test_choice_is_nearly_the_best_there_is() -> None:
    each = layers()
    choices = [
        dict(zip((layer.path for layer in each), schemes, strict=True))
        for schemes in product(each[0].kl, repeat=len(each))
    ]
    for limit in (30_000, 35_000, 40_000):
        best = min(divergence(each, choice) for choice in choices if tensor_bytes(each, choice) <= limit)
        assert divergence(each, within_bytes(each, limit)) <= 1.3 * best


def test_divergence_is_kept_within_by_the_fewest_bytes_found() -> None:
    each = layers()
    limits = [0.05, 0.2, 0.8]
    choices = [within_kl(each, limit) for limit in limits]
    assert all(divergence(each, choice) <= limit for choice, limit in zip(choices, limits, strict=True))
    sizes = [tensor_bytes(each, choice) for choice in choices]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_limits_that_nothing_keeps_within_are_refused_with_both_numbers() -> None:
    with pytest.raises(RecipeError, match=r"have \d+ bytes in the smallest schemes, expected at most 1000"):
        within_bytes(layers(), 1000)
    with pytest.raises(RecipeError, match="divergence of .*, expected at most 1e-09"):
        within_kl(layers(), 1e-9)


def test_four_bits_cost_what_calibration_leaves_of_them() -> None:
    (layer,) = layers()[:1]
    assert divergence([layer], {layer.path: "int4-block32"}) == pytest.approx(CORRECTED * layer.kl["int4-block32"])
    assert divergence([layer], {layer.path: "int8-block32"}) == layer.kl["int8-block32"]
