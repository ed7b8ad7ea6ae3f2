"""How far a prompt is read, as fields for programs and as a line for people."""

from edge.engine.handle import Reading

_STEPS = {"image": "tile", "audio": "window"}


def fields_of(reading: Reading) -> dict[str, int]:
    """Return a step as JSON has it: its numbers by what they count, such as image, images, tile and tiles."""
    stage = reading.stage
    if stage == "tokens":
        return {"tokens_read": reading.step, "tokens": reading.steps}
    fields = {stage: reading.number, f"{stage}s": reading.count}
    step = _STEPS.get(stage)
    return fields if step is None else {**fields, step: reading.step, f"{step}s": reading.steps}


def line_of(reading: Reading) -> str:
    """Return a step in words: "image 1, tile 3 of 5", "reading 1 200 of 3 400 tokens"."""
    stage = reading.stage
    if stage == "tokens":
        return f"reading {_grouped(reading.step)} of {_grouped(reading.steps)} tokens"
    if stage == "frame":
        return f"video, frame {reading.number} of {reading.count}"
    return f"{stage} {reading.number}, {_STEPS[stage]} {reading.step} of {reading.steps}"


def share_of(reading: Reading) -> float:
    """Return which part of its stage is done: from 0 to 1."""
    if reading.stage == "tokens":
        return reading.step / reading.steps
    done = (reading.number - 1) * reading.steps + reading.step - 1
    return done / (reading.count * reading.steps)


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")
