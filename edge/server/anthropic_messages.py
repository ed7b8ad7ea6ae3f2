"""Messages as Anthropic's clients send them, turned into ours: blocks of every kind, calls and results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edge.chat.messages import Loc, Problems, shown
from edge.server.anthropic_blocks import Placed, read_parts, text_of

Fields = dict[str, object]

ROLES = ("user", "assistant", "system")
THOUGHTS = ("thinking", "redacted_thinking")  # of earlier turns: left out
_CALL_NAMES = {"parameters": "input"}


@dataclass
class _Turn:
    """One message of ours while it is read. loc: what it began as; at: where each of its parts stood.

    inner: where the parts of each result stood.
    """

    role: str
    loc: Loc
    content: list[Fields] = field(default_factory=list)
    at: list[Loc] = field(default_factory=list)
    inner: list[Sequence[Loc]] = field(default_factory=list)
    calls: list[Fields] = field(default_factory=list)
    calls_at: list[Loc] = field(default_factory=list)

    def place(self, rest: Sequence[str | int]) -> Loc:
        """Return where something in this message stood in the request. rest: the way to it."""
        match rest:
            case ("tool_calls", int(k), str(name), *_) if k < len(self.calls_at):
                return (*self.calls_at[k], _CALL_NAMES.get(name, name))
            case ("content", int(j), "output", int(k), *_) if j < len(self.inner) and k < len(self.inner[j]):
                return self.inner[j][k]
            case ("content", int(j), "tool_call_id") if j < len(self.at):
                return (*self.at[j], "tool_use_id")
            case ("content", int(j), "output", *_) if j < len(self.at):
                return (*self.at[j], "content")
            case ("content", int(j), *_) if j < len(self.at):
                return self.at[j]
        return (*self.loc, *rest)

    def fields(self) -> Fields:
        """Return it as /v1/chat has it."""
        content: object = self.content
        if self.role == "system" or not self.content:
            content = self.content or ""
        return {"role": self.role, "content": content, **({"tool_calls": self.calls} if self.calls else {})}


@dataclass(frozen=True)
class Messages:
    """The messages of a request as /v1/chat has them, and where everything in them stood."""

    messages: object
    place: Callable[[Loc], Loc]


def read_messages(body: Mapping[str, object], problems: Problems) -> Messages:
    """Return the system text and the messages of a request as ours; what is wrong goes to `problems`.

    Messages in a row of one role are one, and so are leading ones of the system, behind `system`, a blank line between
    them. Results are a message of their own. What is not a list of messages is left for the chat's own check.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        return Messages(messages, lambda loc: loc)
    turns: list[_Turn] = []
    if body.get("system") is not None:
        _add_system(turns, body["system"], ("body", "system"), problems)
    for i, message in enumerate(messages):
        _add(turns, message, ("body", "messages", i), problems)
    if len(turns) > 1 and turns[-1].role == "assistant" and not turns[-1].content and not turns[-1].calls:
        turns.pop()  # nothing to continue: the answer begins a turn
    return Messages([turn.fields() for turn in turns] if messages else [], _placing(turns))


def _placing(turns: Sequence[_Turn]) -> Callable[[Loc], Loc]:
    def place(loc: Loc) -> Loc:
        match loc:
            case ("body", "messages", int(i), *rest) if i < len(turns):
                return turns[i].place(rest)
        return loc

    return place


def _add(turns: list[_Turn], message: object, loc: Loc, problems: Problems) -> None:
    """Add one message to those that are read."""
    if not isinstance(message, Mapping):
        problems.add(loc, f"expected a message, got {shown(message)}", "dict_type")
        return
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        problems.add((*loc, "role"), f"expected one of {', '.join(ROLES)}, got {shown(role)}", "literal_error")
        return
    at: Loc = (*loc, "content")
    if role == "system":
        _add_system(turns, content, at, problems, loc)
        return
    if isinstance(content, str):
        _add_part(_turn(turns, str(role), loc), {"type": "text", "text": content}, at)
        return
    if not isinstance(content, list):
        problems.add(at, f"expected a string or a list of blocks, got {shown(content)}", "string_type")
        return
    if not content:
        _turn(turns, str(role), loc)
    for j, block in enumerate(content):
        kind = block.get("type") if isinstance(block, Mapping) else None
        if role == "assistant":
            _add_said(_turn(turns, "assistant", loc), block, kind, (*at, j), problems)
        elif kind == "tool_result" and isinstance(block, Mapping):
            _add_result(_turn(turns, "tool_output", loc), block, (*at, j), problems)
        else:
            turn = _turn(turns, "user", loc)
            for part, place in read_parts(block, (*at, j), problems, beside="tool_result"):
                _add_part(turn, part, place)


