"""Everything a person reads uses the field's words: help, documents, messages, the page and docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import typer.main
from typer.testing import CliRunner

from edge.cli import app as edge_app
from edge.commands import doctor
from edge.commands.checkup import Check
from export.cli import app as export_app
from export.commands.compare import app as compare_app

ROOT = Path(__file__).parents[1]
TERMS = (
    r"films?",
    r"papers?",
    r"ears",
    r"embeds",
    r"strangers?",
    r"likeliest",
    r"companions?",
    r"set\s+apart",
    r"at\s+hand",
    r"(?:bring|brings|brought)\s+along",
    r"held\s+to\s+a\s+schema",
    r"looks?\s+over",
    r"a\s+page\s+of\s+its\s+own",
)
FORBIDDEN = re.compile(rf"\b(?:{'|'.join(TERMS)})\b", re.IGNORECASE)
# Names of tensors, files and parameters are not prose. Borders of rich's boxes are not words.
NAMES = re.compile(r"`embeds`|\bembeds:|[│╭╮╰╯─]+")
FOLDERS = ("docs", "examples", "models")
WIDE = {"COLUMNS": "400", "TERMINAL_WIDTH": "400"}
Source = Iterator[tuple[str, str]]  # where, text


def prose(text: str) -> str:
    return NAMES.sub(" ", text)


def helps() -> Source:
    """The help of every command of both programs, hidden ones aside."""
    for name, app in (("edge", edge_app), ("edge-export", export_app), ("edge-export compare", compare_app)):
        for words in commands(typer.main.get_command(app), ()):
            yield " ".join((name, *words)), CliRunner().invoke(app, [*words, "--help"], prog_name=name, env=WIDE).output


def commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from commands(child, (*words, name))


def documents() -> Source:
    """Every Markdown document but those of docs/history, which tell how things were."""
    for path in [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]:
        where = path.relative_to(ROOT)
        if "history" not in where.parts:
            yield str(where), path.read_text("utf-8")


def page() -> Source:
    """The page whole: what it shows, and the names and comments of its scripts."""
    for path in (ROOT / "edge" / "server" / "page").rglob("*"):
        if path.suffix in (".html", ".js", ".css", ".svg"):
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def strings() -> Source:
    """Every string of the packages and examples that may be shown: messages wherever they are built, and docstrings."""
    for folder in ("edge", "export", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            for line, text in literals(path.read_text("utf-8")):
                yield f"{path.relative_to(ROOT)}:{line}", text


def literals(code: str) -> Iterator[tuple[int, str]]:
    """The strings of a module that hold more than one word: a single one is a key, a tensor or a file."""
    tree = ast.parse(code)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        if re.search(r"\s", text.strip()):
            yield node.lineno, text


def found(source: Source) -> list[str]:
    return [f"{where}: {hit.group()}" for where, text in source for hit in FORBIDDEN.finditer(prose(text))]


@pytest.mark.parametrize("source", [helps, documents, page, strings])
def test_no_forbidden_term_is_shown_to_a_person(source: Callable[[], Source]) -> None:
    texts = list(source())
    assert len(texts) > 5 and all(text.strip() for _, text in texts if text)
    assert not found(iter(texts))


def test_every_command_of_both_programs_is_looked_at() -> None:
    names = {where for where, _ in helps()}
    assert {
        "edge",
        "edge serve",
        "edge chat",
        "edge models speech",
        "edge models alias set",
        "edge-export",
        "edge-export compare",
    } <= names
    assert all("--help" in text for _, text in helps())


@pytest.mark.parametrize(
    "text",
    [
        "A film.", "Papers (`pdf_url`)", "a bundle without ears", "gives embeds", "Strangers' data", "the likeliest",
        "its companion", "set\napart", "always at hand", "brings along", "held to a schema", "Looks over this machine",
        "a page of its own",
    ],
)  # fmt: skip
def test_each_forbidden_term_is_found_where_it_is_put_back(text: str) -> None:
    assert found(iter([("here", text)]))
    assert found(("here", literal) for _, literal in literals(f"raise ValueError(f'''no: {{x}} {text}''')"))


@pytest.mark.parametrize("text", ["takes `embeds` (B, S, H)", "embeds: (n, H) float32", "years", "wallpaper", "apart"])
def test_names_of_tensors_and_longer_words_are_no_forbidden_terms(text: str) -> None:
    assert not found(iter([("here", text)]))


def test_a_failed_check_of_the_doctor_reads_fail() -> None:
    assert doctor.line(Check("memory", "too little", good=False)).startswith("FAIL")
    assert doctor.line(Check("memory", "enough")).startswith("ok  ")
