"""edge watch: the same question asked of a camera over and over; a line of JSON when the answer changes."""

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.choosing import chosen
from edge.commands.console import ModelName, ProvidersOption, api_failures, camera_of, fail, log_to_stderr
from edge.commands.told import working

if TYPE_CHECKING:
    from edge.devices.deliveries import Deliveries
    from edge.devices.watch import Event

_UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


def watch(
    question: Annotated[str, typer.Argument(help="The question about each frame.")],
    camera: Annotated[
        str, typer.Option("--camera", help="0, csi, pi, a GStreamer pipeline, a video, a folder, or - (JPEGs).")
    ] = "0",
    every: Annotated[str, typer.Option("--every", help="Interval of the questions: 500ms, 2s, 1m.")] = "2s",
    heartbeat: Annotated[str, typer.Option("--heartbeat", help="Interval of the heartbeats.")] = "1m",
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, help="Grey levels by which a tile must differ to be encoded again."),
    ] = None,
    refresh: Annotated[str, typer.Option("--refresh", help="Age at which an unchanged tile is encoded again.")] = "1m",
    size: Annotated[str | None, typer.Option("--size", help="Frame size of the camera, such as 1280x720.")] = None,
    still: Annotated[bool, typer.Option("--still", help="Accept a camera whose frame never changes.")] = False,
    webhook: Annotated[
        str | None, typer.Option("--webhook", help="Address that gets each change by POST, as a line of JSON.")
    ] = None,
    webhook_header: Annotated[
        list[str] | None,
        typer.Option("--webhook-header", help="'NAME: VALUE' of its requests; ${NAME} is a variable. Repeatable."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Command that is run for each change, the line on its input; no shell.")
    ] = None,
    model: ModelName = None,
    _providers: ProvidersOption = None,
    system: Annotated[str | None, typer.Option("--system", help="The system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Limit of the answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Default: 0, greedy decoding.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the sampling, for repeatable answers.")] = None,
) -> None:
    """Ask the same question about a camera at intervals. Each changed answer is a line of JSON.

    Only the tiles of a frame that changed are encoded. Heartbeats, a lost camera and its return are lines, too.
    --webhook and --run are told of everything but heartbeats; a receiver that is slow or away never stops the watch.
    """
    from edge.devices.tile_changes import THRESHOLD
    from edge.devices.watch import watch as watching

    every_s, heartbeat_s, refresh_s = intervals(every=every, heartbeat=heartbeat, refresh=refresh)
    stored = chosen(model, ["images"])
    told = working(f"loading: {stored.id}", lambda: f"watching with {stored.id}")
    with (
        api_failures(),
        receivers(webhook, webhook_header or (), run) as to_tell,
        told as on_turn,
        camera_of(camera, size=size, still=still) as eyes,
    ):
        events = watching(
            eyes, question, every_s=every_s, heartbeat_s=heartbeat_s, refresh_s=refresh_s,
            threshold=THRESHOLD if threshold is None else threshold, model=model or stored.id, system=system,
            max_tokens=max_tokens, temperature=temperature, seed=seed, on_turn=on_turn,
        )  # fmt: skip
        for event in events:
            line = _line(event)
            print(line, flush=True)
            if event.kind != "heartbeat":
                for receiver in to_tell:
                    receiver.put(line, json.loads(line))


@contextmanager
def receivers(webhook: str | None, headers: Sequence[str], command: str | None) -> Iterator[list["Deliveries"]]:
    """Open what is told of each change: an address, a command. Raises: ParameterError for what is neither."""
    from edge.devices.command_runner import CommandRunner
    from edge.devices.deliveries import Deliveries
    from edge.devices.webhook import Webhook

    if headers and webhook is None:
        fail("--webhook-header: expected --webhook beside it")
    log_to_stderr("edge.deliveries")
    found: list[Webhook | CommandRunner] = []
    if webhook is not None:
        found.append(Webhook(webhook, headers=dict(header_of(text) for text in headers)))
    if command is not None:
        found.append(CommandRunner(command))
    with ExitStack() as held:
        yield [held.enter_context(Deliveries(each.name, each.deliver)) for each in found]


def header_of(text: str) -> tuple[str, str]:
    """Return the name and the value of a header, variables of the environment filled in."""
    name, separator, value = text.partition(":")
    if not separator:
        fail(f"--webhook-header {name!r:.100}: expected 'NAME: VALUE'")
    for variable in re.findall(r"\$\{(\w+)\}", value):
        if variable not in os.environ:
            fail(f"--webhook-header {name}: the environment variable {variable} is not set")
    return name.strip(), re.sub(r"\$\{(\w+)\}", lambda found: os.environ[found[1]], value).strip()


def intervals(*, every: str, heartbeat: str, refresh: str) -> tuple[float, float, float]:
    """Return the seconds of --every, --heartbeat and --refresh. Ends the command where one is wrong."""
    return _seconds(every, "every"), _seconds(heartbeat, "heartbeat"), _seconds(refresh, "refresh")


def _line(event: "Event") -> str:
    """Return an event as a line of JSON; its time is the wall clock's, ages are measured by the monotonic one."""
    tally = event.tally
    said: dict[str, object] = {
        "time": datetime.now(UTC).astimezone().isoformat(timespec="milliseconds"),
        "event": event.kind,
        "answer": event.answer,
        "age_s": None if event.frame_s is None else round(max(0.0, time.monotonic() - event.frame_s), 3),
    }
    if event.reason is not None:
        said["reason"] = event.reason
    counts = {"frames": tally.n_frames, "skipped": tally.n_skipped, "asked": tally.n_asked}
    return json.dumps({**said, **counts, "tiles": tally.n_tiles, "encoded": tally.n_encoded})


def _seconds(text: str, name: str) -> float:
    """Return the seconds that 500ms, 2s, 2, 1m or 1h stands for."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m|h|)", text.strip())
    if found is None or float(found[1]) == 0:
        fail(f"--{name} {text!r:.200}: expected a time above 0, such as 500ms, 2s or 1m")
    return float(found[1]) * _UNITS_S[found[2]]
