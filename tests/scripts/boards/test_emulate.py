"""scripts/boards/emulate, up to where it needs Debian's archive: what it refuses, and what it says is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KNOWN = "Available CPUs:\n  cortex-a53\n  cortex-a72\n  cortex-a76\n  max\n"


def emulate(
    folder: Path, *arguments: str, qemu: bool = True, programs: tuple[str, ...] = ("apt-get", "dpkg-deb", "gpgv")
) -> subprocess.CompletedProcess[str]:
    """Run it in a checkout of its own, with stand-ins that do nothing but for a qemu that names its processors."""
    checkout, commands = folder / "checkout", folder / "commands"
    for path in ("scripts/boards/emulate", "scripts/environment.sh"):
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, checkout / path)
    commands.mkdir()
    for name in ("bash", "cat", "dirname", "head", "mkdir", "rm", "sed", "tail", "tr", "uname", "xargs", "echo"):
        (commands / name).symlink_to(str(shutil.which(name)))
    scripts = dict.fromkeys(programs, "exit 9\n")
    if qemu:  # it lists its processors and fails, as qemu does
        scripts["qemu-aarch64"] = f"[ $1 = --version ] && echo 'qemu 9' && exit\nprintf '{KNOWN}'\nexit 1\n"
    for name, code in scripts.items():
        (commands / name).write_text(f"#!/bin/bash\n{code}")
        (commands / name).chmod(0o755)
    return subprocess.run(
        ["/bin/bash", checkout / "scripts/boards/emulate", *arguments],
        capture_output=True, text=True, check=False, env={"PATH": str(commands), "HOME": str(folder)},
    )  # fmt: skip


def test_the_help_is_the_head_of_the_script(tmp_path: Path) -> None:
    done = emulate(tmp_path, "--help")
    assert done.returncode == 0
    assert "scripts/boards/emulate [--release bookworm|trixie] [--cpu CPU]..." in done.stdout
    assert "set -e" not in done.stdout


def test_without_qemu_the_package_is_named(tmp_path: Path) -> None:
    done = emulate(tmp_path, qemu=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "qemu-aarch64: not found. On Debian and Ubuntu: sudo apt install qemu-user-static (or qemu-user)\n"
    )


def test_without_apt_debian_is_named(tmp_path: Path) -> None:
    done = emulate(tmp_path, programs=("dpkg-deb",))
    assert done.returncode == 1
    assert done.stderr.startswith("apt-get gpgv: not found.") and "Debian" in done.stderr


def test_a_processor_that_qemu_does_not_know_is_refused_with_those_it_knows(tmp_path: Path) -> None:
    done = emulate(tmp_path, "--cpu", "cortex-a7")
    assert done.returncode == 2
    assert done.stderr == "--cpu cortex-a7: qemu 9 does not know it; it knows: cortex-a53 cortex-a72 cortex-a76 max\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--release", "bullseye"), "--release bullseye: not supported; expected bookworm (Python 3.11) or trixie"),
        (("--release",), "--release: expected a value"),
        (("--fast",), "--fast: not supported; expected --release, --cpu, --extras or -- COMMAND"),
    ],
)
def test_options_are_refused_by_name(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = emulate(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(words)


def test_an_archive_that_cannot_be_read_ends_it_and_leaves_no_root(tmp_path: Path) -> None:
    done = emulate(tmp_path)
    assert done.returncode not in (0, 2)
    assert "== Debian's Python 3.11 for arm64" in done.stderr
    assert not (tmp_path / "checkout/.emulate/bookworm/debian").exists()
