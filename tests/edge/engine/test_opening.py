"""Towers that open with their first use: beside the answers to text, told when they fail, tried again."""

import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from typer.testing import CliRunner

from edge.cli import app
from edge.engine import packing
from edge.engine.engine import Engine
from edge.engine.opening import Opening
from edge.engine.pieces import Media
from edge.errors import BundleError, MemoryExhausted
from edge.media.image import digest
from tests.edge.asking import answer, ask, options

IMAGE = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The graphs that were opened, in order."""
    names: list[str] = []
    open_it = packing.Graphs.open

    def watched(self: packing.Graphs, name: str) -> object:
        names.append(name)
        return open_it(self, name)

    monkeypatch.setattr(packing.Graphs, "open", watched)
    return names


def media(engine: Engine) -> Media:
    assert engine.manifest.vision is not None
    return Media("image", IMAGE, engine.manifest.vision.tokens_per_tile, digest(IMAGE))


def test_text_opens_no_tower_and_an_image_opens_it_once(int8_bundle: Path, opened: list[str]) -> None:
    with Engine.open(int8_bundle, threads=1, context=256) as engine:
        answer(engine, ask(engine, "Hello!"), options(2))
        assert opened == ["decoder.onnx"]
        for _ in range(2):
            engine.stream([*ask(engine, "Hello!"), media(engine)], options(2)).result()
        engine.encode_image(IMAGE)
        engine.open_towers()
        assert opened == ["decoder.onnx", "vision.onnx"]


def test_text_is_answered_while_a_tower_opens(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_open = threading.Event(), threading.Event()
    open_it = packing.Graphs.open

    def held(self: packing.Graphs, name: str) -> object:
        if name == "vision.onnx":
            begun.set()
            assert may_open.wait(60)
        return open_it(self, name)

    monkeypatch.setattr(packing.Graphs, "open", held)
    with Engine.open(int8_bundle, threads=1, context=256, slots=2) as engine:
        shown = engine.stream([*ask(engine, "Hello!"), media(engine)], options(2))
        assert begun.wait(60)
        assert answer(engine, ask(engine, "Hello!"), options(4))  # it came later, and is read first
        assert not shown.done
        may_open.set()
        assert shown.result().finish_reason is not None


def test_an_answer_that_waits_for_a_tower_can_be_cancelled(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_open = threading.Event(), threading.Event()
    open_it = packing.Graphs.open

    def held(self: packing.Graphs, name: str) -> object:
        if name == "vision.onnx":
            begun.set()
            assert may_open.wait(60)
        return open_it(self, name)

    monkeypatch.setattr(packing.Graphs, "open", held)
    with Engine.open(int8_bundle, threads=1, context=256) as engine:
        shown = engine.stream([*ask(engine, "Hello!"), media(engine)], options(2))
        assert begun.wait(60)
        shown.cancel()
        assert answer(engine, ask(engine, "Hello!"), options(2))  # in the only slot
        may_open.set()


def test_a_tower_that_fails_is_told_to_who_asked_and_tried_again(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_it = packing.Graphs.open
    left = [MemoryExhausted("no memory for a tower"), BundleError("vision.onnx: cannot be loaded")]

    def failing(self: packing.Graphs, name: str) -> object:
        if name == "vision.onnx" and left:
            raise left.pop(0)
        return open_it(self, name)

    monkeypatch.setattr(packing.Graphs, "open", failing)
    with Engine.open(int8_bundle, threads=1, context=256) as engine:
        with pytest.raises(MemoryExhausted, match="no memory for a tower"):
            engine.stream([*ask(engine, "Hello!"), media(engine)], options(2)).result()
        with pytest.raises(BundleError, match="cannot be loaded"):
            engine.encode_image(IMAGE)
        assert answer(engine, ask(engine, "Hello!"), options(2))
        assert engine.stream([*ask(engine, "Hello!"), media(engine)], options(2)).result().finish_reason is not None


def test_all_who_wait_for_one_opening_get_it() -> None:
    begun, may_open, n_opened = threading.Event(), threading.Event(), []

    def open_it() -> object:
        n_opened.append(1)
        begun.set()
        assert may_open.wait(60)
        return "a session"

    opening = Opening(open_it)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(opening.session())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    may_open.set()
    for thread in threads:
        thread.join()
    assert found == ["a session"] * 4
    assert len(n_opened) == 1


def wrong(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle whose vision tower gives other shapes; its manifest says that this is right."""
    copy = Path(shutil.copytree(bundle, folder / bundle.name))
    x, y = (helper.make_tensor_value_info(name, 1, ["n", 3, 8, 8]) for name in ("tiles", "embeds"))
    graph = helper.make_graph([helper.make_node("Identity", ["tiles"], ["embeds"])], "vision", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, str(copy / "vision.onnx"))
    again(copy, "vision.onnx")
    return copy


def again(bundle: Path, name: str) -> None:
    """Have the manifest say of a file what it is."""
    import hashlib
    import json

    document = json.loads((bundle / "manifest.json").read_text())
    data = (bundle / name).read_bytes()
    document["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(document))


def test_a_tower_of_wrong_shapes_is_found_by_who_uses_it_and_by_doctor(int8_bundle: Path, tmp_path: Path) -> None:
    path = wrong(int8_bundle, tmp_path)
    with Engine.open(path, threads=1, context=256) as engine:
        assert answer(engine, ask(engine, "Hello!"), options(2))
        with pytest.raises(BundleError, match=r"vision\.onnx: tiles: expected the shape"):
            engine.encode_image(IMAGE)
        with pytest.raises(BundleError, match=r"vision\.onnx"):
            engine.open_towers()
    done = CliRunner().invoke(app, ["doctor", "--model", str(path)])
    assert done.exit_code == 1
    assert "vision.onnx: tiles: expected the shape" in done.output
