"""Lets an assistant hear a loop of silence, other speech, questions and barge-ins in real time, and sees what it keeps.

The wake word, the voice detector, the voice and the chat model are real; a stand-in gives the transcripts, for no
trained speech bundle ships with the project. Memory must stay flat once the assistant is warm, processor time stay
below a limit while it waits for its wake word, and each cycle have its events.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
from PIL import Image, ImageDraw

from edge.speech.speaker import Speaker

F32 = npt.NDArray[np.float32]

ROOT = Path(__file__).parents[1]
RATE_HZ = 16_000
BLOCK_SAMPLES = 480
FLAT_BYTES = 5_000_000
MOST_IDLE_PERCENT = 5.0
WARM_SHARE = 0.25  # of the time
QUESTION = "What is in the picture?"
OTHER = "The weather was fine on Tuesday, and we walked along the river until it was dark."
CHILD = f"""
import signal, sys
from edge.assistant.assistant import Assistant
from edge.assistant.settings import Settings
def stand_in_for_speech_to_text(samples, stopped):
    return {QUESTION!r}
settings = Settings(system="", temperature=0, follow_up_s=3)
with Assistant(
    microphone="-", loudspeaker="none", camera=sys.argv[1], model=sys.argv[2] or None, voice="espeak-ng",
    transcribe=stand_in_for_speech_to_text, settings=settings, on_event=lambda event: print(event.line(), flush=True),
) as assistant:
    signal.signal(signal.SIGTERM, lambda *_: assistant.end())
    assistant.run()
"""


@dataclass
class Sample:
    """What a process holds and has taken: seconds since the start, bytes of its own, all bytes, processor seconds."""

    at_s: float
    own_bytes: int
    resident_bytes: int
    cpu_s: float
    state: str


@dataclass
class Seen:
    """What happened: events by what they are, the state now, samples each second."""

    events: Counter[str] = field(default_factory=Counter)
    state: str = "starting"
    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def words(text: str) -> F32:
    """Return a text as espeak-ng says it."""
    with Speaker("espeak-ng") as speaker:
        parts = [np.asarray(soxr.resample(one.samples, one.rate_hz, RATE_HZ), np.float32) for one in speaker.say(text)]
    return np.concatenate(parts)


def silence(seconds: float) -> F32:
    """Return a soft hiss."""
    rng = np.random.default_rng(1)
    return rng.normal(0, 0.0005, round(seconds * RATE_HZ)).astype(np.float32)


def cycle() -> F32:
    """Return what is heard again and again: a wait, other speech, a question, and one whose answer is interrupted."""
    wake, question, other = words("Okay nabu"), words(QUESTION), words(OTHER)
    asked = [wake, silence(0.6), question]
    return np.concatenate(
        [silence(12), other, silence(3), *asked, silence(14), *asked, silence(3.5), wake, silence(10)]
    )


def images(folder: Path) -> None:
    """Draw a few images, shown as a camera's."""
    for number, colour in enumerate(("red", "green", "blue", "orange")):
        image = Image.new("RGB", (640, 480), "white")
        ImageDraw.Draw(image).ellipse((80 + 60 * number, 80, 300 + 60 * number, 300), fill=colour)
        image.save(folder / f"{number}.png")


