"""What answers the lines of a batch in this process: the routes of the server and an engine behind them."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from edge.batch.lines import Line, LineError, Record, Settled, answered, read_line, refused
from edge.chat import Preset
from edge.chat.attachments import allowing
from edge.chat.reply import refused as refusal
from edge.errors import BundleChanged
from edge.limits import Limits
from edge.models import Models
from edge.server.app import App, Job, default_slots, served_chat
from edge.server.http import HttpRequest, HttpResponse
from edge.server.route import JSON
from edge.server.streaming import Generation, parts

_HEADERS = {"content-type": JSON}


@dataclass(frozen=True)
class Settings:
    """How lines are answered, wherever that is; None: as the machine or the model has it.

    model: id, alias or folder of the bundle that answers all lines; without one, lines name theirs, and who names none
    asks the default. media_folder, media_hosts: whose files messages may name. slots: lines answered at the same time.
    """

    model: str | None = None
    seed: int | None = None
    slots: int | None = None
    threads: int | None = None
    context: int | None = None
    verify: bool = False
    media_folder: Path | None = None
    media_hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits.of_this_machine)

    @property
    def n_slots(self) -> int:
        """The lines answered at the same time."""
        return self.slots or default_slots()


class Asker:
    """Answers lines, from any thread.

    app: what they are asked; settled: what their ids are made with.
    """

    def __init__(self, app: App, settled: Settled) -> None:
        self._app = app
        self._settled = settled

    @classmethod
    def open(cls, settings: Settings, settled: Settled) -> "Asker":
        """Load the model. Raises: as Models, and EdgeError where the bundle cannot be loaded."""
        models = Models(
            model=settings.model,
            aliases={},
            threads=settings.threads,
            context=settings.context,
            slots=settings.n_slots,
            verify=settings.verify,
        )
        try:
            first = models.ids()[:1]
            for name in first:
                models.engine(name)
        except BaseException:
            models.close()
            raise
        default = {"model": first[0]} if first else {}
        seed = {} if settings.seed is None else {"seed": settings.seed}
        preset = Preset({**default, **seed}, default if settings.model is not None else {})
        remote = allowing(settings.media_hosts, settings.limits)
        files = settings.media_folder or False
        chat = served_chat(models, files=files, remote=remote, limits=settings.limits, preset=preset)
        return cls(App(chat), settled)

    def record(self, number: int, data: bytes) -> Record:
        """Ask a line, and return what is written of it. number: of the line, from 1; data: the line.

        Raises: EngineClosed once closed, BundleChanged where the model cannot be used any more.
        """
        try:
            line = read_line(data, self._app.chat.limits)
        except LineError as error:
            return refused(error, number)
        status, body = self._ask(line)
        return answered(line, self._settled, status, body)

    def close(self) -> None:
        """Give the engine up; what is being answered ends."""
        self._app.close()

    def _ask(self, line: Line) -> tuple[int, object]:
        """Return the status and the body of the response to a line."""
        # Some APIs stream unless they are told not to.
        body = json.dumps({"stream": False, **line.body}, ensure_ascii=False).encode()
        job = self._app.read(HttpRequest("POST", line.url, _HEADERS, body))
        answer = job.start() if isinstance(job, Job) else job
        if isinstance(job, Job) and isinstance(answer, Generation) and answer.streams:
            answer.cancel()
            answer = job.route.errors.response(refusal(400, "stream: expected false, as a batch has no streams"))
        data = _whole(answer)
        status = answer.status or 500
        if status >= 500:
            self._check()
        return status, json.loads(data)

    def _check(self) -> None:
        """Find out that no line can be answered any more. Raises: EngineClosed, BundleChanged."""
        self._app.chat.models.ids()  # raises once it is closed
        changed = self._app.chat.models.changed()
        if changed is not None:
            raise BundleChanged(changed)


def _whole(answer: Generation | HttpResponse) -> bytes:
    return answer.body if isinstance(answer, HttpResponse) else b"".join(parts(answer))
