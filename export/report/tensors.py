"""Tensors by tower, layer and kind: the grid in which their errors are shown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.bundle.manifest import TensorRecord

MAX_COLUMNS: Final = 256
MAX_ROWS: Final = 16
MAX_SINGLES: Final = 24
N_STAGES: Final = 4  # of a tower of layers, where they are shown together

_LAYER = re.compile(r"([a-z_]{1,40})\.layers\.(\d{1,4})\.([a-z0-9_.]{1,60})")
_STAGE = re.compile(r"([a-z_]{1,40})\.stages\.(\d{1,3})\.blocks\.\d{1,4}\.([a-z0-9_.]{1,60})")
_KINDS = (
    "qkv", "o", "gate_up", "down", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj",
    "encoder_attn.q_proj", "encoder_attn.k_proj", "encoder_attn.v_proj", "encoder_attn.out_proj", "fc1", "fc2",
    "pwconv1", "pwconv2",
)  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_BITS = re.compile(r"(?:fp|int)(\d+)")


@dataclass(frozen=True)
class Cell:
    """One tensor, or several that are shown together: their largest error, and every scheme among them."""

    error: float
    schemes: tuple[str, ...]
    n: int


@dataclass(frozen=True)
class Grid:
    """The tensors of one tower: rows are kinds, columns layers or stages; cells by (row, column)."""

    tower: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[int, int], Cell]
    by: str


@dataclass(frozen=True)
class Layout:
    """All tensors of a bundle: grids, those that are in none, and how many are left out of both."""

    grids: tuple[Grid, ...]
    singles: tuple[tuple[str, Cell], ...]
    n_left_out: int


def arrange(tensors: Mapping[str, TensorRecord]) -> Layout:
    """Return tensors in grids: the decoder layer by layer, the towers of other media stage by stage."""
    layers: dict[str, list[tuple[int, str, TensorRecord]]] = {}
    stages: dict[str, list[tuple[int, str, TensorRecord]]] = {}
    singles: list[tuple[str, Cell]] = []
    for name, record in tensors.items():
        for pattern, found in ((_LAYER, layers), (_STAGE, stages)):
            if match := pattern.fullmatch(name):
                found.setdefault(match[1], []).append((int(match[2]), match[3], record))
                break
        else:
            singles.append((name, _cell([record])))
    grids = [_layered(tower, found) for tower, found in sorted(layers.items(), key=_decoder_first)]
    grids += [_grid(tower, found, _stage_names(found), "stage") for tower, found in sorted(stages.items())]
    n_shown = sum(cell.n for grid in grids for cell in grid.cells.values()) + min(len(singles), MAX_SINGLES)
    return Layout(tuple(grids), tuple(singles[:MAX_SINGLES]), len(tensors) - n_shown)


def bits(scheme: str) -> int:
    """Return the bits of a scheme's weights, 0 where its name does not say."""
    match = _BITS.match(scheme)
    return int(match[1]) if match else 0


def marks(schemes: Iterable[str]) -> dict[str, str]:
    """Return a short mark for each scheme: its bits, and a letter where several have the same."""
    same: dict[int, list[str]] = {}
    for scheme in sorted(set(schemes)):
        same.setdefault(bits(scheme), []).append(scheme)
    return {
        scheme: f"{n_bits or '?'}{_LETTERS[place % len(_LETTERS)] if len(alike) > 1 else ''}"
        for n_bits, alike in sorted(same.items(), reverse=True)
        for place, scheme in enumerate(alike)
    }


def _decoder_first(item: tuple[str, object]) -> tuple[bool, str]:
    return item[0] != "decoder", item[0]


def _layered(tower: str, found: Sequence[tuple[int, str, TensorRecord]]) -> Grid:
    """Return a grid of layers; the vision and audio towers of a chat bundle in a few stages of them."""
    n_layers = max(layer for layer, _, _ in found) + 1
    if tower not in ("vision", "audio") or n_layers <= N_STAGES:
        return _grid(tower, found, [str(layer) for layer in range(min(n_layers, MAX_COLUMNS))], "layer")
    size = -(-n_layers // N_STAGES)
    names = [f"{first}–{min(first + size, n_layers) - 1}" for first in range(0, n_layers, size)]
    return _grid(tower, [(layer // size, kind, record) for layer, kind, record in found], names, "layers")


def _stage_names(found: Sequence[tuple[int, str, TensorRecord]]) -> list[str]:
    return [str(stage) for stage in range(min(MAX_COLUMNS, max(stage for stage, _, _ in found) + 1))]


def _grid(tower: str, found: Sequence[tuple[int, str, TensorRecord]], columns: Sequence[str], by: str) -> Grid:
    kinds = sorted({kind for _, kind, _ in found}, key=_rank)[:MAX_ROWS]
    at: dict[tuple[int, int], list[TensorRecord]] = {}
    for column, kind, record in found:
        if kind in kinds and column < len(columns):
            at.setdefault((kinds.index(kind), column), []).append(record)
    cells = {place: _cell(records) for place, records in at.items()}
    return Grid(tower, tuple(kinds), tuple(columns), cells, by)


def _rank(kind: str) -> tuple[int, str]:
    return (_KINDS.index(kind) if kind in _KINDS else len(_KINDS)), kind


def _cell(records: Sequence[TensorRecord]) -> Cell:
    schemes = tuple(dict.fromkeys(record.scheme for record in records))
    return Cell(max(record.error for record in records), schemes, len(records))
