"""Answers on a screen: Markdown as it comes, whole blocks drawn once, nothing a terminal would obey."""

import io
import re
from collections.abc import Iterator

import pyte
import pytest

from edge.commands import screen
from edge.commands.screen import MarkdownScreen, PlainScreen

DOCUMENT = """# Shapes

There are **three** red circles,
and `one` square.

- first
- second

  with more
- third

```python
x = 1

y = 2
```

| what | how many |
|---|---|
| circle | 3 |

1. one
2. two

See [there](https://example.com/a).
"""


class File(io.StringIO):
    """A file that says it is a terminal, and remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text:
            self.writes.append(text)
        return len(text)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "12")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(screen, "_REDRAW_S", 0.0)


def streamed(text: str, step: int) -> File:
    file = File()
    shown = MarkdownScreen(file)
    for end in range(step, len(text) + step, step):
        shown.show(text[:end])
    shown.end()
    return file


def lines(file: File, rows: int = 12) -> list[str]:
    """What a terminal shows, with what scrolled away."""
    found = pyte.HistoryScreen(60, rows, history=500)
    found.set_mode(pyte.modes.LNM)
    pyte.Stream(found).feed("".join(file.writes))
    above = ["".join(line[x].data for x in range(60)).rstrip() for line in found.history.top]
    return [*above, *(line.rstrip() for line in found.display)]


def blocks(found: list[str]) -> Iterator[str]:
    return (line for line in found if line)


@pytest.mark.parametrize("step", [1, 3, 7, 50])
def test_an_answer_that_comes_in_pieces_looks_like_one_that_comes_at_once(step: int) -> None:
    found = list(blocks(lines(streamed(DOCUMENT, step))))
    assert found == list(blocks(lines(streamed(DOCUMENT, len(DOCUMENT)))))
    text = "\n".join(found)
    for part in (
        "Shapes",
        "There are three red circles,\nand one square.",
        "• second",
        "x = 1",
        "what",
        "1 one",
        "See",
    ):
        assert part in text
    assert "**" not in text and "```" not in text
    assert "https://example.com/a" in text


def test_blocks_that_are_whole_are_drawn_once() -> None:
    text = "\n\n".join(f"Paragraph number {i} of this answer." for i in range(30))
    drawn = "".join(streamed(text, 4).writes)
    assert all(drawn.count(f"Paragraph number {i} of this answer.") <= 2 for i in range(30))


def test_a_line_that_did_not_change_is_not_written_again() -> None:
    file = streamed("```\n" + "\n".join(f"line {i:02}" for i in range(9)) + "\n```", 5)
    assert "".join(file.writes).count("line 00") <= 3


def test_every_change_is_one_write_and_nothing_is_cleared() -> None:
    file = streamed(DOCUMENT, 5)
    assert all(text.startswith("\x1b[?2026h") and text.endswith("\x1b[?2026l") for text in file.writes)
    assert not re.search(r"\x1b\[\d*2J|\x1b\[H|\x1bc", "".join(file.writes))


def test_a_block_longer_than_the_screen_is_shown_whole() -> None:
    text = "```\n" + "\n".join(f"line {i:02}" for i in range(40)) + "\n```\n\nThe end."
    found = [line.strip() for line in blocks(lines(streamed(text, 6)))]
    assert found == [*(f"line {i:02}" for i in range(40)), "The end."]


def test_eyes_are_slower_than_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_REDRAW_S", 60.0)
    assert len(streamed(DOCUMENT, 1).writes) <= 2


def test_nothing_that_a_terminal_obeys_gets_through() -> None:
    shown = "".join(streamed("a\x1b]0;title\x07 \x1b[2Jb\x9b\n\nc\x1b[H\n\nd", 1).writes)
    assert "\x07" not in shown and "\x9b" not in shown and "\x1b]" not in shown
    assert not re.search(r"\x1b\[\d*[HJ]", shown.replace("\x1b[J", ""))
    file = File()
    plain = PlainScreen(file)
    plain.show("a\x1b[2J")
    plain.show("a\x1b[2Jb\tc")
    plain.end()
    assert "".join(file.writes) == "a[2Jb\tc\n"


def test_without_colours_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*3\dm", "".join(streamed(DOCUMENT, 9).writes))


def test_a_dumb_terminal_and_a_pipe_get_the_text_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", File())
    assert isinstance(screen.screen(markdown=True), MarkdownScreen)
    assert isinstance(screen.screen(markdown=False), PlainScreen)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(screen.screen(markdown=True), PlainScreen)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(screen.screen(markdown=True), PlainScreen)
