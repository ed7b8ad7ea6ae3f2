"""The certificate: its figures against plain arithmetic, its thresholds, and how it fails."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.bundle import Bundle
from export import cache_scales
from export.build import Step, build
from export.certificate import certify, said
from export.certificate.answers import answer_all
from export.certificate.certify import Request
from export.certificate.compare import NOT_GIVEN, Comparison, row_cosines
from export.certificate.evaluation import Evaluation, load
from export.certificate.extent import EXTENTS, Extent
from export.certificate.measure import Measured, measure
from export.certificate.prompts import Question, questions
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.checkpoint.random_shapes import TINY_TEXT
from export.cli import STAGES
from export.errors import CertificateError, TextsError
from export.memory import Peak, PeakMemory
from tests.conftest import BundleOf, CheckpointOf

PEAK = Peak(1, 2)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


@pytest.mark.parametrize("run", [1, 7, 100, 333])
@pytest.mark.parametrize("scale", [0.01, 1.0, 60.0])
def test_comparison_in_runs_is_the_plain_arithmetic(run: int, scale: float) -> None:
    random = np.random.default_rng(1)
    reference = (random.standard_normal((40, 333)) * scale).astype(np.float32)
    bundle = (reference + random.standard_normal((40, 333)) * 0.1).astype(np.float32)
    comparison = Comparison(40)
    for start in range(0, 333, run):
        comparison.add(reference[:, start : start + run], bundle[:, start : start + run])
    found = comparison.result()
    p, q = softmax(reference.astype(np.float64)), softmax(bundle.astype(np.float64))
    kl = (p * np.log(np.maximum(p, 1e-300) / np.maximum(q, 1e-300))).sum(1)
    assert found.positions == 40
    assert found.kl_mean == pytest.approx(kl.mean(), rel=1e-6, abs=1e-12)
    assert found.kl_p99 == pytest.approx(np.percentile(kl, 99), rel=1e-6, abs=1e-12)
    assert found.top1 == (reference.argmax(1) == bundle.argmax(1)).mean()
    assert found.largest_difference == pytest.approx(np.abs(reference.astype(np.float64) - bundle).max())


def test_equal_logits_agree_wholly() -> None:
    logits = np.random.default_rng(2).standard_normal((5, 50)).astype(np.float32)
    comparison = Comparison(5)
    comparison.add(logits, logits)
    found = comparison.result()
    assert (found.kl_max, found.top1, found.largest_difference) == (0, 1, 0)


def test_first_of_equal_logits_is_the_winner() -> None:
    flat, later = np.zeros((1, 4), np.float32), np.array([[0, 0, 0, 1e-3]], np.float32)
    comparison = Comparison(1)
    comparison.add(flat[:, :2], later[:, :2])
    comparison.add(flat[:, 2:], later[:, 2:])
    assert comparison.result().top1 == 0


@pytest.mark.parametrize("run", [1, 7, 333])
def test_perplexity_is_of_the_tokens_that_follow(run: int) -> None:
    random = np.random.default_rng(3)
    reference, bundle = (random.standard_normal((2000, 333)).astype(np.float32) for _ in range(2))
    targets = random.integers(0, 333, 2000)
    targets[::3] = NOT_GIVEN
    comparison = Comparison(2000, targets.tolist())
    for start in range(0, 333, run):
        comparison.add(reference[:, start : start + run], bundle[:, start : start + run])
    found = comparison.scores().perplexity()
    known = np.flatnonzero(targets != NOT_GIVEN)
    expected = [np.exp(-np.log(softmax(each.astype(np.float64))[known, targets[known]]).mean())
                for each in (reference, bundle)]  # fmt: skip
    assert found is not None
    assert (found.reference, found.bundle) == pytest.approx(expected)
    assert found.positions == len(known)
    assert comparison.scores().select(targets == NOT_GIVEN).perplexity() is None


def test_cosine_of_rows() -> None:
    one = np.array([[1, 0], [1, 1], [0, 0], [2, 0]], np.float32)
    other = np.array([[2, 0], [1, 0], [1, 0], [-1, 0]], np.float32)
    np.testing.assert_allclose(row_cosines(one, other), [1, 2**-0.5, 0, -1])


def drawn(n: int, *, images: bool = True) -> list[Question]:
    return list(islice(questions(images=images), n))


def test_prompts_are_the_same_every_time() -> None:
    for first, second in zip(drawn(30), drawn(30), strict=True):
        assert first.text == second.text
        assert np.array_equal(first.image, second.image)


def test_prompts_about_one_scene_differ() -> None:
    scenes: dict[int, list[str]] = {}
    for question in drawn(60):
        if question.image is not None:
            scenes.setdefault(id(question.image), []).append(question.text)
    assert all(len(set(texts)) == len(texts) for texts in scenes.values())
    assert len(scenes) > 10


def test_scenes_differ_and_have_shapes() -> None:
    scenes = {question.image.tobytes(): question.image for question in drawn(60) if question.image is not None}
    assert len(scenes) > 10
    for scene in scenes.values():
        assert scene.dtype == np.uint8
        assert scene.shape[2] == 3
        assert 200 <= min(scene.shape[:2]) <= max(scene.shape[:2]) <= 1000


def test_text_prompts_hardly_repeat() -> None:
    texts = [question.text for question in drawn(300, images=False)]
    assert all(question.image is None for question in drawn(300, images=False))
    assert len(set(texts)) > 200


SHORT = Extent(answers=200, text=100, chat=60, images=40, window=48, stepped_windows=2)


def measured(
    path: Path, checkpoint: Path, folder: Path, *, patch: pytest.MonkeyPatch, evaluation: Evaluation | None = None
) -> Measured:
    patch.setattr(said, "EXTENTS", {**EXTENTS, "quick": SHORT})
    folder.mkdir()
    return measure(
        Bundle.open(path), Weights(Checkpoint.open(checkpoint)), evaluation=evaluation or load(None), level="quick",
        scratch=folder, report=lambda *_: None,
    )[0]  # fmt: skip


def test_fp32_bundle_is_the_reference(
    fp32_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(fp32_bundle, tiny_checkpoint, tmp_path / "a", patch=monkeypatch)
    agreement = found.scores.agreement()
    assert agreement.positions >= 400
    assert agreement.top1 == 1
    assert agreement.kl_max < 1e-9
    assert agreement.largest_difference < 1e-4
    assert found.prefill_decode.agreement().kl_max < 1e-9
    assert found.image_cosine is not None
    assert found.image_cosine.min > 0.999999


def test_int8_cache_is_measured_at_the_given_positions_against_float32_and_the_reference(
    fp32_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(fp32_bundle, tiny_checkpoint, tmp_path / "a", patch=monkeypatch).int8_cache
    assert found is not None
    given = SHORT.text + SHORT.chat + SHORT.images
    assert {len(each.kl) for each in (found.to_float32, found.to_reference, found.float32_to_reference)} == {given}
    assert found.float32_to_reference.kl.max() < 1e-9 < found.to_float32.kl.mean() < 0.01
    # Where float32 keys and values give the reference's own logits, both comparisons say the same.
    assert found.to_reference.kl.mean() == pytest.approx(found.to_float32.kl.mean(), rel=1e-3)
    assert found.to_float32.agreement().top1 > 0.9
    assert found.to_reference.perplexity() is not None and found.to_float32.perplexity() is None


def test_bundle_without_an_int8_cache_is_measured_without(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_scales, "measure", lambda *_: None)
    out = build(tiny_checkpoint, tmp_path / "old", recipe="fp32", certificate="off")
    assert Bundle.open(out).manifest.int8_cache is None
    assert measured(out, tiny_checkpoint, tmp_path / "a", patch=monkeypatch).int8_cache is None


def test_images_of_a_rotated_bundle_are_compared_in_its_basis(
    tiny_checkpoint: Path, bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(bundle_of(tiny_checkpoint, "w8a8"), tiny_checkpoint, tmp_path / "a", patch=monkeypatch)
    assert found.image_cosine is not None
    assert found.image_cosine.min > 0.99


def test_fewer_bits_agree_less(
    tiny_checkpoint: Path, bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        measured(bundle_of(tiny_checkpoint, recipe), tiny_checkpoint, tmp_path / recipe, patch=monkeypatch).scores
        for recipe in ("fp32", "int8", "int4-mixed", "int4")
    ]  # fmt: skip
    means = [scores.kl.mean() for scores in found]
    assert means == sorted(means)
    assert means[1] < 1e-3
    assert found[1].agreement().top1 > found[3].agreement().top1


def test_wrong_weights_are_noticed(
    fp32_bundle: Path, checkpoint_of: CheckpointOf, tiny_checkpoint: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Weights, "tensor", nudged(Weights.tensor))
    found = measured(fp32_bundle, tiny_checkpoint, tmp_path / "a", patch=monkeypatch)
    assert found.scores.kl.mean() > 1e-6


def nudged(tensor: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def read(self: Weights, role: str, *, rows: slice | None = None) -> np.ndarray:
        values = tensor(self, role, rows=rows)
        return values * np.float32(1.05) if role == "text.layers.1.v.weight" else values

    return read


def test_prompts_that_never_fit_are_an_error(checkpoint_of: CheckpointOf, bundle_of: BundleOf, tmp_path: Path) -> None:
    path = bundle_of(checkpoint_of(replace(TINY_TEXT, context=8)), "int8")
    with pytest.raises(CertificateError, match="no prompt fits a context of 8"):
        next(answer_all(Bundle.open(path), questions(images=False), logits=tmp_path / "logits"))


def test_answers_end_where_the_context_does(checkpoint_of: CheckpointOf, bundle_of: BundleOf, tmp_path: Path) -> None:
    path = bundle_of(checkpoint_of(replace(TINY_TEXT, context=32)), "int8")
    transcript = next(answer_all(Bundle.open(path), questions(images=False), logits=tmp_path / "logits"))
    stops = Bundle.open(path).manifest.prompt.stop_ids
    full = [answer for answer in transcript.answers if answer.ids[-1] not in stops]
    assert full
    # The last token answered needs no position: nothing is read after it.
    assert all(len(answer.prompt) + len(answer.ids) == 33 for answer in full)
    assert len({len(answer.prompt) for answer in full}) > 1
    assert transcript.positions == (tmp_path / "logits").stat().st_size // (4 * TINY_TEXT.vocab_size)


def request(tmp_path: Path) -> Request:
    return Request(tmp_path, tmp_path, "quick", "int8", tmp_path, PEAK)


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run other code in place of the measurement; its `out` is the file to write."""

    def command(_request: Request, out: Path) -> list[str]:
        start = f"import os, json, sys\nfrom pathlib import Path\nout = Path({str(out)!r})\n"
        return [sys.executable, "-c", start + code]

    monkeypatch.setattr(certify, "_command", command)


