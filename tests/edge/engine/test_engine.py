"""The engine on a small random bundle: what it answers depends on the request alone."""

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edge.engine.layout
from edge.bundle.bundle import Bundle
from edge.bundle.manifest import FileEntry, dump_manifest, parse_manifest
from edge.chat import next_logits
from edge.chat.prompt import Turn, pieces
from edge.engine.answer import Answer, Ends
from edge.engine.cache import ALIGNED
from edge.engine.detokenizer import TextDecoder
from edge.engine.engine import Engine, Handle
from edge.engine.pieces import Control, Text
from edge.engine.tokenizer import Tokenizer
from edge.errors import BundleError, ContextLengthError, MediaError
from export.checkpoint.random_shapes import TINY_TEXT
from tests.conftest import BundleOf, CheckpointOf
from tests.edge.asking import F32, LONG, answer, ask, fresh_answer, image, options

# What an answer is


def test_cached_decode_equals_full_recompute(fp32_bundle: Path) -> None:
    with Engine.open(fp32_bundle) as engine:
        tokenizer, prompt, ids = Tokenizer.open(Bundle.open(fp32_bundle)), ask(engine, "What is this?"), []
        for _ in range(40):
            ids.append(int(engine.score(prompt, [*ids, 0])[-1].argmax()))
            if ids[-1] in engine.manifest.prompt.stop_ids:
                break
        got = answer(engine, prompt, options(40))
        text = TextDecoder(tokenizer, stop=(), turn_ends=(), fresh=True)
        for token in ids:
            if token not in tokenizer.control.values():  # such a token has no text
                text.push(token)
        assert got.output_tokens == len(ids)
        assert got.text == text.finish(end_of_turn=got.finish_reason == "stop")


def test_score_of_one_token_is_next_logits(engine: Engine) -> None:
    logits = next_logits(engine, [{"role": "user", "content": LONG}])
    assert logits.shape == (engine.manifest.text.vocab_size,) and logits.dtype == np.float32
    assert (engine.score(ask(engine, LONG), [5])[0] == logits).all()


def test_score_follows_the_answer(engine: Engine) -> None:
    rows = engine.score(ask(engine, LONG), [5, 6, 7, 8])
    assert rows.shape == (4, engine.manifest.text.vocab_size)
    longer = engine.score([*ask(engine, LONG), Control((5, 6))], [7])
    assert (rows[2] == longer[0]).all()


def test_usage_counts_every_position_and_every_sampled_token(engine: Engine) -> None:
    shown = image(0)
    prompt = ask(engine, "Hello", shown, "there")
    vision = engine.manifest.vision
    assert vision is not None
    tokenizer = engine._tokenizer
    texts = sum(len(tokenizer.encode(piece.text)) for piece in prompt if isinstance(piece, Text))
    control = sum(len(piece.ids) for piece in prompt if isinstance(piece, Control))
    got = answer(engine, prompt, options(7))
    assert got.input_tokens == texts + control + 5 * vision.tokens_per_tile
    assert (got.output_tokens, got.finish_reason) == (7, "length")


def test_one_token_is_the_least(engine: Engine) -> None:
    got = answer(engine, ask(engine, "Hi"), options(1))
    assert (got.output_tokens, got.finish_reason) == (1, "length")


def test_end_token_ends_the_answer_and_is_counted(own_engine: Engine) -> None:
    prompt = ask(own_engine, "Hi")
    tokens: list[int] = []
    for _ in range(4):
        tokens.append(int(own_engine.score(prompt, [*tokens, 0])[-1].argmax()))
    place = next(n for n in range(1, 4) if tokens[n] not in tokens[:n])
    own_engine._ends = Ends(frozenset({tokens[place]}), ())
    got = answer(own_engine, prompt, options(24))
    assert (got.output_tokens, got.finish_reason) == (place + 1, "stop")
    expected = answer(own_engine, prompt, options(place))
    assert got.text == expected.text.rstrip()


