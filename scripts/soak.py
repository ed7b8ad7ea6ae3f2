"""Serves a bundle to clients that ask, stream, cancel and vanish at once, and looks at what it says and keeps.

Every answer that is finished must be the one that a quiet server gave; memory must stay flat once the server is warm;
and when all is over no thread, descriptor, child or place in the queue may be left.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from PIL import Image, ImageDraw

Body = dict[str, object]

N_REQUESTS = 48
FLAT_BYTES = 5_000_000
WARM_SHARE = 0.25  # of the time
REST_S = 1.5
WORDS = ("Who are you?", "What can you do?", "Hello!", "Which shapes do you know?", "Count to ten.", "Thank you!")


@dataclass(frozen=True)
class GrammarStats:
    """What a process holds when it rests; threads: their names by their ids."""

    threads: dict[int, str]
    descriptors: int
    children: int


@dataclass
class Seen:
    """What happened: endings by kind, wrong answers, and memory in bytes, in the order of time."""

    endings: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def request(number: int) -> Body:
    """Return one of the requests: every fourth shows a picture."""
    text = WORDS[number % len(WORDS)]
    content: object = text
    if number % 4 == 0:
        content = [{"type": "image_url", "image_url": image(number)}, {"type": "text", "text": text}]
    return {
        "model": "reka-edge",
        "messages": [{"role": "user", "content": content}],
        "seed": number,
        "temperature": 1.0,
        "max_tokens": 8 + number,
    }


def image(number: int) -> str:
    """Return a picture as a data URL."""
    image = Image.new("RGB", (200 + number, 160), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 90 + number, 90 + number), fill="red")
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@contextmanager
def serving(bundle: str, log: Path) -> Iterator[tuple[int, str]]:
    """Run `edge serve` on a bundle, its log in a file; yield its process id and address."""
    command = [sys.executable, "-m", "edge.cli", "serve", "--model", bundle, "--port", "0", "--slots", "4"]
    with log.open("wb") as file, subprocess.Popen(command, stderr=file) as process:
        try:
            yield process.pid, address_of(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=60)
    if status != 0:
        raise SystemExit(f"the server ended with status {status}")


def address_of(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        found = re.search(r"serving at (https?://\S+) .*\n", log.read_text("utf-8"))
        if found is not None:
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"the server did not start: {log.read_text('utf-8').strip()}")


def memory_bytes(pid: int) -> int:
    """Return a process's own memory, what of it is swapped out included."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "VmSwap"))


def held(pid: int) -> GrammarStats:
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    children = sum(len((task / "children").read_text().split()) for task in tasks)
    threads = {int(task.name): (task / "comm").read_text().strip() for task in tasks}
    return GrammarStats(threads, len(list(Path(f"/proc/{pid}/fd").iterdir())), children)


async def whole(client: httpx.AsyncClient, body: Body) -> str:
    """Return an answer that comes at once. Raises: httpx.HTTPError, for a status other than 200 too."""
    response = await client.post("/v1/chat", json=body)
    response.raise_for_status()
    return str(response.json()["responses"][0]["message"]["content"])


async def streamed(client: httpx.AsyncClient, body: Body) -> str:
    """Return an answer that comes as a stream: what its last event says. Raises: as `whole`."""
    last: Body = {}
    async with client.stream("POST", "/v1/chat", json={**body, "stream": True}) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            last = json.loads(line.removeprefix("data: ")) if line else last
    chunk = last["responses"][0]  # type: ignore[index]
    if "finish_reason" not in chunk:
        raise httpx.RemoteProtocolError("a stream without an end")
    return str(chunk["chunk"]["content"])


async def vanish(address: str, body: Body, after_s: float, rng: random.Random) -> None:
    """Ask over a bare socket and leave without a word, in the middle of the request or of the answer."""
    host, _, port = address.partition("://")[2].rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps({**body, "stream": rng.random() < 0.5}).encode()
    lines = [f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(data)}"]
    sent = "\r\n".join(["POST /v1/chat HTTP/1.1", *lines, "", ""]).encode() + data
    writer.write(sent if rng.random() < 0.7 else sent[: rng.randrange(1, len(sent))])
    await asyncio.sleep(after_s)
    writer.transport.abort()


