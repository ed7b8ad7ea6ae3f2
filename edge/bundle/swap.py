"""Two folders that change places: in one step where the system can, so that a name is never without its folder."""

import ctypes
import os
import secrets
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Source: renameat2(2)


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders of one file system. Raises: OSError, and both are where they were."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    if renameat2 is not None and renameat2(*paths, ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return
    # Not every file system can: then the name is free for the moment between two renames.
    spare = one.with_name(f"{one.name}-{secrets.token_hex(4)}")
    other.rename(spare)
    try:
        one.rename(other)
    except OSError:
        spare.rename(other)
        raise
    spare.rename(one)
