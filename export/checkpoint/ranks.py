"""tiktoken's ranks: where they lie, and the merges that they stand for."""

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from export.errors import TokenizerError

MAX_BYTES = 64 << 20

# tiktoken's name and sha256 of cl100k_base in its cache.
_CACHED_NAME = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
_CACHED_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


def load_ranks(path: Path | None) -> dict[bytes, int]:
    """Every mergeable token and its rank, in rank order.

    path: a .tiktoken file (a line: base64 of the token, a space, the rank); None: cl100k_base in tiktoken's cache.
    Raises: TokenizerError if it is not there, damaged, has gaps, or lacks one of the 256 bytes.
    """
    if path is not None:
        return _parse(_read(path), path.name)
    cached = _cache_folder() / _CACHED_NAME
    if not cached.is_file():
        raise TokenizerError(f"cl100k_base is not in tiktoken's cache ({cached}): name a .tiktoken file")
    data = _read(cached)
    if hashlib.sha256(data).hexdigest() != _CACHED_SHA256:
        raise TokenizerError(f"{cached}: sha256 differs from cl100k_base: expected {_CACHED_SHA256}")
    return _parse(data, cached.name)


def merges_of(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The merges in rank order: each token of two bytes or more, split as the lower ranks leave it.

    A token that lower ranks cannot bring down to two pieces has no merge: it is only found as a whole.
    """
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) < 2:
            continue
        pieces = _pieces(ranks, token, rank)
        if len(pieces) == 2:
            yield pieces[0], pieces[1]


def _pieces(ranks: Mapping[bytes, int], token: bytes, limit: int) -> list[bytes]:
    """Byte-pair encoding of a token with the ranks below a limit."""
    pieces = [token[at : at + 1] for at in range(len(token))]
    while len(pieces) > 1:
        candidates = ((ranks.get(pieces[at] + pieces[at + 1], limit), at) for at in range(len(pieces) - 1))
        rank, at = min(candidates)
        if rank >= limit:
            break
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


def _cache_folder() -> Path:
    named = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    return Path(named) if named else Path(tempfile.gettempdir()) / "data-gym-cache"


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise TokenizerError(f"{path}: expected a .tiktoken file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise TokenizerError(f"{path}: {size} bytes, expected at most {MAX_BYTES}")
    return path.read_bytes()


def _parse(data: bytes, name: str) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            encoded, rank = line.split()
            token = base64.b64decode(encoded, validate=True)
            position = int(rank)
        except (ValueError, binascii.Error) as error:
            raise TokenizerError(f"{name}: line {number}: expected base64, a space and a rank") from error
        if position != len(ranks) or token in ranks or not token:
            raise TokenizerError(f"{name}: line {number}: rank {position}, expected a new token of rank {len(ranks)}")
        ranks[token] = position
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise TokenizerError(f"{name}: no token for the byte 0x{missing[0]:02x}")
    return ranks