async def turn(client: httpx.AsyncClient, address: str, quiet: list[str], rng: random.Random, seen: Seen) -> None:
    """Do one thing that a client does, and note how it ended."""
    number = rng.randrange(len(quiet))
    body, leaving_s = request(number), rng.random() * 0.3
    ask = streamed if rng.random() < 0.5 else whole
    kind = rng.random()
    try:
        if kind < 0.15:
            await vanish(address, body, leaving_s, rng)
            seen.endings["vanished"] += 1
        elif kind < 0.35:
            await asyncio.wait_for(ask(client, body), leaving_s)
            seen.endings["finished before it was cancelled"] += 1
        else:
            text = await ask(client, body)
            seen.endings["finished"] += 1
            if text != quiet[number]:
                seen.wrong.append(f"request {number}: {text!r:.200} in place of {quiet[number]!r:.200}")
    except TimeoutError:
        seen.endings["cancelled"] += 1
    except httpx.HTTPStatusError as error:
        seen.wrong.append(f"request {number}: status {error.response.status_code}")
    except (httpx.HTTPError, OSError) as error:
        seen.wrong.append(f"request {number}: {type(error).__name__}: {error}")


async def rush(address: str, pid: int, quiet: list[str], clients: range, for_s: float, seen: Seen) -> GrammarStats:
    """Let clients, by their seeds, at a server for a while; return what it holds when they are gone."""
    until_s = time.monotonic() + for_s

    async def stay(client: httpx.AsyncClient, rng: random.Random) -> None:
        while time.monotonic() < until_s:
            await turn(client, address, quiet, rng, seen)

    async with reaching(address) as client:
        tasks = [asyncio.create_task(stay(client, random.Random(seed))) for seed in clients]
        while not all(task.done() for task in tasks):
            seen.memory.append(memory_bytes(pid))
            await asyncio.sleep(0.5)
        await asyncio.gather(*tasks)
    await asyncio.sleep(REST_S)
    async with reaching(address) as client:
        metrics = (await client.get("/metrics")).text
    for name in ("edge_running", "edge_queue_length"):
        found = re.search(rf"^{name} (\d+)$", metrics, re.MULTILINE)
        if found is None or found[1] != "0":
            seen.wrong.append(f"{name}: expected 0 at rest, got {found[1] if found else 'nothing'}")
    await asyncio.sleep(REST_S)
    seen.memory.append(memory_bytes(pid))
    return held(pid)


def reaching(address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=address, timeout=120, trust_env=False)


async def crowd(
    pid: int, address: str, *, seconds: float, n_clients: int, seen: Seen
) -> tuple[GrammarStats, GrammarStats]:
    """Take the quiet answers, then let clients in; return what the server held once it was warm, and at the end."""
    async with reaching(address) as client:
        quiet = [await whole(client, request(number)) for number in range(N_REQUESTS)]
    warm = await rush(address, pid, quiet, range(n_clients), seconds * WARM_SHARE, seen)
    del seen.memory[:-1]
    return warm, await rush(address, pid, quiet, range(1000, 1000 + n_clients), seconds * (1 - WARM_SHARE), seen)


def problems(seen: Seen, warm: GrammarStats, last: GrammarStats, log: str) -> list[str]:
    """Return what is not as it should be."""
    found = list(seen.wrong)
    grown_bytes = max(seen.memory) - seen.memory[0]
    if grown_bytes > FLAT_BYTES:
        found.append(f"memory: grew by {grown_bytes / 1e6:.1f} MB after warming up")
    for before, after, word in ((warm.threads, last.threads, "began"), (last.threads, warm.threads, "ended")):
        others = ", ".join(f"{name} ({number})" for number, name in after.items() if number not in before)
        if others:
            found.append(f"threads: {len(warm.threads)} when warm; since then {word}: {others}")
    for name in ("descriptors", "children"):
        n_before, n_after = getattr(warm, name), getattr(last, name)
        if n_after > n_before:
            found.append(f"{name}: {n_before} when warm, {n_after} at the end")
    if not seen.endings["finished"]:
        found.append("no answer was finished")
    return found + [f"log: {line:.300}" for line in log.splitlines() if '"level": "error"' in line]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("bundle", nargs="?", default=str(Path(__file__).parents[1] / "models" / "reka-edge-tiny"))
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    seen = Seen()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with serving(arguments.bundle, log) as (pid, address):
            warm, last = asyncio.run(
                crowd(pid, address, seconds=arguments.seconds, n_clients=arguments.clients, seen=seen)
            )
        found = problems(seen, warm, last, log.read_text("utf-8"))
    first, *_, end = sizes = [size / 1e6 for size in seen.memory]
    print("answers:", ", ".join(f"{n} {kind}" for kind, n in sorted(seen.endings.items())))
    print(f"memory:  {first:.1f} MB when warm, then {min(sizes):.1f} to {max(sizes):.1f}, {end:.1f} at the end")
    for state, when in ((warm, "when warm"), (last, "at the end")):
        counts = f"{len(state.threads)} threads, {state.descriptors} descriptors, {state.children} children"
        print(f"held:    {counts} {when}")
    for each in found:
        print(f"FAIL     {each}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
