"""The input of OpenAI's responses: items of every kind, turned into messages as chat completions has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge.chat.messages import Loc, Problems, shown
from edge.server.openai_messages import place_of_message

Fields = dict[str, object]

ROLES = ("user", "assistant", "system", "developer")
CALLS = ("function_call", "custom_tool_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output")
_TYPES = f"message, {', '.join((*CALLS, *OUTPUTS))} or reasoning"
_NAMES = {"id": "call_id", "parameters": "arguments"}  # of a call's fields, in an item


@dataclass(frozen=True)
class Origin:
    """Where a message stood in the request.

    loc: its item, or the field that it is the text of; calls: which items its calls were; is_output: whether it is what
    a tool answered; is_text: whether the field itself is the text.
    """

    loc: Loc
    calls: tuple[int, ...] = ()
    is_output: bool = False
    is_text: bool = False

    def place(self, rest: Sequence[str | int]) -> Loc:
        """Return where something in the message stood. rest: the way to it."""
        match rest:
            case ("tool_calls", int(k), *inner) if k < len(self.calls):
                names = [_NAMES.get(str(name), name) for name in inner if name != "function"]
                return ("body", "input", self.calls[k], *names)
            case ("content", *_) if self.is_text:
                return self.loc
            case ("content", *inner) if self.is_output:
                return (*self.loc, "output", *_part_place(inner))
            case ("content", *inner):
                return (*self.loc, "content", *_part_place(inner))
            case ("tool_call_id",):
                return (*self.loc, "call_id")
        return (*self.loc, *rest)


@dataclass(frozen=True)
class Input:
    """The messages of a request, as chat completions has them, and where each of them stood."""

    messages: tuple[Fields, ...]
    origins: tuple[Origin, ...]

    def place(self, loc: Loc) -> Loc:
        """Return where something in these messages stood in the request."""
        match loc:
            case ("body", "messages", int(i), *rest) if i < len(self.origins):
                return self.origins[i].place(rest)
            case ("body", "messages", *_):
                return ("body", "input")
        return loc

    def place_of(self, loc: Loc, places: Sequence[int]) -> Loc:
        """Return where something in a message of /v1/chat stood. places: which of these messages each of those was."""
        return self.place(place_of_message(loc, places))


def read_input(body: Mapping[str, object], problems: Problems) -> Input:
    """Return the instructions and the input of a request as messages; what is wrong goes to `problems`.

    An assistant's text and the calls after it are one message. Reasoning of earlier turns is left out.
    """
    messages: list[Fields] = []
    origins: list[Origin] = []
    instructions, items = body.get("instructions"), body.get("input")
    if instructions is not None and not isinstance(instructions, str):
        problems.add(("body", "instructions"), f"expected a string, got {shown(instructions)}", "string_type")
    elif instructions:
        messages.append({"role": "developer", "content": instructions})
        origins.append(Origin(("body", "instructions"), is_text=True))
    if isinstance(items, str):
        messages.append({"role": "user", "content": items})
        origins.append(Origin(("body", "input"), is_text=True))
        return Input(tuple(messages), tuple(origins))
    n_before = len(messages)
    if not isinstance(items, list):
        problems.add(("body", "input"), f"expected a string or a list of items, got {shown(items)}", "list_type")
        return Input((), ())
    for i, item in enumerate(items):
        _add(item, i, messages, origins, problems)
    if len(messages) == n_before and not problems.found:
        problems.add(("body", "input"), "expected a message, a call or its output, got none", "too_short")
    return Input(tuple(messages), tuple(origins))


def _add(item: object, i: int, messages: list[Fields], origins: list[Origin], problems: Problems) -> None:
    """Add one item to the messages so far: as a message, or as a call of the last one."""
    loc: Loc = ("body", "input", i)
    if not isinstance(item, Mapping):
        problems.add(loc, f"expected an item, got {shown(item)}", "dict_type")
        return
    kind = item.get("type")
    if kind is None or kind == "message":
        _add_message(item, loc, messages, origins, problems)
    elif kind in CALLS:
        _add_call(item, i, messages, origins)
    elif kind in OUTPUTS:
        output = {"content": item["output"]} if "output" in item else {}
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), **output})
        origins.append(Origin(loc, is_output=True))
    elif kind == "item_reference":
        msg = "nothing is stored that it could name: expected the item itself (store: false makes clients send it)"
        problems.add((*loc, "type"), msg, "literal_error")
    elif kind != "reasoning":
        problems.add((*loc, "type"), f"expected {_TYPES}, got {shown(kind)}", "literal_error")


def _add_message(
    item: Mapping[str, object], loc: Loc, messages: list[Fields], origins: list[Origin], problems: Problems
) -> None:
    role = item.get("role")
    if role not in ROLES:
        problems.add((*loc, "role"), f"expected one of {', '.join(ROLES)}, got {shown(role)}", "literal_error")
        return
    messages.append({"role": role, "content": item.get("content")})
    origins.append(Origin(loc))


def _add_call(item: Mapping[str, object], i: int, messages: list[Fields], origins: list[Origin]) -> None:
    """Add a call to the assistant's message before it; without one, it is a message of its own."""
    if item.get("type") == "custom_tool_call":
        called: Fields = {"custom": {"name": item.get("name"), "input": item.get("input")}}
    else:
        called = {"function": {"name": item.get("name"), "arguments": item.get("arguments")}}
    call = {"id": item.get("call_id"), **called}
    if messages and messages[-1]["role"] == "assistant":
        last, origin = messages[-1], origins[-1]
        earlier = last.get("tool_calls")
        messages[-1] = {**last, "tool_calls": [*(earlier if isinstance(earlier, list) else ()), call]}
        origins[-1] = Origin(origin.loc, (*origin.calls, i))
        return
    messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    origins.append(Origin(("body", "input", i), (i,)))


def _part_place(way: Sequence[str | int]) -> Loc:
    """Return the way to something in a part, as this API calls it: a file and an image have no object in between."""
    match way:
        case (int(j), "file", *_):
            return (j, "file_data")
        case (int(j), "image_url", "detail" | "max_tiles" as name):
            return (j, name)
        case (int(j), "image_url", *_):
            return (j, "image_url")
    return tuple(way)
