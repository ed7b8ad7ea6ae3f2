"""What a route is: its path, what answers there, and the form in which its clients read errors."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Literal, Protocol

from edge.chat import Chat, Opened
from edge.chat.attachments import Access
from edge.chat.reply import Reply
from edge.chat.request import Request
from edge.engine.handle import Handle, Progress
from edge.errors import RateLimitError
from edge.server.http import Headers, HttpRequest, HttpResponse, event, json_response
from edge.server.metrics import Metrics
from edge.server.multipart import Form
from edge.types import ApiError, HttpValidationError

Fields = Mapping[str, object]
Stopped = Callable[[], bool]  # whether nobody wants an answer any more
Queued = Literal["engine", "voices"]  # whose time an answer takes, for which there is a queue

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
RETRY_AFTER_S = 5


def detail_of(error: ApiError) -> object:
    """Return an error's detail: a text, for 422 a list of loc, msg and type."""
    body = error.body
    if isinstance(body, HttpValidationError):
        return [problem.dict() for problem in body.detail or ()]
    return body.get("detail") if isinstance(body, Mapping) else str(body)


def told(problems: Iterable[Mapping[str, object]]) -> str:
    """Return a detail that is a list as one text: each place once, and what is wrong there."""
    found = []
    for problem in problems:
        loc, msg = problem["loc"], str(problem["msg"])
        place = ".".join(map(str, loc[1:])) if isinstance(loc, list | tuple) else str(loc)
        found.append(msg if msg.startswith(f"{place}: ") else f"{place}: {msg}")
    return "; ".join(found)


def retry_after(error: ApiError) -> Headers:
    """Return the header that says when to come back, for the errors after which a client may: 429 and 503."""
    if error.status_code not in (429, 503):
        return ()
    cause = error.__cause__
    return (("retry-after", str(math.ceil(cause.retry_s) if isinstance(cause, RateLimitError) else RETRY_AFTER_S)),)


@dataclass(frozen=True)
class ErrorForm:
    """How the clients of one API read errors: as a response, and as the event that ends a stream.

    body: an error as what JSON is made of. schema: the JSON schema of it, for /openapi.json. statuses: those that the
    API has in place of ours. headers: those of an error's response. framed: a body as a stream sends it.
    Source: chat-interface.md, 3.
    """

    body: Callable[[ApiError], object]
    schema: Fields
    statuses: Mapping[int, int] = field(default_factory=dict)
    headers: Callable[[ApiError], Headers] = retry_after
    framed: Callable[[object], bytes] = event

    def status(self, error: ApiError) -> int:
        """Return the status of an error's response; 500 for an error without one."""
        status = error.status_code or 500
        return self.statuses.get(status, status)

    def response(self, error: ApiError, headers: Headers = ()) -> HttpResponse:
        """Return the response for an error. headers: further ones."""
        return json_response(self.body(error), status=self.status(error), headers=(*self.headers(error), *headers))

    def event(self, error: ApiError) -> bytes:
        """Return what a stream that has begun says last, when an error ends it."""
        return self.framed(self.body(error))


class Writer(Protocol):
    """How a route writes an answer: at once, or as the events of a stream."""

    @property
    def streams(self) -> bool:
        """Whether the answer is sent while it is made."""

    def whole(self, reply: Reply, last: Progress) -> object:
        """Return the response as what JSON is made of."""

    def events(self, reply: Reply, progress: Progress) -> bytes:
        """Return what is to be sent for some progress; for the last one, the stream's end too."""

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        """Return the last event of a stream that an error ends."""


class Answer(Protocol):
    """An answer on its way, and how it is written."""

    @property
    def handle(self) -> Handle:
        """What is made, and when it ends."""

    @property
    def streams(self) -> bool:
        """As Writer.streams."""

    @property
    def stream_type(self) -> str | None:
        """The media type of its stream, None for the route's."""

    def whole(self, last: Progress) -> HttpResponse:
        """Return the response."""

    def events(self, progress: Progress) -> bytes:
        """As Writer.events. Raises: ApiError, which ends the answer."""

    def broken(self, newest: Progress, error: ApiError) -> bytes:
        """As Writer.broken."""


