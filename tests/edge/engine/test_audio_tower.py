"""Sounds in messages to a bundle with an audio tower: decoded, laid out, heard; and refused where there is none."""

import base64
import io
import wave
from pathlib import Path

import numpy as np
import pytest

from edge import ApiError, Reka
from edge.chat.prompt import DecodedAudio, Turn, pieces
from edge.engine.engine import Engine
from edge.errors import NonFiniteError
from edge.media.mel import SAMPLE_RATE_HZ
from edge.media.windows import digest
from export.checkpoint.random_shapes import TINY_AUDIO
from tests.conftest import BundleOf, CheckpointOf
from tests.edge.asking import F32, answer, options

SAMPLES = (np.sin(np.arange(SAMPLE_RATE_HZ) * 0.05) * 8000).astype(np.int16)


def wav() -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(SAMPLES.tobytes())
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def audio_access(checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> Path:
    return bundle_of(checkpoint_of(TINY_AUDIO), "int8")


def asked(path: Path, part: dict[str, object]) -> tuple[str, int]:
    with Reka(model=str(path)) as client:
        response = client.chat.create(
            model="reka-edge-random", temperature=0, max_tokens=8, seed=1,
            messages=[{"role": "user", "content": [part, {"type": "text", "text": "What is that?"}]}],
        )  # fmt: skip
        return response.responses[0].message.content, response.usage.input_tokens


def test_audio_is_the_same_by_url_and_by_samples(audio_access: Path) -> None:
    by_url = asked(audio_access, {"type": "audio_url", "audio_url": wav()})
    floats = SAMPLES.astype(np.float32) / 32768
    assert asked(audio_access, {"type": "audio", "audio": (floats, SAMPLE_RATE_HZ)}) == by_url
    assert asked(audio_access, {"type": "audio", "audio": (SAMPLES, SAMPLE_RATE_HZ)}) == by_url


def test_embeddings_that_are_not_finite_name_what_they_are_of(
    audio_access: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = SAMPLES.astype(np.float32) / 32768
    with Engine.open(audio_access) as engine:
        tower = engine._worker.model.audio
        assert tower is not None
        session = tower.opening.session()

        class Spoilt:
            def run(self, *arguments: object) -> list[F32]:
                return [np.full_like(embeddings, np.inf) for embeddings in session.run(*arguments)]

        monkeypatch.setattr(tower.opening, "session", Spoilt)
        decoded = pieces([Turn("user", (DecodedAudio(samples, digest(samples)),))], engine.manifest)
        with pytest.raises(NonFiniteError, match="not finite at a window of audio"):
            answer(engine, decoded, options(1))


def test_its_positions_are_counted(audio_access: Path) -> None:
    without = asked(audio_access, {"type": "text", "text": ""})[1]
    second = asked(audio_access, {"type": "audio", "audio": (SAMPLES, SAMPLE_RATE_HZ)})[1]
    longer = asked(audio_access, {"type": "audio", "audio": (np.tile(SAMPLES, 3), SAMPLE_RATE_HZ)})[1]
    assert longer - second == 25  # two seconds more, 12.5 embeddings each
    assert abs(second - without - 15) <= 2  # 13 of them, and the tokens around


@pytest.mark.parametrize("source", [5, (SAMPLES,), "a.wav", (SAMPLES, "fast"), ("SAMPLES", SAMPLE_RATE_HZ)])
def test_what_is_no_audio_is_refused(audio_access: Path, source: object) -> None:
    with pytest.raises(ApiError, match="messages.0.content.0.audio: audio: expected"):
        asked(audio_access, {"type": "audio", "audio": source})


def test_a_bundle_without_the_tower_names_what_it_takes(int8_bundle: Path) -> None:
    with pytest.raises(ApiError, match="audio"):
        asked(int8_bundle, {"type": "audio_url", "audio_url": wav()})
