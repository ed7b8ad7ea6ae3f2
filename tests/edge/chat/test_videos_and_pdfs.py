"""The embedded model says of a video and of a PDF at least what it says of the same pictures."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

import edge
from tests.edge.media.pdfs import made_pdf, scan
from tests.edge.media.videos import made_video

U8 = npt.NDArray[np.uint8]

ROOT = Path(__file__).parents[3]
COLOURS = {"red": (220, 40, 40), "blue": (40, 80, 220), "green": (40, 160, 60), "black": (15, 15, 15)}
SHAPES = ("circle", "square", "triangle")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge.Reka]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_MODELS", str(tmp_path_factory.mktemp("models")))
        with edge.Reka(model=ROOT / "models" / "reka-edge-tiny") as client:
            yield client


def shown(shape: str, colour: str, x: int = 224) -> U8:
    """A shape on white, its middle at x: (448, 448, 3)."""
    image = Image.new("RGB", (448, 448), "white")
    pen, r = ImageDraw.Draw(image), 70
    box = (x - r, 224 - r, x + r, 224 + r)
    if shape == "circle":
        pen.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        pen.rectangle(box, fill=COLOURS[colour])
    else:
        pen.polygon([(x, 224 - r), (x - r, 224 + r), (x + r, 224 + r)], fill=COLOURS[colour])
    return np.asarray(image)


def said(client: edge.Reka, part: dict[str, object]) -> str:
    content = [part, {"type": "text", "text": "What colours and shapes are present?"}]
    messages = [{"role": "user", "content": content}]
    answer = client.chat.create(messages=messages, model="reka-edge-tiny", temperature=0, max_tokens=80)
    return str(answer.responses[0].message.content)


def saved(data: bytes, path: Path) -> str:
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_video_of_a_moving_shape_and_a_page_with_it(
    client: edge.Reka, shape: str, colour: str, tmp_path: Path
) -> None:
    image = shown(shape, colour)
    of_image = said(client, {"type": "image", "image": image})
    moving = made_video(kind="mp4", size=(448, 448), frames=[shown(shape, colour, 100 + 30 * i) for i in range(9)])
    of_video = said(client, {"type": "video_url", "video_url": saved(moving, tmp_path / "a.mp4")})
    of_page = said(client, {"type": "pdf_url", "pdf_url": saved(scan(image), tmp_path / "a.pdf")})
    assert of_image == of_video == of_page == f"a {colour} {shape}"


def test_the_text_of_a_page_reaches_the_model(client: edge.Reka, tmp_path: Path) -> None:
    path = saved(made_pdf([(50, 50, "hello there")]), tmp_path / "a.pdf")
    messages = [{"role": "user", "content": [{"type": "pdf_url", "pdf_url": path}]}]
    usage = client.chat.create(messages=messages, model="reka-edge-tiny", max_tokens=1).usage.dict()
    assert usage["pdf_text_tokens"] > 0 and usage["pdf_text_cut"] == 0