@dataclass(frozen=True)
class ChatAnswer:
    """A chat's reply, and what writes it."""

    reply: Reply
    writer: Writer
    stream_type: str | None = None

    @property
    def handle(self) -> Handle:
        return self.reply.handle

    @property
    def streams(self) -> bool:
        return self.writer.streams

    def whole(self, last: Progress) -> HttpResponse:
        return json_response(self.writer.whole(self.reply, last))

    def events(self, progress: Progress) -> bytes:
        return self.writer.events(self.reply, progress)

    def broken(self, newest: Progress, error: ApiError) -> bytes:
        return self.writer.broken(self.reply, newest, error)


class Asked(Protocol):
    """A request whose fields are right: nothing is decoded before opened(), or computed before begun()."""

    @property
    def has_media(self) -> bool:
        """Whether there is anything to open."""

    @property
    def queued(self) -> Queued | None:
        """Whose time its answer takes, None for nobody's."""

    def opened(self, chat: Chat, access: Access) -> "Asked":
        """Return it with its media decoded. Raises: ApiError."""

    def begun(self, chat: Chat, access: Access, stopped: Stopped) -> Answer | HttpResponse:
        """Begin its answer, or give it where nothing is generated. Raises: ApiError.

        Media that are not opened yet are.
        """


@dataclass(frozen=True)
class RouteRequest:
    """A request to chat: what it stands for, and how its answer is written."""

    request: Request
    writer: Writer
    media: Opened | None = None

    @property
    def queued(self) -> Queued:
        return "engine"

    @property
    def has_media(self) -> bool:
        return self.request.has_media

    def opened(self, chat: Chat, access: Access) -> "RouteRequest":
        return replace(self, media=chat.open(self.request, access=access))

    def begun(self, chat: Chat, access: Access, stopped: Stopped) -> Answer:
        reply = chat.start(self.request, access=access, stopped=stopped, media=self.media)
        return ChatAnswer(reply, self.writer)


@dataclass(frozen=True)
class CountRequest:
    """A request whose prompt is counted and not answered. written: the response to so many positions, as JSON."""

    request: Request
    written: Callable[[int], object]
    media: Opened | None = None

    @property
    def queued(self) -> None:
        return None

    @property
    def has_media(self) -> bool:
        return self.request.has_media

    def opened(self, chat: Chat, access: Access) -> "CountRequest":
        return replace(self, media=chat.open(self.request, access=access))

    def begun(self, chat: Chat, access: Access, stopped: Stopped) -> HttpResponse:
        n_tokens = chat.count(self.request, access=access, stopped=stopped, media=self.media)
        return json_response(self.written(n_tokens))


@dataclass(frozen=True)
class Backend:
    """What a route answers with: the chat, and what the server counts."""

    chat: Chat
    metrics: Metrics


def everybody(_: Mapping[str, str]) -> bool:
    """Answer whoever asks."""
    return True


@dataclass(frozen=True)
class Endpoint:
    """One method of one path.

    path: `{name}` at its end is any text. describe: its item in /openapi.json, by the form of its errors. clients:
    whether it answers a client with these headers, where several routes have one path. accepts: the media types of its
    bodies. stream_type: the media type of its streams. is_open: whether it answers without the key.
    """

    path: str
    method: str
    errors: ErrorForm
    describe: Callable[[ErrorForm], dict[str, object]]
    _: KW_ONLY
    clients: Callable[[Mapping[str, str]], bool] = everybody
    accepts: tuple[str, ...] = (JSON,)
    stream_type: str = EVENT_STREAM
    is_open: bool = False

    def supports(self, method: str) -> bool:
        """Return whether this route answers a method: HEAD where it answers GET."""
        return method == self.method or (method, self.method) == ("HEAD", "GET")


@dataclass(frozen=True)
class ChatRoute(Endpoint):
    """A route that the model answers.

    read: turns the fields of a body into a chat and the writer of its answer, or into the response where none is asked
    for.
    """

    read: Callable[[Chat, Fields], RouteRequest | CountRequest | HttpResponse]


@dataclass(frozen=True)
class SpeechRoute(Endpoint):
    """A route that a voice answers. read: turns the fields of a body into what it asks for."""

    read: Callable[[Chat, Fields], Asked]


@dataclass(frozen=True)
class UploadRoute(Endpoint):
    """A route that is asked with a form. read: turns it into what it asks for; files: its fields that are files."""

    read: Callable[[Chat, Form], Asked]
    files: tuple[str, ...]


@dataclass(frozen=True)
class DirectRoute(Endpoint):
    """A route that is answered at once, on a thread of its own. show: the response to a request."""

    show: Callable[[Backend, HttpRequest], HttpResponse]


Route = ChatRoute | SpeechRoute | UploadRoute | DirectRoute
