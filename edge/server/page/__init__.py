"""The page at `/`: a chat in the browser, made of the files in this folder and of nothing from anywhere else."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

from edge.server.http import Headers, HttpRequest, HttpResponse

_FOLDER = Path(__file__).parent
_NAMES = (
    "style.css", "frame.css", "message.css", "composer.css", "dialogs.css", "icon.svg", "theme.js", "main.js",
    "aloud.js", "answering.js", "answers.js", "api.js", "archive.js", "attachments.js", "blocks.js", "camera.js",
    "code.js", "composer.js", "connection.js", "conversation.js", "devices.js", "dialogs.js", "dom.js",
    "editing.js", "entities.js", "exported.js", "failure.js", "files.js", "inline.js", "library.js", "links.js",
    "management.js", "markdown.js", "marks.js", "media.js", "message.js", "models.js", "navigation.js",
    "notices.js", "pieces.js", "player.js", "preview.js", "reading.js", "recorder.js", "session.js", "settings.js",
    "sidebar.js", "store.js", "tables.js", "tap.js", "thread.js", "viewer.js", "wav.js",
)  # fmt: skip
FILES: Mapping[str, str] = {"/": "index.html", **{f"/page/{name}": name for name in _NAMES}}

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Nothing inline and nothing foreign; blob: is what the person attached. No script may turn text into HTML either.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Headers = (
    ("content-security-policy", _POLICY),
    ("permissions-policy", "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("cache-control", "no-cache"),
)


def answer(request: HttpRequest) -> HttpResponse:
    """Return one of FILES; 304 without it to a browser that has it already."""
    name = FILES[request.path]
    data = _read(name)
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = (*_HEADERS, ("etag", tag))
    known = [text.strip().removeprefix("W/") for text in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return HttpResponse(304, headers, b"")
    return HttpResponse(200, (("content-type", _TYPES[Path(name).suffix]), *headers), data)


@functools.cache
def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
