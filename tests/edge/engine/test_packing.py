"""Bundles packed and loaded packed: the same numbers from mapped files, and as they are whenever anything is wrong."""

import logging
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge.bundle import packed
from edge.bundle.bundle import Bundle
from edge.engine import packing, session
from edge.engine.available import Memory
from edge.engine.engine import Engine
from edge.engine.kv import GRAPHS, Kv
from edge.engine.session import open_packed, open_session, save_packed
from edge.errors import BundleChanged, BundleError, MemoryExhausted, ParameterError
from edge.models import Models
from edge.speech.transcriber import Speech
from tests.conftest import BundleOf
from tests.edge.asking import answer, ask, options

SILENCE = np.zeros(16000, np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("EDGE_PACKED", raising=False)
    return tmp_path / "cache" / "edge" / "packed"


def mapped(cache: Path) -> set[str]:
    """Name the packed files that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split()[-1]).name for line in lines if str(cache) in line and line.endswith(".bin")}


def numbers(path: Path) -> tuple[bytes, bytes]:
    """Return the logits of an answer, and the embeddings of an image, as bytes."""
    with Engine.open(path, threads=1, context=256) as engine:
        scores = engine.score(ask(engine, "Hello!"), [5, 6, 7])
        spec = engine.manifest.vision
        if spec is None:
            return scores.tobytes(), b""
        image = np.random.default_rng(0).integers(0, 256, (spec.tile_px, spec.tile_px, 3), np.uint8)
        return scores.tobytes(), engine.encode_image(image).tobytes()


@pytest.mark.parametrize("recipe", ["int8", "w8a8", "int4", "int4-mixed", "fp32"])
def test_numbers_are_the_same_packed_bit_for_bit(
    tiny_checkpoint: Path, bundle_of: BundleOf, cache: Path, recipe: str
) -> None:
    path = bundle_of(tiny_checkpoint, recipe)
    plain = numbers(path)
    packing.pack(path)
    assert numbers(path) == plain


def test_packed_graphs_are_mapped_and_freed_with_the_engine(int8_bundle: Path, cache: Path) -> None:
    assert packing.pack(int8_bundle)
    with Engine.open(int8_bundle, threads=1, context=256) as engine:
        engine.encode_image(np.zeros((32, 32, 3), np.uint8))
        assert mapped(cache) >= {"decoder.bin"}
    assert not mapped(cache)
    open_files = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    assert not [path for path in open_files if cache in path.parents]


def test_a_speech_bundle_says_the_same_packed(int8_speech_bundle: Path, cache: Path) -> None:
    plain = Speech.open(int8_speech_bundle, threads=1).transcribe(SILENCE)
    packing.pack(int8_speech_bundle)
    speech = Speech.open(int8_speech_bundle, threads=1)
    assert speech.transcribe(SILENCE) == plain
    assert mapped(cache)


def test_weights_converted_for_cpus_without_vnni_are_saved_converted(
    tiny_checkpoint: Path, bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_has_vnni", lambda: False)
    path = bundle_of(tiny_checkpoint, "w8a8")
    save_packed(path / "vision.onnx", tmp_path / "vision.onnx", threads=1)
    before, saved = (onnx.load(str(folder / "vision.onnx"), load_external_data=False) for folder in (path, tmp_path))
    assert weight_types(before) == {onnx.TensorProto.INT8}
    assert weight_types(saved) == {onnx.TensorProto.UINT8}
    tile = np.random.default_rng(0).standard_normal((1, 3, 384, 384), np.float32)
    plain = open_session(path / "vision.onnx", threads=1).run(None, {"tiles": tile})
    packed_ = open_packed(tmp_path / "vision.onnx", threads=1).run(None, {"tiles": tile})
    assert plain[0].tobytes() == packed_[0].tobytes()


def weight_types(model: onnx.ModelProto) -> set[int]:
    """Return the types of the weights that are multiplied as 8-bit numbers."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("MatMulIntegerToFloat", "MatMulInteger")]
    return {types[node.input[1]] for node in nodes if node.input[1] in types}


def test_weights_are_not_used_where_others_are_converted(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packing.pack(int8_bundle)
    converts = not session.clips()
    monkeypatch.setattr(packing, "clips", lambda: converts)
    assert packing.find(int8_bundle) is None


def found(bundle: Path) -> Path:
    there = packing.find(bundle)
    assert there is not None
    there.close()
    return there.folder


def test_packed_weights_that_are_cut_while_loaded_are_refused_before_they_are_read(int8_bundle: Path) -> None:
    packing.pack(int8_bundle)
    with Engine.open(int8_bundle, threads=1, context=256) as engine:
        answer(engine, ask(engine, "Hello!"), options(2))
        os.truncate(found(int8_bundle) / "decoder.bin", 4096)
        for _ in range(2):
            with pytest.raises(BundleChanged, match="the packed weights of int8 were written to since"):
                engine.stream(ask(engine, "Hello!"), options(2))
    with Engine.open(int8_bundle, threads=1, context=256) as engine:
        assert answer(engine, ask(engine, "Hello!"), options(2))


def test_a_client_goes_on_without_packed_weights_that_were_cut(int8_bundle: Path) -> None:
    packing.pack(int8_bundle)
    models = Models(model=int8_bundle, aliases={}, threads=1, context=256)
    name = models.ids()[0]
    first = models.engine(name)
    os.truncate(found(int8_bundle) / "decoder.bin", 4096)
    second = models.engine(name)
    assert second is not first
    assert answer(second, ask(second, "Hello!"), options(2))
    models.close()


def test_evicted_weights_stay_usable_where_they_are_loaded(int8_bundle: Path) -> None:
    packing.pack(int8_bundle)
    with Engine.open(int8_bundle, threads=1, context=256) as engine:
        before = answer(engine, ask(engine, "Hello!"), options(4))
        packed.forget(int8_bundle)
        assert answer(engine, ask(engine, "Hello!"), options(4)) == before


def test_a_packed_graph_that_cannot_be_loaded_is_passed_by(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = numbers(int8_bundle)
    packing.pack(int8_bundle)
    folder = found(int8_bundle)

    begin = packing.Graphs.__init__

    def spoilt(self: packing.Graphs, bundle: Bundle, *, threads: int, kv: Kv) -> None:
        begin(self, bundle, threads=threads, kv=kv)
        (folder / "decoder.onnx").chmod(0o600)
        (folder / "decoder.onnx").write_bytes(b"no graph")

    monkeypatch.setattr(packing.Graphs, "__init__", spoilt)
    with caplog.at_level(logging.WARNING, "edge"):
        assert numbers(int8_bundle) == plain
    assert "packed weights are not used" in caplog.text


def test_a_damaged_bundle_is_not_packed(int8_bundle: Path, tmp_path: Path, cache: Path) -> None:
    own = Path(shutil.copytree(int8_bundle, tmp_path / "own"))
    data = bytearray((own / "decoder.bin").read_bytes())
    data[-1] ^= 1
    (own / "decoder.bin").write_bytes(data)
    with pytest.raises(BundleError, match=r"decoder\.bin: its sha256"):
        packing.pack(own)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_a_process_that_is_killed_leaves_nothing(
    int8_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            self.send_signal(signal.SIGKILL)

    monkeypatch.setattr(subprocess, "Popen", Killed)
    with pytest.raises(BundleError, match=r"could not be packed \(status -9\)"):
        packing.pack(int8_bundle)
    assert [path.name for path in cache.iterdir()] == [".lock"]
    assert packing.find(int8_bundle) is None


def test_packing_ends_when_it_is_stopped(int8_bundle: Path, cache: Path) -> None:
    stopped = threading.Event()
    with pytest.raises(BundleError, match="could not be packed"):
        packing.pack(int8_bundle, progress=lambda done, total: stopped.set(), stopped=stopped)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_nothing_is_packed_that_memory_does_not_hold(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "available_bytes", lambda: 50_000_000)
    with pytest.raises(MemoryExhausted, match="50 MB are available"):
        packing.pack(int8_bundle)


def test_what_is_packed_already_asks_for_no_memory(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert packing.pack(int8_bundle)
    monkeypatch.setattr(packing, "available_bytes", lambda: 0)
    assert packing.pack(int8_bundle)


def test_switched_off_nothing_is_written_or_read(
    int8_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing.pack(int8_bundle)
    monkeypatch.setenv("EDGE_PACKED", "off")
    with Engine.open(int8_bundle, threads=1, context=256):
        assert not mapped(cache)
    with pytest.raises(BundleError, match="EDGE_PACKED=off"):
        packing.pack(int8_bundle)


def test_a_frozen_program_does_not_start_itself(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.frozen", True, raising=False)
    with pytest.raises(BundleError, match="needs a Python"):
        packing.pack(int8_bundle)


def test_a_wrong_limit_is_told_at_once(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_PACKED", "much")
    with pytest.raises(ParameterError, match="EDGE_PACKED"):
        Models(model=int8_bundle, aliases={}, threads=1, context=256)


def test_a_large_bundle_is_packed_beside_its_first_load(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MIN_BYTES", 1)
    begun = packing.in_background(int8_bundle)
    assert begun is not None
    begun.wait()
    assert found(int8_bundle).is_dir()
    assert packing.in_background(int8_bundle) is None


def test_a_client_has_a_large_bundle_packed_for_the_next_one(
    int8_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MIN_BYTES", 1)
    begun: list[packing.Background | None] = []
    begin = packing.in_background

    def watched(path: Path, *, kv: Kv) -> packing.Background | None:
        begun.append(begin(path, kv=kv))
        return begun[-1]

    monkeypatch.setattr("edge.models.in_background", watched)
    models = Models(model=int8_bundle, aliases={}, threads=1, context=256)
    models.engine(models.ids()[0])
    assert begun[0] is not None
    begun[0].wait()
    models.close()
    again = Models(model=int8_bundle, aliases={}, threads=1, context=256)
    again.engine(again.ids()[0])
    assert mapped(cache)
    assert begun[1:] == [None]
    again.close()


def test_closing_ends_packing_and_says_nothing(
    int8_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packing, "MIN_BYTES", 1)
    monkeypatch.setattr(packing, "_line", lambda process: process.wait() and {})
    with caplog.at_level(logging.WARNING, "edge"):
        begun = packing.in_background(int8_bundle)
        assert begun is not None
        begun.close()
        begun.wait()
    assert not caplog.records
    assert [path.name for path in cache.iterdir() if path.name != ".lock"] == []


def test_once_closed_nothing_half_written_is_left(
    int8_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_writing = threading.Event()

    def line(process: "subprocess.Popen[bytes]") -> dict[str, object]:
        (partial,) = cache.glob(".partial-*")
        (partial / "decoder.bin").write_bytes(b"half")
        is_writing.set()
        process.wait()
        return {}

    monkeypatch.setattr(packing, "MIN_BYTES", 1)
    monkeypatch.setattr(packing, "_line", line)
    begun = packing.in_background(int8_bundle)
    assert begun is not None
    assert is_writing.wait(60)
    begun.close()
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_what_keeps_a_bundle_from_being_packed_is_one_sentence(
    int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packing, "MIN_BYTES", 1)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "edge"):
        begun = packing.in_background(int8_bundle)
        assert begun is not None
        begun.wait()
    (record,) = caplog.records
    assert "not packed for the next load" in record.message
    assert "Not a directory" in record.message


def test_small_bundles_are_not_packed_unasked(int8_bundle: Path) -> None:
    assert packing.in_background(int8_bundle) is None


@pytest.mark.parametrize(("available", "is_read"), [(1 << 40, True), (1000, False)])
def test_packed_files_are_read_ahead_where_memory_has_room(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, available: int, is_read: bool
) -> None:
    packing.pack(int8_bundle)
    advised: list[str] = []
    monkeypatch.setattr(packing, "available_bytes", lambda: available)
    monkeypatch.setattr(
        os, "posix_fadvise", lambda file, *_: advised.append(Path(f"/proc/self/fd/{file}").readlink().name)
    )
    with Engine.open(int8_bundle, threads=1, context=256, check_memory=False):
        assert advised == (["decoder.bin"] if is_read else [])


# Engines with keys and values in 8 bits


def found_int8(bundle: Path) -> Path:
    there = packing.find(bundle, kv="int8")
    assert there is not None
    there.close()
    return there.folder


def scores(path: Path, kv: str) -> bytes:
    with Engine.open(path, threads=1, context=256, kv=kv) as engine:
        return engine.score(ask(engine, "Hello!"), [5, 6, 7]).tobytes()


@pytest.mark.parametrize("recipe", ["int8", "int4", "fp32"])
def test_int8_engine_has_the_same_numbers_packed_and_maps_its_decoder(
    tiny_checkpoint: Path, bundle_of: BundleOf, cache: Path, recipe: str
) -> None:
    path = bundle_of(tiny_checkpoint, recipe)
    plain = scores(path, "int8")
    is_kept = packing.pack(path, kv="int8")
    with Engine.open(path, threads=1, context=256, kv="int8") as engine:
        assert engine.is_packed == is_kept
        assert mapped(cache) == ({"decoder-kv8.bin"} if is_kept else set())
        assert engine.score(ask(engine, "Hello!"), [5, 6, 7]).tobytes() == plain
    assert is_kept or recipe == "fp32"


@pytest.mark.parametrize(("kv", "other"), [("fp32", "int8"), ("int8", "fp32")])
def test_packed_weights_serve_engines_of_their_kv_alone(int8_bundle: Path, cache: Path, kv: Kv, other: Kv) -> None:
    packing.pack(int8_bundle, kv=kv)
    assert packing.is_packed(int8_bundle, kv=kv)
    assert not packing.is_packed(int8_bundle, kv=other)
    with Engine.open(int8_bundle, threads=1, context=256, kv=other) as engine:
        assert not engine.is_packed
        assert not mapped(cache)


def test_one_decoder_is_packed_and_not_both(int8_bundle: Path) -> None:
    packing.pack(int8_bundle, kv="int8")
    names = {path.name for path in found_int8(int8_bundle).iterdir()}
    assert {"decoder-kv8.onnx", "decoder-kv8.bin"} <= names
    assert not names & {"decoder.onnx", "decoder.bin"}
    packing.pack(int8_bundle)
    assert "decoder-kv8.onnx" not in {path.name for path in found(int8_bundle).iterdir()}


@pytest.mark.parametrize(("first", "second"), [("fp32", "int8"), ("int8", "fp32")])
def test_towers_are_on_the_disk_once_where_both_are_packed(
    tiny_checkpoint: Path, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch, first: Kv, second: Kv
) -> None:
    path = bundle_of(tiny_checkpoint, "w8a8")
    packing.pack(path, kv=first)
    asked: list[list[str]] = []
    begin = packing._packed_by_child

    def watched(
        bundle: Path,
        graphs: list[str],
        folder: Path,
        progress: packing.Progress | None,
        stopped: threading.Event,
        when_idle: bool,
    ) -> list[str]:
        asked.append(graphs)
        return begin(bundle, graphs, folder, progress, stopped, when_idle)

    monkeypatch.setattr(packing, "_packed_by_child", watched)
    packing.pack(path, kv=second)
    ours, theirs = found(path), found_int8(path)
    common = {entry.name for entry in ours.iterdir()} & {entry.name for entry in theirs.iterdir()} - {"index.json"}
    assert "vision.bin" in common
    assert all((ours / name).samefile(theirs / name) for name in common)
    assert asked == [[GRAPHS[second]]]
    assert packing.is_packed(path, kv=first)


def test_damaged_tower_is_packed_again_and_not_linked(int8_bundle: Path) -> None:
    packing.pack(int8_bundle)
    file = found(int8_bundle) / "vision.bin"
    before = file.stat()
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    with file.open("r+b") as opened:
        opened.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    packing.pack(int8_bundle, kv="int8")
    there = packing.find(int8_bundle, kv="int8")
    assert there is not None
    assert "vision.bin" in there.index.files
    assert there.problems() == []
    there.close()


def test_file_system_without_links_has_both_packed(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    packing.pack(int8_bundle)
    monkeypatch.setattr(os, "link", refuse)
    assert packing.pack(int8_bundle, kv="int8")
    assert (found_int8(int8_bundle) / "vision.bin").stat().st_nlink == 1


def test_open_engine_goes_on_while_the_other_graph_is_packed_and_evicted(int8_bundle: Path) -> None:
    packing.pack(int8_bundle)
    with Engine.open(int8_bundle, threads=1, context=256, kv="fp32") as engine:
        before = answer(engine, ask(engine, "Hello!"), options(4))
        packing.pack(int8_bundle, kv="int8")
        assert answer(engine, ask(engine, "Hello!"), options(4)) == before
        packed.forget(int8_bundle)
        assert answer(engine, ask(engine, "Hello!"), options(4)) == before


def test_client_has_the_graph_packed_that_its_engine_opened(
    int8_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MIN_BYTES", 1)
    models = Models(model=int8_bundle, aliases={}, threads=1, context=256, kv="int8")
    models.engine(models.ids()[0])
    (shared,) = models._held.values()
    assert shared._packing is not None
    shared._packing.wait()
    models.close()
    assert packing.is_packed(int8_bundle, kv="int8")
    assert not packing.is_packed(int8_bundle, kv="fp32")
    again = Models(model=int8_bundle, aliases={}, threads=1, context=256, kv="int8")
    assert again.engine(again.ids()[0]).is_packed
    again.close()


def test_bundle_without_int8_cache_cannot_be_packed_for_it(int8_speech_bundle: Path) -> None:
    with pytest.raises(ParameterError, match=r"has no int8 cache.*export it again, or use fp32"):
        packing.pack(int8_speech_bundle, kv="int8")


@pytest.mark.parametrize(("available", "kv"), [(1 << 40, "fp32"), (4096, "int8")])
def test_default_is_what_an_engine_chooses_by_memory(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, available: int, kv: Kv
) -> None:
    monkeypatch.setattr(packing, "memory", lambda: Memory(1 << 41, available))
    assert packing.default_kv(int8_bundle) == kv


def test_looking_for_packed_weights_is_no_use_of_them(int8_bundle: Path) -> None:
    packing.pack(int8_bundle, kv="int8")
    index = found_int8(int8_bundle) / "index.json"
    os.utime(index, (1, 1))
    Engine.open(int8_bundle, threads=1, context=256, kv="fp32").close()
    packing.is_packed(int8_bundle, kv="int8")
    assert index.stat().st_mtime == 1
    Engine.open(int8_bundle, threads=1, context=256, kv="int8").close()
    assert index.stat().st_mtime > 1
