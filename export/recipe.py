"""Recipes: which tensor is stored with how many bits.

A TOML file with an ordered list of rules; of those that match a tensor, the last one counts:

    calibrate = true                # optional: choose values of 4 and 8 bits by their effect on calibration data (GPTQ)
    rotate = true                   # optional: rotate the residual stream, which spreads its outliers over all channels
    carry = true                    # optional, without those: tensors of a GGUF file keep their values where a scheme
                                    # has the same grid; the rules are for the others

    activations = "fp16"            # optional, for GPUs: products, attention, keys and values in float16, and towers of
                                    # ONNX's own operators

    [[rules]]
    tensors = "decoder.layers.*"    # a pattern on the tensor's path: * is any text, dots included
    layers = "last-quarter"         # optional: only the last quarter of the layers, at least one
    scheme = "int4-block32"         # fp32, int8 (W8A8), int8-block32, int4-block32, -block64, both also with -zp; int4;
                                    # int4-block32-min; with activations = "fp16" fp16, and none of int8, int4, -min

    [search]                        # optional: more bits where their lack costs most, measured on calibration data
    bits_per_weight = 5.5           # of the decoder's layers together, scales and zero points included
    schemes = ["int4-block32", "int8-block32"]

    [thresholds]                    # optional: what the certificate must reach
    max_mean_kl = 0.01
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, get_args

from edge.bundle.manifest import Activations, Scheme
from export.checkpoint.fields import finite
from export.errors import OutputError, RecipeError

LAST_QUARTER: Final = "last-quarter"
MAX_BITS: Final = 32
_SCHEMES: Mapping[str, Scheme] = {scheme: scheme for scheme in get_args(Scheme)}
# Their kernels are the CPU's alone, or expect float32 activations.
_CPU_SCHEMES: Final[tuple[Scheme, ...]] = ("int8", "int4", "int4-block32-min")
_TABLE: Final = "decoder.embed"
SEARCHABLE: Final = tuple(scheme for scheme in _SCHEMES if "-block" in scheme and not scheme.endswith("-min"))
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PATTERN = re.compile(r"[a-z0-9_.*?]+")
_LAYER = re.compile(r"decoder\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Rule:
    """One rule; layers is "last-quarter", or None for every tensor that the pattern matches."""

    tensors: str
    scheme: Scheme
    layers: str | None = None

    def matches(self, path: str, *, n_layers: int) -> bool:
        """Whether the rule speaks about a tensor of a decoder with n_layers layers."""
        if not fnmatchcase(path, self.tensors):
            return False
        if self.layers is None:
            return True
        layer = _LAYER.match(path)
        return layer is not None and int(layer[1]) >= n_layers - max(1, n_layers // 4)


@dataclass(frozen=True)
class Thresholds:
    """What the certificate must reach, each None if it need not: KL divergence, top-1 share, cosine of embeddings."""

    max_mean_kl: float | None = None
    min_top1: float | None = None
    min_image_cosine: float | None = None


@dataclass(frozen=True)
class Search:
    """Which schemes the decoder's layers may have, and the bits that a weight of them has on average at most."""

    bits_per_weight: float
    schemes: tuple[Scheme, ...]


