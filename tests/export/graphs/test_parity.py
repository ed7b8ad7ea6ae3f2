"""Whole bundles by the fp32 recipe against transformers' own modules, loaded from the checkpoint's files."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import ConvNextV2Config, ConvNextV2Model, LlamaForCausalLM

import edge.engine.layout
from edge.bundle.bundle import Bundle
from edge.chat import next_logits
from edge.chat.prompt import DecodedImage, Turn, pieces
from edge.engine.engine import Engine
from edge.engine.pieces import Piece
from edge.media.image import digest
from edge.media.tiles import tiles
from export.build import build
from export.certificate.answers import Answer, Transcript, answer_all, file_rows
from export.certificate.prompts import Question
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.names import Weights
from export.checkpoint.random_shapes import TINY, TINY_TEXT, Shape
from export.reference import model as reference
from export.texts.scenes import scene
from tests.conftest import BundleOf, CheckpointOf
from tests.export.graphs import llama

TOLERANCE = 1e-3
TIE = 1e-4
SMALL_IMAGE, LARGE_IMAGE = (300, 240), (700, 500)  # one tile, and four cells with the whole picture

FORMS = {
    "split": TINY,
    "biases": replace(TINY, attention_bias=True, mlp_bias=True),
    "tied": replace(TINY, tied=True),
    "fused": replace(TINY, form="fused"),
    "neox": replace(TINY, form="neox", prefix="model.language_model."),
    "text": replace(TINY_TEXT, rotary_share=1.0),
    "text-half-rotary": TINY_TEXT,
    "text-quarter-rotary": replace(TINY_TEXT, rotary_share=0.25),
    "text-llama3": replace(
        TINY_TEXT, rotary_share=1.0,
        extra={"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                "original_max_position_embeddings": 64}},
    ),
}  # fmt: skip


class Torch:
    """The reference model: rows in, logits out; and a tile to its embeddings."""

    def __init__(self, checkpoint: Path, shape: Shape) -> None:
        torch.set_num_threads(1)
        opened = Checkpoint.open(checkpoint)
        self.text, self.vision = opened.config.text, opened.config.vision
        state = {}
        for file in sorted(checkpoint.glob("*.safetensors")):
            state |= {name: value.float() for name, value in load_file(file).items()}
        self._state = state
        if self.text.rotary_share < 1:
            self.decoder = llama.phi3(Weights(opened), self.text)
        else:
            prefix = shape.prefix
            decoder = {f"model.{n.removeprefix(prefix)}": at for n, at in state.items() if n.startswith(prefix)}
            decoder["lm_head.weight"] = state.get("lm_head.weight", decoder["model.embed_tokens.weight"])
            self.decoder = LlamaForCausalLM(llama.llama_config(self.text))
            self.decoder.load_state_dict(decoder)
        self.embedding = self.decoder.get_input_embeddings().weight.detach()
        self.decoder.eval()

    def logits(self, rows: torch.Tensor) -> np.ndarray:
        """(S, H) -> (S, V)"""
        with torch.no_grad():
            return self.decoder(inputs_embeds=rows[None]).logits[0].numpy()

    def tile(self, tile: np.ndarray) -> torch.Tensor:
        """(3, T, T) -> (tokens, H)"""
        vision = self.vision
        config = ConvNextV2Config(hidden_sizes=list(vision.hidden_sizes), depths=list(vision.depths),
                                  patch_size=vision.patch_px, image_size=vision.tile_px)  # fmt: skip
        tower = ConvNextV2Model(config).eval()
        prefix = "model.vision_model.backbone."
        weights = {n.removeprefix(prefix): at for n, at in self._state.items() if n.startswith(prefix)}
        missing, unknown = tower.load_state_dict(weights, strict=False)
        assert not unknown and set(missing) <= {"layernorm.weight", "layernorm.bias"}  # not applied to what is used
        with torch.no_grad():
            x = tower(torch.from_numpy(tile)[None]).last_hidden_state[0]  # (C, h, w), before the final norm
            n_channels, height, width = x.shape
            x = x + positions(height * width, n_channels).T.reshape(x.shape)
            side = int(vision.tokens_per_tile**0.5)
            x = functional.adaptive_avg_pool2d(x, side).flatten(1).T
            first, second = (self._linear(f"model.language_projection.{at}") for at in (0, 2))
            return second(functional.gelu(first(x)))

    def _linear(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        weight, bias = self._state[f"{name}.weight"], self._state[f"{name}.bias"]
        return lambda x: functional.linear(x, weight, bias)


def positions(n_cells: int, n_channels: int) -> torch.Tensor:
    """Section 3.2 read once more: a table of 50 x 50, of which the first rows are taken."""
    omega = 1 / 10000 ** (torch.arange(n_channels // 4, dtype=torch.float64) / (n_channels / 4))
    y, x = torch.meshgrid(torch.arange(50.0), torch.arange(50.0), indexing="ij")
    halves = [torch.cat([(at.reshape(-1, 1) * omega).sin(), (at.reshape(-1, 1) * omega).cos()], 1) for at in (x, y)]
    return torch.cat(halves, 1)[:n_cells].float()


def rows_of(model: Torch, keys: list[object], images: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the decoder reads: (S, H)."""
    return torch.stack([images[key[0]][key[1]] if isinstance(key, tuple) else model.embedding[key] for key in keys])


