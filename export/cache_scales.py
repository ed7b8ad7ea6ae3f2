"""Scales of a cache of 8 bits: the finished bundle reads some calibration text, and each channel's range is noted.

The decoder runs layer by layer, so that a model of any size needs the memory of one layer and of its vision tower.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edge.bundle.bundle import Bundle
from edge.bundle.manifest import DECODER_INT8_CACHE, Int8Cache, Manifest, TextSpec, VisionSpec
from edge.engine.embedding import Embedding
from edge.engine.layout import Positions
from edge.engine.pieces import Media
from edge.engine.session import open_session, run_options, thread_count
from edge.engine.tokenizer import Tokenizer
from edge.engine.vision_tower import Vision
from edge.media.tiles import tiles
from export import pack
from export.arrays import F32
from export.errors import TextsError
from export.graphs.int8_cache import LayerGraph, Scales, layer_graphs, write_int8_cache
from export.graphs.rotary import KERNEL_MULTIPLE
from export.texts.read import Entry
from export.texts.sequences import sequences, spread

if TYPE_CHECKING:
    import onnxruntime as ort

POSITIONS: Final = 2048  # that are read, of small models
OPERATIONS: Final = 1.5e13  # of reading them at most: 1 024 positions of seven billion weights
WINDOW: Final = 512  # positions of a sequence at most
IMAGES: Final = 2  # sequences with images at most: a large tower takes seconds for each tile
MARGIN: Final = 1.1  # of the largest magnitude seen: what goes beyond it later is cut
FLOOR: Final = 0.01  # of the widest channel of a head: what a channel covers at least

LARGEST: Final = 127  # of a stored value

Report = Callable[[str, int, int], None]  # (stage, steps done, steps in all)
Streams = list[tuple[F32, ...]]  # of each sequence, what a layer reads: its normed rows, and the residual stream


def added(folder: Path, manifest: Manifest, entries: Sequence[Entry], report: Report) -> Manifest:
    """Write decoder-kv8.onnx into a finished bundle; returns the manifest with it, the same where `measure` is None.

    entries: texts to read. Raises: EdgeError, GraphError.
    """
    measured = measure(Bundle.open(folder), entries, report)
    if measured is None:
        return manifest
    scales, n = measured
    write_int8_cache(folder, scales)
    files = {**manifest.files, DECODER_INT8_CACHE: pack.file_entry(folder / DECODER_INT8_CACHE)}
    return replace(manifest, files=files, int8_cache=Int8Cache(n, MARGIN))


def measure(bundle: Bundle, entries: Sequence[Entry], report: Report) -> tuple[list[Scales], int] | None:
    """The scales of every layer, and how many positions they were measured on.

    None when there is no text that the bundle can read, or keys or values are not finite.
    Raises: EdgeError.
    """
    chosen = _chosen(bundle, entries)
    if not chosen:
        return None
    streams, scales = _embeddings(bundle, chosen), list[Scales]()
    n_layers = bundle.manifest.text.n_layers
    for layer in layer_graphs(bundle.path):
        found, streams = _layer(layer, bundle, streams)
        if found is None:
            return None
        scales.append(found)
        report("cache scales", len(scales), n_layers)
    return scales, sum(map(len, chosen))


def ranges(spec: TextSpec, keys: F32, values: F32) -> tuple[F32, F32]:
    """The largest magnitude of each channel of keys and of values, (n_kv_heads, head_dim) each.

    keys, values: (n_kv_heads, S, head_dim), keys rotated. Rotation turns each pair of channels around zero, further at
    every position: of a pair that turns slowly, the second may be small in a short text and large in a long one. What
    no position changes is the pair's length, so both channels get the largest of it.
    """
    magnitudes = np.abs(keys)
    half = n_pairs(spec)
    first, second = slice(0, half), slice(half, 2 * half)
    magnitudes[..., first] = magnitudes[..., second] = np.hypot(keys[..., first], keys[..., second])
    return magnitudes.max(1), np.abs(values).max(1)


def n_pairs(spec: TextSpec) -> int:
    """How many pairs of channels the kernel rotates, channel i with channel i + n.

    A share that it does not take is spread over the whole head, see `export.graphs.rotary.head_order`.
    """
    rotated = round(spec.head_dim * spec.rotary_share)
    return (rotated if rotated % KERNEL_MULTIPLE == 0 else spec.head_dim) // 2


def scale(largest: F32) -> F32:
    """The scales of channels whose largest magnitudes are known. (n_kv_heads, head_dim) -> (n_kv_heads * head_dim,)"""
    widest = largest.max(-1, keepdims=True)
    covered = np.maximum(largest, FLOOR * widest) * MARGIN
    covered = np.where(widest > 0, covered, 1.0)  # a head that is always zero
    return np.ascontiguousarray((covered / LARGEST).reshape(-1), np.float32)


def n_positions(spec: TextSpec) -> int:
    """How many positions are read of a model of this size."""
    weights = spec.n_layers * spec.hidden_size * (
        2 * spec.n_heads * spec.head_dim + 2 * spec.n_kv_heads * spec.head_dim + 3 * spec.intermediate_size
    )  # fmt: skip
    return max(WINDOW, min(POSITIONS, int(OPERATIONS / (2 * weights))))


def _chosen(bundle: Bundle, entries: Sequence[Entry]) -> list[Positions]:
    """Sequences spread over the texts, those with images at the end: few of them."""
    spec, tokenizer = bundle.manifest.text, Tokenizer.open(bundle)
    laid_out = list(itertools.chain.from_iterable(_readable(entry, bundle, tokenizer) for entry in entries))
    seeing = [positions for positions in laid_out if positions.media(0, len(positions))]
    texts = [positions for positions in laid_out if not positions.media(0, len(positions))]
    chosen = [texts[at] for at in spread([len(each) for each in texts], n_positions(spec))] if texts else []
    return [*chosen, *seeing[:IMAGES]]


def _readable(entry: Entry, bundle: Bundle, tokenizer: Tokenizer) -> Iterator[Positions]:
    """An entry's sequences; none where the bundle cannot read it."""
    window = min(WINDOW, bundle.manifest.text.context)
    try:
        for each in sequences([entry], manifest=bundle.manifest, tokenizer=tokenizer, window=window):
            yield each.positions
    except TextsError:
        return


