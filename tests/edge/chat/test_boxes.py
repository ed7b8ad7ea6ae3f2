"""Boxes: read from whatever a model makes of its tags, printed and drawn."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import edge
from edge.chat.boxes import drawn
from edge.cli import app
from tests.edge.fake_engine import FakeEngine, manifest

A = edge.Box("a", 10.0, 20.0, 30.0, 40.0)


@pytest.mark.parametrize(
    "text",
    [
        "<ref>a</ref><bbox>10,20,30,40</bbox>", "<ref> a </ref> <bbox> 10, 20 ,30,\n40 </bbox>",
        "<REF>a</REF><BBOX>10,20,30,40</BBOX>", "<ref>a</bbox><bbox>10,20,30,40</ref>",
        "<ref>a<bbox>10,20,30,40", "a</ref>10,20,30,40</bbox>", "<ref>a</ref><box>10,20,30,40</box>",
        "<ref>a</ref><bbox>(10,20),(30,40)</bbox>", "<ref>a</ref><bbox>[10 20 30 40]</bbox>",
        "<ref>a</ref><bbox>10%,20%,30 %,40%</bbox>", "<ref>a</ref><bbox>10;20;30;40.</bbox>",
        "<ref>a</ref><bbox>30,40,10,20</bbox>", "<ref>a</ref><bbox>30,20,10,40</bbox>",
        "There is one: <ref>a</ref><bbox>10.0,2e1,30,40</bbox><bbox>10,20.00,30.,+40</bbox>",
        "<ref>a</ref><bbox>10,20,30</bbox><bbox>10,20,30,40,50</bbox><bbox>10,20,30,40</bbox>",
        "<ref>a</ref><bbox>x,y,z,w</bbox><ref>a</ref><bbox>10,20,30,40</bbox>",
        "<bbox>a</bbox><bbox>10,20,30,40</bbox>",
    ],
)  # fmt: skip
def test_every_spelling_is_the_same_box(text: str) -> None:
    assert edge.parse_boxes(text) == [A]


@pytest.mark.parametrize("numbers", ["1,2,3,4;5,6,7,8", "1,2,3,4 5,6,7,8", "[1,2,3,4],[5,6,7,8]"])
def test_one_tag_may_hold_several_boxes(numbers: str) -> None:
    found = edge.parse_boxes(f"<ref>a</ref><bbox>{numbers}</bbox>")
    assert found == [edge.Box("a", 1, 2, 3, 4), edge.Box("a", 5, 6, 7, 8)]


@pytest.mark.parametrize("end", ["<", "</", "</bbo", "</bbox"])
def test_an_answer_cut_off_in_its_last_tag_has_its_box(end: str) -> None:
    assert edge.parse_boxes(f"<ref>a</ref><bbox>10,20,30,40{end}") == [A]


def test_a_label_goes_for_all_boxes_until_the_next_one() -> None:
    text = "<ref>a</ref><bbox>10,20,30,40</bbox><bbox>1,2,3,4</bbox>, <ref>b</ref><bbox>5,6,7,8</bbox>"
    assert [box.label for box in edge.parse_boxes(text)] == ["a", "a", "b"]


def test_what_lies_outside_of_the_image_is_cut_off() -> None:
    assert edge.parse_boxes("<ref>a</ref><bbox>-10,20.5,130,101</bbox>") == [edge.Box("a", 0.0, 20.5, 100.0, 100.0)]


@pytest.mark.parametrize("numbers", ["5,5,5,9", "1,7,9,7", "101,1,200,9", "-9,-9,-1,-1", "1,1,1,1"])
def test_boxes_without_area_are_passed_over(numbers: str) -> None:
    assert edge.parse_boxes(f"<ref>a</ref><bbox>{numbers}</bbox>") == []


@pytest.mark.parametrize("text", ["", "no boxes", "1,2,3,4", "<ref>a</ref>", "<bbox></bbox>", "<bbox>nan,1,2,3</bbox>"])
def test_answers_without_boxes_have_none(text: str) -> None:
    assert edge.parse_boxes(text) == []


@given(st.text("<>/refbox0123456789.,-% ()[]a\n", max_size=200))
def test_whatever_is_said_gives_boxes_inside_of_the_image(text: str) -> None:
    for box in edge.parse_boxes(text):
        assert 0 <= box.x1 < box.x2 <= 100 and 0 <= box.y1 < box.y2 <= 100


@given(st.lists(st.tuples(*[st.floats(0, 100, allow_subnormal=False)] * 4), max_size=5))
def test_boxes_that_are_written_are_read(corners: list[tuple[float, float, float, float]]) -> None:
    boxes = [
        edge.Box(f"thing {i}", *(round(value, 2) for value in (min(a, c), min(b, d), max(a, c), max(b, d))))
        for i, (a, b, c, d) in enumerate(corners)
    ]
    boxes = [box for box in boxes if box.x1 < box.x2 and box.y1 < box.y2]
    text = "".join(f"<ref>{b.label}</ref><bbox>{b.x1:f},{b.y1:f},{b.x2:f},{b.y2:f}</bbox>" for b in boxes)
    assert edge.parse_boxes(text) == boxes


@pytest.mark.parametrize("text", ["<bbox>" + " " * 1_000_000 + "x", "<bbox>1" + " " * 500_000 + "2", "<ref>" * 200_000,
                                  "<bbox>" + "1," * 500_000, "<bbox>" + "1" * 1_000_000])  # fmt: skip
@pytest.mark.timeout(60)
def test_long_answers_take_no_long_time(text: str) -> None:
    assert edge.parse_boxes(text) == []


def test_pixels_are_those_of_the_image() -> None:
    assert A.pixels(200, 50) == (20, 10, 60, 20)
    assert edge.Box("", 0, 0, 100, 100).pixels(640, 480) == (0, 0, 640, 480)


def test_boxes_are_drawn_around_what_they_name() -> None:
    image = Image.new("RGB", (200, 200), "white")
    marked = np.asarray(drawn(image, [edge.Box("", 25, 25, 75, 75)]))
    assert np.asarray(image).min() == 255
    assert marked[100, 100].tolist() == [255, 255, 255] and marked[5, 5].tolist() == [255, 255, 255]
    assert marked[50, 100].tolist() != [255, 255, 255] and marked[100, 149].tolist() != [255, 255, 255]


@pytest.mark.parametrize("corner", [(99, 50), (50, 99), (99, 99)])
def test_a_label_at_the_edge_is_drawn_whole(corner: tuple[int, int]) -> None:
    def painted(x: int, y: int) -> int:
        marked = np.asarray(drawn(Image.new("RGB", (200, 200), "white"), [edge.Box("a label", x, y, x + 1, y + 1)]))
        return int((marked != 255).any(axis=2).sum())

    assert painted(*corner) >= 0.9 * painted(50, 50)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (2000, 20)])
def test_small_and_thin_images_are_drawn_on(size: tuple[int, int]) -> None:
    boxes = [A, edge.Box("a long label, gr\u00fcn \u4e2d", 0, 0, 100, 100), edge.Box("", 99, 99, 100, 100)]
    assert drawn(Image.new("RGB", size), boxes).size == size


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture, and a model that finds a cat in it."""
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    words = ("<ref>cat</ref>", "<bbox>10,20,", "30,40</bbox>", ".")
    engine = FakeEngine(manifest("reka-edge-tiny"), words=words)
    monkeypatch.setattr("edge.models.Engine.open", lambda *_, **__: engine)
    monkeypatch.setattr("tests.edge.chat.test_boxes.ENGINE", engine, raising=False)
    path = tmp_path / "a:b.png"
    Image.new("RGB", (200, 100), "white").save(path)
    return path


