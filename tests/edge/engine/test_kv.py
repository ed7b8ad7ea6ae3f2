"""A cache of 8 bits: when it is chosen, what it takes, and that answers depend on the request alone with it, too."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edge.engine.engine
import edge.engine.layout
from edge.bundle.bundle import Bundle
from edge.bundle.manifest import Int8Cache, Manifest
from edge.chat.prompt import Turn, pieces
from edge.client import Reka
from edge.commands.certified import replayed
from edge.engine.available import Memory
from edge.engine.drafting import ROWS
from edge.engine.engine import Engine
from edge.engine.kv import Kv, bytes_per_token, choose
from edge.engine.model import Model, exhaust
from edge.engine.pieces import Control
from edge.errors import ParameterError
from tests.edge.asking import LONG, answer, ask, image, options

# When it is chosen


@pytest.fixture(scope="module")
def manifest(int8_bundle: Path) -> Manifest:
    return Bundle.open(int8_bundle).manifest


def needed(manifest: Manifest, n_positions: int) -> int:
    """The free memory of whose quarter so many positions in float32 are all."""
    return 4 * n_positions * bytes_per_token(manifest.text)


def test_float32_is_chosen_where_a_quarter_of_the_memory_holds_the_context(manifest: Manifest) -> None:
    context = manifest.text.context
    for slots in (1, 3):
        found = choose(manifest, kv=None, context=None, slots=slots, available_bytes=slots * needed(manifest, context))
        assert (found.kv, found.context, found.reason) == ("fp32", context, None)


def test_8_bits_are_chosen_where_float32_would_cut_the_context_and_the_reason_has_both_numbers(
    manifest: Manifest,
) -> None:
    large = replace(manifest, text=replace(manifest.text, context=100_000))
    free = needed(large, 40_000)
    found = choose(large, kv=None, context=None, slots=1, available_bytes=free)
    assert (found.kv, found.context) == ("int8", 100_000)
    assert found.reason is not None
    assert f"100000 positions would take {needed(large, 100_000) / 4e9:.1f} GB" in found.reason
    assert f"{free / 4e9:.1f} GB" in found.reason
    assert choose(large, kv=None, context=30_000, slots=1, available_bytes=free).kv == "fp32"
    assert choose(large, kv=None, context=50_000, slots=1, available_bytes=free).kv == "int8"
    assert choose(large, kv=None, context=30_000, slots=2, available_bytes=free).kv == "int8"


def test_8_bits_are_chosen_where_float32_has_no_room_beside_the_weights(manifest: Manifest) -> None:
    large = replace(manifest, text=replace(manifest.text, context=100_000))
    whole = 100_000 * bytes_per_token(large.text)
    left: dict[Kv, int] = {"fp32": whole - 1, "int8": whole - 1}
    found = choose(large, kv=None, context=None, slots=1, available_bytes=4 * whole, left_bytes=left)
    assert (found.kv, found.context) == ("int8", 100_000)
    assert found.reason is not None
    assert f"{(whole - 1) / 1e9:.1f} GB of the free memory are left beside the rest of the model" in found.reason
    left["fp32"] += 1
    assert choose(large, kv=None, context=None, slots=1, available_bytes=4 * whole, left_bytes=left).kv == "fp32"
    assert choose(large, kv=None, context=None, slots=2, available_bytes=8 * whole, left_bytes=left).kv == "int8"


@pytest.mark.parametrize(("fp32", "int8", "kv"), [(9_000, 1_000, "fp32"), (9_000, 3_000, "int8"), (0, 0, "int8")])
def test_float32_is_chosen_where_it_alone_fits_though_cut(manifest: Manifest, fp32: int, int8: int, kv: Kv) -> None:
    """Weights that are packed for float32 alone leave it more."""
    large = replace(manifest, text=replace(manifest.text, context=100_000))
    left: dict[Kv, int] = {
        "fp32": fp32 * bytes_per_token(large.text),
        "int8": int8 * bytes_per_token(large.text, "int8"),
    }
    free = needed(large, 50_000)
    assert choose(large, kv=None, context=None, slots=1, available_bytes=free, left_bytes=left).kv == kv


def test_what_is_asked_for_is_taken_without_a_reason(manifest: Manifest) -> None:
    large = replace(manifest, text=replace(manifest.text, context=100_000))
    free = needed(large, 10_000)
    kept = choose(large, kv="fp32", context=None, slots=1, available_bytes=free)
    small = choose(large, kv="int8", context=None, slots=1, available_bytes=free)
    assert (kept.kv, kept.context, kept.reason) == ("fp32", 10_000, None)
    assert (small.kv, small.context, small.reason) == ("int8", 40_000, None)


def test_bundle_without_it_keeps_float32_and_says_so_by_name(manifest: Manifest) -> None:
    old = replace(manifest, int8_cache=None, text=replace(manifest.text, context=100_000))
    assert choose(old, kv=None, context=None, slots=1, available_bytes=needed(old, 10_000)).kv == "fp32"
    with pytest.raises(ParameterError, match=f"{old.id} has no int8 cache.*export it again, or use fp32") as caught:
        choose(old, kv="int8", context=None, slots=1, available_bytes=1 << 40)
    assert caught.value.field == "kv"


@pytest.mark.parametrize("kv", ["int4", "", "INT8"])
def test_another_name_is_an_error_before_anything_is_opened(kv: str) -> None:
    with pytest.raises(ParameterError, match="kv: expected fp32 or int8, got"):
        Reka(kv=kv)


def test_warning_says_why_8_bits_were_chosen(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(edge.engine.engine, "memory", lambda: Memory(1 << 40, 4096))
    with caplog.at_level(logging.WARNING, "edge"), Engine.open(int8_bundle, check_memory=False) as engine:
        assert engine.kv == engine.stats().kv == "int8"
        assert "kv='int8'" in repr(engine)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "keys and values are kept in 8 bits" in caplog.text


def test_manifest_key_is_optional_and_checked(manifest: Manifest) -> None:
    from edge.bundle.manifest import dump_manifest
    from edge.errors import BundleError

    with pytest.raises(BundleError, match=r"files.decoder-kv8.onnx: expected no such file"):
        dump_manifest(replace(manifest, int8_cache=None))
    files = {name: entry for name, entry in manifest.files.items() if name != "decoder-kv8.onnx"}
    assert b"int8_cache" not in dump_manifest(replace(manifest, int8_cache=None, files=files))
    with pytest.raises(BundleError, match="int8_cache: expected positions and a margin above 0"):
        dump_manifest(replace(manifest, int8_cache=Int8Cache(0, 1.1)))


# What it takes and gives


def test_a_quarter_of_the_memory(int8_bundle: Path) -> None:
    found = {}
    for kv in ("fp32", "int8"):
        with Engine.open(int8_bundle, kv=kv, context=256) as engine:
            found[kv] = engine.stats().cache_bytes
    assert found["fp32"] == 4 * found["int8"] > 0


def test_scores_are_near_those_of_float32(int8_bundle: Path) -> None:
    rows = {}
    for kv in ("fp32", "int8"):
        with Engine.open(int8_bundle, kv=kv) as engine:
            rows[kv] = engine.score(ask(engine, image(3), LONG), [3, 4, 5])
    relative = np.linalg.norm(rows["int8"] - rows["fp32"]) / np.linalg.norm(rows["fp32"])
    assert 0 < relative < 0.05


@pytest.mark.parametrize("size", [10, 11, 64, 255])
def test_chunk_borders_do_not_matter(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    with Engine.open(int8_bundle, kv="int8") as engine:
        prompt = ask(engine, "One", image(3), LONG)
        whole = engine.score(prompt, [3, 4, 5])
    with Engine.open(int8_bundle, kv="int8") as engine:
        monkeypatch.setattr(edge.engine.layout, "MAX_CHUNK", size)
        assert (engine.score(prompt, [3, 4, 5]) == whole).all()


def test_reused_prefix_equals_a_fresh_start(int8_bundle: Path) -> None:
    conversation = [Turn("user", (image(1), LONG)), Turn("assistant", ("Yes.",)), Turn("user", ("And now?",))]
    with Engine.open(int8_bundle, kv="int8") as engine:
        longer = pieces(conversation, engine.manifest)
        fresh = engine.score(longer, [1, 2, 3])
    for n in (1, 2, 3):
        with Engine.open(int8_bundle, kv="int8") as engine:
            answer(engine, pieces(conversation[:n], engine.manifest), options(9, temperature=1.0))
            assert (engine.score(longer, [1, 2, 3]) == fresh).all()


def test_batch_mates_do_not_matter(int8_bundle: Path) -> None:
    with Engine.open(int8_bundle, slots=4, kv="int8") as engine:
        prompts = [ask(engine, "x" * n, LONG[: 40 * n]) for n in range(1, 9)]
        how = [options(10 + 3 * n, temperature=1.0, seed=n) for n in range(8)]
        quiet = []
        for prompt, each in zip(prompts, how, strict=True):
            with Engine.open(int8_bundle, kv="int8") as own:
                quiet.append(answer(own, prompt, each))
        for order in ([*range(8)], [*range(7, -1, -1)]):
            handles = {n: engine.stream(prompts[n], how[n]) for n in order}
            assert [handles[n].result() for n in range(8)] == quiet


def test_rows_of_one_conversation_are_what_steps_give(int8_bundle: Path) -> None:
    tokens = [3 * n + 1 for n in range(max(ROWS))]

    def check(model: Model) -> None:
        slot = model.cache.take([*range(37)], n_read=2)
        exhaust(model.read(edge.engine.layout.Positions([_span(37)]), slot, n_logits=1, owner=None))
        wanted = [model.step([slot], [token])[0].copy() for token in tokens]
        model.cache.trim(slot, 37)
        for _, part in model.cache.rows([slot]).parts:
            part[:, :, 37:] = 99  # what steps wrote before must not be read
        for n in ROWS:
            rows = model.verify(slot, tokens[:n])
            assert all(np.array_equal(a, b) for a, b in zip(rows, wanted, strict=False)), n
            assert len(rows) == n or not model.can_verify
        model.cache.release(slot)

    with Engine.open(int8_bundle, slots=3, context=128, kv="int8") as engine:
        engine._worker.call(check)


def _span(n: int) -> edge.engine.layout.Span:
    return edge.engine.layout.Span(0, n, tuple(range(n)))


def test_client_answers_with_it_and_a_second_one_must_agree(int8_bundle: Path) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    with Reka(model=int8_bundle, kv="int8") as client:
        client.chat.create(model=Bundle.open(int8_bundle).manifest.id, messages=messages, max_tokens=3)
        assert "kv='int8'" in repr(client)
        with pytest.raises(ParameterError, match="kv: .* is open with int8; expected the same, got fp32"):
            Reka(model=int8_bundle, kv="fp32")


def test_golden_tokens_are_computed_with_the_float32_cache_that_they_were_certified_with(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay with an engine of 8 bits opens one of its own."""
    from edge.bundle import certificate as certificates
    from edge.bundle.store import Stored
    from export.certificate import golden

    bundle = Bundle.open(int8_bundle)
    made = golden.record(bundle, lambda *_: None)
    noise = certificates.Spread(0.0, 0.0, 0.0, 1)
    tokens = certificates.Golden(certificates.GOLDEN_FORMAT, made.prompts, certificates.Noise(noise, noise))
    found = certificates.parse(b'{"format": 1}', bundle.manifest)
    monkeypatch.setattr(certificates, "read", lambda *_: replace(found, golden=tokens))
    with Engine.open(int8_bundle, kv="int8") as engine:
        said = replayed(Stored(int8_bundle, bundle.manifest, False), engine)
    assert "the same tokens and the same logits as certified" in said.words, said.words


