"""Media that messages name, opened: read or fetched, decoded here or in the separate process, and counted."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from edge.arrays import F32, U8
from edge.bundle.manifest import Manifest, VisionSpec
from edge.chat.messages import MediaPart, Message, MessageLike, Problems, read_messages, shown
from edge.chat.pdf_text import TextBudget, pdf_parts
from edge.chat.prompt import DecodedAudio, DecodedImage, DecodedVideo, Part, Transcript, Turn
from edge.errors import MediaError, ParameterError
from edge.limits import Limits
from edge.media import decoding
from edge.media.audio import from_samples
from edge.media.decoded import Decoded, Options
from edge.media.detail import AUTO, Detail
from edge.media.fetch import read_url
from edge.media.frames import small, spread
from edge.media.image import digest, from_array, received, reduced, tower_options
from edge.media.pool import Client, Decoder, Pool, Share
from edge.media.recent import RecentMedia
from edge.media.resized import size_of
from edge.media.sandbox import Worker
from edge.media.windows import digest as audio_digest
from edge.speech.speech_to_text import SpeechToText

if TYPE_CHECKING:
    from edge.media.remote import Remote

_LOG = logging.getLogger("edge")
_MAX_LOST_CHARS = 200
_DECODER_BYTES = 64 << 20  # what a decoder needs beside the pixels of an image


@dataclass(frozen=True)
class AudioAccess:
    """What turns audio into text, and which audio.

    listener: for bundles without an audio tower; tracks: whether the audio tracks of videos are used, too; stopped:
    asked while the listener works.
    """

    speech_model: SpeechToText | None = None
    tracks: bool = False
    stopped: Callable[[], bool] | None = None


@dataclass(frozen=True, eq=False)
class Access:
    """What messages may name, and where it is decoded.

    files: which local files, all, none or those in a folder; remote: what may be fetched, None for nothing.
    apart: whether clients are untrusted, so that images are decoded in the separate process, too; videos and
    PDFs always are, for the libraries that read them write to the terminal, want threads of their own, and crash.
    recent: what was decoded lately.
    """

    files: bool | Path = False
    remote: "Remote | None" = None
    apart: bool = False
    worker: Decoder = field(default_factory=Worker, repr=False)
    recent: RecentMedia = field(default_factory=RecentMedia, repr=False)

    def shared(self, client: Client | None) -> "Access":
        """Return what one request of a client uses: it takes turns where the processes are a pool's."""
        return replace(self, worker=self.worker.share(client)) if isinstance(self.worker, Pool) else self

    def stop(self) -> None:
        """Have nothing more decoded for the one request this is for, from any thread."""
        if isinstance(self.worker, Share):
            self.worker.stop()

    def decode(self, kind: str, data: bytes, options: Options) -> Decoded:
        """Decode media, unless the same bytes were decoded so lately.

        Raises: MediaError, MemoryExhausted, RateLimitError.
        """
        key = self.recent.key(kind, data, options)
        decoded = self.recent.recall(key)
        if decoded is None:
            is_apart = self.apart or kind in ("video", "pdf")
            decoded = (self.worker.decode if is_apart else decoding.decode)(kind, data, options)
            self.recent.remember(key, decoded)
        return decoded


def folder_of(files: bool | str | Path) -> bool | Path:
    """Return which local files messages may name: all, none, or those in a folder.

    Raises: ParameterError for an empty name, which would stand for whatever folder is the current one.
    """
    if isinstance(files, bool):
        return files
    if files == "":
        raise ParameterError("files: expected True, False or the name of a folder, got ''", field="files")
    return Path(files).expanduser()


def allowing(hosts: Sequence[str], limits: Limits | None = None) -> "Remote | None":
    """Return what may be fetched when these hosts are allowed; nothing is loaded for it without any.

    Raises: ParameterError for a host that is none.
    """
    if not hosts:
        return None
    from edge.media.remote import Remote

    limits = limits or Limits()
    return Remote(
        (hosts,) if isinstance(hosts, str) else tuple(hosts),
        redirects=limits.redirects,
        connect_s=limits.connect_s,
        total_s=limits.fetch_s,
        max_bytes=limits.fetch_bytes,
    )