def _embeddings(bundle: Bundle, chosen: Sequence[Positions]) -> Streams:
    """The embeddings (1, S, H) of each sequence."""
    table, vision, images = Embedding(bundle), bundle.manifest.vision, dict[str, F32]()
    media = {each.digest: each for positions in chosen for each in positions.media(0, len(positions))}
    if vision is not None and media:
        seen = [each for each in media.values() if isinstance(each, Media)]
        images = _images(bundle, vision, seen)
    return [(positions.embeddings(0, len(positions), table, images)[None],) for positions in chosen]


def _images(bundle: Bundle, spec: VisionSpec, media: Sequence[Media]) -> dict[str, F32]:
    """The embeddings of images, (n_tokens, H) by digest; the tower is gone when this returns."""
    file = bundle.file("vision.onnx")
    open_it = partial(open_session, file, threads=thread_count(None))
    tower = Vision(open_it, spec, bundle.manifest.text.hidden_size, limit_bytes=0)
    return {
        each.digest: np.concatenate([tower.encode(tile, options=run_options()) for tile in tiles(each.rgb, spec)])
        for each in media
    }


def _layer(layer: LayerGraph, bundle: Bundle, streams: Streams) -> tuple[Scales | None, Streams]:
    """Run a layer over every sequence; returns its scales, None where they are not finite, and what it gives."""
    spec, session = bundle.manifest.text, _session(layer, bundle.path)
    past = [each.name for each in session.get_inputs() if each.name.startswith("past.")]
    keys: F32 = np.zeros((spec.n_kv_heads, spec.head_dim), np.float32)
    values = keys
    following: Streams = []
    for rows in streams:
        n = rows[0].shape[1]
        empty = np.zeros((1, spec.n_kv_heads, n, spec.head_dim), np.float32)
        lengths = {"seqlens_k": np.array([n - 1], np.int32), "total_sequence_length": np.array(n, np.int32)}
        feeds = dict(zip(layer.inputs, rows, strict=True)) | dict.fromkeys(past, empty) | lengths
        found = session.run(list(layer.outputs), feeds, run_options())
        largest = ranges(spec, found[0][0], found[1][0])
        keys, values = np.maximum(keys, largest[0]), np.maximum(values, largest[1])
        following.append(tuple(found[2:]))
    finite = np.isfinite(keys).all() and np.isfinite(values).all()
    return Scales(scale(keys), scale(values)) if finite else None, following


def _session(layer: LayerGraph, folder: Path) -> "ort.InferenceSession":
    """Open one layer; its weights are beside decoder.onnx."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count(None)
    options.log_severity_level = 4
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact sums of 8 bits on any processor
    return ort.InferenceSession(layer.data, options, providers=["CPUExecutionProvider"])
