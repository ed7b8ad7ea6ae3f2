"""Graphs written byte by byte: onnxruntime runs them, and they compute what they say."""

from pathlib import Path

import numpy as np
import pytest

from edge.bundle import onnx_check
from edge.engine import probe_graph
from edge.engine.probe_graph import KINDS, Kind
from edge.engine.session import open_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_each_kind_compute(kind: Kind) -> None:
    session = open_bytes(probe_graph.products(kind, wide=128, narrow=64, n=2), threads=1)
    for n_rows in (1, 5):
        (y,) = session.run(None, {"x": np.ones((n_rows, 64), np.float32)})
        assert y.shape == (n_rows, 64)
        assert np.allclose(y, 1, rtol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_of_operators_that_bundles_have(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / "probe.onnx"
    file.write_bytes(probe_graph.products(kind, wide=128, narrow=64, n=2))
    onnx_check.check(file)


def test_attention_of_equal_keys_is_the_mean_of_values() -> None:
    data = probe_graph.attention(n_heads=4, n_kv_heads=2, head_dim=16, capacity=8)
    session = open_bytes(data, threads=1)
    qkv = np.zeros((1, 1, 128), np.float32)
    key, value = np.zeros((1, 2, 8, 16), np.float32), np.full((1, 2, 8, 16), 3, np.float32)
    inputs = {
        "qkv": qkv, "key": key, "value": value, "seqlens_k": np.array([2], np.int32), "total": np.array(3, np.int32)
    }  # fmt: skip
    y = session.run(["y"], inputs)[0]
    assert np.allclose(y, 2)  # two positions of 3, and the new one of 0
