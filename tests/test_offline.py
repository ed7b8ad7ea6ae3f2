"""Chatting opens no socket, starts no program and reads nothing but the bundle, the media and the installed code.

The guard is Python's own audit hook, set in a process of its own; what native code opened shows in /proc.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "models" / "sample.png"

GUARDED = """
import json, os, sys

allowed, request = json.loads(sys.argv[1]), json.loads(sys.argv[2])
refused = []

def guard(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.system", "urllib.")):
        refused.append(event)
        raise PermissionError(event)
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith(tuple(allowed)):
            refused.append(path)
            raise PermissionError(path)

sys.addaudithook(guard)

from edge import ApiError, Reka

def held():
    with open("/proc/self/maps") as maps:
        mapped = sorted({line.split(maxsplit=5)[5].strip() for line in maps if line.count("/")})
    descriptors = []
    for number in os.listdir("/proc/self/fd"):
        try:
            descriptors.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass  # the listing's own
    return {"mapped": mapped, "descriptors": descriptors}

with Reka(model=request["model"]) as client:
    model = client.models.get()[0].id
    try:
        for chunk in client.chat.create_stream(model=model, messages=request["messages"], max_tokens=8, seed=0):
            pass
        said = [chunk.responses[0].finish_reason]
    except ApiError as error:
        said = [error.status_code, str(error.body)]
    loaded = [name for name in ("huggingface_hub", "requests") if name in sys.modules]
    print(json.dumps({"said": said, "refused": refused, "loaded": loaded, **held()}))
"""


def chat(bundle: Path, image_url: str, home: Path) -> dict[str, list[str]]:
    """What a guarded process did while it asked about a picture; home: the models folder."""
    code = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), str(ROOT / "edge")}
    code |= {str(Path(path).resolve()) for path in code}
    # onnxruntime looks up the name of the system as it is loaded.
    system = ("/proc/", "/sys/", "/dev/", "/etc/os-release", "/usr/lib/os-release", "/etc/lsb-release")
    # The list of models reads what bundles say of themselves, and no more of those that nobody asked for.
    embedded = str(ROOT / "models" / "reka-edge-tiny" / "manifest.json")
    allowed = [*code, str(bundle), str(SAMPLE), str(home), embedded, *system]
    content = [{"type": "image_url", "image_url": image_url}, {"type": "text", "text": "What is there?"}]
    request = {"model": str(bundle), "messages": [{"role": "user", "content": content}]}
    command = [sys.executable, "-c", GUARDED, json.dumps(allowed), json.dumps(request)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "EDGE_MODELS": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    did: dict[str, list[str]] = json.loads(done.stdout)
    return did


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def did(int8_bundle: Path, home: Path) -> dict[str, list[str]]:
    return chat(int8_bundle, str(SAMPLE), home)


def test_nothing_is_left_in_the_home_folder(did: dict[str, list[str]], home: Path) -> None:
    assert did["said"]
    assert not list(home.rglob("*"))


def test_chat_opens_no_socket_and_reads_only_bundle_and_media(did: dict[str, list[str]]) -> None:
    assert did["said"][0] in ("stop", "length")
    assert did["refused"] == [] and did["loaded"] == []
    assert not [name for name in did["descriptors"] if name.startswith("socket:")]


def test_what_is_mapped_is_code_or_bundle(did: dict[str, list[str]], int8_bundle: Path) -> None:
    data = [name for name in did["mapped"] if ".so" not in Path(name).name and name.startswith("/")]
    assert str(int8_bundle / "embedding.bin") in data
    own = (str(int8_bundle), sys.executable, str(Path(sys.executable).resolve()), "/usr/lib/", "/dev/")
    own += ("/memfd:edge-cache",)  # memory of keys and values, in no folder
    assert not [name for name in data if not name.startswith(own)]


@pytest.mark.parametrize("url", ["https://example.com/frame.jpg", "http://127.0.0.1:9/frame.jpg"])
def test_remote_image_is_refused_without_a_connection(int8_bundle: Path, url: str, home: Path) -> None:
    did = chat(int8_bundle, url, home)
    assert did["said"][0] == 400
    assert did["refused"] == []
