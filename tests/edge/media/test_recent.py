"""Media that were decoded lately are not decoded again, whoever asks, and take no more memory than they may."""

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.chat.attachments import Access, decode_media
from edge.chat.messages import MediaPart, Message
from edge.chat.pdf_text import TextBudget
from edge.chat.prompt import DecodedImage
from edge.errors import MediaError
from edge.limits import Limits
from edge.media.decoded import Decoded, Options
from edge.media.detail import Detail
from edge.media.recent import ENTRY_BYTES, RecentMedia
from edge.media.sandbox import Worker
from tests.edge.fake_engine import manifest


class Counting(Worker):
    """A decoder that counts what it is asked for."""

    n_jobs_done = 0

    def decode(self, kind: str, data: bytes, options: Options, **more: object) -> Decoded:
        self.n_jobs_done += 1
        return super().decode(kind, data, options, **more)  # type: ignore[arg-type]


def picture(path: Path, seed: int) -> str:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (200, 200, 3), np.uint8)).save(data, "PNG")
    path.write_bytes(data.getvalue())
    return str(path)


def opened(access: Access, url: str, detail: Detail) -> DecodedImage:
    budget = TextBudget(lambda text: list(text.encode()), lambda ids: "", 1000)
    message = Message("user", (MediaPart("image", url, ("body", "messages", 0)),))
    (turn,) = decode_media([message], spec=manifest(), access=access, budget=budget, limits=Limits(), detail=detail)
    (image,) = turn.parts
    assert isinstance(image, DecodedImage)
    return image


def test_the_same_bytes_are_decoded_once(tmp_path: Path) -> None:
    worker = Counting()
    access = Access(files=True, apart=True, worker=worker)
    one, other = picture(tmp_path / "a.png", 1), picture(tmp_path / "b.png", 1)
    first = opened(access, one, Detail())
    second = opened(access.shared(None), other, Detail())
    assert worker.n_jobs_done == 1 and first.digest == second.digest
    opened(access, picture(tmp_path / "a.png", 2), Detail())
    assert worker.n_jobs_done == 2
    opened(access, one, Detail("low"))
    assert worker.n_jobs_done == 3
    access.worker.close()


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    worker = Counting()
    access = Access(files=True, apart=True, worker=worker)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for n in (1, 2):
        with pytest.raises(MediaError):
            opened(access, str(tmp_path / "a.png"), Detail())
        assert worker.n_jobs_done == n
    worker.close()


def decoded(n_bytes: int) -> Decoded:
    return Decoded((np.zeros(n_bytes, np.uint8),))


def test_the_limit_is_kept_and_the_least_recently_used_goes_first() -> None:
    recent = RecentMedia(limit_bytes=100 + 2 * ENTRY_BYTES)
    keys = [recent.key("image", bytes([i]), {}) for i in range(4)]
    recent.remember(keys[0], decoded(40))
    recent.remember(keys[1], decoded(40))
    assert recent.recall(keys[0]) is not None
    recent.remember(keys[2], decoded(40))
    assert [recent.recall(key) is not None for key in keys] == [True, False, True, False]
    recent.remember(keys[3], decoded(101 + ENTRY_BYTES))
    assert recent.recall(keys[3]) is None and recent.nbytes == 80 + 2 * ENTRY_BYTES


def test_many_small_images_take_no_more_memory_than_large_ones() -> None:
    recent, most = RecentMedia(limit_bytes=1 << 20), (1 << 20) // ENTRY_BYTES
    keys = [recent.key("image", b"%d" % i, {}) for i in range(2 * most)]
    tracemalloc.start()
    try:
        for key in keys:
            recent.remember(key, Decoded((np.zeros((8, 8, 3), np.uint8),), {"width": 8, "height": 8}))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= 1 << 20
    assert 0 < sum(recent.recall(key) is not None for key in keys) < most


def test_keys_tell_kind_bytes_and_options_apart() -> None:
    key = RecentMedia.key
    assert len({key("image", b"a", {"x": 1}), key("pdf", b"a", {"x": 1}), key("image", b"b", {"x": 1})}) == 3
    assert key("image", b"a", {"x": 1, "y": None}) == key("image", b"a", {"y": None, "x": 1})
    assert key("image", b"a", {"x": 1}) != key("image", b"a", {"x": 2})


def test_what_is_kept_cannot_be_written_to() -> None:
    recent = RecentMedia()
    recent.remember(recent.key("image", b"a", {}), decoded(4))
    kept = recent.recall(recent.key("image", b"a", {}))
    assert kept is not None and not kept.arrays[0].flags.writeable
