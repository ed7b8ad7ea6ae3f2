"""Who has a place among a server's open connections, and who gives theirs up when all are taken."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

_N_SPARE = 8


class Holder(Protocol):
    """A connection as its place sees it; network: what counts as its address."""

    @property
    def network(self) -> str | None:
        """The address it comes from, of IPv6 the /64."""

    @property
    def waiting_since_s(self) -> float | None:
        """Since when, on the loop's clock, it has had no complete headers; None while a request is there."""

    @property
    def is_slow(self) -> bool:
        """Whether its request's body is on its way, or its answer is not read."""

    def give_way(self, reason: str | None) -> None:
        """Close at once; reason: what to tell the client."""


class Connections:
    """The open connections of one event loop: so many, and so many from one address.

    A connection that comes when all are taken gets the place of the oldest one without complete headers, of the
    address that has most of those; where there is none, that of a slow one of an address that has more than the new
    one's. An address at its own limit gives up its own. A few spare places are for who asks for /health.
    """

    def __init__(self, *, most: Callable[[], int], most_per_address: Callable[[], int]) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._held: dict[Holder, None] = {}  # in the order they came
        self._spare: dict[Holder, None] = {}

    def __contains__(self, holder: Holder) -> bool:
        return holder in self._held or holder in self._spare

    def __len__(self) -> int:
        return len(self._held) + len(self._spare)

    def admit(self, new: Holder) -> str | None:
        """Give a connection a place, and return None; or return why it has at most a spare one, or none at all."""
        reason = self._crowd(new)
        while reason is not None and self._made_room(new, reason):
            reason = self._crowd(new)
        if reason is None:
            self._held[new] = None
        elif len(self._spare) < _N_SPARE or self._drop(_oldest_of_most(self._spare), reason):
            self._spare[new] = None
        return reason

    def discard(self, holder: Holder) -> None:
        """Take a connection out, if it is in."""
        self._held.pop(holder, None)
        self._spare.pop(holder, None)

    def relieve(self) -> None:
        """Close half of those without complete headers, at least one: the process has no descriptors left."""
        n_waiting = sum(holder.waiting_since_s is not None for holder in self._held)
        for _ in range((n_waiting + 1) // 2):
            self._drop(_oldest_of_most(self._held), None)

    def _crowd(self, new: Holder) -> str | None:
        """Return which number of connections is too large with this one, None when none is."""
        if sum(holder.network == new.network for holder in self._held) >= self._most_per_address():
            return f"{self._most_per_address()} connections from one address are open"
        return f"{self._most()} connections are open" if len(self._held) >= self._most() else None

    def _made_room(self, new: Holder, reason: str) -> bool:
        counts = Counter(holder.network for holder in self._held)
        if counts[new.network] >= self._most_per_address():
            return self._drop(_oldest_of_most(h for h in self._held if h.network == new.network), reason)
        if self._drop(_oldest_of_most(self._held), reason):
            return True
        slow = [h for h in self._held if h.is_slow and counts[h.network] > counts[new.network] + 1]
        return self._drop(max(slow, key=lambda holder: counts[holder.network], default=None), reason)

    def _drop(self, holder: Holder | None, reason: str | None) -> bool:
        if holder is None:
            return False
        self.discard(holder)
        holder.give_way(reason)
        return True


def _oldest_of_most(holders: Iterable[Holder]) -> Holder | None:
    """Return the oldest connection without complete headers, of the address that has most of them; None without any."""
    waiting = [(holder.waiting_since_s, holder) for holder in holders]
    found = [(since_s, holder) for since_s, holder in waiting if since_s is not None]
    counts = Counter(holder.network for _, holder in found)
    return min(found, key=lambda each: (-counts[each[1].network], each[0]), default=(0.0, None))[1]
