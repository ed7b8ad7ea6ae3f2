"""Checkpoint folders: what is read, and what is refused."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.checkpoint.checkpoint import INDEX, SINGLE, Checkpoint
from export.checkpoint.files import parse_object, plain_file
from export.checkpoint.random_checkpoint import write_checkpoint
from export.checkpoint.random_shapes import TINY, TINY_TEXT
from export.checkpoint.shards import MAX_HEADER_BYTES, MAX_TENSORS, read_header
from export.errors import CheckpointError, ConfigError

# A busy machine is no fault of the code.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def stored(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A text checkpoint's folder whose only weights are the given arrays."""
    kinds = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
    header, data = {}, b""
    for name, array in arrays.items():
        start, data = len(data), data + array.tobytes()
        header[name] = {"dtype": kinds[str(array.dtype)], "shape": array.shape, "data_offsets": [start, len(data)]}
    (folder / SINGLE).write_bytes(raw(header, data))
    config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config |= {"vocab_size": 300, "max_position_embeddings": 64, "architectures": ["YasaCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", TINY)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_every_float_type_is_read_exactly(tmp_path: Path, dtype: type) -> None:
    values = np.random.default_rng(0).standard_normal((5, 3)).astype(dtype)
    checkpoint = Checkpoint.open(stored(tmp_path, {"pad": np.zeros(1, np.float16), "a": values}))
    assert checkpoint.read("a").dtype == np.float32
    np.testing.assert_array_equal(checkpoint.read("a"), values.astype(np.float32))
    np.testing.assert_array_equal(checkpoint.read("a", rows=slice(1, 3)), values[1:3].astype(np.float32))


def test_a_scalar_and_an_empty_tensor_are_read(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(stored(tmp_path, {"a": np.float32(3).reshape(()), "b": np.zeros((0, 4), np.float32)}))
    assert checkpoint.read("a") == 3
    assert checkpoint.read("b").shape == (0, 4)


def test_the_arrays_read_are_fresh_and_writable(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(stored(tmp_path, {"a": np.ones(4, np.float32)}))
    checkpoint.read("a")[:] = 7
    assert checkpoint.read("a").tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_value_that_is_not_finite_is_named_by_tensor_and_row(tmp_path: Path, value: float, dtype: type) -> None:
    values = np.ones((6, 4), dtype)
    values[4, 2] = value
    checkpoint = Checkpoint.open(stored(tmp_path, {"layers.0.w": values}))
    with pytest.raises(CheckpointError, match=r"layers\.0\.w: row 4: (nan|inf|-inf)"):
        checkpoint.read("layers.0.w")
    with pytest.raises(CheckpointError, match="row 4"):
        checkpoint.read("layers.0.w", rows=slice(3, 6))
    assert checkpoint.read("layers.0.w", rows=slice(0, 4)).shape == (4, 4)


def test_the_largest_finite_values_pass(tmp_path: Path) -> None:
    values = np.full((2, 2), np.finfo(np.float32).max, np.float32)
    assert Checkpoint.open(stored(tmp_path, {"a": values})).read("a").max() == values.max()


def test_a_dtype_without_floats_is_refused_when_read(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(stored(tmp_path, {"a": np.ones(2, np.int64)}))
    with pytest.raises(CheckpointError, match="stored as I64, expected BF16, F16 or F32"):
        checkpoint.read("a")
    with pytest.raises(CheckpointError, match="no such tensor"):
        checkpoint.read("b")


def test_a_file_cut_after_opening_is_an_error(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(stored(tmp_path, {"a": np.ones((64, 64), np.float32)}))
    os.truncate(tmp_path / SINGLE, 200)
    with pytest.raises(CheckpointError, match="can no longer be read"):
        checkpoint.read("a")


HEADERS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "truncated"),
    "seven bytes": (b"1234567", "truncated"),
    "length beyond the file": ((1 << 62).to_bytes(8, "little") + b"{}", "truncated"),
    "length of 2^64 - 1": (b"\xff" * 8 + b"{}", "truncated"),
    "no object": (raw([]), "expected it to start with"),
    "no JSON": (raw(b"{nonsense}"), "not the JSON expected"),
    "no UTF-8": (raw(b'{"\xff": 1}'), "not the JSON expected"),
    "deep": (raw(b'{"a":' + b"[" * 50_000), "nested too deeply"),
    "a pickle": (pickle.dumps({"a": 1}) * 20, "truncated"),
    "same name twice": (raw(b'{"a": %b, "a": %b}' % ((json.dumps(ENTRY).encode(),) * 2), b"\0" * 16), "twice"),
    "same field twice": (raw(b'{"a": {"dtype": "F32", "dtype": "F32"}}'), "twice"),
    "path in a name": (raw({"../a": ENTRY}, b"\0" * 16), "tensor name"),
    "NUL in a name": (raw({"a\0": ENTRY}, b"\0" * 16), "tensor name"),
    "empty name": (raw({"": ENTRY}, b"\0" * 16), "tensor name"),
    "long name": (raw({"a" * 513: ENTRY}, b"\0" * 16), "tensor name"),
    "entry without shape": (raw({"a": {"dtype": "F32", "data_offsets": [0, 0]}}), "exactly"),
    "entry with more": (raw({"a": {**ENTRY, "more": 1}}, b"\0" * 16), "exactly"),
    "unknown dtype": (raw({"a": {**ENTRY, "dtype": "F31"}}, b"\0" * 16), "dtype"),
    "dtype of another kind": (raw({"a": {**ENTRY, "dtype": ["F32"]}}, b"\0" * 16), "dtype"),
    "negative size": (raw({"a": {**ENTRY, "shape": [-2, -2]}}, b"\0" * 16), "shape"),
    "fractional size": (raw({"a": {**ENTRY, "shape": [2.0, 2]}}, b"\0" * 16), "shape"),
    "true as a size": (raw({"a": {**ENTRY, "shape": [True, 4]}}, b"\0" * 16), "shape"),
    "rank of 9": (raw({"a": {**ENTRY, "shape": [1] * 9}}, b"\0" * 16), "at most 8"),
    "overflowing size": (raw({"a": {**ENTRY, "shape": [2**62, 8]}}, b"\0" * 16), "expected 14757395258967641"),
    "offsets backwards": (raw({"a": {**ENTRY, "data_offsets": [16, 0]}}, b"\0" * 16), "data_offsets"),
    "offsets negative": (raw({"a": {**ENTRY, "data_offsets": [-16, 0]}}, b"\0" * 16), "data_offsets"),
    "three offsets": (raw({"a": {**ENTRY, "data_offsets": [0, 16, 16]}}, b"\0" * 16), "at most 2"),
    "size unlike the shape": (raw({"a": {**ENTRY, "shape": [2, 3]}}, b"\0" * 16), "expected 24 bytes"),
    "data cut short": (raw({"a": ENTRY}, b"\0" * 15), "expected the end"),
    "data behind the end": (raw({"a": ENTRY}, b"\0" * 17), "expected the end"),
    "hole": (raw({"a": ENTRY, "b": {**ENTRY, "data_offsets": [20, 36]}}, b"\0" * 36), "a hole or an overlap"),
    "overlap": (raw({"a": ENTRY, "b": {**ENTRY, "data_offsets": [8, 24]}}, b"\0" * 24), "a hole or an overlap"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}}), "__metadata__"),
    "metadata of lists": (raw({"__metadata__": []}), "__metadata__"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_bad_header_is_refused(tmp_path: Path, case: str) -> None:
    data, reason = HEADERS[case]
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_header(tmp_path / "a.safetensors", name="a.safetensors")
    assert str(caught.value).startswith("a.safetensors: ")
    assert len(str(caught.value)) < 400


def empties(count: int) -> bytes:
    entries = (b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % index for index in range(count))
    return b"{" + b",".join(entries) + b"}"


def test_fifty_thousand_tensors_pass_and_one_more_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw(empties(MAX_TENSORS)))
    assert len(read_header(path, name="a")) == MAX_TENSORS
    path.write_bytes(raw(empties(MAX_TENSORS + 1)))
    with pytest.raises(CheckpointError, match=r"50001 tensors, expected at most 50000"):
        read_header(path, name="a")


@pytest.mark.parametrize("length", [MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1])
def test_the_header_may_have_32_mebibytes(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw(b"{}".ljust(length)))
    if length == MAX_HEADER_BYTES:
        assert read_header(path, name="a") == {}
        return
    with pytest.raises(CheckpointError, match="expected at most 33554432"):
        read_header(path, name="a")


@pytest.mark.parametrize("filling", [b"[],", b"{},", b"1,", b'"":0,'])
def test_a_header_of_many_objects_is_refused_before_it_is_parsed(tmp_path: Path, filling: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw(b'{"a":[' + filling * (4_000_000 // len(filling))))
    with pytest.raises(CheckpointError, match=r"header with \d+ times"):
        read_header(path, name="a")


@PATIENT
@given(st.binary(max_size=200), st.integers(0, 220))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.safetensors"
    good = raw({"a": ENTRY, "b": {**ENTRY, "data_offsets": [16, 32]}}, b"\0" * 32)
    path.write_bytes(good[:at] + noise + good[at + len(noise) :])
    try:
        entries = read_header(path, name="a")
    except CheckpointError:
        return
    assert sum(entry.n_bytes for entry in entries.values()) <= path.stat().st_size


def test_shards_are_read_through_their_index(tiny: Path) -> None:
    checkpoint = Checkpoint.open(tiny)
    assert len({entry.file for entry in checkpoint.entries.values()}) > 1
    assert checkpoint.read("lm_head.weight").shape == checkpoint.shape("lm_head.weight") == (512, 64)
    assert [name for name in checkpoint.files if not (tiny / name).is_file()] == []
    assert checkpoint.files[:3] == ("config.json", "preprocessor_config.json", INDEX)


SPELLINGS = [
    "../model.safetensors", "/etc/passwd", "a/b.safetensors", "./model.safetensors", "..", ".", "",
    "..\\model.safetensors", "model.safetensors\0", "shards/../model.safetensors", "//model.safetensors",
    "model.safetensors/", "a/../../b.safetensors", "model\n.safetensors", "~/model.safetensors",
    "file:///model.safetensors", "C:\\model.safetensors", "config.json", "model.bin", "sub/",
]  # fmt: skip


@pytest.mark.parametrize("shard", SPELLINGS)
def test_a_shard_must_be_a_plain_file_of_the_folder(tmp_path: Path, tiny: Path, shard: str) -> None:
    inner = tmp_path / "inner"
    stored(inner_made(inner), {"a": np.ones(2, np.float32)})
    (inner / SINGLE).rename(tmp_path / SINGLE)
    (inner / INDEX).write_text(json.dumps({"weight_map": {"a": shard}}))
    opened: list[str] = []
    with watching(opened), pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json: weight_map"):
        Checkpoint.open(inner)
    assert all(Path(name).parent == inner for name in opened)


def inner_made(folder: Path) -> Path:
    folder.mkdir()
    return folder


class watching:  # noqa: N801 - reads as a statement
    """Notes every file opened inside pytest's folders."""

    speech_models: list[list[str]] = []  # noqa: RUF012 - audit hooks cannot be removed, so one serves all
    hooked = False

    def __init__(self, opened: list[str]) -> None:
        self.opened = opened

    def __enter__(self) -> None:
        if not watching.hooked:
            watching.hooked = True
            sys.addaudithook(watching.note)
        watching.speech_models.append(self.opened)

    def __exit__(self, *_: object) -> None:
        watching.speech_models.remove(self.opened)

    @staticmethod
    def note(event: str, arguments: tuple[object, ...]) -> None:
        for listener in watching.speech_models:
            if event == "open" and "pytest" in str(arguments[0]):
                listener.append(str(arguments[0]))
            if event == "pickle.find_class":
                listener.append("pickle")


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({}, "weight_map: expected an object"),
        ({"weight_map": {"a": 1}}, "weight_map: expected an object"),
        ({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}, "b is not in one.safetensors"),
        ({"weight_map": {}}, None),
        ({"weight_map": {"b": "one.safetensors"}}, "holds a, which"),
        ({"weight_map": {"a": "two.safetensors"}}, "two.safetensors: cannot be opened"),
    ],
)
def test_index_and_shards_must_agree(tmp_path: Path, index: object, reason: str | None) -> None:
    stored(tmp_path, {"a": np.ones(2, np.float32)})
    (tmp_path / SINGLE).rename(tmp_path / "one.safetensors")
    (tmp_path / INDEX).write_text(json.dumps(index))
    if reason is None:
        assert Checkpoint.open(tmp_path).names == ()
        return
    with pytest.raises(CheckpointError, match=reason):
        Checkpoint.open(tmp_path)


def link(kind: str) -> Callable[[Path, Path], None]:
    return {
        "symlink": lambda path, target: path.symlink_to(target),
        "fifo": lambda path, target: os.mkfifo(path),
        "folder": lambda path, target: path.mkdir(),
        "dangling": lambda path, target: path.symlink_to("nowhere"),
        "loop": lambda path, target: path.symlink_to(path.name),
    }[kind]


@pytest.mark.parametrize("name", [SINGLE, "config.json"])
@pytest.mark.parametrize("kind", ["symlink", "fifo", "folder", "dangling", "loop"])
def test_only_regular_files_are_read(tmp_path: Path, name: str, kind: str) -> None:
    folder = stored(inner_made(tmp_path / "checkpoint"), {"a": np.ones(2, np.float32)})
    (folder / name).rename(tmp_path / name)
    link(kind)(folder / name, tmp_path / name)
    with pytest.raises(CheckpointError, match=name):
        Checkpoint.open(folder)


def test_links_of_the_hugging_face_cache_are_followed_to_their_own_blobs_only(tmp_path: Path) -> None:
    for repo in ("models--a", "models--b"):
        (tmp_path / repo / "blobs").mkdir(parents=True)
        (tmp_path / repo / "snapshots" / "1").mkdir(parents=True)
    snapshot, blobs = tmp_path / "models--a/snapshots/1", tmp_path / "models--a/blobs"
    stored(snapshot, {"a": np.ones(2, np.float32)})
    for name in (SINGLE, "config.json"):
        (snapshot / name).rename(blobs / name)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert Checkpoint.open(snapshot).read("a").tolist() == [1, 1]
    (blobs / SINGLE).rename(tmp_path / "models--b/blobs/x")
    (snapshot / SINGLE).unlink()
    (snapshot / SINGLE).symlink_to("../../../models--b/blobs/x")
    with pytest.raises(CheckpointError, match="link to outside"):
        Checkpoint.open(snapshot)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_a_pickle_is_refused_unopened(tmp_path: Path, suffix: str) -> None:
    stored(tmp_path, {})
    (tmp_path / SINGLE).unlink()
    (tmp_path / f"pytorch_model{suffix}").write_bytes(pickle.dumps(os.path.join))
    opened: list[str] = []
    with watching(opened), pytest.raises(CheckpointError, match=rf"pytorch_model\{suffix}: a pickle .* refused"):
        Checkpoint.open(tmp_path)
    assert [Path(name).name for name in opened] == ["config.json"]


def test_a_pickle_beside_safetensors_is_never_opened(tmp_path: Path) -> None:
    stored(tmp_path, {"a": np.ones(2, np.float32)})
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(os.path.join))
    (tmp_path / "modeling_yasa.py").write_text("raise SystemExit")
    opened: list[str] = []
    with watching(opened):
        Checkpoint.open(tmp_path).read("a")
    assert {Path(name).name for name in opened} == {"config.json", SINGLE}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "expected model.safetensors or model.safetensors.index.json$"),
        (["model-00001-of-00002.safetensors"], "no index that lists it"),
        ([SINGLE, INDEX], "both there"),
    ],
)
def test_missing_or_doubled_weights_are_named(tmp_path: Path, names: list[str], reason: str) -> None:
    stored(tmp_path, {"a": np.ones(2, np.float32)})
    (tmp_path / SINGLE).unlink()
    for name in names:
        (tmp_path / name).write_bytes(raw({}))
    with pytest.raises(CheckpointError, match=reason):
        Checkpoint.open(tmp_path)


