"""Watching a stream: tiles that did not change are not encoded, no change is missed, and a lost camera is told."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edge.chat.prompt import DecodedImage
from edge.chat.request import read_request
from edge.commands.measuring import memory
from edge.devices.camera import Camera, Frame
from edge.devices.tile_changes import TileMemory, TileUpdate
from edge.devices.watch import Event, Looker, MonotonicClock, Pace, Sight, events, watch
from edge.engine.engine import Engine
from edge.engine.pieces import Encoded
from edge.errors import DeviceError, EdgeError, NonFiniteError, ParameterError
from edge.limits import Limits
from edge.media.image import digest
from edge.media.tiles import tiles
from tests.edge.asking import answer, ask
from tests.edge.media.test_tiles import vision

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

WIDTH, HEIGHT, SIDE = 640, 480, 48
VIDEO_S, MOVING_S = 300.0, (120.0, 180.0)
QUESTION = "Where is the square?"


class VirtualClock:
    """Time passes when it is waited for."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> float:
        return self.at_s

    def wait(self, news: threading.Event, timeout_s: float) -> None:
        self.at_s += 0.0 if news.is_set() else timeout_s


class AtOnce(Executor):
    """Runs what is submitted before it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class Stream:
    """Five minutes of a still scene with noise, in which a square moves for one of them."""

    def __init__(self, clock: VirtualClock) -> None:
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        self._clock = clock
        self._scene = np.stack([x // 4, y // 3, (x + y) // 8], axis=2).astype(np.int16)
        self._noise = np.random.default_rng(0).normal(0, 3, (4, HEIGHT, WIDTH, 3))
        self._newest: Frame | None = None

    @property
    def ended(self) -> bool:
        return self._clock.now() >= VIDEO_S

    def newest(self, *, wait_s: float) -> Frame:
        """Return a frame a second: as many as are looked at would do."""
        now_s = float(int(min(self._clock.now(), VIDEO_S)))
        if self._newest is None or self._newest.at_s != now_s:
            rgb = np.clip(self.clean(now_s) + self._noise[int(now_s * 7) % 4], 0, 255).astype(np.uint8)
            self._newest = Frame(rgb, now_s, 1 + int(now_s))
        return self._newest

    def clean(self, now_s: float) -> npt.NDArray[np.int16]:
        left, top = self.place(now_s)
        scene = self._scene.copy()
        scene[top : top + SIDE, left : left + SIDE] = 255
        return scene

    def place(self, now_s: float) -> tuple[int, int]:
        moved = min(max(now_s - MOVING_S[0], 0.0), MOVING_S[1] - MOVING_S[0]) / (MOVING_S[1] - MOVING_S[0])
        return 20 + int(moved * (WIDTH - SIDE - 40)), 30 + int(moved * (HEIGHT - SIDE - 60))


class Checked(Looker):
    """Looks, and checks that nothing the decoder sees is other than what is there by more than a few pixels."""

    def __init__(self, engine: Engine, stream: Stream) -> None:
        body = {"messages": [{"role": "user", "content": QUESTION}], "model": "m", "max_tokens": 3, "temperature": 0}
        request = read_request(body, limits=Limits())
        super().__init__(engine, request, threshold=8.0, refresh_s=60.0)
        self.stream = stream
        self.looks: list[tuple[float, bool]] = []  # of which second, whether something was encoded and asked
        self.stale: list[tuple[float, int, int]] = []
        self.anonymous_bytes: list[int] = []
        self._shown: dict[str, F32] = {}  # by digest: what was there when a tile was encoded

    def look(self, frame: Frame, now_s: float) -> Sight:
        sight = super().look(frame, now_s)
        self.looks.append((frame.at_s, sight.answer is not None and sight.glance.n_encoded > 0))
        self.anonymous_bytes.append(int(memory()["anonymous_bytes"] or 0))
        spec = self._engine.manifest.vision
        near = MOVING_S[0] - 10 <= frame.at_s <= MOVING_S[1] + 10
        if spec is not None and (near or not self._shown or sight.glance.n_encoded):
            there = list(tiles(self.stream.clean(frame.at_s).astype(np.uint8), spec))
            for i, (known, now) in enumerate(zip(sight.glance.tiles, there, strict=True)):
                shown = self._shown.setdefault(known.digest, now)
                n_off = int((np.abs(now - shown).max(axis=0) * 255 * min(spec.std) > 30).sum())
                if n_off > 64:
                    self.stale.append((frame.at_s, i, n_off))
            self._shown = {known.digest: self._shown[known.digest] for known in sight.glance.tiles}
        return sight


def test_five_minutes_in_which_one_thing_moves_for_one(engine: Engine) -> None:
    clock = VirtualClock()
    stream = Stream(clock)
    looker = Checked(engine, stream)
    before = engine.stats().work.n_tiles
    told = list(events(stream, looker, Pace(2.0, 60.0), clock=clock, executor=AtOnce()))
    tally = told[-1].tally
    assert told[-1].kind == "ended"
    assert [event.kind for event in told].count("heartbeat") in (4, 5)
    assert 148 <= tally.n_frames <= 152 and tally.n_skipped == 0
    assert tally.n_tiles == 5 * tally.n_frames
    assert tally.n_encoded == engine.stats().work.n_tiles - before
    assert tally.saved >= 0.6
    # No change missed: every look at another place asks, and what the decoder sees is what is there.
    assert looker.stale == []
    places = [stream.place(at_s) for at_s, _ in looker.looks]
    moved = [i for i in range(1, len(places)) if places[i] != places[i - 1]]
    assert len(moved) >= 29
    assert all(looker.looks[i][1] for i in moved)
    # Memory is flat: once everything has happened, nothing more is held; 150 frames alone would be 130 MiB.
    assert max(looker.anonymous_bytes[-20:]) - max(looker.anonymous_bytes[95:105]) < 4 << 20
    assert max(looker.anonymous_bytes) - looker.anonymous_bytes[5] < 32 << 20


def test_a_watched_image_is_answered_as_any_other(engine: Engine) -> None:
    clock = VirtualClock()
    stream = Stream(clock)
    looker = Checked(engine, stream)
    frame = stream.newest(wait_s=0)
    sight = looker.look(frame, 0.0)
    asked = ask(engine, DecodedImage(frame.rgb, digest(frame.rgb)), QUESTION)
    assert sight.answer == answer(engine, asked, looker._request.options).text.strip()
    again = looker.look(frame, 2.0)
    assert again.answer is None and again.glance.n_encoded == 0


def test_tiles_in_front_of_the_first_change_keep_their_positions(engine: Engine) -> None:
    looker = Checked(engine, Stream(VirtualClock()))
    rgb = looker.stream.clean(0.0).astype(np.uint8)
    looker.look(Frame(rgb, 0.0, 1), 0.0)
    changed = rgb.copy()
    changed[400:, 560:] = 0  # the last cell, and the whole
    before = engine.stats().work.n_read
    sight = looker.look(Frame(changed, 2.0, 2), 2.0)
    n_read = engine.stats().work.n_read - before
    assert sight.glance.n_encoded == 2
    assert n_read < len(engine._lay_out(looker._prompt(sight.frame, sight.glance)))


class Encoder:
    """Counts what it encodes."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, tile: F32) -> F32:
        self.n += 1
        return np.full((4, 8), self.n, np.float32)


