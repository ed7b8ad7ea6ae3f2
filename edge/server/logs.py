"""A server's log: one JSON object a line, with what happened and what it cost, never what was said."""

import json
import logging
import time
import traceback


class JsonLines(logging.Formatter):
    """Formats a record as JSON: time, level, event, further fields; of an error its kind and place, not its words."""

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
        return json.dumps(fields, default=str)


def log_to_stderr() -> None:
    """Send the package's log to stderr as JSON lines, from INFO on, and the event loop's errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in (("edge", logging.INFO), ("asyncio", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
