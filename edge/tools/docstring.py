"""What a docstring says of a function and of each parameter: in Google's, NumPy's and reST's form."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_PARAMETERS = frozenset({"args", "arguments", "parameters", "params", "other parameters", "keyword args"})
_SECTIONS = _PARAMETERS | {
    "attributes", "example", "examples", "note", "notes", "raises", "references", "return", "returns", "see also",
    "todo", "usage", "warning", "warnings", "warns", "yield", "yields",
}  # fmt: skip
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*:(?:\s+(.*))?")
_NUMPY = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_REST = re.compile(r"[:@](\w+)(?:\s+([^:]*))?:\s*(.*)")
_REST_PARAMETERS = frozenset({"param", "parameter", "arg", "argument", "key", "keyword"})


@dataclass(frozen=True)
class Documented:
    """A docstring taken apart: what stands before its sections, and what it says of each parameter, in one line."""

    text: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def documented(docstring: str | None) -> Documented:
    """Take a docstring apart; a form that is not known is all text."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    text: list[str] = []
    found: dict[str, str] = {}
    n = 0
    while n < len(lines):
        heading, n_heading = _heading(lines, n)
        if heading:
            end = _end_of_section(lines, n + n_heading)
            if heading in _PARAMETERS:
                found.update(_read(lines[n + n_heading : end], underlined=n_heading == 2))
            n = end
        elif _REST.fullmatch(lines[n]):
            n, more = _read_field(lines, n)
            found.update(more)
        else:
            text.append(lines[n])
            n += 1
    return Documented("\n".join(text).strip(), found)


def _heading(lines: Sequence[str], n: int) -> tuple[str, int]:
    """Return the section that begins in a line, and how many lines its heading has; empty where none does."""
    name = lines[n].strip().lower()
    if n + 1 < len(lines) and re.fullmatch(r"-{3,}", lines[n + 1].strip()) and name in _SECTIONS:
        return name, 2
    if lines[n][:1].strip() and name.endswith(":") and name[:-1] in _SECTIONS:
        return name[:-1], 1
    return "", 0


def _end_of_section(lines: Sequence[str], n: int) -> int:
    """Return where a section ends: at the next one, or, in Google's form, where a line is not indented any more."""
    underlined = n >= 2 and lines[n - 1].strip().startswith("---")
    while n < len(lines):
        if _heading(lines, n)[0] or (not underlined and lines[n][:1].strip()):
            return n
        n += 1
    return n


def _read(lines: Sequence[str], *, underlined: bool) -> dict[str, str]:
    """Return what the lines of a section say of each parameter; a line further in goes on with the one before."""
    margin = min((_indent(line) for line in lines if line.strip()), default=0)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        entry = (_NUMPY if underlined else _GOOGLE).fullmatch(line.strip()) if _indent(line) == margin else None
        if entry is not None and line.strip():
            names = [name.strip().lstrip("*") for name in entry[1].split(",")]
            found.update(dict.fromkeys(names, "" if underlined else (entry[2] or "").strip()))
        else:
            for name in names:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return {name: said for name, said in found.items() if said}


def _read_field(lines: Sequence[str], n: int) -> tuple[int, dict[str, str]]:
    """Return where a field of reST's ends, and what it says of a parameter, if of one."""
    begun = _REST.fullmatch(lines[n])
    kind, names, said = (begun[1], begun[2] or "", [begun[3]]) if begun else ("", "", [])
    n += 1
    while n < len(lines) and lines[n].strip() and lines[n][:1].isspace():
        said.append(lines[n].strip())
        n += 1
    text = " ".join(said).strip()
    is_one = kind in _REST_PARAMETERS and names.split() and text
    return n, {names.split()[-1].lstrip("*"): text} if is_one else {}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
