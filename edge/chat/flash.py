"""The prompt of Reka Flash 3: plain text, the separator of its turns included. Source: model-family.md, 7."""

import re
from collections.abc import Sequence

from edge.bundle.manifest import Manifest
from edge.chat.turns import Tool, Turn, late_system, system_texts, texts_of
from edge.errors import UnsupportedError

_REASONING = re.compile(r"<reasoning>.*?(?:</reasoning>|\Z)\s*", re.DOTALL)


def lay_out_flash(turns: Sequence[Turn], manifest: Manifest, tools: Sequence[Tool]) -> str:
    """Lay out a conversation in the format of Reka Flash 3: one string, its separator plain text like all the rest.

    Raises: UnsupportedError for tools, MediaError, ParameterError for a system turn that is not the first.
    """
    if tools or any(turn.calls or turn.results for turn in turns):
        raise UnsupportedError(f"tools: {manifest.id} does not support tool calls; expected no tools, calls or results")
    is_system = bool(turns) and turns[0].role == "system"
    system = " ".join(system_texts(turns[0])) if is_system else ""
    rest = list(turns[1:] if is_system else turns)
    if system and not (rest and rest[0].role == "user"):
        rest.insert(0, Turn("user"))
    said = []
    for i, turn in enumerate(rest):
        if turn.role == "system":
            raise late_system()
        texts = texts_of(turn.parts, model=manifest.id)
        if turn.role == "user":
            said.append("human: " + " ".join([system, *texts] if system and i == 0 else texts))
            continue
        is_open = i == len(rest) - 1
        said.append("assistant: " + (" ".join(texts) if is_open else _REASONING.sub("", " ".join(texts))))
    if not rest or rest[-1].role == "user":
        said.append("assistant:")
    return " <sep> ".join(said)
