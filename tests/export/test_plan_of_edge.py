"""edge plan counts what edge-export writes: the shipped recipes, and every size."""

import json

import pytest

from edge.bundle.checkpoint_shape import of_config
from edge.bundle.recipes import RECIPES
from edge.bundle.sizes import stored_bytes
from export import recipe as recipes
from export.checkpoint import config as configs
from export.plan import GRAPH_BYTES, plan
from export.quantize import blocks
from tests.edge.bundle.test_shape import EDGE_7B, TEXT


def test_every_shipped_recipe_is_known() -> None:
    shipped = {file.stem for file in recipes.shipped_folder().glob("*.toml")}
    assert set(RECIPES) == shipped - {"carry"}  # which keeps what a GGUF file has


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_has_the_schemes_of_its_rules(name: str) -> None:
    known, rules = RECIPES[name], recipes.load(name)
    for part in ("qkv", "o", "gate_up", "down"):
        assert rules.scheme(f"decoder.layers.0.{part}", n_layers=8) == known.layers
        assert rules.scheme(f"decoder.layers.5.{part}", n_layers=8) == known.layers
        assert rules.scheme(f"decoder.layers.6.{part}", n_layers=8) == known.last_quarter
    assert rules.scheme("decoder.head", n_layers=8) == known.head
    assert rules.scheme("decoder.embed", n_layers=8) == known.table
    for path in ("vision.stages.0.blocks.0.pwconv1", "vision.layers.0.fc1", "projection.0"):
        assert rules.scheme(path, n_layers=8) == known.towers


def test_search_finds_no_more_bits_than_the_last_quarter_has() -> None:
    search = recipes.load("int4-mixed").search
    assert search is not None
    assert search.bits_per_weight <= 0.75 * 4.5 + 0.25 * 8.5


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("tied", [False, True])
def test_sizes_are_those_of_the_exporters_plan(name: str, *, tied: bool) -> None:
    config = json.loads(json.dumps(EDGE_7B))
    config["tie_word_embeddings"] = tied
    parsed = configs.parse(config, preprocessor=None, shapes={})
    n_bytes = plan(parsed, recipes.load(name), tokenizer_bytes=0).n_bytes - GRAPH_BYTES
    files = of_config(config, recipe=name, name="x", tokenizer_bytes=0).files
    ours = sum(size for file, size in files.items() if file.endswith(".bin"))
    assert ours == pytest.approx(n_bytes, rel=0.005)


def test_blocks_have_the_bytes_that_are_written() -> None:
    for scheme in ("int8-block32", "int4-block32", "int4-block32-zp", "int4-block64", "int4-block64-zp"):
        form = blocks.format_of(scheme)
        assert form is not None
        assert stored_bytes(24, 200, scheme) == blocks.stored_bytes((24, 200), form)


def test_text_checkpoint_is_counted_as_well() -> None:
    config = {**TEXT, "architectures": ["LlamaForCausalLM"]}
    parsed = configs.parse(config, preprocessor=None, shapes={})
    n_bytes = plan(parsed, recipes.load("int8"), tokenizer_bytes=0).n_bytes - GRAPH_BYTES
    files = of_config(config, recipe="int8", name="x", tokenizer_bytes=0).files
    assert files["decoder.bin"] + files["embedding.bin"] == pytest.approx(n_bytes, rel=0.005)
