"""The process that packs weights: BUNDLE FOLDER GRAPH...; a line of JSON for each graph, and it ends with its input."""

import contextlib
import json
import os
import sys
import threading
from pathlib import Path

from edge.bundle.bundle import verify
from edge.engine.session import open_packed, save_packed, thread_count
from edge.errors import EdgeError

_GAIN = 2  # packed weights are kept where they leave at most one part in so many of the memory that others take


def main() -> None:
    """Pack each graph into the folder, and say of each whether that gains something."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries write to file 1 as they please
    threading.Thread(target=_end_with_input, daemon=True).start()
    os.umask(0o077)
    os.nice(10)
    bundle, folder = Path(sys.argv[1]), Path(sys.argv[2])
    problems = verify(bundle)  # here, since it takes seconds for gigabytes, which nobody should wait for
    if problems:
        print(json.dumps({"error": "; ".join(problems)}), file=answers, flush=True)
        return
    for name in sys.argv[3:]:
        try:
            said: dict[str, object] = {"graph": name, "gains": _pack(bundle / name, folder / name)}
        except EdgeError as error:
            said = {"error": str(error)}
        answers.write(f"{json.dumps(said)}\n")
        answers.flush()


def _pack(graph: Path, out: Path) -> bool:
    """Write a graph packed, load it as it will be, and compare the memory that both take."""
    n_before = _anonymous_bytes()
    session = save_packed(graph, out, threads=thread_count(None))
    n_plain = _anonymous_bytes() - n_before
    del session
    n_before = _anonymous_bytes()
    session = open_packed(out, threads=thread_count(None))
    n_packed = _anonymous_bytes() - n_before
    del session
    if n_packed * _GAIN <= n_plain:
        return True
    for file in (out, out.with_suffix(".bin")):
        file.unlink(missing_ok=True)
    return False


def _anonymous_bytes() -> int:
    """Return what this process holds besides mapped files; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        held = [line.split() for line in lines if line.startswith(("RssAnon:", "VmSwap:"))]
        return sum(int(words[1]) for words in held) * 1024
    return 0


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
