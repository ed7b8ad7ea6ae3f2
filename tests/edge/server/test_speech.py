"""Speech with a voice of tones: what is asked reaches it, its audio is sent as it comes, who leaves stops it."""

import base64
import json
import logging
import threading
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.errors import VoiceError
from edge.limits import Limits
from edge.server.app import App, Job
from edge.server.audio_streams import TYPES
from edge.server.http import HttpRequest
from edge.server.metrics import Metrics
from edge.server.speech import MODELS, VOICES
from edge.server.streaming import Generation, StreamBroken
from tests.edge.asking import eventually
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest
from tests.edge.speech.fake_voice import FakeVoice, FakeVoices

ROUTE = "/v1/audio/speech"
ASK = {"model": "tts-1", "input": "One two. Three four.", "voice": "alloy", "response_format": "pcm"}
JSON = {"content-type": "application/json"}
SECONDS = FakeVoice.seconds("One two. Three four.")


@pytest.fixture
def voice() -> FakeVoice:
    return FakeVoice(rate_hz=24_000)


@pytest.fixture
def voices(voice: FakeVoice) -> FakeVoices:
    return FakeVoices(voice)


@pytest.fixture
def app(voice: FakeVoice, voices: FakeVoices) -> Iterator[App]:
    app = app_with(voices)
    yield app
    voice.gate.set()
    app.close()


def app_with(voices: FakeVoices, **limits: float) -> App:
    return App(Chat(OneEngine(FakeEngine(manifest())), Access(), Limits(**limits), voices=voices))  # type: ignore[arg-type]


def ask(app: App, **fields: object) -> tuple[int, str, bytes]:
    """Return status, content type and body."""
    body = {name: value for name, value in {**ASK, **fields}.items() if value is not ...}
    status, headers, parts = app.respond("POST", ROUTE, JSON, json.dumps(body).encode())
    return status, dict(headers)["content-type"], b"".join(parts)


def error_of(app: App, **fields: object) -> tuple[int, Mapping[str, object]]:
    status, kind, body = ask(app, **fields)
    assert kind == "application/json"
    return status, json.loads(body)["error"]


def generation(app: App) -> Generation:
    job = app.read(HttpRequest("POST", ROUTE, JSON, json.dumps(ASK).encode()))
    assert isinstance(job, Job)
    answer = job.start()
    assert isinstance(answer, Generation)
    return answer


def get(app: App, path: str) -> object:
    status, _, parts = app.respond("GET", path, {}, b"")
    assert status == 200
    return json.loads(b"".join(parts))


def test_a_text_is_spoken_sentence_by_sentence(app: App, voice: FakeVoice) -> None:
    status, kind, body = ask(app)
    assert (status, kind, len(body)) == (200, "audio/pcm", round(SECONDS * 24_000) * 2)
    assert voice.said == [("One two.", 1.0), ("Three four.", 1.0)]
    samples = np.frombuffer(body, "<i2")
    assert 0.28 < np.abs(samples).max() / 32768 < 0.32


@pytest.mark.parametrize(("form", "kind"), list(TYPES.items()))
def test_each_format_has_its_type(app: App, form: str, kind: str) -> None:
    starts = {"mp3": b"\xff", "opus": b"OggS", "flac": b"fLaC", "wav": b"RIFF", "pcm": b""}
    status, found, body = ask(app, response_format=form)
    assert (status, found) == (200, kind) and body.startswith(starts[form]) and len(body) > 500


def test_mp3_is_what_is_sent_unless_another_is_asked_for(app: App) -> None:
    assert ask(app, response_format=...)[1] == ask(app, response_format=None)[1] == "audio/mpeg"


def test_speed_reaches_the_voice(app: App, voice: FakeVoice) -> None:
    assert len(ask(app, speed=2)[2]) == round(SECONDS / 2 * 24_000) * 2
    assert {speed for _, speed in voice.said} == {2.0}


def test_events_have_the_audio_in_base64(app: App) -> None:
    whole = ask(app)[2]
    status, kind, body = ask(app, stream_format="sse")
    assert (status, kind) == (200, "text/event-stream")
    *deltas, done = [json.loads(line.removeprefix("data: ")) for line in body.decode().split("\n\n")[:-1]]
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == whole
    assert done == {"type": "speech.audio.done",
                    "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "opened"),
    [
        *[({"voice": name}, (None, None)) for name in VOICES],
        ({"voice": {"id": "alloy"}}, (None, None)),
        ({"voice": ...}, (None, None)),
        ({"voice": "tone:high"}, ("tone:high", None)),
        ({"voice": {"id": "tone@de"}}, ("tone", "de")),
        ({"voice": "nova", "language": "de"}, (None, "de")),
        ({"model": "tone:high"}, ("tone:high", None)),
        ({"model": "tone@de"}, ("tone", "de")),
        ({"model": "tone:high", "voice": "tone"}, ("tone", None)),
        ({"model": "gpt-4o-mini-tts-2025-12-15"}, (None, None)),
        *[({"model": name}, (None, None)) for name in MODELS],
    ],
)
def test_names_of_voices_and_models(
    app: App, voices: FakeVoices, fields: Mapping[str, object], opened: tuple[str | None, str | None]
) -> None:
    assert ask(app, **fields)[0] == 200
    assert [(name, language) for name, language, _ in voices.opened] == [opened]


