"""Sounds for a bundle without ears: a speech bundle hears them, its text stands between the transcript tokens."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest

import edge
from edge import ApiError, Reka
from edge.bundle import store
from edge.bundle.bundle import Bundle
from edge.bundle.install import install
from edge.chat.prompt import Transcript, Turn, pieces
from edge.engine.pieces import Control, Text
from edge.errors import BundleError, EngineClosed
from edge.limits import AudioLimits
from edge.media.audio import open_audio
from edge.speech.speech_to_text import SpeechToText
from edge.speech.transcriber import Speech
from tests.edge.media.tones import contained, file, noise, tone

F32 = npt.NDArray[np.float32]
Part = dict[str, object]

QUESTION: Part = {"type": "text", "text": "What is said?"}


def data_url(data: bytes, kind: str = "audio/wav") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def asked(client: Reka, *parts: Part, **body: object) -> int:
    """Ask about some parts; returns how many positions the prompt took."""
    messages = [{"role": "user", "content": [*parts, QUESTION]}]
    model = client.models.get()[0].id
    options = {"additional_body_parameters": body}
    response = client.chat.create(model=model, messages=messages, max_tokens=2, seed=0, request_options=options)
    return int(response.usage.input_tokens)


def detail(error: ApiError) -> str:
    assert error.status_code == 400
    return str(error.body["detail"])


def test_transcript_stands_between_its_tokens(text_bundle: Path) -> None:
    manifest = Bundle.open(text_bundle).manifest
    laid_out = pieces([Turn("user", (Transcript("Hello <sep> there"), "What is said?"))], manifest)
    opening, closing = (manifest.prompt.control[name] for name in ("<transcript>", "</transcript>"))
    at = next(i for i, piece in enumerate(laid_out) if piece == Control((opening,)))
    assert laid_out[at + 1 : at + 3] == [Text("Hello <sep> there"), Control((closing,))]
    assert laid_out[at + 3] == Text("What is said?")


def test_speech_model_is_asked_for_the_bundle_it_is_named_for(
    models: Path, int8_bundle: Path, speech_bundle: Path
) -> None:
    chat, ears = install(int8_bundle), install(speech_bundle)
    samples = noise(1.5, seed=4)
    text = Speech.open(speech_bundle).transcribe(samples).text
    assert text
    with Reka(model=chat.id) as client:
        with pytest.raises(ApiError) as caught:
            asked(client, {"type": "audio", "audio": (samples, 16_000)})
        assert "no speech-to-text model is set" in detail(caught.value)
        assert f"edge models speech {chat.id}" in detail(caught.value)
        store.set_speech_model(chat.id, ears.id)
        texts = asked(client, {"type": "audio", "audio": (samples, 16_000)})
        written = asked(client, {"type": "text", "text": text})
        assert abs(texts - written - 2) <= 3  # the two tokens around it; words join otherwise


def test_speech_bundle_may_be_named_by_folder(text_bundle: Path, speech_bundle: Path) -> None:
    with Reka(model=text_bundle, speech=speech_bundle) as client:
        by_url = asked(client, {"type": "audio_url", "audio_url": data_url(file(tone(1)))})
        in_memory = asked(client, {"type": "audio", "audio": ((tone(1) * 32767).astype(np.int16), 16_000)})
        assert by_url > 20 and abs(by_url - in_memory) < 30


def test_chat_bundle_cannot_listen(text_bundle: Path) -> None:
    with pytest.raises(BundleError, match="expected a speech bundle, got a chat bundle"):
        Reka(model=text_bundle, speech=text_bundle)


def test_bundle_that_can_do_neither_says_so(text_bundle: Path) -> None:
    with Reka(model=text_bundle) as client, pytest.raises(ApiError) as caught:
        asked(client, {"type": "audio_url", "audio_url": data_url(b"not looked at")})
    message = detail(caught.value)
    assert message.startswith("messages.0.content.0.audio_url: audio: ")
    assert "accepts text only; it has no audio tower" in message


def test_openai_audio_are_decoded_over_http(text_bundle: Path, speech_bundle: Path) -> None:
    audio = {"data": base64.b64encode(file(tone(1), "mp3")).decode(), "format": "mp3"}
    content = [{"type": "input_audio", "input_audio": audio}, QUESTION]
    body = {"model": store.at(text_bundle).id, "messages": [{"role": "user", "content": content}], "max_tokens": 2}
    with httpx.Client(transport=edge.Transport(model=text_bundle, speech=speech_bundle)) as client:
        answer = client.post("http://edge/v1/chat/completions", json=body).json()
        assert answer["usage"]["prompt_tokens"] > 10
        audio["data"] = base64.b64encode(b"ID3 is not enough").decode()
        refused = client.post("http://edge/v1/chat/completions", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].endswith("audio: the MP3 data is damaged or cut off")


def test_cancelling_a_task_stops_the_speech_model_through_a_transport(
    text_bundle: Path, speech_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening, ended = threading.Event(), threading.Event()

    def endless(*_: object, stopped: Callable[[], bool]) -> None:
        listening.set()
        while not ended.wait(0.01):
            if stopped():
                ended.set()
                raise EngineClosed("stopped")

    monkeypatch.setattr(Speech, "transcribe", endless)
    content = [{"type": "audio_url", "audio_url": data_url(file(tone(1)))}]
    body = {"model": store.at(text_bundle).id, "messages": [{"role": "user", "content": content}]}

    async def cancelled() -> bool:
        transport = edge.Transport(model=text_bundle, speech=speech_bundle)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            task = asyncio.create_task(client.post("/v1/chat", json=body))
            await asyncio.to_thread(listening.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            is_told = await asyncio.to_thread(ended.wait, 5)
            ended.set()  # or its thread would never end
            return is_told

    assert asyncio.run(cancelled())


def test_damaged_audio_names_its_part(text_bundle: Path, speech_bundle: Path) -> None:
    with Reka(model=text_bundle, speech=speech_bundle) as client, pytest.raises(ApiError) as caught:
        asked(client, {"type": "audio_url", "audio_url": data_url(b"fLaC" + bytes(40))})
    assert detail(caught.value) == "messages.0.content.0.audio_url: audio: the FLAC data is damaged or cut off"


def test_audio_track_of_a_video_is_decoded_when_asked(int8_bundle: Path, speech_bundle: Path) -> None:
    video = contained(tone(1, rate_hz=48_000), "mkv", image=True)
    part: Part = {"type": "video_url", "video_url": data_url(video, "video/x-matroska")}
    text = Speech.open(speech_bundle).transcribe(open_audio(video, AudioLimits())).text
    with Reka(model=int8_bundle, speech=speech_bundle) as client:
        silent, texts = asked(client, part), asked(client, part, video_sound=True)
        assert silent + 2 <= texts <= silent + 2 + len(text.encode())
        with pytest.raises(ApiError) as caught:
            asked(client, part, video_sound="yes")
        assert caught.value.status_code == 422


def test_what_was_decoded_is_remembered(speech_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = SpeechToText(speech_bundle, threads=1)
    first = speech.transcribe(tone(1), "one")
    monkeypatch.setattr(Speech, "transcribe", lambda *_, **__: pytest.fail("it was heard before"))
    assert speech.transcribe(tone(1), "one") == first


def test_speech_models_on_one_bundle_share_it(speech_bundle: Path) -> None:
    one, two = SpeechToText(speech_bundle, threads=1), SpeechToText(speech_bundle, threads=1)
    one.transcribe(tone(1), "one")
    two.transcribe(tone(1), "one")
    assert one._speech is two._speech
