"""Transcriptions without a model: what is asked reaches it, what it says is written, who leaves stops it."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping

import httpx
import numpy as np
import pytest

from edge.arrays import F32
from edge.bundle.manifest import SpeechSpec
from edge.chat import Chat
from edge.chat.attachments import Access
from edge.errors import EngineClosed, NonFiniteError, UnknownModelError
from edge.limits import Limits
from edge.server.app import App, Job
from edge.server.http import HttpRequest
from edge.server.metrics import Metrics
from edge.server.streaming import Generation, StreamBroken
from edge.speech.transcriber import Heard, How
from edge.speech.transcript import Segment, Transcript, Window
from tests.edge.asking import eventually
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest
from tests.edge.media.tones import file, tone
from tests.edge.speech.test_rules import SPEC

SOUND = file(tone(2.0))
ROUTE = "/v1/audio/transcriptions"


class FakeSpeech:
    """Says three words, a stretch each; waits for `gate` before the second one; `error` comes after the first."""

    id = "a-whisper"

    def __init__(self, spec: SpeechSpec = SPEC, error: Exception | None = None) -> None:
        self.spec = spec
        self.error = error
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[tuple[F32, How]] = []
        self.stopped = threading.Event()

    def listen(
        self, samples: F32, *, how: How, stopped: Callable[[], bool], heard: Callable[[Heard], None]
    ) -> Transcript:
        self.asked.append((samples, how))
        words, segments = (" One", " two", " three."), []
        window = Window(0, how.temperature, -0.5, 0.25, "".join(words))
        for i, word in enumerate(words):
            segments.append(Segment(i * 0.5, i * 0.5 + 0.5, word, (i,), (-0.1 * i,), window))
            tokens, scores = tuple(range(i + 1)), tuple(-0.1 * n for n in range(i + 1))
            data = tuple(text.encode() for text in words[: i + 1])
            heard(Heard("".join(words[: i + 1]).strip(), tokens, scores, 1500, data))
            while not self.gate.wait(0.01):
                if stopped():
                    self.stopped.set()
                    raise EngineClosed("stopped")
            if self.error is not None:
                raise self.error
        return Transcript("One two three.", tuple(segments), "de", 2.0)


class Listening(OneEngine):
    """The models of a chat that has this speech-to-text model for the name whisper-1."""

    def __init__(self, speech: FakeSpeech) -> None:
        super().__init__(FakeEngine(manifest()))
        self._speech = speech

    def speech_to_text(self, name: str) -> FakeSpeech:
        if name != "whisper-1":
            raise UnknownModelError(f"speech bundle {name!r} is not installed", name=name)
        return self._speech


@pytest.fixture
def speech() -> FakeSpeech:
    return FakeSpeech()


@pytest.fixture
def app(speech: FakeSpeech) -> Iterator[App]:
    app = App(Chat(Listening(speech), Access(), Limits()))  # type: ignore[arg-type]
    yield app
    speech.gate.set()
    app.close()


def posted(fields: Mapping[str, object], data: bytes = SOUND, route: str = ROUTE) -> HttpRequest:
    form = {"model": "whisper-1", **fields}
    request = httpx.Request("POST", f"http://a{route}", data=form, files={"file": ("a.wav", data)})
    return HttpRequest("POST", route, {"content-type": request.headers["content-type"]}, bytearray(request.read()))


def ask(app: App, route: str = ROUTE, **fields: object) -> tuple[int, str, str]:
    """Return status, content type and body."""
    request = posted(fields, route=route)
    status, headers, parts = app.respond("POST", route, request.headers, bytes(request.body))
    return status, dict(headers)["content-type"], b"".join(parts).decode()


def test_what_is_asked_reaches_the_model(app: App, speech: FakeSpeech) -> None:
    fields = {"language": "de", "prompt": "Reka.", "temperature": "0.2", "seed": "7"}
    assert ask(app, **fields)[0] == 200 and ask(app, language="", prompt="", temperature="")[0] == 200
    (samples, how), (_, usual) = speech.asked
    assert how == How("de", "transcribe", "Reka.", 0.2, 7) and usual == How()
    assert np.allclose(samples, tone(2.0), atol=1e-3)
    translating = FakeSpeech(SpeechSpec(**{**vars(SPEC), "tasks": {"transcribe": 306, "translate": 305}}))
    app.chat.models._speech = translating  # type: ignore[attr-defined]
    assert ask(app, "/v1/audio/translations")[0] == 200
    assert translating.asked[0][1].task == "translate"


WRITTEN = {
    "text": "One two three.\n",
    "srt": "1\n00:00:00,000 --> 00:00:00,500\nOne\n\n2\n00:00:00,500 --> 00:00:01,000\ntwo\n\n"
    "3\n00:00:01,000 --> 00:00:01,500\nthree.\n",
    "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:00.500\nOne\n\n00:00:00.500 --> 00:00:01.000\ntwo\n\n"
    "00:00:01.000 --> 00:00:01.500\nthree.\n",
}


@pytest.mark.parametrize("form", WRITTEN)
def test_texts_are_written_as_they_are_asked_for(app: App, form: str) -> None:
    assert ask(app, response_format=form) == (200, "text/plain; charset=utf-8", WRITTEN[form])


def test_json_has_the_text_and_seconds_that_count(app: App) -> None:
    status, kind, body = ask(app)
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"text": "One two three.", "usage": {"type": "duration", "seconds": 2}}


def test_verbose_json_has_segments_with_what_the_model_thinks_of_them(app: App) -> None:
    body = json.loads(ask(app, response_format="verbose_json", temperature="0.5")[2])
    assert (body["task"], body["language"], body["duration"]) == ("transcribe", "german", 2.0)
    assert body["segments"][1] == {
        "id": 1, "seek": 0, "start": 0.5, "end": 1.0, "text": " two", "tokens": [1], "temperature": 0.5,
        "avg_logprob": -0.5, "compression_ratio": pytest.approx(14 / 22, abs=0.05), "no_speech_prob": 0.25,
    }  # fmt: skip


def test_a_stream_has_a_delta_for_each_stretch_and_an_end(app: App) -> None:
    status, kind, body = ask(app, stream="true", **{"include[]": "logprobs"})
    events = [json.loads(line.removeprefix("data: ")) for line in body.removesuffix("\n\n").split("\n\n")]
    *deltas, done = events
    assert (status, kind) == (200, "text/event-stream")
    assert "".join(event["delta"] for event in deltas) == done["text"] == "One two three."
    assert [score for event in deltas for score in event["logprobs"]] == done["logprobs"]
    assert done["logprobs"][1] == {"token": " two", "logprob": -0.1, "bytes": list(b" two")}
    assert done["usage"] == {"type": "tokens", "input_tokens": 1500, "output_tokens": 3, "total_tokens": 1503}


def begun(app: App, **fields: object) -> Generation:
    job = app.read(posted(fields))
    assert isinstance(job, Job)
    generation = job.start()
    assert isinstance(generation, Generation)
    return generation


@pytest.mark.parametrize("stream", ["true", "false"])
def test_who_leaves_stops_the_model(app: App, speech: FakeSpeech, stream: str) -> None:
    speech.gate.clear()
    generation = begun(app, stream=stream)
    eventually(lambda: generation.handle.newest.output_tokens == 1)
    generation.cancel()
    assert speech.stopped.wait(30)
    assert 'edge_generations_total{end="cancelled"} 1' in app.metrics.text()


def test_text_is_sent_while_the_rest_is_not_there(app: App, speech: FakeSpeech) -> None:
    speech.gate.clear()
    generation = begun(app, stream="true")
    eventually(lambda: generation.handle.newest.output_tokens == 1)
    assert b'"delta":"One"' in (generation.poll() or b"") and not generation.done
    generation.cancel()


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_transcript_whose_time_is_over_is_no_answer(speech: FakeSpeech, stream: str) -> None:
    app = App(Chat(Listening(speech), Access(), Limits(answer_s=0.0)))  # type: ignore[arg-type]
    speech.gate.clear()
    status, _, body = ask(app, stream=stream)
    assert (status, "takes longer" in body, "One" in body) == (200 if stream == "true" else 413, True, False)
    assert '"error":' in body and speech.stopped.wait(30)
    app.close()


def test_an_error_on_the_way_ends_a_stream(app: App, speech: FakeSpeech) -> None:
    speech.error = NonFiniteError("token 3")
    assert ask(app)[0] == 500
    request = posted({"stream": "true"})
    with pytest.raises(StreamBroken):
        list(app.respond("POST", ROUTE, request.headers, bytes(request.body))[2])


def test_a_failure_of_ours_is_answered(app: App, speech: FakeSpeech) -> None:
    speech.error = ValueError("/a/path")
    status, _, body = ask(app)
    assert status == 500 and "/a/path" not in body


REFUSED: list[tuple[dict[str, object], str | None, str]] = [
    ({"language": "xx"}, "language", "expected one of en, de; got 'xx'"),
    ({"temperature": "warm"}, "temperature", "expected a number, got 'warm'"),
    ({"temperature": "nan"}, "temperature", "expected a number, got 'nan'"),
    ({"temperature": "1.01"}, "temperature", "in [0, 1], got 1.01"),
    ({"seed": "-1"}, "seed", ">= 0, got -1"),
    ({"seed": "1" * 31}, "seed", "expected an integer"),
    ({"stream": "yes"}, "stream", "expected true or false, got 'yes'"),
    ({"language": ["de", "en"]}, "language", "expected one value, got 2"),
    ({"response_format": "srt", "stream": "true"}, "response_format", "json or text with stream"),
    ({"timestamp_granularities[]": ["segment", "word"], "response_format": "verbose_json"}, None, "times of words"),
    ({"timestamp_granularities[]": "segment"}, "timestamp_granularities", "verbose_json beside it"),
    ({"timestamp_granularities": "letter"}, "timestamp_granularities", "expected segment, the only one there is"),
    ({"include[]": "speakers"}, "include", "expected logprobs, the only one there is"),
    ({"chunking_strategy[type]": "server_vad"}, None, "chunking_strategy: voice activity detection"),
    ({"chunking_strategy": '{"type": "server_vad"}'}, None, "chunking_strategy: voice activity detection"),
    ({"known_speaker_references[]": "data:"}, None, "known_speaker_references: speakers are not told apart"),
    ({"model": ""}, "model", "expected a model's name, got none"),
]


@pytest.mark.parametrize(("fields", "param", "words"), REFUSED)
def test_what_is_wrong_is_named(
    app: App, speech: FakeSpeech, fields: dict[str, object], param: str | None, words: str
) -> None:
    status, _, body = ask(app, **fields)
    error = json.loads(body)["error"]
    assert (status, error["param"]) == (400, param) and words in error["message"]
    assert not speech.asked


def test_a_model_that_does_not_translate_says_so(app: App) -> None:
    status, _, body = ask(app, "/v1/audio/translations")
    error = json.loads(body)["error"]
    assert (status, error["param"]) == (400, "model")
    assert error["message"] == "model: a-whisper transcribes, and does not translate"


def test_other_media_types_are_refused(app: App) -> None:
    status, _, _ = app.respond("POST", ROUTE, {"content-type": "application/json"}, b"{}")
    assert status == 415


def test_unknown_fields_are_ignored_and_a_file_is_not(app: App) -> None:
    assert ask(app, vad_filter="true", hotwords="x")[0] == 200
    request = posted({}, data=b"")
    status, _, parts = app.respond("POST", ROUTE, request.headers, bytes(request.body))
    assert status == 400 and "file: expected an audio file, got an empty one" in b"".join(parts).decode()


def test_metrics_are_of_the_server(app: App) -> None:
    assert isinstance(app.metrics, Metrics) and ask(app)[0] == 200
    assert 'edge_tokens_total{kind="output"} 3' in app.metrics.text()
