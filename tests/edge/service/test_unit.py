"""Units: their text is fixed, says what was asked for, and forbids no more than the service and its children need."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge.service.hardening import Uses
from edge.service.unit import KINDS, Kind, Scope, Unit, is_ours, text, unit_name
from tests.edge.service import unit_files

GOLDEN = Path(__file__).parents[2] / "golden" / "units"
PYTHON = Path("/home/pi/edge/.venv/bin/python")
NEEDS = {
    "assistant": Uses(cameras=True, sound=True, lines=True),
    "serve": Uses(loopback=True),
    "watch": Uses(cameras=True),
}
ASKED = {
    "assistant": ("--wake-word=computer",),
    "serve": ("--port=9000", "--alias=reka-core=reka-edge"),
    "watch": ("--camera=0", "--every=5s", "--", 'Is anyone "there"? 100% sure, $1'),
}


def unit(kind: Kind, scope: Scope) -> Unit:
    made = Unit(kind, scope, PYTHON, ("-P", "-m", "edge", kind, *ASKED[kind]), NEEDS[kind], memory_bytes=3 << 30)
    if kind == "serve":
        folder = "/etc/edge" if scope == "system" else "/home/pi/.config/edge"
        made = replace(made, environment_file=Path(folder) / "serve.env")
    if scope == "user":
        return made
    groups = ("video", "audio", "gpio") if kind == "assistant" else ("video",) if kind == "watch" else ()
    own = {"EDGE_MODELS": "/var/lib/edge/models", "XDG_CACHE_HOME": "/var/cache"}
    return replace(made, environment=own, shown=(Path("/home/pi/edge"),), groups=groups)


def service(made: Unit) -> dict[str, list[str]]:
    return unit_files.settings(text(made))["Service"]


@pytest.mark.parametrize("scope", ["system", "user"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_is_as_it_was_written_down(kind: Kind, scope: Scope) -> None:
    assert text(unit(kind, scope)) == (GOLDEN / scope / unit_name(kind)).read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_its_command_line_has_the_arguments_as_they_are(kind: Kind) -> None:
    (line,) = service(unit(kind, "user"))["ExecStart"]
    assert unit_files.command(line) == [str(PYTHON), "-P", "-m", "edge", kind, *ASKED[kind]]


def test_a_unit_is_known_as_ours_by_its_first_line() -> None:
    assert is_ours(text(unit("serve", "user")))
    assert not is_ours("[Unit]\nDescription=edge\n") and not is_ours("")


@pytest.mark.parametrize(("systemd", "has_steps"), [(247, False), (253, False), (254, True), (257, True)])
def test_delays_grow_where_systemd_knows_how(systemd: int, has_steps: bool) -> None:
    found = service(replace(unit("serve", "system"), systemd=systemd))
    assert ("RestartSteps" in found, "RestartMaxDelaySec" in found) == (has_steps, has_steps)
    assert found["Restart"] == ["on-failure"] and found["RestartSec"] == ["5"]


def test_memory_is_limited_by_one_number_or_not_at_all() -> None:
    made = unit("serve", "system")
    assert service(made)["MemoryMax"] == ["3072M"]
    found = service(replace(made, memory_bytes=None))
    assert "MemoryMax" not in found and "MemoryHigh" not in found


@pytest.mark.parametrize("scope", ["system", "user"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_decoding_process_can_still_give_itself_a_network_of_its_own(kind: Kind, scope: Scope) -> None:
    found = service(unit(kind, scope))
    assert found["RestrictNamespaces"] == ["user net"]
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged"]  # unshare, prlimit, memfd_create are in it
    assert found["SystemCallErrorNumber"] == ["EPERM"]  # what is refused is an error, not the end
    assert found["OOMPolicy"] == ["continue"] and "ProcSubset" not in found


def test_a_server_sees_no_device_and_only_what_it_asks_for_may_talk_to_it() -> None:
    made = unit("serve", "system")
    found = service(made)
    assert (found["PrivateDevices"], found["IPAddressAllow"]) == (["yes"], ["localhost"])
    assert "IPAddressDeny" not in service(replace(made, uses=Uses()))


def test_who_uses_devices_may_open_those_alone() -> None:
    found = service(unit("watch", "system"))
    assert "PrivateDevices" not in found and found["DevicePolicy"] == ["closed"]
    assert "char-video4linux rw" in found["DeviceAllow"] and "char-alsa rw" not in found["DeviceAllow"]
    assert found["SupplementaryGroups"] == ["video"] and "PrivateUsers" not in found
    heard = service(unit("assistant", "system"))
    assert {"char-alsa rw", "char-video4linux rw", "char-gpiochip rw"} <= set(heard["DeviceAllow"])


def test_a_low_port_is_a_right_of_its_own() -> None:
    made = unit("serve", "system")
    assert service(made)["CapabilityBoundingSet"] == [""]
    found = service(replace(made, uses=Uses(low_port=True)))
    assert found["AmbientCapabilities"] == found["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE"]
    assert "PrivateUsers" not in found  # there the right would count for nothing


def test_audio_can_be_decoded_through_callbacks() -> None:
    for kind in KINDS:  # cffi writes code for those of soundfile, and has no other way
        assert "MemoryDenyWriteExecute" not in text(unit(kind, "system")) + text(unit(kind, "user"))


def test_a_gpu_is_reached_by_its_groups() -> None:
    found = service(replace(unit("serve", "system"), uses=Uses(accelerators=True), groups=("video", "render")))
    assert found["SupplementaryGroups"] == ["video render"]
    assert not {"PrivateDevices", "DevicePolicy", "PrivateUsers"} & set(found)
    assert found["NoNewPrivileges"] == ["yes"] and found["CapabilityBoundingSet"] == [""]


def test_a_users_unit_has_nothing_that_its_manager_cannot_do() -> None:
    for kind in KINDS:
        found = service(unit(kind, "user"))
        barred = ("DynamicUser", "ProtectSystem", "PrivateDevices", "DeviceAllow", "IPAddressDeny", "StateDirectory")
        assert not set(barred) & set(found)


def test_a_server_waits_for_the_network_only_where_its_address_needs_it() -> None:
    made = unit("serve", "system")
    assert unit_files.settings(text(made))["Unit"]["After"] == ["network.target"]
    found = unit_files.settings(text(replace(made, uses=Uses(network_online=True))))["Unit"]
    assert found["After"] == found["Wants"] == ["network-online.target"]


def test_credentials_and_folders_are_named_as_they_are() -> None:
    made = replace(
        unit("serve", "system"),
        credentials={"api-key": Path("/etc/edge keys/100%")},
        shown=(Path("/home/pi/my models"),),
    )
    found = service(made)
    assert found["LoadCredential"] == ["api-key:/etc/edge keys/100%%"]
    assert unit_files.words(found["BindReadOnlyPaths"][0]) == ["/home/pi/my models"]
