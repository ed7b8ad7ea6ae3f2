"""One thing that `edge doctor` looked at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, what was found, and whether it is as it should be."""

    name: str
    found: str
    good: bool = True
