"""The container: its Dockerfile is linted and keeps to rules of its own, what it may do is little, its health check."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "scripts" / "boards" / "container"
LINTED = [ROOT / "scripts" / name for name in ("run", "test", "environment.sh", "boards/pi", "boards/emulate")]


def instructions(text: str) -> list[list[tuple[str, str]]]:
    """The stages of a Dockerfile, each as its instructions; what is before the first FROM is with it."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    stages: list[list[tuple[str, str]]] = [[]]
    for line in filter(None, (line.strip() for line in joined.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "FROM" and any(each == "FROM" for each, _ in stages[-1]):
            stages.append([])
        stages[-1].append((name, " ".join(rest.split())))
    return stages


BUILD, FINAL = instructions((FOLDER / "Dockerfile").read_text("utf-8"))


def of(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [rest for each, rest in stage if each == name]


def tool(name: str) -> str:
    """A program that pip installed beside this Python, as the development extra has it."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: its package has no wheel for this machine")
    return found


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [tool("hadolint"), "--no-color", FOLDER / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", LINTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = subprocess.run(
        [tool("shellcheck"), "--external-sources", "--severity=style", "--shell=bash", script],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_what_runs_is_not_root_and_known_by_number() -> None:
    assert of(FINAL, "USER") == ["10001:10001"]
    changed = [name for name, _ in FINAL].index("USER")
    assert "RUN" not in [name for name, _ in FINAL[changed:]]


def test_what_runs_installs_and_builds_nothing() -> None:
    said = " ".join(of(FINAL, "RUN"))
    assert not re.search(r"\b(pip|curl|wget|git|gcc|g\+\+|make|build-essential|python3-(dev|venv|pip))\b", said)
    assert "uninstall --yes pip" in " ".join(of(BUILD, "RUN"))
    assert of(FINAL, "COPY") == ["--from=build /opt/edge /opt/edge"]


def test_packages_come_without_others_and_without_their_lists() -> None:
    for said in (*of(BUILD, "RUN"), *of(FINAL, "RUN")):
        if "apt-get install" in said:
            assert "--no-install-recommends" in said and "rm -rf /var/lib/apt/lists/*" in said


def test_the_base_names_its_release_and_can_be_pinned() -> None:
    base = of(BUILD, "ARG")[0]
    assert re.fullmatch(r"BASE=debian:(bookworm|trixie)-slim", base)
    assert of(BUILD, "FROM") == ["${BASE} AS build"] and of(FINAL, "FROM") == ["${BASE}"]
    assert "EXTRAS=server" in of(BUILD, "ARG")
    assert not re.search(r"amd64|x86|arm64|aarch64", " ".join(rest for stage in (BUILD, FINAL) for _, rest in stage))


def test_it_is_told_to_end_as_the_server_expects_it() -> None:
    assert of(FINAL, "STOPSIGNAL") == ["SIGTERM"]
    # The words themselves: a shell in between would take the signal.
    assert of(FINAL, "ENTRYPOINT") == ['["edge"]']
    assert of(FINAL, "CMD") == ['["serve", "--host", "0.0.0.0", "--port", "8000"]']
    assert 'CMD ["python3", "/opt/edge/health.py"]' in of(FINAL, "HEALTHCHECK")[0]


def test_models_and_cache_outlive_the_container() -> None:
    variables = dict(item.split("=", 1) for line in of(FINAL, "ENV") for item in line.split())
    assert (variables["EDGE_MODELS"], variables["XDG_CACHE_HOME"], variables["HOME"]) == ("/models", "/cache", "/cache")
    assert of(FINAL, "VOLUME") == ['["/models", "/cache"]']
    assert "--owner=edge --group=edge /models /cache" in of(FINAL, "RUN")[0]


def let_through(path: str) -> bool:
    """Whether the build sees a file, as .dockerignore says: the last pattern that fits counts."""
    seen = True
    for line in (FOLDER / "Dockerfile.dockerignore").read_text("utf-8").splitlines():
        pattern = line.lstrip("!")
        if line.strip() and not line.startswith("#"):
            parts = [*Path(path).parents, Path(path)]
            if pattern == "*" or any(fnmatch(str(part), pattern.replace("**/", "*")) for part in parts):
                seen = line.startswith("!")
    return seen


def test_the_build_sees_what_is_installed_and_nothing_else() -> None:
    for copied in of(BUILD, "COPY"):
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists() and let_through(source), source
    for path in (".git/config", ".venv/bin/python", "tests/conftest.py", "runs/x", "api-key.txt", ".emulate/x"):
        assert not let_through(path), path
    assert not let_through("edge/__pycache__/cli.pyc")
    assert not let_through("scripts/boards/container/api-key.txt")


SERVICE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))["services"]["edge"]


def test_the_service_may_do_little() -> None:
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"] and "cap_add" not in SERVICE and "privileged" not in SERVICE
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert SERVICE["user"] == "10001:10001"
    assert SERVICE["mem_limit"] == SERVICE["memswap_limit"] and SERVICE["pids_limit"] <= 512
    assert all("noexec" in each and "size=" in each for each in SERVICE["tmpfs"])
    assert not [each for each in SERVICE["volumes"] if each.startswith(("/", "."))]


def test_only_this_machine_reaches_the_service_and_its_key_is_a_secret() -> None:
    assert all(each.startswith("127.0.0.1:") for each in SERVICE["ports"])
    assert SERVICE["command"][-2:] == ["--api-key-file", "/run/secrets/edge_api_key"]
    assert "environment" not in SERVICE and SERVICE["secrets"] == ["edge_api_key"]
    git = subprocess.run(["git", "check-ignore", FOLDER / "api-key.txt"], capture_output=True, check=False, cwd=ROOT)
    assert git.returncode == 0


def test_the_service_is_built_from_the_dockerfile() -> None:
    context = (FOLDER / SERVICE["build"]["context"]).resolve()
    assert context == ROOT and (context / SERVICE["build"]["dockerfile"]) == FOLDER / "Dockerfile"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """A server that answers everything in one way; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/health"
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def health(port: int) -> subprocess.CompletedProcess[str]:
    environment = {"EDGE_HEALTH_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, FOLDER / "health.py"], capture_output=True, text=True, check=False, env=environment
    )


def test_a_server_that_can_answer_is_healthy() -> None:
    with answering(200, b'{"status": "ok"}') as port:
        done = health(port)
    assert (done.returncode, done.stdout) == (0, '{"status": "ok"}\n')


def test_a_server_that_cannot_answer_is_not_healthy_and_says_why() -> None:
    with answering(503, b'{"detail": "no model"}') as port:
        done = health(port)
    assert done.returncode == 1 and '503: {"detail": "no model"}' in done.stderr
    assert health(port).returncode == 1  # nobody listens there any more