def _turn(turns: list[_Turn], role: str, loc: Loc) -> _Turn:
    """Return the turn that a message of this role goes on with, or a new one."""
    if not turns or turns[-1].role != role:
        turns.append(_Turn(role, loc))
    return turns[-1]


def _add_part(turn: _Turn, part: Fields, at: Loc) -> None:
    """Add a part to a turn; a text of the assistant's that says nothing is none."""
    if turn.role != "assistant" or text_of(part):
        turn.content.append(part)
        turn.at.append(at)


def _add_system(
    turns: list[_Turn], content: object, at: Loc, problems: Problems, loc: Loc = ("body", "system")
) -> None:
    """Add text of the system's: to what there is of it, where it comes before all other messages."""
    text = _system_text(content, at, problems)
    if len(turns) == 1 and turns[0].role == "system":
        earlier = turns[0].content
        earlier[:] = [{"type": "text", "text": "\n\n".join(filter(None, [*map(text_of, earlier), text]))}]
    else:
        turns.append(_Turn("system", loc))
        _add_part(turns[-1], {"type": "text", "text": text}, at)


def _system_text(content: object, at: Loc, problems: Problems) -> str:
    """Return a text, or the texts of blocks joined by a space."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        problems.add(at, f"expected a string or a list of text blocks, got {shown(content)}", "string_type")
        return ""
    texts = []
    for j, block in enumerate(content):
        fields = block if isinstance(block, Mapping) else {}
        if fields.get("type") != "text":
            msg = f"expected text, the only kind in a system message, got {shown(fields.get('type'))}"
            problems.add((*at, j, "type"), msg, "literal_error")
        else:
            texts += [text_of(part) for part, _ in read_parts(block, (*at, j), problems)]
    return " ".join(texts)


def _add_said(turn: _Turn, block: object, kind: object, at: Loc, problems: Problems) -> None:
    """Add a block of the assistant's."""
    if isinstance(block, Mapping) and kind == "tool_use":
        turn.calls.append({"id": block.get("id"), "name": block.get("name"), "parameters": block.get("input")})
        turn.calls_at.append(at)
    elif kind == "text":
        for part, place in read_parts(block, at, problems):
            _add_part(turn, part, place)
    elif kind not in THOUGHTS:
        wanted = f"text, tool_use, {' or '.join(THOUGHTS)} in a message of the assistant's"
        problems.add((*at, "type"), f"expected {wanted}, got {shown(kind)}", "literal_error")


def _add_result(turn: _Turn, block: Mapping[str, object], at: Loc, problems: Problems) -> None:
    """Add what a tool answered: a text, or parts where it has media. One that is an error begins by saying so."""
    content = block.get("content")
    parts: Placed = []
    if isinstance(content, str):
        parts = [({"type": "text", "text": content}, (*at, "content"))]
    elif isinstance(content, list):
        for j, inner in enumerate(content):
            parts += read_parts(inner, (*at, "content", j), problems)
    elif content is not None:
        msg = f"expected a string or a list of blocks, got {shown(content)}"
        problems.add((*at, "content"), msg, "string_type")
    if problems.flag((*at, "is_error"), block.get("is_error")):
        parts = _as_error(parts, at)
    output: object = [part for part, _ in parts]
    if all(part["type"] == "text" for part, _ in parts):
        output = "".join(text_of(part) for part, _ in parts)
    turn.content.append({"tool_call_id": block.get("tool_use_id"), "output": output})
    turn.at.append(at)
    turn.inner.append([place for _, place in parts])


def _as_error(parts: Placed, at: Loc) -> Placed:
    """Return what a tool that failed said, behind a word that the model reads: a prompt has no other place for it."""
    if not parts:
        return [({"type": "text", "text": "Error"}, at)]
    first, place = parts[0]
    if first["type"] != "text":
        return [({"type": "text", "text": "Error:"}, at), *parts]
    text = text_of(first)
    said = text if text.lower().startswith("error") else f"Error: {text}"
    return [({"type": "text", "text": said}, place), *parts[1:]]
