"""Packed weights on the command line: made after an installation or when asked, and every byte of them read."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.console import fail
from edge.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.bundle.packed import Packed
    from edge.bundle.store import Stored
    from edge.engine.kv import Kv

_BOTH = "both"
_KVS = ("fp32", "int8", _BOTH)

Pack = Annotated[
    bool, typer.Option("--pack/--no-pack", help="Pack the weights for this device too, where the bundle is large.")
]


def pack(
    name: Annotated[str, typer.Argument(help="Id, alias or folder.")],
    removes: Annotated[bool, typer.Option("--remove", help="Remove its packed weights instead.")] = False,
    kv: Annotated[
        str | None,
        typer.Option(
            "--kv",
            help="For engines with these keys and values: fp32, int8 or both. Default: as memory allows here.",
            autocompletion=lambda: [*_KVS],
        ),
    ] = None,
) -> None:
    """Pack a bundle's weights for this device: it opens faster, and most of its memory can be given back.

    Weights are packed for each way to keep keys and values apart: by default for the one that an engine takes here.
    EDGE_PACKED limits the bytes of all packed weights, such as 20G; off: none are used.
    """
    from edge.bundle import packed
    from edge.models import find

    if kv is not None and kv not in _KVS:
        fail(f"--kv {kv!r:.60}: expected one of {', '.join(_KVS)}")
    stored = find(name, {}, kind=None)
    if removes:
        packed.forget(stored.path)
        print(f"{stored.id} has no packed weights")
    elif any([_packed(stored, each) for each in _wanted(stored, kv)]):  # noqa: C419 (not the first alone)
        print(f"{stored.id} is packed: {_where(stored)}")
    else:
        print(f"{stored.id} gains nothing from packing: it is loaded as it is")


def after_install(stored: "Stored", *, wanted: bool) -> None:
    """Pack what was installed; where that fails, one sentence says so, and the bundle is used as it is."""
    from edge.engine.packing import is_worth_it

    try:
        if wanted and is_worth_it(stored.path) and _packed(stored, *_wanted(stored, None)):
            print(f"{stored.id} is packed: {_where(stored)}")
    except EdgeError as error:
        print(f"edge: {stored.id} is not packed, and opens more slowly: {error}", file=sys.stderr)


def problems(stored: "Stored") -> list[str]:
    """Read every byte of a bundle's packed weights; damaged ones are removed, and it is said what brings them back."""
    from edge.bundle.packed_room import remove

    found = []
    for kv, there in _each(stored):
        damaged = there.problems()
        there.close()
        if damaged:
            remove(there.folder)
        again = f"edge models pack {stored.id}" + ("" if kv == "fp32" else f" --kv {kv}")
        found += [f"{problem}; they are removed: {again} makes them again" for problem in damaged]
    return found


def described(stored: "Stored") -> str | None:
    """Return where a bundle's packed weights are, and for which keys and values if not float32; None without."""
    found = []
    for kv, there in _each(stored):
        there.close()
        of_kv = "" if kv == "fp32" else f", {kv} keys and values"
        found.append(f"{there.folder} ({there.n_bytes / 1e6:.0f} MB{of_kv})")
    return ", ".join(found) or None


def _each(stored: "Stored") -> "Iterator[tuple[Kv, Packed]]":
    """Yield a bundle's packed weights, by the keys and values that they are for; who gets them closes them."""
    from edge.engine.kv import KVS
    from edge.engine.packing import find

    for kv in KVS:
        there = find(stored.path, kv=kv, is_used=False)
        if there is not None:
            yield kv, there


def _wanted(stored: "Stored", kv: str | None) -> "tuple[Kv, ...]":
    """Return the keys and values to pack for, as asked for; unless asked, those that an engine takes here."""
    from edge.engine.kv import KVS
    from edge.engine.packing import default_kv

    if kv is None:
        return (default_kv(stored.path),)
    return tuple(each for each in KVS if kv in (each, _BOTH))


def _packed(stored: "Stored", kv: "Kv") -> bool:
    """Pack a bundle with a bar: of a large one it takes minutes."""
    from rich.console import Console
    from rich.progress import Progress

    from edge.engine.packing import pack as pack_bundle

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("packing", total=None)
        return pack_bundle(
            stored.path, kv=kv, progress=lambda done, total: bar.update(task, completed=done, total=total),
            waiting=_tell_of_another,
        )  # fmt: skip


def _tell_of_another() -> None:
    print(
        "edge: another process is packing weights: waiting for it (an engine packs while it is idle)", file=sys.stderr
    )


def _where(stored: "Stored") -> str:
    return described(stored) or "its packed weights are gone again"