@dataclass(frozen=True)
class Recipe:
    """How the tensors of a bundle are stored.

    calibrate: whether values are chosen by their effect on calibration data; rotate: whether the residual stream is
    rotated; carry: whether tensors of a GGUF file keep their values where that is possible; search: how schemes of the
    decoder's layers are found, None to leave them to the rules; activations: what products and attention compute in.
    """

    name: str
    rules: tuple[Rule, ...]
    thresholds: Thresholds
    calibrate: bool = False
    rotate: bool = False
    search: Search | None = None
    carry: bool = False
    activations: Activations = "fp32"

    def scheme(self, path: str, *, n_layers: int) -> Scheme:
        """The scheme of one tensor.

        path: decoder.embed, decoder.layers.N.{qkv,o,gate_up,down}, decoder.head,
        vision.stages.S.blocks.B.{pwconv1,pwconv2}, {vision,audio}.layers.N.{qkv,o,fc1,fc2}, projection.{0,2} or
        audio.projection.{0,2}; n_layers: of the decoder.
        Raises: RecipeError if no rule matches, or for a scheme that the activations cannot be multiplied with.
        """
        matching = [rule for rule in self.rules if rule.matches(path, n_layers=n_layers)]
        if not matching:
            raise RecipeError(f"recipe {self.name}: no rule matches {path}")
        scheme = matching[-1].scheme
        self._check_kernel(path, scheme)
        return scheme

    def _check_kernel(self, path: str, scheme: Scheme) -> None:
        """Refuse a product that nothing computes. Raises: RecipeError."""
        if path == _TABLE:  # read row by row, outside of every graph
            return
        if self.activations == "fp32" and scheme == "fp16":
            raise RecipeError(f'recipe {self.name}: {path} is fp16, which expects activations = "fp16"')
        if self.activations == "fp16" and scheme in _CPU_SCHEMES:
            wanted = ", ".join(each for each in _SCHEMES if each not in _CPU_SCHEMES)
            raise RecipeError(
                f"recipe {self.name}: {path} is {scheme}, which no GPU kernel multiplies with fp16 activations:"
                f" expected one of {wanted}"
            )


def with_schemes(recipe: Recipe, schemes: Mapping[str, Scheme]) -> Recipe:
    """The recipe with a scheme for each of some tensors, in the place of a search. schemes: by path."""
    found = tuple(Rule(path, scheme) for path, scheme in sorted(schemes.items()))
    return replace(recipe, rules=(*recipe.rules, *found), search=None)


def dump(recipe: Recipe) -> str:
    """The recipe as the TOML text that `load` reads."""
    lines = [f"{key} = true" for key in ("calibrate", "carry", "rotate") if getattr(recipe, key)]
    lines += [f'activations = "{recipe.activations}"'] if recipe.activations != "fp32" else []
    for rule in recipe.rules:
        lines += ["", "[[rules]]", f'tensors = "{rule.tensors}"', f'scheme = "{rule.scheme}"']
        lines += [f'layers = "{rule.layers}"'] if rule.layers else []
    if recipe.search is not None:
        schemes = ", ".join(f'"{scheme}"' for scheme in recipe.search.schemes)
        lines += ["", "[search]", f"bits_per_weight = {recipe.search.bits_per_weight:g}", f"schemes = [{schemes}]"]
    limits = {key: value for key, value in asdict(recipe.thresholds).items() if value is not None}
    lines += ["", "[thresholds]", *(f"{key} = {value!r}" for key, value in limits.items())] if limits else []
    return "\n".join(lines).lstrip() + "\n"


def save(recipe: Recipe, path: Path | None) -> None:
    """Write the recipe of an export that is complete, if it is wanted. Raises: OutputError."""
    if path is None:
        return
    try:
        path.write_text(dump(recipe))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; the bundle is complete") from error


def load(name_or_path: str) -> Recipe:
    """A recipe by the name of a shipped one, or by the path of a .toml file.

    Raises: RecipeError naming the file and key, or the recipes there are.
    """
    if name_or_path.endswith(".toml"):
        return _read(Path(name_or_path))
    folder = shipped_folder()
    path = folder / f"{name_or_path}.toml"
    if not _NAME.fullmatch(name_or_path) or not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
        raise RecipeError(f"recipe {name_or_path!r}: expected one of {known}, or the path of a .toml file")
    return _read(path)