def test_a_foreign_family_is_named_before_its_weights_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"architectures\[0\] is 'GPT2LMHeadModel': expected one of"):
        Checkpoint.open(tmp_path)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint folder"):
        Checkpoint.open(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "[]", "{", '{"a": ' + "[" * 100_000, "1" * 5000])
def test_configuration_must_be_an_object_with_every_key_once(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"^config\.json: "):
        parse_object(text.encode(), name="config.json")


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1])
def test_a_configuration_may_have_one_mebibyte(tmp_path: Path, size: int) -> None:
    stored(tmp_path, {"a": np.ones(2, np.float32)})
    path = tmp_path / "config.json"
    path.write_text(path.read_text().ljust(size))
    if size == 1 << 20:
        assert Checkpoint.open(tmp_path).names == ("a",)
        return
    with pytest.raises(CheckpointError, match="1048577 bytes, expected at most 1048576"):
        Checkpoint.open(tmp_path)


@PATIENT
@given(st.text(max_size=20))
def test_no_name_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        path = plain_file(folder, name)
    except CheckpointError:
        return
    assert path.parent == folder


@pytest.fixture
def text_checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path / "text", replace(TINY_TEXT, n_layers=1)))


def test_a_text_checkpoint_has_no_vision(text_checkpoint: Checkpoint) -> None:
    assert text_checkpoint.config.family == "yasa"
    assert text_checkpoint.config.vision is None
    assert "preprocessor_config.json" not in text_checkpoint.files
