"""What one request may hold, at each limit and one beside it: in process, through the transport and over TCP."""

import base64
import contextlib
import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import edge
from edge import models
from edge.bundle import store
from edge.bundle.manifest import AudioSpec, Manifest
from edge.bundle.store import Stored
from edge.chat.attachments import Access
from edge.limits import AudioLimits, Limits
from edge.media.remote import Remote
from edge.models import Models
from edge.server.access import Guard
from edge.server.app import App, served_chat
from edge.server.asgi import Server
from edge.server.queue import Queue
from edge.server.route import detail_of
from tests.conformance.conftest import Served
from tests.edge.fake_engine import FakeEngine, manifest
from tests.edge.media.network import Network, answer
from tests.edge.media.pdfs import made_pdf
from tests.edge.media.tones import file
from tests.edge.media.videos import gif

Fields = Mapping[str, object]
Part = dict[str, object]
ParsedAnswer = tuple[int, str]  # the status and the error, as JSON has it

HOST = "media.example.com"
LIMITS = Limits()


def spec() -> Manifest:
    """A bundle that takes every kind of media."""
    made = manifest("a-model", "reka-edge")
    control = {**made.prompt.control, "<audio>": 40, "</audio>": 41}
    return dataclasses.replace(
        made, audio=AudioSpec(80, 3000, 4), prompt=dataclasses.replace(made.prompt, control=control)
    )


class AudioAccess(FakeEngine):
    """Answers whatever it is asked, sounds too."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        threads: int | None = None,
        context: int | None = None,
        slots: int = 1,
        kv: str | None = None,
        providers: object = None,
    ) -> "AudioAccess":
        return cls(spec())


class Client:
    """The client in process."""

    def __init__(self) -> None:
        self._client = edge.Reka()

    def ask(self, fields: Fields, limits: Limits) -> ParsedAnswer:
        self._client._door.limits = limits
        more = {"additional_body_parameters": {name: value for name, value in fields.items() if name != "messages"}}
        try:
            self._client.chat.create(messages=fields["messages"], model="reka-edge", request_options=more)  # type: ignore[arg-type]
        except edge.ApiError as error:
            return int(error.status_code or 0), json.dumps(detail_of(error))
        return 200, ""

    @property
    def access(self) -> Access:
        return self._client._door.access

    @access.setter
    def access(self, access: Access) -> None:
        self._client._door.access = access


class Http:
    """A client of an app, wherever that is."""

    def __init__(self, app: App, client: httpx.Client) -> None:
        self._app = app
        self._client = client

    def ask(self, fields: Fields, limits: Limits, *, path: str = "/v1/chat") -> ParsedAnswer:
        self._app.chat.limits = limits
        response = self._client.post(path, json={"model": "reka-edge", **fields})
        return response.status_code, "" if response.status_code == 200 else response.text

    @property
    def access(self) -> Access:
        return self._app.chat.access

    @access.setter
    def access(self, access: Access) -> None:
        self._app.chat.access = access


Way = Client | Http


@pytest.fixture(scope="module", autouse=True)
def bundle() -> Iterator[None]:
    """One bundle whose engine has no model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "bundles", lambda *_: [Stored(Path("/models/a-model"), spec(), True)])
        patch.setattr(models, "Engine", AudioAccess)
        yield


@pytest.fixture(scope="module")
def transport() -> Iterator[Http]:
    transport = edge.Transport()
    with httpx.Client(transport=transport, base_url="http://edge", timeout=60) as client:
        yield Http(transport._app, client)


@pytest.fixture(scope="module")
def tcp() -> Iterator[Http]:
    app = App(served_chat(Models(model=None, aliases={}, threads=None, context=None)))
    served = Served(Server(app, Guard(key=None), Queue(2)))
    with httpx.Client(base_url=served.address, timeout=60) as client:
        yield Http(app, client)
    served.stop()
    served.thread.join(30)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client._client.close()


@pytest.fixture(params=["client", "transport", "tcp"])
def way(request: pytest.FixtureRequest) -> Way:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Client | Http)
    return found


def part(kind: str, data: bytes) -> Part:
    return {"type": f"{kind}_url", f"{kind}_url": f"data:;base64,{base64.b64encode(data).decode()}"}


def user(*parts: Part) -> Part:
    return {"role": "user", "content": list(parts)}


def spoken(*messages: Part) -> Fields:
    return {"messages": list(messages)}


TEXT: Part = {"type": "text", "text": "How many?"}
HELLO = spoken(user(TEXT))


