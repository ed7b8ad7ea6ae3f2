"""What can be heard is heard, at its time, in every format alike; what is lost is said."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import struct
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from edge.errors import MediaError
from edge.limits import AudioLimits
from edge.media import audio, flac, mp3, ogg, opus
from edge.media.audio import from_samples, open_audio
from edge.media.wav import with_sizes
from tests.edge.media.tones import CONTAINERS, RATE_HZ, SUBTYPES, contained, file, noise, tone

F32 = npt.NDArray[np.float32]

LIMITS = AudioLimits()
OPTIONS = {"seconds": 600, "pcm_bytes": 64 << 20, "channels": 8}
COMPRESSED = [name for name in SUBTYPES if name != "wav"]
TAG = b"ID3\x04\0\0\0\0\1\0" + bytes(128)
OLD_TAG = b"TAG" + b"title".ljust(125, b"\0")
JUNK = bytes(np.random.default_rng(1).integers(0, 255, 700, np.uint8))  # never 0xFF


def made(name: str, seconds: float = 3) -> bytes:
    if name in SUBTYPES:
        return file(tone(seconds) + noise(seconds), name)
    rate_hz = 48_000
    return contained(tone(seconds, rate_hz=rate_hz) + noise(seconds, rate_hz=rate_hz), name)


def spoiled(data: bytes, at: int, n_bytes: int = 40) -> bytes:
    return data[:at] + b"\x5a" * n_bytes + data[at + n_bytes :]


def decoded(data: bytes, *, is_lossless: bool = False) -> tuple[F32, str]:
    """What is heard, and what is said to be lost."""
    found = audio.decode(data, OPTIONS)
    return np.asarray(found.arrays[0], np.float32), str(found.info.get("lost", ""))


def tones(samples: F32, *, window_s: float = 0.25) -> list[bool]:
    """Whether anything sounds, window by window."""
    size = round(window_s * RATE_HZ)
    return [bool(np.sqrt(np.mean(samples[i : i + size] ** 2)) > 0.01) for i in range(0, len(samples) - size // 2, size)]


# --- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*COMPRESSED, "aac", "m4a"])
def test_a_damaged_packet_costs_that_packet_and_is_told(name: str) -> None:
    data = made(name)
    at = data.index(b"mdat") + len(data) // 2 if name == "m4a" else len(data) * 2 // 3
    samples, lost = decoded(spoiled(data, at, 300 if name == "m4a" else 40))
    assert len(samples) / RATE_HZ == pytest.approx(3, abs=0.15)
    assert sum(not audio_files for audio_files in tones(samples)) <= (
        2 if name == "flac" else 1
    )  # of FLAC: 4 096 samples
    # libmpg123 decodes whatever has the head of a frame, and the bytes after it until there is the next head.
    assert lost or name == "mp3"


@pytest.mark.parametrize("name", COMPRESSED)
def test_what_is_cut_off_is_decoded_to_where_it_was_cut(name: str) -> None:
    data = made(name, 6)
    samples, lost = decoded(data[: len(data) * 3 // 4])
    assert 4.0 < len(samples) / RATE_HZ < 4.8 and all(tones(samples)[:-1])
    assert lost


@pytest.mark.parametrize("name", [*SUBTYPES, *CONTAINERS])
def test_nothing_is_said_to_be_lost_of_what_is_whole(name: str) -> None:
    samples, lost = decoded(made(name))
    assert not lost and len(samples) / RATE_HZ == pytest.approx(3, abs=0.15)


def test_a_program_reads_in_the_log_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    data = made("flac")
    with caplog.at_level(logging.WARNING, "edge"):
        open_audio(spoiled(data, len(data) // 2), LIMITS)
    assert re.search(r"audio: \d+ samples of FLAC cannot be decoded", caplog.text)


def test_flac_with_many_damaged_frames_keeps_its_time() -> None:
    data = made("flac", 8)
    for tenth in (2, 4, 6, 8):
        data = spoiled(data, len(data) * tenth // 10)
    samples, lost = decoded(data)
    assert len(samples) == 8 * RATE_HZ
    assert re.fullmatch(r"(16384|20480|24576|28672|32768) samples of FLAC cannot be decoded", lost)
    whole = open_audio(made("flac", 8), LIMITS)
    assert sum(np.array_equal(a, b) for a, b in zip(np.split(samples, 125), np.split(whole, 125), strict=True)) > 100


def test_a_stream_of_which_nothing_can_be_decoded_is_damaged() -> None:
    for name in ("aac", "flac", "opus"):
        data = made(name, 0.5)
        with pytest.raises(MediaError, match="damaged or cut off|at least one sample"):
            open_audio(data[:60] + b"\x5a" * (len(data) - 60), LIMITS)


# --- joined -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mp3", "opus", "ogg", "aac"])
def test_files_that_are_joined_are_decoded_one_after_the_other(name: str) -> None:
    samples, lost = decoded(made(name, 2) + made(name, 1) + made(name, 1))
    assert len(samples) / RATE_HZ == pytest.approx(4, abs=0.2) and all(tones(samples)[:-1])
    assert not lost


@pytest.mark.parametrize("name", ["mp3", "ogg"])
def test_joined_files_may_differ_in_rate_and_channels(name: str) -> None:
    wide = np.repeat(tone(1, rate_hz=44_100)[:, None], 2, axis=1)
    data = file(tone(1), name) + file(wide, name, rate_hz=44_100) + file(tone(1), name)
    samples, _ = decoded(data)
    assert len(samples) / RATE_HZ == pytest.approx(3, abs=0.15) and all(tones(samples)[:-1])


@pytest.mark.parametrize("name", ["mp3", "opus"])
def test_joined_files_are_counted_together(name: str) -> None:
    with pytest.raises(MediaError, match="at most 5 s"):
        open_audio(made(name, 3) * 2, AudioLimits(seconds=5))


@pytest.mark.parametrize(
    ("between", "is_lost"),
    [(b"", False), (bytes(5000), False), (TAG, False), (OLD_TAG, False), (OLD_TAG + bytes(30) + TAG, False),
     (b"APETAGEX" + struct.pack("<4I", 2000, 64, 1, 0xA0000000) + bytes(8) + JUNK[:64], False),
     (JUNK, True), (b"\xff\xfb\x90" * 50, True)],
)  # fmt: skip
def test_anything_may_be_before_between_and_after_mp3s(between: bytes, is_lost: bool) -> None:
    one = made("mp3", 1)
    samples, lost = decoded((between if len(between) != len(JUNK) else b"") + one + between + one + between)
    assert len(samples) / RATE_HZ == pytest.approx(2, abs=0.1) and all(tones(samples)[:-1])
    assert bool(lost) == is_lost


def test_junk_within_an_mp3_is_passed_over() -> None:
    data = made("mp3", 4)
    ends = [match.start() for match in re.finditer(re.escape(data[:2]), data)]
    at = ends[len(ends) // 2]
    samples, lost = decoded(data[:at] + JUNK + data[at:])
    assert len(samples) / RATE_HZ == pytest.approx(4, abs=0.15)
    assert lost == f"{len(JUNK)} bytes are no frames of MP3"


@pytest.mark.parametrize("n_bytes", [1, 13, 100, 300])
def test_mp3_that_begins_within_a_frame_is_decoded(n_bytes: int) -> None:
    samples, _ = decoded(made("mp3", 3)[n_bytes:])
    assert len(samples) / RATE_HZ == pytest.approx(3, abs=0.15)


def test_mp3_of_what_only_looks_like_frames_ends() -> None:
    assert len(mp3.recordings(b"\xff\xfb\x90" * (1 << 20), 600).recordings) == 1


# --- Ogg ----------------------------------------------------------------------------------------------------------


def crc(page: bytes) -> int:
    rest = 0
    for byte in page:
        rest ^= byte << 24
        for _ in range(8):
            rest = (rest << 1 ^ 0x04C11DB7 if rest >> 31 else rest << 1) & 0xFFFFFFFF
    return rest


def page(packet: bytes, number: int, *, samples: int = 0, flags: int = 0) -> bytes:
    sizes = bytes([255]) * (len(packet) // 255) + bytes([len(packet) % 255])
    bare = b"OggS\0" + struct.pack("<BqIIIB", flags, samples, 7, number, 0, len(sizes)) + sizes + packet
    return bare[:22] + struct.pack("<I", crc(bare)) + bare[26:]


def flac_in_ogg(data: bytes) -> bytes:
    """FLAC without metadata but its first block, a frame a page."""
    place, starts = flac.Place(0, -1), []
    while (place := flac.next_frame(data, behind=place)) is not None:
        starts.append(place)
    pages = [page(b"\x7fFLAC\1\0\0\1" + data[:42], 0, flags=2), page(b"\x84\0\0\x08" + bytes(8), 1)]
    for number, (start, end) in enumerate(pairwise([*starts, flac.Place(len(data), flac.n_samples(data))])):
        pages.append(page(data[start.at : end.at], number + 2, samples=end.sample))
    return b"".join(pages)


def test_flac_in_ogg_is_decoded() -> None:
    native = made("flac", 2)
    samples, lost = decoded(flac_in_ogg(native))
    assert np.array_equal(samples, open_audio(native, LIMITS)) and not lost


@pytest.mark.parametrize("name", ["ogg", "opus"])
def test_pages_come_through_as_they_are(name: str) -> None:
    data = made(name, 2)
    [link] = ogg.links(data)
    assert link.data == data and link.n_damaged == 0


def test_packets_of_opus_are_as_long_as_their_first_byte_says() -> None:
    packets = list(ogg.links(made("opus", 2))[0].packets())[2:]
    assert sum(opus.length_ms(packet) or 0 for packet in packets) == pytest.approx(2000, abs=40)
    for head in (b"\x48", b"\x49", b"\x4a\x05", b"\x4b\x02", b"\x4b\x82\x05"):
        packet = head + bytes(10)
        assert opus.length_ms(opus.silent(packet)) == opus.length_ms(packet)
    for packet in (b"", b"\x49\0", b"\x4a", b"\x4a\xff", b"\x4b", b"\x4b\0", b"\x4b\x3f", b"\x4b\x83\xfb\xff"):
        assert opus.length_ms(packet) is None


# --- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["webm", "mkv", "m4a"])
def test_a_pause_is_silence(name: str) -> None:
    samples, lost = decoded(contained(tone(2, rate_hz=48_000), name, pause=(1.0, 3.0)))
    assert len(samples) / RATE_HZ == pytest.approx(5, abs=0.1) and not lost
    found = tones(samples, window_s=0.5)
    assert all(found[:2]) and not any(found[3:7]) and all(found[8:10])


@pytest.mark.parametrize("name", ["mkv", "m4a"])
def test_a_track_that_begins_late_begins_late(name: str) -> None:
    samples, _ = decoded(contained(tone(2, rate_hz=48_000), name, start_s=3.0, image=True))
    assert len(samples) / RATE_HZ == pytest.approx(5, abs=0.1)
    found = tones(samples, window_s=0.5)
    assert not any(found[:5]) and all(found[6:10])


def test_pauses_are_counted_against_the_limits() -> None:
    data = contained(tone(2, rate_hz=48_000), "mkv", pause=(1.0, 30_000.0))
    with pytest.raises(MediaError, match="at most 600 s"):
        open_audio(data, LIMITS)


# --- channels -----------------------------------------------------------------------------------------------------


def test_an_inverted_channel_does_not_silence_the_other() -> None:
    left = tone(2) + noise(2)
    samples = from_samples(np.stack([left, -left], axis=1), RATE_HZ, LIMITS)
    assert np.abs(samples - left).max() < 1e-6


def test_a_channel_that_is_inverted_for_a_while_is_decoded_all_the_while() -> None:
    left = tone(4)
    right = np.concatenate([left[: 2 * RATE_HZ], -left[2 * RATE_HZ :]])
    samples = from_samples(np.stack([left, right], axis=1), RATE_HZ, LIMITS)
    assert all(tones(samples)) and np.abs(samples).max() < 0.6


@pytest.mark.parametrize("other", [np.zeros(2 * RATE_HZ, np.float32), noise(2, seed=3), tone(2, hz=700), tone(2)])
def test_other_channels_are_averaged(other: F32) -> None:
    samples = from_samples(np.stack([tone(2), other], axis=1), RATE_HZ, LIMITS)
    assert np.abs(samples - (tone(2) + other) / 2).max() < 1e-6


# --- headers that were never finished -----------------------------------------------------------------------------


def written(form: str, subtype: str = "PCM_16", *, samples: F32 | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(1) if samples is None else samples, RATE_HZ, format=form, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["WAV", "RF64", "AIFF"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_wav_rf64_and_aiff_are_decoded(form: str, subtype: str) -> None:
    assert np.abs(open_audio(written(form, subtype), LIMITS) - tone(1)).max() < 1e-4


def unfinished(data: bytes, size: int) -> bytes:
    """The file with a size that says nothing, as a recorder leaves it that is cut off."""
    changed = bytearray(data)
    if data[:4] == b"FORM":
        at, common = changed.index(b"SSND"), changed.index(b"COMM")
        changed[4:8] = changed[at + 4 : at + 8] = changed[common + 10 : common + 14] = bytes(4)
    else:
        at = changed.index(b"data", changed.index(b"fmt "))
        changed[4:8] = changed[at + 4 : at + 8] = size.to_bytes(4, "little")
        if b"ds64" in data:
            start = changed.index(b"ds64") + 8
            changed[start : start + 24] = bytes(24)
    return bytes(changed)


@pytest.mark.parametrize("form", ["WAV", "RF64", "AIFF"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_size_that_says_nothing_is_that_of_what_is_there(form: str, subtype: str, size: int) -> None:
    samples = tone(1)[:-5]
    found = open_audio(unfinished(written(form, subtype, samples=samples), size), LIMITS)
    assert len(found) - len(samples) in range(30)  # libsndfile writes other chunks behind floats
    assert np.abs(found[: len(samples)] - samples).max() < 1e-4


@pytest.mark.parametrize("form", ["WAV", "AIFF"])
def test_file_without_samples_has_none_whatever_follows(form: str) -> None:
    chunk = b"LIST" + struct.pack("<I" if form == "WAV" else ">I", 4) + b"INFO"
    data = unfinished(written(form, samples=np.zeros(0, np.float32)), 0) + chunk
    assert with_sizes(data) is data


@pytest.mark.parametrize("make", [written, lambda form: unfinished(written(form), 0)])
def test_headers_that_are_cut_off_are_no_crash(make: Callable[[str], bytes]) -> None:
    for form in ("WAV", "RF64", "AIFF"):
        data = make(form)
        for n_bytes in range(0, 200, 3):
            with contextlib.suppress(MediaError):
                open_audio(data[:n_bytes], LIMITS)
