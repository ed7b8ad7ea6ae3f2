"""Pictures: every legal kind opened alike, everything else refused by an error of ours."""

import io
import logging
import random
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from edge.arrays import U8
from edge.errors import MediaError, MemoryExhausted
from edge.media import image as subject
from edge.media.image import digest, from_array, open_image

CAP = 64_000_000


def pattern(width: int, height: int) -> U8:
    """Return a picture of edges, ramps and fine detail, the same on every machine: (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 7 + y * 13) % 256, (x * x // 16 + y * 3) % 256, ((x ^ y) * 5) % 256], axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes, max_px: int = CAP) -> U8:
    return open_image(data, max_px=max_px)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colours: int, rows: list[bytes], extra: bytes = b"") -> bytes:
    """Write a PNG by hand: what Pillow cannot write, it must still read."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


# --- opening ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("PNG", {"compress_level": 0}), ("PNG", {"interlace": 1})],
)
def test_lossless_formats_are_exact(kind: str, options: dict) -> None:
    rgb = pattern(83, 600)
    assert np.array_equal(opened(encoded(Image.fromarray(rgb), kind, **options)), rgb)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})])
def test_lossy_formats_are_pillows_own(kind: str, options: dict) -> None:
    data = encoded(Image.fromarray(pattern(83, 300)), kind, **options)
    assert np.array_equal(opened(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("size", [(1, 1), (1, 10000), (10000, 1), (3, 3), (2, 257), (513, 2)], ids=str)
@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "WEBP", "GIF"])
def test_odd_sizes_keep_height_and_width_apart(kind: str, size: tuple[int, int]) -> None:
    found = opened(encoded(Image.fromarray(pattern(*size)), kind))
    assert found.shape == (size[1], size[0], 3)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("turn", range(10))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_exif_orientation_is_applied_pixel_by_pixel(kind: str, turn: int, endian: str) -> None:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x0112] = turn
    image = Image.fromarray(pattern(70, 301))
    data = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.array_equal(opened(data), expected)
    assert np.array_equal(from_array(Image.open(io.BytesIO(data)), max_px=CAP), expected)


def test_exif_orientation_may_be_a_long_and_may_be_damaged() -> None:
    rgb = pattern(8, 4)

    def turned(exif: bytes) -> U8:
        rows = [row.tobytes() for row in rgb]
        return opened(png(8, 4, 8, 2, rows, chunk(b"eXIf", exif)))

    entry = struct.pack(">HHII", 0x0112, 4, 1, 3)
    assert np.array_equal(turned(b"MM\0*\0\0\0\x08\0\x01" + entry), rgb[::-1, ::-1])
    for exif in (b"", b"MM", b"MM\0*\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + entry[:7], b"XX" + entry):
        assert np.array_equal(turned(exif), rgb)


WHITE = [255, 255, 255]
HALF = [[128, 128, 128], [127, 127, 127]]  # black at half strength; rounding is the composer's


def row_of(data: bytes) -> list[list[int]]:
    return opened(data)[0].tolist()


def test_alpha_is_laid_on_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        found = row_of(encoded(Image.fromarray(rgba), kind, **options))
        assert found[:2] == [[10, 20, 30], WHITE]
        assert found[2] in HALF
    la = np.array([[[10, 255], [10, 0], [0, 128]]], dtype=np.uint8)
    found = row_of(encoded(Image.fromarray(la), "PNG"))
    assert found[:2] == [[10] * 3, WHITE]
    assert found[2] in HALF


def test_colour_keys_are_laid_on_white() -> None:
    def key(*levels: int) -> bytes:
        return chunk(b"tRNS", struct.pack(f">{len(levels)}H", *levels))

    four = bytes([0b00011011])
    assert row_of(png(4, 1, 2, 0, [four], key(1))) == [[0] * 3, WHITE, [170] * 3, [255] * 3]
    assert row_of(png(2, 1, 4, 0, [b"\x5f"], key(5))) == [WHITE, [255] * 3]
    assert row_of(png(4, 1, 1, 0, [b"\x50"], key(0))) == [WHITE] * 4
    assert row_of(png(2, 1, 8, 0, [b"\x07\x08"], key(7))) == [WHITE, [8] * 3]
    assert row_of(png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], key(1, 2, 3))) == [WHITE, [4, 5, 6]]
    palette = chunk(b"PLTE", bytes(range(12)))
    found = row_of(png(4, 1, 2, 3, [four], palette + chunk(b"tRNS", bytes([255, 0]))))
    assert found == [[0, 1, 2], WHITE, [6, 7, 8], [9, 10, 11]]
    found = row_of(png(4, 1, 2, 3, [four], palette + chunk(b"tRNS", bytes([255, 255, 0, 128]))))
    assert found[2] == WHITE
    assert all(abs(level - (255 + colour) / 2) <= 1 for level, colour in zip(found[3], (9, 10, 11), strict=True))


