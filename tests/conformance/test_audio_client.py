"""The real `openai` client on transcriptions and translations, over TCP and in process, sync and async."""

import asyncio
import json
import math
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pydantic
import pytest
from openai.types.audio import (
    Transcription,
    TranscriptionStreamEvent,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)  # fmt: skip

import edge
from edge.limits import AudioLimits
from edge.media.audio import open_audio
from edge.speech.transcriber import How, Speech
from edge.speech.transcript import Transcript
from export.certificate.speech import sounds
from tests.conformance.conftest import Served, serving
from tests.conformance.test_openapi import check
from tests.edge.asking import eventually
from tests.edge.media.tones import file

# The client warns that the service's own models for translations will be shut down.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
RATE = 16_000
EVENT: pydantic.TypeAdapter[object] = pydantic.TypeAdapter(TranscriptionStreamEvent)


RECORDING = file(sounds(12, seconds=45.0)[-1])
ASK = {"file": ("talk.wav", RECORDING, "audio/wav"), "model": "whisper-1"}


@pytest.fixture(scope="module")
def speech(speech_bundle: Path) -> Speech:
    return Speech.open(speech_bundle, threads=1)


@pytest.fixture(scope="module")
def listening(int8_bundle: Path, speech_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle, speech=speech_bundle, aliases={"my-whisper": "whisper-random"}) as served:
        yield served


@pytest.fixture(params=["tcp", "transport"])
def client(
    request: pytest.FixtureRequest, listening: Served, int8_bundle: Path, speech_bundle: Path
) -> Iterator[openai.OpenAI]:
    over_tcp = request.param == "tcp"
    aliases = {"my-whisper": "whisper-random"}
    transport = None if over_tcp else edge.Transport(
        model=int8_bundle, speech=speech_bundle, threads=1, aliases=aliases
    )  # fmt: skip
    with httpx.Client(transport=transport, timeout=60) as carrier:
        url = f"{listening.address}/v1" if over_tcp else "http://edge/v1"
        yield openai.OpenAI(api_key="local", base_url=url, http_client=carrier, max_retries=0)


def said(speech: Speech, **how: object) -> Transcript:
    """Return what the model itself says of the recording."""
    samples = open_audio(RECORDING, AudioLimits())
    return speech.transcribe(samples, how=How(**how))  # type: ignore[arg-type]


def test_a_transcript_is_what_the_model_says(client: openai.OpenAI, speech: Speech) -> None:
    for name in ("whisper-1", "whisper-random", "my-whisper", "reka-edge"):
        answer = client.audio.transcriptions.create(**{**ASK, "model": name})
        assert answer.text == said(speech).text and answer.text
    Transcription.model_validate(answer.to_dict())
    check("Transcription", answer.to_dict())
    assert answer.usage.to_dict() == {"type": "duration", "seconds": 45}


