"""What a manifest says of prompts: their format, its control tokens, and what ends an answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

PromptFormat = Literal["yasa", "yasa-timed", "flash", "chatml"]


@dataclass(frozen=True)
class PromptSpec:
    """The prompt format, the wording for tools (None: it has none), every control token's id, what ends an answer.

    format: "yasa"; "yasa-timed": the same, but a video's frames carry their times; "flash": Reka Flash 3's; "chatml".
    system: the system message of a conversation without one; start_ids: what every prompt begins with ("chatml" only).
    """

    format: PromptFormat
    tools: Literal["A", "B"] | None
    control: Mapping[str, int]
    stop_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    system: str | None = None
    start_ids: tuple[int, ...] = ()


def prompt_problems(prompt: PromptSpec, *, vocab_size: int, kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (key, what was expected) for every value outside its range. kinds: of media that the bundle takes."""
    wanted = {"flash": "null", "chatml": "null"}.get(prompt.format, "'A' or 'B'")
    if (prompt.tools is None) != (wanted == "null"):
        yield "prompt.tools", f"{wanted} for format {prompt.format!r}, got {prompt.tools!r}"
    for key in ("system", "start_ids"):
        if getattr(prompt, key) and prompt.format != "chatml":
            yield f"prompt.{key}", f"no such key for format {prompt.format!r}, got {getattr(prompt, key)!r:.200}"
    ids = [(name, token) for name in ("stop_ids", "start_ids") for token in getattr(prompt, name)]
    for name, token in [*prompt.control.items(), *ids]:
        if not 0 <= token < vocab_size:
            yield f"prompt.{name}", f"an id below the vocabulary of {vocab_size}, got {token}"
    for name in sorted(_needed_control(prompt, kinds) - prompt.control.keys()):
        yield f"prompt.control.{name}", "an id, which its prompts need, got none"
    if not prompt.stop_ids and not prompt.stop_strings:
        yield "prompt.stop_ids", "at least one stop id or stop string"


def _needed_control(prompt: PromptSpec, kinds: Sequence[str]) -> set[str]:
    """Return the control tokens without which a prompt that the bundle takes could not be laid out."""
    if prompt.format == "flash":  # all of its prompt is text
        return set()
    if prompt.format == "chatml":
        return {"<|im_start|>", "<|im_end|>"}
    named = [*kinds, *(["tool_call", "tool_response"] if prompt.tools is not None else [])]
    return {"<sep>", *(tag for kind in named for tag in (f"<{kind}>", f"</{kind}>"))}
