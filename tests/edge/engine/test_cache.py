"""The cache: what is kept of a conversation, for whom, and what it costs."""

import gc
import itertools
import random
from collections.abc import Hashable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge.engine.layout
from edge.bundle.manifest import TextSpec
from edge.engine.cache import ALIGNED, MAX_ROWS, Cache, common_prefix
from edge.engine.kv import bytes_per_token, default_context
from edge.engine.layout import MAX_CHUNK, chunks

SPEC = TextSpec(8, 3, 4, 2, 16, 16, 32, 4096, 1.0, 10000.0, 1e-5, 1.0, "fp32")


def filled(cache: Cache, keys: list[Hashable]) -> int:
    """Read a prompt as the engine does and give its slot back."""
    slot = cache.take(keys, n_read=2)
    cache.wrote(slot, keys[cache.length(slot) :])
    cache.release(slot)
    return slot


def test_rows_share_the_memory_of_the_whole() -> None:
    cache = Cache(SPEC, capacity=30, slots=3)
    whole, part = dict(cache.rows([0, 1, 2]).parts), dict(cache.rows([1]).parts)
    assert list(whole) == [f"{layer}.{kind}" for layer in range(3) for kind in ("key", "value")]
    for n, (name, view) in enumerate(part.items()):
        assert view.shape[:2] == (1, 2) and view.shape[2] >= 30 and view.shape[3] == 16 and view.flags.c_contiguous
        assert whole[name].shape == (3, *view.shape[1:])
        view[:] = n + 1
    assert all((whole[name][1] == n + 1).all() for n, name in enumerate(whole))
    assert all((view[[0, 2]] == 0).all() for view in whole.values())
    assert cache.nbytes == 3 * 30 * bytes_per_token(SPEC)


@pytest.mark.parametrize("slots", [(2, 0), (0, 2), (1, 3), (3, 0, 1), (2, 2), (1,) * MAX_ROWS])
def test_rows_stand_in_any_order_and_several_times(slots: tuple[int, ...]) -> None:
    cache = Cache(SPEC, capacity=40, slots=3)
    whole = dict(cache.rows([0, 1, 2, cache.spare]).parts)
    rows = cache.rows(slots)
    assert rows.slots == slots and [name for name, _ in rows.parts] == list(whole)
    for n, (name, view) in enumerate(rows.parts):
        assert view.shape == (len(slots), *whole[name].shape[1:]) and view.flags.c_contiguous
        for row, slot in enumerate(slots):
            view[row, 1, 5] = 100 * n + row
            assert (whole[name][slot, 1, 5] == 100 * n + row).all()
            whole[name][slot, 0, 7] = row + 0.5
            assert (view[row, 0, 7] == row + 0.5).all()


@pytest.mark.parametrize("page_bytes", [4096, 16384, 65536])
def test_parts_are_whole_pages_of_any_size(monkeypatch: pytest.MonkeyPatch, page_bytes: int) -> None:
    """A Raspberry Pi 5's kernel has pages of 16 KiB, some servers' of 64 KiB."""
    monkeypatch.setattr("edge.engine.cache.mmap.PAGESIZE", page_bytes)
    cache = Cache(SPEC, capacity=30, slots=2)
    assert cache._pages.piece_bytes % page_bytes == 0
    rows = cache.rows([1, 0])
    rows.parts[0][1][1] = 5
    assert (cache.rows([0]).parts[0][1] == 5).all()


def test_where_memory_cannot_repeat_a_step_has_every_slot_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.engine.pages.sys.platform", "darwin")
    cache = Cache(SPEC, capacity=40, slots=4)
    assert not cache.can_repeat
    rows = cache.rows([3, 1])
    assert rows.slots == (1, 2, 3) and rows.parts[0][1].shape[0] == 3
    rows.parts[0][1][2] = 7
    assert (cache.rows([3]).parts[0][1] == 7).all() and (cache.rows([2]).parts[0][1] == 0).all()
    cache.forget()


