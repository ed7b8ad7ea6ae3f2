"""Golden tokens: replayed where they were made they are identical, and what is broken is seen."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge.bundle.bundle import Bundle
from edge.bundle.certificate import Golden, GoldenImage, GoldenPiece, GoldenPrompt, GoldenStep, Noise, Spread
from edge.bundle.manifest import MANIFEST
from edge.engine import golden
from edge.engine.engine import Engine
from edge.errors import BundleError, MediaError
from export.certificate.golden import record

NOISE = Noise(Spread(1e-15, 1e-15, 1e-14, 90), Spread(3e-6, 1.3e-5, 2e-4, 1000))  # as measured, and rounded


@pytest.fixture(scope="module")
def made(int8_bundle: Path) -> Golden:
    return Golden(1, record(Bundle.open(int8_bundle), lambda *_: None).prompts, NOISE)


@pytest.fixture(scope="module")
def engine(int8_bundle: Path) -> Iterator[Engine]:
    with Engine.open(int8_bundle) as opened:
        yield opened


def test_replay_on_the_same_machine_is_identical(made: Golden, engine: Engine) -> None:
    found = golden.replay(engine, made)
    assert found.is_identical and found.is_certified
    assert found.n_same_tokens == found.n_steps == made.n_steps > 60
    assert found.words == f"{made.n_steps} golden tokens of 4 prompts: the same tokens and the same logits as certified"


def test_context_of_a_replay_is_enough_and_no_more(made: Golden, int8_bundle: Path) -> None:
    with Engine.open(int8_bundle, context=golden.context(made)) as small:
        assert golden.replay(small, made).is_identical
    assert golden.context(made) < 600


def test_image_is_among_the_prompts(made: Golden) -> None:
    assert [piece.image for prompt in made.prompts for piece in prompt.pieces if piece.image] == [
        GoldenImage(384, 384, 4)
    ]


def test_text_only_bundle_has_no_image(text_bundle: Path) -> None:
    prompts = record(Bundle.open(text_bundle), lambda *_: None).prompts
    assert len(prompts) == 3
    assert not any(piece.image for prompt in prompts for piece in prompt.pieces)


def spoilt(bundle: Path, folder: Path, tensor: str, factor: float, only: int | None = None) -> Path:
    """A copy of a bundle with a tensor of its decoder, or one value of it, times a factor; its manifest set right."""
    shutil.copytree(bundle, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    graph = onnx.load(folder / "decoder.onnx", load_external_data=False)
    (scales,) = [each for each in graph.graph.initializer if each.name == tensor]
    kind, n = onnx.helper.tensor_dtype_to_np_dtype(scales.data_type), int(np.prod(scales.dims))
    times = np.full(n, factor, kind)
    if only is not None:
        times[np.arange(n) != only] = 1
    if scales.data_location == onnx.TensorProto.EXTERNAL:
        offset = next(int(entry.value) for entry in scales.external_data if entry.key == "offset")
        values = np.memmap(folder / "decoder.bin", kind, "r+", offset=offset, shape=(n,))
        values *= times
        values.flush()
    else:
        scales.raw_data = (np.frombuffer(scales.raw_data, kind) * times).tobytes()
        (folder / "decoder.onnx").write_bytes(graph.SerializeToString())
    document = json.loads((folder / MANIFEST).read_bytes())
    for name in ("decoder.onnx", "decoder.bin"):
        data = (folder / name).read_bytes()
        document["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(document))
    return folder


def test_layer_with_wrong_scales_is_seen(made: Golden, int8_bundle: Path, tmp_path: Path) -> None:
    path = spoilt(int8_bundle, tmp_path / "spoilt", "text.layers.1.norm1.weight", 1.5)
    with Engine.open(path) as broken:
        found = golden.replay(broken, made)
    assert not found.is_certified and not found.is_identical
    assert found.kl_mean > 10 * found.rounding
    assert found.first_other is not None
    assert f"the first other one is token {found.first_other[1]} of prompt {found.first_other[0]}" in found.words
    assert found.words.endswith("the same kernels compute here, and should give the same logits: something is wrong")


def test_one_wrong_scale_is_seen(made: Golden, int8_bundle: Path, tmp_path: Path) -> None:
    path = spoilt(int8_bundle, tmp_path / "spoilt", "decoder.layers.2.gate_up.scales", 1.5, only=160)
    with Engine.open(path) as broken:
        found = golden.replay(broken, made)
    assert not found.is_certified
    assert golden.DUST == found.rounding < found.kl_mean < 1e-3


def test_recorder_knows_what_rounding_does_to_its_tokens(int4_bundle: Path, int8_bundle: Path) -> None:
    for path in (int4_bundle, int8_bundle):
        recorded = record(Bundle.open(path), lambda *_: None)
        with Engine.open(path) as engine:
            assert golden.replay(engine, Golden(1, recorded.prompts, NOISE)).is_identical
            kls = []
            for prompt in recorded.prompts:
                read = engine.score(golden.pieces_of(prompt, engine), [step.token for step in prompt.steps])
                kls += [golden.divergence(step, row) for step, row in zip(prompt.steps, read, strict=True)][1:]
        assert recorded.kls == tuple(kls)
        assert 0 < max(kls) < 1e-3


def test_replay_follows_the_certified_tokens(made: Golden, engine: Engine) -> None:
    odd = [replace(step, token=(step.token + 1) % 500) for step in made.prompts[0].steps]
    found = golden.replay(engine, replace(made, prompts=(replace(made.prompts[0], steps=tuple(odd)),)))
    assert found.first_other == (1, 1)
    assert not found.is_certified  # every step but the first has another past than it was certified with


def test_tokenizer_that_changed_is_named(made: Golden, engine: Engine) -> None:
    text = next(piece for piece in made.prompts[1].pieces if piece.text)
    other = tuple(replace(piece, ids=piece.ids[::-1]) if piece is text else piece for piece in made.prompts[1].pieces)
    found = golden.replay(engine, replace(made, prompts=(made.prompts[0], replace(made.prompts[1], pieces=other))))
    assert not found.is_certified
    assert "the tokenizer makes other ids of the text of golden prompt 2" in found.words


def test_prompt_of_another_bundle_is_refused(made: Golden, engine: Engine, text_bundle: Path) -> None:
    about_image = replace(made, prompts=made.prompts[3:])
    with Engine.open(text_bundle) as text, pytest.raises(BundleError, match="accepts text only"):
        golden.replay(text, about_image)
    pieces = tuple(
        replace(piece, image=replace(piece.image, n_tokens=5)) if piece.image else piece
        for piece in made.prompts[3].pieces
    )
    with pytest.raises(MediaError, match="expected 5 positions, its tiles give 4"):
        golden.replay(engine, replace(made, prompts=(replace(made.prompts[3], pieces=pieces),)))


def one_step(logits: np.ndarray, *, noise: Noise = NOISE) -> Golden:
    pieces = (GoldenPiece((1,), None, None),)
    return Golden(1, (GoldenPrompt(pieces, (golden.step_of(logits, int(logits.argmax())),)),), noise)


def test_divergence_is_the_plain_arithmetic_where_nothing_is_left_out() -> None:
    random = np.random.default_rng(1)
    before, now = (random.standard_normal(golden.TOP).astype(np.float32) for _ in range(2))
    p, q = (np.exp(each.astype(np.float64)) / np.exp(each.astype(np.float64)).sum() for each in (before, now))
    found = golden.compare(one_step(before), [[now]])
    assert found.kl_mean == pytest.approx((p * np.log(p / q)).sum(), rel=1e-6)
    assert found.largest_difference == pytest.approx(np.abs(before - now).max())


def test_divergence_of_the_largest_logits_is_no_more_than_the_whole() -> None:
    random = np.random.default_rng(2)
    for scale in (0.5, 3.0):
        before = (random.standard_normal(5000) * scale).astype(np.float32)
        now = before + (random.standard_normal(5000) * 0.3).astype(np.float32)
        p, q = (np.exp(each.astype(np.float64)) / np.exp(each.astype(np.float64)).sum() for each in (before, now))
        found = golden.compare(one_step(before), [[now]]).kl_mean
        assert 0 < found <= (p * np.log(p / q)).sum()


def test_kept_logits_are_the_same_float32_again() -> None:
    logits = (np.random.default_rng(3).standard_normal(3000) * 7).astype(np.float32)
    step: GoldenStep = golden.step_of(logits, 5)
    assert len(step.ids) == golden.TOP
    assert np.array_equal(np.array(step.logits, np.float32), logits[list(step.ids)])
    again = json.loads(json.dumps(step.logits))
    assert np.array_equal(np.array(again, np.float32), logits[list(step.ids)])


@pytest.mark.parametrize(("off", "is_good"), [(0.025, True), (0.3, False)])
def test_other_kernels_may_be_off_by_a_tenth_of_what_quantization_cost(off: float, is_good: bool) -> None:
    logits = np.random.default_rng(4).standard_normal(golden.TOP).astype(np.float32)
    now = logits + np.float32(off) * (np.arange(golden.TOP) % 2).astype(np.float32)
    assert not golden.compare(one_step(logits), [[now]]).is_certified
    found = golden.compare(one_step(logits), [[now]], tolerated=1e-3)
    assert found.is_certified == is_good
    assert found.rounding == pytest.approx(3e-6 + 3 * 1.3e-5)
    assert f"and {'less' if is_good else 'more'} than a tenth of what quantization cost" in found.words


def test_other_kernels_may_do_what_rounding_does() -> None:
    logits = np.random.default_rng(5).standard_normal(golden.TOP).astype(np.float32)
    now = logits + np.float32(0.002) * (np.arange(golden.TOP) % 2).astype(np.float32)
    found = golden.compare(one_step(logits), [[now]], tolerated=0.0)
    assert golden.DUST < found.kl_mean < found.rounding
    assert found.is_certified and "rounding does as much in this bundle" in found.words
    assert not golden.compare(one_step(logits), [[now]]).is_certified


def test_last_digits_are_no_fault() -> None:
    logits = np.random.default_rng(6).standard_normal(golden.TOP).astype(np.float32)
    found = golden.compare(one_step(logits), [[np.nextafter(logits, np.float32(9))]])
    assert found.is_certified and not found.is_identical
    assert found.words.endswith("only the last digits differ")


@pytest.mark.parametrize(
    ("kl_mean", "kl_std", "n_steps", "expected"),
    [(0.0, 0.0, 4, golden.DUST), (1e-3, 2e-3, 4, 4e-3), (1e-3, 2e-3, 1, 7e-3), (1e-12, 1e-12, 4, golden.DUST)],
)
def test_what_rounding_explains_follows_from_what_was_measured(
    kl_mean: float, kl_std: float, n_steps: int, expected: float
) -> None:
    assert golden.rounding(Spread(kl_mean, kl_std, 1.0, 100), n_steps=n_steps) == pytest.approx(expected)


def test_image_is_the_same_everywhere() -> None:
    image = golden.test_image(384, 300)
    assert image.shape == (300, 384, 3) and image.dtype == np.uint8
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    assert digest == "be4ec600d69bf2f6296f508f78ddde2fd2ebd4ab26e312c97298d6386f2ca78d"
