"""`edge chat` in a pseudo-terminal with stand-in devices, and in pipes to the byte."""

import io
import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.edge.commands.terminals import FAKE, RUN, Terminal
from tests.edge.devices.test_microphone import audio, wav

COUNTS = (
    "engine = FakeEngine.opened[0]\n"
    "for prompt, _ in engine.asked:\n"
    "    text = ''.join(p.text for p in prompt if hasattr(p, 'text'))\n"
    "    print('ASKED', text.count('human:'), sum(hasattr(p, 'rgb') for p in prompt), text.count('system:'))\n"
)
ACCEPTS_AUDIO = "store.speech_model = lambda _: 'speech'\n"
RECORD = (
    "from edge.commands import asking\n"
    "def ask(self, messages):\n"
    "    kinds = [[part['type'] for part in m['content']] for m in messages if m['role'] == 'user']\n"
    "    print('ASKED', kinds, flush=True)\n"
    "    return 'answer', True\n"
    f"asking.Asker.ask = ask\n{ACCEPTS_AUDIO}"
)


def program(*arguments: str, before: str = "", after: str = "") -> str:
    return f"{FAKE}{before}sys.argv = ['edge', 'chat', *{list(arguments)!r}]\n{RUN}{after}sys.exit(status)\n"


def asked(terminal: Terminal) -> list[str]:
    return [line.removeprefix("ASKED ") for line in terminal.shown().splitlines() if line.startswith("ASKED")]


def test_a_conversation_keeps_and_forgets(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "a b.png")
    file = tmp_path / "saved.json"
    with Terminal(program(after=COUNTS)) as terminal:
        terminal.enter("/help", "/system be brief", "How many?", f"/image {tmp_path}/a b.png", "And here?")
        terminal.enter(f"/save {file}", "/clear", "And now?", f"/load {file}", "/system", "Again?", "/quit")
        assert terminal.end() == 0
        assert "/load FILE       go on with a conversation from a file" in terminal.shown()
        assert terminal.says(f"4 messages are in {file}")
        assert terminal.shown().count("Three red circles.") == 4
        assert asked(terminal) == ["1 0 1", "2 1 1", "1 0 1", "3 1 0"]


def test_a_conversation_begins_with_the_model_and_what_it_accepts() -> None:
    with Terminal(program()) as terminal:
        terminal.enter("/quit")
        assert terminal.end() == 0
        assert terminal.says("m accepts text, images, videos, PDFs")
    with Terminal(program(before=ACCEPTS_AUDIO)) as terminal:
        terminal.enter("/quit")
        assert terminal.end() == 0
        assert terminal.says("m accepts text, images, videos, PDFs, audio")


