"""Bundles with an audio tower against transformers' Whisper encoder, its feature extractor and Llama."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from edge.bundle.bundle import Bundle
from edge.chat.prompt import DecodedAudio, Turn, pieces
from edge.engine.engine import Engine
from edge.engine.layout import lay_out
from edge.engine.pieces import Audio, Piece
from edge.engine.session import open_session
from edge.engine.tokenizer import Tokenizer
from edge.errors import NonFiniteError
from edge.media.mel import SAMPLE_RATE_HZ
from edge.media.windows import digest, token_count, windows
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.checkpoint.random_shapes import TINY_AUDIO, TINY_SIGLIP
from export.checkpoint.tokenizer import control_of, convert
from export.errors import GraphError, TokenizerError
from export.graphs.audio import write_audio
from export.reference import model as reference
from tests.conftest import BundleOf, CheckpointOf
from tests.export.checkpoint.random_weights import model, recipe
from tests.export.graphs import llama

TOLERANCE = 1e-3
WINDOW_S = 2
LENGTHS_S = (0.3, 2.0, 4.7)  # part of a window, just one, and parts of three
Encode = Callable[[np.ndarray], np.ndarray]


def noise(seconds: float) -> np.ndarray:
    n_samples = int(seconds * SAMPLE_RATE_HZ)
    tone = np.sin(np.arange(n_samples) * 0.1) * np.linspace(0, 1, n_samples)
    return (0.3 * tone + 0.1 * np.random.default_rng(n_samples).standard_normal(n_samples)).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(checkpoint_of: CheckpointOf) -> Path:
    torch.set_num_threads(1)
    return checkpoint_of(TINY_AUDIO)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, bundle_of: BundleOf) -> Bundle:
    return Bundle.open(bundle_of(checkpoint, "fp32"))


@pytest.fixture(scope="module")
def encode(checkpoint: Path) -> Encode:
    """transformers' features and encoder, pooled and projected: samples (n,) -> (tokens, H), all windows whole."""
    stored = json.loads((checkpoint / "config.json").read_text())
    state = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        state |= {name: value.float() for name, value in load_file(file).items()}
    prefix = "model.audio_model."
    encoder = WhisperEncoder(WhisperConfig(**stored["audio_config"])).eval()
    encoder.load_state_dict({n.removeprefix(prefix): at for n, at in state.items() if n.startswith(prefix)})
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=WINDOW_S)

    def run(samples: np.ndarray) -> np.ndarray:
        size = WINDOW_S * SAMPLE_RATE_HZ
        rows = []
        for start in range(0, len(samples), size):
            mel = extractor(samples[start : start + size], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
            with torch.no_grad():
                x = encoder(mel["input_features"]).last_hidden_state  # (1, positions, C)
                x = functional.avg_pool1d(x.transpose(1, 2), stored["audio_pool"])[0].T
                first, second = ([state[f"model.audio_language_projection.{i}.{kind}"] for kind in ("weight", "bias")]
                                 for i in (0, 2))  # fmt: skip
                rows.append(functional.linear(functional.gelu(functional.linear(x, *first)), *second).numpy())
        return np.concatenate(rows)

    return run


def recordings() -> list[DecodedAudio]:
    return [DecodedAudio(samples, digest(samples)) for samples in map(noise, LENGTHS_S)]


def prompt_of(bundle: Bundle) -> list[Piece]:
    return pieces([Turn("user", ("Listen:", *recordings(), "What is that?"))], bundle.manifest)


def test_manifest_says_how_audio_is_decoded(bundle: Bundle) -> None:
    audio = bundle.manifest.audio
    assert audio is not None
    assert (audio.n_mels, audio.window_frames, audio.tokens_per_window) == (80, 200, 25)
    assert {"audio.onnx", "audio.bin"} <= set(bundle.manifest.files)


def test_logits_after_audio_are_those_of_transformers(checkpoint: Path, bundle: Bundle, encode: Encode) -> None:
    prompt, answer = prompt_of(bundle), [5, 6, 7]
    waves = [piece for piece in prompt if isinstance(piece, Audio)]
    assert [wave.n_tokens for wave in waves] == [4, 25, 59]
    with Engine.open(bundle.path) as engine:
        found = engine.score(prompt, answer)
    weights = Weights(Checkpoint.open(checkpoint))
    decoder = llama.llama(weights, weights.checkpoint.config.text)
    table = decoder.get_input_embeddings().weight.detach().numpy()
    encoded = {wave.digest: encode(wave.samples) for wave in waves}
    keys = [*lay_out(prompt, Tokenizer.open(bundle), limit=1024).keys, *answer[:-1]]
    rows = np.stack([encoded[key[0]][key[1]] if isinstance(key, tuple) else table[key] for key in keys])
    np.testing.assert_allclose(found, llama.logits(decoder, rows[None])[0, -len(answer) :], atol=TOLERANCE)


def test_audio_decoded_lately_is_not_encoded_again(bundle: Bundle) -> None:
    with Engine.open(bundle.path) as engine:
        first = engine.score(prompt_of(bundle), [5])
        n_windows = engine.stats().work.n_windows
        assert engine.score([*prompt_of(bundle)[1:]], [5]).shape == first.shape
        assert engine.stats().work.n_windows == n_windows == 5
        assert engine.stats().audio_cache_bytes == (25 + 4 + 59) * engine.manifest.text.hidden_size * 4


def test_int8_encodes_nearly_the_same_and_to_the_last_bit_whatever_stands_beside_it(
    checkpoint: Path, bundle_of: BundleOf, encode: Encode
) -> None:
    path = bundle_of(checkpoint, "int8")
    (_, whole, _) = recordings()
    spec = Bundle.open(path).manifest.audio
    assert spec is not None and token_count(len(whole.samples), spec) == 25
    session = _session(path)
    mels = np.stack([next(windows(audio.samples, spec)) for audio in recordings()])
    alone = session(mels[1:2])[0]
    assert np.array_equal(session(mels)[1], alone)
    expected = encode(whole.samples)
    cosine = (alone * expected).sum() / np.linalg.norm(alone) / np.linalg.norm(expected)
    assert 0.999 < cosine < 1


def _session(path: Path) -> Encode:
    session = open_session(path / "audio.onnx", threads=1)
    return lambda mel: session.run(["embeds"], {"mel": mel})[0]


def test_certificate_reference_encodes_like_transformers(checkpoint: Path, bundle: Bundle, encode: Encode) -> None:
    weights = Weights(Checkpoint.open(checkpoint))
    samples = noise(4.7)
    found = reference.window_embeddings(
        weights, weights.checkpoint.config, list(windows(samples, bundle.manifest.audio))
    )
    np.testing.assert_allclose(np.concatenate(found), encode(samples), atol=1e-5)


@pytest.mark.parametrize("pool", [1, 2, 100])
def test_rows_are_pooled_by_any_divisor(pool: int, checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> None:
    shape = replace(TINY_AUDIO, audio=replace(TINY_AUDIO.audio, pool=pool))
    path = bundle_of(checkpoint_of(shape), "fp32")
    weights = Weights(Checkpoint.open(checkpoint_of(shape)))
    mels = list(windows(noise(2.0), Bundle.open(path).manifest.audio))
    expected = reference.window_embeddings(weights, weights.checkpoint.config, mels)
    np.testing.assert_allclose(_session(path)(np.stack(mels)), np.stack(expected), atol=1e-4)


def test_slow_reductions_stay_out_of_the_graph(bundle: Bundle) -> None:
    nodes = onnx.load(bundle.file("audio.onnx"), load_external_data=False).graph.node
    assert not {node.op_type for node in nodes} & {"ReduceMean", "ReduceSum", "AveragePool"}


def test_siglip_may_have_audio_too(checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> None:
    path = bundle_of(checkpoint_of(replace(TINY_SIGLIP, audio=TINY_AUDIO.audio)), "fp32")
    manifest = Bundle.open(path).manifest
    assert (manifest.family, manifest.audio is None, manifest.vision is None) == ("siglip", False, False)
    with Engine.open(path) as engine:
        assert np.isfinite(engine.score(prompt_of(Bundle.open(path)), [5])).all()


def test_audio_of_no_numbers_is_an_error_that_says_so(bundle: Bundle) -> None:
    samples = np.full(1600, np.nan, np.float32)
    prompt = pieces([Turn("user", (DecodedAudio(samples, digest(samples)),))], bundle.manifest)
    with Engine.open(bundle.path) as engine:
        with pytest.raises(NonFiniteError, match="a window of audio"):
            engine.score(prompt, [5])
        assert engine.score(prompt_of(bundle), [5]).shape == (1, 512)


def test_a_tokenizer_must_have_the_tokens_around_audio(checkpoint: Path, tmp_path: Path) -> None:
    text = (checkpoint / "tokenizer.json").read_text().replace('"<audio>"', '"<sound>"')
    for name, data in (("tokenizer.json", text), ("config.json", (checkpoint / "config.json").read_text())):
        (tmp_path / name).write_text(data)
    convert(tmp_path, needed=control_of("yasa2"))
    with pytest.raises(TokenizerError, match="added_tokens lack <audio>"):
        convert(tmp_path, needed=control_of("yasa2", sound=True))


def test_a_checkpoint_without_a_tower_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="Test has no audio tower"):
        write_audio(Weights, model(), recipe("fp32"), tmp_path, progress=None)
