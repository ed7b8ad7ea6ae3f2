"""Words and paths as systemd's unit files have them, so that each comes out of the file as it went in."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge.errors import ParameterError

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:=@,+-]+")
_NAMED: Final = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\t": r"\t", "\r": r"\r"}


def command(program: Path, arguments: Sequence[str]) -> str:
    """Return a command line for ExecStart=. Raises: ParameterError for what no unit can hold.

    The colon in front has systemd take every $ as it is, in the program's path as well.
    Source: systemd.service(5), COMMAND LINES.
    """
    return ":" + " ".join(word(each) for each in (str(program), *arguments))


def assignment(name: str, value: str) -> str:
    """Return NAME=VALUE for Environment=. Raises: ParameterError."""
    return word(f"{name}={value}")


def word(text: str) -> str:
    """Return one word: as it is where nothing in it means anything, else in quotes, escaped. Raises: ParameterError.

    Source: systemd.syntax(7), QUOTING; systemd.unit(5), SPECIFIERS.
    """
    _check(text)
    if _PLAIN.fullmatch(text):
        return text
    return f'"{"".join(_escaped(c) for c in text)}"'


def path(found: Path) -> str:
    """Return a path for a setting that takes one, and knows no quotes. Raises: ParameterError."""
    text = str(found)
    _check(text)
    if not text.isprintable() or text != text.strip() or text.endswith("\\"):
        raise ParameterError(f"{text!r:.200}: a unit cannot name this path: rename it", field="path")
    return text.replace("%", "%%")


def secret(value: str) -> str:
    r"""Return a value for a line of an environment file, where \\ escapes and $ and % are themselves.

    value: printable. Source: systemd.exec(5), EnvironmentFile=.
    """
    _check(value)
    if not value.isprintable():
        raise ParameterError("the secret: expected printable characters", field="secret")
    return '"' + re.sub(r'([\\"`$])', r"\\\1", value) + '"'


def unquoted(written: str) -> str:
    """Return what `secret` made of a value."""
    return re.sub(r"\\(.)", r"\1", written[1:-1])


def _check(text: str) -> None:
    """Refuse what is not text: bytes that are not UTF-8, and NUL."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParameterError(f"{text!r:.200}: a unit holds UTF-8 alone", field="argument") from error
    if "\0" in text:
        raise ParameterError(f"{text!r:.200}: an argument has no NUL", field="argument")


def _escaped(c: str) -> str:
    if c in _NAMED:
        return _NAMED[c]
    if c == "%":
        return "%%"
    return f"\\x{ord(c):02x}" if ord(c) < 0x20 or ord(c) == 0x7F else c