def turns(
    messages: Iterable[MessageLike],
    *,
    spec: Manifest,
    access: Access,
    budget: TextBudget,
    limits: Limits | None = None,
) -> list[Turn]:
    """Check messages and open their media; budget: of the text of PDFs.

    Raises: UnprocessableEntityError naming every field that is wrong, MediaError and TextError naming the part.
    """
    problems = Problems()
    limits = limits or Limits.of_this_machine()
    checked = read_messages(messages, problems, limits)
    problems.raise_any()
    return open_media(checked, spec=spec, access=access, limits=limits, budget=budget)


def open_media(
    messages: Sequence[Message],
    *,
    spec: Manifest,
    access: Access,
    budget: TextBudget,
    limits: Limits,
    frames: int | None = None,
    audio_access: AudioAccess | None = None,
    detail: Detail = AUTO,
) -> list[Turn]:
    """Open every media part, in order, and turn audio into text where the bundle has no audio tower.

    frames: how many of each video, the bundle's number unless given; detail: of images and pages whose part has none.
    Raises: MediaError naming the part and what is supported; as SpeechToText.transcribe.
    """
    opened = decode_media(
        messages, spec=spec, access=access, budget=budget, limits=limits, frames=frames, audio_access=audio_access,
        detail=detail,
    )  # fmt: skip
    return transcribed(opened, spec=spec, audio_access=audio_access)


def decode_media(
    messages: Sequence[Message],
    *,
    spec: Manifest,
    access: Access,
    budget: TextBudget,
    limits: Limits,
    frames: int | None = None,
    audio_access: AudioAccess | None = None,
    detail: Detail = AUTO,
) -> list[Turn]:
    """Open every media part, in order, and leave audio as samples. Raises: MediaError naming the part."""
    opener = _Opener(spec, access, limits, frames, budget, audio_access or AudioAccess(), detail)
    return [opener.turn(message) for message in messages]


def transcribed(opened: Sequence[Turn], *, spec: Manifest, audio_access: AudioAccess | None) -> list[Turn]:
    """Return turns with their audio as text where the bundle has no audio tower. Raises: as SpeechToText.transcribe."""
    speech_model = None if audio_access is None or spec.audio is not None else audio_access.speech_model
    if audio_access is None or speech_model is None:
        return list(opened)

    def said(part: Part) -> Part:
        if not isinstance(part, DecodedAudio):
            return part
        return Transcript(speech_model.transcribe(part.samples, part.digest, stopped=audio_access.stopped))

    return [replace(turn, parts=tuple(map(said, turn.parts))) for turn in opened]


