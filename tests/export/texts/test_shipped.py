"""The shipped texts: as large as documented, varied, true to their images, and apart from each other."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.chat.boxes import Box, parse_boxes
from edge.chat.messages import MediaPart
from export.texts.read import (
    Conversation,
    Entry,
    Text,
    read,
    scene_number,
    shipped_calibration,
    shipped_evaluation,
)
from export.texts.scenes import COLOURS, SHAPES, numbered

SHIPPED = {"calibration": shipped_calibration(), "evaluation": shipped_evaluation()}
SCRIPTS = {
    "Cyrillic": "[а-я]", "Greek": "[α-ω]", "Arabic": "[ا-ي]", "Devanagari": "[अ-ह]", "Han": "[一-龥]",
    "kana": "[ぁ-ん]", "Hangul": "[가-힣]", "German": "[äöüß]", "French": "[àèê]", "Spanish": "[¿ñ]",
    "Portuguese": "[ãõ]", "Polish": "[łśę]", "Turkish": "[ğış]",
}  # fmt: skip
SAME_WORDS = 8
LEAST_BYTES, MOST_BYTES = 85_000, 110_000
MAX_IMAGES = 6  # each is a pass through the vision tower


def texts(entry: Entry) -> Iterator[str]:
    """Every text that a model reads of an entry."""
    if isinstance(entry, Text):
        yield entry.text
        return
    for message in entry.messages:
        yield from (part for part in message.all_parts if isinstance(part, str))
        yield from (str(call.arguments) for call in message.calls)
    yield from (str(tool) for tool in entry.tools)


def runs(path: Path) -> set[tuple[str, ...]]:
    """Every run of words, lower case, that stands in one text."""
    found: set[tuple[str, ...]] = set()
    for entry in read(path):
        for text in texts(entry):
            words = re.findall(r"\w+", text.lower())
            found.update(tuple(words[i : i + SAME_WORDS]) for i in range(len(words) - SAME_WORDS + 1))
    return found


def test_calibration_and_evaluation_share_no_run_of_words() -> None:
    calibration, evaluation = map(runs, SHIPPED.values())
    assert len(calibration) > 8_000 and len(evaluation) > 8_000
    assert not calibration & evaluation


@pytest.mark.parametrize("name", SHIPPED)
def test_size_is_the_documented_one(name: str) -> None:
    assert LEAST_BYTES <= SHIPPED[name].stat().st_size <= MOST_BYTES


@pytest.mark.parametrize("name", SHIPPED)
def test_conversations_and_running_text_are_in_many_languages(name: str) -> None:
    entries = read(SHIPPED[name])
    whole = "\n".join(text for entry in entries for text in texts(entry))
    assert not [script for script, letters in SCRIPTS.items() if not re.search(letters, whole)]
    assert sum(isinstance(entry, Text) for entry in entries) >= 10
    assert sum(isinstance(entry, Conversation) and entry.has_tools for entry in entries) >= 2
    assert whole.count("```") >= 20
    n_images = sum(len(entry.images) for entry in entries if isinstance(entry, Conversation))
    assert 2 <= n_images <= MAX_IMAGES


@pytest.mark.parametrize("name", SHIPPED)
def test_no_text_comes_twice(name: str) -> None:
    answers = [
        part
        for entry in read(SHIPPED[name])
        for part in ((entry.text,) if isinstance(entry, Text) else entry.messages[-1].parts)
        if isinstance(part, str)
    ]
    assert len(set(answers)) == len(answers)


def test_passages_in_the_public_domain_name_author_title_and_year() -> None:
    assert not [e for e in read(shipped_calibration()) if isinstance(e, Text) and e.source]
    sources = [entry.source for entry in read(shipped_evaluation()) if isinstance(entry, Text) and entry.source]
    years = [re.fullmatch(r"[^,]+, .+ \((\d{4})\).*", source) for source in sources]
    assert len(sources) >= 8 and all(year and int(year[1]) < 1929 for year in years)


def boxes(path: Path) -> list[tuple[int, Box]]:
    """Each box of a shape that an answer gives, with the number of the scene that it is about."""
    found = []
    for entry in read(path):
        if isinstance(entry, Conversation) and entry.images:
            number = scene_number(entry.images[0])
            parts = [part for message in entry.messages for part in message.parts if isinstance(part, str)]
            found += [(number, box) for part in parts for box in parse_boxes(part) if number is not None]
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_boxes_are_where_the_shapes_are(name: str) -> None:
    found = boxes(SHIPPED[name])
    assert len(found) >= 3
    for number, box in found:
        colour, shape = box.label.split()
        assert shape in SHAPES
        ys, xs = np.nonzero((numbered(number) == COLOURS[colour]).all(axis=2))
        height, width = numbered(number).shape[:2]
        drawn = [xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height]
        assert np.allclose([100 * side for side in drawn], [box.x1, box.y1, box.x2, box.y2], atol=1.0), (number, box)


@pytest.mark.parametrize("name", SHIPPED)
def test_colours_that_answers_name_are_in_the_scene(name: str) -> None:
    n_checked = 0
    for entry in read(SHIPPED[name]):
        if not isinstance(entry, Conversation) or not entry.images:
            continue
        assert all(isinstance(image, MediaPart) and scene_number(image) is not None for image in entry.images)
        pixels = numbered(scene_number(entry.images[0]) or 0).reshape(-1, 3)
        first = next(m.parts[0] for m in entry.messages if m.role == "assistant")
        assert isinstance(first, str)
        for colour, shape in re.findall(rf"\b({'|'.join(COLOURS)})\b[\w -]*? ({'|'.join(SHAPES)})\b", first):
            assert (pixels == COLOURS[colour]).all(axis=1).sum() > 100, (colour, shape)
            n_checked += 1
    assert n_checked >= 4
