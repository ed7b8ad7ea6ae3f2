"""What is typed and pasted into `edge chat`, in a pseudo-terminal: every message arrives as it was meant, and whole."""

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.commands.keyboard import Keyboard
from edge.errors import ParameterError
from tests.edge.commands.terminals import FAKE, RUN, Terminal

BEGIN, END = "\x1b[200~", "\x1b[201~"  # a terminal's marks around what is pasted
SAY = (
    "import json\nfrom edge.commands import asking\n"
    "def ask(self, messages):\n"
    "    text = ''.join(p['text'] for p in messages[-1]['content'] if p['type'] == 'text')\n"
    "    print(f'ASKED {len(text)}', flush=True)\n"
    "    with open(file, 'a') as out: out.write(json.dumps(text) + '\\n')\n"
    "    return 'answer', True\n"
    "asking.Asker.ask = ask\n"
)


class Chat(Terminal):
    """`edge chat` whose questions are kept in a file."""

    def __init__(self, folder: Path, *, before: str = "", term: str = "xterm-256color") -> None:
        self.file = folder / "asked"
        code = f"file = {str(self.file)!r}\n{FAKE}{SAY}{before}sys.argv = ['edge', 'chat']\n{RUN}sys.exit(status)\n"
        super().__init__(code, term=term)

    def write(self, keys: str) -> None:
        """Send keys of any number; what the program shows is read meanwhile."""
        data = keys.encode()
        while data:
            sent = os.write(self.descriptor, data[:1024])
            data = data[sent:]
            self.drain()

    def asked(self) -> list[str]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []


def said(folder: Path, *keys: str, term: str = "xterm-256color") -> list[str]:
    """What is asked when keys are sent at one prompt after the other, and /quit then."""
    with Chat(folder, term=term) as chat:
        for some in keys:
            chat.prompt()
            n_before = chat.shown().count("ASKED")
            chat.write(some)
            chat.expect("ASKED", times=n_before + 1)
            chat.answered()
        chat.enter("/quit")
        assert chat.end() == 0
        return chat.asked()


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_three_lines_that_are_pasted_are_one_message(tmp_path: Path, term: str) -> None:
    assert said(tmp_path, "one\ntwo\nthree\n", "four\n", term=term) == ["one\ntwo\nthree", "four"]


def test_what_is_pasted_without_a_line_end_waits_for_one(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        chat.prompt()
        chat.write("one\ntwo\nthr")
        chat.expect("... thr")
        assert chat.asked() == []
        chat.write("ee\n")
        chat.expect("ASKED")
        chat.answered()
        chat.enter("/quit")
        assert chat.end() == 0
        assert chat.asked() == ["one\ntwo\nthree"]


def test_marked_lines_are_one_message_that_can_still_be_edited(tmp_path: Path) -> None:
    assert said(tmp_path, f"{BEGIN}one\rtwo\nthree\n{END} and\x7f\x7f\x7f4\n") == ["one\ntwo\nthree\n 4"]


@pytest.mark.parametrize(("begin", "end"), [(BEGIN, f"{END}\n"), ("", "\n")], ids=["marked", "plain"])
def test_tabs_indentation_and_empty_lines_stay(tmp_path: Path, begin: str, end: str) -> None:
    code = "  def f(x):\n\treturn x\n\n\n\tx\ty"
    assert said(tmp_path, f"{begin}{code}{end}") == [code]


def test_control_characters_are_left_out(tmp_path: Path) -> None:
    assert said(tmp_path, f"{BEGIN}a\x07b\x08c\x1b[31md\x01\x15e{END}\n") == ["abc[31mde"]


@pytest.mark.parametrize("n_lines", [1, 60])
def test_what_is_longer_than_a_terminals_own_line_is_whole(tmp_path: Path, n_lines: int) -> None:
    text = "\n".join(f"{i} " + "x" * (9000 // n_lines) for i in range(n_lines))
    assert said(tmp_path, f"{BEGIN}{text}{END}\n") == [text]


def test_a_long_line_without_marks_is_whole(tmp_path: Path) -> None:
    assert said(tmp_path, "x" * 9000 + "\n") == ["x" * 9000]


def test_alt_enter_begins_another_line(tmp_path: Path) -> None:
    assert said(tmp_path, "one\x1b\rtwo\n") == ["one\ntwo"]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ('"""one\ntwo"""\n', "one\ntwo"),
        ('"""one"""\n', "one"),
        ('"""\n  one\n"""\n', "  one"),
        ('"""A module."""\nimport os\n', '"""A module."""\nimport os'),
        ("/usr/bin/x: failed\n/quit\n", "/usr/bin/x: failed\n/quit"),
    ],
)
def test_quotes_and_slashes_of_what_is_pasted(tmp_path: Path, keys: str, text: str) -> None:
    assert said(tmp_path, keys) == [text]


def test_quotes_may_be_typed_line_by_line(tmp_path: Path) -> None:
    with Chat(tmp_path) as chat:
        chat.prompt()
        chat.write('"""one\n')
        chat.expect("...")
        chat.write("two\n")
        chat.expect("...", times=2)
        chat.write('"""\n')
        chat.expect("ASKED")
        chat.answered()
        chat.enter("/quit")
        assert chat.end() == 0
        assert chat.asked() == ["one\ntwo"]


def test_commands_in_front_of_what_is_pasted_are_obeyed(tmp_path: Path) -> None:
    assert said(tmp_path, "/clear\n/system be brief\none\ntwo\n") == ["one\ntwo"]


@pytest.mark.parametrize("read", [b"caf\xe9".decode, lambda: b"caf\xe9".decode("utf-8", "surrogateescape")])
def test_what_is_not_utf_8_is_refused(read: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "input", lambda *_: read())
    with pytest.raises(ParameterError, match="expected UTF-8"):
        Keyboard([]).read()


def test_a_line_that_the_terminal_cuts_is_not_sent(tmp_path: Path) -> None:
    with Chat(tmp_path, before="sys.modules['readline'] = None\n") as chat:
        chat.prompt()
        chat.write("x" * 5000 + "\n")
        chat.expect("a terminal cuts lines at 4095 bytes")
        chat.answered()
        chat.enter("/quit")
        assert chat.end() == 0
        assert chat.asked() == []


def test_the_terminal_is_given_back_as_it_was(tmp_path: Path) -> None:
    code = "import sys, termios\nbefore = termios.tcgetattr(0)\n"
    after = "print('SAME', termios.tcgetattr(0) == before)\n"
    with Terminal(f"{code}{FAKE}sys.argv = ['edge', 'chat']\n{RUN}{after}sys.exit(status)\n") as terminal:
        terminal.enter("How many?", "/quit")
        assert terminal.end() == 0
        assert "SAME True" in terminal.shown()


def test_lines_that_are_piped_in_are_one_message(tmp_path: Path) -> None:
    file = tmp_path / "asked"
    code = f"file = {str(file)!r}\n{FAKE}{SAY}sys.argv = ['edge', 'chat']\n{RUN}sys.exit(status)\n"
    done = subprocess.run([sys.executable, "-c", code], input=b"one\n\ttwo\nthree", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [json.loads(line) for line in file.read_text().splitlines()] == ["one\n\ttwo\nthree"]
