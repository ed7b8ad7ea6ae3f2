"""What an assistant tells: a change of state, or something that happened in one, as a line of JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edge.assistant.states import State, What


@dataclass(frozen=True)
class Event:
    """Something that happened. at_s: seconds since the start, of the audio where files are used; state: from now on.

    fields: what there is to say of it: `wake_word` and `score`, `seconds` of a question, `transcript`, `answer`,
    `image`, `tool`, `reason`, `ms`, the milliseconds from the end of the question to the end of each stage.
    """

    at_s: float
    state: State
    what: What
    fields: Mapping[str, object] = field(default_factory=dict)

    def line(self) -> str:
        """Return it as JSON in ASCII, with the wall clock's time."""
        time = datetime.now(UTC).astimezone().isoformat(timespec="milliseconds")
        head = {"time": time, "at_s": round(self.at_s, 3), "state": self.state.value, "what": self.what.value}
        return json.dumps({**head, **self.fields})
