"""What an export has finished, tensor by tensor, so that one that was killed goes on where it was."""

import base64
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from edge.bundle.manifest import Scheme, TensorRecord

VERSION: Final = 1  # of the journal, and of what writers do: a bundle is never put together from two of them

_BLOCK_BYTES = 1 << 22


@dataclass(frozen=True)
class Entry:
    """A tensor of the recipe that is written, with the nodes that compute with it.

    file: that holds its bytes, from `start` to `stop`, with the CRC-32 `crc`; graph: a GraphProto of what was added to
    the graph, in base64, empty for a tensor outside a graph; shared: the names of constants that others use too;
    output: the name of its result; scheme, error: of its record.
    """

    name: str
    file: str
    start: int
    stop: int
    crc: int
    output: str
    graph: str
    shared: list[str]
    scheme: Scheme
    error: float

    @property
    def record(self) -> TensorRecord:
        """What the manifest says of it."""
        return TensorRecord(self.scheme, self.error)


class Journal:
    """The finished tensors of one export, a line of JSON each behind a line with the key.

    What another key is written over, and lines that are torn or not of this form, count for nothing.
    """

    def __init__(self, path: Path, folder: Path, *, key: str) -> None:
        self._path = path
        self._folder = folder
        self._entries = _read(path, key)
        self.n_found = len(self._entries)
        lines = [{"key": key}, *map(asdict, self._entries.values())]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))  # without what was torn
        files = {entry.file for entry in self._entries.values()}
        for left in folder.iterdir():
            if left.name not in files:
                left.unlink()

    def find(self, file: str, name: str, start: int) -> Entry | None:
        """The tensor if it is finished and its bytes are there unharmed. start: where it has to begin."""
        entry = self._entries.pop(name, None)
        if entry is None or (entry.file, entry.start) != (file, start):
            return None
        return entry if _crc(self._folder / file, start, entry.stop) == entry.crc else None

    def note(self, entry: Entry) -> None:
        """Note a tensor whose bytes are with the system."""
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")


def encoded(graph: bytes) -> str:
    """Bytes of a graph as an entry holds them."""
    return base64.b64encode(graph).decode()


def decoded(graph: str) -> bytes:
    """The bytes again."""
    return base64.b64decode(graph)


def _read(path: Path, key: str) -> dict[str, Entry]:
    """The entries of this key, up to the first line that is torn."""
    entries: dict[str, Entry] = {}
    try:
        head, *lines = path.read_text().splitlines()
        if json.loads(head) != {"key": key}:
            return {}
        for line in lines:
            entry = Entry(**json.loads(line))
            entries[entry.name] = entry
    except (OSError, ValueError, TypeError):
        pass
    return entries


def _crc(path: Path, start: int, stop: int) -> int:
    crc = 0
    with path.open("rb") as file:
        file.seek(start)
        while (n_left := stop - file.tell()) > 0:
            block = file.read(min(_BLOCK_BYTES, n_left))
            if not block:
                return -1
            crc = zlib.crc32(block, crc)
    return crc
