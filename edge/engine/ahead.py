"""What comes next, made on a thread of its own while the last one is worked on."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_NONE = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield items, each made while the one before it is used; at most one waits.

    Raises what making an item raises, in its place. Closing it, or leaving it, waits for the one that is being made.
    """
    coming = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="edge-ahead") as maker:
        made = maker.submit(next, coming, _NONE)
        while (item := made.result()) is not _NONE:
            made = maker.submit(next, coming, _NONE)
            yield item  # type: ignore[misc]
