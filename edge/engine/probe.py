"""What this machine does: bytes read from memory, and products of each kind, measured in a few seconds."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from edge.arrays import F32
from edge.engine import probe_graph
from edge.engine.available import available_bytes
from edge.engine.probe_graph import KINDS, Kind
from edge.engine.rates import Rates, packing_rates
from edge.engine.session import give_back, open_bytes, thread_count

_WIDE, _NARROW = 8192, 2048
_PRODUCTS: Final[Mapping[Kind, int]] = {"int4-blocks": 8, "int8-blocks": 6, "int8": 6, "fp32": 2}
_SCHEMES: Final[Mapping[Kind, str]] = {
    "int4-blocks": "int4-block32", "int8-blocks": "int8-block32", "int8": "int8", "fp32": "fp32",
}  # fmt: skip
_READ_BYTES: Final = 384 << 20  # more than a cache holds, so that each run reads its weights from memory
_ROWS: Final = 256
_ROUNDS: Final = 5
_HEADS, _KV_HEADS, _HEAD_DIM, _CAPACITY, _CACHES = 32, 8, 128, 2304, 4
_DISK: Final = 1e9  # not measured: bytes/s of a file's first read


def measure(*, threads: int | None = None, kinds: tuple[Kind, ...] = KINDS) -> Rates:
    """Measure this machine: a few seconds, and up to about a gigabyte of memory.

    kinds: of products that matter; others get a rate out of those.
    """
    n_threads = thread_count(threads)
    memory = np.ones(max(16 << 20, min(_READ_BYTES, available_bytes() // 8)) // 4, np.float32)
    flush = _reader(memory, n_threads)
    bandwidth = memory.nbytes / _median_s(flush, flush=None)
    one_row: dict[Kind, float] = {}
    many_rows: dict[Kind, float] = {}
    for kind in kinds:
        one_row[kind], many_rows[kind] = _products(kind, n_threads, flush)
    cache, attention = _attention(n_threads, flush)
    give_back()
    for kind in KINDS:
        one_row.setdefault(kind, bandwidth)
        many_rows.setdefault(kind, statistics.fmean(many_rows.values()))
    return Rates(bandwidth, one_row, many_rows, cache, attention, _DISK, packing_rates(1.0), n_threads)


def with_bandwidth(rates: Rates, bandwidth: float) -> Rates:
    """Return the rates of a machine that multiplies as fast, and reads memory at another rate."""
    share = bandwidth / rates.bandwidth
    return replace(
        rates,
        bandwidth=bandwidth,
        one_row={kind: rate * share for kind, rate in rates.one_row.items()},
        cache=rates.cache * min(1.0, share),
    )


def _reader(memory: F32, threads: int) -> Callable[[], None]:
    """Return what reads memory once, in as many threads as compute."""
    parts = np.array_split(memory, threads)

    def read() -> None:
        readers = [threading.Thread(target=np.dot, args=(part, part)) for part in parts]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()

    return read


def _products(kind: Kind, threads: int, flush: Callable[[], None]) -> tuple[float, float]:
    """Return the bytes/s of products of one row, and the operations/s of products of many."""
    from edge.bundle.sizes import packed_bytes

    n = _PRODUCTS[kind]
    session = open_bytes(probe_graph.products(kind, wide=_WIDE, narrow=_NARROW, n=n), threads=threads)
    n_bytes = n * packed_bytes(_WIDE, _NARROW, _SCHEMES[kind])
    row, rows = np.ones((1, _NARROW), np.float32), np.ones((_ROWS, _NARROW), np.float32)
    one_s = _median_s(lambda: session.run(None, {"x": row}), flush=flush)
    many_s = _median_s(lambda: session.run(None, {"x": rows}), flush=flush, rounds=3)
    return n_bytes / one_s, 2 * n * _WIDE * _NARROW * _ROWS / many_s


def _attention(threads: int, flush: Callable[[], None]) -> tuple[float, float]:
    """Return the bytes/s of keys and values read for one row, and the operations/s of attention of many rows."""
    import onnxruntime as ort

    graph = probe_graph.attention(n_heads=_HEADS, n_kv_heads=_KV_HEADS, head_dim=_HEAD_DIM, capacity=_CAPACITY)
    session, shape = open_bytes(graph, threads=threads), (1, _KV_HEADS, _CAPACITY, _HEAD_DIM)
    caches = [(np.zeros(shape, np.float32), np.zeros(shape, np.float32)) for _ in range(_CACHES)]
    width = (_HEADS + 2 * _KV_HEADS) * _HEAD_DIM
    total = _CAPACITY - _ROWS

    def attend(n_rows: int) -> float:
        kept = []
        bindings = []
        for key, value in caches:
            binding = session.io_binding()
            arrays = {
                "qkv": np.ones((1, n_rows, width), np.float32), "key": key, "value": value,
                "seqlens_k": np.array([total - 1], np.int32), "total": np.array(total, np.int32),
                "y": np.empty((1, n_rows, _HEADS * _HEAD_DIM), np.float32),
            }  # fmt: skip
            values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
            for name in arrays.keys() - {"y"}:
                binding.bind_ortvalue_input(name, values[name])
            for name, source in (("y", "y"), ("new_key", "key"), ("new_value", "value")):
                binding.bind_ortvalue_output(name, values[source])
            kept.append((arrays, values))
            bindings.append(binding)
        return _median_s(lambda: [session.run_with_iobinding(each) for each in bindings], flush=flush, rounds=3)

    n_bytes = _CACHES * 2 * _KV_HEADS * total * _HEAD_DIM * 4
    n_operations = _CACHES * 4 * _HEADS * _HEAD_DIM * _ROWS * (total - _ROWS / 2)
    return n_bytes / attend(1), n_operations / attend(_ROWS)


def _median_s(run: Callable[[], object], *, flush: Callable[[], None] | None, rounds: int = _ROUNDS) -> float:
    """Return the median of some runs after a first one, in seconds; flush: empties the caches before each."""
    run()
    spent = []
    for _ in range(rounds):
        if flush is not None:
            flush()
        started = time.perf_counter()
        run()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)
