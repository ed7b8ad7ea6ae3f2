"""Sounds that are more than they look: refused soon and without the memory they ask for."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.errors import MediaError
from edge.limits import AudioLimits
from edge.media.audio import open_audio

ROOT = Path(__file__).parents[2]
MAX_BYTES, MAX_S = 80 << 20, 30.0

MEASURED = """
import json, resource, sys, time
from edge.errors import MediaError
from edge.limits import AudioLimits
from edge.media.audio import open_audio, prepare

prepare()
data = open(sys.argv[1], "rb").read()
before, started = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
try:
    said = str(len(open_audio(data, AudioLimits())))
except MediaError as error:
    said = str(error)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.ru_maxrss
print(json.dumps({"said": said, "bytes": grown * 1024, "seconds": time.process_time() - started}))
"""


def silence(path: Path, form: str, subtype: str, *, seconds: float, rate_hz: int, channels: int = 1) -> Path:
    """Write silence, a second at a time."""
    block = np.zeros((rate_hz, channels), np.int16)
    with soundfile.SoundFile(path, "w", rate_hz, channels, format=form, subtype=subtype) as file:
        for _ in range(int(seconds)):
            file.write(block)
    return path


def lying_wav(path: Path, *, channels: int = 1, rate_hz: int = 16_000, n_bytes: int = 2**32 - 1) -> Path:
    """Write a header that promises n_bytes, and a second of silence."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16_000, np.int16), 16_000, format="WAV", subtype="PCM_16")
    data = bytearray(buffer.getvalue())
    data[22:24] = channels.to_bytes(2, "little")
    data[24:28] = rate_hz.to_bytes(4, "little")
    data[32:34] = (2 * channels).to_bytes(2, "little")
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = n_bytes.to_bytes(4, "little")
    path.write_bytes(data)
    return path


def measured(path: Path) -> dict[str, object]:
    """What a fresh process says of a file, and the memory and time of the processor it took."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, cwd=ROOT, timeout=240,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("form", "subtype", "shape", "words"),
    [
        ("FLAC", "PCM_16", {"seconds": 7200, "rate_hz": 8_000}, "at most 600 s"),
        ("OGG", "OPUS", {"seconds": 1200, "rate_hz": 8_000}, "at most 600 s"),
        ("MP3", "MPEG_LAYER_III", {"seconds": 1200, "rate_hz": 8_000}, "at most 600 s"),
        ("FLAC", "PCM_16", {"seconds": 30, "rate_hz": 655_350, "channels": 8}, "bytes of PCM"),
        ("FLAC", "PCM_16", {"seconds": 599, "rate_hz": 48_000, "channels": 2}, "bytes of PCM"),
    ],
)
def test_bomb_is_refused_cheaply(form: str, subtype: str, shape: dict[str, int], words: str, tmp_path: Path) -> None:
    found = measured(silence(tmp_path / "bomb", form, subtype, **shape))
    assert words in str(found["said"])
    assert found["bytes"] < MAX_BYTES and found["seconds"] < MAX_S


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"channels": 64}, "1 to 8 channels, got 64"),
        ({"rate_hz": 1}, "samples per second, got 1"),
        ({"channels": 0}, ""),
    ],
)
def test_header_that_lies_is_refused_cheaply(shape: dict[str, int], words: str, tmp_path: Path) -> None:
    found = measured(lying_wav(tmp_path / "lie.wav", **shape))
    assert str(found["said"]).startswith("audio: ") and words in str(found["said"])
    assert found["bytes"] < MAX_BYTES and found["seconds"] < MAX_S


def test_count_of_samples_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    path = silence(tmp_path / "flac", "FLAC", "PCM_16", seconds=1, rate_hz=16_000)
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F  # the header's 36 bits of samples
    data[22:26] = b"\xff" * 4
    with pytest.raises(MediaError, match="at most 600 s"):
        open_audio(bytes(data), AudioLimits())