@pytest.mark.parametrize("instructions", ["Speak like a pirate.", "None", "", None])
def test_instructions_are_accepted_and_without_effect(app: App, instructions: str | None) -> None:
    assert ask(app, instructions=instructions) == ask(app)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("input", "", "input: expected a text that is not empty, got ''"),
        ("input", 5, "input: expected a text that is not empty, got 5"),
        ("input", ..., "input: expected a text that is not empty"),
        ("input", "x" * 4097, "input: expected at most 4096 characters, got 4097"),
        ("model", ..., "model: expected a model's name"),
        ("voice", "bob", "voice: expected one of tone, tone:high, got 'bob'"),
        ("voice", "tone@fr", "voice: expected a language of the voice, such as en, en-gb, de, got 'fr'"),
        ("voice", 5, "voice: expected a voice's name, or an object with its id, got 5"),
        ("voice", {"id": 5}, "voice: expected a voice's name, or an object with its id"),
        ("language", "fr", "language: expected a language of the voice"),
        ("language", 5, "language: expected a string, got 5"),
        ("instructions", 5, "instructions: expected a string, got 5"),
        ("response_format", "aac", "response_format: aac is not supported; expected one of mp3, opus, flac, wav, pcm"),
        ("response_format", "ogg", "response_format: expected one of mp3, opus, flac, wav, pcm, got 'ogg'"),
        ("response_format", ["mp3"], "response_format: expected one of mp3"),
        ("stream_format", "json", "stream_format: expected one of audio, sse, got 'json'"),
        ("speed", 0.2, "speed: expected a number in [0.25, 4], got 0.2"),
        ("speed", 4.1, "speed: expected a number in [0.25, 4], got 4.1"),
        ("speed", True, "speed: expected a number in [0.25, 4], got True"),
        ("speed", "1", "speed: expected a number in [0.25, 4], got '1'"),
        ("speed", 10**400, "speed: expected a number in [0.25, 4]"),
    ],
)
def test_what_is_wrong_is_named(app: App, field: str, value: object, words: str) -> None:
    status, error = error_of(app, **{field: value})
    assert status == 400 and error["param"] == field and error["type"] == "invalid_request_error"
    assert str(error["message"]).startswith(words)


def test_4096_characters_are_spoken_and_the_owner_may_say_another_number(app: App, voices: FakeVoices) -> None:
    assert ask(app, input="x" + " " * 4095)[0] == 200
    status, error = error_of(app_with(voices, speech_chars=3), input="four")
    assert (status, error["message"]) == (400, "input: expected at most 3 characters, got 4")


def test_another_model_is_an_error_that_lists_what_there_is(app: App) -> None:
    status, error = error_of(app, model="kokoro")
    assert (status, error["code"]) == (404, "model_not_found")
    assert error["message"] == (
        "no model for speech 'kokoro'; there are tts-1, tts-1-hd, gpt-4o-mini-tts, tone, tone:high"
    )


def test_without_a_voice_the_error_names_the_package() -> None:
    app = app_with(FakeVoices(installed=()))
    status, error = error_of(app)
    assert status == 400 and "sudo apt install espeak-ng" in str(error["message"])
    assert get(app, "/v1/audio/voices") == {"voices": []} and get(app, "/v1/audio/models") == {"models": []}


def test_voices_are_listed_once_more_by_language(app: App) -> None:
    assert get(app, "/v1/audio/voices") == {
        "voices": [
            {"id": "tone", "name": "tone", "languages": ["en", "en-gb", "de"]},
            {"id": "tone:high", "name": "tone:high", "languages": ["en"]},
            {"id": "tone@de", "name": "tone, German", "languages": ["de"]},
            {"id": "tone@en", "name": "tone, English", "languages": ["en"]},
        ]
    }
    models = get(app, "/v1/audio/models")
    assert [each["id"] for each in models["models"]] == [*MODELS, "tone", "tone:high"]  # type: ignore[index]