def embeds_of(model: Torch, bundle: Bundle, transcript: Transcript) -> dict[str, torch.Tensor]:
    spec = bundle.manifest.vision
    return {key: torch.cat([model.tile(tile) for tile in tiles(rgb, spec)]) for key, rgb in transcript.images.items()}


def image(size: tuple[int, int]) -> np.ndarray:
    random = np.random.default_rng(7)
    return random.integers(0, 256, (size[1], size[0], 3), np.uint8)


def asked(shape: Shape) -> list[Question]:
    texts = ("What can you do?", "Tell me about the sea, " * 20, "Is this a question?", "Hello!")
    text = [Question(each, None) for each in texts]
    if shape.tower is None:
        return text
    return [*text[:2], Question("What is this?", image(SMALL_IMAGE)), Question("And this?", image(LARGE_IMAGE))]


def prompt_of(question: Question, bundle: Bundle) -> list[Piece]:
    shown = () if question.image is None else (DecodedImage(question.image, digest(question.image)),)
    return pieces([Turn("user", (*shown, question.text))], bundle.manifest)


def transcribe(path: Path, shape: Shape, folder: Path) -> tuple[Bundle, Transcript, np.ndarray]:
    """The bundle's greedy answers of up to 64 tokens, and the logits behind them."""
    bundle = Bundle.open(path)
    (transcript,) = answer_all(bundle, asked(shape), logits=folder / "logits")
    rows = file_rows(folder / "logits", n_rows=transcript.positions, vocab_size=bundle.manifest.text.vocab_size)
    return bundle, transcript, rows


def split(transcript: Transcript, rows: np.ndarray) -> Iterator[tuple[Answer, np.ndarray]]:
    start = 0
    for answer in transcript.answers:
        yield answer, rows[start : start + len(answer.ids)]
        start += len(answer.ids)


@pytest.mark.parametrize("form", FORMS)
def test_greedy_answers_are_those_of_transformers(
    form: str, checkpoint_of: CheckpointOf, bundle_of: BundleOf, tmp_path: Path
) -> None:
    shape = FORMS[form]
    checkpoint = checkpoint_of(shape)
    # The same seed gives the same weights in every form: the plain form loads into transformers by its own names.
    plain = checkpoint_of(replace(shape, form="split", prefix=TINY.prefix)) if shape.form != "split" else checkpoint
    model = Torch(plain, TINY if shape.form != "split" else shape)
    bundle, transcript, rows = transcribe(bundle_of(checkpoint, "fp32"), shape, tmp_path)
    images = embeds_of(model, bundle, transcript)
    for key, expected in images.items():
        np.testing.assert_allclose(transcript.embeds[key], expected.numpy(), atol=1e-4)
    n_ties = n_tokens = 0
    for answer, found in split(transcript, rows):
        read = rows_of(model, [*answer.prompt.keys, *answer.ids[:-1]], images)
        expected = model.logits(read)[len(answer.prompt) - 1 :]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        second, first = np.sort(expected, axis=1)[:, -2:].T
        ties = first - second < TIE
        # Each step's own greedy choice given the answer so far: equal all along is the same greedy answer.
        assert (np.array(answer.ids) == expected.argmax(1))[~ties].all()
        n_ties, n_tokens = n_ties + int(ties.sum()), n_tokens + len(ties)
    assert max(len(answer.ids) for answer in transcript.answers) == 64
    assert n_ties <= n_tokens // 50, f"{n_ties} of {n_tokens} are ties"


