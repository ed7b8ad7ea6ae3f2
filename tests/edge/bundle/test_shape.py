"""What a model is made of, by its manifest alone and by a checkpoint's configuration alone."""

from collections.abc import Mapping

import pytest

from edge.bundle import store
from edge.bundle.checkpoint_shape import of_config
from edge.bundle.manifest import Manifest
from edge.bundle.shape import ModelShape, of_manifest
from edge.bundle.sizes import Matrix, packed_bytes, stored_bytes
from edge.errors import BundleError, ParameterError, UnsupportedError

TEXT = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 11008, "vocab_size": 100352, "max_position_embeddings": 16384,
}  # fmt: skip
EDGE_7B = {
    "architectures": ["Yasa2ForConditionalGeneration"],
    "model_type": "yasa2",
    "text_config": TEXT,
    "vision_config": {
        "hidden_sizes": [352, 704, 1408, 2816], "depths": [3, 3, 27, 3], "image_size": 512, "patch_size": 4
    },
    "num_query_tokens": 64,
    "vision_max_tiles_num": 4,
}  # fmt: skip


def embedded() -> ModelShape:
    manifest = store.named("reka-edge-tiny").manifest
    assert isinstance(manifest, Manifest)
    return of_manifest(manifest)


def test_bytes_of_a_bundles_matrices_are_those_of_its_files() -> None:
    found = embedded()
    stored = sum(matrix.stored_bytes for matrix in found.decoder)
    assert 0.9 < stored / found.files["decoder.bin"] < 1
    assert found.vision is not None
    assert 0.85 < found.vision.stored_bytes / found.files["vision.bin"] <= 1


def test_width_of_a_tower_follows_from_the_size_of_its_file() -> None:
    found = embedded().vision
    assert found is not None
    assert found.products[0].matrix.columns == 32


def test_bundle_of_the_released_shape_has_the_bytes_that_were_exported() -> None:
    # As exported with plain rounding: the decoder to the byte.
    found = of_config(EDGE_7B, recipe="int4-mixed", name="edge-7b")
    assert found.files["decoder.bin"] == 4_344_791_040
    assert found.files["embedding.bin"] == 436_731_904
    assert found.files["vision.bin"] == pytest.approx(761_769_984, rel=0.01)
    assert of_config(EDGE_7B, recipe="int4", name="edge-7b").files["decoder.bin"] == 3_635_953_664


def test_tile_of_the_released_shape_takes_its_operations() -> None:
    vision = of_config(EDGE_7B, recipe="int8", name="edge-7b").vision
    assert vision is not None
    assert (vision.tokens, vision.n_max) == (64, 5)
    operations = sum(2 * product.matrix.n_weights * product.n_rows for product in vision.products)
    assert operations == pytest.approx(1.2e12, rel=0.05)


def test_tied_head_in_blocks_is_stored_once() -> None:
    tied = {**TEXT, "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
    apart = {**tied, "tie_word_embeddings": False}
    head = stored_bytes(100352, 4096, "int8-block32")
    sizes = [of_config(each, recipe="int8", name="x").files["decoder.bin"] for each in (tied, apart)]
    assert sizes[1] - sizes[0] == head


def test_text_only_checkpoint_has_no_tower() -> None:
    found = of_config({**TEXT, "model_type": "llama"}, recipe="int4", name="flash")
    assert found.vision is None
    assert "vision.bin" not in found.files


def test_siglip_checkpoint_has_a_tower_of_layers() -> None:
    config = {**EDGE_7B, "architectures": ["YasaMMLMForConditionalGeneration"], "model_type": "yasa_mmlm_model"}
    found = of_config({**config, "vision_config": {"image_size": 224, "patch_size": 16}}, recipe="int8", name="x")
    assert found.vision is not None
    assert {product.n_rows for product in found.vision.products} == {196, 64}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({**EDGE_7B, "text_config": {**TEXT, "hidden_size": None}}, "text_config.hidden_size"),
        ({**EDGE_7B, "text_config": {**TEXT, "vocab_size": "many"}}, "text_config.vocab_size"),
        ({**EDGE_7B, "text_config": {**TEXT, "num_hidden_layers": True}}, "text_config.num_hidden_layers"),
        ({**EDGE_7B, "text_config": {**TEXT, "num_hidden_layers": 0}}, "text_config.num_hidden_layers"),
        ({**EDGE_7B, "text_config": 3}, "text_config"),
        ({**EDGE_7B, "vision_config": {"depths": [1, 2], "hidden_sizes": [8]}}, "depths"),
        ({**EDGE_7B, "vision_config": {"depths": [], "hidden_sizes": [8]}}, "depths"),
    ],
)
def test_key_that_is_wrong_is_named(config: Mapping[str, object], named: str) -> None:
    with pytest.raises(BundleError, match=named):
        of_config(config, recipe="int8", name="x")


def test_other_models_are_not_supported() -> None:
    with pytest.raises(UnsupportedError, match="MistralForCausalLM"):
        of_config({**TEXT, "architectures": ["MistralForCausalLM"]}, recipe="int8", name="x")


def test_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(ParameterError, match="int4-mixed"):
        of_config(EDGE_7B, recipe="q4_k_m", name="x")


def test_packed_weights_have_float32_scales_and_sums() -> None:
    assert packed_bytes(64, 64, "int4-block32") == 64 * 2 * (16 + 8)
    assert packed_bytes(64, 64, "int8-block32") == 64 * 2 * (32 + 8)
    assert Matrix(64, 64, "int4-block32", 3).kept_bytes == 3 * 64 * 2 * (16 + 8 + 4)
    assert packed_bytes(64, 64, "fp32") == 4 * 64 * 64
