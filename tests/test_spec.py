"""Docstrings cite the specification: every section that they name is there, and the limits are the code's."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from edge.limits import AudioLimits, Limits

ROOT = Path(__file__).parents[1]
SPEC = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "docs" / "spec").glob("*.md"))}
SOURCES = [path for package in ("edge", "export", "tests", "scripts") for path in (ROOT / package).rglob("*.py")]
CITED = re.compile(r"\b(model-family|chat-interface|onnxruntime|limits)\.md(?:, (\d)(?:\.(\d))?)?")


def sections(text: str) -> set[str]:
    """The numbers of a document's sections, and of what a list in it numbers."""
    return set(re.findall(r"^#{2,3} (\d(?:\.\d)?)\.? ", text, re.MULTILINE)) | set(
        re.findall(r"^(\d+)\. ", text, re.MULTILINE)
    )


def test_there_is_a_specification() -> None:
    assert SPEC.keys() == {"chat-interface.md", "limits.md", "model-family.md", "onnxruntime.md"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_cited_is_there(path: Path) -> None:
    for name, number, below in CITED.findall(path.read_text("utf-8")):
        if number:
            wanted = f"{number}.{below}" if below else number
            assert wanted in sections(SPEC[f"{name}.md"]), f"{name}.md has no section {wanted}"


def test_something_is_cited() -> None:
    found = {name for path in SOURCES for name, *_ in CITED.findall(path.read_text("utf-8"))}
    assert found == {"chat-interface", "limits", "model-family", "onnxruntime"}


def test_every_limit_is_in_the_table() -> None:
    names = {field.name for field in fields(Limits)} - {"audio"} | {
        f"audio_{field.name}" for field in fields(AudioLimits)
    }
    assert names <= set(re.findall(r"`(\w+)`", SPEC["limits.md"]))
