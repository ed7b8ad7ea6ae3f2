"""Images resized band by band, in the place of their own pixels: bit for bit what Pillow makes of the whole."""

import dataclasses
import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.arrays import U8
from edge.bundle.manifest import VisionSpec
from edge.errors import MediaError
from edge.media import resized as subject
from edge.media.decoded import Decoded
from edge.media.image import decode, digest, open_image, received, reduced, tower_options
from edge.media.resized import Pixels, Resized, Stored, Target, resized, size_of
from edge.media.tiles import tile_count, tiles

ROOT = Path(__file__).parents[3]
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
SPEC = VisionSpec(
    tile_px=64, patch_px=4, max_tiles=4, tokens_per_tile=16, resample="bilinear", mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225), crop_share=0.875, order="cells-first", frames=6,
)  # fmt: skip
TOWERS = (SPEC, dataclasses.replace(SPEC, crop_share=None, order="whole-first", resample="bicubic", max_tiles=6))


def noise(width: int, height: int, n_channels: int = 3) -> U8:
    return np.random.default_rng(width * 31 + height).integers(0, 256, (height, width, n_channels), np.uint8)


def encoded(image: Image.Image, form: str, turn: int = 1) -> bytes:
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turn
    image.save(data, form, exif=exif)
    return data.getvalue()


def taken(data: bytes, tower: VisionSpec) -> U8 | Resized:
    found = decode(data, {"max_px": 1 << 26, **tower_options(tower)})
    return received(found, tower, max_px=1 << 26)


def same_tiles(image: U8 | Resized, rgb: U8, tower: VisionSpec) -> None:
    found, wanted = list(tiles(image, tower)), list(tiles(rgb, tower))
    assert len(found) == len(wanted) == tile_count(rgb.shape[1], rgb.shape[0], tower)
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("is_spare", [True, False])
def test_any_size_is_what_pillow_makes_of_the_whole(is_spare: bool) -> None:
    rng = random.Random(3)
    for _ in range(60):
        width, height = rng.randrange(1, 700), rng.randrange(1, 700)
        rgb = noise(width, height)
        targets = [
            Target(rng.choice([rng.randrange(1, 400), width]), rng.choice([rng.randrange(1, 400), height]), resample)
            for resample in (BICUBIC, BILINEAR)
        ]
        made = resized(Stored(Image.fromarray(rgb).copy(), 1, is_spare=is_spare), targets)
        for target, found in zip(targets, made, strict=True):
            wanted = Image.fromarray(rgb).resize((target.width, target.height), target.resample)
            assert np.array_equal(found, np.asarray(wanted))
        assert np.array_equal(resized(Pixels(rgb), targets)[0], made[0])


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("turn", range(1, 9))
def test_tiles_are_those_of_the_whole_image_however_it_is_turned(turn: int, tower: VisionSpec) -> None:
    for width, height in ((901, 300), (300, 901), (640, 480), (2000, 129), (150, 150)):
        data = encoded(Image.fromarray(noise(width, height)), "PNG", turn)
        found, rgb = taken(data, tower), open_image(data, max_px=1 << 26)
        assert size_of(found) == (rgb.shape[1], rgb.shape[0])
        assert isinstance(found, Resized) or found.size <= 3 * 6 * 74 * 150
        same_tiles(found, rgb, tower)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK", "palette with alpha", "key"])
def test_tiles_are_those_of_the_whole_image_in_every_mode(mode: str) -> None:
    rgba = Image.fromarray(noise(700, 500, 4), "RGBA")
    form = "JPEG" if mode == "CMYK" else "PNG"
    if mode == "I;16":
        image = Image.fromarray((noise(700, 500, 1)[:, :, 0].astype(np.uint16) << 8) + 77)
    elif mode == "palette with alpha":
        image = rgba.quantize(64)
    else:
        image = rgba.convert("RGB" if mode == "key" else mode)
    data = io.BytesIO()
    image.save(data, form, **({"transparency": (1, 2, 3)} if mode == "key" else {}))
    rgb = open_image(data.getvalue(), max_px=1 << 26)
    found = taken(data.getvalue(), SPEC)
    assert isinstance(found, Resized)
    same_tiles(found, rgb, SPEC)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "BMP"])
def test_tiles_are_those_of_the_whole_image_in_every_format(form: str) -> None:
    data = io.BytesIO()
    Image.fromarray(noise(700, 500)).save(data, form)
    found = taken(data.getvalue(), SPEC)
    assert isinstance(found, Resized)
    same_tiles(found, open_image(data.getvalue(), max_px=1 << 26), SPEC)


def test_what_a_caller_gives_is_left_as_it_is() -> None:
    rgb = noise(800, 600)
    for given in (rgb, Image.fromarray(rgb), Image.fromarray(rgb).copy(), Image.fromarray(noise(800, 600, 4), "RGBA")):
        before = np.array(given)
        found = reduced(given, SPEC, max_px=1 << 26)
        assert isinstance(found, Resized)
        assert np.array_equal(np.array(given), before)
    same_tiles(reduced(rgb, SPEC, max_px=1 << 26), rgb, SPEC)


