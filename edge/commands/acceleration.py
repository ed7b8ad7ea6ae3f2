"""What `edge doctor` says of GPUs: the board, the wheel of onnxruntime, its providers and what their libraries lack."""

from collections.abc import Iterator, Mapping

from edge.commands.check import Check
from edge.engine import jetson, providers
from edge.engine.jetson import Jetson
from edge.engine.providers import Provider
from edge.engine.wheels import conflict, wheels
from edge.errors import EdgeError


def hardware() -> Iterator[Check]:
    """Yield what is here, a Jetson where this is one, and the wheel of onnxruntime."""
    board, installed = jetson.found(), wheels()
    if board is not None:
        yield Check("board", of_board(board))
    wrong = conflict(installed)
    told = ", ".join(f"{name} {version}" for name, version in installed.items())
    if told.startswith("onnxruntime ") and wrong is None:  # its name is that of the line
        told = installed["onnxruntime"]
    yield Check("onnxruntime", wrong or told or "not installed", good=wrong is None and bool(installed))


def of_board(board: Jetson) -> str:
    """Return a Jetson, its system, and the wheel that belongs to it, in words."""
    system = "its Jetson Linux is not known" if board.release is None else f"Jetson Linux {board.release}"
    if board.jetpack is None:
        return f"{board.model}, {system}: docs/jetson.md"
    return f"{board.model}, {system}, JetPack {board.jetpack}, CUDA {board.cuda}: docs/jetson.md names the wheel"


def where(placed: Mapping[str, Provider]) -> str:
    """Return what computes each graph, as the end of a sentence; nothing where the CPU computes all of them."""
    if set(placed.values()) <= {"cpu"}:
        return ""
    return "".join(f", {graph} on {providers.WORDS[provider]}" for graph, provider in sorted(placed.items()))


def found_providers() -> Check:
    """Look at the providers in this onnxruntime, and whether those that are asked for can be loaded."""
    from edge.engine.session import available_providers, missing_library

    try:
        here = available_providers()
        asked = providers.chosen(None)
    except (EdgeError, ImportError, OSError) as error:
        return Check("providers", str(error), good=False)
    told, good = [], True
    for name in providers.PROVIDERS:
        if providers.ORT_NAMES[name] in here:
            lacks = None if name == "cpu" else missing_library(providers.ORT_NAMES[name])
            told.append(name if lacks is None else f"{name} (cannot be loaded: {lacks})")
            good = good and (lacks is None or name not in asked)
    used = "" if asked == providers.DEFAULT else f"; used: {', '.join(asked)}"
    return Check("providers", ", ".join(told) + used, good=good)
