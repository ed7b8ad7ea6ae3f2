"""The shape of a model from a checkpoint's config.json and a recipe, before anything is exported or downloaded.

The exporter reads the same keys strictly; here only those count that sizes depend on.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from edge.bundle.manifest import TextSpec
from edge.bundle.recipes import RecipeSchemes, schemes_of
from edge.bundle.shape import INT8_CACHE_GRAPH, ModelShape, TowerShape, convnext, layer_matrices, transformer
from edge.bundle.sizes import Matrix, stored_bytes
from edge.bundle.strict_json import load
from edge.errors import BundleError, UnsupportedError

CONFIG = "config.json"
MAX_BYTES = 4 << 20

_GRAPH_BYTES = 1 << 20
_TOKENIZER_BYTES = 2_500_000  # where the checkpoint does not say
_FAMILIES: Mapping[str, str] = {
    "Yasa2ForConditionalGeneration": "yasa2", "YasaMMLMV2ForConditionalGeneration": "yasa2", "Yasa2Model": "yasa2",
    "yasa2": "yasa2", "yasa_edge_mmlm_model": "yasa2", "YasaCausalLM": "text", "yasa_model": "text",
    "YasaMMLMForConditionalGeneration": "siglip", "yasa_mmlm_model": "siglip", "LlamaForCausalLM": "text",
    "llama": "text",
}  # fmt: skip


def read_config(path: Path) -> Mapping[str, object]:
    """Return a config.json. Raises: BundleError, OSError."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BundleError(f"{path}: expected at most {MAX_BYTES} bytes")
    return load(data, file=str(path))


