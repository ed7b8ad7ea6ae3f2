"""The command line, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from edge import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `edge` with arguments: its status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edge", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        done = capsys.readouterr()
        return int(caught.value.code or 0), done.out, done.err

    return call
