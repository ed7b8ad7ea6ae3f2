"""Keys and values on a device: the CPU's own memory stands in for a GPU's, bound by addresses as that would be."""

from pathlib import Path

import numpy as np
import pytest

from edge.arrays import F32
from edge.bundle.bundle import Bundle
from edge.engine.cache import Cache
from edge.engine.decoder import Decoder
from edge.engine.device_memory import DeviceMemory
from edge.engine.embedding import Embedding
from edge.engine.kv import GRAPHS, kvs_of
from edge.engine.session import open_session, run_options
from edge.errors import MemoryExhausted
from tests.conftest import BundleOf


@pytest.fixture(scope="module", params=["fp32", "fp16", "int4-fp16"])
def bundle(request: pytest.FixtureRequest, tiny_checkpoint: Path, bundle_of: BundleOf) -> Bundle:
    return Bundle.open(bundle_of(tiny_checkpoint, request.param))


def both(bundle: Bundle, *, slots: int) -> tuple[Decoder, Decoder, Embedding]:
    """A decoder over memory of the process, and one over a device's."""
    text, kv = bundle.manifest.text, kvs_of(bundle.manifest)[0]
    session = open_session(bundle.file(GRAPHS[kv]), threads=1)
    caches = (Cache(text, capacity=64, slots=slots, kv=kv, device=device) for device in (None, "cpu"))
    here, there = (Decoder(session, text, cache) for cache in caches)
    return here, there, Embedding(bundle)


def test_a_device_gives_the_logits_of_memory_of_the_process(bundle: Bundle) -> None:
    def logits(decoder: Decoder) -> list[F32]:
        found = []
        for n in (8, 5):  # the second one reads what the first one left
            rows = embedding.rows([*range(n)])
            found.append(decoder.read(0, rows, n_logits=n, options=run_options()))
            decoder.cache.wrote(0, [*range(n)])
        for token in (7, 9, 11):
            found.append(decoder.step([0], embedding.rows([token]), options=run_options()).copy())
            decoder.cache.grew(0)
        return found

    here, there, embedding = both(bundle, slots=1)
    assert all(np.array_equal(a, b) for a, b in zip(logits(here), logits(there), strict=True))


def test_slots_on_a_device_are_apart(bundle: Bundle) -> None:
    here, there, embedding = both(bundle, slots=3)
    for slot, n in ((0, 4), (2, 9)):
        rows = embedding.rows([slot + at for at in range(n)])
        for decoder in (here, there):
            decoder.read(slot, rows, n_logits=1, options=run_options())
            decoder.cache.wrote(slot, [*range(n)])
    rows = embedding.rows([3, 5])
    wanted = here.step([0, 2], rows, options=run_options()).copy()
    assert np.array_equal(there.step([0, 2], rows, options=run_options()), wanted)


def test_guesses_are_not_checked_on_a_device(bundle: Bundle) -> None:
    _, there, _ = both(bundle, slots=1)
    assert not there.can_verify and not there.cache.can_repeat


def test_places_are_where_a_slot_begins() -> None:
    memory = DeviceMemory(2, (3, 2, 4, 16), np.float16, "cpu")
    first, second = memory.places(0, 3), memory.places(1, 2)
    assert [place.address + 2 * 4 * 16 * 2 for place in first] == [place.address for place in second]
    assert second[0].shape == (2, 2, 4, 16) and second[0].dtype == np.float16


def test_a_device_that_onnxruntime_cannot_reach_is_no_memory() -> None:
    with pytest.raises(MemoryExhausted, match="no room for 2048 bytes of keys and values on cuda"):
        DeviceMemory(2, (2, 2, 16, 8), np.float16, "cuda")
