"""What a model is made of, as far as memory and speed depend on it: its matrices, their schemes, and its files.

Of a bundle the manifest says it, of a checkpoint its configuration and a recipe (`checkpoint_shape`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edge.bundle.manifest import Activations, Manifest, RecipeRecord, TextSpec
from edge.bundle.sizes import Matrix

INT8_CACHE_GRAPH = "decoder-kv8.onnx"

_STAGE = re.compile(r"vision\.stages\.(\d+)\.blocks\.(\d+)\.pwconv1")
_KERNEL = 49  # values of a depthwise filter, 7 x 7
_N_MULTIPLE = 8  # of the channels of a tower


@dataclass(frozen=True)
class Product:
    """A matrix of a tower, and how many rows of input it is multiplied with for one tile or window."""

    matrix: Matrix
    n_rows: int


@dataclass(frozen=True)
class TowerShape:
    """A tower: its products, the float32 values that its layers pass on in all, and the most that one holds.

    tokens: embeddings of one tile or window; n_max: tiles of the largest image, the whole one included.
    """

    products: tuple[Product, ...]
    n_passed: int
    n_widest: int
    tokens: int
    n_max: int

    @property
    def stored_bytes(self) -> int:
        """The bytes of its weights in a file."""
        return sum(product.matrix.stored_bytes for product in self.products)

    @property
    def kept_bytes(self) -> int:
        """The bytes of its weights in memory."""
        return sum(product.matrix.kept_bytes for product in self.products)


@dataclass(frozen=True)
class ModelShape:
    """A chat model: decoder, table of embeddings, towers.

    layers, head: of the decoder; files: bytes by name; activations: of the decoder, and its keys and values.
    """

    id: str
    recipe: str
    text: TextSpec
    layers: tuple[Matrix, ...]
    head: Matrix
    vision: TowerShape | None
    audio: TowerShape | None
    files: Mapping[str, int]
    activations: Activations = "fp32"

    @property
    def has_int8_cache(self) -> bool:
        """Whether keys and values can be kept in 8 bits."""
        return INT8_CACHE_GRAPH in self.files

    @property
    def decoder(self) -> tuple[Matrix, ...]:
        """Every matrix that a step multiplies with."""
        return (*self.layers, self.head)


def of_manifest(manifest: Manifest) -> ModelShape:
    """Return the shape of a bundle; nothing but its manifest is needed."""
    text, files = manifest.text, {name: entry.bytes for name, entry in manifest.files.items()}
    return ModelShape(
        manifest.id, manifest.recipe.name, text, tuple(_layers(text, manifest.recipe)),
        Matrix(text.vocab_size, text.hidden_size, _scheme(manifest.recipe, "decoder.head")),
        _vision(manifest, files), _audio(manifest, files), files, manifest.recipe.activations,
    )  # fmt: skip


def layer_matrices(text: TextSpec) -> Mapping[str, tuple[int, int]]:
    """Return (outputs, inputs) of each matrix of a decoder's layer, by the name that recipes have for it."""
    inner = text.n_heads * text.head_dim
    return {
        "qkv": (inner + 2 * text.n_kv_heads * text.head_dim, text.hidden_size),
        "o": (text.hidden_size, inner),
        "gate_up": (2 * text.intermediate_size, text.hidden_size),
        "down": (text.hidden_size, text.intermediate_size),
    }


def convnext(
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    *,
    grid: int,
    scheme: str,
    hidden_size: int,
    tokens: int,
    n_max: int,
) -> TowerShape:
    """Return the shape of a ConvNeXt V2 tower with its projection.

    grid: patches a side of a tile; scheme: of linear layers; hidden_size: of the decoder.
    """
    products, n_passed, n_widest = [], 0, 0
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        n_cells = (grid >> stage) ** 2
        products += [
            Product(Matrix(4 * width, width, scheme, depth), n_cells),
            Product(Matrix(width, 4 * width, scheme, depth), n_cells),
            Product(Matrix(width, _KERNEL, "fp32", depth), n_cells),
        ]
        if stage:
            products.append(Product(Matrix(width, 4 * widths[stage - 1], "fp32"), n_cells))
        n_passed += depth * n_cells * 4 * width
        n_widest = max(n_widest, n_cells * 4 * width)
    products += _projection(hidden_size, widths[-1], scheme, tokens)
    return TowerShape(tuple(products), n_passed, n_widest, tokens, n_max)


