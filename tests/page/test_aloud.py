"""Answers read aloud: by the server's voices, whole ones and those that grow, until they end or are stopped."""

import json
import re
import struct
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.edge.espeak import needs_espeak
from tests.page.chatting import answers, ask, attached, done, ready
from tests.page.conftest import WAIT_MS, Visit
from tests.page.test_access import PHONE, answer_with, violations

pytestmark = pytest.mark.slow

ANSWER = "It is red. **Very** red!\n\n```python\nprint('red. very')\n```\n\nShall we go on?"
VOICES = [
    {"id": "tone", "name": "tone", "languages": ["en", "de"]},
    {"id": "tone:high", "name": "tone:high", "languages": ["en"]},
    {"id": "tone@de", "name": "tone, German", "languages": ["de"]},
]
READ, STOP = "Read aloud", "Stop reading aloud"
# Notes what is played, in seconds, and who is silent; has the chat answered by `grow` and `finish`.
HOOKS = """
    window.played = [];
    window.silenced = 0;
    const { start } = AudioBufferSourceNode.prototype;
    AudioBufferSourceNode.prototype.start = function (...when) {
        window.played.push(this.buffer.duration);
        return start.apply(this, when);
    };
    const { close } = AudioContext.prototype;
    AudioContext.prototype.close = function () {
        window.silenced += 1;
        return close.apply(this);
    };
    window.growing = () => {
        const asked = window.fetch;
        window.fetch = (url, options) => {
            if (url !== "v1/chat") return asked(url, options);
            const stream = new ReadableStream({
                start: (controller) => {
                    window.grow = (content, reason) => {
                        const end = reason ? { finish_reason: reason } : {};
                        const answer = { chunk: { role: "assistant", content }, ...end };
                        const usage = { input_tokens: 5, output_tokens: 5 };
                        const chunk = { id: "1", model: "m", responses: [answer], usage };
                        controller.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(chunk)}\\n\\n`));
                        if (reason) controller.close();
                    };
                    options.signal.addEventListener("abort", () => controller.error(options.signal.reason));
                },
            });
            return Promise.resolve(new Response(stream));
        };
    };
"""


class Spoken:
    """What the page had spoken: the bodies of its requests, and their headers."""

    def __init__(self, page: Page, seconds: float) -> None:
        self.bodies: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []
        self._samples = struct.pack("<h", 1000) * round(seconds * 24_000)
        page.route("**/v1/audio/speech", self._speak)

    def _speak(self, route: Route) -> None:
        self.bodies.append(json.loads(route.request.post_data or "{}"))
        self.headers.append(route.request.headers)
        route.fulfill(content_type="audio/pcm", body=self._samples)

    @property
    def text(self) -> str:
        return "".join(str(body["input"]) for body in self.bodies)


