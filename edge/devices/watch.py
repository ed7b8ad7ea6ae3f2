"""The same question asked of a stream over and over: what the answer is, when it changes, and whether anyone looks."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from edge.arrays import F32
from edge.chat import Chat
from edge.chat.attachments import Access
from edge.chat.prompt import DecodedImage, Turn, pieces
from edge.chat.reply import api_errors
from edge.chat.request import Request
from edge.devices.camera import Camera, Frame, Source
from edge.devices.tile_changes import REFRESH_S, THRESHOLD, TileMemory, TileUpdate
from edge.engine.engine import Engine
from edge.engine.handle import Handle
from edge.engine.pieces import Media, Piece
from edge.errors import DeviceError, EngineClosed, MediaError, ParameterError, UnsupportedError
from edge.models import Models

OnTurn = Callable[[Callable[[], float]], None]

_POLL_S = 0.2
_FIRST_S = 4.0
_GREEDY = 0.0  # an answer that changes by chance would be no change


@dataclass(frozen=True)
class Tally:
    """What was done since the watch began: frames looked at, frames due while busy, questions, tiles."""

    n_frames: int = 0
    n_skipped: int = 0
    n_asked: int = 0
    n_tiles: int = 0
    n_encoded: int = 0

    @property
    def saved(self) -> float:
        """The share of tiles that were not encoded."""
        return 1 - self.n_encoded / self.n_tiles if self.n_tiles else 0.0


@dataclass(frozen=True)
class Event:
    """Something to tell: another answer, a heartbeat, a camera that is lost or back, the end of a video.

    at_s: of the monotonic clock; answer: the newest one; frame_s: when its frame came; reason: why the camera is lost.
    """

    kind: Literal["answer", "heartbeat", "lost", "back", "ended"]
    at_s: float
    answer: str | None
    frame_s: float | None
    reason: str | None
    tally: Tally


class FrameSource(Protocol):
    """What is watched: a `Camera`, or anything that gives its newest frame."""

    @property
    def ended(self) -> bool:
        """Whether no newer frame will come."""

    def newest(self, *, wait_s: float) -> Frame:
        """Return the newest frame. Raises: DeviceError when there is none, or only an old one."""


class Clock(Protocol):
    """A monotonic clock that can be waited with."""

    def now(self) -> float:
        """Return its time in seconds."""

    def wait(self, news: threading.Event, timeout_s: float) -> None:
        """Wait for news, at most timeout_s."""


@dataclass(frozen=True)
class Pace:
    """How often to look, and how often to say that all is well, in seconds."""

    every_s: float = 2.0
    heartbeat_s: float = 60.0

    def __post_init__(self) -> None:
        for name, value in (("every_s", self.every_s), ("heartbeat_s", self.heartbeat_s)):
            if not 0 < value < float("inf"):
                raise ParameterError(f"{name}: expected seconds above 0, got {value!r:.200}", field=name)


def watch(
    source: Source | FrameSource,
    question: str,
    *,
    every_s: float = Pace.every_s,
    heartbeat_s: float = Pace.heartbeat_s,
    threshold: float = THRESHOLD,
    refresh_s: float = REFRESH_S,
    model: str | Path | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    threads: int | None = None,
    context: int | None = None,
    on_turn: OnTurn | None = None,
) -> Generator[Event, None, None]:
    """Ask a question of a camera every so many seconds; yield an event when the answer changes, and heartbeats.

    source: a `Camera` (or other `FrameSource`), or what one is made of, opened and closed here. Only tiles that
    changed are encoded (`TileMemory`), an image in which none did is not asked about again, and frames that come while
    the model is busy are left out. A camera that freezes or vanishes is an event, and so is its return; videos end.
    Nothing is opened before the first `next`; closing the generator stops everything.
    every_s, heartbeat_s, refresh_s: seconds between questions, between heartbeats, and until a tile is encoded again
    though it did not change. threshold: how much a tile must differ to have changed. model, system, max_tokens, seed,
    threads, context: as for `Reka` and its `chat.create`; temperature: 0 unless given. on_turn: called several times a
    second with what tells the seconds in which the engine's work has not moved on.

        for event in watch(0, "How many people are there?", every_s=5):
            print(event)

    Raises: ApiError for a model or an option that is not supported, EdgeError when answering fails.
    """
    pace = Pace(every_s, heartbeat_s)
    options = {"max_tokens": max_tokens, "temperature": _GREEDY if temperature is None else temperature, "seed": seed}
    with ExitStack() as held:
        chat = Chat(Models(model=model, aliases={}, threads=threads, context=context), Access())
        held.callback(chat.close)
        request = _request(chat, question, system, options)
        engine = chat.engine(request.model)
        with api_errors():
            if engine.manifest.vision is None:  # told before a camera is opened
                raise UnsupportedError(f"{engine.manifest.id} accepts text only: it cannot watch a camera")
        if isinstance(source, int | str | Path) or callable(source):
            source = held.enter_context(Camera(source))
        executor = held.enter_context(ThreadPoolExecutor(1, thread_name_prefix="edge-watch"))
        looker = Looker(engine, request, threshold=threshold, refresh_s=refresh_s)
        held.callback(looker.stop)  # before the executor waits for it
        yield from events(source, looker, pace, clock=MonotonicClock(), executor=executor, on_turn=on_turn)


class MonotonicClock:
    """The machine's own."""

    def now(self) -> float:
        """Return time.monotonic()."""
        return time.monotonic()

    def wait(self, news: threading.Event, timeout_s: float) -> None:
        """Wait for news, at most timeout_s."""
        news.wait(timeout_s)


