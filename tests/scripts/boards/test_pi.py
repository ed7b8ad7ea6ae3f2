"""scripts/boards/pi on systems that are made up: files of a board below a folder, and stand-ins for its commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
OS_RELEASE = {
    "bullseye": 'PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nVERSION_CODENAME=bullseye\n',
    "bookworm": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\n',
    "trixie": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_CODENAME=trixie\n',
}
# Each writes down how it was called; those that only look read what the test says is so.
LOGGED = 'echo "${0##*/} $*" >>"$STAND_INS/log"\n'
STAND_INS = {
    "dpkg": 'echo "${ARCHITECTURE:-arm64}"\n',
    "uname": 'if [ "$1" = -m ]; then echo aarch64; else echo Linux; fi\n',
    "dpkg-query": 'grep -qx -- "$3" "$STAND_INS/installed" && printf installed\n',
    "apt-cache": '! grep -qx -- "$2" "$STAND_INS/absent"\n',
    "apt-get": LOGGED + 'if [ "$1" = install ]; then shift 3; printf "%s\\n" "$@" >>"$STAND_INS/installed"; fi\n',
    "sudo": '"$@"\n',
    "id": 'case "$1" in -u) echo 1000 ;; -un) echo pi ;; -nG) cat "$STAND_INS/groups" ;; esac\n',
    "getent": 'case "$2" in audio | video | gpio) ;; *) exit 2 ;; esac\n',
    "usermod": LOGGED + 'echo "pi $(echo "$3" | tr , " ")" >"$STAND_INS/groups"\n',
    "udevadm": LOGGED,
    "python3": (
        'if [ "$1" = -c ]; then [ -n "$NUMPY" ] && echo "$NUMPY"; exit; fi\n' + LOGGED + 'mkdir -p "$4/bin"\n'
        'echo "include-system-site-packages = true" >"$4/pyvenv.cfg"\n'
        'for name in python pip; do cp "$STAND_INS/environments-python" "$4/bin/$name"; done\n'
    ),
    "environments-python": 'if [ "$*" != "-m pip --version" ]; then ' + LOGGED.strip() + "; fi\n",
}  # fmt: skip
Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Board:
    """A made-up board: `system` has its files, `log` every command that changes something."""

    def __init__(self, folder: Path) -> None:
        self.system, self.checkout, self.commands = folder / "system", folder / "checkout", folder / "commands"
        self.environment = {"NUMPY": "1.24.2"}
        for path in ("scripts/boards/pi", "scripts/environment.sh"):
            (self.checkout / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, self.checkout / path)
        for name in ("edge", "export", "models"):
            (self.checkout / name).mkdir()
        (self.checkout / "pyproject.toml").write_text("")
        self.commands.mkdir()
        for name, code in STAND_INS.items():
            (self.commands / name).write_text(f"#!/bin/bash\n{code}")
            (self.commands / name).chmod(0o755)
        for name, text in (("installed", "python3-venv\n"), ("absent", ""), ("groups", "pi sudo"), ("log", "")):
            (self.commands / name).write_text(text)
        self.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
        self.write("etc/os-release", OS_RELEASE["bookworm"])
        self.write("proc/meminfo", "MemTotal:        8245840 kB\n")

    def write(self, path: str, text: str) -> None:
        (self.system / path).parent.mkdir(parents=True, exist_ok=True)
        (self.system / path).write_text(text)

    def usb(self, kind: str, name: str, vendor: str, product: str) -> None:
        """Plug in a USB device: its interface below it, as in sysfs, and a link from the class's device."""
        device = self.system / "sys/devices/usb1" / f"1-{vendor}{product}"
        self.write(f"{device.relative_to(self.system)}/idVendor", f"{vendor}\n")
        self.write(f"{device.relative_to(self.system)}/idProduct", f"{product}\n")
        (device / "1.0").mkdir(exist_ok=True)
        self.write(f"sys/class/{kind}/{name}/index", "0\n")
        (self.system / f"sys/class/{kind}/{name}/device").symlink_to(device / "1.0")

    @property
    def log(self) -> list[str]:
        return (self.commands / "log").read_text().splitlines()

    @property
    def venv(self) -> Path:
        return self.checkout / ".venv"

    @property
    def rules(self) -> str:
        return (self.system / "etc/udev/rules.d/70-edge.rules").read_text()

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            ["/bin/bash", self.checkout / "scripts/boards/pi", "--system", self.system, *arguments],
            capture_output=True, text=True, check=False,
            env={
                "PATH": f"{self.commands}:/usr/bin:/bin", "HOME": str(self.checkout), "STAND_INS": str(self.commands),
                "EDGE_PI_PYTHON": str(self.commands / "python3"), **self.environment,
            },
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stderr


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_says_everything_and_changes_nothing(board: Board) -> None:
    board.usb("video4linux", "video0", "046d", "0825")
    before = files(board.checkout.parent)
    said = board.run("--dry-run")
    assert files(board.checkout.parent) == before
    for words in (
        "ok   Raspberry Pi 5 Model B Rev 1.0",
        "would run + sudo apt-get update",
        "would run + sudo apt-get install --yes --no-install-recommends libportaudio2 alsa-utils",
        "would run + sudo usermod --append --groups audio,video,gpio pi",
        f"-m venv --system-site-packages {board.venv}",
        f"would run + {board.venv}/bin/pip install {board.checkout}[server,mic,wake,vad]",
        "would write > ",
        "Nothing was changed.",
    ):
        assert words in said