def test_missed_threshold_is_an_error_where_none_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "out.write_text(json.dumps({'missed': ['mean KL is 1 over', 'top-1 is 2 under']}))")
    assert json.loads(certify.run(request(tmp_path), lambda *_: None))["missed"]
    (tmp_path / "certificate.json").unlink()
    with pytest.raises(CertificateError, match="recipe int8: mean KL is 1 over; top-1 is 2 under"):
        certify.run(replace(request(tmp_path), strict=True), lambda *_: None)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("print(json.dumps({'error': 'no such thing'})); sys.exit(1)", "no such thing"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9 .out of memory"),
        ("sys.exit('a traceback')", "ended with 1: a traceback"),
        ("sys.exit(0)", "ended with 0"),
    ],
)
def test_failed_measurement_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, cause: str) -> None:
    stand_in(monkeypatch, code)
    with pytest.raises(CertificateError, match=f"could not be made: .*{cause}"):
        certify.run(request(tmp_path), lambda *_: None)


def test_progress_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"stage": "answers", "done": done, "total": 3} for done in (1, 2, 3)]
    code = f"print('a library talks')\nfor line in {lines}: print(json.dumps(line))"
    stand_in(monkeypatch, code + "\nout.write_text(json.dumps({'missed': []}))")
    seen: list[tuple[str, int, int]] = []
    certify.run(request(tmp_path), lambda *step: seen.append(step))
    assert seen == [("answers", 1, 3), ("answers", 2, 3), ("answers", 3, 3)]


