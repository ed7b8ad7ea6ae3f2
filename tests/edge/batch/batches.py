"""Batch lines, and an app with an engine that has fixed words behind it."""

import json
from pathlib import Path

from edge.batch.asker import Asker
from edge.batch.lines import Settled
from edge.chat import Chat, Preset
from edge.chat.attachments import Access
from edge.limits import Limits
from edge.server.app import App
from tests.edge.fake_engine import FakeEngine, OneEngine

SETTLED = Settled()


def asking(custom_id: str, url: str, **body: object) -> bytes:
    """A line that asks a route."""
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode()


def line(custom_id: str, text: str = "How many?", **body: object) -> bytes:
    """A line of a chat."""
    return asking(custom_id, "/v1/chat/completions", messages=[{"role": "user", "content": text}], **body)


def continuation(custom_id: str, text: str, **body: object) -> bytes:
    """A line whose answer is as long as it may be, and another for each seed."""
    return asking(custom_id, "/v1/completions", prompt=text, temperature=2.0, top_p=1.0, **body)


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(data + b"\n" for data in lines))
    return path


def records(path: Path) -> list[dict[str, object]]:
    """What a file of records has, whole lines alone."""
    return [json.loads(data) for data in path.read_bytes().splitlines()] if path.exists() else []


def ids(path: Path) -> list[object]:
    return [record["custom_id"] for record in records(path)]


def asker(engine: FakeEngine, preset: Preset | None = None) -> Asker:
    preset = preset or Preset({"model": "a-model"})
    return Asker(App(Chat(OneEngine(engine), Access(), Limits(), preset=preset)), SETTLED)  # type: ignore[arg-type]
