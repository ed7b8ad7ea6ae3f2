"""The command line: answers on stdout, everything else on stderr, and an error is one line and a status."""

import hashlib
import io
import json
import mmap
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from edge import cli, models
from edge.bundle import store
from edge.bundle.manifest import MANIFEST, FileEntry, dump_manifest
from edge.bundle.store import Stored
from edge.commands import checkup, measuring
from edge.engine import probe
from edge.engine.boards import board, rates_of
from edge.engine.pieces import Control, Media, Text
from edge.errors import NonFiniteError
from edge.version import RUNTIME_VERSION
from tests.edge.fake_engine import FakeEngine, manifest

Run = Callable[..., tuple[int, str, str]]
FILES = {
    "decoder.onnx": b"\x12\x03dec",  # a graph of a producer's name and nothing else
    "decoder.bin": bytes(5000),
    "embedding.bin": bytes(32 * 8 * 4),
    "vision.onnx": b"\x12\x03vis",
    "vision.bin": bytes(100),
    "tokenizer.json": b"{}",
}


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FakeEngine]:
    FakeEngine.opened = []
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(models, "Engine", FakeEngine)
    monkeypatch.setattr(store, "_PACKAGE", tmp_path / "package")
    write_bundle(tmp_path / "package/_embedded/reka-edge-tiny", "reka-edge-tiny")
    return FakeEngine.opened


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edge", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        done = capsys.readouterr()
        return int(caught.value.code or 0), done.out, done.err

    return call


def write_bundle(path: Path, bundle_id: str) -> Path:
    import dataclasses

    path.mkdir(parents=True)
    for name, data in FILES.items():
        (path / name).write_bytes(data)
    files = {name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in FILES.items()}
    spec = dataclasses.replace(manifest(bundle_id, "reka-edge"), files=files)
    (path / MANIFEST).write_bytes(dump_manifest(spec))
    return path


def prompt_of(engine: FakeEngine) -> str:
    return "".join(piece.text for piece in engine.asked[-1][0] if isinstance(piece, Text))


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['edge', '--help']\n"
        "from edge.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "doctor" in done.stdout
    loaded = done.stdout.splitlines()[-1].split()
    assert not {"onnxruntime", "numpy", "PIL", "pydantic", "tokenizers"}.intersection(loaded)


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"{RUNTIME_VERSION}\n", "")


def test_a_question_is_answered_on_stdout(run: Run, opened: list[FakeEngine]) -> None:
    assert run("chat", "How many?") == (0, "Three red circles.\n", "")
    assert prompt_of(opened[0]) == "human: How many?assistant:"


def test_options_reach_the_engine(run: Run, opened: list[FakeEngine]) -> None:
    run("chat", "How many?", "--system", "be brief", "--max-tokens", "9", "--temperature", "0", "--seed", "7")
    options = opened[0].asked[0][1]
    assert (options.max_tokens, options.temperature, options.seed, options.top_p) == (9, 0, 7, 0.95)
    assert prompt_of(opened[0]).startswith("system: be brief")


