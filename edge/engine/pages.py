"""Memory in pieces that can stand in several places at once: what is written in one is read in all the others."""

import ctypes
import mmap
import os
import sys
import weakref
from collections.abc import Sequence

import numpy as np

from edge.arrays import U8
from edge.errors import MemoryExhausted

# Of Linux; the module mmap has no name for some of them, and cannot place a mapping.
_PROT_NONE = 0
_PROT_READ_WRITE = 3
_MAP_SHARED = 0x01
_MAP_PRIVATE = 0x02
_MAP_FIXED = 0x10
_MAP_ANONYMOUS = 0x20
_MAP_NORESERVE = 0x4000
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_MADV_DONTFORK = 10
_MADV_NOHUGEPAGE = 15
_FAILED = ctypes.c_void_p(-1).value


class Pages:
    """Zeroed memory of n_pieces times piece_bytes, taken from the system page by page as it is written.

    piece_bytes: a multiple of `mmap.PAGESIZE`. can_repeat: whether `arranged` is there: on 64-bit Linux.
    Raises: MemoryExhausted.
    """

    def __init__(self, n_pieces: int, piece_bytes: int) -> None:
        self.piece_bytes = piece_bytes
        self._nbytes = n_pieces * piece_bytes
        self.can_repeat = sys.platform == "linux" and sys.maxsize > 1 << 32
        if self.can_repeat:
            self._file = os.memfd_create("edge-cache", os.MFD_CLOEXEC)
            weakref.finalize(self, os.close, self._file).atexit = False
            os.ftruncate(self._file, self._nbytes)
            self.whole = self.arranged(range(n_pieces))
        else:
            self.whole = np.frombuffer(mmap.mmap(-1, self._nbytes), np.uint8)

    def arranged(self, pieces: Sequence[int]) -> U8:
        """Return pieces one after another, in any order and any number of times, as one array of bytes.

        It is the same memory wherever a piece stands. It is unmapped with the last array that looks at it.
        Raises: MemoryExhausted.
        """
        mapping = _Mapping(len(pieces) * self.piece_bytes)
        start = 0
        while start < len(pieces):
            stop = start + 1
            while stop < len(pieces) and pieces[stop] == pieces[stop - 1] + 1:
                stop += 1
            at, n_bytes = start * self.piece_bytes, (stop - start) * self.piece_bytes
            mapping.show(at, n_bytes, self._file, pieces[start] * self.piece_bytes)
            start = stop
        mapping.advise()
        return np.asarray(mapping)

    def clear(self) -> None:
        """Give the memory back to the system: all of it is zero again."""
        # Not madvise(MADV_REMOVE), which may be taken for a hint: qemu's user emulation ignores it.
        if self.can_repeat and _libc().fallocate(self._file, _PUNCH_HOLE, 0, self._nbytes):
            self.whole[:] = 0


class _Mapping:
    """A range of addresses that shows parts of a file; numpy's arrays over it hold it."""

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
        self._start = _mapped(None, n_bytes, _PROT_NONE, flags, -1, 0)
        # Not at exit: a thread that is still computing would read what is gone.
        weakref.finalize(self, _unmap, _libc(), os.getpid(), self._start, n_bytes).atexit = False
        shape, address = (n_bytes,), (self._start, False)
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": shape, "data": address}

    def show(self, at: int, n_bytes: int, file: int, offset: int) -> None:
        """Show a part of a file from the byte `at` on."""
        _mapped(self._start + at, n_bytes, _PROT_READ_WRITE, _MAP_SHARED | _MAP_FIXED, file, offset)

    def advise(self) -> None:
        """Keep it out of processes that are forked, and in small pages.

        A head's positions lie far from the next head's: with huge pages the first token would take gigabytes.
        """
        for advice in (_MADV_DONTFORK, _MADV_NOHUGEPAGE):  # without either it works all the same
            _libc().madvise(self._start, self._n_bytes, advice)


def _unmap(libc: ctypes.CDLL, process: int, start: int, n_bytes: int) -> None:
    """Unmap a range in the process that mapped it: in one that was forked, something else may be there."""
    if os.getpid() == process:
        libc.munmap(start, n_bytes)


def _mapped(start: int | None, n_bytes: int, protection: int, flags: int, file: int, offset: int) -> int:
    address: int | None = _libc().mmap(start, n_bytes, protection, flags, file, offset)
    if address is None or address == _FAILED:
        raise MemoryExhausted(f"no room for {n_bytes} bytes of addresses: {os.strerror(ctypes.get_errno())}")
    return address


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    size, number, place = ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p
    libc.mmap.argtypes = (place, size, number, number, number, ctypes.c_longlong)
    libc.munmap.argtypes = (place, size)
    libc.madvise.argtypes = (place, size, number)
    libc.fallocate.argtypes = (number, number, ctypes.c_longlong, ctypes.c_longlong)
    return libc
