"""Recipes: what the shipped ones say, and what is refused."""

from pathlib import Path

import pytest

from export.errors import RecipeError
from export.recipe import Rule, Thresholds, dump, load, parse, shipped_folder, with_schemes

LAYER = ("qkv", "o", "gate_up", "down")
VISION = ("vision.stages.0.blocks.0.pwconv1", "vision.stages.3.blocks.2.pwconv2", "projection.0", "projection.2")


def decoder(name: str, n_layers: int) -> list[set[str]]:
    """The schemes in each layer."""
    recipe = load(name)
    return [
        {recipe.scheme(f"decoder.layers.{layer}.{part}", n_layers=n_layers) for part in LAYER}
        for layer in range(n_layers)
    ]


def others(name: str) -> list[str]:
    """The schemes of table, head, vision and projection."""
    return [load(name).scheme(path, n_layers=4) for path in ("decoder.embed", "decoder.head", *VISION)]


B8, B4 = "int8-block32", "int4-block32"


def test_eight_recipes_are_shipped() -> None:
    names = sorted(path.stem for path in shipped_folder().iterdir())
    assert names == ["carry", "fp16", "fp32", "int4", "int4-fp16", "int4-mixed", "int8", "w8a8"]
    assert [name for name in names if load(name).rotate] == ["w8a8"]
    assert [name for name in names if load(name).calibrate] == ["int4", "int4-fp16", "int4-mixed"]
    assert [name for name in names if load(name).carry] == ["carry"]
    assert [name for name in names if load(name).activations == "fp16"] == ["fp16", "int4-fp16"]


@pytest.mark.parametrize(("name", "scheme"), [("fp32", "fp32"), ("w8a8", "int8")])
def test_fp32_and_w8a8_are_the_same_everywhere(name: str, scheme: str) -> None:
    assert decoder(name, 5) == [{scheme}] * 5
    assert set(others(name)) == {scheme}


@pytest.mark.parametrize(("name", "scheme"), [("int8", B8), ("int4", B4)])
def test_decoder_is_in_blocks_and_towers_are_w8a8(name: str, scheme: str) -> None:
    assert decoder(name, 5) == [{scheme}] * 5
    assert others(name) == [B8, B8, "int8", "int8", "int8", "int8"]


@pytest.mark.parametrize(("n_layers", "n_int8"), [(1, 1), (2, 1), (3, 1), (4, 1), (7, 1), (8, 2), (16, 4), (32, 8)])
def test_int4_mixed_has_8_bits_in_the_last_quarter_and_the_head(n_layers: int, n_int8: int) -> None:
    assert decoder("int4-mixed", n_layers) == [{B4}] * (n_layers - n_int8) + [{B8}] * n_int8
    assert others("int4-mixed") == [B8, B8, "int8", "int8", "int8", "int8"]


@pytest.mark.parametrize("name", ["fp32", "int4", "int4-mixed", "int8", "w8a8"])
def test_recipe_survives_being_written(name: str) -> None:
    assert parse(dump(load(name)).encode(), name=name) == load(name)


def test_found_schemes_come_last_and_end_the_search() -> None:
    found = with_schemes(load("int4-mixed"), {"decoder.layers.1.o": B8, "decoder.layers.0.o": "int4-block64"})
    assert found.search is None
    assert [found.scheme(f"decoder.layers.{n}.o", n_layers=8) for n in range(3)] == ["int4-block64", B8, B4]
    assert parse(dump(found).encode(), name=found.name) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rotate = 1\n", "rotate is 1: expected true or false"),
        ("search = 1\n", "search: expected a table"),
        ("search = {bits_per_weight = 0, schemes = []}\n", "bits_per_weight: expected a number above 0"),
        ('search = {bits_per_weight = 5, schemes = ["int8"]}\n', "schemes: expected two or more of int8-block32"),
        ('search = {bits_per_weight = 5, schemes = ["int8", "int4"]}\n', "schemes: expected two or more of"),
        ("search = {bits = 5}\n", "unknown key 'bits'"),
    ],
)
def test_wrong_search_or_flag_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        parse((text + '[[rules]]\ntensors = "*"\nscheme = "int8"\n').encode(), name="mine")


