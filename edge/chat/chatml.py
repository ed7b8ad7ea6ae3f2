"""ChatML, the prompt of SmolLM2 and many others: each turn between two control tokens, its role on the first line.

<|im_start|>user
Who are you?<|im_end|>
<|im_start|>assistant
"""

from collections.abc import Sequence

from edge.bundle.manifest import Manifest
from edge.chat.turns import Tool, Turn, late_system, system_texts, texts_of
from edge.engine.pieces import Control, Piece, Text
from edge.errors import UnsupportedError

START, END = "<|im_start|>", "<|im_end|>"


def lay_out_chatml(turns: Sequence[Turn], manifest: Manifest, tools: Sequence[Tool]) -> list[Piece]:
    """Lay out a conversation; a last turn of the assistant's is left open to be continued.

    Without a system turn, the bundle's own system message comes first, if it has one.
    Raises: UnsupportedError for tools, MediaError, ParameterError for a system turn that is not the first.
    """
    prompt = manifest.prompt
    if tools or any(turn.calls or turn.results for turn in turns):
        raise UnsupportedError(f"tools: {manifest.id} does not support tool calls; expected no tools, calls or results")
    is_system = bool(turns) and turns[0].role == "system"
    said = [("system", " ".join(system_texts(turns[0])))] if is_system else []
    if not is_system and prompt.system is not None:
        said = [("system", prompt.system)]
    for turn in turns[1:] if is_system else turns:
        if turn.role == "system":
            raise late_system()
        said.append((turn.role, " ".join(texts_of(turn.parts, model=manifest.id))))
    start, end = prompt.control[START], prompt.control[END]
    is_open = bool(said) and said[-1][0] == "assistant"
    pieces: list[Piece] = []
    for role, text in said:
        pieces += [Control((start,)), Text(f"{role}\n{text}"), Control((end,)), Text("\n")]
    if is_open:
        pieces = pieces[:-2]
    else:
        pieces += [Control((start,)), Text("assistant\n")]
    return [Control((*prompt.start_ids, start)), *pieces[1:]]
