"""`edge watch`: a line of JSON an event, and options that are checked before anything is opened."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import cli
from edge.devices import watch as watch_module
from edge.devices.watch import Event, Tally

TALLY = Tally(n_frames=9, n_skipped=1, n_asked=2, n_tiles=45, n_encoded=7)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What the watch was asked for; it tells four events."""
    asked: list[dict[str, object]] = []

    def watch(camera: object, question: str, **options: object) -> Iterator[Event]:
        asked.append({"question": question, **options})
        now_s = time.monotonic()
        yield Event("answer", now_s, "No.", now_s - 1.5, None, TALLY)
        yield Event("lost", now_s, "No.", now_s - 1.5, "camera 0: no new frame for 4.1 s", TALLY)
        yield Event("heartbeat", now_s, None, None, None, Tally())

    monkeypatch.setattr(watch_module, "watch", watch)
    return asked


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["edge", "watch", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_each_event_is_a_line(
    monkeypatch: pytest.MonkeyPatch, given: list[dict[str, object]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("Anyone?", "--camera", str(tmp_path), "--every", "500ms", "--heartbeat", "5m", "--max-tokens", "8")
    assert run(monkeypatch, *arguments) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in told] == ["answer", "lost", "heartbeat"]
    assert told[0]["answer"] == "No." and 1.4 < told[0]["age_s"] < 30
    assert "reason" not in told[0] and told[1]["reason"] == "camera 0: no new frame for 4.1 s"
    assert {name: told[0][name] for name in ("frames", "skipped", "asked", "tiles", "encoded")} == {
        "frames": 9, "skipped": 1, "asked": 2, "tiles": 45, "encoded": 7,
    }  # fmt: skip
    assert told[2]["age_s"] is None and told[2]["time"][10] == "T"
    assert given[0]["question"] == "Anyone?"
    assert (given[0]["every_s"], given[0]["heartbeat_s"], given[0]["max_tokens"]) == (0.5, 300.0, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--every", "0"), "edge: --every '0': expected a time above 0, such as 500ms, 2s or 1m"),
        (("--heartbeat", "soon"), "edge: --heartbeat 'soon': expected a time"),
        (("--size", "640"), "edge: --size '640': expected WIDTHxHEIGHT"),
        (("--size", "640x0"), "edge: --size '640x0': expected WIDTHxHEIGHT"),
        (("--camera", "nowhere.mp4"), "edge: camera 'nowhere.mp4': no such file"),
    ],
)
def test_options_are_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert run(monkeypatch, "Anyone?", *arguments) == 1
    assert capsys.readouterr().err.startswith(words)


def test_control_c_ends_the_watch_quietly(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal, threading, edge.devices.watch\n"
        "def watch(camera, question, **options):\n"
        "    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    threading.Event().wait(60)\n"
        "    yield None\n"
        "edge.devices.watch.watch = watch\n"
        f"sys.argv = ['edge', 'watch', 'x', '--camera', {str(tmp_path)!r}]\n"
        "from edge.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_changes_are_sent_and_run_and_heartbeats_are_not(
    monkeypatch: pytest.MonkeyPatch, given: list[dict[str, object]], tmp_path: Path
) -> None:
    posted: list[tuple[str, dict[str, str], str]] = []

    class Hook:
        name = "a hook"

        def __init__(self, url: str, *, headers: dict[str, str]) -> None:
            self.how = (url, headers)

        def deliver(self, line: str, *_: object) -> None:
            posted.append((*self.how, json.loads(line)["event"]))

    monkeypatch.setattr("edge.devices.webhook.Webhook", Hook)
    monkeypatch.setenv("TOKEN", "secret")
    code = "import os, sys; open(sys.argv[1], 'a').write(os.environ['EDGE_EVENT'] + os.environ['EDGE_ANSWER'] + ' ')"
    command = f'{sys.executable} -c "{code}" {tmp_path / "out"}'
    arguments = ("Anyone?", "--camera", str(tmp_path), "--webhook", "http://localhost/x", "--run", command)
    assert run(monkeypatch, *arguments, "--webhook-header", "Authorization: Bearer ${TOKEN}") == 0
    assert [event for *_, event in posted] == ["answer", "lost"]
    assert posted[0][:2] == ("http://localhost/x", {"Authorization": "Bearer secret"})
    assert (tmp_path / "out").read_text() == "answerNo. lostNo. "


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--webhook", "localhost"), "webhook: expected an address that begins with http"),
        (("--run", "no-such-command"), "there is no such command; no shell is used"),
        (("--webhook-header", "a: b"), "--webhook-header: expected --webhook beside it"),
        (("--webhook", "http://localhost", "--webhook-header", "token"), "expected 'NAME: VALUE'"),
        (("--webhook", "http://localhost", "--webhook-header", "a: ${NO_SUCH}"), "NO_SUCH is not set"),
    ],
)
def test_receivers_are_checked_before_anything_is_watched(
    monkeypatch: pytest.MonkeyPatch,
    given: list[dict[str, object]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert run(monkeypatch, "Anyone?", "--camera", str(tmp_path), *arguments) == 1
    assert words in capsys.readouterr().err and given == []
