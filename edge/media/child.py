"""The decoding process: limits itself, then decodes what it is sent, until its input ends or is long in coming."""

import ctypes
import os
import resource
import select
import signal
from typing import BinaryIO

from edge.errors import EdgeError, MemoryExhausted
from edge.media import wire
from edge.media.decoded import Json
from edge.media.decoding import decode, prepare

_NO_NEW_PRIVILEGES = 38  # prctl(2)
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # unshare(2)
_MAX_FILES = 64
_MAX_FILE_BYTES = 64 << 20  # what is sent may have to stand in a file, one without a name


def main() -> None:
    """Serve jobs from standard input on standard output."""
    # Libraries write to file 1 as they please: the answers go out by another number.
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    jobs = os.fdopen(os.dup(0), "rb")
    os.dup2(null, 0)
    os.close(null)
    _confine()
    wire.send(answers, {"ready": True})
    idle_s = float(os.environ["EDGE_IDLE_S"])
    while select.select([jobs], [], [], idle_s)[0]:
        try:
            head = wire.receive(jobs)
        except wire.WireError:
            return
        data = wire.take(jobs, int(head["n_bytes"]))
        wire.send(answers, {"heard": True})
        _do(head, data, answers)
        del data


def _do(head: dict[str, Json], data: bytes, answers: BinaryIO) -> None:
    """Do one job and answer it; only what is ours goes out as words."""
    kind = str(head["kind"])
    try:
        prepare(kind)
        _limit(int(head["memory_bytes"]), float(head["limit_s"]))
        decoded = decode(kind, data, head["options"])
    except EdgeError as error:
        message = f"{kind}: decoding it takes too much memory" if isinstance(error, MemoryExhausted) else str(error)
        wire.send(answers, {"error": message, "detail": repr(error.__cause__)})
    except MemoryError:
        wire.send(answers, {"error": f"{kind}: decoding it takes too much memory"})
    except Exception as error:
        wire.send(answers, {"error": f"{kind}: the data is damaged", "detail": repr(error)})
    else:
        wire.send_decoded(answers, decoded)
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _confine() -> None:
    """Give up what no decoder needs: large files, many descriptors, dumps of memory, gaining rights, the network."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_FILES, _MAX_FILES))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails instead
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    # A network of its own, with nothing in it; where the system does not give one, the rest has to do.
    if libc.unshare(_NEW_NETWORK):
        libc.unshare(_NEW_USER | _NEW_NETWORK)


def _limit(memory_bytes: int, limit_s: float) -> None:
    """Allow so much memory and processor time beyond what was used so far."""
    held_bytes, mapped_bytes = _held()
    resource.setrlimit(resource.RLIMIT_DATA, (held_bytes + memory_bytes, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes + memory_bytes, resource.RLIM_INFINITY))
    used = resource.getrusage(resource.RUSAGE_SELF)
    n_threads = min(4, os.cpu_count() or 1)
    cpu_s = used.ru_utime + used.ru_stime + limit_s * n_threads + 1
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s) + 1, resource.RLIM_INFINITY))


def _held() -> tuple[int, int]:
    """Return the bytes of writable memory and of all mappings this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (as small as it gets)
        fields = file.read().split()
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return int(fields[5]) * page_bytes, int(fields[0]) * page_bytes


if __name__ == "__main__":
    main()
