"""Each route has its API's form of errors, and so has each refusal before a route is known: the table alone says so."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping

import httpx
import pytest

from edge.chat import Chat
from edge.chat.attachments import Access
from edge.chat.reply import Reply, refused
from edge.engine.handle import Progress
from edge.errors import NonFiniteError
from edge.limits import Limits
from edge.server import anthropic, openai, openapi, reka, routes
from edge.server.access import Guard
from edge.server.app import App
from edge.server.asgi import Server
from edge.server.queue import Queue
from edge.server.route import Backend, ChatRoute, DirectRoute, ErrorForm, RouteRequest
from edge.server.streaming import StreamBroken
from edge.types import ApiError
from tests.edge.fake_engine import FakeEngine, OneEngine, manifest

ASK = {"model": "a-model", "messages": [{"role": "user", "content": "How many?"}], "stream": True}


CLAUDE = {"anthropic-version": "2023-06-01"}
HEADERS = {reka.is_client: {"x-api-key": "a key"}, anthropic.is_client: CLAUDE}


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


OTHERS = ErrorForm(
    lambda error: {"wrong": str(error.body)},
    {"type": "object"},
    statuses={503: 529},
    headers=lambda error: (("x-wrong", str(error.status_code)),),
    framed=line,
)


class LineWriter:
    """Writes one line of JSON for each piece of news."""

    streams = True

    def whole(self, reply: Reply, last: Progress) -> object:
        return {"text": last.text}

    def events(self, reply: Reply, progress: Progress) -> bytes:
        return line({"text": progress.text})

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        return OTHERS.event(error)


def read(chat: Chat, body: Mapping[str, object]) -> RouteRequest:
    return RouteRequest(chat.read({**body, "stream": None}), LineWriter())


def show(backend: Backend, request: object) -> routes.HttpResponse:
    return routes.json_response(backend.chat.models.ids())


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """An engine behind a table with a further API, which has one route and what lies below /others/."""
    chat = ChatRoute("/others/ask", "POST", OTHERS, openapi.chat, read, stream_type="application/x-ndjson")
    delete = DirectRoute("/others/ask", "DELETE", OTHERS, openapi.names, show)
    monkeypatch.setattr(routes, "TABLE", (chat, delete, *routes.TABLE))
    monkeypatch.setattr(routes, "APIS", (("/others/", OTHERS), *routes.APIS))
    return FakeEngine(manifest())


@pytest.fixture
def server(engine: FakeEngine) -> Iterator[Server]:
    app = App(Chat(OneEngine(engine), Access(), Limits(body_bytes=1000)))  # type: ignore[arg-type]
    server = Server(app, Guard(key="secret"), Queue(1, max_waiting=1, max_wait_s=60.0))
    yield server
    server.close()


def ask(
    server: Server, path: str = "/others/ask", method: str = "POST", *, key: str = "secret", **options: object
) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=server, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            return await client.request(method, path, **options)  # type: ignore[arg-type]

    return asyncio.run(asked())


def test_a_further_api_streams_as_its_writer_and_its_route_say(server: Server) -> None:
    response = ask(server, json=ASK)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert json.loads(response.text.splitlines()[-1]) == {"text": "Three red circles."}


@pytest.mark.parametrize(
    ("status", "options"),
    [
        (401, {"key": "wrong"}),
        (404, {"path": "/others/none"}),
        (405, {"method": "PUT"}),
        (413, {"json": {**ASK, "padding": "x" * 1000}}),
        (413, {"content": [b"x" * 600, b"x" * 600], "headers": {"content-type": "application/json"}}),
        (415, {"content": b"{}", "headers": {"content-type": "text/plain"}}),
        (400, {"content": b"{", "headers": {"content-type": "application/json"}}),
        (422, {"json": {**ASK, "messages": []}}),
        (431, {"headers": {"x-long": "x" * 100_000}}),
    ],
)
def test_a_refusal_at_any_point_has_the_form_of_the_further_api(
    server: Server, status: int, options: dict[str, object]
) -> None:
    content = options.get("content")
    if isinstance(content, list):  # without a length
        options = {**options, "content": one_by_one(content)}
    response = ask(server, **options)  # type: ignore[arg-type]
    assert (response.status_code, list(response.json())) == (status, ["wrong"])
    assert response.headers["x-wrong"] == str(status)


async def one_by_one(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_a_server_that_ends_refuses_in_the_form_and_with_the_status_of_the_further_api(server: Server) -> None:
    server.refuse()
    response = ask(server, json=ASK)
    assert (response.status_code, list(response.json())) == (529, ["wrong"])
    assert ask(server, "/v1/chat", json=ASK).status_code == 503


def test_an_engine_that_fails_ends_a_stream_in_the_form_of_the_further_api(server: Server, engine: FakeEngine) -> None:
    engine.error = NonFiniteError("logits are not finite")
    kind = {"content-type": "application/json"}
    status, _, parts = server.app.respond("POST", "/others/ask", kind, json.dumps(ASK).encode())
    sent = []
    with pytest.raises(StreamBroken):
        sent.extend(parts)
    assert status == 200
    assert list(json.loads(sent[-1])) == ["wrong"]


def test_a_path_may_have_several_methods(server: Server) -> None:
    assert ask(server, method="DELETE").json() == ["a-model"]
    refusal = ask(server, method="PUT")
    assert refusal.headers["allow"] == "POST, DELETE"
    assert "expected POST or DELETE, got PUT" in refusal.text


@pytest.mark.parametrize(
    ("path", "asked", "form"),
    [
        ("/v1/chat", {}, reka.ERRORS),
        ("/v1/chat/", {}, reka.ERRORS),
        ("/v1/chat/completions", {}, openai.ERRORS),
        ("/v1/chat/completions", {"x-api-key": "a key"}, openai.ERRORS),
        ("/v1/models", {}, openai.ERRORS),
        ("/v1/models", {"x-api-key": "a key"}, reka.ERRORS),
        ("/v1/models/", {"x-fern-sdk-name": "reka-api"}, reka.ERRORS),
        ("/v1/models/a/b", {"x-api-key": "a key"}, openai.ERRORS),
        ("/v1/none", {}, openai.ERRORS),
        ("/v1/none", CLAUDE, anthropic.ERRORS),
        ("/v1/models", CLAUDE, anthropic.ERRORS),
        ("/v1/models", {**CLAUDE, "x-api-key": "a key"}, anthropic.ERRORS),
        ("/v1/models/a", CLAUDE, anthropic.ERRORS),
        ("/v1/chat/completions", CLAUDE, openai.ERRORS),
        ("/v1/messages", {}, anthropic.ERRORS),
        ("/v1/messages/", {}, anthropic.ERRORS),
        ("/v1/messages/batches", {}, anthropic.ERRORS),
        ("/none", CLAUDE, reka.ERRORS),
        ("/chat", {}, reka.ERRORS),
        ("/none", {}, reka.ERRORS),
        ("/page/main.js", {}, reka.ERRORS),
    ],
)
def test_a_path_has_the_form_of_its_api(path: str, asked: dict[str, str], form: ErrorForm) -> None:
    assert routes.errors_of(path, asked) is form


def test_what_no_path_is_known_of_is_refused_in_every_form_together() -> None:
    body = routes.body_without_route(refused(408, "too slow"))
    assert body["detail"] == "too slow"
    assert {name: body[name] for name in ("type", "error")} == {
        "type": "error",
        "error": {"message": "too slow", "type": "invalid_request_error", "param": None, "code": None},
    }


def test_every_route_of_the_table_is_found_by_its_path() -> None:
    for route in routes.TABLE:
        assert routes.pattern_of(route.path) == route.path
        assert routes.find(route.method, route.path, HEADERS.get(route.clients, {})) is route