def test_a_transcript_with_times(client: openai.OpenAI, speech: Speech) -> None:
    answer = client.audio.transcriptions.create(
        **ASK, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    expected = said(speech)
    TranscriptionVerbose.model_validate(answer.to_dict())
    check("VerboseTranscription", answer.to_dict())
    assert (answer.text, answer.duration) == (expected.text, 45)
    assert answer.language == {"de": "german", "en": "english", "fr": "french"}[str(expected.language)]
    pairs = list(zip(answer.segments, expected.spoken(), strict=True))
    assert [(a.start, a.end, a.text, tuple(a.tokens)) for a, _ in pairs] == [
        (round(b.start_s, 3), round(b.end_s, 3), b.text, b.tokens) for _, b in pairs
    ]
    for a, b in pairs:
        assert b.window is not None
        assert (a.seek, a.temperature) == (b.window.seek, 0)
        assert a.avg_logprob == pytest.approx(b.window.log_probability, abs=1e-4)
        assert a.no_speech_prob == pytest.approx(b.window.no_speech, rel=1e-3)
        assert a.compression_ratio == b.window.compression_ratio


def test_text_and_subtitles(client: openai.OpenAI, speech: Speech) -> None:
    expected = said(speech)
    formats = ("text", "srt", "vtt")
    texts = {name: client.audio.transcriptions.create(**ASK, response_format=name) for name in formats}
    assert texts == {name: f"{expected.written(name)}\n" for name in formats}  # type: ignore[arg-type]
    assert texts["vtt"].startswith("WEBVTT\n\n00:00:") and "\n\n2\n00:00:" in texts["srt"]


def test_a_stream_adds_up_to_the_transcript(client: openai.OpenAI, speech: Speech) -> None:
    events = list(client.audio.transcriptions.create(**ASK, stream=True))
    for event in events:
        EVENT.validate_python(event.to_dict())
        check("TranscriptEvent", event.to_dict())
    *deltas, done = events
    assert [event.type for event in deltas] == ["transcript.text.delta"] * len(deltas) and deltas
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == done.text == said(speech).text
    assert done.usage.output_tokens > 0 and done.usage.input_tokens >= 2 * 1500


def test_probabilities_of_tokens_join_to_the_text(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(**ASK, include=["logprobs"])
    check("Transcription", answer.to_dict())
    data = b"".join(bytes(map(int, score.bytes)) for score in answer.logprobs)
    assert data.decode("utf-8", "replace").strip() == answer.text
    assert all(score.logprob < 0 for score in answer.logprobs)
    *deltas, done = client.audio.transcriptions.create(**ASK, include=["logprobs"], stream=True)
    streamed = [score.to_dict() for event in deltas for score in event.logprobs]
    whole = [score.to_dict() for score in done.logprobs]
    assert streamed == whole[: len(streamed)]
    assert [score["logprob"] for score in whole] == pytest.approx([score.logprob for score in answer.logprobs])


def test_language_prompt_and_temperature_reach_the_model(client: openai.OpenAI, speech: Speech) -> None:
    other = next(name for name in ("de", "fr") if name != said(speech).language)
    hows: list[dict[str, object]] = [{"language": other}, {"prompt": "cafe babe"}, {"temperature": 0.9, "seed": 3}]
    texts = []
    for how in hows:
        fields = {name: value for name, value in how.items() if name != "seed"}
        extra = {"extra_body": {"seed": how["seed"]}} if "seed" in how else {}
        texts.append(client.audio.transcriptions.create(**ASK, **fields, **extra).text)
        assert texts[-1] == said(speech, **how).text
    assert len({*texts, said(speech).text}) == 4


def test_a_translation(client: openai.OpenAI, speech: Speech) -> None:
    expected = said(speech, task="translate")
    assert expected.text != said(speech).text
    answer = client.audio.translations.create(**ASK)
    Translation.model_validate(answer.to_dict())
    assert answer.text == expected.text
    verbose = client.audio.translations.create(**ASK, response_format="verbose_json")
    TranslationVerbose.model_validate(verbose.to_dict())
    assert (verbose.text, verbose.language) == (expected.text, "english")
    for name in ("text", "srt", "vtt"):
        written = client.audio.translations.create(**ASK, response_format=name)
        assert written == f"{expected.written(name)}\n"  # type: ignore[arg-type]


REFUSED: list[tuple[dict[str, object], int, str | None, str]] = [
    ({"model": "gpt-4o-transcribe"}, 404, None, "--alias gpt-4o-transcribe=whisper-random"),
    ({"language": "tlh"}, 400, "language", "expected one of de, en, fr; got 'tlh'"),
    (
        {"response_format": "diarized_json"},
        400,
        "response_format",
        "expected one of json, text, srt, verbose_json, vtt",
    ),
    ({"response_format": "vtt", "stream": True}, 400, "response_format", "json or text with stream, got vtt"),
    ({"response_format": "verbose_json", "timestamp_granularities": ["word"]}, 400, None, "times of words"),
    ({"timestamp_granularities": ["segment"]}, 400, "timestamp_granularities", "verbose_json beside it"),
    ({"include": ["logprobs"], "response_format": "text"}, 400, "include", "response_format json beside it"),
    ({"chunking_strategy": {"type": "server_vad", "threshold": 0.5}}, 400, None, "chunking_strategy: voice activity"),
    ({"temperature": 1.5}, 400, "temperature", "expected a number in [0, 1], got 1.5"),
    ({"known_speaker_names": ["Ann"]}, 400, None, "known_speaker_names: speakers are not told apart"),
    ({"extra_body": {"keywords": ["Reka"]}}, 400, None, "keywords: expected prompt"),
    ({"extra_body": {"languages": ["en"]}}, 400, None, "languages: expected language"),
    ({"file": ("empty.wav", b"")}, 400, "file", "expected an audio file, got an empty one"),
    ({"file": ("talk.wav", RECORDING[:40])}, 400, "file", "file: audio: "),
    ({"file": ("long.wav", file(np.zeros(601 * RATE, np.float32)))}, 400, "file", "expected at most 600 s, got 601 s"),
]


@pytest.mark.parametrize(("fields", "status", "param", "words"), REFUSED)
def test_what_there_is_not_is_refused_by_name(
    client: openai.OpenAI, fields: dict[str, object], status: int, param: str | None, words: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.audio.transcriptions.create(**{**ASK, **fields})  # type: ignore[call-overload]
    assert (caught.value.status_code, caught.value.param) == (status, param)
    assert words in str(caught.value.body["message"])  # type: ignore[index]


def test_a_strategy_of_the_server_is_accepted(client: openai.OpenAI) -> None:
    assert client.audio.transcriptions.create(**ASK, chunking_strategy="auto").text


@pytest.mark.parametrize("over_tcp", [True, False])
def test_async_clients(over_tcp: bool, listening: Served, int8_bundle: Path, speech_bundle: Path) -> None:
    async def asked() -> tuple[str, str, str]:
        transport = None if over_tcp else edge.Transport(model=int8_bundle, speech=speech_bundle, threads=1)
        async with httpx.AsyncClient(transport=transport, timeout=60) as carrier:
            url = f"{listening.address}/v1" if over_tcp else "http://edge/v1"
            client = openai.AsyncOpenAI(api_key="local", base_url=url, http_client=carrier, max_retries=0)
            whole = await client.audio.transcriptions.create(**ASK)
            deltas = ""
            async for event in await client.audio.transcriptions.create(**ASK, stream=True):
                deltas += event.delta if event.type == "transcript.text.delta" else ""
            return whole.text, deltas, (await client.audio.translations.create(**ASK)).text

    whole, deltas, translated = asyncio.run(asked())
    assert whole == deltas and translated and translated != whole


def test_a_stream_is_events_of_data_alone(listening: Served) -> None:
    fields = {"model": "whisper-1", "stream": "true"}
    response = httpx.post(
        f"{listening.address}/v1/audio/transcriptions", data=fields, files={"file": RECORDING}, timeout=60
    )
    assert response.headers["content-type"] == "text/event-stream"
    *events, end = response.text.split("\n\n")
    assert end == "" and all(re.match(r'data: \{"type":"transcript\.text\.', event) for event in events)
    assert json.loads(events[-1].removeprefix("data: "))["text"]


def test_metrics_count_transcripts(listening: Served) -> None:
    route = "/v1/audio/transcriptions"
    fields = {"data": {"model": "whisper-1"}, "files": {"file": RECORDING}, "timeout": 60}

    def counted(name: str) -> float:
        text = httpx.get(f"{listening.address}/metrics").text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return 0.0 if found is None else float(found[1])

    names = (f'edge_requests_total{{route="{route}",status="200"}}', 'edge_generations_total{end="stop"}',
             'edge_tokens_total{kind="output"}')  # fmt: skip
    before = [counted(name) for name in names]
    assert httpx.post(f"{listening.address}{route}", **fields).status_code == 200  # type: ignore[arg-type]
    n_requests, n_ends, n_tokens = (counted(name) - old for name, old in zip(names, before, strict=True))
    assert (n_requests, n_ends) == (1, 1) and n_tokens > 0 and math.isfinite(n_tokens)


def test_who_leaves_stops_a_transcription(listening: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, count = threading.Event(), re.compile(r'edge_generations_total\{end="cancelled"\} (\d+)')
    logits = Speech.logits

    def slow(*arguments: object) -> object:
        gate.wait(0.05)
        return logits(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Speech, "logits", slow)
    for stream in ("true", "false"):
        before = sum(map(int, count.findall(httpx.get(f"{listening.address}/metrics").text)))
        body = httpx.Request(
            "POST", "http://localhost/v1/audio/transcriptions",
            data={"model": "whisper-1", "stream": stream}, files={"file": RECORDING},
        )  # fmt: skip
        data = body.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in body.headers.items())
        with socket.create_connection(listening.place, timeout=20) as connection:
            connection.sendall(f"POST {body.url.path} HTTP/1.1\r\n{head}\r\n".encode() + data)
            eventually(lambda: listening.server.queue.n_running == 1)
            eventually(lambda: any(t.name == "edge-speech" for t in threading.enumerate()))
        eventually(lambda: not any(t.name == "edge-speech" for t in threading.enumerate()))
        eventually(lambda: listening.server.queue.n_running == 0)
        text = httpx.get(f"{listening.address}/metrics").text
        assert sum(map(int, count.findall(text))) == before + 1


def test_a_key_is_needed_for_what_is_uploaded(int8_bundle: Path, speech_bundle: Path) -> None:
    with serving(int8_bundle, speech=speech_bundle, key="secret") as served:
        wrong = openai.OpenAI(api_key="wrong", base_url=f"{served.address}/v1", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            wrong.audio.transcriptions.create(**ASK)
        right = openai.OpenAI(api_key="secret", base_url=f"{served.address}/v1", max_retries=0)
        assert right.audio.transcriptions.create(**ASK).text
