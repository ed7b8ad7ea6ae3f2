"""GGUF files exported by recipe carry: the bundle has their levels and scales."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize
from gguf.constants import GGML_QUANT_SIZES

from edge.bundle.bundle import Bundle
from edge.chat import next_logits
from edge.engine.engine import Engine
from export import arrays
from export.build import build, default_recipe
from export.checkpoint.names import Weights
from export.checkpoint.random_shapes import TINY, TINY_FLASH
from export.errors import RecipeError
from export.quantize import carry
from tests.conftest import CheckpointOf
from tests.export.checkpoint.gguf.gguf_files import F16, F32, Q8_0, write_mmproj, write_text

Q4_0, Q4_1, Q4_K = GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q4_K
Q5_0, Q5_1, IQ4_NL = GGMLQuantizationType.Q5_0, GGMLQuantizationType.Q5_1, GGMLQuantizationType.IQ4_NL
SCHEMES = {Q8_0: "int8-block32", Q5_0: "int8-block32", Q4_0: "int4-block32", Q4_1: "int4-block32-min"}


@dataclass(frozen=True)
class StoredRows:
    """Stands in for `Weights`: one tensor of some type, bytes and values."""

    type: GGMLQuantizationType
    data: arrays.U8

    def kind(self, role: str) -> str:
        return self.type.name

    def stored_rows(self, role: str, rows: slice) -> arrays.U8:
        return self.data[rows]

    def tensor(self, role: str, *, rows: slice) -> arrays.F32:
        return dequantize(self.data, self.type)[rows]


def random_rows(kind: GGMLQuantizationType, *, n_rows: int = 24, n_blocks: int = 5) -> arrays.U8:
    """Rows of random levels with scales that are numbers."""
    rng = np.random.default_rng(int(kind))
    size = GGML_QUANT_SIZES[kind][1]
    data = rng.integers(0, 256, (n_rows, n_blocks, size), np.uint8)
    scales = (rng.standard_normal((n_rows, n_blocks, 2)) / 50).astype(np.float16).view(np.uint8)
    n_scales = 4 if kind in (Q4_1, Q4_K) else 2  # a scale, and a minimum or its step
    data[..., :n_scales] = scales.reshape(n_rows, n_blocks, 4)[..., :n_scales]
    data[3, 1] = 0
    return data.reshape(n_rows, -1)


def recipe_of(bundle: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((bundle / "manifest.json").read_bytes())["recipe"]["tensors"]
    return found


@pytest.mark.parametrize("kind", [Q8_0, Q5_0, Q4_0, Q4_1, IQ4_NL], ids=lambda kind: kind.name)
def test_every_level_and_scale_is_kept(kind: GGMLQuantizationType) -> None:
    data = random_rows(kind)
    stored = cast(Weights, StoredRows(kind, data))
    values = dequantize(data, kind)
    for scheme, held in carry.HOLDS.items():
        if kind.name in held:
            kept = carry.kept_rows(stored, "any", slice(2, 20), scheme)
            np.testing.assert_array_equal(carry.dequantize(kept, columns=values.shape[1]), values[2:20])


def test_q4_k_is_kept_but_for_the_rounding_of_its_scales() -> None:
    data = random_rows(Q4_K)
    values = dequantize(data, Q4_K)
    kept = carry.kept_rows(cast(Weights, StoredRows(Q4_K, data)), "any", slice(0, 24), "int4-block32-min")
    off = np.linalg.norm(carry.dequantize(kept, columns=values.shape[1]) - values) / np.linalg.norm(values)
    assert 0 < off < 5e-4


@pytest.mark.parametrize(
    ("kinds", "scheme"),
    [
        (["Q4_0"], "int4-block32"),
        (["Q4_0", "Q4_1"], "int4-block32-min"),
        (["Q4_K", "Q4_K", "Q4_K"], "int4-block32-min"),
        (["Q8_0", "Q4_0"], "int8-block32"),
        (["Q4_K", "Q6_K"], "int8-block32"),
        (["Q3_K"], "int8-block32"),
        (["F16"], "int8-block32"),
    ],
)
def test_the_smallest_scheme_that_keeps_all_rows_is_taken(kinds: list[str], scheme: str) -> None:
    assert carry.scheme_of(kinds) == scheme
    assert carry.scheme_of(kinds, table=True) == "int8-block32"


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", SCHEMES, ids=lambda kind: kind.name)
def test_a_bundle_keeps_what_the_file_has(
    kind: GGMLQuantizationType, tied: bool, checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    path = write_text(checkpoint_of(replace(TINY_FLASH, tied=tied)), tmp_path / "m.gguf", kind=kind)
    bundles = [build(path, tmp_path / str(recipe), recipe=recipe, certificate="off") for recipe in (None, "fp32")]
    tensors = recipe_of(bundles[0])
    assert Bundle.open(bundles[0]).manifest.recipe.name == "carry"
    layers = {record["scheme"] for name, record in tensors.items() if name.startswith("decoder.layers.")}
    assert layers == {SCHEMES[kind]}
    # Rows of the table are looked up, so it has 8 bits, and Q4_1's minimums have no place in them.
    losing = {"decoder.embed", "decoder.head"} if tied else {"decoder.embed"}
    lossy = {name for name, record in tensors.items() if record["error"] != 0}
    assert lossy == (losing if kind == Q4_1 else set())
    logits = []
    for bundle in bundles:
        with Engine.open(bundle) as engine:
            logits.append(next_logits(engine, [{"role": "user", "content": "Who are you?"}]))
    assert np.corrcoef(logits)[0, 1] > 0.999


def test_rows_of_rotated_heads_are_kept_in_the_kernels_order(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    keys = {"llama.rope.dimension_count": 8}  # not a multiple of 16: the rows of each head are spread
    path = write_text(checkpoint_of(TINY_FLASH), tmp_path / "m.gguf", kind=Q4_1, keys=keys)
    logits = []
    for recipe in ("carry", "fp32"):
        bundle = build(path, tmp_path / recipe, recipe=recipe, certificate="off")
        with Engine.open(bundle) as engine:
            logits.append(next_logits(engine, [{"role": "user", "content": "Who are you?"}]))
    assert np.corrcoef(logits)[0, 1] > 0.999


@pytest.mark.parametrize(
    ("kinds", "scheme", "is_exact"),
    [
        ({"attn_v.weight": Q8_0}, "int8-block32", True),
        ({"attn_k.weight": Q4_1}, "int4-block32-min", True),
        ({"attn_k.weight": Q4_1, "attn_v.weight": Q8_0}, "int8-block32", False),
        ({"attn_q.weight": Q5_1}, "int8-block32", False),
        ({"attn_q.weight": F16}, "int8-block32", False),
    ],
)
def test_parts_of_a_layer_share_a_scheme(
    kinds: Mapping[str, GGMLQuantizationType], scheme: str, is_exact: bool, checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    path = write_text(checkpoint_of(TINY_FLASH), tmp_path / "m.gguf", kind=Q4_0, kinds=kinds)
    record = recipe_of(build(path, tmp_path / "b", certificate="off"))["decoder.layers.1.qkv"]
    assert record["scheme"] == scheme
    assert (record["error"] == 0) is is_exact
    assert cast(float, record["error"]) < 0.01


def test_a_yasa2_pair_keeps_its_text_and_has_vision_in_8_bits(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = write_text(tiny_checkpoint, tmp_path / "m.gguf", kind=Q4_0)
    vision = write_mmproj(tiny_checkpoint, tmp_path / "v.gguf", kind=F16)
    tensors = recipe_of(build(text, tmp_path / "b", mmproj=vision, certificate="off"))
    assert tensors["decoder.layers.0.gate_up"] == {"scheme": "int4-block32", "error": 0.0}
    assert tensors["projection.2"]["scheme"] == "int8"
    source = Bundle.open(tmp_path / "b").manifest.source
    assert set(source.files) == {"m.gguf", "v.gguf"}


def test_a_quantized_projector_is_kept_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = write_text(tiny_checkpoint, tmp_path / "m.gguf", kind=Q8_0)
    vision = write_mmproj(tiny_checkpoint, tmp_path / "v.gguf", kind=Q8_0)
    bundles = [
        build(text, tmp_path / recipe, mmproj=vision, recipe=recipe, certificate="off") for recipe in ("carry", "fp32")
    ]
    tensors = recipe_of(bundles[0])
    kept = [name for name, record in tensors.items() if record == {"scheme": "int8-block32", "error": 0.0}]
    assert {"projection.2", "vision.stages.0.blocks.0.pwconv2", "vision.stages.2.blocks.1.pwconv1"} <= set(kept)
    assert tensors["projection.0"]["scheme"] == "int8"  # rows of 48: in half precision in the file
    rows = []
    for bundle in bundles:
        with Engine.open(bundle) as engine:
            rows.append(engine.encode_image(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).reshape(-1))
    assert np.corrcoef(rows)[0, 1] > 0.999


def test_the_certificate_of_a_pair_compares_with_the_files_themselves(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = write_text(tiny_checkpoint, tmp_path / "m.gguf", kind=Q4_0)
    vision = write_mmproj(tiny_checkpoint, tmp_path / "v.gguf", kind=F16)
    measured = json.loads((build(text, tmp_path / "b", mmproj=vision) / "certificate.json").read_bytes())
    assert measured["recipe"] == "carry"
    assert measured["kl"]["mean"] < 0.01
    assert measured["image_cosine"]["mean"] > 0.999


@pytest.mark.parametrize(("kind", "recipe"), [(Q8_0, "carry"), (Q4_1, "carry"), (F16, "int8"), (F32, "int8")])
def test_quantized_files_are_carried_unless_another_recipe_is_named(
    kind: GGMLQuantizationType, recipe: str, checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    assert default_recipe(write_text(checkpoint_of(TINY_FLASH), tmp_path / "m.gguf", kind=kind)) == recipe


def test_a_folder_has_nothing_to_carry(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    assert default_recipe(checkpoint_of(TINY)) == "int8"
    with pytest.raises(RecipeError, match="recipe carry keeps the values of a GGUF file, and the checkpoint is none"):
        build(checkpoint_of(TINY_FLASH), tmp_path / "b", recipe="carry", certificate="off")


def test_kept_values_are_not_moved(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    path = write_text(checkpoint_of(TINY_FLASH), tmp_path / "m.gguf", kind=Q4_1)
    for key in ("calibrate", "rotate"):
        recipe = tmp_path / "mine.toml"
        recipe.write_text(f'carry = true\n{key} = true\n[[rules]]\ntensors = "*"\nscheme = "int8-block32"\n')
        with pytest.raises(RecipeError, match="recipe mine keeps the values of a file: they are not calibrated"):
            build(path, tmp_path / "b", recipe=str(recipe), certificate="off")


def test_texts_for_kept_values_are_refused_with_what_to_do(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    path = write_text(checkpoint_of(TINY_FLASH), tmp_path / "m.gguf", kind=Q4_1)
    with pytest.raises(RecipeError, match="recipe carry keeps .* choose another, such as --recipe int4"):
        build(path, tmp_path / "b", certificate="off", calibrate=tmp_path / "texts.jsonl")


def test_two_exports_give_the_same_bytes(checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    path = write_text(checkpoint_of(TINY_FLASH), tmp_path / "m.gguf", kind=Q4_1)
    one, other = (build(path, tmp_path / name, certificate="off") for name in ("a", "b"))
    for file in sorted(one.iterdir()):
        assert file.read_bytes() == (other / file.name).read_bytes()