def test_a_board_is_set_up(board: Board) -> None:
    said = board.run()
    wanted = "libportaudio2 alsa-utils espeak-ng v4l-utils gpiod python3-picamera2 rpicam-apps"
    assert board.log[:4] == [
        "apt-get update",
        f"apt-get install --yes --no-install-recommends {wanted}",
        "usermod --append --groups audio,video,gpio pi",
        f"python3 -m venv --system-site-packages {board.venv}",
    ]
    package = f"{board.checkout}[server,mic,wake,vad]"
    assert [line for line in board.log if "pip install" in line] == [
        f"python -m pip install --disable-pip-version-check --quiet --prefer-binary {package}"
    ]
    assert "ok   picamera2 can be imported beside it: --camera pi" in said


def test_a_second_run_changes_nothing(board: Board) -> None:
    board.usb("video4linux", "video0", "046d", "0825")
    board.run()
    (board.commands / "log").write_text("")
    said = board.run()
    assert board.log == ["python -c import edge, picamera2"]
    for words in ("ok   packages are installed", "ok   pi may use audio", "sees the system's", "ok   names of USB"):
        assert words in said


def test_scripts_run_has_nothing_left_to_install(board: Board) -> None:
    board.run()
    code = '. "$1/scripts/environment.sh"; runtime_venv "$1"'
    before = board.log
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", code, "run", board.checkout],
        capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], "STAND_INS": str(board.commands)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in board.log if line not in before] == ["python -c "]


