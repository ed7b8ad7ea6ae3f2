"""Markdown becomes DOM nodes: what models write is shown, and nothing they write does anything."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

Shown = Callable[[str], str]

SHOW = """async (text) => {
    const { markdown } = await import("/page/markdown.js");
    const box = document.createElement("div");
    box.append(...markdown(text));
    return box.innerHTML;
}"""
MEASURE = """async ([text, times]) => {
    const { markdown } = await import("/page/markdown.js");
    const long = text.repeat(times);
    const begun = performance.now();
    const box = document.createElement("div");
    box.append(...markdown(long));
    document.body.append(box);
    const built = performance.now() - begun;
    const height = box.getBoundingClientRect().height;
    let depth = 0;
    for (const leaf of [...box.querySelectorAll("*")].filter((node) => !node.firstElementChild).slice(0, 500)) {
        let above = 0;
        for (let node = leaf; node !== box; node = node.parentElement) above += 1;
        depth = Math.max(depth, above);
    }
    const spent = performance.now() - begun;
    box.remove();
    return { built, spent, depth, height };
}"""


@pytest.fixture(scope="module")
def page(browser: Browser, edge_serve: str) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(edge_serve)
    yield page
    page.close()


@pytest.fixture
def shown(page: Page) -> Shown:
    return lambda text: str(page.evaluate(SHOW, text))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", '<p dir="auto">plain</p>'),
        ("one\ntwo\n\nthree", '<p dir="auto">one<br>two</p><p dir="auto">three</p>'),
        ("# Title #", '<h2 dir="auto">Title</h2>'),
        ("#tag", '<p dir="auto">#tag</p>'),
        ("**bold** and *soft*", '<p dir="auto"><strong>bold</strong> and <em>soft</em></p>'),
        ("~~gone~~ and ~not~", '<p dir="auto"><s>gone</s> and ~not~</p>'),
        ("***both***", '<p dir="auto"><em><strong>both</strong></em></p>'),
        ("*a **b** c*", '<p dir="auto"><em>a <strong>b</strong> c</em></p>'),
        ("*foo**bar*", '<p dir="auto"><em>foo**bar</em></p>'),
        ("snake_case_name and 2 * 3 * 4", '<p dir="auto">snake_case_name and 2 * 3 * 4</p>'),
        ("**never closed", '<p dir="auto">**never closed</p>'),
        ("*a _b* c_", '<p dir="auto"><em>a _b</em> c_</p>'),
        ("`a < b` and ``a ` b``", '<p dir="auto"><code>a &lt; b</code> and <code>a ` b</code></p>'),
        ("`never closed", '<p dir="auto">`never closed</p>'),
        (r"\*not soft\* &amp; &lt;b&gt; &#x41;", '<p dir="auto">*not soft* &amp; &lt;b&gt; A</p>'),
        ("> quoted\n> more", '<blockquote><p dir="auto">quoted<br>more</p></blockquote>'),
        ("- a\n  - b\n\nend", '<ul><li dir="auto">a<ul><li dir="auto">b</li></ul></li></ul><p dir="auto">end</p>'),
        ("- a\n- b\nmore", '<ul><li dir="auto">a</li><li dir="auto">b<br>more</li></ul>'),
        ("3. a\n4. b", '<ol start="3"><li dir="auto">a</li><li dir="auto">b</li></ol>'),
        ("1. a\n\n   more", '<ol><li dir="auto"><p dir="auto">a</p><p dir="auto">more</p></li></ol>'),
        ("---", "<hr>"),
        ("a | b\n-- | -:\n1 | 2", None),
        ("It costs 5 | 6", '<p dir="auto">It costs 5 | 6</p>'),
    ],
)  # fmt: skip
def test_forms(text: str, html: str | None, shown: Shown) -> None:
    if html is None:
        cells = shown(text)
        assert '<th class="start" scope="col">a</th><th class="end" scope="col">b</th>' in cells
        assert '<td class="start">1</td><td class="end">2</td>' in cells
    else:
        assert shown(text) == html


def test_a_fence_keeps_its_text_even_while_it_is_open(shown: Shown) -> None:
    for text in ("```python\nif a < b:\n    **no**\n```\nafter", "```python\nif a < b:\n    **no**"):
        html = shown(text)
        assert "<span>python</span>" in html
        assert '<pre tabindex="0" dir="ltr"><code>if a &lt; b:\n    **no**</code></pre>' in html
        assert ("after" in text) == html.endswith('<p dir="auto">after</p>')


def test_a_task_says_whether_it_is_done(shown: Shown) -> None:
    html = shown("- [x] a\n- [ ] b")
    assert 'aria-label="done:"' in html and 'aria-label="open:"' in html


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\tscript:alert(1)",
        "&#106;avascript:alert(1)", "vbscript:x",
        "data:text/html;base64,PHNjcmlwdD4=", "file:///etc/passwd", "blob:null/x", "//example.com",
        "/v1/models", "ftp://example.com", "view-source:example.com", "\x01javascript:alert(1)",
    ],
)  # fmt: skip
def test_links_that_are_not_safe_are_text(url: str, shown: Shown) -> None:
    for text in (f"[here]({url})", f"[here](<{url}>)", f"<{url}>", f"![here]({url})", f"[![a]({url})]({url})"):
        assert "<a" not in shown(text)
        assert "<img" not in shown(text)


def test_links_that_are_safe_open_apart_and_tell_nothing(shown: Shown) -> None:
    shown_url = "https://example.com/a_b_c?x=1&amp;y=(2)"
    wanted = f'<a href="{shown_url}" title="{shown_url}" target="_blank" rel="noopener noreferrer nofollow">'
    address = "https://example.com/a_b_c?x=1&y=(2)"
    for text in (f'[*here*]({address} "title")', f"<{address}>", f"See {address}, then", f"({address})"):
        assert wanted in shown(text)
    assert shown("See https://example.com/a.").endswith("</a>.</p>")
    assert 'href="mailto:a@example.com"' in shown("<mailto:a@example.com>")


def test_pictures_are_not_loaded(shown: Shown) -> None:
    html = shown("![a cat](https://example.com/cat.png) ![](data:image/png;base64,AA)")
    assert "<img" not in html
    assert ">[picture: a cat]</a>" in html and "[picture: no description]" in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>document.title = 'owned'</script>",
        "<img src=x onerror=\"document.title = 'owned'\">",
        "<svg onload=\"document.title = 'owned'\">",
        "<iframe srcdoc=\"<script>parent.document.title = 'owned'</script>\"></iframe>",
        "&lt;img src=x onerror=alert(1)&gt;",
        "```<img src=x onerror=alert(1)>\n<b>",
        "[a](https://example.com/\"onmouseover=\"alert(1))",
        "| <b>a</b> |\n| --- |\n| <i>b</i> |",
        "# <b>title</b>\n- <i>item</i>\n> <u>quote</u>",
    ],
)  # fmt: skip
def test_html_is_text(text: str, shown: Shown, page: Page) -> None:
    html = shown(text)
    for tag in ("<script", "<img", "<svg on", "<iframe", "<b>", "<i>", "<u>"):
        assert tag not in html
    assert page.title() != "owned"


@pytest.mark.parametrize(
    "piece",
    [
        "> ", "- ", "* ", "1. ", "  - a\n", "[", "![", "[a](", "]", "](x)", "*", "**a ", "*a _b ", "_", "~~a ", "`",
        "` `` ", "<", "<a", "&", "&#", "|", "| a\n|-\n", "#", "\\", "\n", " ", "\n\n- a\n\n", "```\n", "    a\n",
        "h", "http://", "https://a)", "http://a(",
        "\u202e", "\ud83d\ude00", "- > ", "a | b\n",
    ],
)  # fmt: skip
def test_much_of_anything_is_quick_and_shallow(piece: str, page: Page) -> None:
    times = 60_000 // len(piece)
    measured = page.evaluate(MEASURE, [piece, times])
    assert measured["built"] < 3_000, measured  # some hundredths of a second on a quiet machine
    assert measured["depth"] < 60


def test_nesting_is_bounded_and_what_is_deeper_stays_text(page: Page, shown: Shown) -> None:
    html = shown("> " * 30 + "deep")
    assert html.count("<blockquote>") == 8 and "deep" in html
    html = shown("".join(f"{'  ' * i}- {i}\n" for i in range(30)))
    assert html.count("<ul>") <= 9 and ">0<" in html and "29" in html
    html = shown("*a _b " * 30 + "deep" + "_ c* d" * 30)
    assert 1 <= html.count("<em>") <= 12 and "deep" in html
    html = shown("[" * 50 + "deep" + "](https://example.com)" * 50)
    assert html.count("<a") == 1


def test_a_growing_text_keeps_the_nodes_that_did_not_change(page: Page) -> None:
    kept = page.evaluate("""async () => {
        const { MarkdownView } = await import("/page/markdown.js");
        const box = document.createElement("div");
        const view = new MarkdownView(box);
        const text = "# Title\\n\\nOne *two*\\n\\n- a\\n- b\\n\\n```\\ncode\\n```\\n\\nThe end.";
        const whole = document.createElement("div");
        new MarkdownView(whole).update(text);
        let [first, changes] = [null, 0];
        for (let n = 1; n <= text.length; n += 1) {
            view.update(text.slice(0, n));
            if (n === 9) first = box.firstChild;
            if (n > 9 && box.firstChild !== first) changes += 1;
        }
        return [changes, box.innerHTML === whole.innerHTML];
    }""")
    assert kept == [0, True]
