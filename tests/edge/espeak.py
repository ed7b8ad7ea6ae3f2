"""espeak-ng for tests: what needs it is skipped by name without it; and the phonemes that it says."""

from __future__ import annotations

import shutil
import subprocess

import pytest

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None,
    reason="no espeak-ng here; on Debian: apt install espeak-ng",
)


def phonemes(text: str, language: str = "en") -> str:
    """What espeak-ng says of a text, without pauses, stress and line ends: equal for what sounds equal."""
    done = subprocess.run(
        ["espeak-ng", "-q", "-x", "-b", "1", "-v", language, "--stdin"],
        input=text.encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return "".join(c for c in done.stdout.decode() if c not in "_:;!',| \n")