def of_config(
    config: Mapping[str, object], *, recipe: str, name: str, tokenizer_bytes: int | None = None
) -> ModelShape:
    """Return the shape of the bundle that a recipe makes of a checkpoint.

    config: of config.json; name: of the checkpoint; tokenizer_bytes: of its tokenizer.json, if that is known.
    Raises: ParameterError for the recipe, BundleError naming the key, UnsupportedError for another kind of model.
    """
    schemes, family = schemes_of(recipe), _family(config)
    text_keys = _child(config, "text_config") if family != "text" else _Keys(config, "")
    text, tied = _text(text_keys, schemes), _is_tied(text_keys, _Keys(config, ""))
    head = Matrix(text.vocab_size, text.hidden_size, schemes.head)
    vision = None if family == "text" else _vision(config, family, schemes, text.hidden_size)
    layers = tuple(_layers(text, schemes))
    is_shared = tied and schemes.head == schemes.table == "int8-block32"
    n_bytes = sum(each.stored_bytes for each in layers) + (0 if is_shared else head.stored_bytes)
    files = {
        "decoder.bin": n_bytes + _norms_and_tables(text),
        "decoder.onnx": _GRAPH_BYTES // 8,
        "embedding.bin": stored_bytes(text.vocab_size, text.hidden_size, schemes.table),
        "tokenizer.json": _TOKENIZER_BYTES if tokenizer_bytes is None else tokenizer_bytes,
    }
    if schemes.activations == "fp32":
        files[INT8_CACHE_GRAPH] = _GRAPH_BYTES // 8
    if vision is not None:
        files |= {"vision.bin": vision.stored_bytes, "vision.onnx": _GRAPH_BYTES // 2}
    return ModelShape(f"{name}-{recipe}", recipe, text, layers, head, vision, None, files, schemes.activations)


class _Keys:
    """The keys of an object of config.json; null counts as absent."""

    def __init__(self, data: Mapping[str, object], prefix: str) -> None:
        self.data = data
        self._prefix = prefix

    def integer(self, *names: str, default: int | None = None) -> int:
        """Return the first of some keys that is there. Raises: BundleError."""
        for name in names:
            value = self.data.get(name)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 31:
                    raise BundleError(f"{CONFIG}: {self._prefix}{name}: expected an integer >= 1, got {value!r:.60}")
                return value
        if default is None:
            raise BundleError(f"{CONFIG}: {self._prefix}{names[0]} is missing: expected an integer >= 1")
        return default

    def integers(self, name: str) -> tuple[int, ...]:
        """Return a list of numbers. Raises: BundleError."""
        value = self.data.get(name)
        if (
            not isinstance(value, list)
            or not value
            or not all(type(each) is int and 1 <= each < 1 << 24 for each in value)
        ):
            raise BundleError(f"{CONFIG}: {self._prefix}{name}: expected a list of integers >= 1, got {value!r:.60}")
        return tuple(value)


def _child(config: Mapping[str, object], name: str) -> _Keys:
    value = config.get(name)
    if not isinstance(value, Mapping):
        raise BundleError(f"{CONFIG}: {name}: expected an object, got {value!r:.60}")
    return _Keys(value, f"{name}.")


def _family(config: Mapping[str, object]) -> str:
    named = config.get("architectures") or [None]
    found = [named[0] if isinstance(named, list) else named, config.get("model_type")]
    family = next((_FAMILIES[each] for each in found if isinstance(each, str) and each in _FAMILIES), None)
    if family is None:
        wanted = ", ".join(name for name in _FAMILIES if name[0].isupper())
        raise UnsupportedError(f"{CONFIG}: architectures is {named!r:.100}: only {wanted} can be planned for")
    return family


def _text(keys: _Keys, schemes: RecipeSchemes) -> TextSpec:
    hidden, n_heads = keys.integer("hidden_size"), keys.integer("num_attention_heads")
    table = schemes.table
    return TextSpec(
        hidden_size=hidden,
        n_layers=keys.integer("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=keys.integer("num_key_value_heads", "num_query_groups", default=n_heads),
        head_dim=keys.integer("head_dim", default=max(1, hidden // n_heads)),
        intermediate_size=keys.integer("intermediate_size"),
        vocab_size=keys.integer("vocab_size"),
        context=keys.integer("max_position_embeddings"),
        rotary_share=1.0, rope_base=10_000.0, norm_eps=1e-5, logit_scale=1.0,  # nothing here depends on them
        embedding="fp32" if table == "fp32" else "int8" if table == "int8" else "int8-block32",
    )  # fmt: skip


def _is_tied(text: _Keys, top: _Keys) -> bool:
    own = text.data.get("tie_word_embeddings")
    return bool(top.data.get("tie_word_embeddings") if own is None else own)


def _layers(text: TextSpec, schemes: RecipeSchemes) -> Iterator[Matrix]:
    n_last = max(1, text.n_layers // 4)
    for rows, columns in layer_matrices(text).values():
        if schemes.layers == schemes.last_quarter:
            yield Matrix(rows, columns, schemes.layers, text.n_layers)
            continue
        if text.n_layers > n_last:
            yield Matrix(rows, columns, schemes.layers, text.n_layers - n_last)
        yield Matrix(rows, columns, schemes.last_quarter, n_last)


def _norms_and_tables(text: TextSpec) -> int:
    """The float32 bytes of the norms, and of sines and cosines."""
    return 4 * ((2 * text.n_layers + 1) * text.hidden_size + text.context * text.head_dim)


def _vision(config: Mapping[str, object], family: str, schemes: RecipeSchemes, hidden: int) -> TowerShape:
    top, vision = _Keys(config, ""), _child(config, "vision_config")
    n_max = top.integer("vision_max_tiles_num", "max_tiles_num", default=4) + 1
    tile_px, scheme = vision.integer("image_size", default=224), schemes.towers
    if family == "yasa2":
        depths = vision.integers("depths")
        widths = vision.integers("hidden_sizes")
        if len(depths) != len(widths):
            raise BundleError(
                f"{CONFIG}: vision_config: depths and hidden_sizes are of {len(depths)} and {len(widths)}"
            )
        grid, tokens = tile_px // vision.integer("patch_size", default=4), top.integer("num_query_tokens", default=49)
        return convnext(widths, depths, grid=grid, scheme=scheme, hidden_size=hidden, tokens=tokens, n_max=n_max)
    return transformer(
        width=vision.integer("hidden_size", default=768),
        inner=vision.integer("intermediate_size", default=3072),
        n_layers=vision.integer("num_hidden_layers", default=12),
        n_rows=(tile_px // vision.integer("patch_size", default=16)) ** 2,
        scheme=scheme,
        hidden_size=hidden,
        tokens=top.integer("num_query_tokens", default=32),
        n_max=n_max,
    )
