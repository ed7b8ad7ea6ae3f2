"""How fast a machine reads memory and multiplies, and what a model will do at those rates.

Decoding is bound by bytes: packed weights at the rate of one row, then the cache. Reading a prompt and encoding a tile
are bound by products of many rows. What is neither is a share that was measured (docs/plan.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from edge.bundle.shape import ModelShape, TowerShape
from edge.bundle.sizes import Matrix
from edge.engine.footprint import CHUNK
from edge.engine.kv import VALUE_BYTES, Kv
from edge.engine.probe_graph import Kind

# Measured on the 1b and the 7B shape: seconds that a step takes beside products and attention, for each layer and for
# each logit (sampling), and the share of a prompt's and a tile's time that is products.
_CALL_S: Final = 0.3e-3  # of each step, whatever the model
_LAYER_S: Final = 40e-6
_CHUNK_LAYER_S: Final = 0.4e-3  # of each layer, for each chunk of a prompt
_LOGIT_S: Final = 5e-9
STEP_SHARE: Final = 0.85  # of the rate of products alone that they reach among other operators
_READ_SHARE: Final = 0.95
_PASSES: Final = 17.0  # over what a tower's layers pass on: norms, activations, rounding
# Bytes/s of stored weights that one core packs, measured on a Zen 5.
_PACKING: Final[Mapping[Kind, float]] = {"int4-blocks": 0.62e9, "int8-blocks": 0.5e9, "int8": 1.2e9, "fp32": 2e9}
_PACKED_SHARE: Final = 0.6  # of that time where packed weights are mapped: they are compared
_START_S: Final = 0.3  # of importing onnxruntime and making the sessions
_TOKENIZER_S: Final = 150e-9  # for a byte of tokenizer.json
_INT8_CACHE_READ: Final = 3.3  # times as long as float32 to read a prompt, its attention alone


@dataclass(frozen=True)
class Rates:
    """A machine's figures.

    bandwidth: bytes/s read from memory; one_row: bytes/s of packed weights in products of one row; many_rows:
    operations/s of products of 256 rows, two for each weight and row; cache: bytes/s of keys and values that attention
    reads for one row; attention: operations/s of attention of many rows; disk: bytes/s of a first read; packing:
    bytes/s of stored weights packed.
    """

    bandwidth: float
    one_row: Mapping[Kind, float]
    many_rows: Mapping[Kind, float]
    cache: float
    attention: float
    disk: float
    packing: Mapping[Kind, float]
    threads: int


def packing_rates(share: float) -> Mapping[Kind, float]:
    """Return the bytes/s of weights packed by one core, which is `share` as fast as the one that was measured."""
    return {kind: share * rate for kind, rate in _PACKING.items()}


def kind_of(scheme: str) -> Kind:
    """Return which product of the CPU multiplies a scheme; it multiplies float16 as float32."""
    if scheme in ("fp16", "fp32", "int8"):
        return "int8" if scheme == "int8" else "fp32"
    return "int4-blocks" if scheme.startswith("int4") else "int8-blocks"


def step_s(shape: ModelShape, rates: Rates, *, position: int, kv: Kv = "fp32") -> float:
    """Return the seconds of decoding one token at a position."""
    text = shape.text
    products = sum(matrix.packed_bytes / rates.one_row[kind_of(matrix.scheme)] for matrix in shape.decoder)
    products /= STEP_SHARE
    cache = 2 * text.n_layers * text.n_kv_heads * text.head_dim * position * VALUE_BYTES[kv]
    return products + cache / rates.cache + _CALL_S + text.n_layers * _LAYER_S + text.vocab_size * _LOGIT_S


def read_s(shape: ModelShape, rates: Rates, n_tokens: int, *, kv: Kv = "fp32") -> float:
    """Return the seconds of reading a prompt of n_tokens positions; encoding its images is not counted."""
    text, n = shape.text, n_tokens
    products = sum(_many(matrix, n, rates) for matrix in shape.layers) / _READ_SHARE
    n_chunks = -(-n // CHUNK)
    head = n_chunks * shape.head.packed_bytes / rates.one_row[kind_of(shape.head.scheme)]
    attention = 2 * text.n_layers * text.n_heads * text.head_dim * n * n / rates.attention
    others = n_chunks * text.n_layers * _CHUNK_LAYER_S
    return products + head + others + attention * (_INT8_CACHE_READ if kv == "int8" else 1.0)


def tile_s(tower: TowerShape, rates: Rates) -> float:
    """Return the seconds of encoding one tile or window."""
    products = sum(_many(product.matrix, product.n_rows, rates) for product in tower.products)
    return products + _PASSES * 4 * tower.n_passed / rates.bandwidth


def load_s(shape: ModelShape, rates: Rates, *, packed: bool, cold: bool) -> float:
    """Return the seconds until text can be answered; towers open with their first use.

    packed: packed weights are in a file; cold: no file is in the page cache.
    """
    n_bytes = sum(size for name, size in shape.files.items() if name.startswith(("decoder", "tokenizer")))
    reading = n_bytes / rates.disk if cold else 0.0
    tokenizer = _TOKENIZER_S * shape.files.get("tokenizer.json", 0)
    return _START_S + tokenizer + _packing_s(shape.decoder, rates, packed=packed) + reading


def tower_load_s(tower: TowerShape, rates: Rates, *, packed: bool) -> float:
    """Return the seconds of opening a tower whose file is in the page cache."""
    return _packing_s([product.matrix for product in tower.products], rates, packed=packed)


def _packing_s(matrices: Iterable[Matrix], rates: Rates, *, packed: bool) -> float:
    seconds = sum(matrix.stored_bytes / rates.packing[kind_of(matrix.scheme)] for matrix in matrices)
    return seconds * (_PACKED_SHARE if packed else 1.0)


def _many(matrix: Matrix, n_rows: int, rates: Rates) -> float:
    return 2 * matrix.n_weights * n_rows / rates.many_rows[kind_of(matrix.scheme)]
