"""edge transcribe: what is said in audio, or in the audio track of a video, as text, subtitles or JSON."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from edge.commands.asking import address
from edge.commands.console import ProvidersOption, fail, harmless
from edge.errors import ParameterError
from edge.speech.transcript import Format

if TYPE_CHECKING:
    from edge.bundle.store import Stored

_FORMATS = get_args(Format)
_MAX_BYTES = 2 << 30


def transcribe(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An audio or video file, or a data: URL.")],
    form: Annotated[str, typer.Option("--format", help=f"Output format: {', '.join(_FORMATS)}.")] = "text",
    model: Annotated[str | None, typer.Option("--model", help="Id or folder of a speech bundle.")] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Language code, such as en. Default: detected.")
    ] = None,
    translate: Annotated[bool, typer.Option("--translate", help="Translate to English.")] = False,
    seconds: Annotated[
        int | None, typer.Option("--seconds", min=1, help="Limit of the audio, in seconds. Default: 600.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. Default: all.")] = None,
    _providers: ProvidersOption = None,
) -> None:
    """Transcribe an audio or video file. The formats srt, vtt and json have timestamps."""
    from edge.limits import AudioLimits
    from edge.media.audio import open_audio
    from edge.media.fetch import read_url
    from edge.speech.transcriber import How, Speech

    if form not in _FORMATS:
        fail(f"--format {form!r:.200}: expected one of {', '.join(_FORMATS)}")
    if not (Path(file).is_file() or ":" in file):
        fail(f"{file!r:.200}: no such file")
    task = "translate" if translate else "transcribe"
    stored = _chosen(model, language, task)
    speech = Speech.open(stored.path, threads=threads)
    # The file is the reader's own: its seconds are limited, what is kept of them is small.
    limits = AudioLimits(seconds or AudioLimits().seconds, pcm_bytes=sys.maxsize)
    samples = open_audio(read_url(address(file), files=True, max_bytes=_MAX_BYTES), limits)
    with _Progress() as progress:
        transcript = speech.transcribe(samples, how=How(language, task), progress=progress.show)
    text = transcript.written(cast(Format, form))
    if text:
        print(harmless(text))


def _chosen(name: str | None, language: str | None, task: str) -> "Stored":
    """Return the speech bundle to use: the one named, the one set for the default model, else the first installed.

    One that does not know the language or the task is passed by for one that does. Raises: ParameterError when none
    does, UnknownModelError, BundleError.
    """
    from edge.bundle import store
    from edge.models import find

    installed = store.bundles("speech")
    if name is not None:
        stored = find(name, {}, kind="speech")
    else:
        if not installed:
            fail("no speech bundle is installed: edge models install DIR, or --model DIR")
        chat = next(iter(store.bundles()), None)
        preferred = None if chat is None else store.speech_model(chat.id)
        stored = next((other for other in installed if other.id == preferred), installed[0])
    if _lacks(stored, language, task) is None:
        return stored
    able = [other for other in installed if _lacks(other, language, task) is None]
    if name is None and able:
        print(f"edge: {stored.id}: {_lacks(stored, language, task)}: using {able[0].id}", file=sys.stderr)
        return able[0]
    others = (
        f"; installed bundles that do: {', '.join(other.id for other in able)}: --model {able[0].id}" if able else ""
    )
    fail(f"{stored.id}: {_lacks(stored, language, task)}{others}")


def _lacks(stored: "Stored", language: str | None, task: str) -> str | None:
    """Return why a bundle cannot do what is asked, None where it can."""
    from edge.bundle.manifest import SpeechManifest
    from edge.speech.transcriber import check

    if not isinstance(stored.manifest, SpeechManifest):
        return f"expected a speech bundle, got a {stored.kind} bundle (edge models list)"
    try:
        check(stored.manifest.speech, language=language, task=task)
    except ParameterError as error:
        return str(error)
    return None


class _Progress:
    """How far the listening is, on stderr, where that is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("listening", total=None)

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done_s: float, total_s: float) -> None:
        self._bar.update(self._task, completed=done_s, total=total_s)
