"""What is told of a processor from the words of the kernel, on x86 and on ARM."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.engine import processor

X86 = "processor\t: 0\nmodel name\t: Intel(R) N100\nflags\t\t: fpu sse2 avx2 fma avx_vnni\n\nprocessor\t: 1\n"
PI4 = (
    "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\nModel\t\t: Raspberry Pi 4\n"
)
PI5 = PI4.replace("crc32", "atomics asimdhp asimddp crc32").replace("0xd08", "0xd0b")


@pytest.mark.parametrize(
    ("words", "name", "features"),
    [
        (X86, "Intel(R) N100", ("avx2", "fma", "avx_vnni")),
        (PI4, "0x41 0xd08", ()),
        (PI5, "0x41 0xd0b", ("asimddp",)),
    ],
)
def test_a_processor_has_a_name_and_what_kernels_are_chosen_by(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, name: str, features: tuple[str, ...]
) -> None:
    (tmp_path / "cpuinfo").write_text(words)
    monkeypatch.setattr(processor, "_CPUS", tmp_path / "cpuinfo")
    found = processor.kernels()
    assert (found.name, found.features) == (name, features)


def test_two_arm_processors_are_not_taken_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor, "_CPUS", tmp_path / "cpuinfo")
    found = []
    for part in ("0xd03", "0xd08"):  # of the same features, A53 and A72
        (tmp_path / "cpuinfo").write_text(PI4.replace("0xd08", part))
        found.append(processor.kernels())
    assert found[0] != found[1]
