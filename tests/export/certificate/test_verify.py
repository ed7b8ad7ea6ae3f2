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
from export.build import Step, build
from export.certificate import certify, measure, verify
from export.certificate.answers import answer_all
from export.certificate.certify import Request
from export.certificate.compare import Comparison, row_cosines
from export.certificate.measure import Cosines, Cost, Measured
from export.certificate.prompts import Question, questions
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.checkpoint.random_shapes import TINY_TEXT
from export.errors import CertificateError
from export.memory import Peak, PeakMemory
from export.recipe import Thresholds
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


def measured(path: Path, checkpoint: Path, folder: Path, *, n_positions: int, patch: pytest.MonkeyPatch) -> Measured:
    patch.setitem(measure.POSITIONS, "quick", n_positions)
    folder.mkdir()
    weights = Weights(Checkpoint.open(checkpoint))
    return measure.measure(Bundle.open(path), weights, level="quick", scratch=folder, report=lambda *_: None)[0]


def test_fp32_bundle_is_the_reference(
    fp32_bundle: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(fp32_bundle, tiny_checkpoint, tmp_path / "a", n_positions=200, patch=monkeypatch)
    assert found.agreement.positions >= 200
    assert found.agreement.top1 == 1
    assert found.agreement.kl_max < 1e-9
    assert found.agreement.largest_difference < 1e-4
    assert found.image_cosine is not None
    assert found.image_cosine.min > 0.999999


def test_fewer_bits_agree_less(
    tiny_checkpoint: Path, bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        measured(bundle_of(tiny_checkpoint, recipe), tiny_checkpoint, tmp_path / recipe, n_positions=200,
                 patch=monkeypatch).agreement
        for recipe in ("fp32", "int8", "int4-mixed", "int4")
    ]  # fmt: skip
    means = [agreement.kl_mean for agreement in found]
    assert means == sorted(means)
    assert means[1] < 1e-3
    assert found[1].top1 > found[3].top1


def test_wrong_weights_are_noticed(
    fp32_bundle: Path, checkpoint_of: CheckpointOf, tiny_checkpoint: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Weights, "tensor", nudged(Weights.tensor))
    found = measured(fp32_bundle, tiny_checkpoint, tmp_path / "a", n_positions=100, patch=monkeypatch)
    assert found.agreement.kl_mean > 1e-6


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


AGREEMENT = Measured(
    agreement=measure.Agreement(2000, 0.02, 0.2, 0.5, 0.95, 3.0), image_cosine=Cosines(0.99, 0.9, 64), n_prompts=40,
    n_images=9,
)  # fmt: skip


def test_missed_thresholds_say_by_how_much() -> None:
    thresholds = Thresholds(max_mean_kl=0.01, min_top1=0.99, min_image_cosine=0.995)
    assert verify.missed(AGREEMENT, thresholds) == [
        "mean KL divergence 0.02 is 0.01 over max_mean_kl 0.01",
        "top-1 agreement 0.95 is 0.04 under min_top1 0.99",
        "mean cosine of picture embeddings 0.99 is 0.005 under min_image_cosine 0.995",
    ]


REACHED = Thresholds(max_mean_kl=0.02, min_top1=0.95, min_image_cosine=0.99)


@pytest.mark.parametrize("thresholds", [Thresholds(), REACHED])
def test_reached_thresholds_are_silent(thresholds: Thresholds) -> None:
    assert verify.missed(AGREEMENT, thresholds) == []


def test_text_only_bundle_has_no_image_threshold() -> None:
    assert verify.missed(replace(AGREEMENT, image_cosine=None), Thresholds(min_image_cosine=1.0)) == []


def test_certificate_names_the_worst_tensors(int8_bundle: Path) -> None:
    manifest = Bundle.open(int8_bundle).manifest
    cost = Cost(Peak(1, 2), Peak(3, 4), 5.06)
    document = json.loads(verify.certificate(manifest, None, "quick", AGREEMENT, cost, PEAK))
    errors = sorted((record.error for record in manifest.recipe.tensors.values()), reverse=True)
    assert [tensor["error"] for tensor in document["worst_tensors"]] == errors[:5]
    assert document["peak_bytes"]["export"] == {"anonymous": 1, "resident": 2}
    assert document["wall_s"] == 5.1
    assert {"onnxruntime", "torch", "numpy", "python", "edge"} <= set(document["versions"])


def request(tmp_path: Path) -> Request:
    return Request(tmp_path, tmp_path, "quick", "int8", tmp_path, PEAK)


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run other code in place of the measurement; its `out` is the file to write."""

    def command(_request: Request, out: Path) -> list[str]:
        start = f"import os, json, sys\nfrom pathlib import Path\nout = Path({str(out)!r})\n"
        return [sys.executable, "-c", start + code]

    monkeypatch.setattr(certify, "_command", command)


def test_missed_threshold_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "out.write_text(json.dumps({'missed': ['mean KL is 1 over', 'top-1 is 2 under']}))")
    with pytest.raises(CertificateError, match="recipe int8: mean KL is 1 over; top-1 is 2 under"):
        certify.run(request(tmp_path), lambda *_: None)


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


def test_missed_threshold_leaves_no_bundle(
    text_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "out.write_text(json.dumps({'missed': ['top-1 is 2 under']}))")
    with pytest.raises(CertificateError, match="top-1 is 2 under"):
        build(text_checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


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
    assert {step.stage for step in steps} == {"weights", "source", "answers", "reference", "comparison"}
    assert Bundle.open(path).manifest.recipe.name == "mine"
    assert "certificate.json" not in Bundle.open(path).manifest.files
