"""An MP3 is heard to its end, whatever its first frame says of its length, or does not say."""

import io

import numpy as np
import pytest
import soundfile

from edge.errors import MediaError
from edge.limits import AudioLimits
from edge.media.audio import open_audio
from edge.media.mp3 import with_length

SECONDS = 12
FORMS = [(44_100, 1), (44_100, 2), (22_050, 1), (48_000, 2), (16_000, 2)]


def mp3(rate_hz: int, n_channels: int, mode: str = "VARIABLE") -> bytes:
    """Loud noise and near silence in turns, so that a variable bitrate varies."""
    at_s = np.arange(SECONDS * rate_hz) / rate_hz
    noise = np.random.default_rng(0).standard_normal(len(at_s))
    mono = np.where(at_s % 4 < 2, 0.1 * noise, 0.001 * np.sin(2000 * at_s))
    buffer = io.BytesIO()
    samples = np.repeat(mono[:, None], n_channels, 1)
    how = {"bitrate_mode": mode, "compression_level": 0.5}  # without a level every mode is a variable one
    soundfile.write(buffer, samples, rate_hz, format="MP3", subtype="MPEG_LAYER_III", **how)
    return buffer.getvalue()


def saying(data: bytes, n_frames: int | None) -> bytes:
    """The same with another number of frames in its first one; None: without it."""
    at = max(data.find(b"Xing"), data.find(b"Info"))
    assert at > 0
    middle = bytes(12) if n_frames is None else data[at : at + 8] + n_frames.to_bytes(4, "big")
    return data[:at] + middle + data[at + 12 :]


def decoded_s(data: bytes, limits: AudioLimits | None = None) -> float:
    return len(open_audio(data, limits or AudioLimits())) / 16_000


@pytest.mark.parametrize(("rate_hz", "n_channels"), FORMS)
@pytest.mark.parametrize("n_frames", [None, 0, 40])
def test_all_is_decoded_though_the_first_frame_says_less(rate_hz: int, n_channels: int, n_frames: int | None) -> None:
    data = saying(mp3(rate_hz, n_channels), n_frames)
    assert soundfile.info(io.BytesIO(data)).duration != pytest.approx(SECONDS, abs=0.5), "or there is nothing to mend"
    assert decoded_s(data) == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize(("rate_hz", "n_channels"), FORMS)
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_what_says_its_length_rightly_stays_as_it_is(rate_hz: int, n_channels: int, mode: str) -> None:
    data = mp3(rate_hz, n_channels, mode)
    assert with_length(data, 0, 600) is data
    assert decoded_s(data) == pytest.approx(SECONDS, abs=0.01)


def test_a_constant_bitrate_needs_no_word_of_its_length() -> None:
    data = mp3(44_100, 1, "CONSTANT")
    data = data[data.find(data[:2], 1) :]  # without the frame that says it
    assert with_length(data, 0, 600) is data
    assert decoded_s(data) == pytest.approx(SECONDS, abs=0.15)


def test_what_is_too_long_is_refused_whatever_it_says() -> None:
    data = saying(mp3(44_100, 1), 40)
    with pytest.raises(MediaError, match="expected at most 11 s, got 11"):
        decoded_s(data, AudioLimits(seconds=11))
    assert decoded_s(data, AudioLimits(seconds=13)) == pytest.approx(SECONDS, abs=0.15)


def test_a_tag_before_it_stays() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    data = tag + saying(mp3(44_100, 1), None)
    assert with_length(data, len(tag), 600)[: len(tag)] == tag
    assert decoded_s(data) == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xfb\x90", b"\xff\xfb\xf0\x00", b"\xff\xfb\x90\x00", bytes(100)])
def test_what_is_no_frame_or_no_whole_one_is_left_alone(data: bytes) -> None:
    assert with_length(data, 0, 600) == data
