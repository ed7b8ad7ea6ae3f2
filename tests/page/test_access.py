"""The page by keyboard, by screen reader and on a phone."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.page.chatting import ask, attached, done, ready
from tests.page.conftest import PICTURE, Visit

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
ANSWER = """# Title

Some *words*, `code` and a [link](https://example.com).

- [x] a
- b

> quoted

| a | b |
| - | - |
| 1 | 2 |

```python
print(1)
```"""


def violations(page: Page) -> list[str]:
    """What axe-core finds; moderate and minor ones too."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{rule['impact']} {rule['id']}: {[node['html'][:160] for node in rule['nodes']]}" for rule in found]


def answer_with(page: Page, text: str) -> None:
    """Have the page answered with some text."""
    chunk = {
        "id": "1", "model": "reka-edge-tiny", "usage": {"input_tokens": 5, "output_tokens": 5},
        "responses": [{"chunk": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }  # fmt: skip
    body = f"data: {json.dumps(chunk)}\n\n"
    page.route("**/v1/chat", lambda route: route.fulfill(content_type="text/event-stream", body=body))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("where", ["desktop", "phone"])
def test_axe_finds_nothing(where: str, scheme: str, visit: Visit, edge_serve: str) -> None:
    device = PHONE if where == "phone" else {}
    page = visit(edge_serve, **device, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    ready(page)
    assert violations(page) == []
    answer_with(page, ANSWER)
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    assert violations(page) == []
    page.fill("#text", "What is this?")
    page.click("#send")
    done(page)
    page.route("**/v1/chat", lambda route: route.fulfill(status=500, json={"detail": "no"}))
    page.fill("#text", "And this?")
    page.click("#send")
    expect(page.locator(".failure")).to_have_count(2)
    expect(page.locator(".failure").last).to_be_visible()
    assert violations(page) == []
    page.click("#more")
    assert violations(page) == []
    page.keyboard.press("Escape")
    if where == "phone":
        page.click("#open-sidebar")
        assert violations(page) == []
    page.click("#open-settings")
    assert violations(page) == []
    page.click("#delete-all")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    if where == "desktop":
        page.click("#camera")
        expect(page.locator("#camera-dialog")).to_be_visible()
        assert violations(page) == []


def test_a_whole_conversation_by_keyboard(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("Which shapes can you name?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("All of them.")
    page.keyboard.press("Enter")
    done(page)
    expect(page.locator("article.user .plain")).to_have_text("Which shapes can you name?\nAll of them.")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#editing")).to_be_visible()
    page.keyboard.press("Control+A")
    page.keyboard.type("Which colours?")
    page.keyboard.press("Enter")
    done(page)
    expect(page.locator("article.user .plain")).to_have_text("Which colours?")
    names: list[str] = []
    while "New conversation" not in names and len(names) < 30:
        page.keyboard.press("Shift+Tab")
        focused = page.locator(":focus")
        names.append(focused.get_attribute("aria-label") or focused.inner_text().strip())
    ours = {"Answer anew", "Copy the text", "Change this message", "Messages", "This conversation", "Settings"}
    assert {*ours, "New conversation"} <= set(names), names


def test_the_screen_reader_is_told_once_and_not_word_by_word(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    page.evaluate("""() => {
        window.heard = [];
        const seen = new MutationObserver(() => window.heard.push(document.querySelector("#live").textContent));
        seen.observe(document.querySelector("#live"), { childList: true, characterData: true, subtree: true });
    }""")
    ask(page, "Which shapes can you name?")
    text = done(page)
    expect(page.locator("#live")).to_have_text(text)
    assert page.evaluate("() => window.heard") == ["Answering.", text]
    expect(page.locator(":is([aria-live], [role=log], [role=status]) #messages")).to_have_count(0)


def test_on_a_phone_the_list_slides_over_and_gives_the_focus_back(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve, **PHONE)
    ready(page)
    # A phone makes its window wider where something sticks out: not to be compared with that.
    wide = "() => document.documentElement.scrollWidth <= screen.width && innerWidth === screen.width"
    assert page.evaluate(wide)
    expect(page.locator("#sidebar")).to_be_hidden()
    page.set_input_files("#any-file", PICTURE)
    attached(page, PICTURE.name)
    page.fill("#text", "one")
    page.press("#text", "Enter")
    expect(page.locator("#text")).to_have_value("one\n")  # the keyboard of a phone has no Shift+Enter
    page.click("#send")
    done(page)
    assert page.evaluate(wide)
    page.tap("#open-sidebar")
    expect(page.locator("#new")).to_be_focused()
    expect(page.locator("#open-sidebar")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#sidebar")).to_be_hidden()
    expect(page.locator("#open-sidebar")).to_be_focused()
    page.tap("#open-sidebar")
    page.tap("#new")
    expect(page.locator("#sidebar")).to_be_hidden()
    expect(page.locator("#welcome")).to_be_visible()
    answer_with(page, "```\n" + "wide " * 100 + "\n```\n\n|" + "column|" * 20 + "\n|" + "-|" * 20 + "\n\n" + "w" * 300)
    page.fill("#text", "w" * 300)
    page.click("#send")
    done(page)
    assert page.evaluate(wide)


@pytest.mark.parametrize("width", [360, 390])
def test_on_a_phone_title_and_model_have_room(width: int, visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve, **{**PHONE, "viewport": {"width": width, "height": 700}})
    ready(page)
    widths = page.evaluate("""() => {
        const range = document.createRange();
        range.selectNodeContents(document.querySelector("#welcome .big"));
        return [...range.getClientRects()].map((line) => line.width);
    }""")
    assert min(widths) > max(widths) / 2  # no word alone on a line
    answer_with(page, "Some shapes.")
    page.fill("#text", "What is in this picture?")
    page.click("#send")
    done(page)
    for place in ("#title", "#model"):
        assert page.locator(place).evaluate("(it) => it.scrollWidth <= it.clientWidth"), place
    title, menu = page.locator("#title").bounding_box(), page.locator("#more").bounding_box()
    assert title and menu and title["x"] + title["width"] <= menu["x"] and menu["x"] + menu["width"] <= width


def test_light_and_dark(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve, color_scheme="dark")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    light = page.evaluate(ground)
    assert sum(map(int, light[4:-1].split(","))) > 600 > 200 > sum(map(int, dark[4:-1].split(",")))
    page.reload()
    assert page.evaluate(ground) == light
    page.click("#open-settings")
    page.select_option("#settings [name=theme]", "system")
    page.click("#settings [type=submit]")
    assert page.evaluate(ground) == dark