def test_sixteen_bit_levels_keep_their_high_byte() -> None:
    grey = struct.pack(">3H", 0, 0x1234, 0x80FF)
    assert row_of(png(3, 1, 16, 0, [grey])) == [[0] * 3, [0x12] * 3, [0x80] * 3]
    key = chunk(b"tRNS", struct.pack(">H", 0x1234))
    assert row_of(png(3, 1, 16, 0, [grey], key)) == [[0] * 3, WHITE, [0x80] * 3]
    assert row_of(png(1, 1, 16, 2, [grey])) == [[0, 0x12, 0x80]]
    assert row_of(png(2, 1, 16, 4, [struct.pack(">4H", 0x1234, 0xFFFF, 0x1234, 0)])) == [[0x12] * 3, WHITE]


def test_sixteen_bit_colour_keys_match_both_bytes() -> None:
    key = chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))
    row = struct.pack(">9H", 0x1234, 0x5678, 0x9ABC, 0x1234, 0x5678, 0x9ABD, 0x1134, 0x5678, 0x9ABC)
    assert row_of(png(3, 1, 16, 2, [row], key)) == [WHITE, [0x12, 0x56, 0x9A], [0x11, 0x56, 0x9A]]
    rows = [row[6 * (i % 3) :] + row[: 6 * (i % 3)] for i in range(600)]
    found = opened(png(3, 600, 16, 2, rows, key))
    assert [(found[i, (3 - i % 3) % 3] == 255).all() for i in range(600)] == [True] * 600
    assert (found == 255).all(axis=2).sum() == 600


def bmp(bits: int, masks: tuple[int, ...], rows: list[list[int]], n_header: int = 124, packing: int = 3) -> bytes:
    """Write a BMP of bit fields by hand, its last row first."""
    masked = struct.pack(f"<{len(masks)}I", *masks)
    size = (len(rows[0]), len(rows))
    header = struct.pack("<IiiHHIIiiII", n_header, *size, 1, bits, packing, 0, 0, 0, 0, 0)
    header = (header + masked).ljust(max(n_header, 40 + len(masked)), b"\0")
    kind = {16: "H", 32: "I"}[bits]
    stored = [struct.pack(f"<{len(row)}{kind}", *row) for row in rows[::-1]]
    body = b"".join(row + bytes(-len(row) % 4) for row in stored)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(body), 0, 0, 14 + len(header)) + header + body


@pytest.mark.parametrize(
    ("bits", "masks", "row", "colours"),
    [
        (16, (0xF00, 0xF0, 0xF, 0xF000), [0xF123, 0x0FFF, 0xFF0F], [[17, 34, 51], WHITE, [255, 0, 255]]),
        (16, (0xF800, 0x7E0, 0x1F), [0xF800, 0x07E0, 0x8410], [[255, 0, 0], [0, 255, 0], [131, 129, 131]]),
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000), [0xFC00, 0x7C00, 0x801F], [[255, 0, 0], WHITE, [0, 0, 255]]),
        (16, (0x7C00, 0x3E0, 0x1F), [0x7C00, 0x3E0, 0x1F], [[255, 0, 0], [0, 255, 0], [0, 0, 255]]),
        (32, (0x3FF00000, 0xFFC00, 0x3FF), [0x3FF00000, 0xFFC00, 0x200], [[255, 0, 0], [0, 255, 0], [0, 0, 127]]),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), [0xFF030201, 0x30201, 0xFF0000FF], [[1, 2, 3], WHITE, [255, 0, 0]]),
        (32, (0, 0, 0, 0), [0x010203, 0xFF0000, 0], [[1, 2, 3], [255, 0, 0], [0, 0, 0]]),
        (32, (0xFF0000, 0, 0, 0), [0xFF0000, 0xFFFF, 0x800000], [[255, 0, 0], [0, 0, 0], [128, 0, 0]]),
    ],
)  # fmt: skip
def test_bmp_of_any_bit_fields_is_shown(bits: int, masks: tuple, row: list[int], colours: list) -> None:
    assert row_of(bmp(bits, masks, [row])) == colours
    found = opened(bmp(bits, masks, [row, row[::-1]])).tolist()
    assert found == [colours, colours[::-1]]


