"""A server on pipes: a process group of its own, messages of a bounded size, its stderr in a bounded file."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

MAX_MESSAGE_BYTES = 16 << 20  # an image of some megapixels in base64
MAX_GARBAGE = 200  # lines that are no messages
MAX_UNASKED = 10_000  # messages in a row that answer nothing, or what nobody asked
MAX_LOG_BYTES = 1 << 20
_CHUNK = 1 << 16
_EXIT_S = 2.0  # to end when its input does; then to end when it is told to
# What a program needs to run, and nothing that is a secret of ours.
_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER", "XDG_RUNTIME_DIR")

ToSession = MemoryObjectSendStream[SessionMessage | Exception]
FromSession = MemoryObjectReceiveStream[SessionMessage]
Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


class Misbehaved(Exception):
    """A server that does what none may; the text says what."""


class StdioTransport:
    """Starts a server and carries messages to and from it; a context manager, as the SDK's transports are.

    why: how it ended or what it did wrong, None while it runs. log: the file for its stderr.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: str | None, log: Path) -> None:
        self.why: str | None = None
        self._command = command
        self._env = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | dict(env)
        self._cwd = cwd
        self._log = log
        self._last_line = b""
        self._asked: set[str] = set()  # ids of requests that are not answered
        self._held = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Streams:
        return await self._held.enter_async_context(self._running())

    async def __aexit__(self, *error: object) -> bool | None:
        return await self._held.__aexit__(*error)  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncGenerator[Streams]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._cwd,
            env=self._env,
            start_new_session=True,
        )
        to_session, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        jobs = [
            asyncio.create_task(self._read(process, to_session)),
            asyncio.create_task(self._write(process, from_session, to_session)),
            asyncio.create_task(self._keep_stderr(process)),
        ]
        try:
            yield from_server, to_server
        finally:
            ending = asyncio.ensure_future(self._end(process, jobs))
            # Also where this task is cancelled: a process is never left behind.
            while not ending.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(ending)
            for stream in (to_session, from_server, to_server, from_session):
                stream.close()

    async def _read(self, process: asyncio.subprocess.Process, to_session: ToSession) -> None:
        """Hand over what the server says, line by line, until it ends or misbehaves."""
        try:
            await self._read_lines(process, to_session)
            self.why = self.why or await self._exit_of(process)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # the session is gone
        except Misbehaved as error:
            self.why = str(error)
            _kill(process)
        finally:
            to_session.close()

    async def _read_lines(self, process: asyncio.subprocess.Process, to_session: ToSession) -> None:
        if process.stdout is None:
            return
        rest, n_garbage, n_unasked = bytearray(), 0, 0
        while chunk := await process.stdout.read(_CHUNK):
            *lines, tail = chunk.split(b"\n")
            for line in lines:
                rest += line
                message = _message(bytes(rest))
                rest.clear()
                if message is None:
                    n_garbage += 1
                else:
                    n_unasked = 0 if self._answers(message) else n_unasked + 1
                    await to_session.send(message)
                if n_garbage > MAX_GARBAGE:
                    raise Misbehaved(f"it wrote more than {MAX_GARBAGE} lines that are no messages of MCP")
                if n_unasked > MAX_UNASKED:
                    raise Misbehaved(f"it sent {MAX_UNASKED} messages that nobody asked for")
            rest += tail
            if len(rest) > MAX_MESSAGE_BYTES:
                raise Misbehaved(f"it sent a message of more than {MAX_MESSAGE_BYTES >> 20} MiB")

    async def _write(
        self, process: asyncio.subprocess.Process, from_session: FromSession, to_session: ToSession
    ) -> None:
        try:
            async for message in from_session:
                if process.stdin is None:
                    return
                if hasattr(message.message, "method") and hasattr(message.message, "id"):
                    self._asked.add(str(message.message.id))
                process.stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await process.stdin.drain()
        except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            to_session.close()  # what waits for an answer learns that there will be none

    def _answers(self, message: SessionMessage) -> bool:
        """Return whether a message answers a request of ours, and does so for the first time."""
        asked = str(getattr(message.message, "id", None))
        if hasattr(message.message, "method") or asked not in self._asked:
            return False
        self._asked.remove(asked)
        return True

    async def _keep_stderr(self, process: asyncio.subprocess.Process) -> None:
        """Write the server's stderr to its file, up to a limit, and read on: a full pipe would stop the server."""
        if process.stderr is None:
            return
        left = MAX_LOG_BYTES
        with _log_file(self._log) as file:
            while chunk := await process.stderr.read(_CHUNK):
                lines = chunk.strip().splitlines()
                self._last_line = lines[-1] if lines else self._last_line
                if left > 0:
                    with contextlib.suppress(OSError):
                        file.write(chunk[:left])
                        file.write(b"" if len(chunk) < left else b"\n[the rest is left out]\n")
                    left -= len(chunk)

    async def _exit_of(self, process: asyncio.subprocess.Process) -> str:
        """Return how a server ended whose output did."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_S):
                code = await process.wait()
                how = f"with status {code}" if code >= 0 else f"by {_signal(-code)}"
                said = self._last_line.decode("utf-8", "replace").strip()
                return f"it ended {how}" + (f": {said:.200}" if said else "")
        return "it closed its output"

    async def _end(self, process: asyncio.subprocess.Process, jobs: Sequence["asyncio.Task[None]"]) -> None:
        """End the server and whatever it started: by the end of its input, then by signals."""
        if process.stdin is not None:
            process.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                _signal_group(process, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EXIT_S):
                    await process.wait()
                    break
        _kill(process)  # what is left of its group
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        # A child that escaped may hold its pipes open.
        cast(asyncio.SubprocessTransport, process._transport).close()  # type: ignore[attr-defined]


def _message(line: bytes) -> SessionMessage | None:
    """Return a line as a message, None for what is none."""
    if not line.strip():
        return None
    with contextlib.suppress(ValueError, RecursionError):
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    return None


def _log_file(path: Path) -> IO[bytes]:
    """Open a file that only its owner can read, or nowhere where there is no room for it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb", buffering=0)
    except OSError:
        return Path(os.devnull).open("wb")


def _kill(process: asyncio.subprocess.Process) -> None:
    _signal_group(process, signal.SIGKILL)


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _signal(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