@pytest.mark.parametrize("kv", ["fp32", "int8"])
def test_golden_tokens_that_have_no_room_are_no_failure(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, kv: str
) -> None:
    from edge.bundle import certificate as certificates
    from edge.bundle.store import Stored
    from edge.commands import certified

    manifest = Bundle.open(int8_bundle).manifest
    noise = certificates.Spread(0.0, 0.0, 0.0, 1)
    tokens = certificates.Golden(certificates.GOLDEN_FORMAT, (), certificates.Noise(noise, noise))
    found = certificates.parse(b'{"format": 1}', manifest)
    monkeypatch.setattr(certificates, "read", lambda *_: replace(found, golden=tokens))
    monkeypatch.setattr("edge.engine.golden.context", lambda _: manifest.text.context)
    with Engine.open(int8_bundle, kv=kv, context=256) as engine:
        monkeypatch.setattr(edge.engine.engine, "memory", lambda: Memory(64 << 20, 4096))
        said = certified.replayed(Stored(int8_bundle, manifest, False), engine)
    assert said.is_good
    assert "the golden tokens are not computed: they take float32 keys and values" in said.words
    assert "does not fit in memory" in said.words


def test_ids_alone_are_generated_too(int8_bundle: Path) -> None:
    with Engine.open(int8_bundle, kv="int8") as engine:
        first = list(engine.generate([Control((1, 2, 3))], max_tokens=5, stop_ids=()))
        assert list(engine.generate([1, 2, 3], max_tokens=5, stop_ids=())) == first and len(first) == 5