class _Opener:
    """Opens the media of one request, and counts what it holds so far."""

    def __init__(
        self,
        spec: Manifest,
        access: Access,
        limits: Limits,
        frames: int | None,
        budget: TextBudget,
        audio_access: AudioAccess,
        detail: Detail,
    ) -> None:
        self._spec = spec
        self._detail = detail
        self._access = access
        self._limits = limits
        self._frames = frames
        self._budget = budget
        self._audio_access = audio_access
        self._left_bytes = limits.decoded_bytes
        self._left_pages = limits.pages
        self._left_pages_here = 0

    def turn(self, message: Message) -> Turn:
        """Open the media of a message. Raises: MediaError."""
        self._left_pages_here = self._limits.pages_per_message
        results = tuple(result if isinstance(result, str) else self._parts(result) for result in message.results)
        return Turn(message.role, self._parts(message.parts), message.calls, results)

    def _parts(self, given: Iterable[str | MediaPart]) -> tuple[Part, ...]:
        parts: list[Part] = []
        for part in given:
            parts.extend(self._open(part) if isinstance(part, MediaPart) else [part])
        return tuple(parts)

    def _open(self, part: MediaPart) -> Sequence[Part]:
        place = ".".join(map(str, part.loc[1:]))
        vision = self._spec.vision
        try:
            if part.kind == "audio":
                return [self._audio(part)]
            if vision is None:
                raise MediaError(f"{part.kind}: {self._spec.id} accepts {self._taken()}")
            if part.kind == "image":
                return [self._image(part, vision)]
            if part.kind == "video":
                return self._video(part, vision)
            return self._pdf(part, vision)
        except MediaError as error:
            raise MediaError(f"{place}: {error}") from error

    def _image(self, part: MediaPart, spec: VisionSpec) -> DecodedImage:
        # The bytes left bound the pixels before anything is decoded.
        max_px, detail = min(self._limits.image_px, self._left_bytes // 3), self._detail_of(part)
        try:
            if part.is_url:
                memory_bytes = self._limits.decoded_bytes + _DECODER_BYTES
                options = {"max_px": max_px, "memory_bytes": memory_bytes, **tower_options(spec, detail)}
                decoded = self._access.decode("image", self._read(part), options)
                image = received(decoded, spec, max_px=max_px, detail=detail)
            else:
                image = reduced(cast(U8, part.source), spec, max_px=max_px, detail=detail)
        except MediaError as error:
            held = "" if max_px == self._limits.image_px else self._held()
            raise MediaError(f"{error}{held}") from error
        width, height = size_of(image)
        self._hold_bytes(width * height * 3)  # what it was while it was decoded, though little of it may be left
        return DecodedImage(image, digest(image), detail)

    def _detail_of(self, part: MediaPart) -> Detail:
        """Return how finely a part is looked at: as it says, else as the request does."""
        most = self._detail.max_tiles if part.max_tiles is None else part.max_tiles
        return Detail(part.detail or self._detail.level, most)

    def _video(self, part: MediaPart, spec: VisionSpec) -> Sequence[Part]:
        """Open a video, and its audio track where that is asked for."""
        wanted = self._frames or spec.frames
        if not part.is_url:
            return [self._frames_of(part.source, wanted, spec)]
        if not self._audio_access.tracks:
            return [self._clip(self._read(part), spec, wanted)]
        self._check_audio()
        data = self._read(part)
        clip = self._clip(data, spec, wanted)
        decoded = self._access.decode("audio", data, {**asdict(self._limits.audio), "track": True})
        tell_lost("audio", decoded)
        return [clip, *(self._decoded_audio(cast(F32, samples)) for samples in decoded.arrays)]

    def _clip(self, data: bytes, spec: VisionSpec, wanted: int) -> DecodedVideo:
        decoded = self._access.decode("video", data, video_options(spec, self._limits, wanted))
        tell_lost("video", decoded)
        frames, seconds = _images(decoded), decoded.info.get("seconds")
        if not isinstance(seconds, list) or len(seconds) != len(frames):
            raise MediaError("video: decoding it failed")
        self._hold(frames)
        return DecodedVideo(tuple(DecodedImage(rgb, digest(rgb)) for rgb in frames), tuple(map(int, seconds)))

    def _frames_of(self, source: object, wanted: int, spec: VisionSpec) -> DecodedVideo:
        """Take a video that is decoded already: a list of images, one second apart."""
        if not isinstance(source, list | tuple | np.ndarray) or not len(source):
            raise MediaError(f"video: expected a list of frames, got {shown(source)}")
        if len(source) > self._limits.video_decoded_frames:
            raise MediaError(f"video: expected at most {self._limits.video_decoded_frames} frames, got {len(source)}")
        frames = []
        indices = spread(len(source), wanted)
        for index in indices:
            rgb = from_array(source[index], max_px=self._limits.video_px)
            whole = Image.fromarray(rgb)
            frames.append(small(whole, side=spec.tile_px, crop_share=spec.crop_share, resample=spec.resample))
        self._hold(frames)
        return DecodedVideo(tuple(DecodedImage(rgb, digest(rgb)) for rgb in frames), tuple(indices))

    def _audio(self, part: MediaPart) -> DecodedAudio:
        self._check_audio()
        limits = self._limits.audio
        if part.is_url:
            decoded = self._access.decode("audio", self._read(part), asdict(limits))
            tell_lost("audio", decoded)
            samples = cast(F32, decoded.arrays[0])
        else:
            if not isinstance(part.source, tuple | list) or len(part.source) != 2:
                raise MediaError(f"audio: expected samples and their rate in Hz, got {shown(part.source)}")
            samples = from_samples(part.source[0], part.source[1], limits)
        return self._decoded_audio(samples)

    def _decoded_audio(self, samples: F32) -> DecodedAudio:
        self._hold([samples])
        return DecodedAudio(samples, audio_digest(samples))

    def _check_audio(self) -> None:
        """Refuse audio before it is read where no model accepts it. Raises: MediaError with the way out."""
        name = self._spec.id
        if self._spec.audio is None and self._audio_access.speech_model is None:
            found = "it has no audio tower, and no speech-to-text model is set"
            raise MediaError(f"audio: {name} accepts {self._taken()}; {found}: edge models speech {name} SPEECH-BUNDLE")

    def _taken(self) -> str:
        kinds = ["text"] if self._spec.vision is None else ["text", "images", "videos", "PDFs"]
        if self._spec.audio is not None or self._audio_access.speech_model is not None:
            kinds.append("audio")
        return " and ".join([", ".join(kinds[:-1]), kinds[-1]]) if len(kinds) > 1 else "text only"

    def _pdf(self, part: MediaPart, spec: VisionSpec) -> Sequence[Part]:
        max_pages = min(self._left_pages_here, self._left_pages)
        if max_pages == 0:
            limits, is_here = self._limits, self._left_pages_here == 0
            most, where = (limits.pages_per_message, "a message") if is_here else (limits.pages, "all messages")
            raise MediaError(f"pdf: expected at most {most} pages in {where}, got {most + 1} or more")
        area_px = min(spec.max_tiles * spec.tile_px**2, self._limits.page_px)
        options = {"max_pages": max_pages, "area_px": area_px, "max_bytes": self._left_bytes}
        decoded = self._access.decode("pdf", self._read(part), options)
        pages, texts = _images(decoded), decoded.info.get("texts")
        if not isinstance(texts, list) or len(texts) != len(pages):
            raise MediaError("pdf: decoding it failed")
        self._hold(pages)
        self._left_pages -= len(pages)
        self._left_pages_here -= len(pages)
        return pdf_parts(pages, [str(text) for text in texts], self._budget, self._detail_of(part))

    def _read(self, part: MediaPart) -> bytes:
        return read_url(str(part.source), files=self._access.files, remote=self._access.remote)

    def _hold(self, arrays: Sequence[U8 | F32]) -> None:
        """Count decoded bytes. Raises: MediaError."""
        self._hold_bytes(sum(array.nbytes for array in arrays))

    def _hold_bytes(self, n_bytes: int) -> None:
        self._left_bytes -= n_bytes
        if self._left_bytes < 0:
            most = self._limits.decoded_bytes
            raise MediaError(f"expected at most {most} bytes decoded in one request, got {most - self._left_bytes}")

    def _held(self) -> str:
        return f" ({self._limits.decoded_bytes} bytes may be decoded in one request)"


def tell_lost(kind: str, decoded: Decoded) -> None:
    """Log what could not be decoded of media that are used nevertheless: numbers alone, for it is a log."""
    if lost := decoded.info.get("lost"):
        _LOG.warning("%s: %s", kind, str(lost)[:_MAX_LOST_CHARS])


def _images(decoded: Decoded) -> Sequence[U8]:
    """Return what was decoded, (H, W, 3) each: who did it may not have been itself any more. Raises: MediaError."""
    if not decoded.arrays or any(a.dtype != np.uint8 or a.shape[2:] != (3,) or not a.size for a in decoded.arrays):
        raise MediaError("decoding it failed")
    return cast(Sequence[U8], decoded.arrays)


def video_options(spec: VisionSpec, limits: Limits, n_frames: int) -> Options:
    """Return how a video is decoded for a tower."""
    return {
        "frames": n_frames,
        "max_s": limits.video_s,
        "max_frames": limits.video_decoded_frames,
        "max_px": limits.video_px,
        "side": spec.tile_px,
        "crop_share": spec.crop_share,
        "resample": spec.resample,
    }
