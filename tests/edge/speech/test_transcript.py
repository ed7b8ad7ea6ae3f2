"""Transcripts as text, subtitles and JSON."""

from __future__ import annotations

import json

from edge.speech.transcript import Segment, Transcript


def transcript(*segments: tuple[float, float, str], duration_s: float = 30.0) -> Transcript:
    found = tuple(Segment(start_s, end_s, text, ()) for start_s, end_s, text in segments)
    return Transcript("".join(segment.text for segment in found).strip(), found, "en", duration_s)


def test_text_is_everything_that_is_said() -> None:
    assert transcript((0, 1, " Hello"), (1, 2.5, " there.")).written("text") == "Hello there."


def test_subtitles_are_numbered_and_timed() -> None:
    written = transcript((0, 1.24, " Hello"), (61.5, 3723.004, " there."), duration_s=4000).written("srt")
    assert written == (
        "1\n00:00:00,000 --> 00:00:01,240\nHello\n\n2\n00:01:01,500 --> 01:02:03,004\nthere."
    )  # fmt: skip


def test_stretches_without_words_are_no_subtitles() -> None:
    written = transcript((0, 1, ""), (1, 2, " a"), (2, 3, "  "), (3, 4, " b")).written("srt")
    assert [line for line in written.splitlines() if line.isdecimal()] == ["1", "2"]


def test_subtitles_are_a_line_each_whatever_is_said() -> None:
    written = transcript((0, 1, " a\n\n2\n00:00 b"), (1, 2, " c")).written("srt")
    assert written.split("\n\n") == [
        "1\n00:00:00,000 --> 00:00:01,000\na 2 00:00 b", "2\n00:00:01,000 --> 00:00:02,000\nc"
    ]  # fmt: skip


def test_times_end_with_the_audio() -> None:
    written = transcript((0, 29.98, " a"), (12, 13, " b"), duration_s=4.2).written("json")
    assert [(s["start"], s["end"]) for s in json.loads(written)["segments"]] == [(0, 4.2), (4.2, 4.2)]


def test_json_has_language_duration_text_and_segments() -> None:
    found = json.loads(transcript((0.1 + 0.2, 1, " Größe"), duration_s=2).written("json"))
    segments = [{"start": 0.3, "end": 1, "text": "Größe"}]
    assert found == {"language": "en", "duration": 2, "text": "Größe", "segments": segments}


def test_nothing_said_is_an_empty_text_and_no_subtitles() -> None:
    assert transcript().written("text") == ""
    assert transcript().written("srt") == ""
    assert json.loads(transcript().written("json"))["segments"] == []
