"""Every example, and every snippet of README and docs, passes mypy as strictly as the package does."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "models" / "README.md"]
CALL = re.compile(r"(?:edge\.(?!server)|httpx\.|reka\.)?[A-Z]\w*\(.*\)|edge\.\w+\(.*\)")
PRELUDE = (
    "import edge, httpx, reka, reka.client\n"
    "from edge import AsyncReka, ChatMessage, Reka\n"
    "from edge.limits import Limits, AudioLimits\n"
    'NAME = "0"\n'
)


def snippets() -> Iterator[tuple[str, str]]:
    """Names and texts: of blocks of Python, and of calls in the midst of a sentence."""
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        for n, block in enumerate(blocks):
            yield f"{page.stem}_block_{n}.py", block
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        calls = [call for call in re.findall(r"`([^`\n]+)`", prose) if CALL.fullmatch(call) and "..." not in call]
        calls = [call for call in calls if "…" not in call and is_python(call)]
        if calls:
            yield f"{page.stem}_calls.py", PRELUDE + "".join(f"print({call})\n" for call in dict.fromkeys(calls))


def is_python(call: str) -> bool:
    try:
        compile(call, "call", "eval")
    except SyntaxError:
        return False
    return True


def checked(folder: Path, files: list[Path]) -> str:
    """What mypy says of files, an empty text if nothing."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--cache-dir", str(folder / "cache"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_snippets_and_examples_are_typed(tmp_path: Path) -> None:
    files = sorted((ROOT / "examples").glob("*.py"))
    for name, text in snippets():
        (tmp_path / name).write_text(text, "utf-8")
        files.append(tmp_path / name)
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from edge import ChatMessage, Reka\nReka(files=3.5)\nChatMessage(content=7)\n", "utf-8")
    said = checked(tmp_path, [*files, wrong])
    assert [line.partition(":")[0] for line in said.splitlines() if " error: " in line] == [str(wrong)] * 2, said


def test_there_are_snippets_of_every_kind() -> None:
    names = {name for name, _ in snippets()}
    assert {"README_block_0.py", "README_calls.py", "compatibility_calls.py", "devices_block_1.py"} <= names
    assert 'Reka(files="/srv/pictures")' in dict(snippets())["README_calls.py"]
