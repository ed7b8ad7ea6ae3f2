"""`edge batch` as a process: killed at any moment and begun again, files that are full, and what it says."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.edge.batch.batches import asking, continuation, ids, line, records, write

ROOT = Path(__file__).parents[3]
LEAVES_S = 120.0
# Runs the command line, and notes each line that is asked in a file of its own; no file grows past ROOM bytes.
NOTING = """
import os, resource
from edge.batch import asker
ask = asker.Asker._ask
def noting(self, line):
    if "ROOM" in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["ROOM"]),) * 2)
    with open({log!r}, "a") as log:
        log.write(line.custom_id + "\\n")
    return ask(self, line)
asker.Asker._ask = noting
from edge.cli import main
main()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def command(*arguments: str, log: str = "asked.log") -> list[str]:
    return [sys.executable, "-c", NOTING.format(log=log), "batch", *arguments]


def edge(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def asked() -> list[str]:
    return Path("asked.log").read_text().split() if Path("asked.log").exists() else []


def questions(n: int, max_tokens: int = 8) -> None:
    write(Path("in.jsonl"), *(line(f"r{i}", f"How many circles? {i}", max_tokens=max_tokens) for i in range(n)))


def until_written(process: subprocess.Popen[str], n_lines: int) -> None:
    """Wait until the output has so many lines, or the process has ended."""
    give_up_s = time.monotonic() + LEAVES_S
    out = Path("out.jsonl")
    while process.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < n_lines):
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def test_a_file_is_answered_into_a_file() -> None:
    write(
        Path("in.jsonl"),
        line("a", max_tokens=5),
        asking("b", "/v1/completions", prompt="Once", max_tokens=3),
        asking("c", "/v1/responses", input="Hello", max_output_tokens=3),
    )
    done = edge("in.jsonl", "out.jsonl")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("edge: 3 of 3 lines answered; 3 lines in ")
    assert {r["custom_id"]: r["response"]["body"]["object"] for r in records(Path("out.jsonl"))} == {  # type: ignore[index]
        "a": "chat.completion", "b": "text_completion", "c": "response",
    }  # fmt: skip
    again = edge("in.jsonl", "out.jsonl")
    assert again.returncode == 0 and sorted(asked()) == ["a", "b", "c"]
    assert again.stderr.splitlines() == [
        "edge: 3 of 3 lines were answered before; 0 are left", "edge: 3 of 3 lines answered",
    ]  # fmt: skip


def test_failed_lines_have_a_file_and_a_status() -> None:
    write(Path("in.jsonl"), line("a", max_tokens=3), b"{", line("b", temperature=-1))
    done = edge("in.jsonl", "out.jsonl")
    assert done.returncode == 3 and "1 of 3 lines answered, 2 failed (out.errors.jsonl says why)" in done.stderr
    assert ids(Path("out.jsonl")) == ["a"] and ids(Path("out.errors.jsonl")) == [None, "b"]
    assert edge("in.jsonl", "out.jsonl", "--retry-failed", "--errors", "out.errors.jsonl").returncode == 3
    assert sorted(asked()) == ["a", "b", "b"]


def test_a_kill_at_any_moment_loses_no_line_and_asks_none_twice() -> None:
    questions(60)
    done: list[object] = []
    for n_lines in (1, 7, 20, 33, 50):
        Path("asked.log").unlink(missing_ok=True)
        process = subprocess.Popen(command("in.jsonl", "out.jsonl"), stderr=subprocess.DEVNULL, text=True)
        until_written(process, n_lines)
        process.kill()
        process.wait()
        assert not set(asked()) & set(done)  # what was answered before the kill is not asked after it
        done = ids_of_whole_lines()
    Path("asked.log").unlink(missing_ok=True)
    assert edge("in.jsonl", "out.jsonl").returncode == 0
    assert not set(asked()) & set(done)
    assert sorted(map(str, ids(Path("out.jsonl")))) == sorted(f"r{i}" for i in range(60))


