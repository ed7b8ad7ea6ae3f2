"""How much memory may be used: the machine's, a container's, and what the groups above it allow."""

from pathlib import Path

import pytest

from edge.engine.available import memory

GB = 10**9


class Machine:
    """The files in which a machine tells of its memory."""

    def __init__(self, folder: Path, *, total: int, available: int) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.groups.mkdir()
        meminfo = f"MemTotal: {total // 1024} kB\nMemFree: 1 kB\nMemAvailable: {available // 1024} kB\n"
        (self.proc / "meminfo").write_text(meminfo)

    def unified(self, own: str, *, root: str = "/") -> None:
        (self.proc / "self/cgroup").write_text(f"0::{own}\n")
        line = f"31 23 0:28 {root} {self.groups} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
        (self.proc / "self/mountinfo").write_text("22 1 0:5 / / rw - ext4 /dev/sda rw\n" + line)

    def version_1(self, own: str, *, root: str = "/") -> None:
        (self.proc / "self/cgroup").write_text(f"5:cpu:/elsewhere\n4:memory:{own}\n0::/\n")
        line = f"35 31 0:32 {root} {self.groups} rw,relatime - cgroup cgroup rw,memory\n"
        (self.proc / "self/mountinfo").write_text(f"32 31 0:29 / /cpu rw - cgroup cgroup rw,cpu\n{line}")

    def group(self, path: str, **files: object) -> None:
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (folder / f"memory.{name}").write_text(f"{value}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, total=8 * GB, available=6 * GB)


def test_machine_without_groups(machine: Machine) -> None:
    found = memory(machine.proc)
    assert (round(found.total / GB), round(found.available / GB), found.limited_by) == (8, 6, None)


def test_group_of_version_2_limits_this_process(machine: Machine) -> None:
    machine.unified("/app")
    machine.group("app", max=3 * GB, current=GB)
    found = memory(machine.proc)
    assert (found.total, found.available) == (3 * GB, 2 * GB)
    assert found.limited_by == str(machine.groups / "app")


def test_group_far_above_limits_as_well(machine: Machine) -> None:
    machine.unified("/pod/app/worker")
    machine.group("pod/app/worker", max="max", current=GB)
    machine.group("pod/app", max=5 * GB, current=GB)
    machine.group("pod", max=2 * GB, current=3 * GB // 2)
    found = memory(machine.proc)
    assert (found.total, found.available) == (2 * GB, GB // 2)
    assert found.limited_by == str(machine.groups / "pod")


def test_parent_that_is_nearly_full_counts_though_its_limit_is_larger(machine: Machine) -> None:
    machine.unified("/pod/app")
    machine.group("pod/app", max=2 * GB, current=GB // 4)
    machine.group("pod", max=5 * GB, current=9 * GB // 2)
    assert (memory(machine.proc).total, memory(machine.proc).available) == (2 * GB, GB // 2)


def test_high_throttles_so_it_counts_as_a_limit(machine: Machine) -> None:
    machine.unified("/app")
    machine.group("app", max=4 * GB, high=3 * GB, current=GB)
    assert memory(machine.proc).total == 3 * GB


def test_files_that_can_be_dropped_are_not_in_use(machine: Machine) -> None:
    machine.unified("/app")
    machine.group("app", max=3 * GB, current=2 * GB, stat=f"anon {GB}\ninactive_file {GB}\nactive_file 5")
    assert memory(machine.proc).available == 2 * GB


@pytest.mark.parametrize(
    ("own", "root"),
    [
        ("/", "/"),  # in a namespace of its own
        ("/docker/1f", "/docker/1f"),  # the mount shows the container's group
        ("/docker/1f", "/"),  # told the path on the host, whose folder is not there
        ("/../../pod", "/"),  # of another namespace
    ],
)
def test_container_finds_its_own_group(machine: Machine, own: str, root: str) -> None:
    machine.unified(own, root=root)
    machine.group("", max=3 * GB, current=GB)
    assert memory(machine.proc).total == 3 * GB


def test_group_of_version_1_limits_and_its_parents(machine: Machine) -> None:
    machine.version_1("/pod/app")
    none = 9223372036854771712
    machine.group("pod/app", limit_in_bytes=none, usage_in_bytes=GB)
    machine.group("pod", limit_in_bytes=2 * GB, usage_in_bytes=GB, stat=f"cache 1\ntotal_inactive_file {GB // 2}")
    found = memory(machine.proc)
    assert (found.total, found.available) == (2 * GB, 3 * GB // 2)


def test_no_limit_of_version_1_is_none(machine: Machine) -> None:
    machine.version_1("/")
    machine.group("", limit_in_bytes=9223372036854771712, usage_in_bytes=GB)
    assert memory(machine.proc).limited_by is None


def test_limit_that_is_used_up_leaves_nothing(machine: Machine) -> None:
    machine.unified("/app")
    machine.group("app", max=GB, current=2 * GB)
    assert memory(machine.proc).available == 0


def test_system_that_tells_nothing_is_taken_to_have_half(tmp_path: Path) -> None:
    found = memory(tmp_path / "none")
    assert found.available == found.total // 2 > 0