def grey(level: float, height: int = 128, width: int = 128) -> U8:
    return np.full((height, width, 3), level, np.uint8)


def tile_memory(encode: Encoder, **changes: float) -> TileMemory:
    spec = vision(tile_px=64, crop_share=1.0)
    return TileMemory(spec, encode, **{"threshold": 8.5, "refresh_s": 60.0, **changes})


def test_a_change_up_to_the_threshold_is_no_change() -> None:
    for step, n_encoded in ((8, 0), (9, 5)):
        encode = Encoder()
        tile_memory_ = tile_memory(encode)
        tile_memory_.look(grey(100), 0.0)
        assert tile_memory_.look(grey(100 + step), 1.0).n_encoded == n_encoded


def test_what_creeps_is_compared_with_what_was_encoded() -> None:
    encode = Encoder()
    remembered = tile_memory(encode)
    counts = [remembered.look(grey(100 + i), float(i)).n_encoded for i in range(19)]
    assert counts == [5, *[0] * 8, 5, *[0] * 8, 5]


def test_noise_is_no_change_and_a_small_thing_is() -> None:
    rng = np.random.default_rng(1)
    scene = np.tile(np.linspace(30, 200, 128)[None, :, None], (128, 1, 3))

    def seen(image: npt.NDArray[np.float64]) -> U8:
        return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)

    encode = Encoder()
    remembered = tile_memory(encode)
    remembered.look(seen(scene), 0.0)
    assert sum(remembered.look(seen(scene), float(i)).n_encoded for i in range(1, 20)) == 0
    scene[100:108, 20:28] = 255
    assert remembered.look(seen(scene), 20.0).n_encoded in (1, 2)


