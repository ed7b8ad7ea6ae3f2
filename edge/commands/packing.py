"""Packed weights on the command line: made after an installation or when asked, and every byte of them read."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge.bundle.store import Stored

Pack = Annotated[
    bool, typer.Option("--pack/--no-pack", help="Pack the weights for this device too, where the bundle is large.")
]


def pack(
    name: Annotated[str, typer.Argument(help="Id, alias or folder.")],
    removes: Annotated[bool, typer.Option("--remove", help="Remove its packed weights instead.")] = False,
) -> None:
    """Pack a bundle's weights for this device: it opens faster, and most of its memory can be given back.

    EDGE_PACKED limits the bytes of all packed weights, such as 20G; off: none are used.
    """
    from edge.bundle import packed
    from edge.models import find

    stored = find(name, {}, kind=None)
    if removes:
        packed.forget(stored.path)
        print(f"{stored.id} has no packed weights")
    elif _packed(stored):
        print(f"{stored.id} is packed: {_where(stored)}")
    else:
        print(f"{stored.id} gains nothing from packing: it is loaded as it is")


def after_install(stored: "Stored", *, wanted: bool) -> None:
    """Pack what was installed; where that fails, one sentence says so, and the bundle is used as it is."""
    from edge.engine.packing import is_worth_it

    try:
        if wanted and is_worth_it(stored.path) and _packed(stored):
            print(f"{stored.id} is packed: {_where(stored)}")
    except EdgeError as error:
        print(f"edge: {stored.id} is not packed, and opens more slowly: {error}", file=sys.stderr)


def problems(stored: "Stored") -> list[str]:
    """Read every byte of a bundle's packed weights; damaged ones are removed, and it is said what brings them back."""
    from edge.bundle import packed
    from edge.engine.packing import find

    there = find(stored.path)
    if there is None:
        return []
    found = there.problems()
    there.close()
    if found:
        packed.forget(stored.path)
    return [f"{problem}; they are removed: edge models pack {stored.id} makes them again" for problem in found]


def described(stored: "Stored") -> str | None:
    """Return where a bundle's packed weights are, None without."""
    from edge.engine.packing import find

    there = find(stored.path)
    if there is None:
        return None
    there.close()
    return f"{there.folder} ({there.n_bytes / 1e6:.0f} MB)"


def _packed(stored: "Stored") -> bool:
    """Pack a bundle with a bar: of a large one it takes minutes."""
    from rich.console import Console
    from rich.progress import Progress

    from edge.engine.packing import pack as pack_bundle

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("packing", total=None)
        return pack_bundle(stored.path, progress=lambda done, total: bar.update(task, completed=done, total=total))


def _where(stored: "Stored") -> str:
    return described(stored) or "its packed weights are gone again"
