"""What a person does on the page, and what they see."""

import base64
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from edge.engine.decoder import Decoder
from tests.edge.asking import F32
from tests.page.conftest import WAIT_MS

expect.set_options(timeout=WAIT_MS)


def answers(page: Page) -> Locator:
    return page.locator("article.answer")


def ask(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def done(page: Page, n: int = 1) -> str:
    """Wait until there are n answers and the last is whole; return its text."""
    expect(answers(page)).to_have_count(n)
    expect(answers(page).last.locator(".facts")).to_have_text(re.compile("tokens in"))
    expect(page.locator("#send")).to_have_attribute("aria-label", "Send")
    return answers(page).last.locator(".markdown").inner_text()


def endless(patch: pytest.MonkeyPatch, bundle: Path) -> None:
    """Have a bundle answer until it is stopped, twenty tokens a second."""
    ends = json.loads((bundle / "manifest.json").read_text())["prompt"]["stop_ids"]

    def never_ending(name: str) -> None:
        score = getattr(Decoder, name)

        def scored(*arguments: object, **named: object) -> F32:
            time.sleep(0.05)
            logits = np.array(score(*arguments, **named))
            logits[..., ends] = -1e9
            return logits

        patch.setattr(Decoder, name, scored)

    never_ending("read")
    never_ending("step")


def attached(page: Page, name: str) -> None:
    expect(page.locator(".chip b")).to_have_text([name])


def ready(page: Page) -> None:
    expect(page.locator("#model option")).not_to_have_count(0)


def lose_media(page: Page) -> None:
    """Take everything but the words out of the browser, as one does whose space runs out."""
    page.evaluate("""() => new Promise((resolve) => {
        indexedDB.open("edge").onsuccess = ({ target }) => {
            const transaction = target.result.transaction("media", "readwrite");
            transaction.objectStore("media").clear();
            transaction.oncomplete = resolve;
        };
    })""")


def drop(page: Page, path: Path, kind: str) -> None:
    """Drop a file on the page, as the browser would."""
    handed = page.evaluate_handle(
        """([data, name, type]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        [base64_of(path), path.name, kind],
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": handed})
    page.dispatch_event("body", "drop", {"dataTransfer": handed})


def base64_of(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