@pytest.fixture
def open_page(visit: Visit, edge_serve: str) -> Callable[..., tuple[Page, Spoken]]:
    """Open the page on a server with voices, each piece spoken in some seconds."""

    def opened(
        settings: dict[str, str] | None = None, seconds: float = 0.2, voices: object = VOICES, **options: object
    ) -> tuple[Page, Spoken]:
        page = visit("about:blank", **options)
        page.add_init_script(HOOKS)
        stored = json.dumps(json.dumps(settings or {}))
        page.add_init_script(
            f"localStorage.getItem('edge.settings') ?? localStorage.setItem('edge.settings', {stored})"
        )
        page.route("**/v1/audio/voices", lambda route: route.fulfill(json={"voices": voices}))
        spoken = Spoken(page, seconds)
        page.goto(edge_serve)
        ready(page)
        return page, spoken

    return opened


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true; the page's policy lets no string become a function that waits."""
    for _ in range(WAIT_MS // 50):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {expression}")


def button(page: Page, label: str) -> object:
    return answers(page).last.get_by_role("button", name=label, exact=True)


def test_an_answer_is_read_to_its_end(open_page: Callable[..., tuple[Page, Spoken]]) -> None:
    page, spoken = open_page()
    answer_with(page, ANSWER)
    ask(page, "Which colour?")
    done(page)
    assert spoken.bodies == []
    button(page, READ).click()  # type: ignore[attr-defined]
    expect(button(page, STOP)).to_be_focused()  # type: ignore[arg-type]
    expect(button(page, READ)).to_be_visible()  # type: ignore[arg-type]
    assert spoken.text == ANSWER
    assert spoken.bodies[0] == {"model": "tts-1", "response_format": "pcm", "input": ANSWER, "language": "en"}
    assert sum(page.evaluate("window.played")) == pytest.approx(0.2 * len(spoken.bodies), abs=0.001)
    assert page.evaluate("window.silenced") == 1


def test_it_is_begun_and_stopped_by_keys(open_page: Callable[..., tuple[Page, Spoken]]) -> None:
    page, _ = open_page(seconds=600)
    answer_with(page, ANSWER)
    ask(page, "Which colour?")
    done(page)
    for how in ("Enter", "Escape"):
        button(page, READ).focus()  # type: ignore[attr-defined]
        page.keyboard.press("Enter")
        expect(button(page, STOP)).to_be_focused()  # type: ignore[arg-type]
        until(page, "window.played.length > 0")
        silenced = page.evaluate("window.silenced")
        page.keyboard.press(how)
        expect(button(page, READ)).to_be_visible()  # type: ignore[arg-type]
        assert page.evaluate("window.silenced") == silenced + 1


def test_one_answer_is_read_at_a_time(open_page: Callable[..., tuple[Page, Spoken]]) -> None:
    page, _ = open_page(seconds=600)
    answer_with(page, ANSWER)
    for n in (1, 2):
        ask(page, "Which colour?")
        done(page, n)
    page.get_by_role("button", name=READ, exact=True).first.click()
    expect(page.get_by_role("button", name=STOP, exact=True)).to_have_count(1)
    page.get_by_role("button", name=READ, exact=True).first.click()
    expect(answers(page).first.get_by_role("button", name=READ, exact=True)).to_be_visible()
    expect(button(page, STOP)).to_be_visible()  # type: ignore[arg-type]


def test_an_answer_is_read_while_it_grows(open_page: Callable[..., tuple[Page, Spoken]]) -> None:
    page, spoken = open_page({"aloud": "always"})
    page.evaluate("window.growing()")
    ask(page, "Which colour?")
    until(page, "typeof window.grow === 'function'")
    text = "It is"
    for more in (" red. And", " bright! `a.", "b` is", " code.\n\n```\nx. y\n", "z. q\n```\n\nYes"):
        text += more
        page.evaluate("text => window.grow(text)", text)
        page.wait_for_timeout(300)
    inputs = [str(body["input"]) for body in spoken.bodies]
    assert inputs[0] == "It is red." and text.startswith("".join(inputs))
    assert any(piece.strip().startswith("```") and piece.strip().endswith("```") for piece in inputs)
    expect(page.locator("#send")).to_have_attribute("aria-label", "Stop the answer")
    page.evaluate("text => window.grow(text, 'stop')", text + ".")
    done(page)
    expect(button(page, READ)).to_be_visible()  # type: ignore[arg-type]
    assert spoken.text == text + "."
    expect(page.locator("#live")).to_have_text("Answered.")


def test_escape_stops_the_answer_and_its_voice(open_page: Callable[..., tuple[Page, Spoken]]) -> None:
    page, spoken = open_page({"aloud": "always"}, seconds=600)
    page.evaluate("window.growing()")
    ask(page, "Which colour?")
    until(page, "typeof window.grow === 'function'")
    page.evaluate("window.grow('It is red. And')")
    until(page, "window.played.length > 0")
    page.keyboard.press("Escape")
    expect(page.locator("#send")).to_have_attribute("aria-label", "Send")
    assert page.evaluate("window.silenced") == 1 and spoken.text == "It is red."


@pytest.mark.parametrize(("aloud", "reads"), [("never", False), ("spoken", True), ("always", True)])
def test_a_spoken_question_leads_to_a_spoken_answer_where_it_is_wished(
    aloud: str, reads: bool, open_page: Callable[..., tuple[Page, Spoken]]
) -> None:
    page, spoken = open_page({"aloud": aloud})
    answer_with(page, ANSWER)
    page.click("#mic")
    expect(page.locator("#elapsed")).to_have_text(re.compile(r"^0:(0[1-9]|[1-5]\d)$"))
    page.click("#keep")
    attached(page, "voice.wav")
    page.click("#send")
    done(page)
    if reads:
        until(page, "window.played.length > 0")
        expect(button(page, READ)).to_be_visible()  # type: ignore[arg-type]  # to its end: a new question would cut it
    ask(page, "And now, typed?")
    done(page, 2)
    expect(button(page, READ)).to_be_visible()  # type: ignore[arg-type]
    n_read = {"never": 0, "spoken": 1, "always": 2}[aloud]
    assert spoken.text == ANSWER * n_read


def test_voice_and_language_of_the_settings_go_with_the_request(
    open_page: Callable[..., tuple[Page, Spoken]],
) -> None:
    page, spoken = open_page(locale="de-AT")
    answer_with(page, "Rot.")
    ask(page, "Welche Farbe?")
    done(page)

    def sent() -> tuple[object, object]:
        button(page, READ).click()  # type: ignore[attr-defined]
        expect(button(page, READ)).to_be_visible()  # type: ignore[arg-type]
        return spoken.bodies[-1].get("voice"), spoken.bodies[-1].get("language")

    assert sent() == (None, "de")
    page.click("#open-settings")
    names = page.locator("#settings [name=voice] option").all_inner_texts()
    assert names == ["The device's own", "tone", "tone:high"]
    assert page.locator("#settings [name=language] option").all_inner_texts()[1:] == ["Deutsch", "Englisch"]
    page.select_option("#settings [name=voice]", "tone")
    page.select_option("#settings [name=language]", "en")
    page.click("#settings [type=submit]")
    assert sent() == ("tone", "en")
    page.click("#open-settings")
    page.select_option("#settings [name=voice]", "tone:high")
    page.select_option("#settings [name=language]", "")
    page.click("#settings [type=submit]")
    assert sent() == ("tone:high", None)  # it does not speak German


def test_without_a_voice_there_is_no_button(open_page: Callable[..., tuple[Page, Spoken]]) -> None:
    page, spoken = open_page({"aloud": "always"}, voices=[])
    page.evaluate("void (speechSynthesis.speak = () => { throw new Error('not asked for') })")
    answer_with(page, ANSWER)
    ask(page, "Which colour?")
    done(page)
    expect(button(page, READ)).to_have_count(0)  # type: ignore[arg-type]
    assert spoken.bodies == []
    page.click("#open-settings")
    expect(page.locator("#aloud-settings")).to_be_hidden()


def test_the_key_goes_with_the_request(open_page: Callable[..., tuple[Page, Spoken]]) -> None:
    page, spoken = open_page()
    answer_with(page, ANSWER)
    page.click("#open-settings")
    page.fill("#settings [name=key]", "secret")
    with page.expect_request("**/v1/audio/voices") as asked:
        page.click("#settings [type=submit]")
    assert asked.value.headers["x-api-key"] == "secret"
    ask(page, "Which colour?")
    done(page)
    button(page, READ).click()  # type: ignore[attr-defined]
    expect(button(page, READ)).to_be_visible()  # type: ignore[arg-type]
    assert spoken.headers[0]["x-api-key"] == "secret"


def test_a_voice_that_fails_is_told(open_page: Callable[..., tuple[Page, Spoken]]) -> None:
    page, _ = open_page()
    error = {
        "error": {"message": "espeak-ng was ended by signal 9", "type": "server_error", "param": None, "code": None}
    }
    page.route("**/v1/audio/speech", lambda route: route.fulfill(status=500, json=error))
    answer_with(page, ANSWER)
    ask(page, "Which colour?")
    done(page)
    button(page, READ).click()  # type: ignore[attr-defined]
    expect(page.locator("#notice")).to_contain_text("espeak-ng was ended by signal 9")
    expect(button(page, READ)).to_be_visible()  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("where", ["desktop", "phone"])
def test_axe_finds_nothing(where: str, scheme: str, open_page: Callable[..., tuple[Page, Spoken]]) -> None:
    device = PHONE if where == "phone" else {}
    page, _ = open_page(seconds=600, **device, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    answer_with(page, ANSWER)
    page.fill("#text", "Which colour?")
    page.click("#send")
    done(page)
    assert violations(page) == []
    button(page, READ).click()  # type: ignore[attr-defined]
    expect(button(page, STOP)).to_be_visible()  # type: ignore[arg-type]
    assert violations(page) == []
    if where == "phone":
        page.click("#open-sidebar")
    page.click("#open-settings")
    expect(page.locator("#aloud-settings")).to_be_visible()
    assert violations(page) == []


PIECES = """async ([text, isWhole]) => {
    const { endOfPiece } = await import("/page/pieces.js");
    const found = [];
    for (let from = 0; from < text.length; ) {
        const end = endOfPiece(text, from, isWhole);
        if (end === null) break;
        found.push(text.slice(from, end));
        from = end;
    }
    return found;
}"""


@pytest.mark.parametrize(
    ("text", "is_whole", "pieces"),
    [
        ("Ask Mr. Smith, e.g. on May 3. in room 5", False, []),
        ("1. Ask Dr. No! He", False, ["1. Ask Dr. No!"]),
        ("It is", False, []),
        ("It is", True, ["It is"]),
        ("It costs 3.5 euros. And", False, ["It costs 3.5 euros."]),
        ("He said “no!” Then", False, ["He said “no!”"]),
        ("これは。それ", False, ["これは。"]),
        ("- one\n- two\n- th", False, ["- one\n- two\n"]),
        ("See:\n\n```\na. b\n\nc", False, ["See:\n\n"]),
        ("```\na. b\n```\nSo", False, ["```\na. b\n```\n"]),
        ("| a. b | c |\n| - | - |\n| 1 |", False, []),
        ("| a | b |\n| - | - |\n\nSo it is. Y", False, ["| a | b |\n| - | - |\n\nSo it is."]),
        ("word " * 300, True, ["word " * 300]),
        ("word " * 500, False, ["word " * 400]),
        ("x" * 2500, True, ["x" * 2000, "x" * 500]),
        ("A sentence of it. " * 100, True, None),
    ],
)
def test_texts_are_cut_behind_sentences_and_blocks(
    text: str, is_whole: bool, pieces: list[str] | None, visit: Visit, edge_serve: str
) -> None:
    page = visit(edge_serve)
    found = page.evaluate(PIECES, [text, is_whole])
    if pieces is None:
        assert "".join(found) == text and all(len(piece) <= 600 for piece in found) and len(found) == 4
        assert all(re.search(r"\.\s*$", piece) for piece in found)
    else:
        assert found == pieces


@needs_espeak
def test_espeak_reads_an_answer(visit: Visit, edge_serve: str) -> None:
    page = visit("about:blank")
    page.add_init_script(HOOKS)
    page.goto(edge_serve)
    ready(page)
    answer_with(page, ANSWER)
    ask(page, "Which colour?")
    done(page)
    button(page, READ).click()  # type: ignore[attr-defined]
    until(page, "window.silenced === 1")
    expect(button(page, READ)).to_be_visible()  # type: ignore[arg-type]
    assert sum(page.evaluate("window.played")) > 1