def test_images_stand_before_the_question(run: Run, opened: list[FakeEngine], tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a:b.png", "c d.png")]
    for name in names:
        Image.new("RGB", (4, 3)).save(name)
    assert run("chat", "What?", "--image", names[0], "--image", names[1])[0] == 0
    prompt = opened[0].asked[0][0]
    assert [type(piece) for piece in prompt if not isinstance(piece, Control)] == [Text, Media, Media, Text, Text]
    assert prompt[-3] == Text("What?")


def test_what_is_piped_in_follows_the_question(run: Run, opened: list[FakeEngine]) -> None:
    run("chat", "Summarise:", stdin="a long text\n")
    assert prompt_of(opened[0]) == "human: Summarise:\n\na long textassistant:"


def test_what_is_piped_in_alone_is_the_question(run: Run, opened: list[FakeEngine]) -> None:
    assert run("chat", stdin="How many?\n")[1] == "Three red circles.\n"


def test_nothing_to_ask_is_an_error(run: Run) -> None:
    status, out, err = run("chat")
    assert (status, out) == (1, "")
    assert err.startswith("edge: no question")


def test_json_is_the_whole_response(run: Run) -> None:
    status, out, _ = run("chat", "How many?", "--json")
    response = json.loads(out)
    assert status == 0
    assert response["model"] == "reka-edge-tiny"
    assert response["responses"][0]["message"]["content"] == "Three red circles."


def test_stats_go_to_stderr(run: Run) -> None:
    status, out, err = run("chat", "How many?", "--stats")
    assert (status, out) == (0, "Three red circles.\n")
    assert err.startswith("3 tokens in, 4 out; first after 0.")


def test_a_cut_answer_is_said_on_stderr(run: Run) -> None:
    assert run("chat", "How many?", "--max-tokens", "2") == (
        0,
        "Three red\n",
        "edge: the answer is cut: --max-tokens is reached\n",
    )


def test_control_characters_do_not_reach_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(manifest(), words=("a\x1b[2J\x07\tb\n",))
    monkeypatch.setattr(FakeEngine, "open", lambda path, **_: engine)
    assert run("chat", "x")[1] == "a[2J\tb\n\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("chat", "x", "--model", "reka-core"), "edge: model 'reka-core' is not installed"),
        (("chat", "x", "--model", "./nowhere"), "not a bundle"),
        (("chat", "x", "--image", "nowhere.png"), "messages.0.content.0.image_url: 'nowhere.png': cannot be read"),
        (("chat", "x", "--max-tokens", "0"), "edge: max_tokens: expected an integer >= 1, got 0"),
        (("chat", "x", "--temperature", "nan"), "edge: temperature: expected a number >= 0, got nan"),
        (("models", "info", "reka-core"), "edge: model 'reka-core' is not installed"),
        (("models", "install", "nowhere"), "not a bundle"),
        (("models", "remove", "reka-edge-tiny"), "edge: reka-edge-tiny cannot be removed"),
        (("models", "default", "reka-core"), "edge: model 'reka-core' is not installed"),
    ],
)
def test_an_error_is_one_line_on_stderr(run: Run, arguments: tuple[str, ...], words: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert words in err
    assert err.startswith("edge: ")
    assert err.count("\n") == 1


def test_an_error_while_answering_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = FakeEngine(manifest("reka-edge-tiny"), error=NonFiniteError("token 2 of the answer"))
    monkeypatch.setattr(FakeEngine, "open", lambda path, **_: broken)
    status, _, err = run("chat", "x")
    assert (status, err) == (1, "edge: the model produced a value that is not finite at token 2 of the answer\n")


def test_a_wrong_option_is_a_usage_error(run: Run) -> None:
    assert run("chat", "x", "--max-tokens", "many")[0] == 2
    assert run("nonsense")[0] == 2


def test_models_are_installed_listed_verified_and_removed(run: Run, tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "out", "my-model")
    status, out, _ = run("models", "install", str(made))
    assert (status, out) == (0, f"my-model is installed in {tmp_path}/models/my-model\n")
    assert [line.split()[0] for line in run("models", "list")[1].splitlines()] == ["ID", "my-model", "reka-edge-tiny"]
    assert run("models", "verify", "my-model")[1] == "my-model: 6 files, 6136 bytes, all as the manifest says\n"
    assert run("models", "default")[1] == "my-model\n"
    assert run("models", "default", "reka-edge-tiny")[1] == "reka-edge-tiny is the default\n"
    assert run("models", "default")[1] == "reka-edge-tiny\n"
    assert "(default)" in run("models", "list")[1].splitlines()[1]
    assert run("models", "remove", "my-model")[1] == "my-model is removed\n"
    assert [entry["id"] for entry in json.loads(run("models", "list", "--json")[1])] == ["reka-edge-tiny"]


def test_info_shows_what_a_bundle_is(run: Run) -> None:
    described = json.loads(run("models", "info", "reka-edge", "--json")[1])
    assert (described["id"], described["recipe"], described["takes"]) == ("reka-edge-tiny", "fp32", ["text", "images"])
    assert "architecture:          Yasa2ForConditionalGeneration" in run("models", "info", "reka-edge")[1]


def test_a_damaged_bundle_fails_verification(run: Run, tmp_path: Path) -> None:
    made = write_bundle(tmp_path / "out", "my-model")
    (made / "decoder.bin").write_bytes(b"\x01" * 5000)
    status, out, err = run("models", "verify", str(made))
    assert (status, out) == (1, "")
    assert err == f"edge: {made}/decoder.bin: its sha256 is not the manifest's: the file is damaged or was replaced\n"


def test_a_foreign_graph_fails_verification(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "decoder.onnx", b"\xca\x01\x00")
    made = write_bundle(tmp_path / "out", "my-model")
    assert run("models", "verify", str(made)) == (1, "", f"edge: {made}/decoder.onnx: functions: expected none\n")
    status, _, err = run("models", "install", str(made))
    assert (status, err) == (1, f"edge: {made}/decoder.onnx: functions: expected none\n")


def test_a_bundle_whose_folder_has_another_name_is_refused_with_the_way_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[str | None] = []
    monkeypatch.setattr("edge.server.server.serve", lambda settings, **_: served.append(settings.model) or sys.exit(0))
    monkeypatch.setattr("faulthandler.enable", lambda: None)
    monkeypatch.setattr("edge.server.logs.log_to_stderr", lambda: None)
    write_bundle(tmp_path / "models/copied", "reka-edge-2603")
    said = "edge: copied cannot be used: .*expected the folder's name: rename the folder to reka-edge-2603\n"
    status, _, err = run("serve")
    assert (status, served) == (1, [])
    assert re.fullmatch(f"{said}edge: copied is the only bundle that was installed: .*\n", err)
    status, _, err = run("chat", "Hi")
    assert status == 0 and re.match(said, err)
    assert run("serve", "--model", str(tmp_path / "models/copied"))[2] == ""
    write_bundle(tmp_path / "models/right", "right")
    assert re.fullmatch(said, run("serve")[2])
    assert served == [str(tmp_path / "models/copied"), None]


def test_a_broken_bundle_is_listed_on_stderr(run: Run, tmp_path: Path) -> None:
    (tmp_path / "models/half").mkdir(parents=True)
    status, _, err = run("models", "list")
    assert status == 0
    assert err.startswith("edge: half cannot be used: ")


def test_doctor_names_what_is_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_probe", lambda library: checkup.Check("import", f"{library} loads"))
    monkeypatch.setattr(probe, "measure", lambda: rates_of(board("pi5-8gb")))
    monkeypatch.setattr(checkup, "_answers", lambda stored, rates: [checkup.Check("answer", "none", good=False)])
    status, out, _ = run("doctor")
    assert status == 1
    assert "ok   bundle:      reka-edge-tiny: 6136 bytes verified" in out
    assert "FAIL answer:      none" in out


def test_ctrl_c_while_a_library_is_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    def broken() -> None:
        raise ImportError("libonnxruntime.so: cannot open shared object file")

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(ImportError, match="cannot open"):
        cli.main()


def test_doctor_measures_no_speed_where_it_has_to_be_quick(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_probe", lambda library: checkup.Check("import", f"{library} loads"))
    monkeypatch.setattr(probe, "measure", lambda: pytest.fail("speed is measured"))
    monkeypatch.setattr(checkup, "_answers", lambda stored, rates: [checkup.Check("answer", f"rates: {rates}")])
    status, out, _ = run("doctor", "--quick")
    assert status == 0
    assert "ok   answer:      rates: None" in out


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ("armv7l", "armhf: a 32-bit Python: not supported"),
        ("aarch64", "armhf: a 32-bit Python, on a 64-bit kernel: not supported"),
        ("i686", "i686: a 32-bit Python: not supported"),
    ],
)
def test_doctor_refuses_a_system_of_32_bits(
    run: Run, monkeypatch: pytest.MonkeyPatch, machine: str, words: str
) -> None:
    monkeypatch.setattr(checkup.sys, "maxsize", (1 << 31) - 1)
    monkeypatch.setattr(checkup.platform, "machine", lambda: machine)
    status, out, _ = run("doctor")
    assert status == 1
    assert f"FAIL machine:     {words}, onnxruntime has none; install a 64-bit system (arm64, amd64)\n" in out
    assert out.count("\n") == 2