def test_missed_threshold_leaves_a_bundle_unless_it_may_not(
    text_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "out.write_text(json.dumps({'missed': ['top-1 is 2 under']}))")
    with pytest.raises(CertificateError, match="top-1 is 2 under"):
        build(text_checkpoint, tmp_path / "out", strict=True)
    assert list(tmp_path.iterdir()) == []
    out = build(text_checkpoint, tmp_path / "out")
    assert json.loads((out / "certificate.json").read_bytes())["missed"] == ["top-1 is 2 under"]


def test_evaluation_file_is_read_before_anything_is_written(text_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"text": "a"}\n{"text": 3}\n')
    steps: list[Step] = []
    with pytest.raises(TextsError, match="mine.jsonl, line 2: text: expected a string"):
        build(text_checkpoint, tmp_path / "out", evaluate=file, progress=steps.append)
    assert steps == []


def test_peak_memory_sees_an_allocation_that_is_gone() -> None:
    with PeakMemory() as memory:
        before = memory.peak().anonymous
        block = np.ones(64 << 17)  # 64 MiB
        memory.peak()
        del block
        assert memory.peak().anonymous >= before + (60 << 20)


def test_memory_that_was_swapped_out_counts_as_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    status.write_text("VmRSS:\t 900 kB\nRssAnon:\t 300 kB\nRssFile:\t 600 kB\nVmSwap:\t 50 kB\n")
    monkeypatch.setattr("export.memory._STATUS", status)
    assert PeakMemory().peak() == Peak(anonymous=350 << 10, resident=900 << 10)