def feed(process: subprocess.Popen[bytes], audio: F32, seconds: float) -> None:
    """Write audio to a process over and over, in its own time, for so long."""
    data = (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()
    n, place, started_s, fed_s = 2 * BLOCK_SAMPLES, 0, time.monotonic(), 0.0
    assert process.stdin is not None
    while fed_s < seconds and process.poll() is None:
        block = data[place : place + n]
        place = place + n if place + n < len(data) else 0
        try:
            process.stdin.write(block)
            process.stdin.flush()
        except BrokenPipeError:
            return
        fed_s += len(block) / 2 / RATE_HZ
        time.sleep(max(0.0, started_s + fed_s - time.monotonic()))


def follow(process: subprocess.Popen[bytes], seen: Seen) -> None:
    """Take the events of a process as they come."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        seen.events[event["what"]] += 1
        seen.state = event["state"]
        if event["what"] in ("failed", "lost", "blind"):
            seen.wrong.append(f"{event['what']}: {event.get('reason')}")


def sample(pid: int, started_s: float, state: str) -> Sample:
    lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    size = {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "VmSwap", "VmRSS")}
    times = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    cpu_s = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return Sample(time.monotonic() - started_s, size["RssAnon"] + size["VmSwap"], size["VmRSS"], cpu_s, state)


def idle_percents(samples: list[Sample], *, settled_s: float = 2.0) -> list[float]:
    """Return the processor time of each stretch between two samples in which it only waited, in percent of a core.

    The first seconds after it came back to waiting are left out: what it was asked still ends in them.
    """
    percents, since_s = [], None
    for before, after in itertools.pairwise(samples):
        if before.state != "idle" or after.state != "idle":
            since_s = None
            continue
        since_s = before.at_s if since_s is None else since_s
        if before.at_s - since_s >= settled_s:
            percents.append(100 * (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s))
    return percents


def problems(seen: Seen, seconds: float, cycle_s: float) -> list[str]:
    """Return what is not as it should be."""
    found = list(seen.wrong)
    warm = [one for one in seen.samples if one.at_s >= WARM_SHARE * seconds]
    grown_bytes = max((one.own_bytes for one in warm), default=0) - (warm[0].own_bytes if warm else 0)
    if grown_bytes > FLAT_BYTES:
        found.append(f"memory: grew by {grown_bytes / 1e6:.1f} MB after warming up")
    percents = idle_percents(seen.samples)
    if not percents:
        found.append("it never waited")
    elif float(np.mean(percents)) > MOST_IDLE_PERCENT:
        found.append(f"processor: {np.mean(percents):.1f} % of a core while it waits")
    n_cycles = int(seconds // cycle_s)
    for what, n in (("wake", 3 * n_cycles), ("sentence", 2 * n_cycles)):
        if seen.events[what] < n:
            found.append(f"events: expected at least {n} {what} in {n_cycles} cycles, got {seen.events[what]}")
    if seen.events["wake"] > 3 * (n_cycles + 1):
        found.append(f"events: {seen.events['wake']} wake words, where {3 * (n_cycles + 1)} were said at most")
    return found


def report(seen: Seen) -> Iterator[str]:
    """Yield the figures, a line each."""
    yield "events:  " + ", ".join(f"{n} {what}" for what, n in sorted(seen.events.items()))
    for name, sizes in (
        ("own memory", [one.own_bytes / 1e6 for one in seen.samples]),
        ("resident", [one.resident_bytes / 1e6 for one in seen.samples]),
    ):
        span = f"{min(sizes):.1f} to {max(sizes):.1f}, {sizes[-1]:.1f} at the end"
        yield f"{name + ':':<12} {sizes[0]:.1f} MB at the start, then {span}"
    percents = idle_percents(seen.samples)
    if percents:
        mean, high = float(np.mean(percents)), float(np.percentile(percents, 95))
        yield f"processor:   {mean:.1f} % of a core while it waits (95 of 100 seconds below {high:.1f} %)"
    total = seen.samples[-1].cpu_s - seen.samples[0].cpu_s
    yield f"             {100 * total / (seen.samples[-1].at_s - seen.samples[0].at_s):.1f} % of a core in all"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak assistant", description=__doc__)
    parser.add_argument("bundle", nargs="?", default=str(ROOT / "models" / "reka-edge-tiny"))
    parser.add_argument("--seconds", type=float, default=180.0)
    arguments = parser.parse_args()
    audio, seen = cycle(), Seen()
    with tempfile.TemporaryDirectory() as folder:
        images(Path(folder))
        command = [sys.executable, "-c", CHILD, folder, arguments.bundle]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
            following = threading.Thread(target=follow, args=(process, seen))
            following.start()
            while seen.state == "starting" and process.poll() is None:
                time.sleep(0.05)
            feeding = threading.Thread(target=feed, args=(process, audio, arguments.seconds))
            started_s = time.monotonic()
            feeding.start()
            while feeding.is_alive() and process.poll() is None:
                seen.samples.append(sample(process.pid, started_s, seen.state))
                time.sleep(1.0)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            feeding.join()
            process.communicate(timeout=60)
            following.join()
    found = problems(seen, arguments.seconds, len(audio) / RATE_HZ)
    if process.returncode != 0:
        found.append(f"the assistant ended with status {process.returncode}")
    for line in report(seen) if len(seen.samples) > 1 else ():
        print(line)
    for each in found:
        print(f"FAIL     {each}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
