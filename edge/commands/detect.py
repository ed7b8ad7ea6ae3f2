"""edge detect: where things are in an image, as JSON and drawn."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.asking import address
from edge.commands.choosing import chosen, why_not
from edge.commands.console import ModelName, ProvidersOption, api_failures, fail

if TYPE_CHECKING:
    from PIL import Image

    from edge.chat.boxes import Box

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def detect(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file or a data: URL.")],
    things: Annotated[list[str], typer.Argument(metavar="THING...", help="Names of what to find.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the image with the boxes drawn on it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, not one line per box.")] = False,
    model: ModelName = None,
    _providers: ProvidersOption = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Limit of the answer, in tokens.")] = None,
) -> None:
    """Find things in an image. Boxes are printed as JSON, in percent and in pixels."""
    from PIL import Image

    from edge.chat.boxes import drawn, parse_boxes
    from edge.client import Reka
    from edge.limits import Limits
    from edge.media.fetch import read_url
    from edge.media.image import open_image

    if out is not None and out.suffix.lower() not in _SUFFIXES:
        fail(f"--out {out}: expected a file name that ends with {', '.join(_SUFFIXES)}")
    stored = chosen(model, ["images", "boxes"])
    rgb = open_image(read_url(address(image), files=True), max_px=Limits.of_this_machine().image_px)
    question = f"Detect: {', '.join(thing.strip() for thing in things)}"
    content = [{"type": "image", "image": rgb}, {"type": "text", "text": question}]
    with api_failures(), Reka(model=model or stored.id) as client:
        reply = client.chat.create(
            messages=[{"role": "user", "content": content}],
            model=stored.id,
            temperature=0,
            max_tokens=max_tokens,
        )
    answer = str(reply.responses[0].message.content)
    boxes = parse_boxes(answer)
    shown = Image.fromarray(rgb)
    _print(answer, boxes, shown, as_json=as_json)
    if not boxes:
        lacks = why_not(stored, ["boxes"])
        print(f"edge: no box in the answer: {answer!r:.200}{lacks and f'; {lacks}'}", file=sys.stderr)
    if out is not None:
        _write(drawn(shown, boxes), out)


def _print(answer: str, boxes: list["Box"], image: "Image.Image", *, as_json: bool) -> None:
    found = [
        {
            "label": box.label,
            "percent": [box.x1, box.y1, box.x2, box.y2],
            "pixels": list(box.pixels(image.width, image.height)),
        }
        for box in boxes
    ]
    if as_json:
        document = {"width": image.width, "height": image.height, "text": answer, "boxes": found}
        print(json.dumps(document, indent=1))
        return
    for box in found:
        print(json.dumps(box))


def _write(image: "Image.Image", out: Path) -> None:
    try:
        image.save(out)
    except (OSError, ValueError) as error:
        fail(f"--out {out}: {getattr(error, 'strerror', None) or error}")
