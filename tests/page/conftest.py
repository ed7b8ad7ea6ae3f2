"""A headless Chromium with a camera and a microphone that are not real, and `edge serve` for it to talk to."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "models" / "sample.png"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
)
WAIT_MS = 180_000  # a machine that does other work is given its time

Visit = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser of this machine. It lives no longer than these tests: its event loop would be in others' way."""
    path = chromium()
    if path is None:
        pytest.skip(f"no Chromium here ({', '.join(NAMES)}); on Debian: apt install chromium")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS), timeout=WAIT_MS)
        except Error as error:
            pytest.skip(f"{path} does not start: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def edge_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `edge serve` with the embedded model."""
    with edge_process(tmp_path_factory.mktemp("served")) as address:
        yield address


def chromium() -> str | None:
    """Where this machine's browser is, None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def edge_process(folder: Path, *flags: str, **variables: str) -> Iterator[str]:
    """`edge serve` as a process, with the bundles installed in a folder (or none); gives its address."""
    command = [sys.executable, "-m", "edge.cli", "serve", "--port", "0", "--threads", "1", *flags]
    log = folder / "serve.log"  # not a pipe: a page is many requests, and nobody would read their lines
    with log.open("w") as out:
        environment = {**os.environ, "EDGE_MODELS": str(folder / "models"), **variables}
        process = subprocess.Popen(command, stderr=out, env=environment, cwd=ROOT)
    try:
        yield address_in(log, process)
    finally:
        process.terminate()
        process.wait(WAIT_MS / 1000)


def address_in(log: Path, process: "subprocess.Popen[bytes]") -> str:
    for _ in range(WAIT_MS // 100):
        said = log.read_text()
        if said.endswith("\n"):
            return said.splitlines()[0].rpartition(" ")[2]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    return pytest.fail(f"edge serve does not serve: {log.read_text()}")


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open the page at an address, as a new visitor each time; what the page reports as an error fails the test."""
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def open_page(address: str, **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda line: said.append(line.text) if is_ours(line.text, line.type) else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


def is_ours(text: str, kind: str) -> bool:
    """Whether a line of the console is the page's fault; a refused or failed request is a line too."""
    return kind == "error" and not text.startswith("Failed to load resource")