@pytest.mark.parametrize("text", ["... !", " \n"])
@pytest.mark.parametrize("form", list(TYPES))
def test_a_text_without_words_is_a_moment_of_silence(app: App, form: str, text: str) -> None:
    status, kind, body = ask(app, input=text, response_format=form)
    assert (status, kind) == (200, TYPES[form]) and len(body) > 90
    if form == "pcm":
        assert not np.any(np.frombuffer(body, "<i2")) and len(body) == 4800


def test_the_first_sentence_is_sent_before_the_second_is_spoken(app: App, voice: FakeVoice) -> None:
    voice.gate.clear()
    status, _, parts = app.respond("POST", ROUTE, JSON, json.dumps(ASK).encode())
    first = next(parts)
    assert status == 200 and len(first) == round(FakeVoice.seconds("One two.") * 24_000) * 2
    assert voice.said == [("One two.", 1.0)]
    voice.gate.set()
    assert len(first + b"".join(parts)) == round(SECONDS * 24_000) * 2


def test_who_leaves_stops_the_voice(app: App, voice: FakeVoice) -> None:
    voice.gate.clear()
    answer = generation(app)
    eventually(lambda: voice.n_speaking == 1 and len(voice.said) == 1)
    answer.cancel()
    voice.gate.set()
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "edge-voice"])
    assert len(voice.said) <= 2


def test_a_reader_that_does_not_read_is_not_spoken_to_further(app: App, voice: FakeVoice) -> None:
    n_sentences = 40
    body = {**ASK, "input": "abcdefghijklmnopqrstuvwxyz. " * n_sentences}  # 62 400 bytes each
    job = app.read(HttpRequest("POST", ROUTE, JSON, json.dumps(body).encode()))
    assert isinstance(job, Job)
    answer = job.start()
    assert isinstance(answer, Generation)
    ahead = (1 << 20) // 62_400 + 1
    eventually(lambda: len(voice.said) >= ahead and voice.n_speaking == 0)
    assert len(voice.said) <= ahead + 2
    total = 0
    while not answer.done:
        total += len(answer.poll() or b"")
    assert total == n_sentences * 62_400


@pytest.mark.parametrize("form", ["pcm", "sse"])
def test_a_voice_that_fails_amid_a_text_breaks_the_stream(app: App, voice: FakeVoice, form: str) -> None:
    voice.error = VoiceError("espeak-ng was ended by signal 9")
    body = {**ASK, "stream_format": "sse"} if form == "sse" else ASK
    status, _, parts = app.respond("POST", ROUTE, JSON, json.dumps(body).encode())
    received = []
    with pytest.raises(StreamBroken):
        for part in parts:
            received.append(part)
    assert status == 200 and received[0]
    if form == "sse":
        error = json.loads(received[-1].decode().removeprefix("data: "))["error"]
        assert error["message"] == "espeak-ng was ended by signal 9"


def test_a_voice_that_fails_at_once_is_an_error(app: App, voices: FakeVoices) -> None:
    voices.error = VoiceError("espeak-ng lists no language")
    status, error = error_of(app)
    assert (status, error["message"]) == (503, "espeak-ng lists no language")


def test_an_unexpected_failure_is_in_the_log_without_the_text(
    app: App, voice: FakeVoice, caplog: pytest.LogCaptureFixture
) -> None:
    voice.error = ValueError("not for clients")
    with caplog.at_level(logging.ERROR, "edge"), pytest.raises(StreamBroken):
        ask(app)
    assert "speaking failed: ValueError" in caplog.text


def test_what_takes_too_long_is_an_error(voice: FakeVoice) -> None:
    voice.say("first")
    voice.gate.clear()
    status, error = error_of(app_with(FakeVoices(voice), answer_s=0.0))
    assert status == 413 and str(error["message"]).endswith("send it in parts")
    voice.gate.set()


@pytest.mark.parametrize("form", ["pcm", "sse"])
def test_what_began_and_takes_too_long_does_not_pass_for_the_whole(voice: FakeVoice, form: str) -> None:
    now_s = 0.0
    app = App(app_with(FakeVoices(voice), answer_s=10.0).chat, clock=lambda: now_s)
    voice.gate.clear()
    body = {**ASK, "stream_format": "sse"} if form == "sse" else ASK
    status, _, parts = app.respond("POST", ROUTE, JSON, json.dumps(body).encode())
    assert status == 200 and next(parts)
    now_s = 10.0
    received = []
    with pytest.raises(StreamBroken):
        for part in parts:
            received.append(part)
    if form == "sse":
        assert "send it in parts" in json.loads(received[-1].decode().removeprefix("data: "))["error"]["message"]
    else:
        assert not b"".join(received)
    voice.gate.set()
    app.close()


def test_speech_is_counted_as_other_answers_are(app: App) -> None:
    assert isinstance(app.metrics, Metrics)
    ask(app)
    assert 'edge_generations_total{end="stop"} 1' in app.metrics.text()
