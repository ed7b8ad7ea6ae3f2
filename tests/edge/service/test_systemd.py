"""What systemd itself says of our units: nothing to mend, and how much a service could still do."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge.service.unit import KINDS, Kind, Scope, text
from tests.edge.service.test_unit import unit

ANALYZE = shutil.which("systemd-analyze")
EXPOSED = {"assistant": 2.3, "serve": 1.7, "watch": 2.3}  # of 10, at most

pytestmark = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (Debian's package systemd)")


@pytest.fixture
def written(tmp_path: Path, kind: Kind, scope: Scope) -> Path:
    path = tmp_path / f"edge-{kind}.service"
    path.write_text(text(replace(unit(kind, scope), program=Path(sys.executable), systemd=version())))
    return path


def version() -> int:
    said = subprocess.run([str(ANALYZE), "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[1])


def analyze(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    return subprocess.run(
        [str(ANALYZE), *arguments], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )


@pytest.mark.parametrize("scope", ["system", "user"])
@pytest.mark.parametrize("kind", KINDS)
def test_verify_finds_nothing(kind: Kind, scope: Scope, written: Path, tmp_path: Path) -> None:
    done = analyze(tmp_path, "verify", "--man=no", f"--{scope}", str(written))
    about_ours = [line for line in done.stderr.splitlines() if "edge-" in line]
    assert (done.returncode, about_ours) == (0, []), done.stderr


def test_verify_finds_a_setting_that_there_is_not(tmp_path: Path) -> None:
    wrong = text(replace(unit("serve", "system"), program=Path(sys.executable))).replace("KillMode=", "KilMode=")
    (tmp_path / "edge-serve.service").write_text(wrong)
    done = analyze(tmp_path, "verify", "--man=no", "--system", f"{tmp_path}/edge-serve.service")
    assert "KilMode" in done.stderr


@pytest.mark.skipif(ANALYZE is not None and version() < 250, reason="systemd-analyze security --offline needs 250")
@pytest.mark.parametrize("scope", ["system"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_service_of_the_system_can_do_little_else(kind: Kind, scope: Scope, written: Path, tmp_path: Path) -> None:
    done = analyze(tmp_path, "security", "--offline=true", "--no-pager", str(written))
    found = re.search(r"Overall exposure level for edge-\w+\.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSED[kind]