def test_a_small_image_stays_whole() -> None:
    rgb = noise(60, 50)
    found = taken(encoded(Image.fromarray(rgb), "PNG"), SPEC)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, rgb)


def test_digests_differ_where_tiles_do() -> None:
    one, other = noise(800, 600), noise(800, 600)
    other[300:310, 400:410] ^= 255
    images = [reduced(rgb, SPEC, max_px=1 << 26) for rgb in (one, other, one.copy(), one[:, :799])]
    digests = [digest(image) for image in images]
    assert digests[0] == digests[2]
    assert len(set(digests)) == 3


def test_what_a_process_that_was_taken_over_sends_is_checked() -> None:
    sent = decode(encoded(Image.fromarray(noise(800, 600)), "PNG"), {"max_px": 1 << 26, **tower_options(SPEC)})
    assert isinstance(received(sent, SPEC, max_px=800 * 600), Resized)
    bad = [
        Decoded((), {}),
        Decoded(sent.arrays[:1], sent.info),
        Decoded(sent.arrays, {"width": 800}),
        Decoded(sent.arrays, {"width": "800", "height": 600}),
        Decoded(sent.arrays, {"width": 6000, "height": 80}),
        Decoded(sent.arrays, {"width": -800, "height": -600}),
        Decoded((sent.arrays[0].astype(np.float32), sent.arrays[1]), sent.info),
        Decoded((sent.arrays[1], sent.arrays[0]), sent.info),
    ]
    for each in bad:
        with pytest.raises(MediaError, match="decoding it failed"):
            received(each, SPEC, max_px=800 * 600)
    with pytest.raises(MediaError, match="decoding it failed"):
        received(sent, SPEC, max_px=800 * 600 - 1)


def test_an_image_too_thin_to_resize_is_refused_before_anything_is_held() -> None:
    n_px = subject.MAX_RESIZED_PX // 64 + 1
    source = Pixels(np.zeros((1, n_px, 3), np.uint8))
    with pytest.raises(MediaError, match=f"image: too thin: resizing it needs {n_px} x 64 pixels"):
        resized(source, [Target(n_px, 64, BICUBIC)])
    found = resized(Pixels(np.zeros((n_px, 1, 3), np.uint8)), [Target(64, 64, BICUBIC)])
    assert found[0].shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("form", "options", "n_bytes"),
    [("WEBP", {}, 16), ("WEBP", {"lossless": True}, 16), ("WEBP", {"exif": b"Exif\0\0MM"}, 16),
     ("JPEG", {"progressive": True}, 7)],
)  # fmt: skip
def test_what_takes_more_memory_than_its_pixels_is_refused_with_both_numbers(
    form: str, options: dict[str, object], n_bytes: int
) -> None:
    data = io.BytesIO()
    Image.new("RGB", (320, 200)).save(data, form, **options)
    needed = 320 * 200 * n_bytes
    for most in (needed, needed + 1):
        decode(data.getvalue(), {"max_px": 64_000, "memory_bytes": most})
    with pytest.raises(MediaError, match=f"at most {needed - 1} bytes to decode it, a .* of 320 x 200 needs {needed}"):
        decode(data.getvalue(), {"max_px": 64_000, "memory_bytes": needed - 1})


MEASURE = """
import io, sys
from pathlib import Path
from PIL import Image
from edge.media.image import decode

mode, turn, form = sys.argv[1], int(sys.argv[2]), sys.argv[3]
data, exif = io.BytesIO(), Image.Exif()
exif[0x0112] = turn
Image.new(mode, (4000, 3000), (9, 200, 90, 128)[: len(mode)]).save(data, form, exif=exif)
options = {"max_px": 1 << 26, "tile_px": 128, "patch_px": 4, "max_tiles": 4, "crop_share": None, "resample": "bilinear"}

def peak_bytes():
    return 1024 * int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])

decode(data.getvalue()[:0] or (lambda b: (Image.new("RGB", (300, 300)).save(b, form), b.getvalue())[1])(io.BytesIO()),
       options)
Path("/proc/self/clear_refs").write_text("5")
before = peak_bytes()
decode(data.getvalue(), options)
print((peak_bytes() - before) / (4000 * 3000))
"""


@pytest.mark.parametrize(
    ("mode", "turn", "form"),
    [
        ("RGB", 1, "PNG"),
        ("RGB", 6, "PNG"),
        ("RGB", 1, "JPEG"),
        ("RGB", 6, "JPEG"),
        ("RGBA", 1, "PNG"),
        ("RGB", 3, "PNG"),
    ],
)
def test_decoding_holds_the_pixels_once(mode: str, turn: int, form: str) -> None:
    command = [sys.executable, "-c", MEASURE, mode, str(turn), form]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    # Four bytes a pixel are Pillow's own; a second copy of three or four would show.
    assert float(done.stdout) < 5.5
