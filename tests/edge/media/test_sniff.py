"""What data is, told by its first bytes, and what is said of what is not supported or sent in the wrong place."""

import base64
import io
import struct
import zipfile

import pytest

from edge.errors import MediaError
from edge.limits import Limits
from edge.media.audio import open_audio
from edge.media.formats import BRANDS, FORMATS, KINDS, MAGIC, MARKUP, TIFF_MAKES, ZIP_MEMBERS, named
from edge.media.sniff import expect, is_text, sniff
from edge.media.variants import unsupported


def name_of(data: bytes) -> str | None:
    found = sniff(data)
    return None if found is None else found.name


def refused(kind: str, data: bytes) -> str:
    with pytest.raises(MediaError) as caught:
        expect(kind, data)
    return str(caught.value)


def ftyp(brand: bytes, *compatible: bytes) -> bytes:
    box = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", len(box) + 4) + box + bytes(100)


def ogg(*packets: bytes) -> bytes:
    pages = [b"OggS\0\2" + bytes(20) + bytes((1, len(packet))) + packet for packet in packets]
    return b"".join(pages) + bytes(100)


def zipped(member: str, data: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, data)
    return file.getvalue()


def tiff(order: str, *tags: int, make: bytes = b"") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = [struct.pack(order + "HHII", tag, 3, 1, 0) for tag in tags]
    at = 8 + 2 + 12 * (len(entries) + 1) + 4
    entries.append(struct.pack(order + "HHII", 0x10F, 2, len(make), at))
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return mark + struct.pack(order + "I", 8) + directory + make + bytes(100)


