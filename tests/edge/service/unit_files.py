"""Unit files read as systemd reads them, by code that shares nothing with what writes them: an oracle."""

import re

# systemd.syntax(7): what follows a backslash.
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'",
          "s": " "}  # fmt: skip
_SPECIFIERS = {"%": "%"}  # no other one is written on purpose


def settings(text: str) -> dict[str, dict[str, list[str]]]:
    """Return every value of every setting of every section; comments and empty lines are nothing."""
    sections: dict[str, dict[str, list[str]]] = {}
    name = ""
    for line in re.split(r"[\n\r]", text):
        if not line or line[0] in "#;":
            continue
        assert not line.endswith("\\"), f"a line goes on in the next one: {line}"
        if line.startswith("["):
            assert line.endswith("]")
            name = line[1:-1]
            continue
        key, is_setting, value = line.partition("=")
        assert is_setting, f"no setting: {line}"
        sections.setdefault(name, {}).setdefault(key, []).append(value.strip(" \t"))
    return sections


def words(value: str) -> list[str]:
    """Return the words of a command line, or of variables: quotes and escapes undone, specifiers put in."""
    found: list[str] = []
    word: list[bytes] | None = None
    quote = ""
    at = 0
    while at < len(value):
        c = value[at]
        at += 1
        assert quote or word is not None or not re.match(r"\\?;(?:\s|$)", value[at - 1 :]), f"two commands: {value}"
        if c == "\\":
            said, at = _escape(value, at)
            word = [*(word or []), said]
        elif quote:
            if c == quote:
                quote = ""
            else:
                word = [*(word or []), c.encode()]
        elif c in "\"'":
            quote, word = c, word or []
        elif c in " \t":
            if word is not None:
                found.append(_specified(word))
            word = None
        else:
            word = [*(word or []), c.encode()]
    assert not quote, f"a quote is not closed: {value}"
    if word is not None:
        found.append(_specified(word))
    return found


def command(value: str) -> list[str]:
    """Return the arguments of ExecStart=, whose colon leaves every $ as it is."""
    assert value.startswith((":/", ':"/')), value
    return words(value[1:])


def environment(text: str) -> dict[str, str]:
    """Return the variables of an EnvironmentFile=, as systemd.exec(5) reads one: in double quotes."""
    found = {}
    for line in text.splitlines():
        if line and line[0] not in "#;":
            name, _, value = line.partition("=")
            assert value[0] == value[-1] == '"' and len(value) > 1
            found[name] = re.sub(r'\\([\\"`$])', r"\1", value[1:-1])
            assert re.fullmatch(r'(?:[^\\"]|\\[\\"`$])*', value[1:-1]), f"ends within: {value}"
    return found


def _escape(value: str, at: int) -> tuple[bytes, int]:
    c = value[at]
    if c in _NAMED:
        return _NAMED[c].encode(), at + 1
    assert c == "x", f"no escape: {value[at - 1 : at + 3]}"
    return bytes([int(value[at + 1 : at + 3], 16)]), at + 3


def _specified(parts: list[bytes]) -> str:
    text = b"".join(parts).decode()
    return re.sub(r"%(.)", lambda found: _SPECIFIERS[found[1]], text, flags=re.DOTALL)
