"""Messages as Ollama's clients send them, turned into those of chat completions: images beside the text, calls by name.

Source: Ollama's API, "Generate a chat completion".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge.chat.messages import Loc, Problems, shown
from edge.media.data_url import of_base64
from edge.server import openai_messages
from edge.server.openai_messages import place_of_message

Fields = dict[str, object]

ROLES = ("system", "user", "assistant", "tool")
_IMAGE = "image/png"  # what a data: URL has to say; the format is told by the data


@dataclass(frozen=True)
class Read:
    """Messages as /v1/chat accepts them.

    places: which message of the request each of them began as; n_images: how many images each of the request's has.
    """

    messages: object
    places: tuple[int, ...]
    n_images: tuple[int, ...]

    def place(self, loc: Loc) -> Loc:
        """Return where something in a message of /v1/chat stood in the request."""
        return _place(place_of_message(loc, self.places), self.n_images)


def read_messages(messages: Sequence[object], problems: Problems) -> Read:
    """Return messages as ours; what is wrong goes to `problems`. The reasoning of earlier turns is left out."""
    read: list[object] = []
    n_images: list[int] = []
    waiting: list[tuple[str, object]] = []  # calls without a result yet: ids and names
    for i, message in enumerate(messages):
        loc: Loc = ("body", "messages", i)
        fields = message if isinstance(message, Mapping) else None
        if fields is None or fields.get("role") not in ROLES:
            role = shown(None if fields is None else fields.get("role"))
            msg = f"expected a message, got {shown(message)}" if fields is None else f"expected {_OF_ROLES}, got {role}"
            problems.add(loc if fields is None else (*loc, "role"), msg, "literal_error")
            n_images.append(0)
            continue
        images = _images(fields.get("images"), (*loc, "images"), problems)
        n_images.append(len(images))
        content = _content(fields.get("content"), images, (*loc, "content"), problems)
        ours: Fields = {"role": fields["role"], "content": content}
        if fields["role"] == "assistant":
            ours["tool_calls"], waiting = _calls(fields.get("tool_calls"), i)
            ours["content"] = content or None  # as chat completions says that there are calls alone
        elif fields["role"] == "tool":
            ours["tool_call_id"] = _answered(fields, waiting)
        elif fields.get("tool_calls") not in (None, []):
            problems.add((*loc, "tool_calls"), f"expected none in a message of role {fields['role']}", "list_type")
        read.append(ours)
    if problems.found:
        return Read([], (), tuple(n_images))
    inner = Problems(lambda loc: _place(loc, n_images))
    ours_all, places = openai_messages.read_messages(read, inner)
    problems.found += inner.found
    return Read(ours_all, places, tuple(n_images))


_OF_ROLES = f"{', '.join(ROLES[:-1])} or {ROLES[-1]}"


def _place(loc: Loc, n_images: Sequence[int]) -> Loc:
    """Return where a part of a message stood: among its images, or in its content."""
    match loc:
        case ("body", "messages", int(i), "content", int(j), *_) if i < len(n_images):
            return ("body", "messages", i, "images", j) if j < n_images[i] else ("body", "messages", i, "content")
    return loc


def _images(images: object, loc: Loc, problems: Problems) -> list[Fields]:
    """Return images as parts."""
    if images is None:
        return []
    if not isinstance(images, list):
        problems.add(loc, f"expected a list of images in base64, got {shown(images)}", "list_type")
        return []
    for j, image in enumerate(images):
        if not isinstance(image, str):
            problems.add((*loc, j), f"expected an image in base64, got {shown(image)}", "string_type")
    return [{"type": "image_url", "image_url": of_base64(str(image), _IMAGE)} for image in images]


def _content(content: object, images: list[Fields], loc: Loc, problems: Problems) -> object:
    """Return a text, or parts with the images before it; absent is empty."""
    if content is not None and not isinstance(content, str):
        problems.add(loc, f"expected a string, got {shown(content)}", "string_type")
    text = content or ""
    if not images:
        return text
    return [*images, {"type": "text", "text": text}] if text else images


def _calls(calls: object, i: int) -> tuple[object, list[tuple[str, object]]]:
    """Return the calls of a message, each with an id, and those ids with the calls' names."""
    if not isinstance(calls, list):
        return calls, []
    read: list[object] = []
    waiting: list[tuple[str, object]] = []
    for k, call in enumerate(calls):
        fields = call if isinstance(call, Mapping) else {}
        function = fields.get("function")
        named = function if isinstance(function, Mapping) else {}
        given, arguments = fields.get("id"), named.get("arguments")
        call_id = f"call_{i}_{k}" if given in (None, "") else given
        named = {"name": named.get("name"), "arguments": {} if arguments is None else arguments}
        read.append({"id": call_id, "function": named})
        waiting.append((str(call_id), named["name"]))
    return read, waiting


def _answered(message: Mapping[str, object], waiting: list[tuple[str, object]]) -> object:
    """Return the id of the call that a message of a tool answers, which is waited for no longer.

    It is told by its id, else by the tool's name, else by the order of the calls.
    """
    call_id, name = message.get("tool_call_id"), message.get("tool_name") or message.get("name")
    if call_id not in (None, ""):
        waiting[:] = [call for call in waiting if call[0] != call_id]
        return call_id
    fitting = [call for call in waiting if name in (None, call[1])]
    if not fitting:
        return ""
    waiting.remove(fitting[0])
    return fitting[0][0]
