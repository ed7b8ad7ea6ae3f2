"""Memory in pieces: what a process that ends, and one that was forked, does with it."""

import subprocess
import sys

import pytest

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
