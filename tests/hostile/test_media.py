"""Two thousand damaged media files: each is decoded or refused, in time and in bounds, and nothing else notices.

Every file is made from its number alone, so that one that fails can be made again.
"""

import functools
import io
import random
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.errors import MediaError
from edge.media.decoded import Options
from edge.media.sandbox import Worker
from tests.edge.media import tones, videos
from tests.edge.media.pdfs import made_pdf, scan

N_FILES = 2000
N_QUICK = 140
MEMORY_BYTES = 512 << 20
LIMIT_S = 20.0
OPTIONS: dict[str, Options] = {
    "image": {"max_px": 4_000_000},
    "video": {"frames": 6, "max_s": 120, "max_frames": 7200, "max_px": 4_000_000, "side": 64, "crop_share": 0.875,
              "resample": "bilinear"},
    "pdf": {"max_pages": 20, "area_px": 100_000, "max_bytes": 64 << 20},
    "audio": {"seconds": 600, "pcm_bytes": 64 << 20, "channels": 8},
}  # fmt: skip
# What no error may show: addresses, paths, the inside of libraries.
LEAKS = re.compile(r"0x[0-9a-fA-F]{5,}|/usr|/home|/tmp|site-packages|Traceback|<[a-z_.]+ object")


def image(form: str, **options: object) -> bytes:
    rgb = videos.frame(9, (60, 40))
    rgb[10:20, 10:30] = np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(rgb).save(data, form, **options)
    return data.getvalue()


SEEDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "jpeg": ("image", lambda: image("JPEG")),
    "progressive": ("image", lambda: image("JPEG", progressive=True)),
    "png": ("image", lambda: image("PNG")),
    "webp": ("image", lambda: image("WEBP")),
    "bmp": ("image", lambda: image("BMP")),
    "gif": ("image", lambda: image("GIF")),
    "video.gif": ("video", lambda: videos.gif(5)),
    **{f"video.{kind}": ("video", functools.partial(videos.made_video, 6, kind)) for kind in videos.KINDS},
    "text.pdf": ("pdf", lambda: made_pdf([(50, 50, "some text"), (300, 50, "more")], [(50, 90, "page two")])),
    "scan.pdf": ("pdf", lambda: scan(videos.frame(3))),
    "closed.pdf": ("pdf", lambda: made_pdf([(50, 50, "some text")], password="")),
    **{f"sound.{name}": ("audio", functools.partial(tones.file, tones.tone(0.3), name)) for name in tones.SUBTYPES},
    **{
        f"sound.{name}": ("audio", functools.partial(tones.contained, tones.tone(0.3), name))
        for name in tones.CONTAINERS
    },
}
NAMES = sorted(SEEDS)


@functools.cache
def seed(name: str) -> bytes:
    return SEEDS[name][1]()


def damaged(number: int) -> tuple[str, bytes]:
    """The kind and the bytes of a file: a good one with some damage, most often near its beginning."""
    rng = random.Random(number)
    name = NAMES[number % len(NAMES)]
    data = bytearray(seed(name))
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        damage(data, rng)
    return SEEDS[name][0], bytes(data)


def damage(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(max(1, rng.choice((64, 512, len(data)))))
    at = min(at, max(0, len(data) - 1))
    match rng.randrange(8):
        case 0:
            data[at : at + 1] = bytes([data[at] ^ (1 << rng.randrange(8))]) if data else b""
        case 1:
            data[at : at + 4] = rng.randbytes(4)
        case 2:
            extreme = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x7FFF))
            data[at : at + 4] = struct.pack(rng.choice(("<I", ">I")), extreme)
        case 3:
            del data[at + rng.randrange(1, 200) :]
        case 4:
            del data[at : at + rng.randrange(1, 64)]
        case 5:
            data[at:at] = data[at : at + rng.randrange(1, 256)] * rng.randrange(1, 20)
        case 6:
            data[at:at] = rng.randbytes(rng.randrange(1, 64))
        case 7:
            data[at:] = seed(rng.choice(NAMES))[at:]


@pytest.fixture(scope="module")
def apart() -> Iterator[Worker]:
    seconds = dict.fromkeys(OPTIONS, LIMIT_S)
    apart = Worker(memory_bytes=MEMORY_BYTES, seconds=seconds)
    yield apart
    apart.close()


def peak_bytes(pid: int | None) -> int:
    if pid is None:
        return 0
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text("ascii"))
    return 0 if found is None else int(found[1]) << 10


def decode_damaged(apart: Worker, numbers: range) -> int:
    """Decode files; return how many came out."""
    n_good = 0
    for number in numbers:
        kind, data = damaged(number)
        try:
            found = apart.decode(kind, data, OPTIONS[kind])
        except MediaError as error:
            words = str(error)
            assert words.startswith(f"{kind}: ") and len(words) < 300 and not LEAKS.search(words), (number, words)
            assert "decoding it exceeds" not in words, number
        else:
            n_good += 1
            assert all(array.size for array in found.arrays), number
        assert peak_bytes(apart.pid) < MEMORY_BYTES + (300 << 20), number
    return n_good


def test_seeds_are_good(apart: Worker) -> None:
    for name in NAMES:
        kind = SEEDS[name][0]
        assert apart.decode(kind, seed(name), OPTIONS[kind]).arrays, name


def test_files_are_the_same_every_time() -> None:
    assert [damaged(number) for number in range(30)] == [damaged(number) for number in range(30)]


def test_damaged_files_are_decoded_or_refused(apart: Worker) -> None:
    decode_damaged(apart, range(N_QUICK))
    test_seeds_are_good(apart)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_thousand_damaged_files_are_decoded_or_refused(apart: Worker) -> None:
    assert 0 < decode_damaged(apart, range(N_QUICK, N_FILES)) < N_FILES - N_QUICK
    test_seeds_are_good(apart)
