"""edge.commands.machine: what a CPU is called."""

from __future__ import annotations

import pytest

from edge.commands.machine import cpu_name, this_cpu


@pytest.mark.parametrize(
    ("cpuinfo", "device_tree", "name"),
    [
        ("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n", "", "Some CPU @ 2 GHz"),
        ("processor\t: 0\nCPU part\t: 0xd0b\n", "Raspberry Pi 5 Model B\0", "Raspberry Pi 5 Model B"),
    ],
)
def test_a_cpu_has_a_name_on_boards_too(cpuinfo: str, device_tree: str, name: str) -> None:
    assert cpu_name(cpuinfo, device_tree) == name


def test_this_machine_has_a_name() -> None:
    assert this_cpu().strip()