def shipped_folder() -> Path:
    """Where the shipped recipes lie: models/recipes of a checkout, else beside the installed package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "models" / "recipes"
    return checkout if checkout.is_dir() else package / "_recipes"


def parse(data: bytes, *, name: str) -> Recipe:
    """The recipe of a TOML text; name: what the manifest calls it. Raises: RecipeError."""
    file = f"{name}.toml"
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except ValueError as error:
        raise RecipeError(f"{file}: not TOML: {error}") from error
    if not _NAME.fullmatch(name):
        raise RecipeError(f"{file}: name {name!r}, expected lower-case letters, digits, dots, dashes, underscores")
    _only(table, {"activations", "carry", "rules", "thresholds", "calibrate", "rotate", "search"}, file)
    carry, activations = _flag(table, "carry", file), _activations(table, file)
    if carry and activations != "fp32":
        raise RecipeError(f"{file}: carry keeps values for the CPU's kernels: expected no activations beside it")
    rules = table.get("rules")
    if not isinstance(rules, list) or not rules:
        raise RecipeError(f"{file}: rules: expected one or more [[rules]]")
    parsed = tuple(_rule(rule, f"{file}: rules[{index}]") for index, rule in enumerate(rules))
    return Recipe(
        name,
        parsed,
        _thresholds(table.get("thresholds", {}), f"{file}: thresholds"),
        calibrate=_flag(table, "calibrate", file),
        rotate=_flag(table, "rotate", file),
        carry=carry,
        activations=activations,
        search=_search(table["search"], f"{file}: search") if "search" in table else None,
    )


def _read(path: Path) -> Recipe:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(data, name=path.stem)


def _rule(rule: object, where: str) -> Rule:
    if not isinstance(rule, dict):
        raise RecipeError(f"{where}: expected a table")
    _only(rule, {"tensors", "scheme", "layers"}, where)
    tensors, scheme, layers = rule.get("tensors"), rule.get("scheme"), rule.get("layers")
    if not isinstance(tensors, str) or not _PATTERN.fullmatch(tensors):
        raise RecipeError(f"{where}.tensors is {tensors!r}: expected a pattern such as 'decoder.layers.*'")
    if not isinstance(scheme, str) or scheme not in _SCHEMES:
        raise RecipeError(f"{where}.scheme is {scheme!r}: expected one of {', '.join(_SCHEMES)}")
    if layers not in (None, LAST_QUARTER):
        raise RecipeError(f"{where}.layers is {layers!r}: expected '{LAST_QUARTER}'")
    return Rule(tensors, _SCHEMES[scheme], layers)


def _flag(table: Mapping[str, object], key: str, file: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise RecipeError(f"{file}: {key} is {str(value)[:60]}: expected true or false")
    return value


def _activations(table: Mapping[str, object], file: str) -> Activations:
    value = table.get("activations", "fp32")
    known = next((each for each in get_args(Activations) if each == value), None)
    if known is None:
        raise RecipeError(f"{file}: activations is {value!r:.60}: expected one of {', '.join(get_args(Activations))}")
    found: Activations = known
    return found


def _search(table: object, where: str) -> Search:
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: expected a table")
    _only(table, {"bits_per_weight", "schemes"}, where)
    bits, schemes = finite(table.get("bits_per_weight")), table.get("schemes")
    if bits is None or not 0 < bits <= MAX_BITS:
        raise RecipeError(f"{where}.bits_per_weight: expected a number above 0 and up to {MAX_BITS}")
    if not isinstance(schemes, list) or len(schemes) < 2 or not all(scheme in SEARCHABLE for scheme in schemes):
        raise RecipeError(f"{where}.schemes: expected two or more of {', '.join(SEARCHABLE)}")
    return Search(bits, tuple(_SCHEMES[scheme] for scheme in schemes))


def _thresholds(table: object, where: str) -> Thresholds:
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: expected a table")
    known = [field.name for field in fields(Thresholds)]
    _only(table, set(known), where)
    values: dict[str, float] = {}
    for key, value in table.items():
        number = finite(value)
        if number is None or number < 0:
            raise RecipeError(f"{where}.{key} is {str(value)[:60]}: expected a number of at least 0")
        values[key] = number
    return Thresholds(**values)


def _only(table: Mapping[str, object], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise RecipeError(f"{where}: unknown key {unknown[0]!r}, expected {', '.join(sorted(known))}")
