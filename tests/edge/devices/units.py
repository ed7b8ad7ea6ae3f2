"""The units of an engine's work, counted, and something done at one of them: a moment that can be chosen."""

from collections.abc import Callable

import pytest

from edge.engine.decoder import Decoder
from edge.engine.vision_tower import Vision

_UNITS = ((Decoder, "read"), (Decoder, "step"), (Vision, "encode"))  # a chunk, a token of every answer, a tile


class Units:
    """Counts what the engine's thread begins; `at` of them it calls `act`, before that one runs or behind it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n = 0
        self._at: int | None = None
        self._is_before = True
        self._act: Callable[[], object] = lambda: None
        for owner, name in _UNITS:
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def arm(self, at: int, act: Callable[[], object], *, is_before: bool) -> None:
        """Count anew, and act at one of the units to come."""
        self.n, self._at, self._act, self._is_before = 0, at, act, is_before

    def disarm(self) -> int:
        """Act no more; return how many units there were since arm."""
        self._at = None
        return self.n

    def _counted(self, run: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **named: object) -> object:
            self.n += 1
            is_due = self.n == self._at
            if is_due and self._is_before:
                self._act()
            try:
                return run(*arguments, **named)
            finally:
                if is_due and not self._is_before:
                    self._act()

        return counted
