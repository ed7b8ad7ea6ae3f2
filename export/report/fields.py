"""Reads one JSON object of an untrusted file: a key may be absent, but what is there is of its kind and size."""

from collections.abc import Iterator, Mapping
from typing import Final

from export.errors import ReportError

MAX_TEXT: Final = 400
_MAX_NUMBER: Final = 1e18


class Fields:
    """One object; null counts as absent. Messages name file, key, expectation and what was found."""

    def __init__(self, data: Mapping[str, object], file: str, *, prefix: str = "") -> None:
        self.data = data
        self.file = file
        self._prefix = prefix

    def number(self, key: str, *, low: float = -_MAX_NUMBER, high: float = _MAX_NUMBER) -> float | None:
        """A number from low to high, None where there is none. Raises: ReportError."""
        value = self.data.get(key)
        return None if value is None else self._number(key, value, low, high)

    def whole(self, key: str) -> int | None:
        """A whole number of at least 0, None where there is none. Raises: ReportError."""
        value = self.data.get(key)
        if value is None:
            return None
        if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
            raise self._wrong(key, value, "a whole number of at least 0")
        return value

    def text(self, key: str) -> str | None:
        """A string, cut to MAX_TEXT characters; None where there is none. Raises: ReportError."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return None if value is None else value[:MAX_TEXT]

    def texts(self, key: str, *, most: int) -> tuple[str, ...]:
        """The strings of a list, the first `most` of them; none where there is no list. Raises: ReportError."""
        items = self._list(key)
        if not all(isinstance(item, str) for item in items):
            raise self._wrong(key, items, "a list of strings")
        return tuple(str(item)[:MAX_TEXT] for item in items[:most])

    def numbers(self, key: str, *, most: int, low: float) -> tuple[float, ...]:
        """The numbers of a list of at most `most`, each of at least low. Raises: ReportError."""
        items = self._list(key)
        if len(items) > most:
            raise self._wrong(key, f"{len(items)} numbers", f"at most {most}")
        return tuple(self._number(key, item, low, _MAX_NUMBER) for item in items)

    def child(self, key: str) -> "Fields":
        """The object under a key; an empty one where there is none. Raises: ReportError."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return Fields(value or {}, self.file, prefix=f"{self._prefix}{key}.")

    def children(self, key: str, *, most: int) -> Iterator["Fields"]:
        """The objects of a list of at most `most`. Raises: ReportError."""
        items = self._list(key)
        if len(items) > most:
            raise self._wrong(key, f"{len(items)} objects", f"at most {most}")
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise self._wrong(key, item, "a list of objects")
            yield Fields(item, self.file, prefix=f"{self._prefix}{key}[{index}].")

    def _list(self, key: str) -> list[object]:
        value = self.data.get(key)
        if value is not None and not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        return value or []

    def _number(self, key: str, value: object, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._wrong(key, value, f"a number {_range(low, high)}".rstrip())
        return float(value)

    def _wrong(self, key: str, value: object, expected: str) -> ReportError:
        return ReportError(f"{self.file}: {self._prefix}{key}: expected {expected}, got {value!r:.80}")


def _range(low: float, high: float) -> str:
    if high < _MAX_NUMBER:
        return f"from {low:g} to {high:g}"
    return f"of at least {low:g}" if low > -_MAX_NUMBER else ""
