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


def fields(
    custom_id: str, text: str = "How many?", url: str = "/v1/chat/completions", **body: object
) -> dict[str, object]:
    """A line that asks something."""
    asked = {"messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": asked}


def line(custom_id: str, text: str = "How many?", **body: object) -> bytes:
    return json.dumps(fields(custom_id, text, **body)).encode()


def continuation(custom_id: str, text: str, **body: object) -> bytes:
    """A line whose answer is as long as it may be, and another for each seed."""
    asked = {"prompt": text, "temperature": 2.0, "top_p": 1.0, **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": asked}).encode()


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
