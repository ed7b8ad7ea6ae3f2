"""Forms with a file, as clients upload them, and what is wrong with them: fields, headers, boundaries, bytes."""

from __future__ import annotations

import random

from scripts.fuzzing import inputs, mutators

BOUNDARY = b"fuzz0123456789"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"

_FIELDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("model", ("whisper-1", "whisper-1", "default", "none")),
    ("response_format", ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")),
    ("stream", ("true", "false", "True")),
    ("language", ("en", "de", "tlh")),
    ("prompt", ("Reka.", "<|en|>", "\U0001f600" * 300)),
    ("temperature", ("0", "0.7", "1", "1e400", "-0")),
    ("seed", ("1", "9" * 25)),
    ("include[]", ("logprobs", "others")),
    ("timestamp_granularities[]", ("segment", "word")),
    ("chunking_strategy", ("auto", "server_vad")),
)
_ODD = ("", " ", "\x00", "a" * 70_000, "nan", "null", "true", "[]", "\r\n--", "-1", "data:", "\ud7ff", "..")
_HEADERS = (
    b"Content-Type: audio/wav", b"Content-Type: text/plain; charset=utf-7", b"Content-Transfer-Encoding: base64",
    b"X: " + b"a" * 5000, b"Content-Length: 99999999999", b": a", b"A\x00: b", b"Content-Disposition: form-data",
)  # fmt: skip


def form(rng: random.Random) -> tuple[bytes, str]:
    """Return a form, right or not, and the name of the audio in it."""
    name = rng.choice(sorted(inputs.audio()))
    data, mutate = inputs.audio()[name]
    if rng.random() < 0.3:
        data = mutators.mixed(mutate)(data, rng)
    parts = [_part("file", data, rng), _part("model", b"whisper-1", rng)]
    for field, values in _FIELDS:
        if rng.random() < 0.15:
            value = rng.choice(values if rng.random() < 0.8 else _ODD)
            parts.append(_part(field, value.encode(), rng))
    if rng.random() < 0.1:
        parts *= rng.choice((2, 20))
    rng.shuffle(parts)
    body = b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"
    if rng.random() < 0.15:
        body = mutators.any_bytes(body, rng)
    if rng.random() < 0.1:
        place = rng.randrange(len(body))
        body = body[:place] + (b"\r\n--" + BOUNDARY + rng.choice((b"", b"\r\n", b"--", b" "))) * 40 + body[place:]
    return body, name


def _part(field: str, data: bytes, rng: random.Random) -> bytes:
    lines = [b'Content-Disposition: form-data; name="' + field.encode() + b'"']
    if field == "file":
        lines[0] += b'; filename="' + rng.choice((b"a.wav", b"", b"../../a", b'a\\"b', b"\xff")) + b'"'
    while rng.random() < 0.03:
        lines.insert(rng.randint(0, len(lines)), rng.choice(_HEADERS))
    return b"\r\n".join([*lines, b"", data])