def test_an_alpha_of_zero_everywhere_is_none() -> None:
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    assert row_of(bmp(32, masks, [[0x010203, 0xFF0000]])) == [[1, 2, 3], [255, 0, 0]]
    rows = [[0x010203, 0xFF0000]] * 700
    assert (opened(bmp(32, masks, rows)) == [[1, 2, 3], [255, 0, 0]]).all()
    found = opened(bmp(32, masks, [*rows, [0xFF010203, 0]]))
    assert (found[:700] == 255).all()
    assert found[700].tolist() == [[1, 2, 3], WHITE]


@pytest.mark.parametrize("n_header", [40, 52, 56, 108])
def test_bit_fields_are_found_behind_every_header(n_header: int) -> None:
    masks = (0xF800, 0x7E0, 0x1F, 0)[: 3 if n_header < 56 else 4]
    assert row_of(bmp(16, masks, [[0xF800, 0x7E0]], n_header)) == [[255, 0, 0], [0, 255, 0]]


def test_a_bmp_of_bit_fields_is_counted_and_may_be_cut_off() -> None:
    data = bmp(32, (0xFF0000, 0xFF00, 0xFF), [[1, 2], [3, 4]])
    with pytest.raises(MediaError, match="expected at most 3 pixels, got 2 x 2 = 4"):
        opened(data, max_px=3)
    for n_bytes in range(18, len(data)):
        with pytest.raises(MediaError, match="the BMP data is damaged or cut off"):
            opened(data[:n_bytes])


def test_variants_that_are_not_supported_are_not_called_damaged() -> None:
    whole = encoded(Image.fromarray(pattern(40, 30)), "JPEG")
    frame = whole.index(b"\xff\xc0")
    for at, value, name in (
        (1, 0xC3, "lossless JPEG"), (1, 0xC5, "hierarchical JPEG"), (1, 0xCB, "lossless arithmetic-coded JPEG"),
        (4, 12, "JPEG of 12 bits a level"), (9, 2, "JPEG of 2 components"),
    ):  # fmt: skip
        data = bytearray(whole)
        data[frame + at] = value
        assert refusal(bytes(data)) == f"image: {name} is not supported: save it as baseline JPEG or as PNG"
    whole_png = encoded(Image.fromarray(pattern(4, 3)), "PNG")
    apple = whole_png[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + whole_png[8:].replace(b"IDAT\x78", b"IDAT\x79")
    assert refusal(apple).startswith("image: Apple's CgBI variant of PNG is not supported")
    row = [[1, 2, 3]]
    for data, name in (
        (bmp(32, (), row, 40, 4), "BMP with a JPEG inside"), (bmp(32, (), row, 40, 13), "CMYK BMP"),
        (bmp(32, (), row, 16, 0), "BMP with a header of 16 bytes"),
        (bmp(32, (), row, 40, 0).replace(b"\x20\0\0\0\0\0", b"\x40\0\0\0\0\0", 1), "BMP of 64 bits a pixel"),
    ):  # fmt: skip
        assert refusal(data).startswith(f"image: {name} is not supported: save it as")


def refusal(data: bytes) -> str:
    with pytest.raises(MediaError) as caught:
        opened(data)
    return str(caught.value)


def test_one_bit_images_are_black_and_white() -> None:
    assert row_of(encoded(Image.fromarray(np.array([[True, False]])), "PNG")) == [WHITE, [0] * 3]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGBA", "LA", "PA", "RGBX", "I", "F", "I;16", "HSV"])
def test_pil_images_of_every_mode_are_taken(mode: str) -> None:
    image = Image.new(mode, (3, 2))
    found = from_array(image, max_px=CAP)
    assert found.shape == (2, 3, 3)


def test_cmyk_jpeg_is_converted() -> None:
    found = opened(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_only_the_first_frame_of_an_animation_is_read(kind: str, options: dict) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)
    assert np.array_equal(opened(data), np.asarray(frames[0]))


def test_a_transparent_gif_is_laid_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9, 50, 60, 70])
    image.putpixel((1, 0), 1)
    assert row_of(encoded(image, "GIF", transparency=0)) == [WHITE, [50, 60, 70]]


