"""edge say: texts from the command line and from pipes, into files and pipes and at a loudspeaker."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.edge.espeak import needs_espeak

ROOT = Path(__file__).parents[3]


def edge(*arguments: str, text: bytes | None = None, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "edge", "say", *arguments],
        input=text, stdin=subprocess.DEVNULL if text is None else None, capture_output=True, cwd=ROOT, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip


def seconds(path: Path) -> float:
    return float(soundfile.info(path).duration)


@needs_espeak
class TestSaid:
    @pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
    def test_a_text_is_a_file_of_its_suffix(self, tmp_path: Path, name: str) -> None:
        done = edge("Hello there. How are you?", "--out", str(tmp_path / name))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert 1 < seconds(tmp_path / name) < 4

    def test_standard_input_becomes_a_wav_on_standard_output(self) -> None:
        done = edge("-", "--out", "-", text="\ufeff# Größe\n\nIt is **big**.\n".encode())
        assert done.returncode == 0, done.stderr
        assert (done.stdout[:4], done.stdout[8:12]) == (b"RIFF", b"WAVE")
        samples = np.frombuffer(done.stdout, "<i2", offset=44)
        assert 22050 < len(samples) < 4 * 22050
        assert np.abs(samples).max() > 3000

    def test_options_change_what_is_heard(self, tmp_path: Path) -> None:
        normal, fast, other = (tmp_path / f"{name}.wav" for name in ("normal", "fast", "other"))
        edge("One two three four five", "--out", str(normal))
        edge("One two three four five", "--speed", "2", "--out", str(fast))
        edge("1 2 3 4 5", "--language", "de", "--voice", "espeak-ng:f3", "--out", str(other))
        assert seconds(fast) < 0.7 * seconds(normal)
        assert other.read_bytes() != normal.read_bytes()

    def test_a_text_that_looks_like_an_option_is_a_text(self, tmp_path: Path) -> None:
        done = edge("--out", str(tmp_path / "a.wav"), "--", "--voices -w x.wav")
        assert done.returncode == 0, done.stderr
        assert seconds(tmp_path / "a.wav") > 0.5

    def test_a_loudspeaker_may_be_a_file(self, tmp_path: Path) -> None:
        assert edge("Hello.", "--loudspeaker", str(tmp_path / "a.wav")).returncode == 0
        assert seconds(tmp_path / "a.wav") > 0.3

    def test_a_sentence_is_said_before_the_text_ends(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "edge", "say", "--out", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"Hello there. ")
            process.stdin.flush()
            assert len(process.stdout.read(20_000)) == 20_000  # while the text is still open
            process.stdin.close()
            process.stdout.read()
        assert process.returncode == 0

    @pytest.mark.parametrize("text", [b"", b"```\ncode\n```\n", b"... !?\n"])
    def test_a_text_without_words_is_an_error_and_no_file(self, tmp_path: Path, text: bytes) -> None:
        done = edge("--out", str(tmp_path / "a.wav"), text=text)
        assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
        assert done.stderr == b"edge: nothing to say: the text has no words, or code alone\n"

    def test_text_that_is_not_utf8_is_refused(self) -> None:
        done = edge("--out", "-", text=b"\xff\xfe\xff")
        assert (done.returncode, done.stderr) == (1, b"edge: standard input: expected text in UTF-8\n")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--out", "a.aac"), "'a.aac': expected a file ending in .wav, .flac, .ogg, .opus, .mp3"),
            (("--out", "nowhere/a.wav"), "--out nowhere/a.wav: No such file or directory"),
            (("--out", "-", "--loudspeaker", "x"), "--out, --loudspeaker: expected one of them"),
            (("--speed", "9", "--out", "-"), "speed: expected 0.25 to 4, got 9.0"),
            (("--language", "xx", "--out", "-"), "language: espeak-ng has none of the code 'xx'"),
            (("--voice", "espeak-ng:nobody", "--out", "-"), "voice: espeak-ng has no variant 'nobody'"),
        ],
    )
    def test_a_mistake_is_one_line(self, options: tuple[str, ...], message: str) -> None:
        done = edge("Hello.", *options)
        assert done.returncode == 1
        assert done.stderr.decode().startswith(f"edge: {message}")
        assert done.stderr.count(b"\n") == 1

    def test_ctrl_c_silences_and_ends(self, tmp_path: Path) -> None:
        (tmp_path / "paplay").write_text(
            f"#!{sys.executable}\nimport os, sys\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
            "sys.stdin.buffer.read()\n"
        )
        (tmp_path / "paplay").chmod(0o755)
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.modules['sounddevice'] = None; from edge.cli import main; main()",
             "say", "One two three. " * 500],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PULSE_SERVER": "x"},
        )  # fmt: skip
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=120)
        assert (process.returncode, complaints) == (130, b"")
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_without_espeak_the_package_is_named(tmp_path: Path) -> None:
    done = edge("Hello.", "--out", "-", PATH=str(tmp_path), EDGE_MODELS=str(tmp_path))
    assert done.returncode == 1
    assert b"espeak-ng is not installed" in done.stderr
    assert b"sudo apt install espeak-ng" in done.stderr


def test_a_wav_of_the_samples_can_be_read_again() -> None:
    from edge.speech.audio_file import encoded

    samples, rate_hz = soundfile.read(io.BytesIO(encoded(np.full(100, 0.5, np.float32), 8000, "wav")))
    assert (rate_hz, len(samples)) == (8000, 100)
