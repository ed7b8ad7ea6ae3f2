"""What a unit forbids its processes, so that they, the decoding process and the packing one still do their work.

The decoding process gives itself a network of its own, by a user namespace of its own where it has no rights: so those
two namespaces stay allowed. It sets its own resource limits, and the packing process its priority. What writes code
while it runs stays allowed, too (MemoryDenyWriteExecute=no): soundfile reads audio through callbacks of cffi, which do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# Cameras (V4L2, with a Pi's and a Jetson's media devices and buffers), sound cards, accelerators, GPIO lines.
CAMERAS: Final = ("char-video4linux", "char-media", "char-dma_heap", "char-drm", "/dev/vchiq")
SOUND: Final = ("char-alsa",)
LINES: Final = ("char-gpiochip",)

_ALWAYS: Final = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=user net",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
)
_SYSTEM: Final = (
    "ProtectSystem=strict",
    "ProtectHome=tmpfs",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "KeyringMode=private",
    "RemoveIPC=yes",
)


@dataclass(frozen=True)
class Uses:
    """What a service needs besides the processor and its model.

    cameras, sound, lines: devices. accelerators: a GPU, whose drivers open devices of their own. low_port: whether it
    listens below 1024. network_online: whether it cannot start before the network is up. loopback: whether all that it
    talks to is on this machine.
    """

    cameras: bool = False
    sound: bool = False
    lines: bool = False
    accelerators: bool = False
    low_port: bool = False
    network_online: bool = False
    loopback: bool = False

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that it may open, by the names of DeviceAllow=."""
        return (CAMERAS if self.cameras else ()) + (SOUND if self.sound else ()) + (LINES if self.lines else ())


def lines(uses: Uses, *, is_system: bool) -> Iterator[str]:
    """Yield the settings that forbid; a user's manager can only set those that need no rights, and no user namespace.

    Source: systemd.exec(5), SANDBOXING; systemd.resource-control(5).
    """
    yield from _ALWAYS
    families = "AF_UNIX AF_INET AF_INET6" + (" AF_NETLINK" if uses.devices else "")  # libcamera and udev ask by it
    yield f"RestrictAddressFamilies={families}"
    if is_system:
        yield from _SYSTEM
        yield from _rights(uses)
        yield from _devices(uses)
        if uses.loopback:
            yield "IPAddressDeny=any"
            yield "IPAddressAllow=localhost"


def _rights(uses: Uses) -> Iterator[str]:
    rights = "CAP_NET_BIND_SERVICE" if uses.low_port else ""
    yield f"CapabilityBoundingSet={rights}"
    yield f"AmbientCapabilities={rights}"
    if not (
        uses.low_port or uses.devices or uses.accelerators
    ):  # in a user namespace neither a port nor a group's device is to be had
        yield "PrivateUsers=yes"


def _devices(uses: Uses) -> Iterator[str]:
    if uses.accelerators:  # which devices those are depends on the board: what their groups may open
        return
    if not uses.devices:
        yield "PrivateDevices=yes"
    yield "DevicePolicy=closed"
    for device in uses.devices:
        yield f"DeviceAllow={device} rw"
