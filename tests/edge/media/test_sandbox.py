"""The separate process: what crashes, swells or hangs there is refused here, and the next one is served."""

import gc
import io
import json
import os
import platform
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge.errors import MediaError, MemoryExhausted
from edge.media import decoding, sandbox, wire
from edge.media.decoded import Decoded
from edge.media.sandbox import Worker

OPTIONS = {"max_px": 64_000_000}
ROOT = Path(__file__).parents[3]


def png(size: tuple[int, int] = (40, 30), colour: str = "red") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def apart() -> Iterator[Worker]:
    apart = Worker()
    yield apart
    apart.close()


@pytest.fixture
def doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    """A worker whose decoder of pictures runs some code in place of decoding."""
    made = []

    def make(code: str, **options: object) -> Worker:
        folder = tmp_path / f"site{len(made)}"
        folder.mkdir()
        body = textwrap.indent(textwrap.dedent(code), "    ")
        patch = f"import edge.media.image\ndef decode(data, options):\n{body}\nedge.media.image.decode = decode\n"
        # The process imports this on its way to the first job, before it has any limit.
        (folder / "sitecustomize.py").write_text(patch, "utf-8")
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
        made.append(Worker(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


def same_as_here(apart: Worker) -> None:
    """Check that a worker serves."""
    found = apart.decode("image", png(), OPTIONS)
    assert np.array_equal(found.arrays[0], decoding.decode("image", png(), OPTIONS).arrays[0])


# --- the same as here ---------------------------------------------------------------------------------------------


def test_images_come_back_as_they_are_decoded_here(apart: Worker) -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 3), (7, 1000, 3), (300, 200, 3)):
        data = io.BytesIO()
        rgb = rng.integers(0, 256, shape, np.uint8)
        Image.fromarray(rgb).save(data, "PNG")
        found = apart.decode("image", data.getvalue(), OPTIONS)
        assert np.array_equal(found.arrays[0], rgb) and found.arrays[0].dtype == np.uint8


def test_errors_are_those_of_decoding_here(apart: Worker) -> None:
    for data, options in ((b"x", OPTIONS), (png()[:50], OPTIONS), (png(), {"max_px": 5})):
        said = []
        for decode in (apart.decode, decoding.decode):
            with pytest.raises(MediaError) as caught:
                decode("image", data, options)
            said.append(str(caught.value))
        assert said[0] == said[1]
    same_as_here(apart)


def test_an_unknown_kind_is_refused(apart: Worker) -> None:
    with pytest.raises(MediaError, match="smell: expected one of image, video, pdf, audio"):
        apart.decode("smell", b"", {})


def test_nothing_is_started_before_it_is_needed_and_one_process_serves_all(apart: Worker) -> None:
    assert apart.pid is None
    same_as_here(apart)
    first = apart.pid
    same_as_here(apart)
    assert apart.pid == first is not None


def test_a_worker_imports_little() -> None:
    heavy = "'cv2', 'PIL', 'pypdfium2', 'pydantic', 'onnxruntime'"
    code = f"import sys, edge.media.child; print(*[name for name in ({heavy}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


def test_threads_share_one_process(apart: Worker) -> None:
    found: list[tuple[int, ...]] = []

    def read(colour: str) -> None:
        for _ in range(5):
            rgb = apart.decode("image", png(colour=colour), OPTIONS).arrays[0]
            found.append((*rgb[0, 0].tolist(), apart.pid))

    threads = [threading.Thread(target=read, args=(colour,)) for colour in ("red", "blue", "lime")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted({entry[:3] for entry in found}) == [(0, 0, 255), (0, 255, 0), (255, 0, 0)]
    assert len(found) == 15 and len({entry[3] for entry in found}) == 1


# --- crashes, bombs and hangs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    ["import ctypes; ctypes.string_at(0)", "import os; os.abort()", "import os; os._exit(0)",
     "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit"],
)  # fmt: skip
def test_a_crash_is_refused_and_the_next_process_serves(doing: Callable[..., Worker], code: str) -> None:
    apart = doing(f"if data.startswith(b'bad'): {code}\nfrom PIL import Image\nreturn __import__('edge.media.decoded', "
                  "fromlist=['x']).Decoded(())")  # fmt: skip
    for _ in range(2):
        with pytest.raises(MediaError, match="image: the data is damaged: decoding it failed"):
            apart.decode("image", b"bad", OPTIONS)
        assert apart.decode("image", b"good", OPTIONS).arrays == ()


@pytest.mark.parametrize(
    "code",
    ["import numpy; return numpy.ones(1 << 29)", "held = []\nwhile True: held.append(bytes(1 << 20))",
     "import mmap; mmap.mmap(-1, 1 << 32, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)", "x = b'x' * (1 << 33)"],
)  # fmt: skip
def test_a_bomb_is_refused_at_the_limit_of_memory(doing: Callable[..., Worker], code: str) -> None:
    apart = doing(code, memory_bytes=256 << 20)
    with pytest.raises(MediaError, match=r"image: (decoding it needs too much memory|the data is damaged)"):
        apart.decode("image", b"bad", OPTIONS)


