"""scripts/update-pins, with clients that need no network."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = """[project]
requires-python = ">=3.11,<3.14"
dependencies = ["numpy>=1.26", "opencv-python-headless>=4.10,<4.13"]  # a comment that stays

[project.optional-dependencies]
export = ["torch>=2.6"]
dev = [
    "reka-edge-local[export]",
    "opencv-python-headless==4.12.0.88",
    "reka-api==3.2.0",
    "ruff==0.1.0; platform_machine == 'x86_64'",
    "torch==2.13.0",
]
"""
CLIENTS = '{\n  "private": true,\n  "devDependencies": {\n    "types": "1.9.0"\n  }\n}\n'
PACKAGE = '{\n  "private": true,\n  "devDependencies": {\n    "@x/lint": "1.0.0",\n    "types": "2.0.0"\n  }\n}\n'
AS_IT_WAS = (PYPROJECT, PACKAGE, CLIENTS, "locked")
NEWEST = {"opencv_python_headless": "4.12.0.90", "Reka.API": "3.2.0", "ruff": "0.2.0", "torch": "2.14.0+cpu"}


@pytest.fixture(scope="module")
def pins() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pins", ROOT / "scripts" / "pins.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "scripts" / "javascript").mkdir(parents=True)
    (tmp_path / "scripts" / "javascript" / "package.json").write_text(PACKAGE)
    clients = tmp_path / "tests" / "conformance" / "javascript"
    clients.mkdir(parents=True)
    (clients / "package.json").write_text(CLIENTS)
    (clients / "package-lock.json").write_text("locked")
    return tmp_path


class Registry:
    """A client that answers as pip and npm do, and keeps the commands."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], folder: Path) -> str:
        self.commands.append(command)
        if command[0] == "npm":
            package = folder / "package.json"
            (folder / "package-lock.json").write_text(f"lock of {package.read_text()}")
            if "--save-dev" in command:
                newest = {"@x/lint": "1.1.0", "types": "2.0.0"}
                names = [row.removesuffix("@latest") for row in command if row.endswith("@latest")]
                package.write_text(json.dumps({"devDependencies": {name: newest[name] for name in names}}))
            return ""
        asked = [row for row in command if row.startswith("torch==")]
        torch = {"torch": f"{asked[0].partition('==')[2]}+cpu"} if asked else {}
        rows = [{"metadata": {"name": name, "version": version}} for name, version in ({**NEWEST, **torch}).items()]
        return json.dumps({"install": rows})


def files(project: Path) -> tuple[str, ...]:
    clients = "tests/conformance/javascript"
    names = (
        "pyproject.toml",
        "scripts/javascript/package.json",
        f"{clients}/package.json",
        f"{clients}/package-lock.json",
    )
    return tuple((project / name).read_text() for name in names)


def test_pins_move_to_what_the_clients_resolve(pins: ModuleType, project: Path) -> None:
    lines = pins.update(project, staying=pins.STAYING, check=False, client=Registry())
    assert lines == [
        "opencv-python-headless 4.12.0.88 -> 4.12.0.90",
        "ruff 0.1.0 -> 0.2.0",
        "@x/lint 1.0.0 -> 1.1.0",
        "types 1.9.0 -> 2.0.0",
    ]
    python = PYPROJECT.replace("4.12.0.88", "4.12.0.90").replace("ruff==0.1.0", "ruff==0.2.0")
    clients = CLIENTS.replace("1.9.0", "2.0.0")
    assert files(project) == (python, PACKAGE.replace("1.0.0", "1.1.0"), clients, f"lock of {clients}")
    assert pins.update(project, staying=pins.STAYING, check=False, client=Registry()) == []


def test_a_check_changes_nothing(pins: ModuleType, project: Path) -> None:
    assert pins.update(project, staying=pins.STAYING, check=True, client=Registry())
    assert files(project) == AS_IT_WAS


def test_a_pin_that_stays_moves_when_asked_and_names_no_build(pins: ModuleType, project: Path) -> None:
    lines = pins.update(project, staying=frozenset(), check=False, client=Registry())
    assert "torch 2.13.0 -> 2.14.0" in lines


def test_pip_is_asked_within_the_ranges_and_for_the_oldest_python(pins: ModuleType, project: Path) -> None:
    registry = Registry()
    pins.update(project, staying=pins.STAYING, check=True, client=registry)
    pip, *npms = registry.commands
    assert {"opencv-python-headless>=4.10,<4.13", "torch>=2.6", "torch==2.13.0", "opencv-python-headless"} <= {*pip}
    assert pip[pip.index("--python-version") + 1] == "3.11"
    assert "--dry-run" in pip and "reka-edge-local[export]" not in pip
    assert all("--ignore-scripts" in npm and "--package-lock-only" in npm for npm in npms)
    assert "--omit-lockfile-registry-resolved" in npms[-1]


def test_a_client_that_fails_leaves_all_files(pins: ModuleType, project: Path) -> None:
    def client(command: list[str], folder: Path) -> str:
        if command[0] == "npm":
            return str(pins.run([sys.executable, "-c", "import sys; sys.exit('no network')"], folder))
        return Registry()(command, folder)

    with pytest.raises(pins.ClientError, match="status 1:\nno network"):
        pins.update(project, staying=pins.STAYING, check=False, client=client)
    assert files(project) == AS_IT_WAS


def test_a_client_that_is_missing_is_named(pins: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(pins.ClientError, match="no-such-client is not installed"):
        pins.run(["no-such-client"], tmp_path)


def test_lock_files_pin_what_package_files_say_and_name_no_registry() -> None:
    for path in ROOT.joinpath("tests").rglob("package-lock.json"):
        lock = json.loads(path.read_text("utf-8"))["packages"]
        assert (
            lock.pop("")["devDependencies"] == json.loads((path.parent / "package.json").read_text())["devDependencies"]
        )
        assert lock and all("integrity" in each and "resolved" not in each for each in lock.values())


def test_what_stays_is_pinned_in_the_project(pins: ModuleType) -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert {*pins.STAYING} <= {*pins.python_pins(text)}
    assert pins.oldest_python(text) == "3.11"
