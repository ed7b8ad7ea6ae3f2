"""Speech in the document at /openapi.json: what POST /v1/audio/speech accepts, its audio, its events, and the lists.

It cannot say: which voices, languages and models there are, and which formats this device's libsndfile writes.
"""

from edge.limits import Limits
from edge.server.audio_streams import TYPES
from edge.server.openapi import get, post, success
from edge.server.openapi_events import event_of
from edge.server.openapi_shapes import (
    COUNT,
    FILLED,
    MAYBE_STRING,
    NULL,
    OPENAI_ERROR,
    STRING,
    Fields,
    closed,
    either,
    listed,
    one_of_values,
    shape,
)
from edge.server.route import ErrorForm
from edge.server.speech import STREAMS
from edge.speech.voice import FASTEST, SLOWEST

_AUDIO: Fields = {"type": "string", "contentMediaType": "application/octet-stream"}


def speech_request() -> Fields:
    """Return what POST /v1/audio/speech accepts."""
    text = {"type": "string", "minLength": 1, "maxLength": Limits.speech_chars}
    fields: Fields = {
        "model": FILLED,
        "input": text,
        "voice": either(FILLED, shape({"id": FILLED}, "id"), NULL),
        "instructions": {**MAYBE_STRING, "description": "Accepted, and without effect."},
        "response_format": one_of_values(tuple(TYPES)),
        "speed": {"type": ["number", "null"], "minimum": SLOWEST, "maximum": FASTEST},
        "stream_format": one_of_values(STREAMS),
        "language": {**MAYBE_STRING, "description": "Of the text, a code; where the voice's name does not say it."},
    }
    return shape(fields, "model", "input")


def speech(errors: ErrorForm) -> Fields:
    """POST /v1/audio/speech."""
    delta = closed({"type": {"const": "speech.audio.delta"}, "audio": FILLED})
    counts = closed(dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), COUNT))
    done = closed({"type": {"const": "speech.audio.done"}, "usage": counts})
    words = "a speech.audio.delta with audio in base64, a speech.audio.done at the end, or an error"
    events = event_of(either(delta, done, OPENAI_ERROR), words, switch="`stream_format` `sse`")
    content = {**{kind: {"schema": _AUDIO} for kind in TYPES.values()}, "text/event-stream": {"schema": events}}
    return post("A text, spoken, as OpenAI's clients ask", speech_request(), success(content), errors)


def voices(errors: ErrorForm) -> Fields:
    """GET /v1/audio/voices."""
    voice = closed({"id": STRING, "name": STRING, "languages": listed(STRING)})
    schema = closed({"voices": listed(voice)})
    return get("The voices that speak here", {"application/json": {"schema": schema}}, errors)


def audio_models(errors: ErrorForm) -> Fields:
    """GET /v1/audio/models."""
    schema = closed({"models": listed(closed({"id": STRING, "name": STRING}))})
    return get("What the model of speech may be", {"application/json": {"schema": schema}}, errors)
