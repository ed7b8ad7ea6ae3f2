"""Clients that have text spoken: `openai` sync and async, LiteLLM, and what Open WebUI and Home Assistant ask for."""

import asyncio
import base64
import contextlib
import io
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import httpx
import numpy as np
import openai
import pytest
import soundfile

import edge
from edge.server.speech import VOICES
from tests.conformance.conftest import Served, serving
from tests.edge.asking import eventually
from tests.edge.espeak import needs_espeak
from tests.edge.speech.fake_voice import FakeVoice, FakeVoices

with warnings.catch_warnings(), mock.patch.dict(os.environ, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}):
    warnings.simplefilter("ignore")
    import litellm  # reads its list of prices from its own package then, and not from the network

pytestmark = [
    # The service's own models for speech are to be shut down, which the client says of these names.
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*using the `ReadOnly` qualifier:UserWarning"),
]
KEY = "secret"
TEXT = "Good morning. It is nine o'clock! Shall we begin?"
SECONDS = FakeVoice.seconds(TEXT)


@pytest.fixture
def voice() -> FakeVoice:
    return FakeVoice()


@pytest.fixture
def speaking(int8_bundle: Path, voice: FakeVoice) -> Iterator[Served]:
    with serving(int8_bundle, key=KEY, voices=FakeVoices(voice)) as served:
        yield served
        voice.gate.set()


@pytest.fixture
def client(speaking: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=KEY, base_url=f"{speaking.address}/v1", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def no_loop_is_left() -> Iterator[None]:
    """Close the event loop that LiteLLM makes for itself and forgets."""
    yield
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):  # there is none
        warnings.simplefilter("ignore")
        asyncio.get_event_loop().close()
    asyncio.set_event_loop(None)


def seconds_of(data: bytes) -> float:
    """Return how long a file of audio is."""
    samples, rate_hz = soundfile.read(io.BytesIO(data))
    assert np.abs(samples).max() > 0.2
    return len(samples) / rate_hz


@pytest.mark.parametrize("form", ["mp3", "opus", "flac", "wav", "pcm"])
def test_openai_creates_speech(client: openai.OpenAI, form: str) -> None:
    answer = client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT, response_format=form)  # type: ignore[arg-type]
    data = answer.content
    seconds = len(data) / 48_000 if form == "pcm" else seconds_of(data)
    assert abs(seconds - SECONDS) < 0.15


def test_openai_writes_a_file_while_it_is_spoken(client: openai.OpenAI, voice: FakeVoice, tmp_path: Path) -> None:
    voice.gate.clear()
    fields = {"model": "gpt-4o-mini-tts", "voice": "coral", "input": TEXT, "instructions": "Cheerful.", "speed": 2.0}
    with client.audio.speech.with_streaming_response.create(**fields, response_format="wav") as answer:
        coming = answer.iter_bytes(chunk_size=None)
        first = next(coming)
        assert first[:4] == b"RIFF" and len(voice.said) == 1
        voice.gate.set()
        rest = b"".join(coming)
    assert abs(seconds_of(first + rest) - SECONDS / 2) < 0.01
    path = tmp_path / "speech.mp3"
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="nova", input=TEXT) as answer:
        answer.stream_to_file(path)
    assert abs(seconds_of(path.read_bytes()) - SECONDS) < 0.15


def test_openai_in_asyncio(speaking: Served) -> None:
    async def spoken() -> tuple[bytes, bytes]:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{speaking.address}/v1", max_retries=0) as client:
            fields = {"model": "tts-1-hd", "voice": "onyx", "input": TEXT, "response_format": "wav"}
            whole = await client.audio.speech.create(**fields)
            async with client.audio.speech.with_streaming_response.create(**fields) as answer:
                streamed = b"".join([part async for part in answer.iter_bytes()])
            return whole.content, streamed

    whole, streamed = asyncio.run(spoken())
    assert whole == streamed and abs(seconds_of(whole) - SECONDS) < 0.01


