"""What is served at `/`: the files of the page, with nothing inline and nothing foreign."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edge.server import page
from edge.server.routes import ROUTES
from tests.conformance.conftest import Served, serving

FOLDER = Path(page.__file__).parent
SOURCES = {
    path.name: path.read_text("utf-8") for path in sorted(FOLDER.iterdir()) if path.is_file() and path.suffix != ".py"
}
SCRIPTS = {name: text for name, text in SOURCES.items() if name.endswith(".js")}


@pytest.fixture(scope="module")
def keyed(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle, key="secret") as served:
        yield served


def test_every_file_is_served_and_nothing_else() -> None:
    assert sorted(page.FILES.values()) == sorted(SOURCES)
    assert not page.FILES.keys() & (ROUTES.keys() - {"/"})


def test_files_come_without_the_key_and_with_their_type(keyed: Served) -> None:
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    with httpx.Client(base_url=keyed.address) as client:
        for path, name in page.FILES.items():
            response = client.get(path)
            assert response.status_code == 200
            assert response.text == SOURCES[name]
            assert response.headers["content-type"].partition(";")[0] == kinds[Path(name).suffix]
        assert client.get("/page/nothing.js").status_code == 401
        assert client.get("/page/__init__.py").status_code == 401
        assert client.get("/v1/models").status_code == 401


def test_a_file_that_the_browser_has_is_not_sent_again(keyed: Served) -> None:
    with httpx.Client(base_url=keyed.address) as client:
        first = client.get("/page/main.js")
        assert first.headers["cache-control"] == "no-cache"
        again = client.get("/page/main.js", headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert "content-length" not in again.headers
        assert client.get("/page/main.js", headers={"if-none-match": '"other"'}).status_code == 200
        assert client.get("/page/api.js").headers["etag"] != first.headers["etag"]
        head = client.head("/page/main.js")
        assert (head.status_code, head.content) == (200, b"")


def test_the_policy_lets_nothing_inline_or_foreign_in(keyed: Served) -> None:
    response = httpx.get(keyed.address)
    policy = {name: values for name, *values in map(str.split, response.headers["content-security-policy"].split(";"))}
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert policy["require-trusted-types-for"] == ["'script'"] and policy["trusted-types"] == ["'none'"]
    for name in ("frame-ancestors", "base-uri", "form-action"):
        assert policy[name] == ["'none'"]
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_nobody_else() -> None:
    namespaces = {"http://www.w3.org/2000/svg"}
    found = {url for text in SOURCES.values() for url in re.findall(r"(?:https?:)?//\w[\w.-]*\.\w[^\s\"'<>)]*", text)}
    assert found <= namespaces
    html = SOURCES["index.html"]
    assert not re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|javascript:", html)
    assert all(address.startswith(("page/", "#")) for address in re.findall(r"(?:src|href)=\"([^\"]+)\"", html))


def test_no_script_makes_html_of_text() -> None:
    words = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\(|new Function|setHTML"
    assert not {name: found for name, text in SCRIPTS.items() if (found := re.findall(words, text))}


def test_sources_are_short_and_say_what_they_are() -> None:
    assert not {name: n for name, text in SOURCES.items() if (n := text.count("\n")) > 600}
    assert not {name: n for name, text in SCRIPTS.items() if (n := text.count("\n")) > 250}
    assert all(text.startswith(("/** ", "/* ")) for name, text in SOURCES.items() if name.endswith((".js", ".css")))
