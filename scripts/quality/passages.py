"""Held-out text as windows of token ids: running text and chats, as a JSONL file has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import tokenizers

from edge.chat.messages import Message
from export.texts.read import Text
from export.texts.read import read as read_entries
from scripts.quality.divergence import Ids

WINDOW: Final = 512
Kind = Literal["text", "chat"]


@dataclass(frozen=True)
class Windows:
    """ids: (n, 512) int64; kinds: of each window, text or chat."""

    ids: Ids
    kinds: tuple[Kind, ...]


def read(paths: Sequence[Path], tokenizer_json: Path, *, positions: int) -> Windows:
    """Cut files' passages into windows, each kind strung together; as many as hold `positions`, of both kinds in step.

    paths: JSONL files of passages; a .md or .txt file is one passage.
    Raises: SystemExit where they hold fewer, TextsError.
    """
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_json))
    joined: dict[Kind, list[int]] = {"text": [], "chat": []}
    for kind, passage in (found for path in paths for found in passages(path)):
        joined[kind] += tokenizer.encode(passage, add_special_tokens=False).ids
    cut = {
        kind: [ids[at : at + WINDOW] for at in range(0, len(ids) - WINDOW + 1, WINDOW)] for kind, ids in joined.items()
    }
    n_found, n_wanted = sum(map(len, cut.values())), -(-positions // WINDOW)
    if n_found < n_wanted:
        names = ", ".join(path.name for path in paths)
        raise SystemExit(f"{names}: {n_found * WINDOW} positions in windows of {WINDOW}, expected {positions} or more")
    # Each window at its share of its own kind: a part of them has the same mixture as all.
    order = sorted(((at + 0.5) / len(rows), kind, row) for kind, rows in cut.items() for at, row in enumerate(rows))
    taken = order[:n_wanted]
    return Windows(np.array([row for _, _, row in taken], np.int64), tuple(kind for _, kind, _ in taken))


def windows(ids: Sequence[int]) -> list[Sequence[int]]:
    """Cut ids into whole windows; what is left behind the last one is dropped."""
    return [ids[at : at + WINDOW] for at in range(0, len(ids) - WINDOW + 1, WINDOW)]


def passages(path: Path) -> Iterator[tuple[Kind, str]]:
    """Each passage as a prompt reads it: running text as it is, chats in ChatML, their text alone.

    Chats with tools are passed over: the model knows none. Raises: TextsError naming file and line.
    """
    if path.suffix == ".md":
        yield "text", path.read_text("utf-8")
        return
    for entry in read_entries(path):
        if isinstance(entry, Text):
            yield "text", entry.text.strip() + "\n\n"
        elif not entry.has_tools:
            yield "chat", "".join(map(chatml, entry.messages))


def chatml(message: Message) -> str:
    """One message in ChatML; of several parts, those of text."""
    text = "\n".join(part for part in message.parts if isinstance(part, str))
    return f"<|im_start|>{message.role}\n{text}<|im_end|>\n"
