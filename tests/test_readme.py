"""The README is short, and what it says is there: files, links, commands and the ten lines of chat."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import edge.cli
from scripts.tiny.test_set.answers import things

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
FILES = (ROOT / "docs" / "files.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "models" / "README.md"]


def blocks(language: str, text: str = README) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [inside for said, inside in fenced if said == language]


def mapped() -> Iterator[str]:
    """The paths of the file map; an indented line lies in the folder above it."""
    folder = ""
    for line in blocks("", FILES)[0].splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name
        yield folder + name if line.startswith(" ") else name


def commands() -> list[str]:
    """The indented command lines, without their comments."""
    lines = re.findall(r"^ {4}((?:edge|edge-export|scripts/\S+)\b.*)$", README, flags=re.MULTILINE)
    return [line.partition(" #")[0].strip() for line in lines]


def test_readme_is_within_250_lines() -> None:
    assert README.count("\n") <= 250


def test_file_map_names_what_is_there() -> None:
    assert not [path for path in mapped() if not (ROOT / path).exists()]


FOLDERS = sorted(
    str(path.relative_to(ROOT))
    for package in ("edge", "export", "scripts")
    for path in (ROOT / package, *(ROOT / package).rglob("*"))
    if path.is_dir() and not path.name.startswith(("_", "."))
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_file_map_names_every_file(folder: str) -> None:
    skipped = {"py.typed"} | ({"__init__.py"} if folder == "export" else set())
    files = {path.name for path in (ROOT / folder).iterdir() if path.is_file() and path.suffix != ".pyc"} - skipped
    assert {f"{folder}/{name}" for name in files} <= set(mapped())


def test_every_line_of_the_file_map_says_something() -> None:
    assert not [line for line in blocks("", FILES)[0].splitlines() if len(line.split()) < 2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_filled_in(page: Path) -> None:
    rows = [line for line in page.read_text("utf-8").splitlines() if line.startswith("|")]
    heads = {index - 1 for index, row in enumerate(rows) if set(row) <= set("|-: ")}
    cells = [cell.strip() for index, row in enumerate(rows) if index not in heads for cell in row.strip("|").split("|")]
    assert not [cell for cell in cells if not cell or re.fullmatch(r"(?i)\W*(\?+|\.\.\.|n/?a|tbd|xx+)\W*", cell)]


def test_the_two_commands_are_there() -> None:
    assert {"scripts/run", "scripts/test"} <= set(commands())
    assert all(os.access(ROOT / name, os.X_OK) for name in ("scripts/run", "scripts/test", "scripts/bench"))


def test_continuous_integration_runs_scripts_test() -> None:
    assert (ROOT / ".ci" / "run").read_text("utf-8").endswith("\nexec bash scripts/test\n")


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("edge ")])
def test_edge_command_exists(line: str) -> None:
    command = typer.main.get_command(edge.cli.app)
    for word in line.split()[1:]:
        command = getattr(command, "commands", {}).get(word, command)
    is_command = getattr(command, "invoke_without_command", False) or not hasattr(command, "commands")
    assert is_command, f"{line} names no command"
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert set(re.findall(r"--[a-z-]+", line)) <= options


def test_the_scripts_that_are_installed_exist() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert f"def {function}(" in (ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")


def test_the_lines_of_chat_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, *_ = blocks("python")  # the others need a server
    shutil.copy(ROOT / "models" / "sample.png", tmp_path / "frame.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(f"{code}\nclient.close()\n", "README.md", "exec"), {})
    shown = {("red", "circle"): 1, ("blue", "square"): 1, ("green", "triangle"): 1, ("orange", "hexagon"): 1}
    assert things(printed.getvalue()) == shown
