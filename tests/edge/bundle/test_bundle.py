"""A bundle opens when it is sound, and every fault is one BundleError that names file and key."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle.bundle import Bundle, verify
from edge.bundle.manifest import (
    MANIFEST,
    AudioSpec,
    FileEntry,
    Manifest,
    MemorySpec,
    PromptSpec,
    RecipeRecord,
    Source,
    TensorRecord,
    TextSpec,
    VisionSpec,
    dump_manifest,
    parse_manifest,
)
from edge.errors import STATUS, BundleError, EdgeError, status_of
from edge.limits import Limits
from edge.version import RUNTIME_VERSION

TEXT = TextSpec(8, 1, 2, 1, 4, 16, 32, 64, 1.0, 10000.0, 1e-5, 1.0, "fp32")
VISION = VisionSpec(64, 8, 4, 4, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0.875, "cells-first", 6)
CONTENT = {
    "decoder.onnx": b"\x12\x03dec",  # a graph of a producer's name and nothing else
    "decoder.bin": bytes(5000),
    "embedding.bin": bytes(32 * 8 * 4),
    "vision.onnx": b"\x12\x03vis",
    "vision.bin": bytes(100),
    "tokenizer.json": b"{}",
}

TAGS = [f"<{slash}{kind}>" for kind in ("image", "video", "tool_call", "tool_response") for slash in ("", "/")]
CONTROL = {"<sep>": 30, "<|endoftext|>": 31, **{tag: 20 + i for i, tag in enumerate(TAGS)}}


def manifest() -> Manifest:
    return Manifest(
        format=1,
        id="a-model",
        aliases=("reka-edge",),
        family="yasa2",
        min_runtime="0.1.0",
        source=Source("Yasa2ForConditionalGeneration", {"config.json": "0" * 64}, ("auto_map",), ()),
        recipe=RecipeRecord("int8", {"decoder.head": TensorRecord("int8", 0.0087)}),
        text=TEXT,
        vision=VISION,
        audio=None,
        prompt=PromptSpec("yasa", "B", CONTROL, (30, 31), ()),
        memory=MemorySpec(1000, 32),
        files={name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()},
    )


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    for name, data in CONTENT.items():
        (path / name).write_bytes(data)
    (path / MANIFEST).write_bytes(dump_manifest(manifest()))
    return path


def test_manifest_survives_a_round_trip() -> None:
    data = dump_manifest(manifest())
    assert parse_manifest(data, file="m") == manifest()
    assert dump_manifest(parse_manifest(data, file="m")) == data
    assert data.endswith(b"}\n") and list(json.loads(data)) == sorted(json.loads(data))


@pytest.mark.parametrize("frames", [1, 31, 32, 33])
def test_a_bundle_may_want_as_many_frames_of_a_video_as_a_request(frames: int) -> None:
    data = dump_manifest(manifest()).replace(b'"frames": 6', b'"frames": %d' % frames)
    if frames <= Limits().video_frames == 32:
        found = parse_manifest(data, file="m")
        assert isinstance(found, Manifest) and found.vision is not None and found.vision.frames == frames
    else:
        with pytest.raises(BundleError, match="vision.frames: expected 1 to 32, got 33"):
            parse_manifest(data, file="m")


def test_audio_bundle_opens_and_verifies(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    assert bundle.manifest == manifest() and bundle.file("decoder.bin") == bundle_path / "decoder.bin"
    assert verify(bundle_path) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"graph", "not a graph"),
        (b"\xca\x01\x00", "functions: expected none"),
        (b"\x3a\x02\x7a\x00", "sparse tensors: expected none"),
        (b"\x42\x06\x0a\x04evil", "operators of 'evil'"),
    ],
)
def test_verify_reads_the_structure_of_graphs(bundle_path: Path, data: bytes, words: str) -> None:
    """A manifest that is right about every byte says nothing about what is in a graph."""
    entries = {**manifest().files, "vision.onnx": FileEntry(len(data), hashlib.sha256(data).hexdigest())}
    (bundle_path / "vision.onnx").write_bytes(data)
    (bundle_path / MANIFEST).write_bytes(dump_manifest(dataclasses.replace(manifest(), files=entries)))
    (problem,) = verify(bundle_path)
    assert problem.startswith(f"{bundle_path}/vision.onnx: ") and words in problem


def test_certificate_may_lie_beside_the_files(bundle_path: Path) -> None:
    (bundle_path / "certificate.json").write_text("{}")
    assert verify(bundle_path) == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"format": 1', '"format": 2', "format: expected 1, got 2"),
        ('"format": 1', '"format": true', "format"),
        ('"format": 1', '"format": 1, "format": 1', "'format' is given twice"),
        ('"min_runtime": "0.1.0"', '"min_runtime": "9.0.0"', f"9.0.0, this is {RUNTIME_VERSION}"),
        ('"min_runtime": "0.1.0"', '"min_runtime": "new"', "min_runtime"),
        ('"id": "a-model"', '"id": "../a"', "id: expected"),
        ('"id": "a-model"', '"id": 3', "id: expected a string"),
        ('"id": "a-model"', '"id": "a", "extra": 1', "unknown key extra"),
        ('"n_layers": 1', '"n_layers": 1, "deep": []', "unknown key text.deep"),
        ('"n_layers": 1,', "", "missing key text.n_layers"),
        ('"n_layers": 1', '"n_layers": 0', "text.n_layers"),
        ('"n_layers": 1', '"n_layers": -1', "text.n_layers"),
        ('"n_layers": 1', '"n_layers": 1.5', "text.n_layers: expected int"),
        ('"n_layers": 1', '"n_layers": true', "text.n_layers: expected int"),
        ('"n_layers": 1', '"n_layers": 99999999999999999999', "too large"),
        ('"n_layers": 1', f'"n_layers": {"9" * 5000}', "too large"),
        ('"n_kv_heads": 1', '"n_kv_heads": 3', "text.n_kv_heads"),
        ('"rope_base": 10000.0', '"rope_base": NaN', "not finite"),
        ('"rope_base": 10000.0', '"rope_base": Infinity', "not finite"),
        ('"rope_base": 10000.0', '"rope_base": 1e999', "not finite"),
        ('"rope_base": 10000.0', '"rope_base": "10000"', "text.rope_base: expected float"),
        ('"rope_base": 10000.0', '"rope_base": 0', "text.rope_base"),
        ('"rotary_share": 1.0', '"rotary_share": 1.01', "text.rotary_share"),
        ('"embedding": "fp32"', '"embedding": "fp8"', "text.embedding: expected 'fp32' or 'int8'"),
        ('"embedding": "fp32"', '"embedding": "int8"', "files.embedding.bin"),
        ('"family": "yasa2"', '"family": "yasa"', "vision: expected null"),
        ('"family": "yasa2"', '"family": "\\ud800"', "family"),
        ('"audio": null', '"audio": {}', "audio"),
        ('"order": "cells-first"', '"order": []', "vision.order"),
        ('"frames": 6', '"frames": 0', "vision.frames"),
        ('"<sep>": 30', '"<sep>": 32', "prompt.<sep>: expected an id below the vocabulary of 32"),
        ('"<sep>": 30', '"<sep>": -1', "prompt.<sep>"),
        ('"<sep>": 30', '"\\udc00": 30', "half a surrogate"),
        ('"<sep>": 30', '"<SEP>": 30', "prompt.control.<sep>: expected an id"),
        ('"</image>": 21', '"<img>": 21', "prompt.control.</image>: expected an id"),
        ('"<video>": 22', '"<clip>": 22', "prompt.control.<video>: expected an id"),
        ('"<tool_call>": 24', '"<call>": 24', "prompt.control.<tool_call>: expected an id"),
        ('"weights_bytes": 1000', '"weights_bytes": -1', "memory"),
        ('"decoder.bin":', '"../decoder.bin":', "files."),
        ('"bytes": 5000', '"bytes": -1', "files.decoder.bin"),
        ('"bytes": 5000', '"bytes": 4999', "decoder.bin: expected 4999 bytes, got 5000"),
    ],
)
def test_faulty_manifest_is_refused_with_its_key(bundle_path: Path, old: str, new: str, named: str) -> None:
    text = (bundle_path / MANIFEST).read_text()
    assert old in text
    (bundle_path / MANIFEST).write_text(text.replace(old, new, 1))
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle_path)
    assert named in str(caught.value) and MANIFEST in str(caught.value) + MANIFEST * ("got 5000" in named)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe",
        b"{",
        b"{} {}",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"1" * 9000,
    ]
    + [b'{"format": 1}', b'{"format": "1"}', b" " * ((8 << 20) + 1)],
)
def test_documents_that_are_no_manifest_are_refused(bundle_path: Path, data: bytes) -> None:
    (bundle_path / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Bundle.open(bundle_path)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_of_a_value_gives_a_manifest_or_a_bundle_error(data: st.DataObject) -> None:
    document = json.loads(dump_manifest(manifest()))
    holder = document
    while isinstance(holder, (dict, list)) and holder:
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        inner = holder[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
            holder[key] = data.draw(leaf | st.lists(leaf, max_size=3) | st.dictionaries(st.text(max_size=3), leaf))
            break
        holder = inner
    try:
        parsed = parse_manifest(json.dumps(document).encode(), file="m")
    except BundleError:
        return
    assert parse_manifest(dump_manifest(parsed), file="m") == parsed


def _symlink(path: Path) -> None:
    (path / "decoder.bin").rename(path.parent / "outside")
    (path / "decoder.bin").symlink_to(path.parent / "outside")


def _manifest_link(path: Path) -> None:
    (path / MANIFEST).rename(path.parent / "outside")
    (path / MANIFEST).symlink_to(path.parent / "outside")


def _cut(path: Path) -> None:
    os.truncate(path / "decoder.bin", 4999)


def _fifo(path: Path) -> None:
    (path / "certificate.json").unlink(missing_ok=True)
    os.mkfifo(path / "certificate.json")


def _manifest_fifo(path: Path) -> None:
    (path / MANIFEST).unlink()
    os.mkfifo(path / MANIFEST)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_symlink, "decoder.bin: not a regular file"),
        (_manifest_link, "cannot be read as a bundle"),
        (_cut, "decoder.bin: expected 5000 bytes, got 4999"),
        (_fifo, "certificate.json: not a regular file"),
        (_manifest_fifo, "manifest.json: not a regular file"),
        (lambda path: (path / "decoder.bin").unlink(), "decoder.bin: missing"),
        (lambda path: (path / "notes.txt").write_text("x"), "unknown file 'notes.txt'"),
        (lambda path: (path / "folder").mkdir(), "unknown file 'folder'"),
        (lambda path: (path / "decoder.onnx").write_bytes(b"\x12\x03deC"), "decoder.onnx: its sha256"),
        (lambda path: (path / MANIFEST).unlink(), "No such file"),
    ],
)
def test_faulty_directory_is_refused_and_named(bundle_path: Path, spoil: Callable[[Path], object], named: str) -> None:
    spoil(bundle_path)
    with pytest.raises(BundleError) as caught:
        Bundle.open(bundle_path)
    assert named in str(caught.value)
    assert verify(bundle_path) == [str(caught.value)]


def test_path_that_is_no_bundle_is_a_bundle_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(BundleError, match="cannot be read"):
            Bundle.open(path)


def test_verify_finds_every_flipped_byte(bundle_path: Path) -> None:
    target = bundle_path / "decoder.bin"
    for position in range(0, 5000, 499):
        data = bytearray(CONTENT["decoder.bin"])
        data[position] ^= 1
        target.write_bytes(data)
        assert "decoder.bin: its sha256" in "".join(verify(bundle_path))
    target.write_bytes(CONTENT["decoder.bin"])
    assert verify(bundle_path) == []


def test_dump_refuses_what_parse_would_refuse() -> None:
    with pytest.raises(BundleError):
        dump_manifest(dataclasses.replace(manifest(), text=dataclasses.replace(TEXT, rope_base=float("nan"))))
    with pytest.raises(BundleError):
        dump_manifest(dataclasses.replace(manifest(), aliases=("\ud800",)))


def test_every_error_has_a_status() -> None:
    def tree(kind: type[EdgeError]) -> set[type[EdgeError]]:
        return {kind}.union(*(tree(child) for child in kind.__subclasses__()))

    ours = {kind for kind in tree(EdgeError) if kind.__module__.startswith("edge.")}
    ours = {kind for kind in ours if kind.__module__ != "edge.types"}  # an ApiError carries its own
    ours = {kind for kind in ours if not kind.__name__.startswith("_")}  # those never leave their module
    for kind in ours - {EdgeError}:
        assert STATUS.keys() & set(kind.__mro__[: kind.__mro__.index(EdgeError)]), kind
    assert all(status_of(kind.__new__(kind)) == status for kind, status in STATUS.items())


def test_control_tokens_are_needed_for_what_a_bundle_takes_alone() -> None:
    plain = replace(manifest(), family="yasa", vision=None, files={
        name: entry for name, entry in manifest().files.items() if not name.startswith("vision")
    })  # fmt: skip
    tools = {tag: CONTROL[tag] for tag in ("<sep>", *TAGS[4:])}
    audio_access = replace(plain, audio=AudioSpec(128, 3000, 100), files={
        **plain.files, **{name: manifest().files["vision.bin"] for name in ("audio.onnx", "audio.bin")}
    })  # fmt: skip
    assert dump_manifest(replace(plain, prompt=replace(plain.prompt, control=tools)))
    with pytest.raises(BundleError, match=r"prompt\.control\.</audio>"):
        dump_manifest(replace(audio_access, prompt=replace(plain.prompt, control=tools)))
    flash = PromptSpec("flash", None, {}, (30,), ("<sep>",))
    assert dump_manifest(replace(plain, family="llama", prompt=flash))


def chatml(**changes: object) -> Manifest:
    files = {name: entry for name, entry in manifest().files.items() if not name.startswith("vision")}
    prompt = PromptSpec("chatml", None, {"<|im_start|>": 1, "<|im_end|>": 2}, (2,), ())
    plain = replace(manifest(), family="llama", vision=None, files=files)
    return replace(plain, prompt=replace(prompt, **changes))  # type: ignore[arg-type]


def test_keys_with_a_default_may_be_missing_and_are_left_out() -> None:
    plain, full = chatml(), chatml(system="Be kind.", start_ids=(3,))
    assert b"start_ids" not in dump_manifest(plain) and b'"system"' not in dump_manifest(plain)
    assert json.loads(dump_manifest(full))["prompt"]["start_ids"] == [3]
    for each in (plain, full):
        assert parse_manifest(dump_manifest(each), file="m") == each


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"control": {"<|im_start|>": 1}}, r"prompt\.control\.<\|im_end\|>"),
        ({"start_ids": (32,)}, r"prompt\.start_ids: expected an id below the vocabulary of 32, got 32"),
        ({"tools": "B"}, r"prompt\.tools: expected null for format 'chatml', got 'B'"),
        ({"format": "flash", "system": "x"}, r"prompt\.system: expected no such key for format 'flash', got 'x'"),
    ],
)
def test_a_chatml_prompt_is_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        dump_manifest(chatml(**changes))