def test_openai_reads_events(client: openai.OpenAI) -> None:
    fields = {"model": "gpt-4o-mini-tts", "voice": "ash", "input": TEXT, "response_format": "pcm"}
    with client.audio.speech.with_streaming_response.create(**fields, stream_format="sse") as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    data = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    assert events[-1]["type"] == "speech.audio.done"
    assert abs(len(data) / 48_000 - SECONDS) < 0.01


def test_openai_raises_its_own_errors(client: openai.OpenAI, speaking: Served) -> None:
    fields = {"model": "tts-1", "voice": "alloy", "input": TEXT}
    with pytest.raises(openai.BadRequestError, match="aac is not supported; expected one of mp3") as caught:
        client.audio.speech.create(**{**fields, "response_format": "aac"})
    assert caught.value.param == "response_format"
    with pytest.raises(openai.BadRequestError, match="voice: expected one of tone, tone:high, got 'bob'"):
        client.audio.speech.create(**{**fields, "voice": "bob"})
    with pytest.raises(openai.NotFoundError, match="there are tts-1, tts-1-hd, gpt-4o-mini-tts, tone"):
        client.audio.speech.create(**{**fields, "model": "kokoro"})
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").audio.speech.create(**fields)


def test_openai_in_process(int8_bundle: Path) -> None:
    with (
        httpx.Client(transport=edge.Transport(model=int8_bundle, threads=1)) as carrier,
        openai.OpenAI(api_key="local", base_url="http://edge/v1", http_client=carrier, max_retries=0) as client,
        pytest.raises(openai.BadRequestError, match="4096 characters, got 4097"),
    ):
        client.audio.speech.create(model="tts-1", voice="alloy", input="x" * 4097)


def test_litellm(speaking: Served) -> None:
    place = {"api_base": f"{speaking.address}/v1", "api_key": KEY}
    whole = litellm.speech(model="openai/tts-1", voice="alloy", input=TEXT, **place)
    assert abs(seconds_of(whole.content) - SECONDS) < 0.15
    fields = {"voice": "tone:high", "input": TEXT, "response_format": "wav", "speed": 2}
    data = asyncio.run(litellm.aspeech(model="openai/tone", **fields, **place)).content
    assert abs(seconds_of(data) - SECONDS / 2) < 0.01
    with pytest.raises(openai.BadRequestError, match="bob"):
        litellm.speech(model="openai/tts-1", voice="bob", input=TEXT, max_retries=0, **place)


def test_open_webui(int8_bundle: Path, voice: FakeVoice) -> None:
    # Its settings list models and voices without the key, then each sentence of an answer is one request.
    with serving(int8_bundle, voices=FakeVoices(voice)) as served:
        base = f"{served.address}/v1"
        models = httpx.get(f"{base}/audio/models").raise_for_status().json()["models"]
        voices = {each["id"]: each["name"] for each in httpx.get(f"{base}/audio/voices").json()["voices"]}
        assert models[0]["id"] == "tts-1" and voices["tone@de"] == "tone, German"
        for chosen in ("alloy", *voices):
            payload = {"input": "Good morning.", "voice": chosen, "model": models[0]["id"]}
            answer = httpx.post(
                f"{base}/audio/speech", json=payload, headers={"Authorization": "Bearer none"}, timeout=60
            )
            assert answer.raise_for_status().headers["content-type"] == "audio/mpeg"
            assert seconds_of(answer.content) > 0.5
        refused = httpx.post(f"{base}/audio/speech", json={"input": "x", "voice": "bob", "model": "tts-1"})
        assert "bob" in refused.json()["error"]["message"]  # it shows this