def ids_of_whole_lines() -> list[object]:
    data = Path("out.jsonl").read_bytes()
    return [json.loads(part)["custom_id"] for part in data[: data.rfind(b"\n") + 1].splitlines()]


def test_a_line_that_a_kill_tore_is_asked_again() -> None:
    questions(4)
    assert edge("in.jsonl", "out.jsonl").returncode == 0
    whole = Path("out.jsonl").read_bytes()
    Path("out.jsonl").write_bytes(whole[:-40])
    lost = set(ids_of_whole_lines()) ^ {f"r{i}" for i in range(4)}
    Path("asked.log").unlink()
    done = edge("in.jsonl", "out.jsonl")
    assert done.returncode == 0 and "a torn last line is cut away" in done.stderr
    assert set(asked()) == lost and len(lost) == 1
    assert sorted(map(str, ids(Path("out.jsonl")))) == ["r0", "r1", "r2", "r3"]


def test_a_full_disk_ends_the_run_and_the_next_goes_on() -> None:
    questions(20)
    full = edge("in.jsonl", "out.jsonl", env={**os.environ, "ROOM": "3000"})
    assert full.returncode == 1
    assert "edge: out.jsonl: File too large; what was answered before is kept" in full.stderr
    data = Path("out.jsonl").read_bytes()
    assert data.endswith(b"\n") and 0 < len(ids(Path("out.jsonl"))) < 20
    assert edge("in.jsonl", "out.jsonl").returncode == 0
    assert sorted(map(str, ids(Path("out.jsonl")))) == sorted(f"r{i}" for i in range(20))


def test_control_c_ends_in_order() -> None:
    questions(200)
    process = subprocess.Popen(command("in.jsonl", "out.jsonl"), stderr=subprocess.PIPE, text=True)
    until_written(process, 3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LEAVES_S)
    assert process.returncode == 130
    assert "finishing what is being answered" in said and "stopped; the same command goes on" in said
    assert sorted(asked()) == sorted(map(str, ids(Path("out.jsonl"))))  # what had begun was written


