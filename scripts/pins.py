"""Moves the pinned development tools to the newest releases that satisfy each other, as pip and npm find them.

Python tools are pinned in pyproject.toml ([project.optional-dependencies].dev), JavaScript tools in
scripts/javascript/package.json, and the JavaScript clients that tests use in tests/conformance/javascript, with a lock
file of everything that they need. A pinned tool that the project depends on as well stays within that range. torch,
transformers and optimum-onnx stay as they are unless --move names them: their versions decide what an export writes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
JAVASCRIPT = ("scripts/javascript", "tests/conformance/javascript")
STAYING = frozenset({"torch", "transformers", "optimum-onnx"})

Pins = dict[str, str]
# A client's command in a folder, and what it prints. Raises: ClientError.
Client = Callable[[list[str], Path], str]


class ClientError(Exception):
    """pip or npm is missing or fails; the message holds its last lines."""


def run(command: list[str], folder: Path) -> str:
    """Return what a client prints to stdout. Raises: ClientError."""
    if shutil.which(command[0]) is None:
        raise ClientError(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise ClientError(f"{Path(command[0]).name} fails with status {done.returncode}:\n{said}")
    return done.stdout


def normal(name: str) -> str:
    """A package's name as Python's packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def python_pins(text: str) -> Pins:
    """The exact pins of the development extra in pyproject.toml's text, name to version."""
    dev = tomllib.loads(text)["project"]["optional-dependencies"]["dev"]
    pinned = (re.fullmatch(r"([\w.-]+)==([\w.!+-]+)(?: *;.*)?", requirement) for requirement in dev)
    return {found[1]: found[2] for found in pinned if found}


def requirements(text: str, staying: frozenset[str]) -> list[str]:
    """What pip resolves: the project's own ranges, pins that stay, and the names alone of those that may move."""
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    ranges = [*project["dependencies"], *(row for name, rows in extras.items() if name != "dev" for row in rows)]
    pins = python_pins(text)
    return [*ranges, *(f"{name}=={version}" if name in staying else name for name, version in pins.items())]


def oldest_python(text: str) -> str:
    """The oldest supported Python as major.minor: what it can install, the newer ones can as well."""
    found = re.search(r">=\s*(\d+\.\d+)", tomllib.loads(text)["project"]["requires-python"])
    if found is None:
        raise ClientError("pyproject.toml: requires-python has no lower bound of the form >=3.11")
    return found[1]


def newest_python(text: str, staying: frozenset[str], client: Client) -> Pins:
    """The pins of pyproject.toml's text at the newest releases that satisfy each other. Raises: ClientError."""
    with tempfile.TemporaryDirectory() as folder:
        # Nothing is installed: pip resolves for the oldest supported Python, whichever one runs this.
        options = ["--dry-run", "--quiet", "--disable-pip-version-check", "--report", "-", "--only-binary=:all:"]
        options += ["--python-version", oldest_python(text), "--target", str(Path(folder) / "nowhere")]
        command = [sys.executable, "-m", "pip", "install", *options, *requirements(text, staying)]
        report = json.loads(client(command, Path(folder)))
    resolved = {normal(row["metadata"]["name"]): row["metadata"]["version"] for row in report["install"]}
    # A local version such as +cpu names a build, and another machine has another one.
    pins = {name: resolved[normal(name)].partition("+")[0] for name in python_pins(text)}
    return {name: version if name not in staying else python_pins(text)[name] for name, version in pins.items()}


def newest_javascript(text: str, client: Client) -> Pins:
    """The pins of package.json's text at the newest releases that npm installs together. Raises: ClientError."""
    names = json.loads(text)["devDependencies"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "package.json").write_text('{"private": true}\n', "utf-8")
        options = ["--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        wanted = [f"{name}@latest" for name in names]
        client(["npm", "install", *options, "--save-dev", "--save-exact", *wanted], Path(folder))
        return {**json.loads((Path(folder) / "package.json").read_text("utf-8"))["devDependencies"]}


def lock_of(text: str, client: Client) -> str:
    """The lock file of package.json's text, which names no registry. Raises: ClientError."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "package.json").write_text(text, "utf-8")
        options = ["--package-lock-only", "--omit-lockfile-registry-resolved", "--ignore-scripts"]
        client(["npm", "install", *options, "--no-audit", "--no-fund", "--loglevel=error"], Path(folder))
        return (Path(folder) / "package-lock.json").read_text("utf-8")


def moved(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def update(root: Path, *, staying: frozenset[str], check: bool, client: Client) -> list[str]:
    """Move the pins in all files and return a line for each that moves; with check, leave the files as they are.

    All are resolved before any is written. Raises: ClientError.
    """
    python = root / "pyproject.toml"
    python_text, lines = python.read_text("utf-8"), []
    for name, (old, new) in moved(python_pins(python_text), newest_python(python_text, staying, client)).items():
        python_text = re.sub(rf'"{re.escape(f"{name}=={old}")}(?=["; ])', f'"{name}=={new}', python_text)
        lines.append(f"{name} {old} -> {new}")
    texts = {python: python_text}
    for folder in JAVASCRIPT:
        changed, said = moved_javascript(root / folder, client)
        texts |= changed
        lines += said
    if not check:
        for path, text in texts.items():
            path.write_text(text, "utf-8")
    return lines


def moved_javascript(folder: Path, client: Client) -> tuple[dict[Path, str], list[str]]:
    """The files of a folder whose pins move, and a line for each pin that does. Raises: ClientError."""
    path, lock, lines = folder / "package.json", folder / "package-lock.json", []
    text = path.read_text("utf-8")
    pins: Pins = json.loads(text)["devDependencies"]
    for name, (old, new) in moved(pins, newest_javascript(text, client)).items():
        text = text.replace(f'"{name}": "{old}"', f'"{name}": "{new}"')
        lines.append(f"{name} {old} -> {new}")
    if not lines:
        return {}, []
    return {path: text, **({lock: lock_of(text, client)} if lock.exists() else {})}, lines


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/update-pins", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where a pin would move")
    parser.add_argument(
        "--move", action="append", default=[], choices=sorted(STAYING), help="move this one too; may be repeated"
    )
    arguments = parser.parse_args()
    try:
        lines = update(ROOT, staying=STAYING - set(arguments.move), check=arguments.check, client=run)
    except ClientError as error:
        raise SystemExit(f"scripts/update-pins: {error}\nNo pin is changed.") from None
    print("\n".join(lines) or "Every pin is at the newest release that satisfies the others.")
    if lines and not arguments.check:
        print("Run scripts/test before these are committed.", file=sys.stderr)
    raise SystemExit(1 if lines and arguments.check else 0)


if __name__ == "__main__":
    main()