@pytest.mark.parametrize("form", ["mp3", "opus", "flac", "wav", "pcm"])
def test_home_assistant(speaking: Served, form: str) -> None:
    # Its entity for text to speech sends what its options say, a prompt that is not set as the text "None".
    async def spoken() -> bytes:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{speaking.address}/v1", max_retries=0) as client:
            data = bytearray()
            async with client.audio.speech.with_streaming_response.create(
                model="gpt-4o-mini-tts",
                voice="marin",
                input=TEXT,
                instructions="None",
                speed=1.0,
                response_format=form,  # type: ignore[arg-type]
            ) as answer:
                async for part in answer.iter_bytes():
                    data.extend(part)
            return bytes(data)

    data = asyncio.run(spoken())
    assert abs((len(data) / 48_000 if form == "pcm" else seconds_of(data)) - SECONDS) < 0.15


@needs_espeak
def test_espeak_speaks_in_the_language_of_the_voice(int8_bundle: Path) -> None:
    with serving(int8_bundle) as served, openai.OpenAI(api_key="local", base_url=f"{served.address}/v1") as client:
        fields = {"model": "tts-1", "input": "Die Sonne scheint. Es ist 9 Uhr.", "response_format": "wav"}
        spoken = {
            name: client.audio.speech.create(**fields, voice=name).content
            for name in ("alloy", "espeak-ng", "espeak-ng@en", "espeak-ng@de", "espeak-ng:f3")
        }
        german = client.audio.speech.create(**fields, voice="alloy", extra_body={"language": "de"}).content
        assert spoken["alloy"] == spoken["espeak-ng"] == spoken["espeak-ng@en"] and german == spoken["espeak-ng@de"]
        assert len({spoken["alloy"], german, spoken["espeak-ng:f3"]}) == 3
        assert all(1 < seconds_of(data) < 10 for data in spoken.values())


def test_every_voice_of_the_service_speaks(client: openai.OpenAI) -> None:
    for name in VOICES:
        assert client.audio.speech.create(model="tts-1", voice=name, input="Hi.").content


def test_a_client_that_leaves_frees_its_place(speaking: Served, voice: FakeVoice) -> None:
    voice.say("before")
    voice.gate.clear()
    queue = speaking.server.voices
    fields = {"model": "tts-1", "voice": "alloy", "input": TEXT}
    headers = {"Authorization": f"Bearer {KEY}"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{speaking.address}/v1/audio/speech", json=fields, headers=headers, timeout=httpx.Timeout(60, read=1)
        )
    eventually(lambda: queue.n_running == 0)
    voice.gate.set()
    eventually(lambda: voice.n_speaking == 0)
    assert len(voice.said) <= 2


def test_so_many_are_spoken_at_a_time_others_wait_and_the_rest_is_sent_away(
    int8_bundle: Path, voice: FakeVoice
) -> None:
    voice.say("before")
    voice.gate.clear()
    with serving(int8_bundle, voices=FakeVoices(voice), limits=edge.Limits(waiting=1)) as served:
        n_places = served.server.voices.n_places

        async def asked() -> list[int]:
            async with httpx.AsyncClient(base_url=served.address, timeout=60) as client:
                fields = {"model": "tts-1", "input": "Good morning.", "response_format": "pcm"}

                async def ask() -> int:
                    return (await client.post("/v1/audio/speech", json=fields)).status_code

                waiting = [asyncio.ensure_future(ask()) for _ in range(n_places + 1)]
                while served.server.voices.n_waiting < 1:
                    await asyncio.sleep(0.01)
                refused = await client.post("/v1/audio/speech", json=fields)
                assert "retry-after" in refused.headers and "the queue is full" in refused.json()["error"]["message"]
                # A chat does not wait for voices.
                chat = {"model": "reka-edge", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
                assert (await client.post("/v1/chat", json=chat)).status_code == 200
                gauges = (await client.get("/metrics")).text
                assert f"edge_voices_running {n_places}" in gauges and "edge_voices_queue_length 1" in gauges
                voice.gate.set()
                return [refused.status_code, *(await asyncio.gather(*waiting))]

        assert asyncio.run(asked()) == [503, *[200] * (n_places + 1)]
        assert voice.most_speaking == 1