def test_memory_of_rows_outlives_the_cache() -> None:
    rows = Cache(SPEC, capacity=40, slots=2).rows([1, 0, 1])
    gc.collect()
    rows.parts[0][1][2] = 3
    assert (rows.parts[0][1][0] == 3).all()


def test_common_prefix_is_kept_and_the_rest_dropped() -> None:
    cache = Cache(SPEC, capacity=100, slots=1)
    filled(cache, [*range(40)])
    slot = cache.take([*range(24), 99, 98, 97], n_read=2)
    assert cache.length(slot) == 24


@pytest.mark.parametrize(("n_shared", "kept"), [(7, 0), (8, 8), (9, 8), (15, 8), (16, 16), (17, 16)])
def test_what_is_kept_ends_where_a_group_of_rows_does(n_shared: int, kept: int) -> None:
    cache = Cache(SPEC, capacity=100, slots=1)
    filled(cache, [*range(n_shared)])
    assert cache.length(cache.take([*range(40)], n_read=2)) == kept


@pytest.mark.parametrize(
    ("n_before", "n_prompt", "kept"),
    [(40, 24, 16), (40, 25, 16), (40, 26, 24), (40, 10, 8), (40, 9, 0), (40, 1, 0), (0, 5, 0)],
)
def test_two_positions_at_least_are_read_again(n_before: int, n_prompt: int, kept: int) -> None:
    cache = Cache(SPEC, capacity=100, slots=1)
    filled(cache, [*range(n_before)]) if n_before else None
    assert cache.length(cache.take([*range(n_prompt)], n_read=2)) == kept


@pytest.mark.parametrize(("n_read", "kept"), [(16, 24), (17, 16)])
def test_scored_positions_are_read_again(n_read: int, kept: int) -> None:
    cache = Cache(SPEC, capacity=100, slots=1)
    filled(cache, [*range(40)])
    assert cache.length(cache.take([*range(40)], n_read=n_read)) == kept


def test_generated_positions_are_not_used_again() -> None:
    cache = Cache(SPEC, capacity=100, slots=1)
    slot = cache.take([*range(8)], n_read=2)
    cache.wrote(slot, [*range(8)])
    for _ in range(10):
        cache.grew(slot)
    assert cache.length(slot) == 18 and cache.free(slot) == 82
    cache.release(slot)
    assert cache.length(slot) == 8
    assert cache.length(cache.take([*range(40)], n_read=2)) == 8


def test_other_images_are_other_keys() -> None:
    cache = Cache(SPEC, capacity=100, slots=1)
    opening = [1] * ALIGNED
    filled(cache, [*opening, *(("a", row) for row in range(16)), 2, 3])
    assert common_prefix([1, ("a", 0)], [1, ("b", 0)]) == 1
    assert cache.length(cache.take([*opening, *(("b", row) for row in range(16)), 2, 3], n_read=2)) == ALIGNED


def test_conversation_goes_on_in_its_own_slot() -> None:
    cache = Cache(SPEC, capacity=100, slots=3)
    first = cache.take([1] * 10, n_read=2)
    cache.wrote(first, [1] * 10)
    second = filled(cache, [2] * 10)
    cache.release(first)
    assert first != second
    assert cache.take([2] * 10 + [5] * 5, n_read=2) == second
    assert cache.take([1] * 10 + [5] * 5, n_read=2) == first


def test_shared_opening_does_not_cost_another_conversation_its_past() -> None:
    cache = Cache(SPEC, capacity=100, slots=2)
    first = filled(cache, [0] * 5 + [1] * 50)
    assert cache.take([0] * 5 + [2] * 5, n_read=2) != first


def test_busy_slots_are_left_alone() -> None:
    cache = Cache(SPEC, capacity=100, slots=2)
    first, second = cache.take([1, 2, 3], n_read=2), cache.take([1, 2, 3], n_read=2)
    assert first != second and not cache.has_free_slot()
    cache.release(first)
    assert cache.has_free_slot() and cache.take([9, 9], n_read=2) == first