def png(width: int) -> Part:
    data = io.BytesIO()
    Image.new("RGB", (width, 1)).save(data, "PNG")
    return part("image", data.getvalue())


def audio(n_frames: int, n_channels: int = 1) -> Part:
    return part("audio", file(np.zeros((n_frames, n_channels), np.float32), rate_hz=1000))


IMAGE, VIDEO, AUDIO, PAGE = png(2), part("video", gif(1)), audio(10), part("pdf", made_pdf([]))


def spread(item: Part, n: int, per_message: int) -> Fields:
    """n of a kind, as many to a message as it takes."""
    return spoken(*(user(*[item] * min(per_message, n - start)) for start in range(0, n, per_message)))


def pages(*counts: int) -> Fields:
    """Messages that have a PDF of so many pages each."""
    return spoken(*(user(part("pdf", made_pdf(*[[]] * n))) for n in counts if n))


@dataclasses.dataclass(frozen=True)
class Row:
    """A limit: a request that holds n of its kind, the most of them, and the error that one more is."""

    most: int
    fields: Callable[[int], Fields]
    words: str
    status: int = 422
    limits: Limits = LIMITS


ROWS = {
    "messages": Row(256, lambda n: spoken(*[user(TEXT)] * n), "expected 1 to 256 messages, got 257"),
    "parts": Row(512, lambda n: spoken(user(*[TEXT] * n)), "expected at most 512 parts in all, got 513"),
    "images here": Row(6, lambda n: spread(IMAGE, n, n), "expected at most 6 images in a message, got 7"),
    "images": Row(32, lambda n: spread(IMAGE, n, 6), "expected at most 32 images in all messages, got 33"),
    "videos here": Row(3, lambda n: spread(VIDEO, n, n), "expected at most 3 videos in a message, got 4"),
    "videos": Row(6, lambda n: spread(VIDEO, n, 3), "expected at most 6 videos in all messages, got 7"),
    "sounds here": Row(2, lambda n: spread(AUDIO, n, n), "expected at most 2 audio parts in a message, got 3"),
    "audios": Row(6, lambda n: spread(AUDIO, n, 2), "expected at most 6 audio parts in all messages, got 7"),
    "PDFs here": Row(20, lambda n: spread(PAGE, n, n), "expected at most 20 PDFs in a message, got 21"),
    "PDFs": Row(40, lambda n: spread(PAGE, n, 20), "expected at most 40 PDFs in all messages, got 41"),
    "pages here": Row(20, pages, "content.0.pdf_url: pdf: expected 1 to 20 pages, got 21", 400),
    "pages": Row(
        40,
        lambda n: pages(20, 19, n - 39),
        "messages.2.content.0.pdf_url: pdf: expected 1 to 1 pages, got 2",
        400,
    ),
    "pages, none left": Row(
        40,
        lambda n: pages(20, min(20, n - 20), n - 40 if n > 40 else 0),
        "messages.2.content.0.pdf_url: pdf: expected at most 40 pages in all messages, got 41 or more",
        400,
    ),
    "pixels": Row(
        1000,
        lambda n: spoken(user(png(n))),
        "content.0.image_url: image: expected at most 1000 pixels, got 1001 x 1 = 1001",
        400,
        Limits(image_px=1000),
    ),
    "seconds of a video": Row(
        3,
        lambda n: spoken(user(part("video", gif(n, delay_ms=1000)))),
        "content.0.video_url: video: expected at most 3 s, got 4 s",
        400,
        Limits(video_s=3),
    ),
    "frames decoded": Row(
        3,
        lambda n: spoken(user(part("video", gif(n)))),
        "content.0.video_url: video: expected at most 3 frames, got 4 or more",
        400,
        Limits(video_decoded_frames=3),
    ),
    "frames sampled": Row(
        32,
        lambda n: {**spoken(user(VIDEO)), "video_frames": n},
        "expected an integer in [1, 32], got 33",
    ),
    "seconds of a sound": Row(
        1000,
        lambda n: spoken(user(audio(n))),
        "content.0.audio_url: audio: expected at most 1 s, got 1.001 s or more",
        400,
        Limits(audio=AudioLimits(seconds=1)),
    ),
    "bytes of PCM": Row(
        100,
        lambda n: spoken(user(audio(n))),
        "content.0.audio_url: audio: expected at most 200 bytes of PCM, got 202 or more",
        400,
        Limits(audio=AudioLimits(pcm_bytes=200)),
    ),
    "channels": Row(
        8,
        lambda n: spoken(user(audio(10, n))),
        "content.0.audio_url: audio: expected 1 to 8 channels, got 9",
        400,
    ),
    "top_logprobs": Row(
        20,
        lambda n: {**HELLO, "logprobs": True, "top_logprobs": n},
        "expected an integer in [0, 20], got 21",
    ),
    "stop": Row(16, lambda n: {**HELLO, "stop": ["a"] * n}, "expected at most 16 strings, got 17"),
    "bytes of stop": Row(256, lambda n: {**HELLO, "stop": ["a" * n]}, "' of 257 bytes"),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_most_is_taken_and_one_more_is_refused_with_both_numbers(name: str, way: Way) -> None:
    row = ROWS[name]
    for n in (row.most - 1, row.most):
        assert way.ask(row.fields(n), row.limits) == (200, "")
    status, said = way.ask(row.fields(row.most + 1), row.limits)
    assert status == row.status and row.words in said
    assert way.ask(HELLO, row.limits) == (200, "")


def test_the_least_of_what_has_one(way: Way) -> None:
    least: Sequence[tuple[Fields, str]] = [
        (spoken(), "expected 1 to 256 messages, got 0"),
        ({**spoken(user(VIDEO)), "video_frames": 0}, "expected an integer in [1, 32], got 0"),
        ({**HELLO, "stop": [""]}, "expected a string of 1 to 256 bytes, got '' of 0 bytes"),
    ]
    for fields, words in least:
        status, said = way.ask(fields, LIMITS)
        assert status == 422 and words in said
    assert way.ask({**spoken(user(VIDEO)), "video_frames": 1}, LIMITS) == (200, "")


DECODED = {"image": (IMAGE, 6), "video": (VIDEO, 73 * 109 * 3), "audio": (audio(1000), 64_000)}


@pytest.mark.parametrize("kind", DECODED)
def test_decoded_bytes_are_counted_over_the_whole_request(kind: str, way: Way) -> None:
    item, n_bytes = DECODED[kind]
    fields = spoken(user(item), user(item))
    for room in (2 * n_bytes + 1, 2 * n_bytes):
        assert way.ask(fields, Limits(decoded_bytes=room)) == (200, "")
    status, said = way.ask(fields, Limits(decoded_bytes=2 * n_bytes - 1))
    assert status == 400 and f"messages.1.content.0.{kind}_url: " in said and f"{2 * n_bytes - 1} bytes" in said


def test_decoded_bytes_of_pdfs_are_counted(way: Way) -> None:
    _, said = way.ask(spoken(user(PAGE)), Limits(decoded_bytes=49_152))
    n_bytes = int(said.rpartition("got ")[2].rstrip('"}'))
    assert "expected at most 49152 bytes decoded in one request" in said
    assert way.ask(spoken(user(PAGE)), Limits(decoded_bytes=n_bytes)) == (200, "")
    assert way.ask(spoken(user(PAGE)), Limits(decoded_bytes=n_bytes - 1))[0] == 400


@pytest.mark.parametrize(("n", "status"), [(0, 400), (1, 200), (2, 400)])
def test_one_answer_is_given(n: int, status: int, transport: Http, tcp: Http) -> None:
    for way in (transport, tcp):
        found, said = way.ask({**HELLO, "n": n}, LIMITS, path="/v1/chat/completions")
        assert found == status and (found == 200 or f"n: expected 1, got {n}" in said)


def test_remote_media_are_off_and_limited_where_they_are_allowed(way: Way) -> None:
    image = base64.b64decode(str(IMAGE["image_url"]).partition(",")[2])
    fields = spoken(user({"type": "image_url", "image_url": f"https://{HOST}/a.png"}))
    status, said = way.ask(fields, LIMITS)
    assert status == 400 and "remote media is off here" in said
    network = Network({HOST: answer(image)})
    allowed = Remote((HOST,), resolve=network.resolve, connect=network.connect)
    for max_bytes in (len(image) + 1, len(image), len(image) - 1):
        with fetching(way, dataclasses.replace(allowed, max_bytes=max_bytes)):
            status, said = way.ask(fields, LIMITS)
        assert status == (200 if max_bytes >= len(image) else 400)
    assert f"expected at most {len(image) - 1} bytes, got {len(image)}" in said


@contextlib.contextmanager
def fetching(way: Way, remote: Remote) -> Iterator[None]:
    before = way.access
    way.access = dataclasses.replace(before, remote=remote)
    yield
    way.access = before