def test_the_probe_tells_a_signal_from_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkup._probe("json").good
    assert checkup._probe("no_such_library").found == "no_such_library fails to load"
    ended = subprocess.CompletedProcess([], -4)
    monkeypatch.setattr(checkup.subprocess, "run", lambda *_, **__: ended)
    assert checkup._probe("onnxruntime").found == "onnxruntime ends with signal 4: not built for this CPU"


def test_memory_counts_anonymous_and_mapped_apart() -> None:
    held = measuring.memory()
    assert isinstance(held["anonymous_bytes"], int)
    assert held["anonymous_bytes"] > 1 << 20
    block = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # none of the heap's, which is reused
    block.write(b"x" * len(block))
    grown = measuring.memory()
    assert isinstance(grown["anonymous_bytes"], int)
    assert grown["anonymous_bytes"] - held["anonymous_bytes"] > len(block) // 2


def test_a_conversation_in_a_terminal(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (4, 3)).save(image)
    script = (
        "import sys; from pathlib import Path; from edge import cli, models; from edge.bundle import store\n"
        "from edge.bundle.store import Stored; from tests.edge.fake_engine import FakeEngine, manifest\n"
        "FakeEngine.opened = []; models.Engine = FakeEngine\n"
        "store.bundles = lambda *_: [Stored(Path('m'), manifest('m'), True)]\n"
        "sys.argv = ['edge', 'chat']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "prompts = [prompt for prompt, _ in FakeEngine.opened[0].asked]\n"
        "print([sum(p.text.count('human:') for p in prompt if hasattr(p, 'text')) for prompt in prompts])\n"
        "print([sum(hasattr(p, 'rgb') for p in prompt) for prompt in prompts])\n"
    )
    lines = ["How many?", "And now?", "/clear", "/image nowhere", f"/image {image}", "/what", "Look", "/quit"]
    shown = typed(script, lines)
    assert "'nowhere': no such file" in shown
    assert "/what: no such command; /help lists them" in shown
    assert shown.count("Three red circles.") == 3
    assert "[1, 2, 1]" in shown
    assert "[0, 0, 1]" in shown


def typed(script: str, lines: list[str]) -> str:
    """Run a script in a terminal, type the lines one by one at its prompt, and return what it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(sys.executable, [sys.executable, "-c", script], {**os.environ, "TERM": "dumb"})
    shown, waiting = b"", list(lines)
    deadline_s = time.monotonic() + 120
    n_seen = 0
    while time.monotonic() < deadline_s:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
        if waiting and shown.count(b"> ") > n_seen and shown.endswith(b"> "):
            n_seen = shown.count(b"> ")
            os.write(terminal, waiting.pop(0).encode() + b"\n")
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0, shown.decode()
    return shown.decode()


def test_stored_bundles_have_names() -> None:
    assert Stored(Path("m"), manifest("m", "a"), False).names == ("m", "a")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    code = "import sys; sys.argv[0] = 'edge'; from edge.cli import main; main()"
    command = [sys.executable, "-c", code, "--show-completion", shell]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "_EDGE_COMPLETE=complete_" + shell in shown.stdout
    asked = {**os.environ, "_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": "edge mod", "COMP_CWORD": "1"}
    offered = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=asked, timeout=60)
    assert offered.stdout.split() == ["models"]