# --- refusing -----------------------------------------------------------------------------------------------------


REFUSED_AS = {
    "AVIF": "AVIF is not supported: save it as JPEG or PNG; expected JPEG, PNG",
    "DDS": "DDS is not supported",
    "EPS": "EPS is not supported: turn it into a PDF",
    "ICNS": "ICNS is not supported: save it as PNG",
    "ICO": "ICO is not supported: save it as PNG",
    "JPEG2000": "JPEG 2000 is not supported",
    "PCX": "PCX is not supported",
    "PDF": "this is a PDF: send it as pdf_url",
    "PPM": "PNM is not supported: save it as PNG",
    "QOI": "QOI is not supported",
    "SGI": "SGI image is not supported",
    "TIFF": "TIFF is not supported: save it as JPEG or PNG",
    "XBM": "XBM is not supported",
}


@pytest.mark.parametrize(
    "kind",
    ["AVIF", "DDS", "DIB", "EPS", "ICNS", "ICO", "JPEG2000", "MSP", "PALM", "PCX", "PDF", "PPM", "QOI", "SGI",
     "SPIDER", "TGA", "TIFF", "XBM"],
)  # fmt: skip
def test_every_other_format_is_refused(kind: str) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    data = encoded(Image.new("1" if kind in ("MSP", "PALM", "XBM") else "RGB", (64, 64)), kind)
    with pytest.raises(MediaError) as caught:
        opened(data)
    assert str(caught.value).startswith(f"image: {REFUSED_AS[kind]}" if kind in REFUSED_AS else "image: expected JPEG")


def test_the_first_image_of_an_mpo_file_is_read_as_the_jpeg_it_is() -> None:
    second = Image.new("RGB", (16, 16), "red")
    data = encoded(Image.new("RGB", (16, 16), "blue"), "MPO", save_all=True, append_images=[second])
    assert opened(data)[0, 0, 2] > 200


@pytest.mark.parametrize("data", [b"", b"x", b"BM", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"<svg></svg>"])
def test_what_is_no_image_is_a_media_error(data: bytes) -> None:
    with pytest.raises(MediaError):
        opened(data)


ENCODINGS = [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("GIF", {}),
    ("BMP", {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), ENCODINGS)
def test_a_cut_off_file_is_a_clear_error_at_every_length(kind: str, options: dict) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind, **options)
    for length in {len(data) * cut // 50 for cut in range(50)} | {len(data) - len(data) // 10}:
        with pytest.raises(MediaError) as caught:
            opened(data[:length])
        assert_ours(str(caught.value))


def assert_ours(message: str) -> None:
    """Check that a message holds none of what a decoder or Python says."""
    assert re.fullmatch(
        r"image: (the \w+ data is damaged or cut off|[\w' -]+ is not supported: .*|this is .*|"
        r"expected .* got (something else|no data|.* x .*|\d+))",
        message,
    ), message


@pytest.mark.parametrize(("kind", "options"), ENCODINGS)
def test_damaged_files_give_a_image_or_a_media_error(kind: str, options: dict) -> None:
    rng = random.Random(5)
    data = encoded(Image.fromarray(pattern(40, 30)), kind, **options)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            damaged[rng.randrange(2, min(len(damaged), rng.choice([60, 10**9])))] = rng.randrange(256)
        try:
            assert open_image(bytes(damaged), max_px=10_000).shape[2] == 3
        except MediaError as error:
            assert_ours(str(error))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "WEBP", "GIF"])
