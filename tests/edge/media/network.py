"""A network without a wire: names, servers that answer as they are told, and what was dialled and sent."""

import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import httpcore

PUBLIC = "93.184.215.14"
Answer = Callable[[bytes], Iterable[bytes]]  # what was asked -> parts of the answer


def answer(
    body: bytes = b"picture", *, status: str = "200 OK", headers: Sequence[str] = (), length: int | None = None
) -> Answer:
    """A server that answers every request alike."""
    told = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {told}", *headers]
    return lambda _: ["\r\n".join([*lines, "", ""]).encode("latin-1") + body]


def redirect(to: str, status: int = 302) -> Answer:
    return answer(b"", status=f"{status} Found", headers=[f"Location: {to}"])


class Stream(httpcore.NetworkStream):
    """One end of a connection to a server that is a function."""

    def __init__(self, network: "Network", serve: Answer) -> None:
        self._network = network
        self._serve = serve
        self._asked = b""
        self._parts: Iterator[bytes] | None = None
        self._left = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        assert timeout is not None and timeout <= 30
        if self._parts is None:
            self._network.asked.append(self._asked)
            self._parts = iter(self._serve(self._asked))
            self._asked = b""
        if not self._left:
            started_s = time.monotonic()
            self._left = next(self._parts, b"")
            if time.monotonic() - started_s > timeout:
                raise httpcore.ReadTimeout
        taken, self._left = self._left[:max_bytes], self._left[max_bytes:]
        return taken

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._asked += buffer
        self._parts = None

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        assert ssl_context.verify_mode == ssl.CERT_REQUIRED and ssl_context.check_hostname
        assert timeout is not None and timeout <= 10
        self._network.greeted.append(server_hostname)
        return self

    def close(self) -> None:
        self._network.closed += 1

    def get_extra_info(self, info: str) -> object:
        return None


@dataclass
class Network:
    """names: what each host resolves to, one list for each time it is asked, the last one again and again."""

    servers: dict[str, Answer]
    names: dict[str, list[list[str]]] = field(default_factory=dict)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    greeted: list[str | None] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)
    closed: int = 0

    def resolve(self, host: str, port: int) -> list[str]:
        told = self.names.get(host, [[PUBLIC]])
        self._host = host
        return told.pop(0) if len(told) > 1 else told[0]

    def connect(self, address: str, port: int, limit_s: float) -> httpcore.NetworkStream:
        assert 0 < limit_s <= 10
        self.dialled.append((address, port))
        return Stream(self, self.servers[self._host])
