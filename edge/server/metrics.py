"""What a server counts, in Prometheus' text form: requests, tokens, queue, times and memory; never what was said."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
_KINDS = {"RssAnon": "anonymous", "RssFile": "mapped", "VmSwap": "swapped"}


@dataclass
class _Histogram:
    """Counts of values up to each bound, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    n: int = 0

    def __post_init__(self) -> None:
        self.counts = [0] * len(self.bounds)

    def add(self, value: float) -> None:
        self.counts = [n + (value <= bound) for n, bound in zip(self.counts, self.bounds, strict=True)]
        self.total += value
        self.n += 1

    def lines(self, name: str) -> list[str]:
        rows = [f'{name}_bucket{{le="{bound:g}"}} {n}' for bound, n in zip(self.bounds, self.counts, strict=True)]
        return [*rows, f'{name}_bucket{{le="+Inf"}} {self.n}', f"{name}_sum {self.total:.6g}", f"{name}_count {self.n}"]


class Metrics:
    """Counters that any thread may add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._tokens: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()
        self._first = _Histogram(_SECONDS)
        self._speed = _Histogram(_SPEEDS)
        self._gauges: dict[str, Callable[[], int]] = {}

    def gauge(self, name: str, read: Callable[[], int]) -> None:
        """Show a value that is read when it is asked for."""
        self._gauges[name] = read

    def request(self, route: str, status: int) -> None:
        """Count a request; route: one of a fixed few, so that clients cannot make the list long."""
        with self._lock:
            self._requests[route, status] += 1

    def first_token(self, seconds: float) -> None:
        with self._lock:
            self._first.add(seconds)

    def generation(self, end: str, *, n_input: int, n_output: int, n_timed: int, s: float) -> None:
        """Count a generation that ended: why, its tokens, and how many of them came in the last `s` seconds."""
        with self._lock:
            self._ends[end] += 1
            self._tokens["input"] += n_input
            self._tokens["output"] += n_output
            if n_timed > 0 and s > 0:
                self._speed.add(n_timed / s)

    def text(self) -> str:
        """Return everything in Prometheus' text form."""
        with self._lock:
            requests = [f'edge_requests_total{{route="{r}",status="{s}"}} {n}' for (r, s), n in self._requests.items()]
            tokens = [f'edge_tokens_total{{kind="{kind}"}} {self._tokens[kind]}' for kind in ("input", "output")]
            ends = [f'edge_generations_total{{end="{end}"}} {n}' for end, n in self._ends.items()]
            first = self._first.lines("edge_time_to_first_token_seconds")
            speed = self._speed.lines("edge_tokens_per_second")
        sections = [
            ("edge_requests_total", "counter", "Requests by route and status.", requests),
            ("edge_tokens_total", "counter", "Tokens fed and sampled.", tokens),
            ("edge_generations_total", "counter", "Generations by the reason they ended.", ends),
            ("edge_time_to_first_token_seconds", "histogram", "From the request's arrival to its first token.", first),
            ("edge_tokens_per_second", "histogram", "Speed of each generation after its first token.", speed),
        ]
        for name, read in self._gauges.items():
            sections.append((name, "gauge", "A value of this moment.", [f"{name} {read()}"]))
        memory = [f'edge_memory_bytes{{kind="{kind}"}} {n}' for kind, n in _memory_bytes().items()]
        sections.append(("edge_memory_bytes", "gauge", "This process's memory; mapped is the bundle's files.", memory))
        return "".join(_section(*section) for section in sections)


def _section(name: str, kind: str, words: str, lines: list[str]) -> str:
    return "\n".join([f"# HELP {name} {words}", f"# TYPE {name} {kind}", *lines, ""])


def _memory_bytes() -> dict[str, int]:
    """Return anonymous, file-mapped and swapped bytes of this process; nothing where the kernel does not say."""
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {kind: int(fields[name].split()[0]) * 1024 for name, kind in _KINDS.items() if name in fields}
