"""Boxes of things found in an image: read from an answer, however its tags came out, and drawn."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_TAG = re.compile(r"<(/?)\s*(ref|bbox|box)\s*/?>", re.IGNORECASE)
_NUMBER = r"[-+]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?: ?%)?"
_NUMBERS = re.compile(rf"[\s(\[]*{_NUMBER}(?:[\s,;()\[\]]+{_NUMBER})*[\s)\].,;]*")
_CUT_TAG = re.compile(r"<[^<>]{0,8}\Z")  # an answer may end in the midst of one
_MAX_CHARS = 1 << 20
_MAX_LABEL_CHARS = 200
_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#000075")


@dataclass(frozen=True)
class Box:
    """Where something is, in percent of an image's width (x) and height (y): 0 <= x1 < x2 <= 100, y alike."""

    label: str
    x1: float
    y1: float
    x2: float
    y2: float

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return (left, top, right, bottom) in an image of this size."""
        return (
            round(self.x1 * width / 100),
            round(self.y1 * height / 100),
            round(self.x2 * width / 100),
            round(self.y2 * height / 100),
        )


def parse_boxes(text: str) -> list[Box]:
    """Return the boxes an answer names, in its order: `<ref>cat</ref><bbox>10,20,30.5,40</bbox>`.

    Forgiving: tags may be mismatched or missing on one side, a label goes for all boxes until the next one, corners may
    be swapped, what is outside of the image is cut off. What is no box is passed over, and so is one without area.
    Source: model-family.md, 4.
    """
    text = _CUT_TAG.sub("", text[:_MAX_CHARS])
    boxes: list[Box] = []
    label, opened, start = "", "", 0
    tags = list(_TAG.finditer(text))
    for tag in (*tags, None):
        between = text[start : tag.start() if tag else len(text)]
        numbers = _numbers(between)
        if numbers and tags:
            boxes.extend(box for i in range(0, len(numbers), 4) for box in _box(label, numbers[i : i + 4]))
        elif between.strip() and (_is_label(opened, between) or _closes_label(tag)):
            label = between.strip().splitlines()[-1].strip()[:_MAX_LABEL_CHARS]
        if tag is not None:
            opened, start = "" if tag[1] else tag[2].lower(), tag.end()
    return boxes


def drawn(image: "Image.Image", boxes: Sequence[Box]) -> "Image.Image":
    """Return a copy of an RGB image with boxes and their labels on it, one colour a label."""
    from PIL import ImageDraw, ImageFont

    copy = image.copy()
    pen = ImageDraw.Draw(copy)
    unit = max(1, min(copy.size) // 200)
    font = ImageFont.load_default(size=max(10, 7 * unit))
    labels = list(dict.fromkeys(box.label for box in boxes))
    for box in boxes:
        colour = _COLOURS[labels.index(box.label) % len(_COLOURS)]
        left, top, right, bottom = box.pixels(copy.width - 1, copy.height - 1)
        pen.rectangle((left, top, right, bottom), outline=colour, width=2 * unit)
        if box.label:
            _, _, width, height = (round(side) + unit for side in pen.textbbox((0, 0), box.label, font=font))
            at = max(0, min(left, copy.width - 1 - width)), max(0, min(top, copy.height - 1 - height))
            pen.rectangle((*at, at[0] + width, at[1] + height), fill=colour)
            pen.text(at, box.label, fill="white", font=font)
    return copy


def _numbers(between: str) -> list[float]:
    """Return the numbers of one box or of several, none where there is anything else."""
    if _NUMBERS.fullmatch(between) is None:
        return []
    found = [float(number.rstrip(" %")) for number in re.findall(_NUMBER, between)]
    return found if len(found) % 4 == 0 else []


def _is_label(opened: str, between: str) -> bool:
    """Return whether what follows an opening tag is a label: in a box's place, too, if it is no odd box."""
    return opened == "ref" or (opened != "" and not any(c.isdigit() for c in between))


def _closes_label(tag: re.Match[str] | None) -> bool:
    return tag is not None and tag[1] == "/" and tag[2].lower() == "ref"


def _box(label: str, numbers: Sequence[float]) -> list[Box]:
    """Return a box of four percentages, none where it has no area inside of the image."""
    a, b, c, d = (min(max(number, 0.0), 100.0) for number in numbers)
    x1, x2, y1, y2 = min(a, c), max(a, c), min(b, d), max(b, d)
    return [Box(label, x1, y1, x2, y2)] if x1 < x2 and y1 < y2 else []
