"""Videos and sounds in a prompt: their control tokens, their positions, and the two wordings of a video."""

from dataclasses import replace

import numpy as np
import pytest

from edge.bundle.manifest import AudioSpec, Manifest
from edge.chat.prompt import DecodedAudio, DecodedVideo, Turn, pieces
from edge.engine.pieces import Audio, Media
from edge.errors import BundleError, MediaError
from edge.media.mel import FRAME_SAMPLES
from edge.media.windows import digest, token_count
from tests.edge.chat.test_prompt import CONTROL, MANIFEST, image, user

TOKENS = {"<video>": 10, "</video>": 11, "<audio>": 12, "</audio>": 13}
AUDIO = AudioSpec(n_mels=80, window_frames=3000, tokens_per_window=375)
PROMPT = replace(MANIFEST.prompt, control=CONTROL | TOKENS)
JOINED = replace(MANIFEST, prompt=PROMPT, audio=AUDIO)
TIMED = replace(JOINED, family="siglip", prompt=replace(PROMPT, format="yasa-timed"))
SPELLING = {token: spelling for spelling, token in PROMPT.control.items()}
CLIP = DecodedVideo((image(30), image(40), image(50)), (0, 2, 13))


def audio(n_samples: int) -> DecodedAudio:
    samples = np.linspace(-1, 1, n_samples, dtype=np.float32)
    return DecodedAudio(samples, digest(samples))


def laid_out(manifest: Manifest, *parts: str | DecodedVideo | DecodedAudio) -> str:
    """Control tokens in [], media as {n_tokens}."""
    written = []
    for piece in pieces([Turn("user", parts)], manifest):
        if isinstance(piece, Media | Audio):
            written.append(f"{{{piece.n_tokens}}}")
        elif hasattr(piece, "ids"):
            written.append("[" + "".join(SPELLING[token] for token in piece.ids) + "]")
        else:
            written.append(piece.text)
    return "".join(written)


def test_frames_of_a_video_follow_one_another() -> None:
    expected = "human: What [<video>]{64}{64}{64}[</video>]now?[<sep>]assistant:"
    assert laid_out(JOINED, "What ", CLIP, "now?") == expected


def test_siglip_frames_carry_their_times() -> None:
    frames = "t=0s[<image>]{64}[</image>]\nt=2s[<image>]{64}[</image>]\nt=13s[<image>]{64}[</image>]\n"
    assert laid_out(TIMED, CLIP) == f"human: [<video>]{frames}[</video><sep>]assistant:"


def test_a_frame_is_one_tile_whatever_its_size_and_no_image_of_the_same_pixels() -> None:
    large = image(2000, 1500)
    (frame,) = [piece for piece in pieces([user(DecodedVideo((large,), (0,)))], JOINED) if isinstance(piece, Media)]
    (whole,) = [piece for piece in pieces([user(large)], JOINED) if isinstance(piece, Media)]
    assert (frame.kind, frame.n_tokens, whole.n_tokens) == ("frame", 64, 320)
    assert frame.digest != whole.digest


def test_audio_takes_as_many_positions_as_it_is_long() -> None:
    assert laid_out(JOINED, audio(16_000), "What is that?") == (
        "human: [<audio>]{13}[</audio>]What is that?[<sep>]assistant:"
    )


@pytest.mark.parametrize(
    ("n_samples", "n_tokens"),
    [(1, 1), (1280, 1), (1281, 2), (480_000 - 1280, 374), (480_000, 375), (480_001, 376), (1_200_000, 938)],
)
def test_embeddings_reach_to_the_end_of_the_audio_and_no_further(n_samples: int, n_tokens: int) -> None:
    assert token_count(n_samples, AUDIO) == n_tokens
    assert AUDIO.window_frames * FRAME_SAMPLES == 480_000


def test_audio_of_nothing_is_refused() -> None:
    with pytest.raises(MediaError, match="audio: expected at least one sample, got none"):
        pieces([user(audio(0))], JOINED)


def test_what_a_bundle_cannot_take_is_named() -> None:
    with pytest.raises(MediaError, match="audio: test has no audio tower"):
        pieces([user(audio(5))], replace(JOINED, audio=None))
    with pytest.raises(MediaError, match="video: test accepts text only"):
        pieces([user(CLIP)], replace(JOINED, vision=None))
    with pytest.raises(BundleError, match="prompt.control: expected '<video>'"):
        pieces([user(CLIP)], MANIFEST)


def test_audio_of_other_samples_have_other_digests() -> None:
    digests = {digest(np.array(samples, np.float32)) for samples in ([0], [0, 0], [0, 1], [1, 0], [1])}
    assert len(digests) == 5
