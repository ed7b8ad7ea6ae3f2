"""Conversations about scenes, and a little plain talk: what reka-edge-tiny learns to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scripts.tiny.lessons.phrases import NAMED, NAMES, NAMING, NO_IMAGE, PLAIN, STRANGE, SYSTEMS, UNKNOWN
from scripts.tiny.lessons.questions import (
    ABOUT_VIDEO,
    COLOUR_OF,
    HOW_MANY,
    HOW_MANY_IMAGES,
    HOW_MANY_OF,
    IN_ONE,
    IN_SEVERAL,
    IS_THERE,
    LISTING,
    MOST,
    NOUNS,
    SHAPE_OF,
    WHERE,
)
from scripts.tiny.lessons.sizes import KINDS
from scripts.tiny.pictures.colours import COLOURS, Rng
from scripts.tiny.pictures.figures import SHAPES
from scripts.tiny.pictures.scenes import Thing

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

ORDINALS = ("first", "second", "third")


@dataclass(frozen=True)
class Part:
    """A part of an answer and where to look while saying it.

    aim: numbers of the shapes it is about, or None where no image matters; later: of those that the answer will come
    to after it; after: the kind of shape (colour times shapes plus shape) that a listing named last, KINDS at its
    start; image: which of the message's images they are in; counts: whether the answer is how many they are; echo:
    whether the human said it before, word for word.
    """

    text: str
    aim: tuple[int, ...] | None = None
    later: tuple[int, ...] | None = None
    after: int | None = None
    image: int = 0
    counts: bool = False
    echo: bool = False


@dataclass(frozen=True)
class Exchange:
    """One turn of each side; pictures: which of the conversation's pictures come with the question, and on which side;
    video: they are the frames of one.
    """

    question: str
    parts: tuple[Part, ...]
    images: tuple[int, ...] = ()
    text_first: bool = False
    video: bool = False

    @property
    def answer(self) -> str:
        return "".join(part.text for part in self.parts)


@dataclass(frozen=True)
class Conversation:
    exchanges: tuple[Exchange, ...]
    system: str = ""


def pick(options: Sequence[str], rng: Rng) -> str:
    return options[int(rng.integers(len(options)))]


def article(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def asked(question: str, answer: str, aim: Sequence[int] | None = None, *, counts: bool = False) -> Exchange:
    """An exchange whose whole answer is about the shapes of these numbers."""
    return Exchange(question, (Part(answer, None if aim is None else tuple(aim), counts=counts),))


def matching(things: Sequence[Thing], colour: str = "", shape: str = "") -> list[int]:
    """The numbers of the shapes of this colour and kind, each of which may be left open."""
    return [i for i, t in enumerate(things) if colour in ("", t.colour) and shape in ("", t.shape)]


def listing(things: Sequence[Thing], image: int = 0) -> tuple[Part, ...]:
    """`a red circle and two blue squares`, by colour and then by shape, as the tables at the top of paints.py and
    figures.py go.
    """
    kinds: dict[tuple[int, int], list[int]] = {}
    for i, thing in enumerate(things):
        kinds.setdefault((COLOURS.index(thing.colour), SHAPES.index(thing.shape)), []).append(i)
    if not kinds:
        return (Part(UNKNOWN, (), (), KINDS, image),)
    order, parts, after = sorted(kinds), list[Part](), KINDS
    for i, (colour, shape) in enumerate(order):
        name = f"{COLOURS[colour]} {SHAPES[shape]}"
        link = "" if i == 0 else " and " if i == len(order) - 1 else ", "
        count = len(kinds[colour, shape])
        words = article(name) if count == 1 else f"{NUMBERS[count]} {name}s"
        later = [number for kind in order[i + 1 :] for number in kinds[kind]]
        parts.append(Part(link + words, tuple(kinds[colour, shape]), tuple(later), after, image))
        after = colour * len(SHAPES) + shape
    return (*parts, Part("", (), (), after, image))


def place(thing: Thing) -> str:
    row = "top" if thing.y < 1 / 3 else "bottom" if thing.y > 2 / 3 else ""
    column = "left" if thing.x < 1 / 3 else "right" if thing.x > 2 / 3 else ""
    if not row and not column:
        return "in the centre"
    if not row:
        return f"on the {column}"
    return f"at the {row} {column}".rstrip() if column else f"at the {row}"


def how_many(things: Sequence[Thing], rng: Rng) -> Exchange:
    kind = rng.random()
    if kind < 0.4 or not things:
        return asked(pick(HOW_MANY, rng), NUMBERS[len(things)] if things else UNKNOWN, range(len(things)), counts=True)
    one = things[int(rng.integers(len(things)))]
    colour = one.colour if rng.random() < 0.8 else pick(COLOURS, rng)
    shape = one.shape if rng.random() < 0.8 else pick(SHAPES, rng)
    if kind < 0.6:
        found, name = matching(things, shape=shape), f"{shape}s"
    elif kind < 0.8:
        found, name = matching(things, colour), f"{colour} shapes"
    else:
        found, name = matching(things, colour, shape), f"{colour} {shape}s"
    return asked(pick(HOW_MANY_OF, rng).format(name), NUMBERS[len(found)], found, counts=True)


def is_there(things: Sequence[Thing], rng: Rng) -> Exchange:
    colour, shape = pick(COLOURS, rng), pick(SHAPES, rng)
    if things and rng.random() < 0.6:
        one = things[int(rng.integers(len(things)))]
        colour, shape = one.colour, one.shape if rng.random() < 0.8 else shape
    kind = rng.random()
    if kind < 0.6:
        name, found = f"{colour} {shape}", matching(things, colour, shape)
    elif kind < 0.8:
        name, found = shape, matching(things, shape=shape)
    else:
        name, found = f"{colour} shape", matching(things, colour)
    return asked(pick(IS_THERE, rng).format(article(name)), "yes" if found else "no", found)


def where(things: Sequence[Thing], rng: Rng) -> Exchange:
    once = [i for i, t in enumerate(things) if len(matching(things, t.colour, t.shape)) == 1]
    if not once or rng.random() < 0.12:
        colour, shape = pick(COLOURS, rng), pick(SHAPES, rng)
        if matching(things, colour, shape):
            return is_there(things, rng)
        return asked(pick(WHERE, rng).format(f"{colour} {shape}"), f"there is no {colour} {shape}", ())
    chosen = once[int(rng.integers(len(once)))]
    one = things[chosen]
    alone = len(matching(things, shape=one.shape)) == 1
    name = one.shape if alone and rng.random() < 0.5 else f"{one.colour} {one.shape}"
    return asked(pick(WHERE, rng).format(name), place(one), (chosen,))


def attribute(things: Sequence[Thing], rng: Rng) -> Exchange:
    by_shape = [i for i, t in enumerate(things) if len(matching(things, shape=t.shape)) == 1]
    by_colour = [i for i, t in enumerate(things) if len(matching(things, t.colour)) == 1]
    if by_shape and (rng.random() < 0.5 or not by_colour):
        chosen = by_shape[int(rng.integers(len(by_shape)))]
        return asked(pick(COLOUR_OF, rng).format(things[chosen].shape), things[chosen].colour, (chosen,))
    if by_colour:
        chosen = by_colour[int(rng.integers(len(by_colour)))]
        return asked(pick(SHAPE_OF, rng).format(things[chosen].colour), article(things[chosen].shape), (chosen,))
    return how_many(things, rng)


def superlative(things: Sequence[Thing], rng: Rng) -> Exchange:
    """Asked only where one shape is clearly the largest or the smallest."""
    sizes = sorted((max(t.width, t.height), i) for i, t in enumerate(things))
    largest = bool(rng.random() < 0.6)
    if len(sizes) < 2 or (sizes[-1][0] < 1.25 * sizes[-2][0] if largest else sizes[1][0] < 1.25 * sizes[0][0]):
        return attribute(things, rng)
    chosen = sizes[-1 if largest else 0][1]
    one, word = things[chosen], pick(("largest", "biggest"), rng) if largest else "smallest"
    if rng.random() < 0.5:
        return asked(pick(COLOUR_OF, rng).format(f"{word} shape"), one.colour, (chosen,))
    return asked(pick(MOST, rng).format(word), article(f"{one.colour} {one.shape}"), (chosen,))


def about(things: Sequence[Thing], rng: Rng) -> Exchange:
    return (how_many, how_many, is_there, where, where, attribute, superlative)[int(rng.integers(7))](things, rng)


def variant(question: str, rng: Rng) -> str:
    """People leave out capitals, question marks and manners, or add some."""
    share = rng.random()
    if share < 0.1:
        return question.lower()
    if share < 0.17:
        return question.rstrip("?.!")
    if share < 0.22:
        return question + " Please answer briefly."
    if share < 0.25:
        return "Please tell me: " + question[0].lower() + question[1:]
    return question


def about_one_image(things: Sequence[Thing], rng: Rng, *, most: int = 3) -> Conversation:
    """What is in a picture and up to so many other questions about it, more often than not in this order."""
    count = int(rng.integers(0, most + 1))
    exchanges = [beside(rng) if rng.random() < 0.07 else about(things, rng) for _ in range(count)]
    at = 0 if rng.random() < 0.3 else int(rng.integers(len(exchanges) + 1))
    question = pick(LISTING, rng) if rng.random() > 0.25 else LISTING[0]
    if rng.random() < 0.04:
        question = of_several(IN_SEVERAL, 2, rng)  # asked as if there were another one
    exchanges.insert(at, Exchange(question, listing(things)))
    exchanges[0] = replace(exchanges[0], images=(0,), text_first=bool(rng.random() < 0.25))
    return Conversation(varied(exchanges, rng), pick(SYSTEMS, rng) if rng.random() < 0.08 else "")


def beside(rng: Rng) -> Exchange:
    """Plain talk although a picture is there."""
    questions, answer = PLAIN[int(rng.integers(len(PLAIN)))]
    return asked(pick(questions, rng), answer)


def varied(exchanges: Sequence[Exchange], rng: Rng) -> tuple[Exchange, ...]:
    return tuple(replace(e, question=variant(e.question, rng)) for e in exchanges)


def about_several_images(scenes: Sequence[Sequence[Thing]], rng: Rng) -> Conversation:
    """Two or three pictures, more often than not in one message, and one or two questions about them."""
    if rng.random() < 0.85:
        first = replace(
            about_several(scenes, rng), images=tuple(range(len(scenes))), text_first=bool(rng.random() < 0.25)
        )
        exchanges = [first, *(about_several(scenes, rng) for _ in range(int(rng.random() < 0.35)))]
    else:
        exchanges = [Exchange(pick(LISTING, rng), listing(some, i), (i,)) for i, some in enumerate(scenes)]
        exchanges.append(about_several(scenes, rng))
    return Conversation(varied(exchanges, rng), pick(SYSTEMS, rng) if rng.random() < 0.05 else "")


def about_several(scenes: Sequence[Sequence[Thing]], rng: Rng) -> Exchange:
    """A question about several pictures; in a conversation they came before it or come with it.

    Whatever is asked of them all, what is in both or how they differ, the answer says what is in each.
    """
    kind = rng.random()
    if kind < 0.62:
        question = pick(LISTING, rng) if rng.random() < 0.25 else of_several(IN_SEVERAL, len(scenes), rng)
        return Exchange(question, each_listed(scenes))
    if kind < 0.84:
        i = int(rng.integers(len(scenes)))
        return Exchange(of_several(IN_ONE, len(scenes), rng, i), listing(scenes[i], i))
    if kind < 0.94:
        return about_one_of(scenes, rng)
    return Exchange(of_several(HOW_MANY_IMAGES, len(scenes), rng), (Part(NUMBERS[len(scenes)]),))


def of_several(questions: Sequence[str], count: int, rng: Rng, i: int = 0) -> str:
    """One of the questions about so many pictures, `i` being the number of the one that it may be about."""
    several = pick(NOUNS, rng)
    words = {
        "n": several,
        "1": several.removesuffix("s"),
        "all": "both" if count == 2 else pick(("all", "all three", "all the"), rng),
        "two": NUMBERS[count],
        "o": "last" if i == count - 1 and rng.random() < 0.15 else ORDINALS[i],
        "kind": article(f"{pick(COLOURS, rng)} {pick(SHAPES, rng)}"),
        "number": str(i + 1) if rng.random() < 0.7 else NUMBERS[i + 1],
    }
    question = pick(questions, rng)
    for name, word in words.items():
        question = question.replace(f"{{{name}}}", word)
    return question


def each_listed(scenes: Sequence[Sequence[Thing]]) -> tuple[Part, ...]:
    """`first picture: a red circle; second picture: two blue squares`."""
    return tuple(
        part
        for i, things in enumerate(scenes)
        for part in (Part(f"{'; ' if i else ''}{ORDINALS[i]} picture: "), *listing(things, i))
    )


def about_one_of(scenes: Sequence[Sequence[Thing]], rng: Rng) -> Exchange:
    """A question as it is asked about a single picture, about one of several."""
    i = int(rng.integers(len(scenes)))
    one = f"the {ORDINALS[i]} {pick(NOUNS, rng).removesuffix('s')}"
    exchange = about(scenes[i], rng)
    question = exchange.question.replace("the picture", one)
    if one not in question:
        question = f"{question[:-1]} in {one}{question[-1]}"
    return Exchange(question, tuple(replace(part, image=i) for part in exchange.parts))


def video(things: Sequence[Thing], frames: int, rng: Rng) -> Conversation:
    """So many frames of a video in which these shapes, all of different kinds, are now here and now there."""
    question = pick(ABOUT_VIDEO if rng.random() < 0.5 else LISTING, rng)
    told = Exchange(question, listing(things, frames - 1), tuple(range(frames)), bool(rng.random() < 0.25), video=True)
    return Conversation(varied([told], rng))


def all_different(things: Sequence[Thing]) -> bool:
    return len({(thing.colour, thing.shape) for thing in things}) == len(things)


def plain_talk(rng: Rng) -> Conversation:
    if rng.random() < 0.5:
        exchanges = acquainted(rng)
    else:
        exchanges = varied([plain_exchange(rng) for _ in range(int(rng.integers(1, 4)))], rng)
    return Conversation(exchanges, pick(SYSTEMS, rng) if rng.random() < 0.15 else "")


def acquainted(rng: Rng) -> tuple[Exchange, ...]:
    """Someone says a name and asks for it later."""
    name = pick(NAMES, rng) if rng.random() < 0.4 else invented(rng)
    told = Exchange(pick(NAMING, rng).format(name), named("Nice to meet you,", name))
    between = [plain_exchange(rng) for _ in range(int(rng.random() < 0.4))]
    asking = Exchange(pick(NAMED, rng), named("Your name is", name))
    return (told, *varied([*between, asking], rng))


def named(words: str, name: str) -> tuple[Part, ...]:
    return Part(words), Part(f" {name}", echo=True), Part(".")


def invented(rng: Rng) -> str:
    return "".join(
        pick("bdfgklmnprstvz", rng) + pick("aeiou", rng) for _ in range(int(rng.integers(2, 4)))
    ).capitalize()


def plain_exchange(rng: Rng) -> Exchange:
    share = rng.random()
    if share < 0.72:
        questions, answer = PLAIN[int(rng.integers(len(PLAIN)))]
        return asked(pick(questions, rng), answer)
    if share < 0.86:
        return asked(pick(STRANGE, rng), UNKNOWN)
    question = of_several(IN_SEVERAL + IN_ONE, 2, rng) if rng.random() < 0.3 else pick(LISTING + HOW_MANY, rng)
    return asked(question, NO_IMAGE)


def corpus(count: int, seed: int) -> list[str]:
    """Texts to train the tokenizer on: turns as they are written in a prompt."""
    rng = np.random.default_rng([seed, 1])
    texts: list[str] = []
    for _ in range(count):
        things = tuple(
            Thing(pick(COLOURS, rng), pick(SHAPES, rng), rng.random(), rng.random(), 0.1, 0.1)
            for _ in range(int(rng.integers(0, 7)))
        )
        talks = (about_one_image(things, rng), plain_talk(rng), about_several_images([things, things[:2]], rng))
        for talk in talks:
            texts += [f"system: {talk.system}\n\n"] if talk.system else []
            texts += [
                text
                for e in talk.exchanges
                for text in (f"human: {e.question}", e.question, f"assistant: {e.answer}\n\n")
            ]
    return texts