MPEG_FRAME = b"\xff\xfb\x90\xc4" + bytes(413)  # 128 kbit/s at 44.1 kHz


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\xd8\xff\xe0" + bytes(100), "JPEG"),
        (b"\xff\xd8\xff\xf7" + bytes(100), "JPEG-LS"),
        (b"BM" + bytes(12) + struct.pack("<I", 124) + bytes(100), "BMP"),
        (b"RIFF\0\0\0\0WEBP" + bytes(100), "WebP"),
        (b"RIFF\0\0\0\0RMID" + bytes(100), "MIDI"),
        (b"RF64\xff\xff\xff\xffWAVE" + bytes(100), "RF64"),
        (ftyp(b"isom", b"iso2", b"avc1"), "MP4"),
        (ftyp(b"M4A ", b"isom"), "M4A"),
        (ftyp(b"qt  "), "MOV"),
        (ftyp(b"3gp4"), "3GP"),
        (ftyp(b"mif1", b"mif1", b"heic"), "HEIC"),
        (ftyp(b"mif1", b"mif1", b"avif"), "AVIF"),
        (ftyp(b"mif1", b"miaf"), "HEIF"),
        (ftyp(b"crx "), "camera raw (CR3)"),
        (b"\0\0\0\x08wide\0\0\1\0mdat" + bytes(100), "MOV"),
        (b"\x1aE\xdf\xa3\x9f\x42\x82\x84webm" + bytes(100), "WebM"),
        (b"\x1aE\xdf\xa3\xa3\x42\x82\x88matroska" + bytes(100), "Matroska"),
        (ogg(b"OpusHead\1\2"), "OGG"),
        (ogg(b"\x01vorbis"), "OGG"),
        (ogg(b"\x7fFLAC\1\0"), "Ogg FLAC"),
        (ogg(b"Speex   1.2"), "Ogg Speex"),
        (ogg(b"\x01vorbis", b"\x80theora"), "Ogg Theora"),
        (ogg(b"fishead\0", b"OpusHead\1\2"), "OGG"),
        (zipped("word/document.xml"), "DOCX"),
        (zipped("xl/workbook.xml"), "XLSX"),
        (zipped("ppt/presentation.xml"), "PPTX"),
        (zipped("mimetype", b"application/vnd.oasis.opendocument.text"), "ODT"),
        (zipped("notes.txt"), "ZIP"),
        (tiff("<", 0x100, make=b"NIKON CORPORATION"), "TIFF"),
        (tiff(">", 0x14A, 0x103, make=b"NIKON CORPORATION"), "camera raw (NEF)"),
        (tiff("<", 0x14A, 0x103, make=b"SONY\0"), "camera raw (ARW)"),
        (tiff("<", 0xC612, make=b"Google"), "camera raw (DNG)"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "camera raw (CR2)"),
        (b"II*\0\xff\xff\xff\xff", "TIFF"),
        (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(100), "ICO"),
        (b"\0\0\2\0\1\0\x10\x10\0\0\1\0\1\0" + bytes(100), "CUR"),
        ((b"\x47" + bytes(187)) * 5, "MPEG-TS"),
        ((bytes(4) + b"\x47" + bytes(187)) * 5, "MPEG-TS"),
        (b"\xff\xf1\x50\x80" + bytes(100), "AAC"),
        (b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xf1\x50\x80" + bytes(100), "AAC"),
        (b"ID3\4\0\0\0\6\0\0" + bytes(6 << 14) + b"\xff\xf1\x50\x80" + bytes(100), "AAC"),
        (b"ID3\4\0\0\0\6\0\0" + bytes(6 << 14) + MPEG_FRAME, "MP3"),
        (MPEG_FRAME * 2, "MP3"),
        (b"\xff\xfd\x84\xc4" + bytes(400), "MP2"),
        (b"\xff\xff\x94\xc4" + bytes(400), "MP2"),
        (bytes(3000) + MPEG_FRAME * 4, "MP3"),
        (b"\x12\xff\x34" * 50 + MPEG_FRAME * 4, "MP3"),
        (bytes(128) + b"%PDF-1.4\n" + bytes(100), "PDF"),
        (b"HTTP/1.1 200 OK\r\n\r\n%PDF-1.4\n%%EOF\n" + b" " * 100, "PDF"),
        (b'<?xml version="1.0"?>\n<!-- drawn by hand -->\n<svg xmlns="x" width="10" height="10"/>' + b" " * 64, "SVG"),
        (b"<svg viewBox='0 0 1 1'/>", "SVG"),
        (b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>not found</body></html>", "HTML"),
        (b'{"error": {"message": "not found"}}', "JSON"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "an M3U playlist"),
        (b'<?xml version="1.0"?><MPD></MPD>', "a DASH manifest"),
        (b"#!AMR\n" + bytes(100), "AMR"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%Creator: by hand\n", "EPS"),
        (b"P3\n1 1\n255\n0 0 0\n", "PNM"),
        (b"version https:" + b"//git-lfs.example/spec/v1\noid sha256:00\nsize 3\n", "a Git LFS pointer"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)), "base64 text"),
        (b"data:image/png;base64,iVBORw0KGgo", "base64 text"),
        ("schöner Text ".encode() * 200, "text"),
        ("UTF-16 text".encode("utf-16"), "text"),
        (bytes(100), None),
        (b"", None),
    ],
)
def test_formats_are_told_by_their_first_bytes(data: bytes, name: str | None) -> None:
    assert name_of(data) == name


@pytest.mark.parametrize(("offset", "magic", "name"), MAGIC)
def test_every_magic_tells_its_format(offset: int, magic: bytes, name: str) -> None:
    assert name_of(bytes(offset) + magic + bytes(200)) == name


