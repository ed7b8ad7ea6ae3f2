"""Files of conversations and running text for calibration and evaluation, read strictly, an entry a line.

    {"messages": [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good morning."}]}
    {"text": "The ferry left at six.", "source": "where the text is from"}

messages and tools are those of `chat.create`. An image is {"type": "image_url", "image_url": URL}: a path relative to
the file, a data: URL, or "scene:7" for a drawn one (`export.texts.scenes`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from edge.bundle import strict_json
from edge.chat.messages import MediaPart, Message, Problems, read_messages, shown
from edge.chat.prompt import Tool
from edge.chat.tools import read_tools
from edge.errors import EdgeError
from edge.limits import Limits
from export.errors import TextsError

MAX_LINE_BYTES: Final = 40 << 20  # what a request may hold
MAX_FILE_BYTES: Final = 1 << 30
MAX_TEXT_BYTES: Final = 16 << 20  # of one plain text

_SCENE = re.compile(r"scene:(\d{1,9})")
_CONVERSATION = frozenset({"messages", "tools", "source"})
_TEXT = frozenset({"text", "source"})
# The API passes over keys that it does not know; here one would be lost text.
_KEYS: Mapping[str, frozenset[str]] = {
    "message": frozenset({"role", "content", "tool_calls"}),
    "part": frozenset({"type", "text", "image_url", "video_url", "audio_url", "pdf_url"}),
    "result": frozenset({"tool_call_id", "output"}),
    "call": frozenset({"id", "name", "parameters"}),
    "tool": frozenset({"name", "description", "parameters"}),
}
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, eq=False)
class Conversation:
    """Messages whose shape is right, and the tools on offer; where: file and line; folder: of relative paths."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    where: str
    folder: Path

    @property
    def images(self) -> tuple[MediaPart, ...]:
        """Its images in order."""
        parts = (part for message in self.messages for part in message.all_parts)
        return tuple(part for part in parts if isinstance(part, MediaPart))

    @property
    def has_tools(self) -> bool:
        """Whether there are tools, calls or results."""
        return bool(self.tools) or any(message.calls or message.results for message in self.messages)


@dataclass(frozen=True)
class Text:
    """Running text; where: file and line; source: author and title, None for an author who did not say."""

    text: str
    where: str
    source: str | None = None


Entry = Conversation | Text


def shipped_calibration() -> Path:
    """The calibration set of our own writing."""
    return Path(__file__).resolve().parent / "calibration.jsonl"


def shipped_evaluation() -> Path:
    """The evaluation set: other topics and words, our own and in the public domain."""
    return Path(__file__).resolve().parent / "evaluation.jsonl"


def read(path: Path) -> list[Entry]:
    """Read a .jsonl file, one conversation or text a line, blank lines passed over; a .txt file is one text.

    Images are found, but not decoded. At most 1 GiB a file, 40 MiB a line, 16 MiB a text.
    Raises: TextsError naming file, line and key.
    """
    if path.suffix.lower() not in (".jsonl", ".txt"):
        raise TextsError(f"{path}: expected a .jsonl file (an entry a line) or a .txt file (one text)")
    try:
        if not path.is_file():
            raise TextsError(f"{path}: no such file" if not path.exists() else f"{path}: expected a file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TextsError(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_FILE_BYTES}")
        with path.open("rb") as file:
            is_text = path.suffix.lower() == ".txt"
            entries: list[Entry] = [_whole(file, path)] if is_text else list(_lines(file, path))
    except OSError as error:
        raise TextsError(f"{path}: cannot be read: {error.strerror}") from error
    if not entries:
        raise TextsError(f"{path}: is empty; expected a conversation or text a line")
    return entries


def _whole(file: BinaryIO, path: Path) -> Text:
    data = file.read(MAX_TEXT_BYTES + 1).removeprefix(_BOM)
    try:
        return _text(data.decode("utf-8"), None, str(path))
    except UnicodeDecodeError as error:
        raise TextsError(f"{path}: expected UTF-8, got byte 0x{data[error.start]:02x} at {error.start}") from error


def _lines(file: BinaryIO, path: Path) -> Iterator[Entry]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{path}, line {number}"
        if len(line) > MAX_LINE_BYTES:
            raise TextsError(f"{where}: expected at most {MAX_LINE_BYTES} bytes in a line")
        line = line.removeprefix(_BOM) if number == 1 else line
        if line.strip():
            yield _entry(line, where, path.parent)


