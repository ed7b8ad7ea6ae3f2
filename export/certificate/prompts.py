"""The held-out prompts of the certificate: scenes with questions about them, and plain questions, drawn from a seed."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from export.arrays import U8
from export.certificate.extent import Level
from export.texts.scenes import COLOURS, SHAPES, scene

SEED: Final = 20_260_301
# A picture's embeddings are computed once for all its questions. In a model of a billion weights with the large tower
# that is the longest part of a certificate: half of the reference's work at three questions a picture.
QUESTIONS_PER_IMAGE: Final[dict[Level, int]] = {"quick": 6, "full": 3}

IMAGE_QUESTIONS: Final = (
    "What colours and shapes are present?",
    "How many shapes are there?",
    "Where is the {shape}?",
    "Is there a {colour} {shape}?",
    "Describe the picture.",
    "What colour is the largest shape?",
    "What do you see?",
    "Is there a {shape} in the picture?",
)
TEXT_QUESTIONS: Final = (
    "Who are you?",
    "What can you do?",
    "Hello!",
    "How are you today?",
    "Which shapes do you know?",
    "Which colours do you know?",
    "Do you work without the internet?",
    "What is your name?",
    "Who made you?",
    "Can you see pictures?",
    "Thank you very much.",
    "Good morning!",
    "Can you help me?",
    "What are you good at?",
    "Goodbye!",
    "Tell me about yourself.",
)
WORDINGS: Final = (
    "What is {a} plus {b}?",
    "Write one sentence about {thing}.",
    "Name {a} things that go with {thing}.",
    "Is {a} larger than {b}?",
    "Why do people like {thing}?",
)
THINGS: Final = (
    "the sea", "rain", "a bicycle", "bread", "mountains", "the moon", "a garden", "music", "winter", "trains", "coffee",
    "a lighthouse", "maps", "birds", "a library", "clocks", "rivers", "chess", "a bridge", "old letters",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One prompt; `picture` is (H, W, 3) RGB, the same object for all questions about it."""

    text: str
    image: U8 | None


def questions(*, images: bool, level: Level = "full", seed: int = SEED) -> Iterator[Question]:
    """Draw prompts without end: about scenes with a few plain ones in between, or plain ones and then made-up ones.

    The same level and seed give the same prompts; a plain question comes once.
    """
    random = np.random.default_rng(seed)
    plain = iter(random.permutation(TEXT_QUESTIONS))
    while images:
        yield from _about_a_scene(random, QUESTIONS_PER_IMAGE[level])
        yield from (Question(str(text), None) for text in itertools.islice(plain, 1))
    yield from (Question(str(text), None) for text in plain)
    while True:
        wording, thing = str(random.choice(WORDINGS)), str(random.choice(THINGS))
        a, b = random.integers(2, 1000, 2)
        yield Question(wording.format(a=a, b=b, thing=thing), None)


def _about_a_scene(random: np.random.Generator, n_questions: int) -> Iterator[Question]:
    image = scene(random)
    for wording in random.choice(IMAGE_QUESTIONS, n_questions, replace=False):
        colour, shape = str(random.choice(list(COLOURS))), str(random.choice(SHAPES))
        yield Question(str(wording).format(colour=colour, shape=shape), image)
