"""A server's log: one JSON object a line, with what happened and what it cost, never what was said."""

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Final

# The priorities of syslog(3): journald reads them in front of a line, and `journalctl --priority` finds them.
_PRIORITIES: Final[Mapping[str, int]] = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}


class JsonLines(logging.Formatter):
    """Formats a record as JSON: time, level, event, further fields; of an error its kind and place, not its words.

    for_journal: whether the level stands in front of a line, too, as journald has it.
    """

    def __init__(self, *, for_journal: bool = False) -> None:
        super().__init__()
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        more = getattr(record, "fields", None)
        if isinstance(more, dict):
            fields |= more
        if record.exc_info and record.exc_info[1] is not None:
            # An exception's own words may quote a request.
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)
            fields["error"] = type(error).__name__
            fields["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[-8:]]
        prefix = f"<{_PRIORITIES.get(record.levelname, 6)}>" if self._for_journal else ""
        return prefix + json.dumps(fields, default=str)


def log_to_stderr() -> None:
    """Send the package's log to stderr as JSON lines, from INFO on, and the event loop's errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(for_journal=_is_journal()))
    for name, level in (("edge", logging.INFO), ("asyncio", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)


def _is_journal() -> bool:
    """Return whether journald reads standard error, and not what it was sent on to. Source: systemd.exec(5)."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = os.fstat(sys.stderr.fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return False
