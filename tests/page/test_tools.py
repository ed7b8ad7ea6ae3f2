"""What checks the page's JavaScript: its pins, and what it does where node is missing."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.server import page

ROOT = Path(page.__file__).parents[3]
TOOLS = ROOT / "scripts" / "javascript"
CHECK = TOOLS / "check"
SCRIPT = (ROOT / "scripts" / "test").read_text("utf-8")


@pytest.fixture
def without_node(tmp_path: Path) -> dict[str, str]:
    """An environment whose only programs are those that the script needs before it looks for node."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    return {**os.environ, "PATH": str(tmp_path), "CI": ""}


def checked(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["bash", str(CHECK)], env=environment, capture_output=True, text=True)


def test_every_tool_has_one_exact_version() -> None:
    pins = json.loads((TOOLS / "package.json").read_text("utf-8"))["devDependencies"]
    assert pins.keys() == {"@biomejs/biome", "typescript"}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pins.values())


def test_the_whole_check_includes_it() -> None:
    assert "scripts/javascript/check" in SCRIPT.splitlines()


def test_without_node_it_is_left_out_and_says_so(without_node: dict[str, str]) -> None:
    done = checked(without_node)
    assert done.returncode == 0
    assert "needs node and npm" in done.stderr and "apt install nodejs npm" in done.stderr


def test_without_node_it_fails_where_nothing_may_be_left_out(without_node: dict[str, str]) -> None:
    done = checked({**without_node, "CI": "true"})
    assert done.returncode == 1
    assert "needs node and npm" in done.stderr


def test_every_script_of_the_page_is_type_checked() -> None:
    options = json.loads((TOOLS / "tsconfig.json").read_text("utf-8"))
    assert options["compilerOptions"]["strict"] is options["compilerOptions"]["checkJs"] is True
    found = {path.resolve() for pattern in options["include"] for path in TOOLS.glob(pattern)}
    scripts = set((ROOT / "edge").rglob("*.js"))
    assert scripts and scripts <= found
    escapes = r"@ts-(ignore|nocheck|expect-error)|@\w+ \{[^\n}]*\bany\b|biome-ignore-all"
    assert not {path.name for path in scripts if re.search(escapes, path.read_text("utf-8"))}
