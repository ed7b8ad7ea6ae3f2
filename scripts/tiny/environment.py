"""Runs a script in the checkout's own virtual environment where the Python that started it lacks what it needs."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parents[2] / ".venv"


def enter(module: str) -> None:
    """Starts the running script again under the environment that scripts/run made, unless `module` is to be had here.

    Raises: SystemExit where there is no such environment, or it lacks the module too.
    """
    if importlib.util.find_spec(module) is not None:
        return
    python = VENV / "bin" / "python"
    if Path(sys.prefix) == VENV or not python.exists():
        raise SystemExit(f"{module} is not installed for {sys.executable}; run scripts/run once, then this again")
    os.execv(python, [str(python), *sys.argv])