@pytest.mark.parametrize(
    "code",
    ["import time; time.sleep(100)", "while True: pass",
     "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(100)"],
)  # fmt: skip
def test_a_hang_ends_at_the_limit_of_time(doing: Callable[..., Worker], code: str) -> None:
    apart = doing(code, seconds={"image": 1.0})
    started_s = time.monotonic()
    with pytest.raises(MediaError, match="image: decoding it exceeds 1 s"):
        apart.decode("image", b"bad", OPTIONS)
    assert time.monotonic() - started_s < 60  # starting a process on a busy machine takes most of it
    assert apart.pid is None


def test_an_error_of_python_is_refused_with_words_of_ours(doing: Callable[..., Worker]) -> None:
    apart = doing("raise ValueError('0xdeadbeef at /etc/secret')")
    with pytest.raises(MediaError) as caught:
        apart.decode("image", b"", OPTIONS)
    assert str(caught.value) == "image: the data is damaged"
    first = apart.pid
    with pytest.raises(MediaError):
        apart.decode("image", b"", OPTIONS)
    assert apart.pid == first


def test_what_libraries_print_disturbs_nobody(doing: Callable[..., Worker], capfd: pytest.CaptureFixture[str]) -> None:
    apart = doing("import os; os.write(1, b'noise'); os.write(2, b'noise'); print('noise'); raise ValueError")
    with pytest.raises(MediaError, match="image: the data is damaged"):
        apart.decode("image", b"", OPTIONS)
    assert capfd.readouterr() == ("", "")


def test_a_process_that_is_killed_between_two_jobs_is_replaced(apart: Worker) -> None:
    for _ in range(3):
        same_as_here(apart)
        assert apart.pid is not None
        os.kill(apart.pid, signal.SIGKILL)
    same_as_here(apart)


