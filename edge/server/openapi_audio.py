"""What the document at /openapi.json says of audio that is uploaded: the fields of its form, and its transcripts.

It cannot say: that an empty field is absent, how many fields there may be, and which languages and tasks a model has.
"""

from edge.server.openapi_shapes import COUNT, FILLED, STRING, Fields, closed, listed, shape
from edge.server.transcriptions import FORMATS, REFUSED, STREAMED

_NUMBER: Fields = {"type": "number"}
_NONE: Fields = {"type": "string", "maxLength": 0}


def transcription_request() -> Fields:
    """Return the form that POST /v1/audio/transcriptions accepts, and /v1/audio/translations as well."""
    fields: Fields = {
        "file": {"type": "string", "format": "binary", "minLength": 1, "description": "Audio, or a video with audio."},
        "model": FILLED,
        "language": STRING,
        "prompt": STRING,
        "response_format": {"enum": list(FORMATS)},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "seed": COUNT,
        "stream": {"type": "boolean"},
        "include[]": listed({"const": "logprobs"}, most=1),
        "timestamp_granularities[]": listed({"const": "segment"}, most=1),
        "chunking_strategy": {"enum": ["auto"]},
        **dict.fromkeys((f"{name}[]" for name in REFUSED), listed(_NONE, most=1)),
    }
    streamed = {"if": _has("stream", {"const": True}), "then": shape({"response_format": {"enum": list(STREAMED)}})}
    timed = {
        "if": _has("timestamp_granularities[]", {"minItems": 1}),
        "then": _has("response_format", {"const": "verbose_json"}),
    }
    scored = {"if": _has("include[]", {"minItems": 1}), "then": shape({"response_format": {"const": "json"}})}
    return {**shape(fields, "file", "model"), "allOf": [streamed, timed, scored]}


def transcript_schemas() -> Fields:
    """Return what the routes answer with, by name."""
    score = closed({"token": STRING, "logprob": _NUMBER, "bytes": listed(COUNT)})
    scores: Fields = {"logprobs": listed(score)}
    seconds = closed({"type": {"const": "duration"}, "seconds": COUNT})
    counts = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), COUNT)
    tokens = closed({"type": {"const": "tokens"}, **counts})
    delta = closed({"type": {"const": "transcript.text.delta"}, "delta": FILLED}, scores)
    done = closed({"type": {"const": "transcript.text.done"}, "text": STRING, "usage": tokens}, scores)
    verbose = {
        "task": {"enum": ["transcribe", "translate"]},
        "language": STRING,
        "duration": _NUMBER,
        "text": STRING,
        "segments": listed(_segment()),
        "usage": seconds,
    }
    return {
        "Transcription": closed({"text": STRING, "usage": seconds}, scores),
        "VerboseTranscription": closed(verbose),
        "TranscriptEvent": {"anyOf": [delta, done]},
    }


def _segment() -> Fields:
    numbers = ("start", "end", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob")
    counts = {"id": COUNT, "seek": COUNT, "tokens": listed(COUNT)}
    return closed({**counts, "text": STRING, **dict.fromkeys(numbers, _NUMBER)})


def _has(name: str, schema: Fields) -> Fields:
    return shape({name: schema}, name)