@pytest.mark.parametrize("form", ["split", "biases", "tied", "fused", "neox", "text-half-rotary"])
def test_rotated_stream_gives_the_same_logits(form: str, checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    recipe = tmp_path / "rotated.toml"
    recipe.write_text('rotate = true\n[[rules]]\ntensors = "*"\nscheme = "fp32"\n')
    shape = FORMS[form]
    checkpoint = checkpoint_of(shape)
    plain = checkpoint_of(replace(shape, form="split", prefix=TINY.prefix)) if shape.form != "split" else checkpoint
    model = Torch(plain, TINY if shape.form != "split" else shape)
    path = build(checkpoint, tmp_path / "bundle", recipe=str(recipe), certificate="off")
    bundle, transcript, rows = transcribe(path, shape, tmp_path)
    images = embeds_of(model, bundle, transcript)
    for key, expected in images.items():  # in another basis, but as long
        assert np.abs(transcript.embeds[key] - expected.numpy()).max() > 0.01
        lengths = np.linalg.norm(transcript.embeds[key], axis=1), np.linalg.norm(expected.numpy(), axis=1)
        np.testing.assert_allclose(*lengths, rtol=1e-4)
    for answer, found in split(transcript, rows):
        read = rows_of(model, [*answer.prompt.keys, *answer.ids[:-1]], images)
        np.testing.assert_allclose(found, model.logits(read)[len(answer.prompt) - 1 :], atol=TOLERANCE)


@pytest.mark.parametrize("form", ["split", "text-quarter-rotary"])
def test_cached_decode_equals_full_recompute(
    form: str, checkpoint_of: CheckpointOf, bundle_of: BundleOf, tmp_path: Path
) -> None:
    path = bundle_of(checkpoint_of(FORMS[form]), "fp32")
    bundle, transcript, rows = transcribe(path, FORMS[form], tmp_path)
    with Engine.open(path) as engine:
        for question, (answer, found) in zip(asked(FORMS[form]), split(transcript, rows), strict=True):
            whole = engine.score(prompt_of(question, bundle), answer.ids)
            np.testing.assert_allclose(found, whole, atol=2e-5)


def test_chunked_equals_whole(fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question("Tell me about the sea, " * 20, image(LARGE_IMAGE))
    results = []
    for rows in (1024, 256, 64, 24, 16):
        monkeypatch.setattr(edge.engine.layout, "MAX_CHUNK", rows)
        with Engine.open(fp32_bundle) as engine:
            results.append(engine.score(prompt_of(question, Bundle.open(fp32_bundle)), [1, 2, 3]))
    for chunked in results[1:]:
        np.testing.assert_allclose(chunked, results[0], atol=2e-5)


def test_next_logits_are_those_of_transformers(tiny_checkpoint: Path, fp32_bundle: Path) -> None:
    model = Torch(tiny_checkpoint, TINY)
    with Engine.open(fp32_bundle) as engine:
        messages = [{"role": "user", "content": "Who are you?"}]
        found = next_logits(engine, messages)
        laid_out = engine._lay_out(pieces([Turn("user", ("Who are you?",))], engine.manifest))
        expected = model.logits(rows_of(model, laid_out.keys, {}))[-1]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("form", ["split", "biases", "neox", "text-half-rotary", "text-llama3"])
def test_certificate_reference_is_transformers(form: str, checkpoint_of: CheckpointOf) -> None:
    shape = FORMS[form]
    plain = replace(shape, form="split", prefix=TINY.prefix) if shape.form != "split" else shape
    model = Torch(checkpoint_of(plain), plain)
    weights = Weights(Checkpoint.open(checkpoint_of(shape)))
    ids = [np.random.default_rng(length).integers(0, shape.vocab_size, length).tolist() for length in (5, 60)]
    prompts = [reference.embeds(weights, each) for each in ids]
    states = reference.hidden_states(weights, model.text, prompts, progress=lambda done, total: None)
    for prompt, state in zip(prompts, states, strict=True):
        found = np.concatenate([run for _, run in reference.logits(weights, model.text, state)], axis=1)
        np.testing.assert_allclose(found, model.logits(torch.from_numpy(prompt)), atol=1e-4)


def test_certificate_reference_sees_like_transformers(tiny_checkpoint: Path, fp32_bundle: Path) -> None:
    model = Torch(tiny_checkpoint, TINY)
    weights = Weights(Checkpoint.open(tiny_checkpoint))
    cut = list(tiles(scene(np.random.default_rng(3)), Bundle.open(fp32_bundle).manifest.vision))
    found = reference.tile_embeds(weights, weights.checkpoint.config, cut)
    for rows, tile in zip(found, cut, strict=True):
        np.testing.assert_allclose(rows, model.tile(tile).numpy(), atol=1e-5)


def test_logit_scale_is_applied_once(checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> None:
    messages = [{"role": "user", "content": "Who are you?"}]
    found = []
    for scale in (1.0, 0.25):
        path = bundle_of(checkpoint_of(replace(TINY_TEXT, extra={"logit_scale": scale})), "fp32")
        assert json.loads((path / "manifest.json").read_bytes())["text"]["logit_scale"] == scale
        with Engine.open(path) as engine:
            found.append(next_logits(engine, messages))
    np.testing.assert_allclose(found[1], found[0] * 0.25, atol=1e-6)
