"""GGUF files in the place of a checkpoint: the tensors, configuration and tokenizer of the folder they came from."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize, quants
from gguf.constants import GGML_QUANT_SIZES

from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.files import has_file, read_bytes, read_json
from export.checkpoint.gguf import header as headers
from export.checkpoint.gguf.header import read_header
from export.checkpoint.gguf.tensors import read_entries, read_rows, stored_rows
from export.checkpoint.names import Weights, expected
from export.checkpoint.random_shapes import TINY, TINY_FLASH, Shape
from export.checkpoint.rope import frequencies
from export.checkpoint.tokenizer import REQUIRED, convert
from export.errors import CheckpointError, ExportError, TokenizerError, UnsupportedError
from tests.conftest import CheckpointOf
from tests.export.checkpoint.gguf.gguf_files import F16, F32, Q8_0, write_mmproj, write_text

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
FORMS = {
    "plain": TINY_FLASH,
    "tied": replace(TINY_FLASH, tied=True),
    "biases": replace(TINY_FLASH, attention_bias=True, mlp_bias=True),
    "one-head-of-keys": replace(TINY_FLASH, n_kv_heads=1),
}
# Every type that ggml has and that holds weights of a model.
TYPES = [
    kind for kind in GGMLQuantizationType if kind.name not in ("I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K", "Q1_0")
]


def same_weights(found: Checkpoint, stored: Checkpoint, *, within: float = 0.0) -> None:
    """Every role has the same values in both, read whole and in parts."""
    one, other = Weights(found), Weights(stored)
    for role, shape in expected(stored.config):
        values = other.tensor(role)
        assert np.abs(one.tensor(role) - values).max() <= within, role
        if ".grn." in role:  # stored with the channels last: never read in parts
            continue
        rows = slice(shape[0] // 3, shape[0] // 3 + 5)
        assert np.abs(one.tensor(role, rows=rows) - values[rows]).max() <= within, role


@pytest.fixture
def flash(checkpoint_of: CheckpointOf) -> Path:
    return checkpoint_of(TINY_FLASH)


@pytest.mark.parametrize("form", FORMS)
def test_a_llama_file_has_the_tensors_and_the_configuration_of_its_folder(
    form: str, checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    folder = checkpoint_of(FORMS[form])
    found, stored = Checkpoint.open(write_text(folder, tmp_path / "m.gguf")), Checkpoint.open(folder)
    assert found.config.family == "llama"
    assert found.config.text == stored.config.text
    same_weights(found, stored)


def test_a_yasa2_pair_has_the_tensors_and_the_configuration_of_its_folder(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    text, vision = write_text(tiny_checkpoint, tmp_path / "m.gguf"), write_mmproj(tiny_checkpoint, tmp_path / "v.gguf")
    found, stored = Checkpoint.open(text, mmproj=vision), Checkpoint.open(tiny_checkpoint)
    assert found.config.family == "yasa2"
    assert found.config.text == stored.config.text
    # llama.cpp pools to 8 x 8, or less where the map is smaller; the file does not say.
    assert stored.config.vision is not None
    assert found.config.vision == replace(stored.config.vision, tokens_per_tile=16)
    same_weights(found, stored)
    assert found.files == ("m.gguf", "v.gguf")


def test_a_projector_in_half_precision_is_read_within_it(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = write_text(tiny_checkpoint, tmp_path / "m.gguf")
    vision = write_mmproj(tiny_checkpoint, tmp_path / "v.gguf", kind=F16)
    same_weights(Checkpoint.open(text, mmproj=vision), Checkpoint.open(tiny_checkpoint), within=1e-6)


def test_a_projector_without_positions_has_none(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = write_text(tiny_checkpoint, tmp_path / "m.gguf")
    vision = write_mmproj(tiny_checkpoint, tmp_path / "v.gguf", drop=("v.vision_pos_embed",))
    found = Checkpoint.open(text, mmproj=vision).config.vision
    assert found is not None
    assert not getattr(found, "pos_embed", True)


def test_fused_queries_keys_and_values_are_taken_apart(flash: Path, tmp_path: Path) -> None:
    split = GGUFReader(write_text(flash, tmp_path / "split.gguf"))
    writer = GGUFWriter(tmp_path / "fused.gguf", "llama")
    for field in split.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1])
    parts: dict[str, list[np.ndarray]] = {}
    for tensor in split.tensors:
        at, part = tensor.name[: tensor.name.rfind(".attn_")], tensor.name.split(".")[-2]
        if part in ("attn_q", "attn_k", "attn_v"):
            parts.setdefault(f"{at}.attn_qkv.weight", [np.empty(0)] * 3)["qkv".index(part[-1])] = tensor.data
        else:
            writer.add_tensor(tensor.name, tensor.data)
    for name, found in parts.items():
        writer.add_tensor(name, np.concatenate(found))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    same_weights(Checkpoint.open(tmp_path / "fused.gguf"), Checkpoint.open(flash))


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_every_type_is_read_as_the_package_dequantizes_it(kind: GGMLQuantizationType, tmp_path: Path) -> None:
    block, size = GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(int(kind))
    if kind == F32:
        data = rng.standard_normal((24, 64)).astype(np.float32).view(np.uint8)
    else:
        # Bytes below 60: no scale of any type is then infinite.
        data = rng.integers(0, 60, (24, 256 // block * size if block > 1 else 64 * size), np.uint8)
    writer = GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_tensor("a", data, raw_dtype=kind)
    writer.add_tensor("b", data[::-1].copy(), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    entries = read_entries(read_header(tmp_path / "t.gguf"))
    values = dequantize(data, kind)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(read_rows(entries["a"], "a", None), values)
    np.testing.assert_array_equal(read_rows(entries["b"], "b", slice(3, 9)), values[::-1][3:9])
    np.testing.assert_array_equal(stored_rows(entries["b"], "b", slice(3, 9)), data[::-1][3:9])
    assert read_rows(entries["a"], "a", slice(5, 5)).shape == (0, values.shape[1])


def test_the_rope_of_llama_3_is_that_of_the_stored_factors(flash: Path, tmp_path: Path) -> None:
    text = Checkpoint.open(flash).config.text
    plain, _ = frequencies(rotary_dim=text.head_dim, base=text.rope_base, scaling=None)
    factors = np.linspace(1, 8, plain.size).astype(np.float32)
    path = write_text(flash, tmp_path / "m.gguf")
    found = Checkpoint.open(with_tensor(path, tmp_path / "f.gguf", "rope_freqs.weight", factors)).config.text
    assert found.rope_scaling is not None
    rates, magnitude = frequencies(rotary_dim=text.head_dim, base=text.rope_base, scaling=found.rope_scaling)
    np.testing.assert_allclose(rates, plain / factors, rtol=1e-7)
    assert magnitude == 1
    with pytest.raises(CheckpointError, match="rope_freqs.weight has 3 factors, expected 8"):
        Checkpoint.open(with_tensor(path, tmp_path / "g.gguf", "rope_freqs.weight", factors[:3]))


@pytest.mark.parametrize(
    ("keys", "scaling"),
    [
        ({"type": "none"}, None),
        ({"type": "linear", "factor": 1.0}, None),
        ({"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 2.0}),
        (
            {"type": "yarn", "factor": 4.0, "original_context_length": 64, "yarn_beta_fast": 16.0},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 16.0},
        ),
    ],
)
def test_the_scaling_of_rope_is_that_of_the_folder(
    keys: Mapping[str, object], scaling: Mapping[str, object] | None, checkpoint_of: CheckpointOf, tmp_path: Path
) -> None:
    folder = checkpoint_of(replace(TINY_FLASH, extra={"rope_scaling": scaling}))
    spelled = {f"llama.rope.scaling.{key}": value for key, value in keys.items()}
    found = Checkpoint.open(write_text(folder, tmp_path / "m.gguf", keys=spelled))
    assert found.config.text == Checkpoint.open(folder).config.text


def test_a_share_of_each_head_is_rotated_in_pairs(flash: Path, tmp_path: Path) -> None:
    path = write_text(flash, tmp_path / "m.gguf", keys={"llama.rope.dimension_count": 8})
    found = Checkpoint.open(path)
    assert found.config.text.rotary_share == 0.5
    stored = GGUFReader(path)
    rows = next(tensor.data for tensor in stored.tensors if tensor.name == "blk.0.attn_q.weight")
    head = [0, 2, 4, 6, 1, 3, 5, 7, *range(8, 16)]  # pairs of the first eight apart, the rest as it is
    np.testing.assert_array_equal(found.read("model.layers.0.self_attn.q_proj.weight")[16:32], rows[16:32][head])


@pytest.mark.parametrize("shape", [TINY_FLASH, TINY])
def test_the_tokenizer_is_that_of_the_folder(shape: Shape, checkpoint_of: CheckpointOf, tmp_path: Path) -> None:
    folder = checkpoint_of(shape)
    path = write_text(folder, tmp_path / "m.gguf")
    needed = ("<|endoftext|>",) if shape.is_llama else REQUIRED
    found, stored = convert(path, needed=needed), convert(folder, needed=needed)
    assert found.control == stored.control
    assert found.stop_ids == stored.stop_ids
    one, other = (tokenizers.Tokenizer.from_str(each.tokenizer_json.decode()) for each in (found, stored))
    for text in ("I'd like 1234 of them, HE'LL say.\r\n\n  two", " the picture<sep> é漢🙂 \t x", "<image>\0"):
        for special in (False, True):
            one.encode_special_tokens = other.encode_special_tokens = special
            assert one.encode(text, add_special_tokens=False).ids == other.encode(text, add_special_tokens=False).ids


def test_the_small_files_say_what_the_metadata_says(flash: Path, tmp_path: Path) -> None:
    keys = {"tokenizer.chat_template": "{{ x }}", "tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.bos_token_id": 7}
    path = write_text(flash, tmp_path / "m.gguf", keys=keys)
    end = json.loads((flash / "tokenizer.json").read_text())["added_tokens"]
    end_id = next(token["id"] for token in end if token["content"] == "<|endoftext|>")
    assert read_bytes(path, "chat_template.jinja", max_bytes=99) == b"{{ x }}"
    assert read_json(path, "generation_config.json") == {"eos_token_id": [end_id, 5], "bos_token_id": 7}
    config = read_json(path, "tokenizer_config.json")
    assert config["chat_template"] == "{{ x }}" and config["eos_token"] == "<|endoftext|>"
    assert config["add_bos_token"] is False
    assert read_json(path, "config.json")["architectures"] == ["LlamaForCausalLM"]
    assert not has_file(path, "preprocessor_config.json")
    assert has_file(path, "tokenizer.json")
    with pytest.raises(CheckpointError, match="holds no other.json"):
        read_bytes(path, "other.json", max_bytes=99)


def test_all_parts_of_a_split_file_are_read(flash: Path, tmp_path: Path) -> None:
    parts = split(write_text(flash, tmp_path / "whole.gguf"), tmp_path)
    same_weights(Checkpoint.open(parts[0]), Checkpoint.open(flash))
    assert Checkpoint.open(parts[0]).files == tuple(part.name for part in parts)
    with pytest.raises(CheckpointError, match=r"m-00002-of-00002.gguf: is not the first part: name m-00001-of-00002"):
        Checkpoint.open(parts[1])


def test_a_split_file_needs_all_its_parts(flash: Path, tmp_path: Path) -> None:
    parts = split(write_text(flash, tmp_path / "whole.gguf"), tmp_path)
    parts[1].unlink()
    with pytest.raises(CheckpointError, match=r"its part m-00002-of-00002.gguf is missing"):
        Checkpoint.open(parts[0])
    parts[1].write_bytes(parts[0].read_bytes())
    with pytest.raises(CheckpointError, match=r"m-00002-of-00002.gguf: is not part 2 of 2"):
        Checkpoint.open(parts[0])


def test_a_part_under_another_name_is_refused(flash: Path, tmp_path: Path) -> None:
    first, _ = split(write_text(flash, tmp_path / "whole.gguf"), tmp_path)
    with pytest.raises(CheckpointError, match=r"other.gguf: one of 2 parts, expected the name NAME-00001-of-00002"):
        Checkpoint.open(first.rename(tmp_path / "other.gguf"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"llama.expert_count": 8}, "a mixture of experts is not supported"),
        ({"llama.attention.sliding_window": 512}, "llama.attention.sliding_window is 512: not supported"),
        ({"llama.rope.scaling.type": "longrope"}, "'longrope': not supported, expected none, linear or yarn"),
        ({"llama.attention.value_length": 8}, "keys of 16 and values of 8 a head are not supported"),
        ({"llama.attention.head_count": [4, 2, 4]}, "llama.attention.head_count differs from layer to layer"),
        ({"general.type": "adapter"}, "architecture 'llama, adapter' is not supported"),
    ],
)
def test_what_is_not_supported_is_named(keys: Mapping[str, object], message: str, flash: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=message):
        Checkpoint.open(write_text(flash, tmp_path / "m.gguf", keys=keys))


def test_another_architecture_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"m.gguf: architecture 'qwen2' is not supported, expected 'llama'"):
        Checkpoint.open(empty(tmp_path / "m.gguf", "qwen2"))


def test_a_projector_in_the_place_of_the_model_is_told_apart(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"v.gguf: is a projector file: .* --mmproj"):
        Checkpoint.open(write_mmproj(tiny_checkpoint, tmp_path / "v.gguf"))


def test_the_text_half_of_reka_edge_asks_for_its_projector(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"text half of a Reka Edge model .* --mmproj"):
        Checkpoint.open(write_text(tiny_checkpoint, tmp_path / "m.gguf"))


def test_a_projector_of_another_kind_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = write_text(tiny_checkpoint, tmp_path / "m.gguf")
    other = write_mmproj(tiny_checkpoint, tmp_path / "v.gguf", keys={"clip.projector_type": "gemma3"})
    with pytest.raises(UnsupportedError, match="projector type 'gemma3' is not supported, expected 'yasa2'"):
        Checkpoint.open(text, mmproj=other)
    with pytest.raises(UnsupportedError, match=r"m.gguf: architecture 'llama': expected a projector file"):
        Checkpoint.open(text, mmproj=text)


def test_a_projector_beside_a_folder_is_refused(flash: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--mmproj belongs to a GGUF file"):
        Checkpoint.open(flash, mmproj=tmp_path / "v.gguf")


def test_a_table_of_other_positions_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = write_text(tiny_checkpoint, tmp_path / "m.gguf")
    vision = write_mmproj(tiny_checkpoint, tmp_path / "v.gguf", drop=("v.vision_pos_embed",))
    other = with_tensor(vision, tmp_path / "w.gguf", "v.vision_pos_embed", np.ones((256, 48), np.float32))
    with pytest.raises(UnsupportedError, match=r"w.gguf: v.vision_pos_embed is another table of positions"):
        Checkpoint.open(text, mmproj=other)


def test_experts_are_named(flash: Path, tmp_path: Path) -> None:
    path = write_text(flash, tmp_path / "m.gguf")
    mixed = with_tensor(path, tmp_path / "e.gguf", "blk.0.ffn_gate_exps.weight", np.zeros((2, 3, 4), np.float32))
    with pytest.raises(UnsupportedError, match=r"blk.0.ffn_gate_exps.weight: a mixture of experts"):
        Checkpoint.open(mixed)


def test_an_unknown_tensor_is_named(flash: Path, tmp_path: Path) -> None:
    path = write_text(flash, tmp_path / "m.gguf")
    other = with_tensor(path, tmp_path / "o.gguf", "blk.0.attn_q_norm.weight", np.zeros(4, np.float32))
    with pytest.raises(CheckpointError, match=r"blk.0.attn_q_norm.weight: unknown tensor"):
        Weights(Checkpoint.open(other))


def test_a_value_that_is_not_finite_is_named_by_tensor_and_row(flash: Path, tmp_path: Path) -> None:
    path = write_text(flash, tmp_path / "m.gguf", kind=Q8_0)
    entry = read_entries(read_header(path))["blk.0.ffn_up.weight"]
    data = bytearray(path.read_bytes())
    at = entry.offset + 3 * entry.row_bytes
    data[at : at + 2] = np.float16(np.inf).tobytes()
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"mlp.up_proj.weight: row 3: "):
        Checkpoint.open(path).read("model.layers.0.mlp.up_proj.weight", rows=slice(2, 5))


@pytest.mark.parametrize(
    ("keys", "drop", "error", "message"),
    [
        ({"tokenizer.ggml.model": "llama"}, (), UnsupportedError, "a SentencePiece tokenizer is not supported"),
        ({"tokenizer.ggml.model": "bert"}, (), UnsupportedError, "'bert': a foreign tokenizer is not supported"),
        ({"tokenizer.ggml.pre": "viking"}, (), UnsupportedError, "tokenizer.ggml.pre is 'viking': not supported"),
        ({}, ("tokenizer.ggml.pre",), UnsupportedError, "tokenizer.ggml.pre is missing"),
        ({}, ("tokenizer.ggml.tokens",), CheckpointError, "tokenizer.ggml.tokens is missing"),
        ({"tokenizer.ggml.token_type": [1, 1]}, (), TokenizerError, "2 token types for 512 tokens"),
        ({"tokenizer.ggml.merges": ["zz qq"]}, (), TokenizerError, "'zz qq', expected two tokens that make one"),
    ],
)
def test_a_tokenizer_that_is_not_known_is_refused_by_name(
    keys: Mapping[str, object], drop: tuple[str, ...], error: type[ExportError], message: str, flash: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    path = write_text(flash, tmp_path / "m.gguf", keys=keys, drop=drop)
    with pytest.raises(error, match=message):
        convert(path, needed=("<|endoftext|>",))


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q8_K, GGMLQuantizationType.I32])
def test_a_type_that_cannot_be_dequantized_is_named(kind: GGMLQuantizationType, tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_tensor("a", np.zeros((2, GGML_QUANT_SIZES[kind][1]), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedError, match=f"t.gguf: a: stored as {kind.name}, which cannot be dequantized"):
        Checkpoint.open(tmp_path / "t.gguf")


def test_a_file_that_ends_early_is_refused_at_every_length(flash: Path, tmp_path: Path) -> None:
    whole = write_text(flash, tmp_path / "m.gguf")
    data, start = whole.read_bytes(), read_header(whole).start
    lengths = {0, 3, 4, 8, 16, 23, 24, 40, *range(100, start, start // 20), start, start + 1000, len(data) - 40}
    for length in sorted(lengths):
        torn = tmp_path / f"{length}.gguf"
        torn.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="truncated|no GGUF file|cannot be opened|empty"):
            Checkpoint.open(torn)


def test_a_big_endian_file_and_another_version_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "big") + bytes(16))
    with pytest.raises(UnsupportedError, match="big-endian"):
        Checkpoint.open(path)
    for version in (0, 1, 4):
        path.write_bytes(b"GGUF" + version.to_bytes(4, "little") + bytes(16))
        with pytest.raises(UnsupportedError, match=f"GGUF version {version} is not supported"):
            Checkpoint.open(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((1 << 40).to_bytes(8, "little") + bytes(8), r"1099511627776 tensors, expected at most"),
        (bytes(8) + (1 << 60).to_bytes(8, "little"), r"metadata keys, expected at most"),
        (bytes(8) + (1).to_bytes(8, "little") + (1 << 50).to_bytes(8, "little"), "a metadata key of 1125899906842624"),
        (
            bytes(8) + (1).to_bytes(8, "little") + (1).to_bytes(8, "little") + b"k" + (9).to_bytes(4, "little")
            + (8).to_bytes(4, "little") + (1 << 20).to_bytes(8, "little"), "truncated: k has 1048576 strings",
        ),
        (
            bytes(8) + (1).to_bytes(8, "little") + (1).to_bytes(8, "little") + b"k" + (9).to_bytes(4, "little")
            + (9).to_bytes(4, "little") + (1).to_bytes(8, "little"), "k: no GGUF value has the type 9",
        ),
        (bytes(8) + (1).to_bytes(8, "little") + (1).to_bytes(8, "little") + b"\xff" + bytes(8), "is not UTF-8"),
    ],
)  # fmt: skip
def test_counts_beyond_every_file_are_refused_before_anything_is_made(
    data: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + data)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(path)


def test_a_header_beyond_its_limit_is_refused(flash: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(flash, tmp_path / "m.gguf")
    monkeypatch.setattr(headers, "MAX_HEADER_BYTES", 4096)
    with pytest.raises(CheckpointError, match="header of more than 4096 bytes"):
        read_header(path)


def test_tensors_that_overlap_are_refused(tmp_path: Path) -> None:
    path = empty(tmp_path / "m.gguf", "llama", {"a": np.zeros(64, np.float32), "b": np.zeros(64, np.float32)})
    data = bytearray(path.read_bytes())
    at = data.index(b"\x01\x00\x00\x00\x00\x00\x00\x00b") + 9 + 4 + 8 + 4  # name, dimensions, one of them, type
    data[at : at + 8] = (32).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="inside of another tensor's"):
        Checkpoint.open(path)


def test_a_folder_of_gguf_files_says_how_to_name_them(tmp_path: Path, flash: Path) -> None:
    write_text(flash, tmp_path / "m.gguf")
    (tmp_path / "config.json").write_bytes((flash / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"found m.gguf: name a GGUF file itself"):
        Checkpoint.open(tmp_path)


def empty(path: Path, architecture: str, tensors: Mapping[str, np.ndarray] | None = None) -> Path:
    """A file with an architecture and nothing else but some tensors."""
    writer = GGUFWriter(path, architecture)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def with_tensor(path: Path, out: Path, name: str, values: np.ndarray) -> Path:
    """A copy of a file of float32 tensors with one more."""
    return copied(path, out, {**{each.name: each.data for each in GGUFReader(path).tensors}, name: values}, {})


def split(path: Path, folder: Path) -> list[Path]:
    """The two parts of a file, as llama.cpp names and marks them."""
    tensors = {each.name: each.data for each in GGUFReader(path).tensors}
    names, parts = list(tensors), []
    for at, some in enumerate((names[:9], names[9:])):
        out = folder / f"m-0000{at + 1}-of-00002.gguf"
        marks = {"split.no": at, "split.count": 2, "split.tensors.count": len(names)}
        source = path if at == 0 else None
        parts.append(copied(source, out, {name: tensors[name] for name in some}, marks))
    return parts


def copied(
    path: Path | None, out: Path, tensors: Mapping[str, np.ndarray], marks: Mapping[str, int]
) -> Path:  # fmt: skip
    """A file with the metadata of another, other tensors and further keys."""
    fields = {} if path is None else GGUFReader(path).fields
    architecture = str(fields["general.architecture"].contents()) if fields else "llama"
    writer = GGUFWriter(out, architecture)
    for field in fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1])
    for key, value in marks.items():
        writer.add_uint16(key, value)
    for name, values in tensors.items():
        writer.add_tensor(name, quants.quantize(values, F32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out