@pytest.mark.timeout(600)
def test_export_ends_with_a_certificate(text_checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[[rules]]\ntensors = "*"\nscheme = "int8"\n[thresholds]\nmax_mean_kl = 0.01\nmin_top1 = 0.5\n')
    steps: list[Step] = []
    path = build(text_checkpoint, tmp_path / "out", recipe=str(recipe), certificate="quick", progress=steps.append)
    document = json.loads((path / "certificate.json").read_bytes())
    assert document["positions"] >= 2000
    assert 0 < document["kl"]["mean"] <= document["kl"]["p99"] <= document["kl"]["max"]
    assert document["top1_agreement"] > 0.9
    assert document["image_cosine"] is None
    assert document["thresholds"]["max_mean_kl"] == 0.01
    assert document["missed"] == []
    assert min(document["peak_bytes"]["reference"].values()) > 0
    made = {"golden", "text", "conversations", "answers", "reference", "int8 cache", "comparison"}
    assert {step.stage for step in steps} == {"weights", "cache scales", "source", *made}
    assert made <= STAGES.keys()
    assert set(document["sets"]) == {"text", "chat"}
    assert sum(figures["positions"] for figures in document["sets"].values()) == document["positions"]
    assert document["sets"]["text"]["perplexity"]["positions"] == document["sets"]["text"]["positions"]
    assert 0 < document["prefill_decode"]["kl"]["mean"] < document["kl"]["mean"]
    assert sum(len(each["kl"]) for each in document["kl_positions"]) in range(1000, 4097)
    assert document["evaluation"]["sha256"] == load(None).sha256
    assert Bundle.open(path).manifest.recipe.name == "mine"
    assert "certificate.json" not in Bundle.open(path).manifest.files