@pytest.mark.parametrize(
    ("release", "numpy", "wanted"),
    [
        ("bookworm", "1.24.2", ["numpy>=1.26,<2", "opencv-python-headless<4.12"]),
        ("bookworm", "", ["numpy>=1.26,<2", "opencv-python-headless<4.12"]),
        ("trixie", "2.2.4", ["numpy>=2"]),
        ("trixie", "", ["numpy>=2"]),
    ],
)
def test_pip_keeps_to_the_numpy_of_the_system(board: Board, release: str, numpy: str, wanted: list[str]) -> None:
    board.write("etc/os-release", OS_RELEASE[release])
    board.environment["NUMPY"] = numpy
    board.run()
    file = board.venv / "constraints.txt"
    assert file.read_text().splitlines() == wanted
    assert (board.venv / "pip.conf").read_text() == f"[install]\nconstraint = {file}\n"
    # Some version of each has to be left.
    tried = {"numpy": ["1.26.4", "2.2.6"], "opencv-python-headless": ["4.10.0.84", "4.11.0.86", "4.12.0.88"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    for ours in (Requirement(line) for line in project if Requirement(line).name in tried):
        both = ours.specifier
        for line in wanted:
            if Requirement(line).name == ours.name:
                both &= Requirement(line).specifier
        assert any(both.contains(version) for version in tried[ours.name]), both


def test_a_32_bit_system_is_refused_by_name(board: Board) -> None:
    board.environment["ARCHITECTURE"] = "armhf"
    said = board.run(status=1)
    assert "FAIL this system has 32 bits (armhf, on a kernel for aarch64)" in said
    assert "Raspberry Pi OS (64-bit)" in said
    assert board.log == [] and not board.venv.exists()


@pytest.mark.parametrize(
    "model", ["Raspberry Pi 3 Model B Plus Rev 1.3", "Raspberry Pi Zero 2 W Rev 1.0", "Radxa ROCK"]
)
def test_another_board_is_refused_unless_asked_for(board: Board, model: str) -> None:
    board.write("proc/device-tree/model", f"{model}\0")
    assert f"FAIL {model}" in board.run(status=1) and board.log == []
    assert f"note {model}" in board.run("--any-board")
    assert board.venv.exists()


@pytest.mark.parametrize(
    "model", ["Raspberry Pi 4 Model B Rev 1.5", "Raspberry Pi 400 Rev 1.0", "Raspberry Pi Compute Module 5 Rev 1.0"]
)
def test_the_boards_that_are_supported_are_named(board: Board, model: str) -> None:
    board.write("proc/device-tree/model", f"{model}\0")
    assert f"ok   {model}" in board.run("--dry-run")


def test_another_release_is_refused(board: Board) -> None:
    board.write("etc/os-release", OS_RELEASE["bullseye"])
    said = board.run(status=1)
    assert "FAIL Debian GNU/Linux 11 (bullseye): expected Bookworm (Debian 12, Python 3.11) or Trixie" in said
    assert board.log == []


def test_a_dry_run_shows_the_rest_of_what_is_refused(board: Board) -> None:
    board.write("proc/meminfo", "MemTotal:         950000 kB\n")
    said = board.run("--dry-run", status=1)
    assert "FAIL 927 MiB of memory" in said and "would run + sudo apt-get install" in said
    assert "nothing was changed" in said


def test_packages_that_the_archive_does_not_have_are_left_out_and_named(board: Board) -> None:
    (board.commands / "absent").write_text("python3-picamera2\nrpicam-apps\n")
    said = board.run()
    assert "note not in this system's archive, and left out: python3-picamera2 rpicam-apps" in said
    assert [line for line in board.log if line.startswith("apt-get install")] == [
        "apt-get install --yes --no-install-recommends libportaudio2 alsa-utils espeak-ng v4l-utils gpiod"
    ]


def test_without_a_camera_its_packages_are_left_out(board: Board) -> None:
    board.run("--no-camera")
    assert not [line for line in board.log if "picamera2" in line or "rpicam" in line]


def test_the_programs_of_a_system_without_a_desktop_are_enough(board: Board) -> None:
    with (board.commands / "installed").open("a") as file:
        file.write("rpicam-apps-lite\n")
    board.run()
    assert not [line for line in board.log if line.endswith("rpicam-apps")]


def test_alsa_leads_to_pipewire_where_that_is(board: Board) -> None:
    assert "audio goes through ALSA" in board.run("--dry-run")
    with (board.commands / "installed").open("a") as file:
        file.write("pipewire\n")
    said = board.run()
    assert "audio goes through PipeWire: wpctl status" in said
    assert "pipewire-alsa wireplumber" in next(line for line in board.log if line.startswith("apt-get install"))


def test_an_environment_that_does_not_see_the_system_is_made_again(board: Board) -> None:
    board.venv.mkdir()
    (board.venv / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    (board.venv / "old").touch()
    assert "does not see the system's packages" in board.run()
    assert not (board.venv / "old").exists() and (board.venv / "bin/python").exists()


def test_usb_devices_get_names_that_stay(board: Board) -> None:
    board.usb("video4linux", "video0", "046d", "0825")
    board.usb("video4linux", "video2", "1bcf", "2281")
    board.write("sys/class/video4linux/video10/index", "0\n")  # the board's own: no USB device
    board.usb("sound", "card1", "0d8c", "0014")
    board.usb("sound", "card2", "4c4a", "4155")
    board.usb("sound", "card3", "08bb", "2902")
    board.write("sys/class/sound/card0/number", "0\n")
    board.write("proc/asound/card1/pcm0c/info", "")
    board.write("proc/asound/card2/pcm0p/info", "")
    board.write("proc/asound/card3/pcm0c/info", "")
    board.write("proc/asound/card3/pcm0p/info", "")
    board.run()
    camera = 'SUBSYSTEM=="video4linux", ATTR{index}=="0", ATTRS{idVendor}=='
    sound = 'SUBSYSTEM=="sound", KERNEL=="card*", ATTRS{idVendor}=='
    assert board.rules.splitlines()[1:] == [
        f'{camera}"046d", ATTRS{{idProduct}}=="0825", SYMLINK+="edge-camera"',
        f'{camera}"1bcf", ATTRS{{idProduct}}=="2281", SYMLINK+="edge-camera-2"',
        f'{sound}"0d8c", ATTRS{{idProduct}}=="0014", ATTR{{id}}="EdgeMic"',
        f'{sound}"4c4a", ATTRS{{idProduct}}=="4155", ATTR{{id}}="EdgeSpeaker2"',
        f'{sound}"08bb", ATTRS{{idProduct}}=="2902", ATTR{{id}}="EdgeSound3"',
    ]
    assert board.log[-2:] == [
        "udevadm control --reload",
        "udevadm trigger --subsystem-match=sound --subsystem-match=video4linux",
    ]


def test_without_usb_devices_no_rules_are_written(board: Board) -> None:
    assert "no USB camera or sound card is plugged in" in board.run()
    assert not (board.system / "etc/udev").exists()


@pytest.mark.parametrize(
    ("release", "swaps", "words"),
    [
        ("bookworm", "", "apt install systemd-zram-generator"),
        ("trixie", "", "apt install rpi-swap"),
        ("trixie", "/dev/zram0 partition 2097136 0 100\n", "compressed memory (zram) is on"),
    ],
)
def test_swap_is_advised_and_left_alone(board: Board, release: str, swaps: str, words: str) -> None:
    board.write("etc/os-release", OS_RELEASE[release])
    board.write("proc/swaps", swaps)
    assert words in board.run()
    assert not [line for line in board.log if line.startswith("apt-get") and ("zram" in line or "swap" in line)]


@pytest.mark.parametrize("arguments", [("--camera",), ("--extras",)])
def test_an_option_that_is_not_there_is_refused(board: Board, arguments: tuple[str, ...]) -> None:
    assert board.run(*arguments, status=2).startswith(arguments[0])
