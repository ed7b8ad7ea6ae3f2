"""JavaScript's clients, run by node over TCP: `openai`, `@anthropic-ai/sdk` and Vercel's AI SDK.

scripts/test installs them, in the versions that tests/conformance/javascript/package-lock.json pins.
"""

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.conftest import Served, serving
from tests.conformance.test_reka_client import image_url
from tests.edge.speech.fake_voice import FakeVoices

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent / "javascript"
INSTALLED = ROOT / ".venv-test" / "javascript-clients"
KEY = "secret"
OLDEST_NODE = 20


@pytest.fixture(scope="module")
def served_with_a_key(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle, key=KEY, voices=FakeVoices()) as served:
        yield served


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tests, where node finds the clients."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {OLDEST_NODE} or newer is needed, here is {version}")
    pins = INSTALLED / "package-lock.json"
    if not pins.exists() or pins.read_bytes() != (TESTS / "package-lock.json").read_bytes():
        pytest.skip("the clients are not installed: scripts/test installs them with npm, which needs the network")
    folder = tmp_path_factory.mktemp("javascript")
    for path in TESTS.glob("*.mjs"):
        shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(INSTALLED / "node_modules")
    (folder / "image.png").write_bytes(base64.b64decode(image_url().partition(",")[2]))
    return folder


@pytest.mark.parametrize("client", ["openai", "anthropic", "ai"])
def test_the_client_asks_streams_calls_and_reads_errors(client: str, clients: Path, served_with_a_key: Served) -> None:
    asking = {"EDGE_URL": served_with_a_key.address, "EDGE_API_KEY": KEY, "EDGE_IMAGE": str(clients / "image.png")}
    command = ["node", "--test", "--test-reporter=tap", f"{client}.mjs"]
    done = subprocess.run(
        command, cwd=clients, env={**os.environ, **asking}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^# pass (\d+)$", done.stdout, flags=re.MULTILINE)
    assert found is not None and int(found[1]) >= (clients / f"{client}.mjs").read_text("utf-8").count("test(")
