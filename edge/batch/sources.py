"""Where the lines of a batch come from: a file of lines, or images that are asked one question each."""

import base64
import contextlib
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from edge.batch.lines import LineError, Settled, identity, line_bytes, read_line
from edge.errors import MediaError
from edge.limits import Limits
from edge.media.fetch import read_url
from edge.media.sniff import SNIFFED_BYTES, sniff

_BOM = b"\xef\xbb\xbf"
_IMAGES_URL = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a source, where it can be read again.

    number: from 1; path, offset, n_bytes: where it is; id: as `identity` gives it, None where that takes reading an
    image; error: why it cannot be asked.
    """

    number: int
    custom_id: str | None
    path: str
    offset: int = 0
    n_bytes: int = 0
    id: str | None = None
    error: LineError | None = None


class Source(Protocol):
    """What gives lines: all of them at first, without their bodies, and each of them when it is its turn."""

    def entries(self, settled: Settled) -> Iterator[Entry]:
        """Yield every line there is. Raises: OSError."""

    def read(self, entry: Entry) -> bytes:
        """Return a line. Raises: LineError, OSError."""


@dataclass(frozen=True)
class LinesFile:
    """A file of batch lines. path: a regular file, read twice."""

    path: str
    limits: Limits

    def entries(self, settled: Settled) -> Iterator[Entry]:
        """Yield the lines that are not empty; of those with one custom_id, the first can be asked. Raises: OSError."""
        taken: dict[str, int] = {}
        with Path(self.path).open("rb") as file:
            for number, (offset, data) in enumerate(_split(file, line_bytes(self.limits)), 1):
                if data.strip():
                    yield self._entry(number, offset, data, settled, taken)

    def read(self, entry: Entry) -> bytes:
        """Return a line. Raises: OSError."""
        with Path(entry.path).open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.n_bytes)

    def _entry(self, number: int, offset: int, data: bytes, settled: Settled, taken: dict[str, int]) -> Entry:
        try:
            line = read_line(data, self.limits)
            if line.custom_id in taken:
                message = f"custom_id {line.custom_id[:200]!r}: it is that of line {taken[line.custom_id]} as well"
                raise LineError("duplicate_custom_id", message, line.custom_id)
        except LineError as error:
            return Entry(number, error.custom_id, self.path, error=error)
        taken[line.custom_id] = number
        return Entry(number, line.custom_id, self.path, offset, len(data), identity(line, settled))


@dataclass(frozen=True)
class Images:
    """Image files, each of them with the same question.

    paths: as their custom_ids show them; folder: what relative ones are in. max_tokens, temperature: None for the
    defaults; system: the system message.
    """

    paths: tuple[str, ...]
    folder: str
    question: str
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None

    def entries(self, settled: Settled) -> Iterator[Entry]:
        """Yield a line for each image."""
        for number, path in enumerate(self.paths, 1):
            yield Entry(number, _printable(path), path)

    def read(self, entry: Entry) -> bytes:
        """Return a chat about an image. Raises: LineError where the file cannot be read."""
        path = str(Path(self.folder) / entry.path)
        try:
            data = read_url(path if "/" in path else f"./{path}", files=True)
        except MediaError as error:
            raise LineError("invalid_image", str(error), entry.custom_id) from error
        url = f"data:application/octet-stream;base64,{base64.b64encode(data).decode('ascii')}"
        image = {"type": "image_url", "image_url": {"url": url}}
        content = [image, {"type": "text", "text": self.question}]
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        body: dict[str, object] = {"messages": [*system, {"role": "user", "content": content}]}
        options = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        body |= {name: value for name, value in options.items() if value is not None}
        line = {"custom_id": entry.custom_id, "method": "POST", "url": _IMAGES_URL, "body": body}
        return json.dumps(line).encode("ascii")


@contextlib.contextmanager
def readable(name: str) -> Iterator[str]:
    """Give the path of a file that can be read twice: what is no regular file, or is -, is copied first.

    Raises: OSError.
    """
    if name != "-" and (Path(name).is_file() or not Path(name).exists()):
        yield str(Path(name).absolute())
        return
    with tempfile.NamedTemporaryFile(prefix="edge-batch-") as copy:
        with open(0, "rb", closefd=False) if name == "-" else Path(name).open("rb") as file:
            shutil.copyfileobj(file, copy)
        copy.flush()
        yield copy.name


def images_of(pattern: str) -> tuple[list[str], list[str]]:
    """Return the files that a pattern names, sorted, and those of a folder that are no images and left out.

    pattern: a file, a folder or a glob, in which ** is any number of folders; what begins with a dot is hidden.
    Raises: OSError.
    """
    name = str(Path(pattern).expanduser()) if pattern.startswith("~") else pattern
    if Path(name).is_dir():
        found = sorted(str(path) for path in Path(name).iterdir() if path.is_file() and path.name[0] != ".")
        images = [path for path in found if _is_image(path)]
        return images, [path for path in found if path not in set(images)]
    if Path(name).is_file():
        return [name], []
    # Path.glob would spell the paths otherwise than the pattern does.
    return sorted(path for path in glob.glob(name, recursive=True) if not Path(path).is_dir()), []  # noqa: PTH207


def _is_image(path: str) -> bool:
    """Return whether a file is an image by its first bytes; one that cannot be read is asked, and says why."""
    try:
        with Path(path).open("rb") as file:
            found = sniff(file.read(SNIFFED_BYTES))
    except OSError:
        return True
    return found is not None and "image" in found.kinds


def _printable(path: str) -> str:
    """Return a path as text: bytes of it that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _split(file: BinaryIO, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line); what is longer than `most` is cut there, so that its length is refused."""
    offset = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
    file.seek(offset)
    while data := file.readline(most + 2):
        yield offset, data
        offset += len(data) + _skipped(file, data)


def _skipped(file: BinaryIO, data: bytes) -> int:
    """Pass by the rest of a line that was cut; return its length."""
    n_bytes = 0
    while data and not data.endswith(b"\n"):
        data = file.readline(1 << 20)
        n_bytes += len(data)
    return n_bytes


def first(entries: Iterable[Entry], n: int | None) -> Iterator[Entry]:
    """Yield the first n entries, None for all."""
    for i, entry in enumerate(entries):
        if n is not None and i >= n:
            return
        yield entry