@dataclass(frozen=True, eq=False)
class Sight:
    """What came of looking at a frame; answer: None when nothing changed, so that nothing was asked."""

    frame: Frame
    glance: TileUpdate
    answer: str | None


class Looker:
    """Looks at frames with an engine: encodes what changed, and asks if anything did."""

    def __init__(self, engine: Engine, request: Request, *, threshold: float, refresh_s: float) -> None:
        spec = engine.manifest.vision
        if spec is None:
            raise MediaError(f"image: {engine.manifest.id} accepts text only")
        self._engine = engine
        self._request = request
        self._memory = TileMemory(spec, self._encode, threshold=threshold, refresh_s=refresh_s)
        self._asked: tuple[str, ...] = ()
        self._stopped = False
        self._handle: Handle | None = None

    def look(self, frame: Frame, now_s: float) -> Sight:
        """Look at a frame. Raises: EdgeError."""
        glance = self._memory.look(frame.rgb, now_s)
        digests = tuple(tile.digest for tile in glance.tiles)
        if digests == self._asked:
            return Sight(frame, glance, None)
        self._handle = self._engine.stream(self._prompt(frame, glance), self._request.options)
        if self._stopped:
            self._handle.cancel()
        answer = self._handle.result().text.strip()
        self._asked = digests
        return Sight(frame, glance, answer)

    def stalled_s(self) -> float:
        """Return the seconds in which the engine's work has not moved on."""
        return self._engine.stalled_s()

    def stop(self) -> None:
        """Stop an answer that is being made."""
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()

    def _encode(self, tile: F32) -> F32:
        if self._stopped:
            raise EngineClosed("the watch was stopped")
        return self._engine.encode_tile(tile)

    def _prompt(self, frame: Frame, glance: TileUpdate) -> list[Piece]:
        """Lay out the question as any other, its image given tile by tile: those in front keep their positions."""
        texts = [Turn(message.role, tuple(part for part in message.parts if isinstance(part, str)))
                 for message in self._request.messages]  # fmt: skip
        question = Turn("user", (DecodedImage(frame.rgb, ""), *texts[-1].parts))
        prompt: list[Piece] = []
        for piece in pieces([*texts[:-1], question], self._engine.manifest):
            prompt.extend(glance.tiles if isinstance(piece, Media) else [piece])
        return prompt


def events(
    eyes: FrameSource,
    looker: Looker,
    pace: Pace,
    *,
    clock: Clock,
    executor: Executor,
    on_turn: OnTurn | None = None,
) -> Generator[Event, None, None]:
    """Yield what a watch has to tell, for ever or until the video ends. Raises: EdgeError when looking fails."""
    with suppress(DeviceError):  # told below
        eyes.newest(wait_s=_FIRST_S)
    watching = _Watching(eyes, looker, pace, clock, executor)
    while not watching.over:
        if on_turn is not None:
            on_turn(looker.stalled_s)
        yield from watching.turn()


