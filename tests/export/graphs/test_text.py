"""The decoder graph against transformers, and against itself in chunks, batches and bits."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from edge.bundle.manifest import TensorRecord
from export.arrays import F32
from export.checkpoint.config import TextConfig
from export.checkpoint.rope import RopeScaling
from export.errors import UnsupportedError
from export.graph import Progress
from export.graphs.rotary import tables
from export.graphs.table import write_embedding
from export.graphs.text import write_decoder
from export.recipe import Scheme
from tests.export.checkpoint.random_weights import TEXT, Conversations, RandomWeights, model, recipe
from tests.export.graphs import llama

N_ROWS = 40
LLAMA3 = RopeScaling("llama3", factor=8.0, original_context=64)
LINEAR = RopeScaling("linear", factor=4.0, original_context=256)
YARN = RopeScaling("yarn", factor=4.0, original_context=64)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def embeds_of(weights: RandomWeights, text: TextConfig, *, seed: int = 5) -> F32:
    ids = np.random.default_rng(seed).integers(0, text.vocab_size, N_ROWS)
    return 8 * weights.tensor("text.embed")[ids][None]  # (1, N_ROWS, H), of about unit size


def written(
    folder: Path, text: TextConfig, scheme: Scheme, *, progress: Progress | None = None
) -> tuple[RandomWeights, dict[str, TensorRecord]]:
    weights = RandomWeights(model(text))
    records = write_decoder(weights, text, recipe(scheme), folder, progress=progress)
    return weights, records


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True, "mlp_bias": True},
        {"tied": True, "logit_scale": 0.25},
        {"n_kv_heads": 4, "norm_eps": 1e-3, "rope_base": 500.0},
        {"rope_scaling": LLAMA3},
        {"rope_scaling": LINEAR},
        {"rope_scaling": YARN},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_logits_equal_those_of_transformers(tmp_path: Path, changes: dict[str, object]) -> None:
    text = dataclasses.replace(TEXT, **changes)
    weights, _ = written(tmp_path, text, "fp32")
    embeds = embeds_of(weights, text)
    expected = text.logit_scale * llama.logits(llama.llama(weights, text), embeds)
    assert np.abs(Conversations(tmp_path, text).step(embeds) - expected).max() < 1e-4


@pytest.mark.parametrize(("head_dim", "share"), [(32, 0.5), (32, 0.25), (48, 0.25), (32, 0.0625), (16, 0.25)])
def test_logits_equal_where_part_of_a_head_is_rotated(tmp_path: Path, head_dim: int, share: float) -> None:
    text = dataclasses.replace(TEXT, head_dim=head_dim, hidden_size=4 * head_dim, rotary_share=share)
    weights, _ = written(tmp_path, text, "fp32")
    embeds = embeds_of(weights, text)
    expected = llama.logits(llama.phi3(weights, text), embeds)
    assert np.abs(Conversations(tmp_path, text).step(embeds) - expected).max() < 1e-4


@pytest.mark.parametrize("scaling", [None, LLAMA3, LINEAR, YARN], ids=lambda rope: rope.kind if rope else "plain")
def test_rotary_tables_equal_those_of_transformers_at_far_positions(scaling: RopeScaling | None) -> None:
    text = dataclasses.replace(TEXT, context=4096, rope_scaling=scaling)
    positions = torch.arange(text.context)[None]
    expected = LlamaRotaryEmbedding(llama.llama_config(text))(torch.zeros(1), positions)
    half = text.head_dim // 2
    for ours, theirs in zip(tables(text), expected, strict=True):
        assert np.abs(ours - theirs[0, :, :half].numpy()).max() < 1e-3


def test_head_that_no_kernel_takes_is_refused(tmp_path: Path) -> None:
    text = dataclasses.replace(TEXT, head_dim=24)
    with pytest.raises(UnsupportedError, match="head_dim is 24, expected a multiple of 16"):
        written(tmp_path, text, "fp32")


@pytest.mark.parametrize("scheme", ["fp32", "int8"])
def test_cached_decode_equals_full_recompute(tmp_path: Path, scheme: Scheme) -> None:
    weights, _ = written(tmp_path, TEXT, scheme)
    embeds = embeds_of(weights, TEXT)
    conversation = Conversations(tmp_path, TEXT)
    whole = conversation.step(embeds)
    single = conversation.chunks(embeds, [1] * N_ROWS)
    # A single row takes another path through attention: 1e-6 off, which int8 may round to another level.
    assert np.abs(single - whole).max() < (1e-4 if scheme == "fp32" else 0.05)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("scheme", ["fp32", "int8"])
def test_rows_are_the_same_bits_in_any_chunks_of_two_or_more(tmp_path: Path, scheme: Scheme, threads: int) -> None:
    weights, _ = written(tmp_path, TEXT, scheme)
    embeds = embeds_of(weights, TEXT)
    conversation = Conversations(tmp_path, TEXT, threads=threads)
    whole = conversation.step(embeds)
    for sizes in ([2] * 20, [3, 37], [17, 2, 5, 9, 7], [38, 2], [11, 13, 16]):
        assert np.array_equal(conversation.chunks(embeds, sizes), whole)


def test_int4_rows_are_the_same_bits_in_chunks_of_even_size(tmp_path: Path) -> None:
    weights, _ = written(tmp_path, TEXT, "int4")
    embeds = embeds_of(weights, TEXT)
    conversation = Conversations(tmp_path, TEXT)
    whole = conversation.step(embeds)
    for sizes in ([2] * 20, [4, 36], [18, 2, 20]):
        assert np.array_equal(conversation.chunks(embeds, sizes), whole)


def test_only_the_last_rows_are_scored(tmp_path: Path) -> None:
    weights, _ = written(tmp_path, TEXT, "int8")
    embeds = embeds_of(weights, TEXT)
    conversation = Conversations(tmp_path, TEXT)
    whole = conversation.step(embeds)
    for n_logits in (1, 2, 7):
        conversation.lengths = [0]
        assert np.array_equal(conversation.step(embeds, n_logits=n_logits), whole[:, -n_logits:])


def test_cache_can_be_set_back(tmp_path: Path) -> None:
    weights, _ = written(tmp_path, TEXT, "int8")
    embeds = embeds_of(weights, TEXT)
    conversation = Conversations(tmp_path, TEXT)
    whole = conversation.step(embeds)
    conversation.lengths = [25]
    assert np.array_equal(conversation.step(embeds[:, 25:]), whole[:, 25:])


def test_answer_does_not_depend_on_who_shares_the_batch(tmp_path: Path) -> None:
    weights, _ = written(tmp_path, TEXT, "int8")
    together, alone = Conversations(tmp_path, TEXT, batch=3), []
    for slot, length in enumerate((5, 31, 18)):
        conversation, embeds = Conversations(tmp_path, TEXT), embeds_of(weights, TEXT, seed=slot)
        conversation.step(embeds[:, :length])
        for name, cache in together.cache.items():
            cache[slot] = conversation.cache[name][0]
        together.lengths[slot] = length
        alone.append((embeds[:, -1:], conversation.step(embeds[:, -1:])))
    answers = together.step(np.concatenate([row for row, _ in alone]))
    assert np.array_equal(answers, np.concatenate([answer for _, answer in alone]))


def test_fewer_bits_are_further_off(tmp_path: Path) -> None:
    errors, misses = [], []
    for scheme in ("fp32", "int8", "int4"):
        folder = tmp_path / scheme
        folder.mkdir()
        weights, records = written(folder, TEXT, scheme)
        assert {record.scheme for record in records.values()} == {scheme}
        errors.append([record.error for record in records.values()])
        logits = Conversations(folder, TEXT).step(embeds_of(weights, TEXT))
        misses.append(np.abs(logits - llama.logits(llama.llama(weights, TEXT), embeds_of(weights, TEXT))).mean())
    assert all(e0 == 0 < e8 < 0.01 < e4 < 0.12 for e0, e8, e4 in zip(*errors, strict=True))
    assert misses[0] < 1e-5 < misses[1] < 0.02 < misses[2]


def test_records_name_every_tensor_of_the_recipe_and_progress_counts_its_weights(tmp_path: Path) -> None:
    told: dict[str, int] = {}
    _, records = written(tmp_path, TEXT, "int8", progress=told.__setitem__)
    layers = [f"decoder.layers.{n}.{part}" for n in range(TEXT.n_layers) for part in ("qkv", "o", "gate_up", "down")]
    assert list(records) == [*layers, "decoder.head"]
    assert told["decoder.layers.1.gate_up"] == 2 * TEXT.intermediate_size * TEXT.hidden_size
    assert list(told) == list(records)


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4"])
def test_two_exports_give_the_same_bytes(tmp_path: Path, scheme: Scheme) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        written(folder, TEXT, scheme)
        write_embedding(RandomWeights(model()), TEXT, recipe(scheme), folder, progress=None)
    for file in ("decoder.onnx", "decoder.bin", "embedding.bin"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_large_tensors_are_outside_the_graph_and_on_page_borders(tmp_path: Path) -> None:
    written(tmp_path, TEXT, "int8")
    graph = onnx.load(tmp_path / "decoder.onnx", load_external_data=False)
    placed = [{entry.key: entry.value for entry in tensor.external_data} for tensor in graph.graph.initializer]
    outside = [place for place in placed if place]
    assert len(outside) == 2 + 4 * TEXT.n_layers + 1  # cos, sin, four matrices a layer, the head
    assert all(int(place["offset"]) % 4096 == 0 and place["location"] == "decoder.bin" for place in outside)
    assert (tmp_path / "decoder.onnx").stat().st_size < 64 << 10


def test_embedding_in_float32_is_the_table(tmp_path: Path) -> None:
    weights = RandomWeights(model())
    records = write_embedding(weights, TEXT, recipe("fp32"), tmp_path, progress=None)
    stored = np.fromfile(tmp_path / "embedding.bin", "<f4").reshape(TEXT.vocab_size, TEXT.hidden_size)
    assert np.array_equal(stored, weights.tensor("text.embed"))
    assert records["decoder.embed"].error == 0


def test_embedding_in_int8_is_rows_and_then_their_scales(tmp_path: Path) -> None:
    weights = RandomWeights(model())
    records = write_embedding(weights, TEXT, recipe("int8"), tmp_path, progress=None)
    data, n_values = (tmp_path / "embedding.bin").read_bytes(), TEXT.vocab_size * TEXT.hidden_size
    rows = np.frombuffer(data, np.int8, n_values).reshape(TEXT.vocab_size, -1)
    table = rows * np.frombuffer(data, "<f4", offset=n_values)[:, None]
    difference = table - weights.tensor("text.embed")
    error = np.linalg.norm(difference) / np.linalg.norm(weights.tensor("text.embed"))
    assert records["decoder.embed"].error == pytest.approx(error, rel=1e-4)
    assert 0 < error < 0.01
