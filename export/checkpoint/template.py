"""Chat templates, read and never run: taken apart, brought into one spelling, and compared with those that are known.

A template is Jinja. Its tags and strings can be spelled in many ways that mean the same; `steps` spells them in one:
what is said (strings, joined) and what is done in between.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MAX_CHARS: Final = 1 << 16

_OPENING = re.compile(r"\{[{%#]")
# What is inside of a string ends no tag. The alternatives exclude one another, so that no text makes this run away.
_INSIDE = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^'"])*?"""
_TAGS = {
    "{{": re.compile(r"\{\{[-+]?(" + _INSIDE + r")[-+]?\}\}", re.DOTALL),
    "{%": re.compile(r"\{%[-+]?(" + _INSIDE + r")[-+]?%\}", re.DOTALL),
    "{#": re.compile(r"\{#(.*?)#\}", re.DOTALL),
}
_WORD = re.compile(r"""\s*(?:('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|([A-Za-z_]\w*|\d+|[=!<>]=|[^\s'"]))""", re.DOTALL)
_MARKS = ("generation", "endgeneration")  # say which tokens are the assistant's, and nothing else
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}


class NotRead(ValueError):
    """A template that is spelled in no way that is known here."""


@dataclass(frozen=True)
class Text:
    """A string that is said as it is."""

    text: str


@dataclass(frozen=True)
class Code:
    """A statement, or (is_said) a value that is said; words: its source, in one spelling."""

    words: tuple[str, ...]
    is_said: bool = False

    def __str__(self) -> str:
        return " ".join(self.words)


Step = Text | Code


def steps(template: str) -> tuple[Step, ...]:
    """A template as what it says and does, in one spelling, with white space as transformers has it trimmed.

    `message.role` and `message["role"]` are the same, as are 'a' + 'b' and 'ab', {{ 'a' }} and a plain a.
    Raises: NotRead.
    """
    if len(template) > MAX_CHARS:
        raise NotRead(f"expected at most {MAX_CHARS} characters, got {len(template)}")
    found: list[Step] = []
    for step in _raw(template):
        last = found[-1] if found else None
        if isinstance(step, Text) and isinstance(last, Text):
            found[-1] = Text(last.text + step.text)
        elif step != Text(""):
            found.append(step)
    return tuple(found)


def strings(template: str) -> str:
    """Everything a template could say of itself: its plain text and its strings, one after another."""
    try:
        said = [step.text if isinstance(step, Text) else _strings(step) for step in steps(template)]
    except NotRead:
        return template
    return "".join(said)


def _strings(code: Code) -> str:
    return "".join(word[1:] for word in code.words if word.startswith('"'))


def _raw(template: str) -> Iterator[Step]:
    """The steps in order, strings not joined yet."""
    source = template.replace("\r\n", "\n").removesuffix("\n")  # Jinja drops a last newline
    place, before = 0, ""
    while opening := _OPENING.search(source, place):
        tag = _TAGS[opening[0]].match(source, opening.start())
        if tag is None:
            raise NotRead(f"the tag at {opening.start()} does not end")
        yield Text(_trimmed(source[place : tag.start()], before, tag[0]))
        if opening[0] == "{{":
            yield from _said(_words(tag[1]))
        elif opening[0] == "{%" and tag[1].strip() not in _MARKS:
            yield Code(_words(tag[1]))
        place, before = tag.end(), tag[0]
    yield Text(_trimmed(source[place:], before, ""))


def _trimmed(text: str, before: str, after: str) -> str:
    """The text between two tags (none: "") without the white space that trim_blocks and lstrip_blocks take away."""
    if after[2:3] == "-":
        text = text.rstrip()
    elif after and after[2:3] != "+" and not after.startswith("{{"):
        begun = text.rpartition("\n")[2]  # of the tag's line
        is_line = not begun.strip() and ("\n" in text or not before)
        text = text[: len(text) - len(begun)] if is_line else text
    if before[-3:-2] == "-":
        text = text.lstrip()
    elif before and before[-3:-2] != "+" and not before.endswith("}}"):
        text = text.removeprefix("\n")
    return text


def _words(source: str) -> tuple[str, ...]:
    """The words of a statement or an expression; strings begin with a quotation mark and are not escaped."""
    words: list[str] = []
    place, source = 0, source.strip()
    while place < len(source):
        match = _WORD.match(source, place)
        if match is None:
            raise NotRead(f"{source[place : place + 20]!r}")
        words.append('"' + _unescaped(match[1][1:-1]) if match[1] else match[2])
        place = match.end()
    return tuple(_items(words))


def _unescaped(text: str) -> str:
    def char(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPED:
            raise NotRead(f"the escape {match[0]!r}")
        return _ESCAPED[match[1]]

    return _ESCAPE.sub(char, text)


def _items(words: Sequence[str]) -> Iterator[str]:
    """`a.b` as `a["b"]`."""
    place = 0
    while place < len(words):
        is_item = words[place] == "." and place + 1 < len(words) and words[place + 1].isidentifier()
        is_call = is_item and words[place + 2 : place + 3] == ("(",)
        if is_item and not is_call and place and words[place - 1] not in ("loop", "(", "["):
            yield from ("[", '"' + words[place + 1], "]")
            place += 2
        else:
            yield words[place]
            place += 1


def _said(words: tuple[str, ...]) -> Iterator[Step]:
    """What an expression says, its sum taken apart."""
    depth, part = 0, []
    for word in (*words, "+"):
        depth += (word in "([{") - (word in ")]}")
        if depth or word not in ("+", "~"):
            part.append(word)
            continue
        if len(part) == 1 and part[0].startswith('"'):
            yield Text(part[0][1:])
        elif part:
            yield Code(tuple(part), is_said=True)
        else:
            raise NotRead("a sum without a term")
        part = []
