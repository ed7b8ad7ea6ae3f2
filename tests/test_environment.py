"""How the scripts find Python: by version, on the path and where pyenv and uv keep theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def bash(code: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs code after environment.sh, with a path that has no Python and an empty home."""
    tools = home / "tools"
    tools.mkdir()
    (tools / "bash").symlink_to("/bin/bash")
    environment = {"PATH": str(tools), "HOME": str(home), **variables}
    return subprocess.run(
        ["/bin/bash", "-c", f'set -euo pipefail; . "{ROOT}/scripts/environment.sh"; {code}'],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("PYENV_ROOT", f"versions/{VERSION}.7/bin/python"),
        ("UV_PYTHON_INSTALL_DIR", f"cpython-{VERSION}.7-linux-x86_64-gnu/bin/python3"),
    ],
)
def test_a_python_beside_the_path_is_found(tmp_path: Path, variable: str, place: str) -> None:
    kept = tmp_path / "kept"
    python = kept / place
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    done = bash(f"find_python_of {VERSION}", tmp_path, **{variable: str(kept)})
    assert (done.returncode, done.stdout.strip()) == (0, str(python))


def test_a_python_of_another_version_is_not_used(tmp_path: Path) -> None:
    python = tmp_path / "versions" / "3.1.7" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    done = bash("find_python_of 3.1", tmp_path, PYENV_ROOT=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")


def test_versions_that_are_not_installed_are_named_and_skipped(tmp_path: Path) -> None:
    done = bash(f'test_pythons "{tmp_path}"', tmp_path)
    assert done.returncode == 0
    for version in ("3.11", "3.12", "3.13"):
        assert f"Python {version}: not installed here, so nothing is tested on it" in done.stderr


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 1)])
def test_tests_that_fail_on_one_python_fail_the_run(tmp_path: Path, status: int, expected: int) -> None:
    """Every version runs, with the arguments; the run fails where one of them does."""
    binaries = tmp_path / ".venv-test" / "bin"
    binaries.mkdir(parents=True)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "environment.sh").write_text("test_venv() { :; }\n")
    (binaries / "python").write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    (binaries / "pytest").write_text(f'#!/bin/bash\necho "pytest $*"\nexit {status}\n')
    for binary in binaries.iterdir():
        binary.chmod(0o755)
    code = f'find_python_of() {{ [ "$1" = {VERSION} ] && echo python; }}; test_pythons "{tmp_path}" tests/x.py'
    done = bash(code, tmp_path)
    assert (done.returncode, done.stdout) == (expected, "pytest -m not slow tests/x.py\n"), done.stderr
    assert (f"The quick tests fail on Python {VERSION}." in done.stderr) == bool(expected)


def test_without_espeak_it_is_said_that_the_tests_that_speak_are_skipped(tmp_path: Path) -> None:
    done = bash("espeak", tmp_path)
    assert done.returncode == 0
    assert "espeak-ng is not installed: the tests that speak are skipped" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="installing packages is root's")
def test_espeak_is_installed_where_it_is_missing(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    code = """apt-get() { echo "apt-get $*"; }; espeak"""
    done = bash(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "apt-get -qq install -y espeak-ng" in done.stderr
    (tools / "espeak-ng").write_text("#!/bin/bash\n")
    (tools / "espeak-ng").chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", "-c", f'. "{ROOT}/scripts/environment.sh"; {code}'],
        capture_output=True, text=True, check=False, env={"PATH": str(tools)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_environment_of_scripts_run_has_what_edge_serve_needs(tmp_path: Path) -> None:
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("pip", "python"):
        (programs / name).write_text(f'#!/bin/bash\necho "{name} $*"\n')
        (programs / name).chmod(0o755)
    done = bash(f'state_of() {{ echo new; }}; rm() {{ :; }}; cat() {{ :; }}; runtime_venv "{tmp_path}"', tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        f"python -m pip install --disable-pip-version-check --quiet --prefer-binary {tmp_path}[server]" in done.stderr
    )
