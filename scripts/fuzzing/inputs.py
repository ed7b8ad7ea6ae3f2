"""Small valid files of every format, made here: what mutations begin from."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
import soundfile
from PIL import Image, ImageDraw
from reportlab.pdfgen import canvas

from scripts.fuzzing import mutators
from scripts.fuzzing.mutators import Mutator

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

SIZE = (72, 56)
RATE_HZ = 16_000

_IMAGES: Mapping[str, tuple[str, Mutator]] = {
    "PNG": ("RGBA", mutators.png),
    "JPEG": ("RGB", mutators.segments),
    "WEBP": ("RGB", mutators.riff),
    "GIF": ("P", mutators.any_bytes),
    "BMP": ("RGB", mutators.any_bytes),
}
_AUDIO: Mapping[str, tuple[str | None, Mutator]] = {
    "WAV": (None, mutators.riff),
    "FLAC": (None, mutators.any_bytes),
    "OGG": ("VORBIS", mutators.ogg),
    "MP3": (None, mutators.any_bytes),
}
_VIDEOS: Mapping[str, tuple[str, Mutator]] = {
    "mp4": ("libx264", mutators.boxes),
    "mov": ("mpeg4", mutators.boxes),
    "matroska": ("libx264", mutators.ebml),
    "webm": ("libvpx", mutators.ebml),
    "avi": ("mjpeg", mutators.riff),
}

Inputs = Mapping[str, tuple[bytes, Mutator]]


@functools.cache
def images() -> Inputs:
    """Return images by format, and how each is mutated."""
    drawn = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(drawn).ellipse((8, 8, 48, 48), fill="red")
    return {name: (_saved(drawn.convert(mode), name), mutate) for name, (mode, mutate) in _IMAGES.items()}


@functools.cache
def audio() -> Inputs:
    """Return half a second of a tone by format."""
    tone: F32 = (np.sin(np.arange(RATE_HZ // 2) / 6) / 4).astype(np.float32)
    return {name: (_written(tone, name, subtype), mutate) for name, (subtype, mutate) in _AUDIO.items()}


@functools.cache
def videos() -> Inputs:
    """Return eight frames by container."""
    return {name: (_encoded(name, codec), mutate) for name, (codec, mutate) in _VIDEOS.items()} | {
        "gif": (_animated(), mutators.any_bytes)
    }


@functools.cache
def pdfs() -> Inputs:
    """Return a PDF with text, a drawing and a form field, as reportlab writes it and without compression."""
    return {name: (_paged(compressed), mutators.objects) for name, compressed in (("plain", 0), ("compressed", 1))}


def _saved(image: Image.Image, name: str) -> bytes:
    file = io.BytesIO()
    image.save(file, name)
    return file.getvalue()


def _written(samples: F32, name: str, subtype: str | None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format=name, subtype=subtype)
    return file.getvalue()


def _frames() -> list[U8]:
    frames = []
    for number in range(8):
        image = Image.new("RGB", (64, 48), "white")
        ImageDraw.Draw(image).rectangle((4 * number, 8, 4 * number + 16, 24), fill="blue")
        frames.append(np.asarray(image))
    return frames


def _encoded(container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=8)
        if not isinstance(stream, av.VideoStream):
            raise TypeError(f"{codec}: expected a codec of video")
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.time_base = Fraction(1, 8)
        for number, rgb in enumerate(_frames()):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def _animated() -> bytes:
    first, *rest = (Image.fromarray(rgb).convert("P") for rgb in _frames())
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=120)
    return file.getvalue()


def _paged(compressed: int) -> bytes:
    file = io.BytesIO()
    page = canvas.Canvas(file, pagesize=(300, 200), pageCompression=compressed, invariant=True)
    page.drawString(20, 150, "A page with a line of text.")
    page.circle(200, 80, 30, fill=1)
    page.acroForm.textfield(name="field", value="filled in", x=20, y=40, width=100, height=20)
    page.showPage()
    page.drawString(20, 150, "A second page.")
    page.save()
    return file.getvalue()