def transformer(
    *, width: int, inner: int, n_layers: int, n_rows: int, scheme: str, hidden_size: int, tokens: int, n_max: int
) -> TowerShape:
    """Return the shape of a tower of transformer layers with its projection. inner: of an MLP; n_rows: of a layer."""
    shapes = ((3 * width, width), (width, width), (inner, width), (width, inner))
    layers = [Product(Matrix(*shape, scheme, n_layers), n_rows) for shape in shapes]
    products = (*layers, *_projection(hidden_size, width, scheme, tokens))
    return TowerShape(products, n_layers * n_rows * inner, n_rows * max(inner, 3 * width, n_rows), tokens, n_max)


def _projection(hidden_size: int, width: int, scheme: str, tokens: int) -> list[Product]:
    return [
        Product(Matrix(hidden_size, width, scheme), tokens),
        Product(Matrix(hidden_size, hidden_size, scheme), tokens),
    ]


def _layers(text: TextSpec, recipe: RecipeRecord) -> Iterator[Matrix]:
    for part, (rows, columns) in layer_matrices(text).items():
        schemes = [_scheme(recipe, f"decoder.layers.{n}.{part}") for n in range(text.n_layers)]
        for scheme in sorted(set(schemes)):
            yield Matrix(rows, columns, scheme, schemes.count(scheme))


def _scheme(recipe: RecipeRecord, path: str) -> str:
    record = recipe.tensors.get(path)
    return "fp32" if record is None else record.scheme


def _vision(manifest: Manifest, files: Mapping[str, int]) -> TowerShape | None:
    """Return the vision tower: a manifest has its depths, and its widths follow from the size of its file."""
    spec, recipe = manifest.vision, manifest.recipe
    if spec is None:
        return None
    grid, hidden, n_bytes = spec.tile_px // spec.patch_px, manifest.text.hidden_size, files.get("vision.bin", 0)
    n_max = spec.max_tiles + 1
    stages = [int(found[1]) for path in recipe.tensors if (found := _STAGE.fullmatch(path))]
    if not stages:
        return _encoder(manifest, "vision", n_rows=grid**2, tokens=spec.tokens_per_tile, n_bytes=n_bytes, n_max=n_max)
    depths = tuple(stages.count(stage) for stage in range(max(stages) + 1))
    scheme = _scheme(recipe, "vision.stages.0.blocks.0.pwconv1")

    def tower(width: int) -> TowerShape:
        widths = tuple(width << stage for stage in range(len(depths)))
        return convnext(
            widths, depths, grid=grid, scheme=scheme, hidden_size=hidden, tokens=spec.tokens_per_tile, n_max=n_max
        )

    return tower(_fitting(lambda width: tower(width).stored_bytes, n_bytes))


def _audio(manifest: Manifest, files: Mapping[str, int]) -> TowerShape | None:
    spec = manifest.audio
    if spec is None:
        return None
    n_bytes, n_rows = files.get("audio.bin", 0), spec.window_frames // 2
    return _encoder(manifest, "audio", n_rows=n_rows, tokens=spec.tokens_per_window, n_bytes=n_bytes, n_max=1)


def _encoder(manifest: Manifest, name: str, *, n_rows: int, tokens: int, n_bytes: int, n_max: int) -> TowerShape:
    recipe, hidden = manifest.recipe, manifest.text.hidden_size
    n_layers = sum(path.startswith(f"{name}.layers.") and path.endswith(".fc1") for path in recipe.tensors)
    scheme = _scheme(recipe, f"{name}.layers.0.fc1")

    def tower(width: int) -> TowerShape:
        return transformer(
            width=width, inner=4 * width, n_layers=n_layers, n_rows=n_rows, scheme=scheme, hidden_size=hidden,
            tokens=tokens, n_max=n_max,
        )  # fmt: skip

    return tower(_fitting(lambda width: tower(width).stored_bytes, n_bytes))


def _fitting(n_bytes: Callable[[int], int], wanted: int) -> int:
    """Return the number of channels with which a tower has as many bytes as its file, or a little less."""
    low, high = 1, 1 << 12
    while low < high:
        middle = (low + high + 1) // 2
        if n_bytes(middle * _N_MULTIPLE) <= wanted:
            low = middle
        else:
            high = middle - 1
    return low * _N_MULTIPLE