def test_mistakes_are_said_and_the_conversation_goes_on(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("something")
    with Terminal(program()) as terminal:
        terminal.enter("/image nowhere.png", "/image", "/nonsense", "/load nowhere", f"/load {tmp_path}/text")
        terminal.enter(f"/save {tmp_path}/text", "/load", "/audio", "/quit")
        assert terminal.end() == 0
        for words in (
            "'nowhere.png': no such file", "/image: expected a file", "/nonsense: no such command; /help lists them",
            "nowhere: No such file", "not a saved conversation: not JSON", "exists and is not a saved conversation",
            "/load: expected a file", "/audio: expected a file",
        ):  # fmt: skip
            assert terminal.says(words)
        assert (tmp_path / "text").read_text() == "something"


def test_media_that_cannot_be_taken_are_not_sent_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with Terminal(program(after=COUNTS)) as terminal:
        terminal.enter(f"/image {tmp_path}/a.png", "What?", "And now?", "/quit")
        assert terminal.end() == 0
        assert terminal.says("expected JPEG, PNG, WebP, GIF or BMP")
        assert asked(terminal) == ["1 0 0"]


def test_control_c_stops_the_answer_and_not_the_program() -> None:
    wait = (
        "import threading\nopen_engine = FakeEngine.open\n"
        "def waiting(path, **_):\n"
        "    engine = open_engine(path)\n"
        "    engine.n_free = 2\n    engine.gate = threading.Event()\n"
        "    return engine\n"
        "FakeEngine.open = waiting\n"
    )
    after = "engine = FakeEngine.opened[0]\nprint('CANCELLED', len(engine.cancelled), len(engine.asked))\n"
    with Terminal(program(before=wait, after=after)) as terminal:
        terminal.enter("How many?")
        terminal.expect("Three red")
        terminal.send("\x03")
        terminal.expect("edge: stopped")
        terminal.enter("Go on")
        terminal.expect("Three red", times=2)
        terminal.send("\x03")
        terminal.prompt()
        terminal.send("half a line")
        terminal.expect("> half a line")
        terminal.send("\x03")
        terminal.expect("/quit or Ctrl-D ends")
        terminal.prompt()
        terminal.send("\x04")
        assert terminal.end() == 0
        assert "CANCELLED 2 2" in terminal.shown()
        assert "Traceback" not in terminal.shown()


def test_markdown_is_drawn_and_several_lines_are_one_message() -> None:
    words = "engine_words = ('# Shapes', '\\n\\n', '**three** ', 'circles\\n\\n', '- red\\n', '- blue')\n"
    before = (
        f"{words}init = FakeEngine.__init__\n"
        "FakeEngine.__init__ = lambda self, spec: init(self, spec, words=engine_words)\n"
    )
    after = "print('TEXT', [p.text for p in FakeEngine.opened[0].asked[0][0] if hasattr(p, 'text')])\n"
    with Terminal(program(before=before, after=after)) as terminal:
        terminal.prompt()
        terminal.send('"""first\nsecond"""\n')
        terminal.expect("• blue")
        terminal.enter("/quit")
        assert terminal.end() == 0
        assert "three circles" in terminal.shown() and "**" not in terminal.shown()
        assert "human: first\\nsecond" in terminal.shown()


READING = (
    "from edge.engine.handle import Reading; from tests.edge.asking import eventually\n"
    "answer = FakeEngine._answer\n"
    "def read(self, handle, *arguments):\n"
    "    for reading in (Reading('image', 1, 1, 3, 5), Reading('tokens', 0, 0, 1200, 3400)):\n"
    "        handle.report(reading)\n"
    "        eventually(lambda: handle._reading is None)\n"
    "    answer(self, handle, *arguments)\n"
    "FakeEngine._answer = read\n"
)


def test_a_bar_shows_how_far_the_question_is_read_and_is_gone_with_the_answer() -> None:
    with Terminal(program("How many?", before=READING)) as terminal:
        assert terminal.end() == 0
        drawn = terminal.output.decode()
        assert drawn.index("image 1, tile 3 of 5") < drawn.index("reading 1 200 of 3 400 tokens") < drawn.index("Three")
        assert "tile" not in terminal.shown() and "tokens" not in terminal.shown() and "Three red" in terminal.shown()


@pytest.mark.parametrize("term", ["dumb", "xterm-256color"])
def test_without_a_terminal_there_is_no_bar(term: str) -> None:
    environment = {**os.environ, "TERM": term}
    code = program("How many?", before=READING)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, input=b"", env=environment, timeout=120)
    assert run.returncode == 0 and run.stdout == b"Three red circles.\n" and run.stderr == b""


def test_detail_and_max_tiles_are_the_requests(tmp_path: Path) -> None:
    Image.new("RGB", (400, 400), "red").save(tmp_path / "a.png")
    after = "print([p.n_tokens for p in FakeEngine.opened[0].asked[0][0] if hasattr(p, 'rgb')])\n"
    for arguments, n_tokens in (((), 20), (("--detail", "low"), 4), (("--max-tiles", "3"), 12)):
        code = program("How many?", "--image", str(tmp_path / "a.png"), *arguments, after=after)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, input=b"", timeout=120)
        assert run.stdout.splitlines()[-1] == f"[{n_tokens}]".encode(), run.stderr
    for wrong in (("--detail", "fine"), ("--max-tiles", "0")):
        run = subprocess.run([sys.executable, "-c", program("x", *wrong)], capture_output=True, input=b"", timeout=120)
        assert run.returncode == 2 and wrong[0].encode() in run.stderr


