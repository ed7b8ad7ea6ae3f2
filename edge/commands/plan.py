"""edge plan: what a model takes and how fast it will be on a machine, before it is loaded or downloaded."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.console import AsJson, fail

if TYPE_CHECKING:
    from edge.commands.planning import Plan
    from edge.engine.footprint import Load

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_NAME_COLUMNS = 34


def _boards() -> list[str]:
    """Return the boards that a shell can complete."""
    from edge.engine.boards import BOARDS

    return list(BOARDS)


def _recipes_there_are() -> list[str]:
    """Return the recipes that a shell can complete."""
    from edge.bundle.recipes import RECIPES

    return list(RECIPES)


def plan(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A bundle, a checkpoint's folder, or ORG/NAME of a hub.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", help="Recipe of a checkpoint. Default: int4-mixed.", autocompletion=_recipes_there_are
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option("--board", help="A board, such as pi5-8gb. Default: this machine.", autocompletion=_boards),
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="Memory, such as 8G.")] = None,
    bandwidth: Annotated[str | None, typer.Option("--bandwidth", help="Memory read in a second, such as 17G.")] = None,
    context: Annotated[
        int | None, typer.Option("--context", min=1, help="Context length of each slot, in tokens.")
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=1, help="Requests decoded at the same time.")] = 1,
    kv: Annotated[
        str | None,
        typer.Option(
            "--kv",
            help="Keys and values: fp32 or int8. Default: fp32, of a GPU's bundle fp16.",
            autocompletion=lambda: ["fp32", "int8"],
        ),
    ] = None,
    packed: Annotated[
        bool | None, typer.Option("--packed/--not-packed", help="Weights packed for the device. Default: as they are.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. Default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the memory and the speed of a model on a machine, before it is loaded or downloaded."""
    import json

    from edge.commands import planning
    from edge.engine.footprint import KVS, Load
    from edge.engine.kv import parse_kv

    if kv not in (None, "fp16", *KVS):
        fail(f"--kv {kv!r:.60}: expected one of {', '.join(KVS)}")
    total_bytes, rate = _bytes("--memory", memory, unit=1024), _bytes("--bandwidth", bandwidth, unit=1000)
    target = planning.target(model, recipe=recipe)
    if target.config is None and recipe is not None:
        fail(f"--recipe {recipe}: {target.shape.id} is a bundle, its recipe is {target.shape.recipe}")
    known = parse_kv(kv) or target.shape.activations
    if known not in (target.shape.activations, "int8"):
        fail(f"--kv {known}: {target.shape.id} keeps keys and values as {target.shape.activations}")
    if known == "int8" and target.shape.activations == "fp16":
        fail(f"--kv int8: {target.shape.id} is for GPUs, and keeps keys and values as fp16")
    if known == "int8" and not target.shape.has_int8_cache:
        fail(f"--kv int8: {target.shape.id} was exported without an int8 cache: export it again, or use fp32")
    is_packed = (known in target.packed and not board) if packed is None else packed
    machine = planning.of_board(board) if board else planning.this_machine(target, threads=threads)
    if total_bytes is not None or rate is not None:
        machine = planning.other_machine(machine, total_bytes=total_bytes, bandwidth=rate)
    made = planning.plan(target, machine, Load(0, slots, known, is_packed), context=context)
    if as_json:
        print(json.dumps(planning.figures(made), indent=1))
    else:
        print("\n".join(lines(made)))
    if not made.fits:
        raise typer.Exit(1)


def lines(plan: "Plan") -> list[str]:
    """Return a plan in words."""
    told, vision = plan.forecast, plan.target.shape.vision
    shown = [f"{plan.target.shape.id} ({plan.target.where})", f"on {plan.machine.name}: {plan.machine.source}", ""]
    on_cpu = plan.target.shape.activations == "fp16"
    shown += [*_memory(plan), "", "time on the CPU; a GPU's is not forecast" if on_cpu else "time"]
    shown.append(_row("load, files in memory", _seconds(told.load_s_cached)))
    shown.append(_row("load, from the disk", _seconds(told.load_s_cold)))
    if vision is not None:
        shown.append(_row("opening the vision tower", _seconds(told.tower_load_s)))
        shown.append(_row("one tile of an image", _seconds(told.tile_s)))
        shown.append(_row(f"an image of {vision.n_max} tiles", _seconds(told.image_s)))
        shown.append(_row("first token about that image", _seconds(told.first_with_image_s)))
    shown += [_row(f"first token after {n}", _seconds(value)) for n, value in told.first_s.items()]
    shown += [_row(f"decode at {n}", f"{value:.3g} tokens/s") for n, value in told.decode_per_s.items()]
    return [*shown, "", *_verdict(plan)]


def refusal(plan: "Plan") -> str:
    """Return why a load does not fit, with the numbers."""
    needed, room = plan.footprint.needed_bytes, plan.machine.room_bytes
    return (
        f"does not fit: it takes {_size(needed)}, there is room for {_size(room)} of {_size(plan.machine.total_bytes)}"
    )


def _memory(plan: "Plan") -> list[str]:
    found = plan.footprint
    shown = ["memory"]
    for part in found.parts:
        shown.append(_row(part.name, _size(part.n_bytes) + ("  mapped" if part.mapped else "")))
    shown.append(_row("anonymous", _size(found.anonymous_bytes)))
    shown.append(_row("needed, all but the table", f"{_size(found.needed_bytes)}  of {_size(plan.machine.room_bytes)}"))
    return shown


def _verdict(plan: "Plan") -> list[str]:
    load = plan.footprint.load
    if plan.fits:
        return [f"fits with {_described(load)}", *_recipes(plan)]
    ways = [f"  {_described(each)} fits: {_options(each)}" for each in plan.others]
    return [refusal(plan), *(ways or ["  no context of this model fits"]), *_recipes(plan)]


def _recipes(plan: "Plan") -> list[str]:
    if plan.target.config is None:
        return []
    return [f"recipes that fit with these options: {', '.join(plan.recipes) or 'none'}"]


def _described(load: "Load") -> str:
    slots = f", {load.slots} slots" if load.slots > 1 else ""
    packed = ", packed weights" if load.packed else ""
    return f"a context of {load.context}{slots}, {load.kv} keys and values{packed}"


def _options(load: "Load") -> str:
    packed = " --packed" if load.packed else ""
    return f"--context {load.context} --slots {load.slots} --kv {load.kv}{packed}"


def _row(name: str, value: str) -> str:
    return f"  {name:<{_NAME_COLUMNS}}{value}"


def _size(n_bytes: int) -> str:
    if n_bytes < 1e9:
        return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 10e6 else f"{n_bytes / 1e6:.1f} MB"
    return f"{n_bytes / 1e9:.2f} GB"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def _bytes(option: str, text: str | None, *, unit: int) -> int | None:
    """Return a number of bytes such as 8G, None for none."""
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip().removesuffix("/s"))
    value = 0 if found is None else int(float(found[1]) * unit ** _POWERS[found[2].upper()])
    if not 0 < value < 1 << 60:
        fail(f"{option} {text!r:.60}: expected a number of bytes such as 8G")
    return value
