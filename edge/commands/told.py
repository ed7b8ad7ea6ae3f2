"""What systemd is told while a command works in turns: when it is ready, what it does, and that it moves on."""

import contextlib
import faulthandler
from collections.abc import Callable, Iterator

from edge.service import notify
from edge.service.watchdog import Beat, Watchdog, starting

OnTurn = Callable[[Callable[[], float]], None]  # what tells the seconds in which the work has not moved on


@contextlib.contextmanager
def working(loading: str, status: Callable[[], str]) -> Iterator[OnTurn]:
    """Yield what a command calls turn by turn, several times a second; with the first one, its start is over.

    loading: the status until then; status: what it does, asked now and then.
    """
    with contextlib.suppress(RuntimeError, OSError):  # standard error may be no file
        faulthandler.enable()  # where the watchdog ends it, the log says what every thread was at
    watchdog = Watchdog()
    with contextlib.ExitStack() as start:
        start.enter_context(starting(loading))

        def on_turn(stalled_s: Callable[[], float]) -> None:
            start.close()
            watchdog.beat(lambda: Beat(stalled_s(), status()))

        try:
            yield on_turn
        finally:
            notify.stopping()
