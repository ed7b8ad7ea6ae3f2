"""Bundles with float16 activations against the same weights in float32, and the operators that they are made of."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edge.bundle.bundle import Bundle
from edge.bundle.manifest import DECODER, Scheme
from edge.engine.kv import kvs_of
from edge.engine.providers import input_shape
from edge.engine.self_test import tower_output
from edge.engine.session import open_session
from export.arrays import F32
from export.build import build
from export.checkpoint.random_shapes import TINY, TINY_AUDIO, TINY_SIGLIP
from export.errors import GraphError, RecipeError, UnsupportedError
from export.graph import halved
from export.graphs import cuda
from export.graphs.text import write_decoder
from export.recipe import Recipe, Rule, Thresholds, dump, load, parse
from tests.conftest import BundleOf, CheckpointOf
from tests.export.checkpoint import random_weights
from tests.export.checkpoint.random_weights import TEXT, RandomWeights


def halves(scheme: Scheme) -> Recipe:
    rules = (Rule("*", "fp16"), Rule("decoder.layers.*", scheme), Rule("decoder.embed", "int8"))
    return Recipe("halves", rules, Thresholds(), activations="fp16")


def decoder(folder: Path, recipe: Recipe) -> Path:
    folder.mkdir()
    config = random_weights.model()
    write_decoder(RandomWeights(config), TEXT, recipe, folder, progress=None)  # type: ignore[arg-type]
    return folder / DECODER


def logits(path: Path, embeds: F32, *, capacity: int = 32) -> F32:
    """Logits (S, V) of every row of one conversation, read in two chunks with the past that the first one left."""
    session = open_session(path, threads=1)
    kind = next(each.type for each in session.get_inputs() if each.name.startswith("past."))
    dtype = {"tensor(float16)": np.float16, "tensor(float)": np.float32}[kind]
    shape = (1, TEXT.n_kv_heads, capacity, TEXT.head_dim)
    names = [f"{n}.{part}" for n in range(TEXT.n_layers) for part in ("key", "value")]
    cache = {name: ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype)) for name in names}
    found, at = [], 0
    for rows in (embeds[:5], embeds[5:]):
        at += len(rows)
        binding = session.io_binding()
        binding.bind_cpu_input("embeds", rows[None])
        binding.bind_cpu_input("seqlens_k", np.array([at - 1], np.int32))
        binding.bind_cpu_input("total_sequence_length", np.array(at, np.int32))
        binding.bind_cpu_input("n_logits", np.array([len(rows)]))
        for name, value in cache.items():
            binding.bind_ortvalue_input(f"past.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        binding.bind_output("logits")
        session.run_with_iobinding(binding)
        found.append(binding.get_outputs()[-1].numpy()[0].copy())
    return np.concatenate(found)


def distance(found: F32, wanted: F32) -> float:
    assert np.isfinite(found).all()
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


EMBEDS = np.random.default_rng(3).standard_normal((9, TEXT.hidden_size)).astype(np.float32)


@pytest.mark.parametrize("scheme", ["fp16", "int4-block32", "int8-block32", "int4-block32-zp"])
def test_a_float16_decoder_gives_the_logits_of_the_float32_one(scheme: Scheme, tmp_path: Path) -> None:
    wide: Scheme = "fp32" if scheme == "fp16" else scheme
    rules = (Rule("*", "fp32"), Rule("decoder.layers.*", wide))
    wanted = logits(decoder(tmp_path / "float32", Recipe("wide", rules, Thresholds())), EMBEDS)
    found = logits(decoder(tmp_path / "float16", halves(scheme)), EMBEDS)
    assert distance(found, wanted) < (0.005 if scheme == "fp16" else 0.02)


@pytest.fixture(scope="module", params=["tiny", "siglip", "audio"])
def pair(request: pytest.FixtureRequest, checkpoint_of: CheckpointOf, bundle_of: BundleOf) -> tuple[Bundle, Bundle]:
    """The same checkpoint in float16, and in float32."""
    checkpoint = checkpoint_of({"tiny": TINY, "siglip": TINY_SIGLIP, "audio": TINY_AUDIO}[request.param])
    half, whole = (Bundle.open(bundle_of(checkpoint, recipe)) for recipe in ("fp16", "fp32"))
    return half, whole


def test_towers_of_onnxs_own_operators_give_the_embeddings_of_the_fused_ones(pair: tuple[Bundle, Bundle]) -> None:
    n_compared = 0
    for graph in ("vision.onnx", "audio.onnx"):
        fed = input_shape(graph, pair[0].manifest)
        if fed is not None:
            found, wanted = (
                tower_output(open_session(bundle.file(graph), threads=1), *fed, "embeds") for bundle in pair
            )
            assert distance(found, wanted) < 0.005
            n_compared += 1
    assert n_compared


def test_every_operator_has_a_kernel_on_cuda_and_towers_have_none_but_onnxs(pair: tuple[Bundle, Bundle]) -> None:
    half, whole = pair
    cuda.check(half.path)
    for name in half.manifest.files:
        if name.endswith(".onnx") and name != DECODER:
            nodes = onnx.load(half.path / name, load_external_data=False).graph.node
            assert {node.domain for node in nodes} == {""}
    assert cuda.without_kernel(whole.path / DECODER) == ["GroupQueryAttention (float)"]
    with pytest.raises(GraphError, match=r"onnx: no CUDA kernel computes "):
        cuda.check(whole.path)


def test_the_manifest_says_float16_and_the_bytes_of_its_keys_and_values(pair: tuple[Bundle, Bundle]) -> None:
    half, whole = (bundle.manifest for bundle in pair)
    assert half.recipe.activations == "fp16" and whole.recipe.activations == "fp32"
    assert 2 * half.memory.cache_bytes_per_token == whole.memory.cache_bytes_per_token
    assert half.int8_cache is None and "activations" not in (pair[1].path / "manifest.json").read_text()
    assert half.memory.weights_bytes < 0.6 * whole.memory.weights_bytes
    assert kvs_of(half) == ("fp16",)


def test_int8_of_the_cpu_is_refused_by_name(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('activations = "fp16"\n[[rules]]\ntensors = "*"\nscheme = "int8"\n')
    with pytest.raises(RecipeError, match="is int8, which no GPU kernel multiplies with fp16 activations"):
        build(tiny_checkpoint, tmp_path / "out", recipe=str(path), certificate="off")
    path.write_text('[[rules]]\ntensors = "*"\nscheme = "fp16"\n')
    with pytest.raises(RecipeError, match='expects activations = "fp16"|is fp16, expected'):
        build(tiny_checkpoint, tmp_path / "out", recipe=str(path), certificate="off")
    assert not (tmp_path / "out").exists()


def test_a_whisper_model_is_refused_with_what_runs_on_a_gpu(whisper_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"not supported with fp16 activations: use --recipe fp32"):
        build(whisper_checkpoint, tmp_path / "out", recipe="fp16", certificate="off")


def test_what_float16_does_not_hold_is_an_error() -> None:
    assert halved(np.array([65504.0, -1e-9], np.float32), name="w").dtype == np.float16
    with pytest.raises(GraphError, match=r"w: 70000 is too large for float16"):
        halved(np.array([1.0, 70000.0], np.float32), name="w")


def test_a_certificate_is_made_of_a_float16_bundle(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = build(tiny_checkpoint, tmp_path / "half", recipe="fp16", certificate="quick")
    made = json.loads((out / "certificate.json").read_text())
    assert made["recipe"] == "fp16" and made["golden"] is not None


def test_recipes_with_activations_are_written_as_they_are_read() -> None:
    for name in ("fp16", "int4-fp16"):
        recipe = load(name)
        assert recipe.activations == "fp16"
        assert parse(dump(recipe).encode(), name=name) == recipe
    with pytest.raises(RecipeError, match="activations is 'bf16': expected one of fp32, fp16"):
        parse(b'activations = "bf16"\n[[rules]]\ntensors = "*"\nscheme = "fp16"\n', name="mine")
    with pytest.raises(RecipeError, match="carry keeps values for the CPU"):
        parse(b'activations = "fp16"\ncarry = true\n[[rules]]\ntensors = "*"\nscheme = "fp16"\n', name="mine")
