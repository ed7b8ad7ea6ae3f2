"""The licence of a voice's weights, read from the files beside them, and what its name allows.

A voice's own data decides, not its program's licence: of the voices of one project, some are public domain and some may
not be used for money.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.bundle.voice_spec import LicenseSpec, Use

_FILES: Final = ("MODEL_CARD", "MODEL_CARD.md", "README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING")
_MAX_BYTES: Final = 1 << 20
_SHOWN: Final = 200
_STATED: Final = re.compile(r"^[\s*#_-]*licen[cs]e[\s*_]*:[\s*_]*(\S[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_ADDRESS: Final = re.compile(r"^[\s*_-]*url[\s*_]*:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_TUNED: Final = re.compile(r"^[^\n]*fine-?\s?tuned from[^\n]*$", re.IGNORECASE | re.MULTILINE)
_NOT_FOR_MONEY: Final = re.compile(r"\bnc\b|non-?\s?commercial|blizzard|research (only|use|purposes)", re.IGNORECASE)
_FREE: Final = re.compile(
    r"\bcc-?\s?0\b|\bcc[- ]by\b|\bcreative commons (zero|attribution)|public domain|\bapache\b|\bmit\b|\bbsd\b|"
    r"\bl?gpl\b|\bmpl\b|\bisc\b|unlicense",
    re.IGNORECASE,
)
_TITLES: Final = (("Apache License", "Apache-2.0"), ("MIT License", "MIT"), ("CC0 1.0 Universal", "CC0-1.0"))


def read_license(folder: Path) -> tuple[LicenseSpec, tuple[str, ...], tuple[Path, ...]]:
    """Return the licence that the files of a folder state, notes for people, and the files that were read.

    A file that is no text, or larger than 1 MiB, states nothing.
    """
    notes: list[str] = []
    found, files = LicenseSpec("", "unknown"), []
    for path, text in _texts(folder):
        stated = _STATED.search(text)
        name = _cleaned(stated[1]) if stated else _title(text)
        tuned = _TUNED.search(text)
        if tuned:
            notes.append(_cleaned(tuned[0]))
        if name or tuned:
            files.append(path)
        if name and not found.name:
            address = _ADDRESS.search(text)
            found = LicenseSpec(name, use_of(name), path.name, _cleaned(address[1]) if address else "")
    return found, tuple(dict.fromkeys(notes)), tuple(files)


def use_of(name: str) -> Use:
    """Return what a licence allows by its name; "unknown" for one that is not known here."""
    if _NOT_FOR_MONEY.search(name):
        return "non-commercial"
    return "any" if _FREE.search(name) else "unknown"


def warning(spec: LicenseSpec, notes: tuple[str, ...]) -> list[str]:
    """Return what to know of a licence before the voice is used, a sentence each; none where it is plain."""
    where = f" ({spec.credit})" if spec.credit else ""
    told = []
    if not spec.name:
        told.append(f"nothing says under which licence its weights are{where}: ask its maker before you pass it on")
    elif spec.use == "non-commercial":
        told.append(f"its licence, {spec.name}, allows no commercial use{where}")
    elif spec.use == "unknown":
        told.append(f"read its licence, {spec.name!r}, before you use it{where}")
    if any(_TUNED.search(note) for note in notes):
        told.append("it was trained from another voice: the terms of that one's data may hold for it as well")
    return told


def _texts(folder: Path) -> Iterator[tuple[Path, str]]:
    for name in _FILES:
        path = folder / name
        try:
            if path.is_file() and path.stat().st_size <= _MAX_BYTES:
                yield path, path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue


def _title(text: str) -> str:
    """Return the name of a licence whose text this is, "" for another text."""
    head = text[:_SHOWN]
    return next((name for title, name in _TITLES if title in head), "")


def _cleaned(text: str) -> str:
    """Return one line of words, without Markdown's marks and control characters."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return " ".join("".join(c if c.isprintable() else " " for c in plain).strip(" *_-`'\"").split())[:_SHOWN]
