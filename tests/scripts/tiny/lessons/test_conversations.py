"""What is said of images is what is in them."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.tiny.lessons import conversations
from scripts.tiny.lessons.conversations import Part
from scripts.tiny.lessons.questions import IN_SEVERAL
from scripts.tiny.lessons.rows import Writer
from scripts.tiny.lessons.sizes import KINDS
from tests.scripts.tiny.shapes import square


def test_parts_of_a_listing_are_its_text_and_speak_of_every_shape_once() -> None:
    things = [square(0.1, 0.1), square(0.5, 0.5, "blue"), square(0.9, 0.9)]
    parts = conversations.listing(things)
    assert "".join(part.text for part in parts) == "two red squares and a blue square"
    assert [part.aim for part in parts] == [(0, 2), (1,), ()]
    assert [part.later for part in parts] == [(1,), (), ()]
    assert [part.after for part in parts] == [KINDS, 1, 25]
    assert conversations.listing([]) == (Part("I don't know", (), (), KINDS),)


@pytest.mark.parametrize("seed", range(40))
def test_talk_about_several_pictures_says_what_is_in_them(writer: Writer, seed: int) -> None:
    shown = [[square(0.2, 0.2, "pink"), square(0.3, 0.7)], [square(0.7, 0.3), square(0.2, 0.8, "blue")]]
    exchange = conversations.about_several(shown, np.random.default_rng(seed))
    assert not set("{}") & set(exchange.question)
    for part in exchange.parts:
        named = {thing.colour for thing in shown[part.image] if thing.colour in part.text}
        assert named <= {shown[part.image][i].colour for i in part.aim or ()}, "what is named is what is looked at"
    if exchange.answer.startswith("first picture: "):
        assert exchange.answer == (
            "first picture: a red square and a pink square; second picture: a red square and a blue square"
        )
    row = writer.row(conversations.about_several_images(shown, np.random.default_rng(seed)), [0, 1])
    assert set(row.signs) == {0, 1}, "both are shown"


def test_questions_about_what_is_in_both_pictures_are_among_the_lessons() -> None:
    rng = np.random.default_rng(0)
    asked = {conversations.of_several(IN_SEVERAL, 2, rng) for _ in range(5000)}
    assert {
        "What colours and shapes are present in both images?", "What do the two images have in common?",
        "Compare the two pictures.", "How do the images differ?", "What is in each picture?",
    } <= asked  # fmt: skip
    assert "What is in all three images?" in {conversations.of_several(IN_SEVERAL, 3, rng) for _ in range(5000)}


def test_videos_are_made_of_pictures_in_which_no_two_shapes_are_alike() -> None:
    assert conversations.all_different([square(0.1, 0.1), square(0.5, 0.5, "blue")])
    assert not conversations.all_different([square(0.1, 0.1), square(0.5, 0.5)])
