"""Reads the keys of one foreign JSON object by kind, and remembers which were read."""

import math
from collections.abc import Mapping

from export.errors import ConfigError


def finite(value: object) -> float | None:
    """A JSON number as a float; None for anything else, infinities and NaN, and integers that no float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


class Fields:
    """One object of a file; null counts as absent. Messages name file, key, expectation and value."""

    def __init__(self, data: Mapping[str, object], file: str, *, prefix: str = "") -> None:
        self.data = data
        self.file = file
        self._prefix = prefix
        self._read: set[str] = set()
        self._children: dict[str, Fields] = {}

    def path(self, key: str) -> str:
        """How messages call a key: file and full key."""
        return f"{self.file}: {self._prefix}{key}"

    def get(self, key: str) -> object:
        """The raw value, None if absent. Marks the key as read."""
        self._read.add(key)
        return self.data.get(key)

    def skip(self, *keys: str) -> None:
        """Marks keys as read."""
        self._read.update(keys)

    def unread(self) -> tuple[str, ...]:
        """The keys that nothing read, with the prefix of this object, sorted."""
        prefix = self._prefix if self.file == "config.json" else f"{self.file}: {self._prefix}"
        return tuple(sorted(prefix + key for key in self.data if key not in self._read))

    def child(self, key: str) -> "Fields":
        """The object under a key, the same one on every call. Raises: ConfigError if it is no object."""
        if key not in self._children:
            value = self.get(key)
            if not isinstance(value, dict):
                raise self._wrong(key, value, "an object")
            self._children[key] = Fields(value, self.file, prefix=f"{self._prefix}{key}.")
        return self._children[key]

    def integer(self, key: str, *, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least `least`. Raises: ConfigError, also if absent without a default."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 31:
            raise self._wrong(key, value, f"an integer of at least {least}")
        return value

    def number(self, key: str, *, default: float) -> float:
        """A finite number. Raises: ConfigError."""
        value = self.get(key)
        return default if value is None else self._finite(key, value)

    def flag(self, key: str, *, default: bool) -> bool:
        """true or false. Raises: ConfigError."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, key: str, *, default: str) -> str:
        """A string. Raises: ConfigError."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of one or more whole numbers of at least 1. Raises: ConfigError, also if absent."""
        value = self.get(key)
        if not isinstance(value, list) or not value or not all(type(item) is int and item >= 1 for item in value):
            raise self._wrong(key, value, "a list of integers of at least 1")
        return tuple(value)

    def triple(self, key: str, *, default: tuple[float, float, float]) -> tuple[float, float, float]:
        """Three finite numbers. Raises: ConfigError."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, list) or len(value) != 3:
            raise self._wrong(key, value, "three numbers")
        first, second, third = (self._finite(key, item) for item in value)
        return first, second, third

    def same_number(self, *keys: str) -> float | None:
        """One number under several spellings (`outer.inner` reaches into an object); None if all are absent.

        Raises: ConfigError if two are there and differ.
        """
        found: dict[str, float] = {}
        for key in keys:
            outer, _, inner = key.rpartition(".")
            if outer and self.get(outer) is None:
                continue
            fields = self.child(outer) if outer else self
            value = fields.get(inner)
            if value is not None:
                found[key] = fields._finite(inner, value)
        if len(set(found.values())) > 1:
            raise ConfigError(f"{self.file}: {found} in {self._prefix or 'the file'} differ: expected the same value")
        return next(iter(found.values()), None)

    def _finite(self, key: str, value: object) -> float:
        number = finite(value)
        if number is None:
            raise self._wrong(key, value, "a finite number")
        return number

    def _wrong(self, key: str, value: object, expected: str) -> ConfigError:
        problem = "is missing" if value is None else f"is {str(value)[:60]!r}"
        return ConfigError(f"{self.path(key)} {problem}: expected {expected}")
