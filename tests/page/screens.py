"""Pictures of the page for the documentation: python -m tests.page.screens docs."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.page.chatting import attached, done, ready
from tests.page.conftest import FLAGS, PICTURE, WAIT_MS, chromium, edge_process

QUESTIONS = ("What is in this picture?", "Which shape is blue?")
VIEWS: dict[str, dict[str, object]] = {
    "page-desktop": {"viewport": {"width": 1100, "height": 780}},
    "page-dark": {"viewport": {"width": 1100, "height": 780}, "color_scheme": "dark"},
    "page-phone": {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 1.5,
    },
}


def main() -> None:
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as none, edge_process(Path(none)) as address, sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium(), args=list(FLAGS), timeout=WAIT_MS)
        for name, options in VIEWS.items():
            save(conversation(browser, address, options), folder / f"{name}.png")
        browser.close()


def conversation(browser: Browser, address: str, options: dict[str, object]) -> Page:
    """Have the conversation that is shown, about the picture that the project draws."""
    page = browser.new_context(**options).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(WAIT_MS)
    # Always the likeliest answers, so that the pictures differ by nothing but how they look.
    page.add_init_script("localStorage.setItem('edge.settings', JSON.stringify({ temperature: '0' }))")
    page.goto(address)
    ready(page)
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    for i, question in enumerate(QUESTIONS, 1):
        page.fill("#text", question)
        page.click("#send")
        done(page, i)
    # How long this machine took is no news of the page.
    timed = r"all => all.forEach(one => one.textContent = one.textContent.replace(/ · (after|[\d.]+ tokens\/s).*/, ''))"
    page.locator(".facts").evaluate_all(timed)
    page.wait_for_timeout(500)
    return page


def save(page: Page, path: Path) -> None:
    """Write what is on show with as few colours as look the same."""
    shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shown.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