def _entry(line: bytes, where: str, folder: Path) -> Entry:
    try:
        fields = strict_json.load(line, file=where)
    except EdgeError as error:
        raise TextsError(str(error)) from error
    if ("messages" in fields) == ("text" in fields):
        found = "both" if "text" in fields else f"keys {', '.join(map(repr, fields)) or 'none'}"
        raise TextsError(f"{where}: expected either messages or text, got {found}"[:500])
    _check_keys(fields, _TEXT if "text" in fields else _CONVERSATION, where)
    source = fields.get("source")
    if source is not None and not isinstance(source, str):
        raise TextsError(f"{where}: source: expected a string, got {shown(source)}")
    if "text" in fields:
        return _text(fields["text"], source, where)
    return _conversation(fields, where, folder)


def _text(text: object, source: str | None, where: str) -> Text:
    if not isinstance(text, str):
        raise TextsError(f"{where}: text: expected a string, got {shown(text)}")
    if not text.strip():
        raise TextsError(f"{where}: text: is empty")
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise TextsError(f"{where}: text: expected Unicode text, got half a surrogate pair") from error
    if n_bytes > MAX_TEXT_BYTES:
        raise TextsError(f"{where}: text: expected at most {MAX_TEXT_BYTES} bytes, got {n_bytes} or more")
    return Text(text, where, source)


def _conversation(fields: Mapping[str, object], where: str, folder: Path) -> Conversation:
    _check_items(fields["messages"], "message", f"{where}: messages")
    _check_items(fields.get("tools"), "tool", f"{where}: tools")
    problems = Problems()
    try:
        messages = read_messages(fields["messages"], problems, Limits())
        tools = read_tools(fields.get("tools"), problems)
    except EdgeError as error:
        raise TextsError(f"{where}: {error}") from error
    if problems.found:
        problem = problems.found[0]
        place = ".".join(str(part) for part in problem.loc[1:])
        raise TextsError(f"{where}: {place}: {problem.msg}")
    if not any(part for message in messages for part in (*message.all_parts, *message.calls)):
        raise TextsError(f"{where}: messages: all of them are empty")
    conversation = Conversation(tuple(messages), tools, where, folder)
    for image in conversation.images:
        _check_image(image, conversation)
    return conversation


def _check_items(items: object, kind: str, where: str) -> None:
    """Look for keys that nothing reads, in a list of messages, parts, results, calls or tools and what they hold."""
    for i, item in enumerate(items if isinstance(items, list) else ()):
        if not isinstance(item, Mapping):
            continue  # its reader says what is wrong with it
        place = f"{where}.{i}"
        _check_keys(item, _KEYS[kind], place)
        if kind == "message":
            role = item.get("role")
            _check_items(item.get("content"), "result" if role == "tool_output" else "part", f"{place}.content")
            _check_items(item.get("tool_calls"), "call", f"{place}.tool_calls")
        if kind == "result":
            _check_items(item.get("output"), "part", f"{place}.output")


def _check_keys(item: Iterable[str], known: frozenset[str], where: str) -> None:
    unknown = sorted(set(item) - known)
    if unknown:
        raise TextsError(f"{where}: unknown key {shown(unknown[0])}; known are {', '.join(sorted(known))}")


def _check_image(part: MediaPart, conversation: Conversation) -> None:
    """Find an image before hours of work depend on it."""

    def refuse(reason: str) -> NoReturn:
        raise TextsError(f"{conversation.where}: {'.'.join(map(str, part.loc[1:]))}: {reason}")

    source = str(part.source)
    if part.kind != "image":
        refuse(f"{part.kind} is not supported here; expected text and images")
    if source.startswith("scene:") and not _SCENE.fullmatch(source):
        refuse(f"expected scene: and a number of at most nine digits, got {shown(source)}")
    if scene_number(part) is None and not source.startswith("data:"):
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", source):
            refuse(f"expected a path, a data: URL or scene:NUMBER, got {shown(source)}")
        try:
            if not (conversation.folder / source).is_file():
                refuse(f"{shown(source)}: no such file in {conversation.folder}")
        except (OSError, ValueError) as error:
            refuse(f"{shown(source)}: cannot be read: {getattr(error, 'strerror', None) or 'not a path'}")


def scene_number(part: MediaPart) -> int | None:
    """The number of a drawn scene, None for other images."""
    match = _SCENE.fullmatch(str(part.source))
    return int(match[1]) if match else None