def test_a_process_that_ends_before_any_job_is_not_started_for_ever(
    apart: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def start() -> "subprocess.Popen[bytes]":
        code = "import sys; from edge.media import wire; wire.send(sys.stdout.buffer, {'ready': True})"
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        return process

    monkeypatch.setattr(sandbox, "_start", start)
    with pytest.raises(MemoryExhausted, match="image: the decoding process ends as soon as it is started"):
        apart.decode("image", png(), OPTIONS)
    assert len(started) == sandbox._TRIES


def test_a_process_that_cannot_be_started_is_no_fault_of_the_data(
    apart: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for executable in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(MemoryExhausted, match="the decoder of media cannot be started"):
            apart.decode("image", png(), OPTIONS)


def test_a_process_is_replaced_after_many_jobs(apart: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_MAX_JOBS", 2)
    pids = []
    for _ in range(4):
        same_as_here(apart)
        pids.append(apart.pid)
    assert pids[0] == pids[1] != pids[2] == pids[3]


# --- what it can reach --------------------------------------------------------------------------------------------


def seen(doing: Callable[..., Worker], expression: str) -> object:
    """What an expression is over there."""
    code = f"import os, resource\nfrom edge.media.decoded import Decoded\nreturn Decoded((), {{'it': {expression}}})"
    return doing(code).decode("image", b"", OPTIONS).info["it"]


def test_keys_do_not_reach_it(doing: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_API_KEY", "secret")
    monkeypatch.setenv("REKA_API_KEY", "secret")
    assert "secret" not in json.dumps(seen(doing, "dict(os.environ)"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do not fill memory")
def test_memory_shows_nothing_of_what_was_there_before(doing: Callable[..., Worker]) -> None:
    code = """
    import ctypes
    from edge.media.decoded import Decoded
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    seen = set()
    for n_bytes in (3000, 100_000, 1 << 20):
        for _ in range(3):
            at = libc.malloc(n_bytes)
            seen |= set(ctypes.string_at(at, n_bytes))
            ctypes.memset(at, 65, n_bytes)
            libc.free(at)
    return Decoded((), {"seen": sorted(seen)})
    """
    assert doing(code).decode("image", b"", OPTIONS).info["seen"] == [0x80]


def test_its_descriptors_are_its_own(doing: Callable[..., Worker], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x", "utf-8")
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        links = seen(doing, "[os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')]")
    assert str(secret) not in links  # type: ignore[operator]


@pytest.mark.parametrize(("limit", "expected"), [("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", 64), ("RLIMIT_FSIZE", 64 << 20)])
def test_its_limits(doing: Callable[..., Worker], limit: str, expected: int) -> None:
    assert seen(doing, f"resource.getrlimit(resource.{limit})[0]") == expected


def test_it_cannot_gain_rights(doing: Callable[..., Worker]) -> None:
    assert "NoNewPrivs:\t1" in str(seen(doing, "open('/proc/self/status').read()"))


def test_it_has_no_network_where_the_system_allows_that(doing: Callable[..., Worker]) -> None:
    ask = "import ctypes; l = ctypes.CDLL(None); print(l.unshare(0x40000000) and l.unshare(0x50000000))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    names = seen(doing, "[line.split(':')[0].strip() for line in open('/proc/net/dev')][2:]")
    assert names == ["lo"] or done.stdout.strip() != "0"


# --- its end ------------------------------------------------------------------------------------------------------


def gone(pid: int | None) -> bool:
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def n_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_closing_ends_it_and_nothing_is_left_open() -> None:
    before, n_threads = n_open(), threading.active_count()
    for _ in range(3):
        apart = Worker()
        same_as_here(apart)
        pid = apart.pid
        apart.close()
        apart.close()
        assert gone(pid) and apart.pid is None
    assert n_open() == before
    assert threading.active_count() == n_threads


def test_a_closed_worker_says_so() -> None:
    apart = Worker()
    apart.close()
    with pytest.raises(MemoryExhausted, match="image: the decoder was closed"):
        apart.decode("image", png(), OPTIONS)


def test_a_worker_that_is_forgotten_ends_its_process() -> None:
    apart = Worker()
    same_as_here(apart)
    pid = apart.pid
    del apart
    gc.collect()
    assert gone(pid)


def test_closing_ends_a_job_under_way(doing: Callable[..., Worker]) -> None:
    apart = doing("import time; time.sleep(100)")
    failed = []

    def read() -> None:
        with pytest.raises(MediaError):
            apart.decode("image", b"", OPTIONS)
        failed.append(True)

    thread = threading.Thread(target=read)
    thread.start()
    while apart.pid is None:
        time.sleep(0.01)
    time.sleep(0.5)
    apart.close()
    thread.join(30)
    assert failed == [True]


def test_it_ends_with_the_program_however_that_ends() -> None:
    code = """
        import os, sys
        from edge.media.sandbox import Worker
        apart = Worker()
        try:
            apart.decode("image", b"", {"max_px": 1})
        except Exception:
            pass
        print(apart.pid, flush=True)
        os.kill(os.getpid(), 9) if sys.argv[1] == "killed" else None
    """
    for end in ("killed", "ended"):
        command = [sys.executable, "-c", textwrap.dedent(code), end]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
        assert gone(int(done.stdout)) and done.stderr == ""


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_starts_its_own_and_leaves_its_parents_alone(apart: Worker) -> None:
    same_as_here(apart)
    first = apart.pid
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            apart.decode("image", png(), OPTIONS)
            os.write(writing, str(apart.pid).encode())
            apart.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        assert int(said.read()) != first
    assert apart.pid == first
    same_as_here(apart)


def test_it_ends_by_itself_when_nobody_asks_for_long(apart: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sandbox.ENVIRONMENT, "EDGE_IDLE_S", "0.2")
    same_as_here(apart)
    assert gone(apart.pid)
    same_as_here(apart)


# --- what passes between the two ----------------------------------------------------------------------------------


def told(head: object, rest: bytes = b"") -> io.BytesIO:
    text = json.dumps(head).encode()
    return io.BytesIO(struct.pack("<I", len(text)) + text + rest)


def test_arrays_and_info_pass_unchanged() -> None:
    arrays = (
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.zeros((0, 3), np.uint8),
        np.full((2, 2, 3), 7, np.uint8),
    )
    stream = io.BytesIO()
    wire.send_decoded(stream, Decoded(arrays, {"texts": ["gr\u00fcn \u2028"], "n": 1.5}))
    stream.seek(0)
    found = wire.receive_decoded(stream, wire.receive(stream), max_bytes=1000)
    assert found.info == {"texts": ["gr\u00fcn \u2028"], "n": 1.5}
    for mine, theirs in zip(arrays, found.arrays, strict=True):
        assert np.array_equal(mine, theirs) and mine.dtype == theirs.dtype and mine.shape == theirs.shape


@pytest.mark.parametrize(
    "entry",
    [{"dtype": "object", "shape": [1]}, {"dtype": "uint8", "shape": [-1]}, {"dtype": "uint8", "shape": [1 << 40]},
     {"dtype": "uint8", "shape": [1 << 20, 1 << 20]}, {"dtype": "float32", "shape": [300]}, {"dtype": "uint8"}, 5,
     {"dtype": "uint8", "shape": [1] * 9}, {"dtype": "uint8", "shape": [1.5]}, {"dtype": ["uint8"], "shape": [1]},
     {"dtype": "uint8", "shape": [100]}],
)  # fmt: skip
def test_what_a_taken_over_process_may_say_is_checked(entry: object) -> None:
    stream = told({"arrays": [entry], "info": {}}, b"x" * 50)
    with pytest.raises(wire.WireError):
        wire.receive_decoded(stream, wire.receive(stream), max_bytes=1000)


@pytest.mark.parametrize(
    "stream",
    [io.BytesIO(b""), io.BytesIO(b"\xff\xff\xff\xff"), io.BytesIO(b"\x05\0\0\0{"), told([]), told("x"),
     io.BytesIO(b"\x02\0\0\0{}")],
)  # fmt: skip
def test_heads_are_checked(stream: io.BytesIO) -> None:
    with pytest.raises(wire.WireError):
        wire.receive_decoded(stream, wire.receive(stream), max_bytes=10)