def test_every_name_is_of_a_format() -> None:
    listed = [name for *_, name in (*MAGIC, *MARKUP, *ZIP_MEMBERS, *TIFF_MAKES)]
    for name in (*listed, *BRANDS.values()):
        assert set(named(name).kinds) <= set(KINDS)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("image", ftyp(b"heic"), "image: HEIC is not supported: save it as JPEG; expected JPEG, PNG"),
        ("audio", b"#!AMR\n" + bytes(100), "audio: AMR is not supported: ffmpeg -i FILE out.wav; expected WAV"),
        ("video", b"FLV\1" + bytes(100), "video: FLV is not supported: ffmpeg -i FILE out.mp4; expected MP4"),
        ("audio", b"FLV\1" + bytes(100), "audio: FLV is not supported: ffmpeg -i FILE out.wav; expected WAV"),
        ("image", zipped("ppt/x"), "image: PPTX is not supported: save or print it as PDF, and send it as pdf_url"),
        ("pdf", zipped("notes.txt"), "pdf: expected a PDF, got ZIP: unpack it, and send the files in it"),
        ("pdf", zipped("word/document.xml"), "pdf: DOCX is not supported: save or print it as PDF; expected a PDF"),
        ("image", b"%PDF-1.4\n", "image: this is a PDF: send it as pdf_url"),
        ("pdf", b"\x89PNG\r\n\x1a\n" + bytes(9), "pdf: this is a PNG image: send it as image_url"),
        ("video", MPEG_FRAME * 2, "video: this is an MP3 audio file: send it as audio_url"),
        ("audio", b"GIF89a" + bytes(9), "audio: this is a GIF image: send it as image_url or video_url"),
        ("image", ftyp(b"isom"), "image: this is an MP4 video: send it as video_url or audio_url"),
        ("image", b"", "image: expected JPEG, PNG, WebP, GIF or BMP, got no data"),
        ("image", bytes(50), "image: expected JPEG, PNG, WebP, GIF or BMP, got something else"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_it_is_and_what_to_do(kind: str, data: bytes, message: str) -> None:
    assert refused(kind, data).startswith(message)


@pytest.mark.parametrize("kind", KINDS)
def test_every_refusal_says_what_is_expected_and_never_that_it_is_damaged(kind: str) -> None:
    for offset, magic, _ in MAGIC:
        data = bytes(offset) + magic + bytes(200)
        if (found := sniff(data)) is not None and found.is_supported and kind in found.kinds:
            continue
        message = refused(kind, data)
        assert FORMATS[kind] in message
        assert "damaged" not in message


@pytest.mark.parametrize("data", [b"BMW and MZ are names", "\ufeffä".encode(), "ä".encode("utf-16"), b"<svg/>", b""])
def test_text_is_no_media_however_it_begins(data: bytes) -> None:
    assert is_text(data)


@pytest.mark.parametrize("data", [b"%PDF-1.4\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"\xe4\xf6\xfc"])
def test_media_is_no_text(data: bytes) -> None:
    assert not is_text(data)


def wav(codec: int) -> bytes:
    head = struct.pack("<HHIIHH", codec, 1, 8000, 8000, 1, 8)
    return b"RIFF\0\1\0\0WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", 64) + bytes(64)


@pytest.mark.parametrize(("codec", "name"), [(0x65, "G.722"), (0x50, "MPEG layer I or II"), (0x1234, "codec 0x1234")])
def test_wav_of_a_codec_that_is_not_supported_is_not_called_damaged(codec: int, name: str) -> None:
    with pytest.raises(MediaError) as caught:
        open_audio(wav(codec), Limits().audio)
    assert str(caught.value) == f"audio: WAV of {name} is not supported: ffmpeg -i FILE out.wav"


@pytest.mark.parametrize("packing", [b"\0\0\0\0", b"\3\0\0\0", b"I420", b"YUY2"])
def test_avi_that_is_not_compressed_is_not_called_damaged(packing: bytes) -> None:
    assert unsupported("AVI", b"RIFF\0\0\0\0AVI strf\x28\0\0\0" + bytes(16) + packing) == (
        "uncompressed AVI is not supported: ffmpeg -i FILE out.mp4"
    )
    assert unsupported("AVI", b"RIFF\0\0\0\0AVI strf\x28\0\0\0" + bytes(16) + b"H264") is None
