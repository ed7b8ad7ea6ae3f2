"""Memory in pieces: what a process that ends, and one that was forked, does with it."""

import mmap
import os
import subprocess
import sys

import pytest

import edge.engine.pages
from edge.engine.pages import Pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pieces are arranged on Linux alone")

_USED_AT_EXIT = """
import atexit
atexit.register(lambda: print(array[0]))  # after everything that is registered later
import mmap
from edge.engine.pages import Pages
array = Pages(2, mmap.PAGESIZE).arranged([1, 0])
array[:] = 7
"""

_FREED_IN_A_CHILD = """
import gc, mmap, os
import numpy as np
from edge.engine.pages import Pages

pages = Pages(64, 1 << 20)
start = pages.whole.ctypes.data
child = os.fork()
if child == 0:
    own = [np.frombuffer(mmap.mmap(-1, 1 << 20), np.uint8) for _ in range(256)]
    assert any(start <= array.ctypes.data < start + (64 << 20) for array in own)
    del pages
    gc.collect()
    for array in own:
        array[:] = 7
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


def printed(program: str) -> str:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_it_is_there_until_a_program_has_ended() -> None:
    assert printed(_USED_AT_EXIT) == "7"


def test_a_forked_process_that_drops_it_keeps_its_own_memory() -> None:
    assert printed(_FREED_IN_A_CHILD) == "0"


def test_cleared_pieces_are_zero_and_take_no_memory() -> None:
    pages = Pages(8, mmap.PAGESIZE)
    view = pages.arranged([3, 3])
    pages.whole[:] = 7
    assert os.fstat(pages._file).st_blocks > 0
    pages.clear()
    assert os.fstat(pages._file).st_blocks == 0
    assert not pages.whole.any() and not view.any()


def test_pieces_are_zero_where_the_system_takes_none_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(2, mmap.PAGESIZE)
    pages.whole[:] = 7
    libc = edge.engine.pages._libc()
    monkeypatch.setattr(libc, "fallocate", lambda *_: -1)
    monkeypatch.setattr(edge.engine.pages, "_libc", lambda: libc)
    pages.clear()
    assert not pages.whole.any()
