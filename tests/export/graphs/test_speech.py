"""Whisper checkpoints become speech bundles: described strictly, byte for byte the same, measured, or refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge.bundle.bundle import SpeechBundle, verify
from edge.bundle.manifest import SpeechManifest, dump_manifest, parse_manifest
from edge.errors import BundleError
from export.build import Step, build
from export.errors import CertificateError, CheckpointError, ExportError, OutputError, TokenizerError, UnsupportedError
from export.graphs.speech import EMBED, _path
from tests.export.checkpoint.whisper_checkpoint import (
    END,
    LANGUAGES,
    MAX_LENGTH,
    NO_TIMESTAMPS,
    RULES,
    START,
    TASKS,
    VOCAB_SIZE,
)


@pytest.fixture(scope="module")
def manifest(speech_bundle: Path) -> SpeechManifest:
    return SpeechBundle.open(speech_bundle).manifest


@pytest.fixture
def spoiled(whisper_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may change."""
    return Path(shutil.copytree(whisper_checkpoint, tmp_path / "spoiled"))


def change(path: Path, **values: object) -> None:
    """Set keys of a JSON file; those set to None are taken out."""
    document = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def refused(checkpoint: Path, tmp_path: Path) -> ExportError:
    with pytest.raises(ExportError) as caught:
        build(checkpoint, tmp_path / "out", certificate="off")
    assert not (tmp_path / "out").exists()
    return caught.value


def test_manifest_says_what_the_model_is(manifest: SpeechManifest) -> None:
    spec = manifest.speech
    assert (spec.n_mels, spec.n_frames, spec.n_positions, spec.hidden_size) == (80, 3000, 1500, 64)
    assert (spec.n_layers, spec.n_heads, spec.head_dim, spec.vocab_size) == (2, 4, 16, VOCAB_SIZE)
    assert (spec.start, spec.end, spec.no_timestamps, spec.context) == (START, END, NO_TIMESTAMPS, MAX_LENGTH)
    assert spec.languages == {name.strip("<|>"): token for name, token in LANGUAGES.items()}
    assert spec.tasks == TASKS
    assert spec.suppress == tuple(sorted(RULES["suppress_tokens"]))
    assert (spec.begin_suppress, spec.max_first_timestamp) == ((32, END), 50)
    assert manifest.source.architecture == "WhisperForConditionalGeneration"
    assert set(manifest.source.files) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert "generation_config.json: prev_sot_token_id" in manifest.source.ignored