def test_forgetting_spares_the_running() -> None:
    cache = Cache(SPEC, capacity=100, slots=2)
    running = cache.take([1, 2, 3], n_read=2)
    cache.wrote(running, [1, 2, 3])
    idle = filled(cache, [4, 5, 6])
    cache.forget()
    assert cache.length(running) == 3 and cache.length(idle) == 0


def resident_bytes() -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(lines[kind].split()[0]) for kind in ("RssAnon", "RssShmem")) * 1024


def test_memory_is_taken_as_positions_are_written_and_given_back() -> None:
    before = resident_bytes()
    cache = Cache(SPEC, capacity=100_000, slots=1)  # 77 MB
    assert cache.nbytes > 75e6 and resident_bytes() - before < 5e6
    for _, view in cache.rows([0]).parts:
        view[:, :, :25_000] = 1
    assert resident_bytes() - before > 18e6
    cache.forget()
    assert resident_bytes() - before < 5e6
    assert all((view == 0).all() for _, view in cache.rows([0, 0]).parts)


def test_default_context_is_cut_to_a_quarter_of_the_memory() -> None:
    per_token = bytes_per_token(SPEC)
    assert default_context(SPEC, slots=1, available_bytes=1 << 40) == 4096
    assert default_context(SPEC, slots=1, available_bytes=4 * 3000 * per_token) == 3000
    assert default_context(SPEC, slots=2, available_bytes=8 * 3000 * per_token) == 3000
    assert default_context(SPEC, slots=1, available_bytes=0) == 2048
    small = TextSpec(8, 3, 4, 2, 16, 16, 32, 512, 1.0, 10000.0, 1e-5, 1.0, "fp32")
    assert default_context(small, slots=1, available_bytes=0) == 512


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 600), st.integers(0, 1100), st.integers(ALIGNED + 2, 40) | st.just(MAX_CHUNK))
def test_chunks_cover_everything_and_never_have_one_row(start: int, length: int, largest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge.engine.layout, "MAX_CHUNK", largest)
        cut = list(itertools.islice(chunks(start, start + length), 1101))  # one that never ends would fill the memory
    sizes = [last - first for first, last in cut]
    assert [at for first, last in cut for at in range(first, last)] == [*range(start, start + length)]
    assert all(2 <= size <= largest for size in sizes) or sizes == [1]
    assert all(size == largest for size in sizes[:-2])
    assert sizes[-2:-1] in ([], [largest]) or sizes[-2:] == [largest - ALIGNED, ALIGNED + 1]


def test_chunks_do_not_cut_the_groups_of_rows_that_kernels_compute() -> None:
    assert MAX_CHUNK % ALIGNED == 0
    assert list(chunks(8, 519)) == [(8, 264), (264, 519)]
    assert list(chunks(8, 520)) == [(8, 264), (264, 520)]
    assert list(chunks(8, 521)) == [(8, 264), (264, 512), (512, 521)]
    assert list(chunks(8, 522)) == [(8, 264), (264, 520), (520, 522)]


def test_a_chunk_has_256_rows_at_most() -> None:
    assert MAX_CHUNK == 256
    assert [list(chunks(0, n)) for n in (255, 256, 257)] == [[(0, 255)], [(0, 256)], [(0, 248), (248, 257)]]


def test_any_order_of_conversations_keeps_only_what_was_read() -> None:
    rng = random.Random(0)
    cache, truth = Cache(SPEC, capacity=64, slots=3), {0: [], 1: [], 2: []}
    for _ in range(500):
        keys = [rng.randrange(2) for _ in range(rng.randrange(2, 40))]
        slot = cache.take(keys, n_read=2)
        kept = cache.length(slot)
        assert truth[slot][:kept] == keys[:kept] and kept <= len(keys) - 2 and kept % ALIGNED == 0
        n_read = rng.randrange(kept, len(keys) + 1)  # cancelled somewhere
        cache.wrote(slot, keys[kept:n_read])
        truth[slot] = keys[:n_read]
        for _ in range(rng.randrange(3)):
            cache.grew(slot)
        cache.release(slot)