def test_the_last_rule_that_matches_counts(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[rules]]\ntensors = "*"\nscheme = "int8"\n'
        '[[rules]]\ntensors = "decoder.layers.1?.o"\nscheme = "fp32"\n'
        "[thresholds]\nmax_mean_kl = 0.01\nmin_top1 = 1\n"
    )
    recipe = load(str(path))
    assert recipe.name == "mine"
    assert recipe.scheme("decoder.layers.12.o", n_layers=32) == "fp32"
    assert recipe.scheme("decoder.layers.1.o", n_layers=32) == "int8"
    assert recipe.thresholds == Thresholds(max_mean_kl=0.01, min_top1=1.0, min_image_cosine=None)


def test_last_quarter_speaks_about_layers_only() -> None:
    rule = Rule("*", "int8", "last-quarter")
    assert rule.matches("decoder.layers.3.o", n_layers=4)
    assert not rule.matches("decoder.layers.2.o", n_layers=4)
    assert not rule.matches("decoder.head", n_layers=4)


def test_a_tensor_that_no_rule_matches_is_an_error() -> None:
    recipe = parse(b'[[rules]]\ntensors = "vision.*"\nscheme = "int8"\n', name="mine")
    with pytest.raises(RecipeError, match=r"recipe mine: no rule matches decoder\.head"):
        recipe.scheme("decoder.head", n_layers=1)


RULE = '[[rules]]\ntensors = "*"\nscheme = "int8"\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "rules: expected one or more"),
        ("rules = []", "rules: expected one or more"),
        ("rules = [1]", r"rules\[0\]: expected a table"),
        ("nonsense", "not TOML"),
        (RULE + "name = 'x'", r"rules\[0\]: unknown key 'name'"),
        (
            "name = 'x'\n" + RULE,
            "unknown key 'name', expected activations, calibrate, carry, rotate, rules, search, thresholds",
        ),
        ('[[rules]]\nscheme = "int8"', r"rules\[0\]\.tensors is None"),
        ('[[rules]]\ntensors = "[a]"\nscheme = "int8"', r"tensors is '\[a\]'"),
        ('[[rules]]\ntensors = "*"', "scheme is None: expected one of fp32, fp16, int8, int4"),
        (RULE + '[[rules]]\ntensors = "*"\nscheme = "int3"', r"rules\[1\]\.scheme is 'int3'"),
        (RULE + 'layers = "first"', "layers is 'first': expected 'last-quarter'"),
        (RULE + "[thresholds]\nmax_kl = 1", "thresholds: unknown key 'max_kl'"),
        (RULE + "[thresholds]\nmin_top1 = -1", r"thresholds\.min_top1 is -1"),
        (RULE + "[thresholds]\nmin_top1 = nan", r"thresholds\.min_top1 is nan"),
        (RULE + "[thresholds]\nmin_top1 = true", r"thresholds\.min_top1 is True"),
        (RULE + "[thresholds]\nmin_top1 = inf", r"thresholds\.min_top1 is inf"),
        ("thresholds = 1\n" + RULE, "thresholds: expected a table"),
    ],
)
def test_a_bad_recipe_is_refused_by_file_and_key(text: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=rf"^mine\.toml: .*{reason}"):
        parse(text.encode(), name="mine")


def test_a_recipe_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(RecipeError, match="not TOML"):
        parse(b"\xff", name="mine")


@pytest.mark.parametrize("name", ["int9", "", "../int8", "INT8", "int8.json", "a/b"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(
        RecipeError, match="expected one of carry, fp16, fp32, int4, int4-fp16, int4-mixed, int8, w8a8, or the path"
    ):
        load(name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"mine\.toml: cannot be read: No such file"):
        load(str(tmp_path / "mine.toml"))


def test_a_name_that_a_manifest_could_not_carry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "My Recipe.toml"
    path.write_text(RULE)
    with pytest.raises(RecipeError, match="name 'My Recipe'"):
        load(str(path))
