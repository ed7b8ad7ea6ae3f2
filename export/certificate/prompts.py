"""The held-out prompts of the certificate: scenes with questions about them, and plain questions, drawn from a seed."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from export.arrays import U8

Outline = npt.NDArray[np.float64]  # (points, 2), x and y around the origin, px

Level = Literal["quick", "full"]

SEED: Final = 20_260_301
POSITIONS: Final[dict[Level, int]] = {"quick": 2000, "full": 8000}  # answered tokens that are compared
MAX_ANSWER: Final = 64  # tokens
SLOTS: Final = 4  # answers that grow together: a step of four costs less than two steps of one
# A picture's embeddings are computed once for all its questions. In a model of a billion weights with the large tower
# that is the longest part of a certificate: half of the reference's work at three questions a picture.
QUESTIONS_PER_IMAGE: Final[dict[Level, int]] = {"quick": 6, "full": 3}

COLOURS: Final = {
    "red": (214, 32, 36), "orange": (245, 134, 24), "yellow": (248, 218, 40), "green": (40, 156, 62),
    "blue": (36, 84, 206), "purple": (130, 48, 166), "pink": (246, 130, 180), "brown": (124, 76, 36),
    "black": (18, 18, 20), "white": (250, 250, 250), "grey": (128, 130, 132),
}  # fmt: skip
SHAPES: Final = ("circle", "square", "triangle", "rectangle", "star", "hexagon")

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

# Width and height, px: some are one tile at 384 or 512 px, most are several.
_SIZES: Final = ((320, 320), (480, 360), (360, 480), (640, 480), (900, 420), (512, 512), (240, 400), (768, 768))
_FINER = 3  # a shape is drawn this many times larger


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


def scene(random: np.random.Generator) -> U8:
    """Draw one to five shapes, well apart, on a plain, gradient or noisy background. Returns (H, W, 3) RGB."""
    width, height = _SIZES[random.integers(len(_SIZES))]
    names = [str(name) for name in random.choice(list(COLOURS), 6, replace=False)]
    image = Image.fromarray(_background(random, width, height, COLOURS[names[0]]))
    taken: list[tuple[float, float, float]] = []
    for name in names[1 : 1 + int(random.integers(1, 6))]:
        place = _free_place(random, width, height, taken)
        if place is not None:
            taken.append(place)
            draw = _DRAW[SHAPES[random.integers(len(SHAPES))]]
            outline = draw(place[2], float(random.uniform(0, 2 * math.pi))) + np.array(place[:2])
            _fill(image, outline, COLOURS[name])
    return np.asarray(image)


def _fill(image: Image.Image, outline: Outline, colour: tuple[int, int, int]) -> None:
    """Fill an outline, its edges smooth as in a photograph."""
    mask = Image.new("L", (image.width * _FINER, image.height * _FINER))
    ImageDraw.Draw(mask).polygon([(x, y) for x, y in (outline * _FINER).tolist()], fill=255)
    image.paste(colour, mask=mask.resize(image.size, Image.Resampling.BOX))


def _background(random: np.random.Generator, width: int, height: int, colour: tuple[int, int, int]) -> U8:
    kind = random.integers(3)
    ground = np.broadcast_to(np.array(colour, np.float64), (height, width, 3))
    if kind == 1:
        other = random.uniform(0, 255, 3)
        share = np.linspace(0, 1, width)[None, :, None]
        ground = ground * (1 - share) + other * share
    if kind == 2:
        ground = ground + random.normal(0, 18, (height, width, 3))
    return np.clip(np.rint(ground), 0, 255).astype(np.uint8)


def _free_place(
    random: np.random.Generator, width: int, height: int, taken: list[tuple[float, float, float]]
) -> tuple[float, float, float] | None:
    """Centre x, y and radius of a disc that touches none of those taken; None when 40 tries found none."""
    for _ in range(40):
        radius = float(random.uniform(0.07, 0.2)) * min(width, height)
        x = float(random.uniform(radius, width - radius))
        y = float(random.uniform(radius, height - radius))
        if all(math.hypot(x - other[0], y - other[1]) > 1.1 * (radius + other[2]) for other in taken):
            return x, y, radius
    return None


def _polygon(n_corners: int, *, dent: float = 1.0) -> Callable[[float, float], Outline]:
    """An outline with `n_corners` on a circle; every second of them pulled in by `dent`."""

    def outline(radius: float, turn: float) -> Outline:
        angles = turn + np.arange(n_corners) * (2 * math.pi / n_corners)
        radii = radius * np.where(np.arange(n_corners) % 2, dent, 1.0)
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)

    return outline


def _rectangle(radius: float, turn: float) -> Outline:
    angles = turn + np.array([1, -1, 1, -1]) * 0.46 + np.array([0, 0, math.pi, math.pi])  # about 2 to 1
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


_DRAW: Final[dict[str, Callable[[float, float], Outline]]] = {
    "circle": _polygon(72),
    "square": _polygon(4),
    "triangle": _polygon(3),
    "rectangle": _rectangle,
    "star": _polygon(10, dent=0.42),
    "hexagon": _polygon(6),
}
