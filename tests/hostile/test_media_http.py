"""Media over HTTP that crash, swell or hang their decoder: a 400 for that request, and the server goes on serving."""

import base64
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import edge
from edge.media.sandbox import Worker
from tests.edge.media.pdfs import made_pdf
from tests.edge.media.videos import made_video

# In place of Pillow, over there: what the data says is done.
DECODER = """
import edge.media.image

def decode(data, options):
    if data == b"crash":
        import ctypes
        ctypes.string_at(0)
    if data == b"hang":
        while True:
            pass
    if data == b"bomb":
        return bytearray(1 << 36)
    return real(data, options)

real = edge.media.image.decode
edge.media.image.decode = decode
"""


@pytest.fixture(scope="module")
def transport(int8_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge.Transport]:
    """The app in process, its decoder of pictures replaced, and with two seconds for each."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(DECODER, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        transport = edge.Transport(model=int8_bundle)
        seconds = {"image": 2.0, "video": 60.0}
        object.__setattr__(transport._app.chat.access, "worker", Worker(memory_bytes=256 << 20, seconds=seconds))
        yield transport
        transport.close()


def ask(transport: edge.Transport, *parts: dict[str, object]) -> httpx.Response:
    client = httpx.Client(transport=transport, base_url="http://edge")  # not closed: that closes the app
    content = [*parts, {"type": "text", "text": "What is there?"}]
    body = {"model": "reka-edge", "messages": [{"role": "user", "content": content}], "max_tokens": 3, "seed": 0}
    return client.post("/v1/chat", json=body)


def part(kind: str, data: bytes) -> dict[str, object]:
    return {"type": f"{kind}_url", f"{kind}_url": f"data:;base64,{base64.b64encode(data).decode()}"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"crash", "decoding it failed"),
        (b"hang", "exceeds 2 s"),
        (b"bomb", "too much memory"),
        (b"else", "expected JPEG"),
    ],
)
def test_one_request_fails_and_the_next_is_answered(transport: edge.Transport, data: bytes, words: str) -> None:
    for _ in range(2):
        answer = ask(transport, part("image", data))
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["detail"]
        assert answer.json()["detail"].startswith("messages.0.content.0.image_url: image: ")
    assert (
        ask(transport, part("image", (Path(__file__).parents[2] / "models/sample.png").read_bytes())).status_code == 200
    )


def test_text_is_answered_while_a_decoder_hangs(transport: edge.Transport) -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(ask(transport, part("image", b"hang")).status_code))
    thread.start()
    assert ask(transport).status_code == 200
    thread.join()
    assert found == [400]


def test_videos_and_pdfs_are_answered_and_their_text_is_reported(transport: edge.Transport) -> None:
    answer = ask(transport, part("video", made_video(8)), part("pdf", made_pdf([(50, 50, "some text")])))
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    assert usage["pdf_text_tokens"] > 0 and usage["pdf_text_cut"] == 0


def test_openais_clients_are_told_of_pdfs_text_too(transport: edge.Transport) -> None:
    client = httpx.Client(transport=transport, base_url="http://edge")
    data = base64.b64encode(made_pdf([(50, 50, "some text")])).decode()
    content = [{"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data}"}}]
    body = {"model": "reka-edge", "messages": [{"role": "user", "content": content}], "max_tokens": 3}
    usage = client.post("/v1/chat/completions", json=body).json()["usage"]
    assert usage["pdf_text_tokens"] > 0 and usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_number_of_frames_decides_the_tokens(transport: edge.Transport) -> None:
    client = httpx.Client(transport=transport, base_url="http://edge")
    tokens = []
    for frames in (1, 2, 4):
        messages = [{"role": "user", "content": [part("video", made_video(8))]}]
        body = {"model": "reka-edge", "messages": messages, "max_tokens": 1, "video_frames": frames}
        tokens.append(client.post("/v1/chat", json=body).json()["usage"]["input_tokens"])
    assert tokens[2] - tokens[1] == 2 * (tokens[1] - tokens[0]) > 0
