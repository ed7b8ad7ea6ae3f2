"""edge say: a text as speech, into a file or at the loudspeaker."""

import codecs
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.console import fail

if TYPE_CHECKING:
    from edge.speech.speaker import Spoken

VoiceName = Annotated[
    str | None,
    typer.Option("--voice", help="Id of an installed voice, espeak-ng, or a variant: espeak-ng:f3."),
]
SpeechLanguage = Annotated[
    str | None, typer.Option("--language", help="Language of what is spoken: en, de, pt-BR. Default: the voice's.")
]
Speed = Annotated[float, typer.Option("--speed", help="How fast it is spoken, 0.25 to 4; 1 is normal.")]
LoudspeakerName = Annotated[
    str | None, typer.Option("--loudspeaker", help="A loudspeaker's number or name, or an audio file to write.")
]

_READ_BYTES = 1 << 16


def say(
    text: Annotated[str | None, typer.Argument(help="The text, or - for standard input.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", help="A file to write: .wav, .flac, .ogg, .opus or .mp3; - is WAV on stdout.")
    ] = None,
    voice: VoiceName = None,
    language: SpeechLanguage = None,
    speed: Speed = 1.0,
    loudspeaker: LoudspeakerName = None,
) -> None:
    """Speak a text, sentence by sentence while it comes. Markdown and code are not read out."""
    from edge.devices.loudspeaker import Loudspeaker
    from edge.speech.audio_file import format_of
    from edge.speech.speaker import Speaker

    if text is None and (sys.stdin is None or sys.stdin.isatty()):
        fail("no text: pass one as an argument or on standard input")
    if out is not None and loudspeaker is not None:
        fail("--out, --loudspeaker: expected one of them")
    if out not in (None, "-"):
        format_of(Path(str(out)))
    pieces = _piped() if text in (None, "-") else iter([str(text)])
    stop, said = threading.Event(), _Count()
    with Speaker(voice, language=language, speed=speed) as speaker:
        spoken = said.of(speaker.say(pieces, stop=stop))
        if out is not None:
            _write(spoken, out, speaker.rate_hz)
        else:
            with Loudspeaker(loudspeaker) as device:
                try:
                    device.play(spoken, stop=stop)
                except KeyboardInterrupt:
                    stop.set()
                    raise
    if not said.n:
        fail("nothing to say: the text has no words, or code alone")


class _Count:
    """How many sentences went by."""

    def __init__(self) -> None:
        self.n = 0

    def of(self, spoken: "Iterator[Spoken]") -> "Iterator[Spoken]":
        for sentence in spoken:
            self.n += 1
            yield sentence


def _write(spoken: "Iterator[Spoken]", out: str, rate_hz: int) -> None:
    """Write sentences into a file, which is begun with the first one, or to standard output as they come."""
    from edge.speech.audio_file import AudioFile, StreamedWav

    file: AudioFile | StreamedWav | None = None
    try:
        for sentence in spoken:
            if file is None:
                file = StreamedWav(sys.stdout.buffer, rate_hz) if out == "-" else AudioFile(Path(out), rate_hz)
            file.write(sentence.samples)
    except OSError as error:
        if out == "-":
            raise
        fail(f"--out {out}: {error.strerror or error}")
    finally:
        if isinstance(file, AudioFile):
            file.close()


def _piped() -> Iterator[str]:
    """Yield standard input as it comes."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    if sys.stdin is None or sys.stdin.closed:
        return
    try:
        while data := os.read(sys.stdin.fileno(), _READ_BYTES):
            yield decoder.decode(data)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        fail("standard input: expected text in UTF-8")
