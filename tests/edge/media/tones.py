"""Sounds that tests make: tones, and files of every format, written by libsndfile and libav."""

import io

import av
import numpy as np
import numpy.typing as npt
import soundfile

F32 = npt.NDArray[np.float32]

RATE_HZ = 16_000
SUBTYPES = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"),
            "mp3": ("MP3", "MPEG_LAYER_III")}  # fmt: skip
CONTAINERS = {"m4a": ("mp4", "aac"), "aac": ("adts", "aac"), "webm": ("webm", "libopus"), "mkv": ("matroska", "flac")}


def tone(seconds: float, *, hz: float = 440, rate_hz: int = RATE_HZ) -> F32:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def noise(seconds: float, *, seed: int = 0, rate_hz: int = RATE_HZ) -> F32:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate_hz), np.float32)


def file(samples: F32, name: str = "wav", *, rate_hz: int = RATE_HZ, subtype: str | None = None) -> bytes:
    """A file that libsndfile writes. samples: (n,) or (n, channels)."""
    format_, usual = SUBTYPES[name]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=format_, subtype=subtype or usual)
    return buffer.getvalue()


def contained(
    samples: F32,
    name: str,
    *,
    rate_hz: int = 48_000,
    image: bool = False,
    start_s: float = 0.0,
    pause: tuple[float, float] = (0.0, 0.0),
) -> bytes:
    """A mono file that libav writes, if wanted as the audio track of a video of one grey second.

    start_s: when it begins; pause: after how many seconds it pauses, and for how long.
    """
    format_, codec = CONTAINERS[name]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format_) as container:
        if image:
            video = container.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        for _ in range(10 if image else 0):
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="rgb24")
            container.mux(video.encode(image))
        frame = av.AudioFrame.from_ndarray(samples[None].copy(), format="flt", layout="mono")
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(format=stream.codec_context.format or "fltp", layout="mono", rate=rate_hz)
        fifo = av.AudioFifo()
        for converted in resampler.resample(frame):
            fifo.write(converted)
        while (part := fifo.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
            for packet in stream.encode(part):
                container.mux(later(packet, start_s, *pause))
        for packet in stream.encode(None):
            container.mux(later(packet, start_s, *pause))
        if image:
            container.mux(video.encode(None))
    return buffer.getvalue()


def later(packet: av.Packet, start_s: float, pause_at_s: float, pause_s: float) -> av.Packet:
    """The packet at a later time."""
    at_s = float(packet.pts * packet.time_base)
    shift = round((start_s + (pause_s if pause_s and at_s >= pause_at_s else 0.0)) / packet.time_base)
    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
    return packet