def test_tiles_are_refreshed_now_and_then_unless_they_are_the_same_to_the_bit() -> None:
    encode = Encoder()
    remembered = tile_memory(encode, refresh_s=10.0)
    first = remembered.look(grey(100), 0.0)
    assert remembered.look(grey(102), 9.0).n_encoded == 0
    assert remembered.look(grey(102), 10.0).n_encoded == 5
    same = remembered.look(grey(102), 20.0)
    assert same.n_encoded == 0 and same.tiles != first.tiles
    assert remembered.look(grey(104), 29.0).n_encoded == 0
    assert remembered.look(grey(104), 30.0).n_encoded == 5


def test_a_frame_of_another_size_is_encoded_anew() -> None:
    encode = Encoder()
    remembered = tile_memory(encode)
    remembered.look(grey(100), 0.0)
    assert remembered.look(grey(100, 64, 64), 1.0).n_encoded == 1


class Script:
    """Eyes that are told when they see nothing: pairs of seconds."""

    def __init__(self, clock: VirtualClock, lost: Sequence[tuple[float, float]], end_s: float) -> None:
        self._clock, self._lost, self._end_s = clock, lost, end_s

    @property
    def ended(self) -> bool:
        return self._clock.now() >= self._end_s

    def newest(self, *, wait_s: float) -> Frame:
        now_s = min(self._clock.now(), self._end_s)
        if any(start <= now_s < stop for start, stop in self._lost):
            raise DeviceError("camera 0: no new frame for 4.1 s")
        return Frame(grey(0), now_s, 1 + int(now_s * 10))


class Answers:
    """A looker that has its answers ready."""

    def __init__(self, said: Iterator[str | None]) -> None:
        self._said = said

    def stalled_s(self) -> float:
        return 7.0

    def look(self, frame: Frame, now_s: float) -> Sight:
        return Sight(frame, TileUpdate((Encoded(np.zeros((1, 8), np.float32), "d"),), 1), next(self._said))


def told(
    clock: VirtualClock, eyes: Script, said: Iterator[str | None], executor: Executor | None = None
) -> list[Event]:
    looker = cast(Looker, Answers(said))
    return list(events(eyes, looker, Pace(1.0, 3600.0), clock=clock, executor=executor or AtOnce()))


def test_only_another_answer_is_told() -> None:
    clock = VirtualClock()
    said = iter(["No.", None, "no", "Yes.", "Yes", None, "No."] + [None] * 99)
    found = told(clock, Script(clock, [], 9.0), said)
    assert [(event.kind, event.answer) for event in found] == [
        ("answer", "No."), ("answer", "Yes."), ("answer", "No."), ("ended", "No."),
    ]  # fmt: skip
    assert [round(event.frame_s or 0) for event in found[:3]] == [0, 3, 6]


def test_each_turn_tells_how_long_the_work_stood_still_a_lost_camera_or_not() -> None:
    clock = VirtualClock()
    turns: list[tuple[float, float]] = []
    looker, eyes = cast(Looker, Answers(iter(["No."] * 99))), Script(clock, [(3.0, 6.0)], 9.0)
    watching = events(
        eyes, looker, Pace(1.0, 3600.0), clock=clock, executor=AtOnce(),
        on_turn=lambda stalled_s: turns.append((clock.now(), stalled_s())),
    )  # fmt: skip
    list(watching)
    assert {stalled_s for _, stalled_s in turns} == {7.0}
    times = [at_s for at_s, _ in turns]
    assert max(later - earlier for earlier, later in zip(times, times[1:], strict=False)) < 1.0
    assert times[-1] >= 9.0 - 1.0