def test_stop_string_ends_the_answer_and_is_no_part_of_it(engine: Engine) -> None:
    prompt = ask(engine, "Tell me")
    whole = answer(engine, prompt, options(24))
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + 5]
    got = answer(engine, prompt, options(24, stop=(stop,)))
    assert got.finish_reason == "stop" and got.text == whole.text[: whole.text.find(stop)]
    assert got.output_tokens < 24


def test_context_ends_the_answer_when_it_is_full(int8_bundle: Path) -> None:
    with Engine.open(int8_bundle, context=64) as engine:
        got = answer(engine, ask(engine, "Hi"), options(1000))
        # The last token chosen needs no place: one more is sampled than fed.
        assert (got.finish_reason, got.input_tokens + got.output_tokens) == ("context", 65)


@pytest.mark.parametrize("over", [-1, 0, 1, 2])
def test_prompt_fits_to_the_last_position(int8_bundle: Path, over: int) -> None:
    with Engine.open(int8_bundle, context=64) as engine:
        prompt = [Control((7,) * (64 + over))]
        if over > 0:
            with pytest.raises(ContextLengthError) as caught:
                engine.stream(prompt, options())
            assert (caught.value.needed, caught.value.limit) == (64 + over, 64)
        else:
            got = answer(engine, prompt, options(10))
            assert (got.input_tokens, got.output_tokens) == (64 + over, 1 - over)
            assert got.finish_reason == "context"


def test_images_count_against_the_context(int8_bundle: Path) -> None:
    with Engine.open(int8_bundle, context=32) as engine, pytest.raises(ContextLengthError, match="32"):
        engine.stream(ask(engine, image(0), image(1), "Compare"), options())


def test_text_far_too_long_is_refused_at_once(engine: Engine) -> None:
    with pytest.raises(ContextLengthError, match="at least"):  # it is not even encoded
        engine.stream(ask(engine, "x" * 20_000_000), options())


def test_completion_keeps_its_leading_space(engine: Engine) -> None:
    prompt = pieces([Turn("user", ("Count",)), Turn("assistant", ("One, two,",))], engine.manifest)
    fresh, going_on = answer(engine, prompt, options()), answer(engine, prompt, options(fresh=False))
    assert going_on.text.lstrip() == fresh.text


# An answer depends on its request and seed alone


