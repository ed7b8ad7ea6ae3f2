"""Boards that a model can be planned for: figures that others published, and none that this project measured.

Rates of products on a board are taken from its clock, cores and vector width, so a forecast for a board is a first
guess until `edge doctor` has run on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge.engine.probe_graph import Kind
from edge.engine.rates import STEP_SHARE, Rates, packing_rates
from edge.errors import ParameterError

_GIB = 1 << 30
_CLOCK_HZ: Final = 4.0e9  # of the x86 on which packing was measured, about
# Shares of the most operations that kernels reach with many rows. In blocks: llama.cpp reads a prompt of a 7B Q4_0
# model on a Raspberry Pi 5 at 8.1 tokens/s (github.com/ggml-org/llama.cpp pull request 6928), 0.17 of its most. Of the
# others no figure was found: they stand to it as they do on x86.
_KERNEL_SHARES: Final[Mapping[Kind, float]] = {"int8": 0.45, "int8-blocks": 0.17, "int4-blocks": 0.17, "fp32": 0.5}


@dataclass(frozen=True)
class Board:
    """A board's published figures.

    name: for people; memory: bytes; theoretical, read: bytes/s of memory, by its data sheet and as CPUs read it;
    cores, clock_hz, and int8_per_cycle: operations on 8-bit numbers that a core can do in a cycle, four times those on
    float32; disk: bytes/s of what it usually boots from.
    """

    name: str
    memory: int
    theoretical: float
    read: float
    cores: int
    clock_hz: float
    int8_per_cycle: int
    disk: float


def _pi5(gib: int) -> Board:
    # 32 bits of LPDDR4X-4267: 17.1 GB/s (Raspberry Pi's product brief). One core scans 9.1 to 9.4 GB/s (tinymembench,
    # github.com/raspberrypi/firmware issue 1876); llama.cpp decodes at 9.8 to 10.6 GB/s whatever the format
    # (github.com/ggml-org/llama.cpp issue 26484), Ollama's 8B of 4.9 GB at 2.17 tokens/s (github.com/geerlingguy/
    # sbc-reviews issue 21). Cortex-A76 at 2.4 GHz with two 128-bit dot products a cycle (Arm's optimization guide).
    # NVMe by its PCIe 2 lane: 416 MB/s (hdparm, blog.jeanbruenn.info); microSD: about 90.
    return Board(f"Raspberry Pi 5, {gib} GB", gib * _GIB, 17.1e9, 10.5e9, 4, 2.4e9, 64, 400e6)


def _pi4(gib: int) -> Board:
    # 32 bits of LPDDR4-3200: 12.8 GB/s (BCM2711's data sheet); its CPU reads about a third of it. Cortex-A72 at 1.8 GHz
    # has no dot product: 8-bit products by widening multiplications, about 16 operations a cycle.
    return Board(f"Raspberry Pi 4, {gib} GB", gib * _GIB, 12.8e9, 4.2e9, 4, 1.8e9, 16, 45e6)


def _orin(name: str, gib: int, theoretical: float, cores: int, clock_hz: float) -> Board:
    # Bandwidth, cores and clock by NVIDIA's data sheets of the modules. No published figure says what the CPU alone
    # reads: 40 % is an assumption. Cortex-A78AE has two 128-bit dot products a cycle.
    return Board(f"Jetson {name}", gib * _GIB, theoretical, 0.4 * theoretical, cores, clock_hz, 64, 1500e6)


BOARDS: Final[Mapping[str, Board]] = {
    "pi4-4gb": _pi4(4),
    "pi4-8gb": _pi4(8),
    "pi5-4gb": _pi5(4),
    "pi5-8gb": _pi5(8),
    "pi5-16gb": _pi5(16),
    "orin-nano-4gb": _orin("Orin Nano 4GB", 4, 34e9, 6, 1.5e9),
    "orin-nano-8gb": _orin("Orin Nano 8GB", 8, 68e9, 6, 1.5e9),
    "orin-nano-super": _orin("Orin Nano Super", 8, 102e9, 6, 1.7e9),
    "orin-nx-8gb": _orin("Orin NX 8GB", 8, 102.4e9, 6, 2.0e9),
    "orin-nx-16gb": _orin("Orin NX 16GB", 16, 102.4e9, 8, 2.0e9),
    "agx-orin-32gb": _orin("AGX Orin 32GB", 32, 204.8e9, 8, 2.2e9),
    "agx-orin-64gb": _orin("AGX Orin 64GB", 64, 204.8e9, 12, 2.2e9),
}


def board(name: str) -> Board:
    """Return a board by its name. Raises: ParameterError naming those there are."""
    if name not in BOARDS:
        raise ParameterError(f"board {name!r:.100}: expected one of {', '.join(BOARDS)}", field="board")
    return BOARDS[name]


def rates_of(board: Board) -> Rates:
    """Return what a board is taken to do."""
    most = board.cores * board.clock_hz * board.int8_per_cycle
    many = {kind: share * most / (4 if kind == "fp32" else 1) for kind, share in _KERNEL_SHARES.items()}
    return Rates(
        bandwidth=board.read,
        # What is published is what whole models read while they decode.
        one_row=dict.fromkeys(many, board.read / STEP_SHARE),
        many_rows=many,
        cache=board.read / 2,
        attention=many["fp32"] / 2,
        disk=board.disk,
        packing=packing_rates(board.clock_hz / _CLOCK_HZ),
        threads=board.cores,
    )
