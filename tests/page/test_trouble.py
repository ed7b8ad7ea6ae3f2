"""When something is wrong the page says so in plain words, keeps what was written, and goes on when it can."""

import functools
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Route, expect

from edge.limits import Limits
from tests.conformance.conftest import serving
from tests.page.chatting import answers, ask, attached, done, endless, lose_media, ready
from tests.page.conftest import PICTURE, ROOT, Visit, edge_process

pytestmark = pytest.mark.slow


def test_a_wrong_key_is_told_and_the_right_one_answers(visit: Visit, tmp_path: Path) -> None:
    with edge_process(tmp_path, EDGE_API_KEY="right") as address:
        page = visit(address)
        expect(page.locator("#notice")).to_contain_text("asks for a key")
        ask(page, "Which shapes can you name?")
        failure = answers(page).locator(".failure")
        expect(failure).to_contain_text("The server asks for a key")
        failure.get_by_role("button", name="Enter the key").click()
        expect(page.locator("#settings [name=key]")).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#notice")).to_contain_text("asks for a key")
        failure.get_by_role("button", name="Enter the key").click()
        page.fill("#settings [name=key]", "right")
        page.keyboard.press("Enter")
        ready(page)
        failure.get_by_role("button", name="Try again").click()
        assert done(page)
        expect(page.locator("article.user .plain")).to_have_text(["Which shapes can you name?"])
        assert page.evaluate("() => localStorage.getItem('edge.key')") is None
        page.reload()
        ready(page)
        page.click("#open-settings")
        page.check("#settings [name=remember]")
        page.click("#settings [type=submit]")
        kept = "() => [localStorage, sessionStorage].map((storage) => storage.getItem('edge.key'))"
        assert page.evaluate(kept) == ["right", None]


def test_a_server_that_goes_and_comes_back(visit: Visit, tmp_path: Path) -> None:
    with edge_process(tmp_path) as address:
        page = visit(address)
        ready(page)
        ask(page, "Which shapes can you name?")
        first = done(page)
    port = address.rpartition(":")[2]
    ask(page, "Which colours?")
    expect(answers(page)).to_have_count(2)
    failure = answers(page).last.locator(".failure")
    expect(failure).to_contain_text("The server cannot be reached")
    expect(page.locator("#notice")).to_contain_text("Looking for it")
    expect(answers(page).first.locator(".markdown")).to_have_text(first)
    with edge_process(tmp_path, "--port", port):
        expect(page.locator("#notice")).to_have_text("The server is back.")
        failure.get_by_role("button", name="Try again").click()
        assert done(page, 2)
        expect(page.locator("article.user .plain")).to_have_text(["Which shapes can you name?", "Which colours?"])
    page.context.close()


def test_an_answer_that_breaks_off_is_kept_as_far_as_it_came(
    visit: Visit, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless(monkeypatch, int8_bundle)
    with serving(int8_bundle) as served:
        page = visit(served.address)
        ready(page)
        ask(page, "Talk.")
        expect(answers(page).locator(".markdown")).not_to_be_empty()
        served.server.app.close()
        expect(answers(page).locator(".failure")).to_contain_text("The answer broke off")
        assert answers(page).locator(".markdown").inner_text()
        page.context.close()


def test_a_full_queue_is_waited_for(visit: Visit, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless(monkeypatch, int8_bundle)
    with serving(int8_bundle, slots=1, waiting=0) as served:
        page = visit(served.address)
        ready(page)
        fields = {"model": "reka-edge", "messages": [{"role": "user", "content": "Talk."}], "max_tokens": 3000}
        asked = {"url": f"{served.address}/v1/chat", "json": {**fields, "stream": True}, "timeout": 60}
        with httpx.stream("POST", **asked) as other:
            arriving = other.iter_bytes()
            next(arriving)
            ask(page, "And me?")
            expect(page.locator("#notice")).to_contain_text("busy with others: asking again in 5 seconds")
            expect(page.locator("#send")).to_have_attribute("aria-label", "Stop the answer")
        expect(answers(page).locator(".markdown")).not_to_be_empty()
        expect(page.locator("#notice")).to_be_empty()
        page.click("#send")
        expect(answers(page).locator(".facts")).to_contain_text("Stopped.")


def test_a_conversation_that_is_too_long_is_told_with_both_counts(visit: Visit, tmp_path: Path) -> None:
    with edge_process(tmp_path, "--context", "64") as address:
        page = visit(address)
        ready(page)
        words = "red green blue " * 60
        ask(page, words)
        failure = answers(page).locator(".failure")
        expect(failure).to_contain_text("too long for the model")
        expect(failure).to_contain_text(re.compile(r"It needs (at least )?\d+ tokens and the model holds 64\."))
        failure.get_by_role("button", name="Change the message").click()
        expect(page.locator("#text")).to_have_value(words.strip())
        ask(page, "red?")
        assert done(page)


def test_a_lost_picture_is_told_and_its_message_can_be_changed(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    ask(page, "What is this?")
    done(page)
    ask(page, "Which colours?")
    done(page, 2)
    lose_media(page)
    ask(page, "And now?")
    failure = answers(page).last.locator(".failure")
    expect(failure).to_contain_text("A file of this conversation is gone")
    expect(failure).to_contain_text("sample.png is no longer in this browser")
    page.reload()
    failure.get_by_role("button", name="Change the message").click()
    expect(page.locator("#text")).to_have_value("What is this?")
    expect(page.locator(".chip")).to_have_count(0)
    ask(page, "Which shapes can you name?")
    assert done(page)


def test_other_statuses_have_plain_words_too(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"status": 404, "json": {"detail": "no model"}}, "There is no such model"),
        ({"status": 413, "json": {"detail": "body"}}, "files are too large"),
        ({"status": 422, "json": {"detail": [{"loc": ["body", "top_p"], "msg": "too large"}]}}, "did not accept this"),
        ({"status": 500, "json": {"detail": "x"}}, "The server failed"),
        ({"status": 502, "body": "<html>"}, "The server failed"),
    ]
    for i, (response, title) in enumerate(cases):
        page.route("**/v1/chat", functools.partial(fulfilled, response))
        ask(page, "A question.")
        expect(answers(page)).to_have_count(i + 1)
        expect(answers(page).last.locator(".failure b")).to_contain_text(title)
        page.unroute("**/v1/chat")
    expect(page.locator(".failure", has_text="The server says: top_p: too large")).to_have_count(1)
    expect(page.locator("article.user")).to_have_count(5)


def fulfilled(response: dict[str, Any], route: Route) -> None:
    route.fulfill(**response)


def test_the_largest_file_fits_into_a_request() -> None:
    source = (ROOT / "edge" / "server" / "page" / "media.js").read_text()
    n_bytes = int(re.findall(r"MAX_FILE_BYTES = (\d+) << 20", source)[0]) << 20
    assert n_bytes * 4 / 3 + 100_000 < Limits().body_bytes
