"""A person at the page: asks, watches the answer come, stops it, asks again, changes, leaves and comes back."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from edge.engine.model import Model
from tests.conformance.conftest import Served, serving
from tests.edge.asking import eventually
from tests.page.chatting import answers, ask, attached, done, endless, lose_media, ready
from tests.page.conftest import PICTURE, Visit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slowly(int8_bundle: Path) -> Iterator[Served]:
    """A model that does not end by itself, at a speed that can be watched."""
    with pytest.MonkeyPatch.context() as patch, serving(int8_bundle, slots=2) as served:
        endless(patch, int8_bundle)
        yield served


def test_a_question_is_answered_and_kept(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    expect(page.locator("#text")).to_be_focused()
    ask(page, "Which shapes can you name?")
    assert done(page)
    expect(page.locator("#text")).to_be_focused()
    expect(page.locator("#text")).to_have_value("")
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    ask(page, "What is in this picture?")
    second = done(page, 2)
    assert second
    expect(page.locator("#heads .head")).to_have_text(["Which shapes can you name?"])
    page.reload()
    assert done(page, 2) == second
    expect(page.locator(".user .enlarge img")).to_have_js_property("naturalWidth", 480)
    expect(page.locator("#title")).to_have_text("Which shapes can you name?")


def test_an_answer_streams_and_stops(visit: Visit, slowly: Served) -> None:
    page = visit(slowly.address)
    ready(page)
    ask(page, "Talk.")
    expect(page.locator("#send")).to_have_attribute("aria-label", "Stop the answer")
    expect(answers(page).locator(".markdown")).not_to_be_empty()
    early = answers(page).locator(".markdown").inner_text()
    expect(answers(page).locator(".markdown")).not_to_have_text(early)
    assert slowly.server.queue.n_running == 1
    page.press("#text", "Enter")
    page.fill("#text", "the next question")
    page.press("#text", "Enter")
    expect(page.locator("#notice")).to_contain_text("Still answering")
    expect(page.locator("#text")).to_have_value("the next question")
    page.press("#text", "Escape")
    expect(answers(page).locator(".facts")).to_contain_text("Stopped.")
    eventually(lambda: slowly.server.queue.n_running == 0)
    stopped = answers(page).locator(".markdown").inner_text()
    page.get_by_role("button", name="Continue").click()
    expect(answers(page).locator(".markdown")).not_to_have_text(stopped)
    page.click("#send")
    expect(answers(page).locator(".facts")).to_contain_text("Stopped.")
    assert answers(page).locator(".markdown").inner_text().startswith(stopped.rstrip()[:20])


def test_what_was_written_when_the_page_closed_is_there_again(visit: Visit, slowly: Served) -> None:
    page = visit(slowly.address)
    ready(page)
    ask(page, "Talk.")
    expect(answers(page).locator(".markdown")).not_to_be_empty()
    page.fill("#text", "a draft")
    page.wait_for_timeout(2500)
    page.reload()
    expect(answers(page).locator(".facts")).to_contain_text("closed before the answer was whole")
    assert answers(page).locator(".markdown").inner_text()
    expect(page.locator("#text")).to_have_value("a draft")
    expect(page.get_by_role("button", name="Continue")).to_be_visible()


def test_two_conversations_are_answered_at_once(visit: Visit, slowly: Served) -> None:
    page = visit(slowly.address)
    ready(page)
    ask(page, "First.")
    expect(answers(page).locator(".markdown")).not_to_be_empty()
    page.click("#new")
    expect(answers(page)).to_have_count(0)
    ask(page, "Second.")
    expect(answers(page).locator(".markdown")).not_to_be_empty()
    page.get_by_role("button", name="First.", exact=True).click()
    expect(page.locator("#title")).to_have_text("First.")
    expect(page.locator("#send")).to_have_attribute("aria-label", "Stop the answer")
    before = answers(page).locator(".markdown").inner_text()
    expect(answers(page).locator(".markdown")).not_to_have_text(before)
    page.click("#send")
    expect(answers(page).locator(".facts")).to_contain_text("Stopped.")
    page.go_back()
    expect(page.locator("#title")).to_have_text("Second.")
    page.get_by_role("button", name="Delete “Second.”").click()
    page.click("#ask [type=submit]")
    expect(page.locator("#heads .head")).to_have_text(["First."])
    expect(page.locator("#welcome")).to_be_visible()


def test_what_another_tab_wrote_is_shown(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    ask(page, "Which shapes can you name?")
    done(page)
    other = page.context.new_page()
    other.goto(page.url)
    ready(other)
    done(other)
    ask(other, "Which colours?")
    second = done(other, 2)
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    assert done(page, 2) == second


def test_asking_anew_and_changing_a_message(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    ask(page, "What is this?")
    done(page)
    page.get_by_role("button", name="Answer anew").click()
    done(page)
    ask(page, "And the colours?")
    done(page, 2)
    page.fill("#text", "something else")
    page.locator("article.user").first.get_by_role("button", name="Change this message").click()
    expect(page.locator("#text")).to_have_value("What is this?")
    attached(page, PICTURE.name)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#text")).to_have_value("something else")
    expect(page.locator(".chip")).to_have_count(0)
    page.locator("article.user").first.get_by_role("button", name="Change this message").click()
    ask(page, "How many shapes are there?")
    done(page)
    expect(page.locator("article.user .plain")).to_have_text(["How many shapes are there?"])
    expect(page.locator("article.user .enlarge")).to_have_count(1)
    expect(page.locator("#text")).to_have_value("something else")
    page.reload()
    expect(page.locator("article.user .enlarge img")).to_have_js_property("naturalWidth", 480)


def test_settings_go_with_the_request(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.click("#open-settings")
    page.fill("#settings [name=system]", "Be short.")
    page.fill("#settings [name=temperature]", "0")
    page.fill("#settings [name=maxTokens]", "3")
    page.click("#settings [type=submit]")
    expect(page.locator("#open-settings")).to_be_focused()
    with page.expect_request("**/v1/chat") as asked:
        ask(page, "Which shapes can you name?")
    sent = asked.value.post_data_json
    assert (sent["temperature"], sent["max_tokens"], sent["stream"], sent["model"]) == (0, 3, True, "reka-edge-tiny")
    assert sent["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Which shapes can you name?"},
    ]
    assert "top_p" not in sent
    done(page)
    expect(answers(page).locator(".facts")).to_contain_text("longest answer allowed")
    page.reload()
    page.click("#open-settings")
    expect(page.locator("#settings [name=maxTokens]")).to_have_value("3")


def test_a_conversation_is_exported_and_read_again(visit: Visit, edge_serve: str, tmp_path: Path) -> None:
    page = visit(edge_serve)
    ready(page)
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    ask(page, "What is this?")
    answer = done(page)
    markdown = exported(page, "Export as Markdown", tmp_path)
    assert markdown.name == "what-is-this.md"
    said = markdown.read_text()
    asked = "# What is this?\n\n## You\n\n*[image: sample.png]*\n\nWhat is this?"
    assert said == f"{asked}\n\n## reka-edge-tiny\n\n{answer}\n"
    file = exported(page, "Export as JSON", tmp_path)
    found = json.loads(file.read_text())
    assert [part["type"] for part in found["messages"][0]["content"]] == ["image_url", "text"]
    other = visit(edge_serve)
    ready(other)
    with other.expect_file_chooser() as chooser:
        other.click("#open-settings")
        other.click("#import")
    chooser.value.set_files(file)
    expect(other.locator("#notice")).to_have_text("Imported: What is this?")
    expect(answers(other).locator(".markdown")).to_have_text(answer)
    expect(other.locator(".enlarge img")).to_have_js_property("naturalWidth", 480)
    bad = tmp_path / "bad.json"
    part = {"type": "pdf_url", "pdf_url": "data:text/html;base64,AA"}
    bad.write_text(json.dumps({**found, "messages": [{"role": "user", "content": [part]}]}))
    with other.expect_file_chooser() as chooser:
        other.click("#open-settings")
        other.click("#import")
    chooser.value.set_files(bad)
    expect(other.locator("#notice")).to_contain_text("bad.json could not be imported: a part should hold")


def test_what_the_browser_lost_does_not_keep_the_rest_from_being_exported(
    visit: Visit, edge_serve: str, tmp_path: Path
) -> None:
    page = visit(edge_serve)
    ready(page)
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    ask(page, "What is this?")
    answer = done(page)
    lose_media(page)
    page.click("#open-settings")
    with page.expect_download() as download:
        page.click("#export-all")
    download.value.save_as(tmp_path / "all.json")
    (conversation,) = json.loads((tmp_path / "all.json").read_text())["conversations"]
    said = [message["content"] for message in conversation["messages"]]
    assert [part["text"] for part in said[0]] == ["[image: sample.png]", "What is this?"]
    assert said[1] == answer and conversation["messages"][0]["names"] == []


def exported(page: Page, button: str, folder: Path) -> Path:
    page.click("#more")
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_the_page_shows_how_far_the_question_is_read(
    visit: Visit, slowly: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, tile_may_go_on = visit(slowly.address), threading.Event()
    encode = Model.encode_tile

    def patient(model: Model, *arguments: object, **named: object) -> object:
        assert tile_may_go_on.wait(60)
        return encode(model, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "encode_tile", patient)
    ready(page)
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    ask(page, "What is in this picture?")
    bar = answers(page).locator(".reading-bar")
    expect(bar).to_have_text(re.compile(r"image 1, tile 1 of \d"))
    expect(bar.locator("progress")).to_have_attribute("value", "0")
    tile_may_go_on.set()
    expect(answers(page).locator(".markdown")).not_to_be_empty()
    expect(bar).to_be_hidden()
    page.press("#text", "Escape")