class _Watching:
    """The state of a watch; all of it belongs to one thread, only looking happens in another."""

    def __init__(self, eyes: FrameSource, looker: Looker, pace: Pace, clock: Clock, executor: Executor) -> None:
        self.over = False
        self._eyes = eyes
        self._looker = looker
        self._pace = pace
        self._clock = clock
        self._executor = executor
        self._news = threading.Event()
        self._looking: Future[Sight] | None = None
        self._seen = 0  # the number of the last frame that was looked at
        self._lost: str | None = None
        self._answer: str | None = None
        self._answer_frame_s: float | None = None
        self._tally = Tally()
        self._due_s = clock.now()
        self._beat_s = clock.now() + pace.heartbeat_s

    def turn(self) -> Generator[Event, None, None]:
        """Do what is due, then wait a little."""
        if self._looking is not None and self._looking.done():
            yield from self._take(self._looking.result())
            self._looking = None
        ended = self._eyes.ended  # asked for before the frame: the last one must not be left out
        frame = yield from self._frame()
        now_s = self._clock.now()
        if frame is not None and now_s >= self._due_s:
            self._begin(frame, now_s)
        if now_s >= self._beat_s:
            self._beat_s = now_s + self._pace.heartbeat_s
            yield self._event("heartbeat")
        if ended and self._looking is None and (frame is None or frame.number == self._seen):
            self.over = True
            yield self._event("ended")
            return
        self._clock.wait(self._news, _POLL_S)
        self._news.clear()

    def _frame(self) -> Generator[Event, None, Frame | None]:
        """Return the newest frame; tell when the camera is lost, and when it is back."""
        try:
            frame = self._eyes.newest(wait_s=0)
        except DeviceError as error:
            if self._lost is None:
                self._lost = str(error)
                yield self._event("lost")
            return None
        if self._lost is not None:
            self._lost = None
            yield self._event("back")
        return frame

    def _begin(self, frame: Frame, now_s: float) -> None:
        """Look at a frame, unless the one before is still being looked at: then it is left out, and none waits."""
        missed = (now_s - self._due_s) // self._pace.every_s
        self._due_s += (1 + missed) * self._pace.every_s
        if self._looking is not None:
            self._count(n_skipped=1)
        elif frame.number != self._seen:
            self._seen = frame.number
            self._looking = self._executor.submit(self._looker.look, frame, now_s)
            self._looking.add_done_callback(lambda _: self._news.set())

    def _take(self, sight: Sight) -> Generator[Event, None, None]:
        """Count what was done, and tell another answer."""
        n_tiles, n_encoded = len(sight.glance.tiles), sight.glance.n_encoded
        self._count(n_frames=1, n_tiles=n_tiles, n_encoded=n_encoded, n_asked=sight.answer is not None)
        if sight.answer is None:
            return
        is_new = self._answer is None or _plain(sight.answer) != _plain(self._answer)
        self._answer, self._answer_frame_s = sight.answer, sight.frame.at_s
        if is_new:
            yield self._event("answer")

    def _count(self, **more: int) -> None:
        now = {name: getattr(self._tally, name) + n for name, n in more.items()}
        self._tally = Tally(**{**vars(self._tally), **now})

    def _event(self, kind: Literal["answer", "heartbeat", "lost", "back", "ended"]) -> Event:
        return Event(kind, self._clock.now(), self._answer, self._answer_frame_s, self._lost, self._tally)


def _request(chat: Chat, question: str, system: str | None, options: Mapping[str, object]) -> Request:
    """Check the question and its options as chat does. Raises: ApiError."""
    name = next(iter(chat.models.ids()), "no bundle")
    messages: list[object] = [] if system is None else [{"role": "system", "content": system}]
    body = {"messages": [*messages, {"role": "user", "content": question}], "model": name, **options}
    return chat.read(body)


def _plain(answer: str) -> str:
    """Return an answer without what does not change its meaning: case, spaces, a full stop."""
    return " ".join(answer.casefold().split()).rstrip(".! ")
