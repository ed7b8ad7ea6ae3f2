"""Who is faster than the browser's database, or than a file is read, loses nothing and has nothing done twice."""

import json
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.page.chatting import answers, ask, attached, done, ready
from tests.page.conftest import PICTURE, Visit

pytestmark = pytest.mark.slow

SLOWLY = """
    for (const [type, name] of [[IDBRequest, "onsuccess"], [IDBTransaction, "oncomplete"]]) {
        const property = Object.getOwnPropertyDescriptor(type.prototype, name);
        const set = function (act) {
            property.set.call(this, (event) => setTimeout(() => act(event), 500));
        };
        Object.defineProperty(type.prototype, name, { ...property, set });
    }
"""


@pytest.fixture
def page(visit: Visit, edge_serve: str) -> Page:
    """The page in a browser whose database takes half a second for everything."""
    page = visit(edge_serve)
    page.add_init_script(SLOWLY)
    page.reload()
    ready(page)
    return page


def questions(page: Page) -> list[str]:
    return page.locator("article.user .plain").all_inner_texts()


def test_a_message_is_on_show_and_its_answer_begun_at_once(page: Page) -> None:
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    ask(page, "What is this?")
    assert questions(page) == ["What is this?"]
    assert page.locator("#send").get_attribute("aria-label") == "Stop the answer"
    expect(page.locator("article.user .enlarge img")).to_have_js_property("naturalWidth", 480)
    page.fill("#text", "the next question")
    page.press("#text", "Enter")
    expect(page.locator("#notice")).to_contain_text("Still answering")
    done(page)
    expect(page.locator("#text")).to_have_value("the next question")
    assert questions(page) == ["What is this?"]


def change_a_question_about_a_picture(page: Page) -> None:
    """Begins to change a message whose picture is still read, with other words already in the field."""
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    ask(page, "What is this?")
    done(page)
    page.fill("#text", "something else")
    page.get_by_role("button", name="Change this message").click()


def test_a_changed_message_that_is_sent_at_once_keeps_words_and_picture(page: Page) -> None:
    change_a_question_about_a_picture(page)
    with page.expect_request("**/v1/chat") as asked:
        ask(page, "How many shapes are there?")
    content = json.loads(asked.value.post_data or "")["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert content[1]["text"] == "How many shapes are there?"
    done(page)
    assert questions(page) == ["How many shapes are there?"]
    expect(page.locator("#title")).to_have_text("How many shapes are there?")
    expect(page.locator("article.user .enlarge img")).to_have_js_property("naturalWidth", 480)
    expect(page.locator("#text")).to_have_value("something else")


def test_leaving_a_change_whose_picture_is_still_read(page: Page) -> None:
    change_a_question_about_a_picture(page)
    ask(page, "How many shapes are there?")
    page.keyboard.press("Escape")
    assert page.input_value("#text") == "something else"
    page.wait_for_timeout(1000)
    assert questions(page) == ["What is this?"]
    assert page.input_value("#text") == "something else"
    expect(page.locator(".chip")).to_have_count(0)


def test_asking_anew_twice_keeps_the_question(page: Page) -> None:
    ask(page, "Which shapes can you name?")
    done(page)
    with page.expect_request("**/v1/chat") as asked:
        page.get_by_role("button", name="Answer anew").dblclick()
    messages = json.loads(asked.value.post_data or "")["messages"]
    assert messages == [{"role": "user", "content": "Which shapes can you name?"}]
    assert done(page)
    assert questions(page) == ["Which shapes can you name?"]


def test_sending_with_two_clicks_does_not_stop_the_answer(page: Page) -> None:
    page.fill("#text", "Which shapes can you name?")
    page.dblclick("#send")
    done(page)
    expect(answers(page).locator(".facts")).not_to_contain_text("Stopped")


def test_a_message_waits_for_its_picture(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (6000, 4500), "teal").save(tmp_path / "large.png")
    page.set_input_files("#any-file", tmp_path / "large.png")
    with page.expect_request("**/v1/chat") as asked:
        ask(page, "Which colour?")
    parts = json.loads(asked.value.post_data or "")["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["image_url", "text"]
    done(page)
    expect(page.locator(".chip")).to_have_count(0)


def test_a_message_sent_before_its_conversation_is_there_belongs_to_it(page: Page) -> None:
    ask(page, "Which shapes can you name?")
    done(page)
    page.reload()
    expect(page.locator("#send")).to_be_enabled()
    ask(page, "Which colours?")
    assert questions(page) == []
    done(page, 2)
    assert questions(page) == ["Which shapes can you name?", "Which colours?"]
    expect(page.locator("#heads .head")).to_have_text(["Which shapes can you name?"])


def test_what_was_typed_while_the_page_was_loading_stays(page: Page) -> None:
    page.fill("#text", "a draft")
    page.reload()
    page.fill("#text", " goes on")
    assert page.locator("#send").is_disabled()
    expect(page.locator("#send")).to_be_enabled()
    assert page.input_value("#text") == "a draft goes on"


def test_the_end_of_an_answer_leaves_the_focus_where_it_is(page: Page) -> None:
    ask(page, "Which shapes can you name?")
    done(page)
    ask(page, "Which colours?")
    copy = page.locator("article.user").first.get_by_role("button", name="Copy the text")
    copy.focus()
    done(page, 2)
    expect(copy).to_be_focused()


def test_the_newest_message_stays_on_show_while_the_field_grows(page: Page) -> None:
    ask(page, "red green blue\n" * 40)
    done(page)
    page.fill("#text", "a line\n" * 8)
    expect(answers(page).locator(".facts")).to_be_in_viewport(ratio=1)