def test_boxes_are_printed_as_lines_of_json(image: Path) -> None:
    done = CliRunner().invoke(app, ["detect", str(image), "cat", "dog"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"label": "cat", "percent": [10, 20, 30, 40], "pixels": [20, 20, 60, 40]}


def test_one_document_holds_all_there_is_to_know(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    done = CliRunner().invoke(app, ["detect", str(image), "cat", "--json", "--out", str(out)])
    document = json.loads(done.stdout)
    assert (document["width"], document["height"]) == (200, 100)
    assert document["boxes"][0]["label"] == "cat" and document["text"].startswith("<ref>cat</ref>")
    with Image.open(out) as marked:
        assert marked.size == (200, 100)
        assert np.asarray(marked.convert("RGB"))[20, 40].tolist() != [255, 255, 255]


def test_the_question_names_all_things(image: Path) -> None:
    CliRunner().invoke(app, ["detect", str(image), "a cat ", "dog"])
    prompt, options = ENGINE.asked[0]  # type: ignore[name-defined]  # noqa: F821 (set by the fixture)
    assert "Detect: a cat, dog" in "".join(getattr(piece, "text", "") for piece in prompt)
    assert math.isclose(options.temperature, 0)


@pytest.mark.parametrize("out", ["a.gif", "a", "a.pdf"])
def test_an_odd_name_for_the_image_is_refused_before_anything_is_done(image: Path, out: str) -> None:
    done = CliRunner().invoke(app, ["detect", str(image), "cat", "--out", out])
    assert done.exit_code == 1 and "expected a file name that ends with .png" in done.stderr


def test_a_folder_that_is_not_there_is_named(image: Path) -> None:
    done = CliRunner().invoke(app, ["detect", str(image), "cat", "--out", "/nowhere/at/all.png"])
    assert done.exit_code == 1 and "/nowhere/at/all.png: No such file or directory" in done.stderr