@pytest.mark.parametrize("size", [10, 11, 64, 255])
def test_chunk_borders_do_not_matter(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    with Engine.open(int8_bundle) as engine:
        prompt = ask(engine, "One", image(3), LONG)
        whole = engine.score(prompt, [3, 4, 5])
    with Engine.open(int8_bundle) as engine:
        monkeypatch.setattr(edge.engine.layout, "MAX_CHUNK", size)
        assert (engine.score(prompt, [3, 4, 5]) == whole).all()


@pytest.mark.parametrize("n_prompt", [120, 121, 257, 301])
def test_reused_prefix_equals_a_fresh_start_in_4_bits(
    checkpoint_of: CheckpointOf, bundle_of: BundleOf, n_prompt: int
) -> None:
    # Matrices wide enough for blocks of 128, whose kernel takes rows in pairs.
    bundle = bundle_of(checkpoint_of(replace(TINY_TEXT, hidden_size=128, intermediate_size=128)), "int4")
    ids = tuple(np.random.default_rng(0).integers(0, 200, n_prompt).tolist())
    with Engine.open(bundle) as engine:
        fresh = engine.score([Control(ids)], [1, 2, 3])
    for n_before in (9, 11, 101, 256):
        with Engine.open(bundle) as engine:
            engine.score([Control(ids[:n_before])], [1])
            assert (engine.score([Control(ids)], [1, 2, 3]) == fresh).all()


def test_reused_prefix_equals_a_fresh_start(int8_bundle: Path) -> None:
    conversation = [Turn("user", (image(1), LONG)), Turn("assistant", ("Yes.",)), Turn("user", ("And now?",))]
    with Engine.open(int8_bundle) as engine:
        longer = pieces(conversation, engine.manifest)
        fresh = engine.score(longer, [1, 2, 3])
    for n in (1, 2, 3):
        with Engine.open(int8_bundle) as engine:
            answer(engine, pieces(conversation[:n], engine.manifest), options(9, temperature=1.0))
            n_read = engine.stats().work.n_read
            assert (engine.score(longer, [1, 2, 3]) == fresh).all()
            assert engine.stats().work.n_read - n_read < 60 if n == 2 else True


def test_prefix_of_a_conversation_is_read_once(own_engine: Engine) -> None:
    answer(own_engine, ask(own_engine, LONG), options(3))
    before = own_engine.stats().work.n_read
    answer(own_engine, ask(own_engine, LONG), options(3))
    assert 2 <= own_engine.stats().work.n_read - before < ALIGNED + 2


def test_changed_opening_is_read_again(own_engine: Engine) -> None:
    first = answer(own_engine, ask(own_engine, f"a {LONG}"), options())
    second = answer(own_engine, ask(own_engine, f"b {LONG}"), options())
    assert answer(own_engine, ask(own_engine, f"a {LONG}"), options()) == first
    assert answer(own_engine, ask(own_engine, f"b {LONG}"), options()) == second


def test_other_image_of_the_same_size_is_another_prompt(int8_bundle: Path, own_engine: Engine) -> None:
    for seed in (5, 6, 5):
        prompt = ask(own_engine, image(seed), "Which?")
        assert (own_engine.score(prompt, [1]) == Engine.open(int8_bundle).score(prompt, [1])).all()


def test_batch_mates_do_not_matter(int8_bundle: Path) -> None:
    with Engine.open(int8_bundle, slots=4) as engine:
        prompts = [ask(engine, "x" * n, LONG[: 40 * n]) for n in range(1, 9)]
        how = [options(10 + 3 * n, temperature=1.0, seed=n) for n in range(8)]
        quiet = [fresh_answer(int8_bundle, prompt, each) for prompt, each in zip(prompts, how, strict=True)]
        for order in ([*range(8)], [*range(7, -1, -1)]):
            handles = {n: engine.stream(prompts[n], how[n]) for n in order}
            assert [handles[n].result() for n in range(8)] == quiet


@pytest.mark.parametrize("recipe", ["int4", "int4-mixed"])
def test_batch_mates_do_not_matter_in_4_bits(
    checkpoint_of: CheckpointOf, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    # Matrices wide enough for several blocks of 128.
    bundle = bundle_of(checkpoint_of(replace(TINY_TEXT, hidden_size=256, intermediate_size=768)), recipe)
    seen: dict[Handle, list[F32]] = defaultdict(list)
    take = Answer.take

    def noting(self: Answer, logits: F32, *, n_free: int) -> bool:
        seen[self.handle].append(logits.copy())
        return take(self, logits, n_free=n_free)

    monkeypatch.setattr(Answer, "take", noting)
    with Engine.open(bundle, slots=4) as engine:
        prompts = [ask(engine, "x" * n, LONG[: 40 * n]) for n in range(1, 9)]
        alone = []
        for prompt in prompts:
            alone.append(engine.stream(prompt, options(10)))
            alone[-1].result()
        together = [engine.stream(prompt, options(10 + 3 * n)) for n, prompt in enumerate(prompts)]
        for handle in together:
            handle.result()
    for one, other in zip(alone, together, strict=True):
        n_both = min(len(seen[one]), len(seen[other]))
        assert n_both > 1 and np.array_equal(seen[one][:n_both], seen[other][:n_both])


def test_seed_reproduces_and_other_seeds_differ(engine: Engine) -> None:
    prompt = ask(engine, "Anything")
    drawn = [answer(engine, prompt, options(temperature=1.0, seed=seed)).text for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3


# Pictures


def test_image_seen_lately_is_not_encoded_again(own_engine: Engine) -> None:
    first = answer(own_engine, ask(own_engine, image(1), "One?"), options())
    n_tiles = own_engine.stats().work.n_tiles
    answer(own_engine, ask(own_engine, "Before it", image(1), "two?"), options())
    assert own_engine.stats().work.n_tiles == n_tiles == 5
    assert answer(own_engine, ask(own_engine, image(1), "One?"), options()) == first


def test_image_cache_stays_under_its_limit(int8_bundle: Path, own_engine: Engine) -> None:
    vision = own_engine._worker.model.vision
    assert vision is not None
    vision.recent._limit_bytes = limit = 3 * 20 * own_engine.manifest.text.hidden_size * 4
    for seed in range(8):
        answer(own_engine, ask(own_engine, image(seed)), options(1))
        assert own_engine.stats().images_bytes <= limit
    vision.recent.forget()
    vision.recent._limit_bytes = 0
    twice = ask(own_engine, image(0), image(0), LONG, image(0))
    assert answer(own_engine, twice, options()) == fresh_answer(int8_bundle, twice, options())
    assert own_engine.stats().images_bytes == 0


def test_encode_image_gives_the_rows_that_are_fed(engine: Engine) -> None:
    rgb = image(2).rgb
    rows = engine.encode_image(rgb)
    assert rows.shape == (20, engine.manifest.text.hidden_size)
    assert (rows == engine.encode_image(rgb.copy())).all()


# Bundles


def test_text_only_bundle_answers_and_names_the_image_it_cannot_take(text_bundle: Path) -> None:
    with Engine.open(text_bundle) as engine:
        got = answer(engine, ask(engine, "Hello"), options(6))
        assert got.output_tokens == 6 and engine.stats().images_bytes == 0
        with pytest.raises(MediaError, match="text only"):
            ask(engine, image(0))
        with pytest.raises(MediaError, match="text only"):
            engine.encode_image(image(0).rgb)


@pytest.mark.parametrize("recipe", ["fp32", "int4", "int8"])
def test_every_recipe_gives_the_same_greedy_answer_in_company(
    tiny_checkpoint: Path, bundle_of: Callable[[Path, str], Path], recipe: str
) -> None:
    with Engine.open(bundle_of(tiny_checkpoint, recipe), slots=3, threads=1) as engine:
        prompts = [ask(engine, "Who", LONG[: 50 * n]) for n in range(1, 4)]
        quiet = [answer(engine, prompt, options(16)) for prompt in prompts]
        assert [handle.result() for handle in [engine.stream(prompt, options(16)) for prompt in prompts]] == quiet


def test_number_of_threads_does_not_matter(int8_bundle: Path) -> None:
    rows = []
    for threads in (1, 2, 3):
        with Engine.open(int8_bundle, threads=threads) as engine:
            assert engine.threads == threads
            rows.append(engine.score(ask(engine, image(4), LONG), [1, 2]))
    assert (rows[0] == rows[1]).all() and (rows[0] == rows[2]).all()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"n_layers": 3', '"n_layers": 4', "past.3"),
        ('"n_layers": 3', '"n_layers": 2', "past.2"),
        ('"head_dim": 16', '"head_dim": 32', "past.0.key"),
        ('"tile_px": 384', '"tile_px": 192', "tiles"),
        ('"tokens_per_tile": 4', '"tokens_per_tile": 5', "embeds"),
    ],
)
def test_manifest_that_does_not_fit_its_graphs_is_refused(
    int8_bundle: Path, tmp_path: Path, old: str, new: str, named: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(int8_bundle, copy)
    text = (copy / "manifest.json").read_text()
    assert old in text
    (copy / "manifest.json").write_text(text.replace(old, new))
    with pytest.raises(BundleError, match=named), Engine.open(copy) as engine:
        engine.encode_image(image(0).rgb)


def test_manifest_with_another_vocabulary_is_refused(int8_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(int8_bundle, copy)
    manifest = parse_manifest((copy / "manifest.json").read_bytes(), file="manifest.json")
    text = replace(manifest.text, vocab_size=manifest.text.vocab_size + 1)
    table = bytes(text.vocab_size * (text.hidden_size + 4))
    (copy / "embedding.bin").write_bytes(table)
    entry = FileEntry(len(table), hashlib.sha256(table).hexdigest())
    spoilt = replace(manifest, text=text, files={**manifest.files, "embedding.bin": entry})
    (copy / "manifest.json").write_bytes(dump_manifest(spoilt))
    with pytest.raises(BundleError, match="logits"):
        Engine.open(copy)