def test_the_pixel_cap_holds_at_its_limit(kind: str) -> None:
    data = encoded(Image.new("RGB", (30, 20)), kind)
    for max_px in (600, 601):
        assert opened(data, max_px).shape == (20, 30, 3)
    with pytest.raises(MediaError) as caught:
        opened(data, 599)
    assert str(caught.value) == "image: expected at most 599 pixels, got 30 x 20 = 600"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def bombs() -> dict[str, bytes]:
    small = Image.new("RGB", (16, 16))
    jpeg = bytearray(encoded(small, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    gif = bytearray(encoded(small, "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    bmp = bytearray(encoded(small, "BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    webp = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (16382).to_bytes(3, "little") * 2
    webp += encoded(small, "WEBP")[12:]
    return {
        "png": png(32000, 32000, 8, 2, [b"\0" * 96]),
        "jpeg": bytes(jpeg),
        "gif": bytes(gif),
        "bmp": bytes(bmp),
        "webp": b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp,
        "gif frame": bytes(gif[:6])
        + struct.pack("<HH", 16, 16)
        + bytes(gif[10:]).replace(b",\0\0\0\0\x10\0\x10\0", b",\0\0\0\0\xff\xff\xff\xff"),
    }


@pytest.mark.parametrize("kind", bombs())
def test_a_bomb_is_refused_by_its_header(kind: str) -> None:
    data = bombs()[kind]
    before = resident_bytes()
    with pytest.raises(MediaError, match=r"expected at most 64000000 pixels, got \d") as caught:
        opened(data)
    assert_ours(str(caught.value))
    assert resident_bytes() - before < 16 << 20


def test_compressed_texts_and_profiles_are_not_unpacked() -> None:
    rgb = pattern(4, 4)
    text = zlib.compress(b"x" * (1 << 20))
    extra = chunk(b"zTXt", b"k\0\0" + text) * 60 + chunk(b"iCCP", b"p\0\0" + text)
    before = resident_bytes()
    assert np.array_equal(opened(png(4, 4, 8, 2, [row.tobytes() for row in rgb], extra)), rgb)
    assert resident_bytes() - before < 16 << 20


def test_what_the_decoder_says_goes_to_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    data = encoded(Image.fromarray(pattern(40, 30)), "PNG")[:-40]
    with caplog.at_level(logging.DEBUG, "edge"), pytest.raises(MediaError):
        opened(data)
    assert any(record.exc_info for record in caplog.records)


def test_running_out_of_memory_is_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image, *, is_spare: bool) -> None:
        raise MemoryError

    monkeypatch.setattr(subject, "upright", fail)
    with pytest.raises(MemoryExhausted):
        opened(encoded(Image.new("RGB", (2, 2)), "PNG"))
    with pytest.raises(MemoryExhausted):
        from_array(Image.new("RGB", (2, 2)), max_px=CAP)


# --- arrays and digests -------------------------------------------------------------------------------------------


def test_an_array_is_copied() -> None:
    rgb = pattern(5, 4)
    taken = from_array(rgb[:, ::-1], max_px=20)
    assert np.array_equal(taken, rgb[:, ::-1])
    assert taken.flags.c_contiguous
    assert not np.shares_memory(from_array(rgb, max_px=20), rgb)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\) of uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\) of uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"shape \(3, 4, 4\) of uint8"),
        (np.zeros((4, 4, 3), np.float32), r"shape \(4, 4, 3\) of float32"),
        (np.zeros((0, 4, 3), np.uint8), "4 x 0"),
        (Image.new("RGB", (0, 4)), "0 x 4"),
        ([[1, 2, 3]], "list"),
        (None, "NoneType"),
        (np.zeros((5, 5, 3), np.uint8), "at most 24 pixels, got 5 x 5 = 25"),
        (Image.new("RGB", (5, 5)), "at most 24 pixels, got 5 x 5 = 25"),
    ],
)
def test_arrays_that_are_no_image_are_refused(value: U8, got: str) -> None:
    with pytest.raises(MediaError, match=got):
        from_array(value, max_px=24)


def test_a_pil_image_that_cannot_be_decoded_is_refused() -> None:
    image = Image.open(io.BytesIO(encoded(Image.fromarray(pattern(400, 300)), "PNG")[:-400]))
    with pytest.raises(MediaError, match="cannot be read as RGB"):
        from_array(image, max_px=CAP)


def test_digests_tell_images_of_other_shapes_and_pixels_apart() -> None:
    flat = np.zeros((4, 6, 3), np.uint8)
    dotted = flat.copy()
    dotted[3, 5, 2] = 1
    found = {digest(flat), digest(flat.reshape(6, 4, 3)), digest(flat.reshape(2, 12, 3)), digest(dotted)}
    assert len(found) == 4
    assert digest(dotted) == digest(dotted.copy())
    assert digest(pattern(6, 4)[:, ::-1]) == digest(np.ascontiguousarray(pattern(6, 4)[:, ::-1]))