def test_every_linear_layer_stands_in_the_recipe(manifest: SpeechManifest, int8_speech_bundle: Path) -> None:
    schemes = {record.scheme for record in manifest.recipe.tensors.values()}
    quantized = SpeechBundle.open(int8_speech_bundle).manifest.recipe.tensors
    assert schemes == {"fp32"}
    assert {path: record.scheme for path, record in quantized.items()} == {
        path: "int8-block32" if path.startswith("decoder.") and path != EMBED else "int8" for path in quantized
    }
    attention = [f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
    crossed = [f"encoder_attn.{name}_proj" for name in ("q", "k", "v", "out")]
    expected = {"decoder.embed", "decoder.head"}
    for layer in (0, 1):
        expected |= {f"encoder.layers.{layer}.{name}" for name in (*attention, "fc1", "fc2")}
        expected |= {f"decoder.layers.{layer}.{name}" for name in (*attention, *crossed, "fc1", "fc2")}
    assert quantized.keys() == manifest.recipe.tensors.keys() == expected
    assert all(0 < record.error < 0.02 for record in quantized.values())


def test_export_again_gives_the_same_bytes(whisper_checkpoint: Path, int8_speech_bundle: Path, tmp_path: Path) -> None:
    again = build(whisper_checkpoint, tmp_path / "again", recipe="int8", id=whisper_checkpoint.name, certificate="off")
    names = sorted(path.name for path in int8_speech_bundle.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert [name for name in names if (again / name).read_bytes() != (int8_speech_bundle / name).read_bytes()] == []


def test_graphs_hold_nothing_of_the_machine_that_made_them(int8_speech_bundle: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        model = onnx.load(int8_speech_bundle / name, load_external_data=False)
        assert not model.doc_string and not model.metadata_props
        assert not [node.name for node in model.graph.node if node.doc_string or node.metadata_props]
        assert b"/site-packages/" not in (int8_speech_bundle / name).read_bytes()


def test_encoder_has_nothing_of_the_decoder_but_the_keys_and_values_of_the_audio(speech_bundle: Path) -> None:
    model = onnx.load(speech_bundle / "encoder.onnx", load_external_data=False)
    stored = {tensor.name for tensor in model.graph.initializer if "decoder" in tensor.name}
    crossed = ("k_proj.weight", "v_proj.weight", "v_proj.bias")
    assert {name.removeprefix("cross/model.") for name in stored} == {
        f"decoder.layers.{layer}.encoder_attn.{name}" for layer in (0, 1) for name in crossed
    }


def test_bundle_is_whole(speech_bundle: Path, int8_speech_bundle: Path) -> None:
    assert verify(speech_bundle) == verify(int8_speech_bundle) == []
    sizes = [
        sum(path.stat().st_size for path in folder.glob("*.bin")) for folder in (int8_speech_bundle, speech_bundle)
    ]
    assert sizes[0] < 0.7 * sizes[1]


def test_certificate_is_measured(whisper_checkpoint: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    out = build(whisper_checkpoint, tmp_path / "out", recipe="int8", certificate="quick", progress=steps.append)
    found = json.loads((out / "certificate.json").read_bytes())
    assert found["encoder_cosine"]["mean"] >= 0.999 and found["encoder_cosine"]["min"] > 0.99
    assert found["positions"] > 20 and found["top1_agreement"] > 0.8
    assert [step.stage for step in steps[:2]] == ["tracing", "tracing"] and steps[-1].stage == "comparison"
    assert verify(out) == []


def test_missed_threshold_is_in_the_certificate_or_leaves_nothing(whisper_checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "strict.toml"
    recipe.write_text('[[rules]]\ntensors = "*"\nscheme = "int8"\n\n[thresholds]\nmax_mean_kl = 0.0\n')
    with pytest.raises(CertificateError, match="mean KL divergence .* is .* over max_mean_kl 0"):
        build(whisper_checkpoint, tmp_path / "out", recipe=str(recipe), certificate="quick", strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strict.toml"]
    out = build(whisper_checkpoint, tmp_path / "out", recipe=str(recipe), certificate="quick")
    (missed,) = json.loads((out / "certificate.json").read_bytes())["missed"]
    assert missed.startswith("mean KL divergence ")


def test_speech_bundle_takes_no_text_to_evaluate(whisper_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Some words.")
    with pytest.raises(UnsupportedError, match="--evaluate: a speech bundle is measured on made sounds"):
        build(whisper_checkpoint, tmp_path / "out", evaluate=tmp_path / "a.txt")


def test_speech_bundle_takes_nothing_of_a_gguf_file(whisper_checkpoint: Path, tmp_path: Path) -> None:
    for options in ({"recipe": "carry"}, {"mmproj": tmp_path / "v.gguf"}):
        with pytest.raises(UnsupportedError, match="--mmproj and recipe carry belong to a GGUF file"):
            build(whisper_checkpoint, tmp_path / "b", **options)  # type: ignore[arg-type]


def test_existing_folder_is_left_alone(whisper_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists"):
        build(whisper_checkpoint, tmp_path / "out")


def test_english_only_model_knows_no_languages(spoiled: Path, tmp_path: Path) -> None:
    change(spoiled / "generation_config.json", is_multilingual=False)
    spec = SpeechBundle.open(build(spoiled, tmp_path / "out", recipe="fp32", certificate="off")).manifest.speech
    assert spec.languages == spec.tasks == {}


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("generation_config.json", {"no_timestamps_token_id": None}, "no_timestamps_token_id: expected an integer"),
        ("generation_config.json", {"task_to_id": {}}, "task_to_id: expected 'transcribe'"),
        ("generation_config.json", {"suppress_tokens": ["a"]}, "suppress_tokens: expected a list of token ids"),
        ("generation_config.json", {"eos_token_id": 10**6}, "speech.end"),
        ("config.json", {"num_mel_bins": 0}, "num_mel_bins: expected an integer of at least 1"),
        ("config.json", {"d_model": 63}, "d_model: expected a multiple of 4 heads"),
        ("config.json", {"encoder_ffn_dim": 96}, "transformers cannot load it"),
    ],
)
def test_wrong_key_is_named(file: str, values: dict[str, object], words: str, spoiled: Path, tmp_path: Path) -> None:
    change(spoiled / file, **values)
    assert words in str(refused(spoiled, tmp_path))


def test_weights_that_are_not_finite_are_named(spoiled: Path, tmp_path: Path) -> None:
    data = bytearray((spoiled / "model.safetensors").read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    (spoiled / "model.safetensors").write_bytes(data)
    assert "not finite" in str(refused(spoiled, tmp_path))


def test_weights_of_another_form_are_not_read(spoiled: Path, tmp_path: Path) -> None:
    (spoiled / "model.safetensors").rename(spoiled / "pytorch_model.bin")
    assert isinstance(refused(spoiled, tmp_path), CheckpointError)


def test_missing_files_are_named(spoiled: Path, tmp_path: Path) -> None:
    (spoiled / "tokenizer.json").unlink()
    error = refused(spoiled, tmp_path)
    assert isinstance(error, TokenizerError) and "vocab.json and merges.txt" in str(error)
    (spoiled / "generation_config.json").unlink()
    assert "generation_config.json" in str(refused(spoiled, tmp_path))


def test_tokenizer_of_two_files_becomes_one(spoiled: Path, tmp_path: Path) -> None:
    model = json.loads((spoiled / "tokenizer.json").read_text())["model"]
    (spoiled / "tokenizer.json").unlink()
    (spoiled / "vocab.json").write_text(json.dumps(model["vocab"]))
    (spoiled / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(merge) for merge in model["merges"]))
    out = build(spoiled, tmp_path / "out", recipe="fp32", certificate="off")
    assert json.loads((out / "tokenizer.json").read_text())["model"]["vocab"] == model["vocab"]
    assert {"vocab.json", "merges.txt"} <= SpeechBundle.open(out).manifest.source.files.keys()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"n_frames": 2999}, "speech.n_frames: expected twice n_positions"),
        ({"end": VOCAB_SIZE}, "speech.end: expected an id below"),
        ({"no_timestamps": END - 1}, "speech.no_timestamps: expected an id between"),
        ({"suppress": (-1,)}, "speech.suppress: expected an id below"),
        ({"n_layers": 0}, "speech.n_layers: expected 1 to"),
        ({"max_first_timestamp": -1}, "speech.max_first_timestamp: expected steps >= 0"),
    ],
)
def test_manifest_outside_its_ranges_is_refused(
    changed: dict[str, object], words: str, manifest: SpeechManifest
) -> None:
    speech = dataclasses.replace(manifest.speech, **changed)
    with pytest.raises(BundleError, match=words):
        dump_manifest(dataclasses.replace(manifest, speech=speech))


def test_manifest_is_strict(speech_bundle: Path) -> None:
    document = json.loads((speech_bundle / "manifest.json").read_text())
    for key, value in (("speech", {**document["speech"], "beam": 5}), ("text", None)):
        with pytest.raises(BundleError, match="unknown key"):
            parse_manifest(json.dumps({**document, key: value}).encode(), file="manifest.json")
    del document["speech"]["start"]
    with pytest.raises(BundleError, match="missing key speech.start"):
        parse_manifest(json.dumps(document).encode(), file="manifest.json")


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("/layers.11/self_attn/q_proj/MatMul_output_0", "encoder.layers.11.self_attn.q_proj"),
        ("/model/decoder/layers.3/fc1/MatMul_output_0", "decoder.layers.3.fc1"),
        ("cross//model/decoder/layers.0/encoder_attn/k_proj/MatMul_output_0", "decoder.layers.0.encoder_attn.k_proj"),
        ("logits", "decoder.head"),
    ],
)
def test_layers_are_named_as_recipes_speak_of_them(output: str, path: str) -> None:
    assert _path(output) == path
