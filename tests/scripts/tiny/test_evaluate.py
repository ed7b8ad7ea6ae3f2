"""What judges the embedded model: answers are read forgivingly, and the test pictures are what their labels say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.tiny.test_set.answers import COLOURS, SHAPES, parts, says_unknown, things

SCRIPTS = Path(__file__).parents[3] / "scripts" / "tiny"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("a red circle", {("red", "circle"): 1}),
        ("A red circle and two blue squares.", {("red", "circle"): 1, ("blue", "square"): 2}),
        ("two blue squares, a red circle", {("red", "circle"): 1, ("blue", "square"): 2}),
        ("3 gray hexagons", {("grey", "hexagon"): 3}),
        ("a red and two green stars", {("red", "star"): 1, ("green", "star"): 2}),
        ("a large, outlined white triangle", {("white", "triangle"): 1}),
        ("a red circle and a red circle", {("red", "circle"): 2}),
        ("a star", {("?", "star"): 1}),
        ("no squares", {}),
        ("I don't know", {}),
    ],
)
def test_answer_is_read_as_a_multiset(answer: str, expected: dict[tuple[str, str], int]) -> None:
    assert things(answer) == Counter(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("first picture: a red circle; in both: nothing", {"first picture": "a red circle", "in both": "nothing"}),
        ("First picture: a red circle", {"first picture": "a red circle"}),
        ("a red circle", {}),
        ("first picture: a red circle; a blue square", {}),
        ("first picture: a red circle; first picture: a blue square", {}),
    ],
)
def test_answer_about_several_pictures_is_read_by_its_headings(answer: str, expected: dict[str, str]) -> None:
    assert parts(answer) == expected


@pytest.mark.parametrize("answer", ["I don't know", "I don\u2019t know.", "I do not know."])
def test_not_knowing_is_recognised(answer: str) -> None:
    assert says_unknown(answer)


def test_naming_a_shape_is_not_not_knowing() -> None:
    assert not says_unknown("I don't know, maybe a red circle")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pictures") / "set"
    command = [sys.executable, SCRIPTS / "testset", out, "--n", "8", "--empty", "2", "--seed", "11"]
    subprocess.run(command, check=True, timeout=240)
    return out


@pytest.fixture(scope="module")
def labels(images: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (images / "labels.jsonl").read_text("utf-8").splitlines()]


def test_labels_name_known_colours_and_shapes(labels: list[dict[str, object]]) -> None:
    found = [thing for label in labels for thing in label["objects"]]  # type: ignore[attr-defined]
    assert {thing["colour"] for thing in found} <= set(COLOURS)
    assert {thing["shape"] for thing in found} <= set(SHAPES)
    assert [len(label["objects"]) > 0 for label in labels] == [True] * 8 + [False] * 2  # type: ignore[arg-type]


def test_pictures_are_of_the_promised_sizes(images: Path, labels: list[dict[str, object]]) -> None:
    for label in labels:
        with Image.open(images / str(label["file"])) as image:
            assert image.size == (label["width"], label["height"])
            assert min(image.size) >= 96 and max(image.size) <= 2000 and max(image.size) <= 3 * min(image.size) + 3


def test_filled_shape_has_its_colour_in_the_middle(images: Path, labels: list[dict[str, object]]) -> None:
    middles = []
    for label in labels:
        rgb = np.asarray(Image.open(images / str(label["file"])).convert("RGB"))
        for thing in label["objects"]:  # type: ignore[attr-defined]
            x, y = thing["centre"]
            if thing["colour"] in ("red", "green", "blue") and not thing["outlined"]:
                middles.append(thing["colour"] == ("red", "green", "blue")[int(rgb[int(y), int(x)].argmax())])
    assert middles and all(middles)


def test_same_seed_draws_the_same_pictures(images: Path, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPTS / "testset", tmp_path / "set", "--n", "2", "--empty", "0", "--seed", "11"]
    subprocess.run(command, check=True, timeout=240)
    for image in (tmp_path / "set").glob("0*"):
        assert image.read_bytes() == (images / image.name).read_bytes()
