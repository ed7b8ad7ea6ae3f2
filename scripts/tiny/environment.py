"""Runs a script in a virtual environment of the checkout where the Python that started it lacks what it needs."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKERS = {".venv": "scripts/run", ".venv-test": "scripts/test quick"}


def enter(module: str, venv: str = ".venv") -> None:
    """Starts the running script again under an environment of the checkout, unless `module` is to be had here.

    venv: the one that scripts/run made, or `.venv-test`, which scripts/test makes.
    Raises: SystemExit where there is no such environment, or it lacks the module too.
    """
    if importlib.util.find_spec(module) is not None:
        return
    python = ROOT / venv / "bin" / "python"
    if Path(sys.prefix) == ROOT / venv or not python.exists():
        raise SystemExit(f"{module} is not installed for {sys.executable}; run {MAKERS[venv]} once, then this again")
    os.execv(python, [str(python), *sys.argv])
