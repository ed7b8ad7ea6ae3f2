"""The time, here and in other time zones."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from edge.tools.tool import ToolFunction

Now = Callable[[], datetime]
_ZONE = "IANA name such as Europe/Berlin; without it, local time"


def time_tools(*, now: Now | None = None) -> list[ToolFunction[..., object]]:
    """Return the tool `get_time`. now: in place of the system's clock, with a time zone."""
    clock = now or (lambda: datetime.now(UTC))

    def get_time(time_zone: Annotated[str | None, _ZONE] = None) -> dict[str, str]:
        """Tell the current date and time."""
        at = clock().astimezone() if time_zone is None else clock().astimezone(_zone(time_zone))
        return {
            "time": at.strftime("%H:%M:%S"),
            "date": at.strftime("%Y-%m-%d"),
            "weekday": _WEEKDAYS[at.weekday()],
            "time_zone": time_zone or at.tzname() or "",
            "utc_offset": at.strftime("%z"),
        }

    return [ToolFunction(get_time, read_only=True)]


_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _zone(name: str) -> ZoneInfo:
    """Return a time zone. Raises: ValueError."""
    try:
        return ZoneInfo(name.strip())
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name[:50]!r}; expected an IANA name such as Europe/Berlin") from error
