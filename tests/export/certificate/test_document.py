"""The certificate's document: figures by kind, thresholds in words, long lists of numbers in a line."""

import json
from pathlib import Path

import numpy as np
import pytest

from edge.bundle import certificate as reading
from edge.bundle.bundle import Bundle
from export.certificate import document, words
from export.certificate.compare import Scores
from export.certificate.evaluation import load
from export.certificate.measure import Cosines, Cost, Measured
from export.memory import Peak
from export.recipe import Recipe, Thresholds

N = 2000
COSINES = Cosines(0.99, 0.9, 64)
NOTHING = Thresholds()


def scores(n: int, *, kl: float, top1: float) -> Scores:
    return Scores(np.full(n, kl), np.arange(n) < top1 * n, np.full(n, 3.0), np.full(n, 1.0), np.full(n, 1.5))


def measured(*, image_cosine: Cosines | None = COSINES, **kinds: Scores) -> Measured:
    parts = kinds or {"text": scores(N, kl=0.02, top1=0.95)}
    labels = np.concatenate([np.full(len(each.kl), kind) for kind, each in parts.items()])
    return Measured(
        Scores.joined(list(parts.values())), {kind: labels == kind for kind in parts}, scores(500, kl=0.001, top1=1),
        image_cosine, None, n_prompts=40, n_images=9, n_windows=8, n_conversations=5, skipped=(),
    )  # fmt: skip


def made(found: Measured, bundle: Path, thresholds: Thresholds = NOTHING) -> dict[str, object]:
    manifest, recipe = Bundle.open(bundle).manifest, Recipe("mine", (), thresholds)
    cost = Cost(Peak(1, 2), Peak(3, 4), 5.06)
    return json.loads(document.certificate(manifest, recipe, "quick", load(None), found, cost, Peak(1, 2)))


def test_missed_thresholds_say_by_how_much() -> None:
    thresholds = Thresholds(max_mean_kl=0.01, min_top1=0.99, min_image_cosine=0.995)
    assert document.missed(measured(), thresholds) == [
        "mean KL divergence 0.02 is 0.01 over max_mean_kl 0.01",
        "top-1 agreement 0.95 is 0.04 under min_top1 0.99",
        "mean cosine of picture embeddings 0.99 is 0.005 under min_image_cosine 0.995",
    ]


def test_kind_that_misses_is_named_though_all_together_reach_it() -> None:
    found = measured(text=scores(200, kl=0.05, top1=1), chat=scores(1800, kl=0.0, top1=1))
    assert document.missed(found, Thresholds(max_mean_kl=0.01)) == [
        "mean KL divergence of text 0.05 is 0.04 over max_mean_kl 0.01"
    ]


def test_few_positions_of_a_kind_are_not_held_to_a_threshold_alone() -> None:
    found = measured(images=scores(document.LEAST_HELD - 1, kl=0.05, top1=1), chat=scores(1800, kl=0.0, top1=1))
    assert document.missed(found, Thresholds(max_mean_kl=0.01)) == []


REACHED = Thresholds(max_mean_kl=0.02, min_top1=0.95, min_image_cosine=0.99)


@pytest.mark.parametrize("thresholds", [Thresholds(), REACHED])
def test_reached_thresholds_are_silent(thresholds: Thresholds) -> None:
    assert document.missed(measured(), thresholds) == []


def test_text_only_bundle_has_no_image_threshold() -> None:
    assert document.missed(measured(image_cosine=None), Thresholds(min_image_cosine=1.0)) == []


def test_certificate_names_the_worst_tensors(int8_bundle: Path) -> None:
    found = made(measured(), int8_bundle)
    records = Bundle.open(int8_bundle).manifest.recipe.tensors.values()
    errors = sorted((record.error for record in records), reverse=True)
    assert [tensor["error"] for tensor in found["worst_tensors"]] == errors[:5]
    assert found["peak_bytes"]["export"] == {"anonymous": 1, "resident": 2}
    assert found["wall_s"] == 5.1
    assert {"onnxruntime", "torch", "numpy", "python", "edge"} <= set(found["versions"])


def test_every_kind_has_its_figures(int8_bundle: Path) -> None:
    found = made(measured(text=scores(1000, kl=0.02, top1=0.9), chat=scores(500, kl=0.01, top1=1)), int8_bundle)
    assert found["positions"] == 1500
    assert {kind: (figures["positions"], figures["kl"]["mean"]) for kind, figures in found["sets"].items()} == {
        "text": (1000, pytest.approx(0.02)), "chat": (500, pytest.approx(0.01)),
    }  # fmt: skip
    assert found["sets"]["text"]["perplexity"]["bundle"] == pytest.approx(np.exp(1.5))
    assert found["prefill_decode"]["share_of_kl"] == pytest.approx(0.001 / (0.025 / 1.5))


def test_positions_are_kept_evenly_where_there_are_too_many(int8_bundle: Path) -> None:
    found = made(measured(text=scores(9000, kl=0.01234, top1=1), chat=scores(3000, kl=0.5, top1=1)), int8_bundle)
    lengths = {each["set"]: len(each["kl"]) for each in found["kl_positions"]}
    assert lengths == {"text": 3072, "chat": 1024}
    assert found["kl_positions"][0]["kl"][0] == 0.0123


def test_missed_thresholds_are_read_by_the_runtime_and_said_in_words(int8_bundle: Path) -> None:
    found = made(measured(), int8_bundle, Thresholds(max_mean_kl=0.01))
    read = reading.parse(document.dumped(found), Bundle.open(int8_bundle).manifest)
    assert read.missed == ("mean KL divergence 0.02 is 0.01 over max_mean_kl 0.01",)
    assert read.kinds == {"text": pytest.approx(0.02)}
    assert words.warnings(document.dumped(found)) == [f"the bundle misses a threshold of recipe int8: {read.missed[0]}"]
    assert any("perplexity 4.4817 (reference 2.7183)" in line for line in words.lines(document.dumped(found)))


def test_long_lists_are_a_line_each() -> None:
    data = document.dumped({"golden": {"a": [1, 2]}, "kl_positions": None, "other": [1, 2]})
    assert data == b'{\n "golden": {"a":[1,2]},\n "kl_positions": null,\n "other": [\n  1,\n  2\n ]\n}\n'