def test_each_question_sees_the_cameras_newest_frame(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with Terminal(program("--camera", str(tmp_path), after=COUNTS)) as terminal:
        terminal.enter("What do you see?", "And now?", "/quit")
        assert terminal.end() == 0
        assert asked(terminal) == ["1 1 0", "2 1 0"]


def test_a_broken_image_of_the_camera_is_named_and_passed_by(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    Image.new("RGB", (40, 30)).save(tmp_path / "b.png")
    done = piped(b"", "What do you see?", "--camera", str(tmp_path), after=f"sys.stdout = sys.stderr\n{COUNTS}")
    assert (done.returncode, done.stdout) == (0, b"Three red circles.\n")
    said = done.stderr.decode().splitlines()
    assert said[0].startswith(f"edge: {tmp_path}/a.png: image: expected JPEG") and said[0].endswith("it is passed by")
    assert said[1:] == ["ASKED 1 1 0"]


def test_what_is_spoken_is_asked_and_a_file_ends(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(audio((0.5, 0), (1.0, 0.3), (1.5, 0), (1.0, 0.3), (1.5, 0))))
    with Terminal(program("--mic-source", str(tmp_path / "a.wav"), before=RECORD)) as terminal:
        assert terminal.end() == 0
        assert terminal.shown().count("listening") == 3
        assert asked(terminal) == ["[['audio']]", "[['audio'], ['audio']]"]


def test_control_c_while_listening_lets_the_question_be_typed(tmp_path: Path) -> None:
    silent = (
        "import edge.devices.microphone as here, time\nhere.Microphone.listen = lambda self, **_: time.sleep(600)\n"
    )
    with Terminal(program("--mic", before=silent + RECORD)) as terminal:
        terminal.expect("listening")
        terminal.send("\x03")
        terminal.enter("Typed")
        terminal.expect("ASKED [['text']]")
        terminal.send("\x03")
        terminal.enter("/quit")
        assert terminal.end() == 0


def test_without_a_microphone_the_conversation_goes_on() -> None:
    before = f"{ACCEPTS_AUDIO}sys.modules['sounddevice'] = None\n"
    with Terminal(program("--mic", before=before)) as terminal:
        terminal.expect("edge: continuing without a microphone")
        terminal.enter("How many?", "/quit")
        assert terminal.end() == 0


def piped(data: bytes, *arguments: str, before: str = "", after: str = "") -> subprocess.CompletedProcess[bytes]:
    code = program(*arguments, before=before, after=after)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, env=environment, check=False)


def test_json_is_exact_to_the_byte_whatever_the_locale() -> None:
    words = "('caf\\u00e9 ', '\\u2028', '\\u2603 ', 'a\\x1b[2J\\n')"
    before = f"init = FakeEngine.__init__\nFakeEngine.__init__ = lambda self, spec: init(self, spec, words={words})\n"
    done = piped(b"", "What?", "--json", "--stats", before=before)
    assert (done.returncode, done.stderr) == (0, b"")
    response = json.loads(done.stdout.decode("utf-8"))
    assert response["responses"][0]["message"]["content"] == "caf\u00e9 \u2028\u2603 a\x1b[2J\n"
    assert done.stdout == (json.dumps(response, indent=1) + "\n").encode()


def test_an_answer_in_a_pipe_is_its_text_and_a_line_end() -> None:
    done = piped("un café\n".encode(), "Summarise:", after=f"sys.stdout = sys.stderr\n{COUNTS}")
    assert (done.returncode, done.stdout) == (0, b"Three red circles.\n")


def test_a_image_may_be_piped_in() -> None:
    data = io.BytesIO()
    Image.new("RGB", (4, 3)).save(data, "PNG")
    done = piped(data.getvalue(), "What is it?", after=COUNTS)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == b"ASKED 1 1 0"


def test_noise_piped_in_is_refused() -> None:
    done = piped(b"\xfe\xfd\xfc" * 99, "What is it?", before="sys.stdin.reconfigure(encoding='utf-8')\n")
    assert done.returncode == 1
    assert done.stderr.startswith(b"edge: standard input: expected text, or an image")


@pytest.mark.parametrize("arguments", [("--json",), ("--camera", "nowhere.mp4", "x"), ("--mic", "x")])
def test_what_cannot_be_done_is_an_error_of_one_line(arguments: tuple[str, ...]) -> None:
    done = piped(b"", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(b"edge: ") and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("arguments", [("x",), ("x", "--json"), ("--help",)])
def test_a_full_disk_is_an_error_of_one_line(arguments: tuple[str, ...]) -> None:
    done = written_to("/dev/full", *arguments)
    assert (done.returncode, done.stderr) == (1, b"edge: standard output: No space left on device\n")


def test_a_reader_that_leaves_is_no_news() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = written_to(writer, "x")
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_answer_that_nobody_wants_goes_nowhere() -> None:
    code = f"import os; os.close(1); os.execv(sys.executable, [sys.executable, '-c', {program('x')!r}])"
    done = subprocess.run([sys.executable, "-c", f"import sys; {code}"], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def written_to(file: str | int, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", program(*arguments)]
    with open(file, "wb") as out:  # noqa: PTH123
        return subprocess.run(command, input=b"", stdout=out, stderr=subprocess.PIPE, check=False)


def test_what_is_said_into_a_pipe_is_asked_hands_free() -> None:
    data = wav(audio((0.5, 0), (1.0, 0.3), (1.5, 0)))
    done = piped(data, "--microphone", "-", before=RECORD)
    assert done.returncode == 0
    assert done.stdout == b"ASKED [['audio']]\n"


def test_a_saved_conversation_holds_its_media(tmp_path: Path) -> None:
    from edge.commands.asking import named, user
    from edge.commands.transcript import load, save
    from edge.media.fetch import read_url
    from edge.media.image import open_image

    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    samples = audio((0.1, 0.3))
    parts = [named("image", str(tmp_path / "a.png")), {"type": "image", "image": rgb}]
    said = [
        user("What?", [*parts, {"type": "audio", "audio": (samples, 16_000)}]),
        {"role": "assistant", "content": "é"},
    ]
    save(tmp_path / "c.json", said, model="m")
    save(tmp_path / "c.json", said, model="m")  # its own file may be replaced
    (tmp_path / "a.png").unlink()
    assert (tmp_path / "c.json").stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]
    loaded = load(tmp_path / "c.json")
    content = loaded[0]["content"]
    assert isinstance(content, list) and loaded[1] == said[1]
    urls = [part.get("image_url") or part.get("audio_url") for part in content[:3]]
    for url in urls[:2]:
        assert np.array_equal(open_image(read_url(url, files=False), max_px=100), rgb)
    with wave.open(io.BytesIO(read_url(urls[2], files=False))) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, len(samples))


def test_a_conversation_names_no_files(tmp_path: Path) -> None:
    from edge.commands.transcript import load
    from edge.errors import ParameterError

    part = {"type": "image_url", "image_url": "file:///etc/hostname"}
    for content, words in ((part, "expected a data: URL"), ({"type": "x"}, "expected exactly one of")):
        document = {"format": "edge-conversation-1", "model": "m", "messages": [{"role": "user", "content": [content]}]}
        (tmp_path / "c.json").write_text(json.dumps(document))
        with pytest.raises(ParameterError, match=words):
            load(tmp_path / "c.json")
