"""What was said and when: stretches of text with times, as plain text, as subtitles, and as JSON."""

import json
from dataclasses import dataclass
from typing import Literal

Format = Literal["text", "srt", "json"]


@dataclass(frozen=True)
class Segment:
    """A stretch of text; seconds from the start of the audio. tokens: as they were chosen, timestamps included."""

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...]


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
            return "\n".join(self._subtitles())
        if form == "json":
            return json.dumps(self._fields(), ensure_ascii=False, indent=1)
        return self.text

    def _spans(self) -> list[tuple[float, float, str]]:
        """The stretches that have words, their times inside the audio: the last window is filled up with silence."""
        spans = []
        for segment in self.segments:
            start_s, end_s = min(segment.start_s, self.duration_s), min(segment.end_s, self.duration_s)
            if segment.text.strip():
                spans.append((start_s, max(start_s, end_s), segment.text.strip()))
        return spans

    def _subtitles(self) -> list[str]:
        lines = []
        for number, (start_s, end_s, text) in enumerate(self._spans(), 1):
            # An empty line would end the subtitle.
            lines += [str(number), f"{_clock(start_s)} --> {_clock(end_s)}", " ".join(text.split()), ""]
        return lines[:-1]

    def _fields(self) -> dict[str, object]:
        spans = [{"start": round(a, 3), "end": round(b, 3), "text": text} for a, b, text in self._spans()]
        return {
            "language": self.language,
            "duration": round(self.duration_s, 3),
            "text": self.text,
            "segments": spans,
        }


def _clock(seconds: float) -> str:
    """12.5 -> 00:00:12,500."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"
