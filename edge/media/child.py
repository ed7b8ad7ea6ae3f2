"""The decoding process: limits itself, then decodes what it is sent, until its input ends or is long in coming."""

import contextlib
import ctypes
import os
import select
import signal
from typing import BinaryIO

from edge.errors import EdgeError, MediaError, MemoryExhausted
from edge.media import wire
from edge.media.allowance import Allowance, Job, limit_of, shortage
from edge.media.decoded import Json
from edge.media.decoding import decode, prepare

_NO_NEW_PRIVILEGES = 38  # prctl(2)
_PERTURB, _FILL = -6, 0x7F  # mallopt(3): memory is filled with this, or its complement: mid-grey both
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # unshare(2)


def main() -> None:
    """Serve jobs from standard input on standard output."""
    # Libraries write to file 1 as they please: the answers go out by another number.
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    jobs = os.fdopen(os.dup(0), "rb")
    os.dup2(null, 0)
    os.close(null)
    allowance = Allowance()
    try:
        _confine(allowance)
    except (OSError, ValueError) as error:
        wire.send(answers, {"failed": f"it cannot be confined: {error}"})
        return
    wire.send(answers, {"ready": True})
    idle_s = float(os.environ["EDGE_IDLE_S"])
    while select.select([jobs], [], [], idle_s)[0]:
        try:
            head = wire.receive(jobs)
        except wire.WireError:
            return
        data = wire.take(jobs, int(head["n_bytes"]))
        if not _do(head, data, answers, allowance):
            return
        del data
        _return_memory()


def _do(head: dict[str, Json], data: bytes, answers: BinaryIO, allowance: Allowance) -> bool:
    """Do one job and answer it; return whether another may follow. Only what is ours goes out as words."""
    kind, cpu_s = str(head["kind"]), _cpu_s(float(head["limit_s"]))
    # Before the job counts as heard: what fails here is not the data's fault.
    try:
        _load(kind)
        job = allowance.begin(memory_bytes=int(head["memory_bytes"]), cpu_s=cpu_s)
    except Exception as error:
        wire.send(answers, {"failed": f"{kind}: {_unprepared(error)}", "detail": repr(error)})
        return False
    wire.send(answers, {"heard": True, "short": job.said(), "tight": job.is_tight})
    try:
        decoded = decode(kind, data, head["options"])
    except Exception as error:
        allowance.end()
        is_spent = allowance.is_spent(cpu_s)
        wire.send(answers, {**_refusal(kind, error, job), "last": is_spent})
    else:
        allowance.end()
        is_spent = allowance.is_spent(cpu_s)
        wire.send_decoded(answers, decoded, is_last=is_spent)
    return not is_spent


def _fill_memory() -> None:
    """Have memory filled when it is given out and when it is given back, where the C library can.

    What a decoder leaves unwritten, or reads beyond its own, shows nothing of what was decoded for another client.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_PERTURB, _FILL)


def _return_memory() -> None:
    """Give the system what a job left free: filled, it would stay in memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _cpu_s(limit_s: float) -> float:
    return limit_s * min(4, os.cpu_count() or 1) + 1


def _load(kind: str) -> None:
    """Import what a job needs; decoding tells who asks for a kind that there is not."""
    with contextlib.suppress(MediaError):
        prepare(kind)


def _unprepared(error: Exception) -> str:
    if isinstance(error, MemoryExhausted):
        return str(error)
    lacking = shortage(error) or "memory"  # a library that cannot be mapped is an ImportError
    return f"the decoder cannot be loaded: not enough {lacking}"


def _refusal(kind: str, error: Exception, job: Job) -> dict[str, Json]:
    """Return the answer for a failure: `error` where the data is to blame, `failed` where this process's limits are."""
    detail = repr(error.__cause__ if isinstance(error, EdgeError) else error)
    lacking = shortage(error)
    if lacking == "memory":
        if job.short:
            return {"failed": f"{kind}: not enough memory to decode it: {job.said()}", "detail": detail}
        return {"error": f"{kind}: decoding it needs too much memory", "detail": detail}
    if lacking is not None:
        limits = f": {limit_of(lacking)}" if limit_of(lacking) else ""
        return {"failed": f"{kind}: not enough {lacking} to decode it{limits}", "detail": detail}
    message = str(error) if isinstance(error, EdgeError) else f"{kind}: the data is damaged"
    if job.is_tight and "damaged" in message:
        return {"failed": f"{message}, or it needs more memory: {job.said()}", "detail": detail}
    return {"error": message, "detail": detail}


def _confine(allowance: Allowance) -> None:
    """Give up what no decoder needs: large files, many descriptors, dumps of memory, gaining rights, the network."""
    allowance.confine()
    _fill_memory()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails instead
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    # A network of its own, with nothing in it; where the system does not give one, the rest has to do.
    if libc.unshare(_NEW_NETWORK):
        libc.unshare(_NEW_USER | _NEW_NETWORK)


if __name__ == "__main__":
    main()
