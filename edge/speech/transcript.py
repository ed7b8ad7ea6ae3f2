"""What was said and when: stretches of text with times, as plain text, as subtitles, and as JSON."""

import json
import zlib
from dataclasses import dataclass, replace
from typing import Literal

Format = Literal["text", "srt", "vtt", "json"]


@dataclass(frozen=True)
class Window:
    """One window of audio as the model saw it. Source: openai-whisper's DecodingResult.

    seek: its first frame, of 10 ms; temperature: its tokens were chosen at; log_probability: the mean of those of its
    tokens, its end's included; no_speech: the probability that nobody speaks, None from a model that does not say;
    text: all of its text.
    """

    seek: int
    temperature: float
    log_probability: float
    no_speech: float | None
    text: str

    @property
    def compression_ratio(self) -> float:
        """How far its text can be compressed: text that repeats itself has a high one."""
        data = self.text.encode()
        return len(data) / len(zlib.compress(data))


@dataclass(frozen=True)
class Segment:
    """A stretch of text; seconds from the start of the audio. tokens: as they were chosen, timestamps included.

    scores: the natural logarithm of each token's probability; window: the one it was found in.
    """

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...]
    scores: tuple[float, ...] = ()
    window: Window | None = None


@dataclass(frozen=True)
class Transcript:
    """Everything said in audio. language: its code ("en"), None from a model of one language."""

    text: str
    segments: tuple[Segment, ...]
    language: str | None
    duration_s: float

    def written(self, form: Format) -> str:
        """Return the transcript in one of the formats, without a line end behind it."""
        if form == "srt":
            return "\n".join(self._subtitles(","))
        if form == "vtt":
            return "\n".join(["WEBVTT", "", *self._subtitles(".")])
        if form == "json":
            return json.dumps(self._fields(), ensure_ascii=False, indent=1)
        return self.text

    def spoken(self) -> list[Segment]:
        """Return the stretches that have words, their times inside the audio: the last window ends with silence."""
        found = []
        for segment in self.segments:
            start_s, end_s = min(segment.start_s, self.duration_s), min(segment.end_s, self.duration_s)
            if segment.text.strip():
                found.append(replace(segment, start_s=start_s, end_s=max(start_s, end_s)))
        return found

    def _subtitles(self, mark: str) -> list[str]:
        """Return the lines of subtitles. mark: before the milliseconds; WebVTT's have no numbers, and no angles."""
        lines = []
        for number, segment in enumerate(self.spoken(), 1):
            times = f"{_clock(segment.start_s, mark)} --> {_clock(segment.end_s, mark)}"
            text = " ".join(segment.text.split())  # an empty line would end the subtitle
            if mark == ".":
                lines += [times, text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"), ""]
            else:
                lines += [str(number), times, text.replace("-->", "->"), ""]
        return lines[:-1]

    def _fields(self) -> dict[str, object]:
        spans = [
            {"start": round(s.start_s, 3), "end": round(s.end_s, 3), "text": s.text.strip()} for s in self.spoken()
        ]
        return {
            "language": self.language,
            "duration": round(self.duration_s, 3),
            "text": self.text,
            "segments": spans,
        }


def _clock(seconds: float, mark: str) -> str:
    """12.5 -> 00:00:12,500."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"
