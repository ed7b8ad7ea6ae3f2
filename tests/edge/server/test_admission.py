"""Places of connections: who gives way when all are taken, and who does not."""

import pytest

from edge.server.admission import Connections


class GrammarStats:
    """A connection: since_s without headers, or with a request that moves or does not."""

    def __init__(self, network: str, since_s: float | None = None, *, is_slow: bool = False) -> None:
        self.network: str | None = network
        self.waiting_since_s = since_s
        self.is_slow = is_slow
        self.gone: str | None = None

    def give_way(self, reason: str | None) -> None:
        self.gone = reason or "without a word"


def table(*held: GrammarStats, most: int = 4, most_per_address: int = 3) -> Connections:
    connections = Connections(most=lambda: most, most_per_address=lambda: most_per_address)
    for holder in held:
        assert connections.admit(holder) is None
    return connections


def gone(*held: GrammarStats) -> list[int]:
    return [i for i, holder in enumerate(held) if holder.gone]


def test_the_oldest_without_headers_goes() -> None:
    held = [GrammarStats("a", 3.0), GrammarStats("b"), GrammarStats("c", 1.0), GrammarStats("d", 2.0)]
    assert table(*held).admit(GrammarStats("e", 4.0)) is None
    assert gone(*held) == [2]


def test_of_the_address_that_has_most_of_them() -> None:
    held = [GrammarStats("a", 1.0), GrammarStats("b", 2.0), GrammarStats("c"), GrammarStats("b", 3.0)]
    assert table(*held).admit(GrammarStats("e", 4.0)) is None
    assert gone(*held) == [1]


def test_a_request_that_moves_is_never_given_up() -> None:
    held = [GrammarStats("a"), GrammarStats("a"), GrammarStats("b"), GrammarStats("b")]
    connections, new = table(*held), GrammarStats("c", 4.0)
    assert connections.admit(new) == "4 connections are open"
    assert gone(*held) == [] and new in connections


@pytest.mark.parametrize(("n_theirs", "goes"), [(3, True), (2, True), (1, False)])
def test_a_slow_one_goes_where_its_address_has_more(n_theirs: int, goes: bool) -> None:
    held = [GrammarStats("a", is_slow=True) for _ in range(n_theirs)]
    others = [GrammarStats(str(n)) for n in range(4 - n_theirs)]
    assert (table(*held, *others).admit(GrammarStats("b", 4.0)) is None) == goes
    assert gone(*held) == [0] * goes and gone(*others) == []


def test_an_address_keeps_nobodys_place_but_its_own() -> None:
    held = [GrammarStats("b", 1.0), GrammarStats("a", 2.0), GrammarStats("a", 3.0)]
    assert table(*held, most_per_address=2).admit(GrammarStats("a", 4.0)) is None
    assert gone(*held) == [1]


def test_an_address_whose_requests_all_run_has_a_spare_place_at_most() -> None:
    held = [GrammarStats("a", is_slow=True), GrammarStats("a")]
    connections, new = table(*held, most_per_address=2), GrammarStats("a", 4.0)
    assert connections.admit(new) == "2 connections from one address are open"
    assert new in connections and gone(*held) == []
    assert connections.admit(GrammarStats("b", 5.0)) is None


def test_spare_places_go_to_who_came_last_and_hold_nobody_up() -> None:
    connections = table(*(GrammarStats("a") for _ in range(2)), most=2)
    spare = [GrammarStats("b", float(n)) for n in range(20)]
    for holder in spare:
        assert connections.admit(holder) == "2 connections are open"
    assert len(connections) == 10 and [holder in connections for holder in spare] == [False] * 12 + [True] * 8
    for holder in spare:
        holder.waiting_since_s = None  # each is being answered
    late = GrammarStats("c", 30.0)
    assert connections.admit(late) == "2 connections are open" and late not in connections


def test_a_place_that_is_given_back_is_free() -> None:
    held = [GrammarStats("a") for _ in range(3)]
    connections = table(*held)
    connections.discard(held[0])
    connections.discard(held[0])
    assert connections.admit(GrammarStats("a")) is None and len(connections) == 3


def test_a_lack_of_descriptors_costs_half_of_those_that_ask_for_nothing() -> None:
    held = [
        GrammarStats("a", 1.0),
        GrammarStats("b"),
        GrammarStats("b", is_slow=True),
        GrammarStats("a", 2.0),
        GrammarStats("c", 0.0),
    ]
    table(*held, most=9).relieve()
    assert gone(*held) == [0, 4]
    alone = GrammarStats("b")
    table(alone).relieve()
    assert not alone.gone