def test_images_are_asked_one_question() -> None:
    Path("photos").mkdir()
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (64, 64), colour).save(f"photos/{colour}.jpg")
    Path("photos/broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    done = edge("--images", "photos/*.jpg", "Describe this.", "out.jsonl", "--max-tokens", "4", "--seed", "1")
    assert done.returncode == 3
    assert sorted(map(str, ids(Path("out.jsonl")))) == ["photos/blue.jpg", "photos/green.jpg", "photos/red.jpg"]
    assert ids(Path("out.errors.jsonl")) == ["photos/broken.jpg"]
    Image.new("RGB", (64, 64), "white").save("photos/white.jpg")
    assert (
        edge("--images", "photos/*.jpg", "Describe this.", "out.jsonl", "--max-tokens", "4", "--seed", "1").returncode
        == 3
    )
    assert asked().count("photos/red.jpg") == 1 and asked().count("photos/white.jpg") == 1
    Image.new("RGB", (64, 64), "black").save("photos/red.jpg")
    changed = edge("--images", "photos/*.jpg", "Describe this.", "out.jsonl", "--max-tokens", "4", "--seed", "1")
    assert changed.returncode == 1 and "has an answer for 'photos/red.jpg', but to another question" in changed.stderr


def test_answers_with_a_seed_do_not_depend_on_the_slots() -> None:
    write(Path("in.jsonl"), *(continuation(f"r{i}", f"There are {i} red", max_tokens=12) for i in range(12)))
    texts = []
    for name, slots in (("one", "1"), ("four", "4")):
        assert edge("in.jsonl", f"{name}.jsonl", "--seed", "5", "--slots", slots).returncode == 0
        texts.append({r["custom_id"]: r["response"]["body"]["choices"] for r in records(Path(f"{name}.jsonl"))})  # type: ignore[index]
    assert texts[0] == texts[1] and len({json.dumps(text) for text in texts[0].values()}) > 6


def test_a_second_run_is_refused_while_the_first_writes() -> None:
    questions(400)
    process = subprocess.Popen(command("in.jsonl", "out.jsonl"), stderr=subprocess.DEVNULL, text=True)
    until_written(process, 1)
    second = edge("in.jsonl", "out.jsonl")
    process.kill()
    process.wait()
    assert (second.returncode, second.stderr) == (1, "edge: out.jsonl: another edge batch is writing to it\n")


def test_a_terminal_shows_a_bar_with_the_time_left() -> None:
    questions(30)
    control, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command("in.jsonl", "out.jsonl"), stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(control, 1 << 16)
        except OSError:  # the other end is closed
            break
    os.close(control)
    assert process.wait() == 0
    text = shown.decode()
    assert "of 30 lines" in text and "\x1b[" in text and "left" in text and "30 of 30 lines answered" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("in.jsonl",), "expected IN.jsonl OUT.jsonl, or --images PATTERN QUESTION OUT.jsonl, got 1 arguments"),
        (("--images", "a.jpg", "b.jpg", "What?", "out.jsonl"), "got 3 arguments; quote the pattern"),
        (("gone.jsonl", "out.jsonl"), "gone.jsonl: no such file"),
        (("in.jsonl", "in.jsonl"), "in.jsonl: expected another file than the one that is read"),
        (("in.jsonl", "out.jsonl", "--errors", "in.jsonl"), "in.jsonl: expected another file"),
        (("in.jsonl", "out.jsonl", "--errors", "out.jsonl"), "--errors out.jsonl: expected another"),
        (("in.jsonl", "models"), "models: expected a file"),
        (("in.jsonl", "."), ".: expected a file, got a folder"),
        (("in.jsonl", "other.txt"), "other.txt, line 1: expected one that edge batch wrote"),
        (("in.jsonl", "gone/out.jsonl"), "gone/out.jsonl: No such file or directory"),
        (("in.jsonl", "out.jsonl", "--limit", "some"), "--limit 'some': expected a number of lines, or NAME=NUMBER"),
        (("in.jsonl", "out.jsonl", "--limit", "pixels=3"), "limit 'pixels=3': expected NAME=NUMBER"),
        (("in.jsonl", "out.jsonl", "--system", "x"), "--system, --max-tokens and --temperature are for --images"),
        (("in.jsonl", "out.jsonl", "--media-folder", "gone"), "--media-folder gone: no such folder"),
        (("in.jsonl", "out.jsonl", "--model", "gone"), "gone"),
        (("--images", "*.jpg", "What?", "out.jsonl"), "--images '*.jpg': no such image"),
        (("in.jsonl", "out.jsonl", "--ray", "ray://host:10001"), "expected the address of a cluster"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_asked(arguments: tuple[str, ...], words: str) -> None:
    questions(1)
    Path("models").mkdir()
    Path("other.txt").write_text("notes\n")
    done = edge(*arguments)
    assert done.returncode == 1 and words in done.stderr and done.stderr.startswith("edge: "), done.stderr
    assert done.stderr.count("\n") == 1 and not asked() and Path("other.txt").read_text() == "notes\n"


def test_the_first_lines_are_asked() -> None:
    questions(5)
    assert edge("in.jsonl", "out.jsonl", "--limit", "2", "--limit", "images=1").returncode == 0
    assert sorted(asked()) == ["r0", "r1"]
    assert edge("in.jsonl", "out.jsonl").returncode == 0 and sorted(asked()) == [f"r{i}" for i in range(5)]


def test_lines_come_from_a_pipe() -> None:
    text = b"\n".join(line(f"r{i}", max_tokens=2) for i in range(3)).decode()
    assert edge("-", "out.jsonl", input=text).returncode == 0 and len(ids(Path("out.jsonl"))) == 3


def test_no_extra_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('httpx', 'python_multipart', 'starlette', 'uvicorn'): sys.modules[name] = None\n"
        "from edge.cli import main\n"
        "main()\n"
    )
    write(tmp_path / "in.jsonl", line("a"))
    done = subprocess.run(
        [sys.executable, "-c", code, "batch", "in.jsonl", "out.jsonl"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ids(tmp_path / "out.jsonl") == ["a"]
