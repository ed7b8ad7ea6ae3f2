"""The decoder over a cache of 8 bits: against the one in float32, in chunks and batches, and beside it on disk."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from edge.bundle import onnx_check
from edge.bundle.manifest import DECODER, DECODER_INT8_CACHE
from edge.errors import BundleError
from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.errors import GraphError
from export.graphs.int8_cache import Scales, layer_graphs, write_int8_cache
from export.graphs.text import write_decoder
from export.recipe import Scheme
from tests.export.checkpoint.random_weights import TEXT, Conversations, RandomWeights, model, recipe

N_ROWS = 40


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def embeds_of(text: TextConfig, *, seed: int = 5) -> F32:
    ids = np.random.default_rng(seed).integers(0, text.vocab_size, N_ROWS)
    return 8 * RandomWeights(model(text)).tensor("text.embed")[ids][None]  # (1, N_ROWS, H), of about unit size


def written(folder: Path, scheme: Scheme = "fp32", *, text: TextConfig = TEXT, covered: float = 1.0) -> Path:
    """A decoder, and the same with scales that cover so much of what `embeds_of` makes of keys and values."""
    write_decoder(RandomWeights(model(text)), text, recipe(scheme), folder, progress=None)
    float32 = Conversations(folder, text)
    float32.step(embeds_of(text))
    largest = {name: np.abs(cache[0, :, :N_ROWS]).max(1).reshape(-1) for name, cache in float32.cache.items()}
    scales = {name: (values * covered / 127).astype(np.float32) for name, values in largest.items()}
    write_int8_cache(folder, [Scales(scales[f"{n}.key"], scales[f"{n}.value"]) for n in range(text.n_layers)])
    return folder


def relative(found: F32, expected: F32) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_logits_are_near_those_of_the_float32_cache(tmp_path: Path) -> None:
    written(tmp_path)
    embeds = embeds_of(TEXT)
    expected = Conversations(tmp_path, TEXT).step(embeds)
    found = Conversations(tmp_path, TEXT, int8_cache=True).step(embeds)
    assert 0 < relative(found, expected) < 0.02


def test_what_goes_beyond_the_scales_is_cut_and_does_not_wrap_around(tmp_path: Path) -> None:
    written(tmp_path, covered=0.5)
    float32, int8 = (Conversations(tmp_path, TEXT, int8_cache=small) for small in (False, True))
    for each in (float32, int8):
        each.step(embeds_of(TEXT))
    for part in ("0.key", "0.value"):  # the first layer reads the same in both
        exact, stored = float32.cache[part][0, :, :N_ROWS], int8.cache[part][0, :, :N_ROWS]
        scale = 0.5 * np.abs(exact).max(1, keepdims=True) / 127
        assert np.abs(exact / scale).max() > 250
        assert np.abs(stored - np.clip(exact / scale, -128, 127)).max() < 0.51


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("scheme", ["fp32", "int8", "int8-block32"])
def test_rows_are_the_same_bits_in_any_chunks(tmp_path: Path, scheme: Scheme, threads: int) -> None:
    written(tmp_path, scheme)
    embeds = embeds_of(TEXT)
    conversation = Conversations(tmp_path, TEXT, threads=threads, int8_cache=True)
    whole = conversation.step(embeds)
    for sizes in ([2] * 20, [3, 37], [17, 2, 5, 9, 7], [38, 2], [11, 13, 16]):
        assert np.array_equal(conversation.chunks(embeds, sizes), whole)


def test_cache_can_be_set_back(tmp_path: Path) -> None:
    written(tmp_path, "int8")
    embeds = embeds_of(TEXT)
    conversation = Conversations(tmp_path, TEXT, int8_cache=True)
    whole = conversation.step(embeds)
    conversation.lengths = [25]
    assert np.array_equal(conversation.step(embeds[:, 25:]), whole[:, 25:])


def test_answer_does_not_depend_on_who_shares_the_batch(tmp_path: Path) -> None:
    written(tmp_path, "int8")
    together, alone = Conversations(tmp_path, TEXT, batch=3, int8_cache=True), []
    for slot, length in enumerate((5, 31, 18)):
        conversation, embeds = Conversations(tmp_path, TEXT, int8_cache=True), embeds_of(TEXT, seed=slot)
        conversation.step(embeds[:, :length])
        for name, cache in together.cache.items():
            cache[slot] = conversation.cache[name][0]
        together.lengths[slot] = length
        alone.append((embeds[:, -1:], conversation.step(embeds[:, -1:])))
    answers = together.step(np.concatenate([row for row, _ in alone]))
    assert np.array_equal(answers, np.concatenate([answer for _, answer in alone]))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4"])
def test_layers_alone_give_the_keys_and_values_of_the_whole_decoder(
    tmp_path: Path, scheme: Scheme, share: float
) -> None:
    text = dataclasses.replace(TEXT, rotary_share=share)
    write_decoder(RandomWeights(model(text)), text, recipe(scheme), tmp_path, progress=None)
    embeds = embeds_of(text)
    whole = Conversations(tmp_path, text)
    whole.step(embeds)
    rows: list[F32] = [embeds]
    for n, layer in enumerate(layer_graphs(tmp_path)):
        options = ort.SessionOptions()
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))
        session = ort.InferenceSession(layer.data, options, providers=["CPUExecutionProvider"])
        empty = np.zeros((1, text.n_kv_heads, N_ROWS, text.head_dim), np.float32)
        feeds = dict(zip(layer.inputs, rows, strict=True)) | {f"past.{n}.key": empty, f"past.{n}.value": empty}
        feeds |= {"seqlens_k": np.array([N_ROWS - 1], np.int32), "total_sequence_length": np.array(N_ROWS, np.int32)}
        keys, values, *rows = session.run(list(layer.outputs), feeds)
        for name, found in (("key", keys), ("value", values)):
            assert relative(found[0], whole.cache[f"{n}.{name}"][0, :, :N_ROWS]) < 1e-5
    assert n == text.n_layers - 1
    assert rows == []


def test_graph_has_no_weights_of_its_own_beside_norms_and_scales(tmp_path: Path) -> None:
    written(tmp_path, "int8")
    assert sorted(path.name for path in tmp_path.iterdir()) == [DECODER_INT8_CACHE, "decoder.bin", DECODER]
    graph = onnx.load(str(tmp_path / DECODER_INT8_CACHE), load_external_data=False).graph
    places = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    assert places == {"decoder.bin"}


def test_structure_check_lets_the_graph_through_and_no_other_name(tmp_path: Path) -> None:
    written(tmp_path, "int8")
    onnx_check.check(tmp_path / DECODER_INT8_CACHE)
    (tmp_path / "decoder-kv9.onnx").write_bytes((tmp_path / DECODER_INT8_CACHE).read_bytes())
    with pytest.raises(BundleError, match=r"decoder-kv9\.onnx"):
        onnx_check.check(tmp_path / "decoder-kv9.onnx")


def test_scales_of_other_layers_are_an_error(tmp_path: Path) -> None:
    write_decoder(RandomWeights(model(TEXT)), TEXT, recipe("fp32"), tmp_path, progress=None)
    with pytest.raises(GraphError, match="2 layers with attention, scales of 0"):
        write_int8_cache(tmp_path, [])
