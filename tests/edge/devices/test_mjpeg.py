"""JPEG pictures in a stream: each is found whole, and what breaks costs no other."""

import io

import numpy as np
import pytest
from PIL import Image

from edge.devices.mjpeg import Jpegs

RANDOM = np.random.default_rng(0)


def jpeg(size: int = 40, **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (size, size, 3), np.uint8)).save(data, "JPEG", **options)
    return data.getvalue()


def with_thumbnail() -> bytes:
    inner, outer = jpeg(16), jpeg()
    segment = b"\xff\xe1" + (len(inner) + 8).to_bytes(2, "big") + b"Exif\0\0" + inner
    return outer[:2] + segment + outer[2:]


def cut(stream: bytes, n_bytes: int) -> list[bytes]:
    jpegs = Jpegs()
    return [found for at in range(0, len(stream), n_bytes) for found in jpegs.add(stream[at : at + n_bytes])]


IMAGES = [
    jpeg(),
    jpeg(progressive=True),
    with_thumbnail(),
    jpeg(quality=100, subsampling=0),
    jpeg(restart_marker_rows=1),
]


@pytest.mark.parametrize("n_bytes", [1, 7, 1000, 1 << 20])
def test_images_are_found_whole_wherever_the_stream_is_read(n_bytes: int) -> None:
    stream = b"--border\r\n\xff\r\n".join(IMAGES)
    assert cut(b"noise\xff\xd8\xff" + stream, n_bytes) == IMAGES


@pytest.mark.parametrize("n_bytes", [7, 1 << 20])
@pytest.mark.parametrize("i", range(len(IMAGES)))
def test_a_image_that_breaks_off_costs_no_other(i: int, n_bytes: int) -> None:
    broken = IMAGES[i]
    for n in (3, 20, 200, len(broken) // 2, len(broken) - 1):
        assert cut(IMAGES[0] + broken[:n] + IMAGES[1], n_bytes)[-1:] == IMAGES[1:2]


def test_damage_costs_little() -> None:
    good = jpeg()
    for at in RANDOM.integers(2, len(good), 50):
        noise = RANDOM.integers(0, 256, 64, np.uint8).tobytes()
        found = cut(good[:at] + noise + good[at + 64 :] + 40 * good, 1000)
        assert found.count(good) >= 39 - 65536 // len(good)
        assert found[-1] == good


def test_what_is_no_image_is_not_held() -> None:
    jpegs = Jpegs()
    assert jpegs.add(bytes(1 << 20)) == []
    assert jpegs.held < 3