def test_a_camera_that_is_lost_and_comes_back_is_told() -> None:
    clock = VirtualClock()
    found = told(clock, Script(clock, [(3.0, 6.0)], 9.0), iter(["No."] * 99))
    assert [event.kind for event in found] == ["answer", "lost", "back", "ended"]
    assert found[1].reason == "camera 0: no new frame for 4.1 s"
    assert found[1].at_s == pytest.approx(3.0, abs=0.5)
    assert found[2].at_s == pytest.approx(6.0, abs=0.5)


def test_a_camera_that_freezes_is_told_and_picked_up_again() -> None:
    gate = threading.Event()
    gate.set()

    class Freezing:
        def read(self) -> U8 | None:
            time.sleep(0.05)
            gate.wait(60)
            return grey(0)

        def close(self) -> None:
            gate.set()

    with Camera(Freezing) as camera, ThreadPoolExecutor(1) as executor:
        looker = cast(Looker, Answers(iter(["No."] * 999)))
        watching = events(camera, looker, Pace(0.1, 3600.0), clock=MonotonicClock(), executor=executor)
        assert next(watching).kind == "answer"
        gate.clear()
        frozen_s = time.monotonic()
        lost = next(watching)
        assert lost.kind == "lost" and lost.at_s - frozen_s > 3.5
        gate.set()
        assert next(watching).kind == "back"


class Never(Executor):
    """An executor that is busy for ever."""

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        return Future()


def test_a_lost_camera_is_told_while_the_model_is_busy_and_frames_are_skipped() -> None:
    clock = VirtualClock()
    watching = events(
        Script(clock, [(5.0, 8.0)], 1e9), cast(Looker, Answers(iter(()))), Pace(1.0, 20.0),
        clock=clock, executor=Never(),
    )  # fmt: skip
    found = [next(watching) for _ in range(3)]
    assert [event.kind for event in found] == ["lost", "back", "heartbeat"]
    assert found[0].at_s == pytest.approx(5.0, abs=0.5)
    assert 15 <= found[2].tally.n_skipped <= 18


def test_a_failure_of_the_model_ends_the_watch() -> None:
    class Broken(Answers):
        def look(self, frame: Frame, now_s: float) -> Sight:
            raise NonFiniteError("an image tile")

    clock = VirtualClock()
    with pytest.raises(NonFiniteError):
        list(events(Script(clock, [], 9), cast(Looker, Broken(iter(()))), Pace(), clock=clock, executor=AtOnce()))


@pytest.mark.parametrize("pace", [{"every_s": 0.0}, {"every_s": float("nan")}, {"heartbeat_s": -1.0}])
def test_a_pace_is_above_zero(pace: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match="expected seconds above 0, got"):
        next(watch(0, "Anyone?", **pace))  # type: ignore[arg-type]


def test_a_folder_is_watched_to_its_end(int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.devices.sources._IMAGE_S", 0.5)
    for i, level in enumerate((10, 10, 200)):
        Image.new("RGB", (300, 200), (level, 30, 60)).save(tmp_path / f"{i}.png")
    found = list(watch(tmp_path, "What?", every_s=0.05, model=int8_bundle, max_tokens=2, threads=1))
    assert found[0].kind == "answer" and found[-1].kind == "ended"
    assert found[-1].tally.n_encoded == 2
    assert found[-1].tally.n_asked == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("edge-watch", "edge-camera"))]


def test_a_watch_that_is_closed_stops_everything(int8_bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    with Camera(tmp_path / "a.png", loop=True) as camera:
        watching = watch(camera, "What?", every_s=0.05, model=int8_bundle, threads=1)
        next(watching)
        watching.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("edge-watch")]
        assert camera.newest().rgb.shape == (200, 300, 3)


def test_a_model_that_takes_text_only_cannot_watch(text_bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    with pytest.raises(EdgeError, match="accepts text only"):
        next(watch(tmp_path / "a.png", "What?", model=text_bundle, threads=1))
