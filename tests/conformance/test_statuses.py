"""Every row of the error table, by each route's own form, over TCP and in process."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import edge
from edge.engine.decoder import Decoder
from edge.errors import MemoryExhausted
from edge.limits import Limits
from tests.conformance.conftest import Served, serving
from tests.edge.asking import slow

ASK = [{"role": "user", "content": "How many?"}]
V1 = {"model": "reka-edge", "messages": ASK, "max_tokens": 4}
V0 = {"model_name": "reka-edge", "conversation_history": [{"type": "human", "text": "hi"}], "request_output_len": 4}
ITEMS = {"model": "reka-edge", "input": ASK, "max_output_tokens": 4}
ROUTES = {
    "/v1/chat": V1, "/v1/chat/completions": V1, "/v1/responses": ITEMS, "/v1/messages": V1,
    "/v1/messages/count_tokens": V1, "/chat": V0, "/api/chat": V1,
    "/api/generate": {"model": "reka-edge", "prompt": "hi"}, "/api/show": {"model": "reka-edge"},
}  # fmt: skip
STATUSES = {503: 529}  # of Anthropic's


@pytest.fixture(params=["tcp", "transport"])
def client(request: pytest.FixtureRequest, served: Served, int8_bundle: Path) -> Iterator[httpx.Client]:
    transport = None if request.param == "tcp" else edge.Transport(model=int8_bundle, threads=1)
    url = served.address if request.param == "tcp" else "http://edge"
    with httpx.Client(transport=transport, base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(params=list(ROUTES))
def route(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def check_form(route: str, response: httpx.Response, status: int) -> str:
    """Check an error's status and form, and return its text."""
    is_anthropics = route.startswith("/v1/messages")
    assert response.status_code == (STATUSES.get(status, status) if is_anthropics else status)
    assert response.headers["content-type"] == "application/json"
    said = response.json()
    if route.rstrip("/") in ("/v1/chat/completions", "/v1/responses", "/v1/models"):
        assert set(said) == {"error"} and set(said["error"]) == {"message", "type", "param", "code"}
        return str(said["error"]["message"])
    if is_anthropics:
        assert set(said) == {"type", "error"} and set(said["error"]) == {"type", "message"}
        return str(said["error"]["message"])
    if route.startswith("/api/"):
        assert set(said) == {"error"} and isinstance(said["error"], str)
        return said["error"]
    assert set(said) == {"detail"}
    return str(said["detail"])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b'"text"', b"null", b"{\xff}", b'{"model": NaN}', b'{"temperature": 1e999}',
        b"\xef\xbb\xbf{}", b'{"model": "a", "model": "b"}', b'{"model": "\\ud800"}', b"{'model': 1}",
        b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"model": "a"} {}', b'{"a": [' + b"{}," * 200_000 + b"{}]}",
    ],
)  # fmt: skip
def test_400_what_is_not_json(client: httpx.Client, route: str, data: bytes) -> None:
    response = client.post(route, content=data, headers={"content-type": "application/json"})
    assert check_form(route, response, 400).startswith(("body", "model"))


@pytest.mark.parametrize(("depth", "deep"), [(63, False), (64, False), (65, True), (1000, True)])
@pytest.mark.parametrize("kind", ["[]", '{"a":}'])
def test_400_json_that_is_too_deep(client: httpx.Client, depth: int, deep: bool, kind: str) -> None:
    opened, closed = kind[:-1], kind[-1]
    nested = opened * (depth - 1) + "1" + closed * (depth - 1)
    response = client.post("/v1/chat", content=f'{{"nested": {nested}}}', headers={"content-type": "application/json"})
    assert response.status_code == (400 if deep else 422)


def filling(n_letters: int, **fields: object) -> dict[str, object]:
    """A request whose prompt takes a position for each letter, and some besides."""
    return {**V1, "messages": [{"role": "user", "content": "~" * n_letters}], "temperature": 0, **fields}


@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("route", ["/v1/chat", "/v1/chat/completions"])
def test_400_a_prompt_that_does_not_fit_says_both_counts(client: httpx.Client, route: str, over: int) -> None:
    n_besides = client.post("/v1/chat", json=filling(1, max_tokens=1)).json()["usage"]["input_tokens"] - 1
    response = client.post(route, json=filling(1024 - n_besides + over, max_tokens=1000))
    if over > 0:
        said = check_form(route, response, 400)
        if route == "/v1/chat":
            assert said == "the prompt needs 1025 positions, the context holds 1024"
        else:  # the words that OpenAI's clients look for
            assert said.startswith("This model's maximum context length is 1024 tokens. However, your messages")
            assert "1025 tokens" in said
        return
    said, is_openais = response.json(), route == "/v1/chat/completions"
    # The last token chosen needs no position.
    assert said["usage"]["completion_tokens" if is_openais else "output_tokens"] == 1 - over
    reason = said["choices" if is_openais else "responses"][0]["finish_reason"]
    assert reason == ("length" if is_openais else "context")


def test_404_routes_and_models(client: httpx.Client, route: str) -> None:
    assert "/v1/chat" in check_form("/", client.get("/nowhere"), 404)
    fields = {**ROUTES[route], "model": "reka-core", "model_name": "reka-core"}
    assert "--alias reka-core=" in check_form(route, client.post(route, json=fields), 404)


def test_405_methods(client: httpx.Client, route: str) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        response = client.request(method, route)
        check_form(route, response, 405)
        assert response.headers["allow"] == "POST"
    for path in ("/health", "/"):
        assert client.post(path).headers["allow"] == "GET, HEAD"


def test_413_size(client: httpx.Client, route: str) -> None:
    data = b'{"model": "' + b"a" * Limits().body_bytes + b'"}'
    response = client.post(route, content=data, headers={"content-type": "application/json"})
    assert str(Limits().body_bytes) in check_form(route, response, 413)


def test_415_content_type(client: httpx.Client, route: str) -> None:
    kinds = ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded")
    for kind in kinds[:2] if route.startswith("/api/") else kinds:  # `curl -d` is what Ollama's examples have
        response = client.post(route, content=json.dumps(ROUTES[route]), headers={"content-type": kind})
        check_form(route, response, 415)


def test_422_names_the_field(client: httpx.Client) -> None:
    response = client.post("/v1/chat", json={**V1, "top_p": 2, "seed": "x", "stream": "yes"})
    check_form("/v1/chat", response, 422)
    response = client.post("/v1/chat", json={**V1, "top_p": 2, "seed": "x"})
    assert [problem["loc"] for problem in response.json()["detail"]] == [["body", "top_p"], ["body", "seed"]]
    assert all(set(problem) == {"loc", "msg", "type"} for problem in response.json()["detail"])


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.endswith(("count_tokens", "show"))])
@pytest.mark.parametrize(("error", "status"), [(RuntimeError("secret"), 500), (MemoryExhausted("no memory"), 503)])
def test_500_and_503_when_the_engine_fails(
    route: str, error: Exception, status: int, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with serving(int8_bundle) as served, httpx.Client(base_url=served.address, timeout=60) as client:
        with monkeypatch.context() as broken:
            broken.setattr(Decoder, "read", fail)
            response = client.post(route, json=ROUTES[route])
            assert "secret" not in check_form(route, response, status)
            assert ("retry-after" in response.headers) == (status == 503)
        assert client.post(route, json=ROUTES[route]).status_code == 200


@pytest.mark.parametrize("route", ["/v1/chat", "/v1/chat/completions", "/api/chat"])
def test_an_error_on_the_way_is_the_last_event_and_no_proper_end(
    route: str, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = Decoder.step, []

    def fail(*arguments: object) -> object:
        taken.append(1)
        if len(taken) == 3:
            raise RuntimeError("secret")
        return step(*arguments)  # type: ignore[arg-type]

    slow(monkeypatch, 0.05)
    step = Decoder.step
    monkeypatch.setattr(Decoder, "step", fail)
    said = b""
    with serving(int8_bundle) as served, httpx.Client(base_url=served.address, timeout=60) as client:
        fields = {**V1, "stream": True, "max_tokens": 50, "seed": 1, "stop": None}
        if route == "/api/chat":  # which knows neither there
            fields["options"] = {"num_predict": 50, "seed": 1, "temperature": 0.4}
        with pytest.raises(httpx.RemoteProtocolError), client.stream("POST", route, json=fields) as response:
            assert response.status_code == 200
            for part in response.iter_bytes():
                said += part
    events = [json.loads(line.removeprefix("data: ")) for line in said.decode().split("\n") if line]
    assert "secret" not in said.decode()
    if route == "/v1/chat":
        assert set(events[-1]) == {"id", "model", "responses", "usage", "detail"}
        assert events[-1]["responses"] == [] and events[-1]["id"] == events[0]["id"]
        assert events[-1]["detail"] == "the model failed"
    elif route == "/api/chat":
        assert events[-1] == {"error": "the model failed"} and events[0]["done"] is False
    else:
        assert set(events[-1]["error"]) == {"message", "type", "param", "code"}


def test_the_servers_media_folder_is_the_only_one_that_is_read(int8_bundle: Path, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "media"
    folder.mkdir()
    for place in (folder, tmp_path):
        Image.new("RGB", (40, 30), "red").save(place / "a.png")
    with serving(int8_bundle, files=folder) as served, httpx.Client(base_url=served.address, timeout=60) as client:
        for url, status in (("a.png", 200), ("../a.png", 400), (str(tmp_path / "a.png"), 400), ("b.png", 400)):
            messages = [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]
            response = client.post("/v1/chat", json={**V1, "messages": messages})
            assert response.status_code == status
            assert status == 200 or str(tmp_path) not in response.text.replace(url, "")


def test_head_has_the_headers_of_get_alone(client: httpx.Client) -> None:
    for path, status in (("/health", 200), ("/v1/models", 200), ("/nowhere", 404), ("/v1/chat", 405)):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (status, b"")
        if status == 200:  # else the method is part of what is said
            assert head.headers["content-length"] == str(len(get.content))


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/models", "/models", "/api/chat", "/api/tags"])
def test_503_of_a_closed_transport(path: str, int8_bundle: Path) -> None:
    transport = edge.Transport(model=int8_bundle, threads=1)
    transport.close()
    method = "POST" if path.endswith("/chat") else "GET"

    async def asked() -> httpx.Response:
        client = httpx.AsyncClient(transport=transport, base_url="http://edge")
        return await client.request(method, path, json=V1)

    client = httpx.Client(transport=transport, base_url="http://edge")
    for response in (client.request(method, path, json=V1), asyncio.run(asked())):
        assert check_form(path, response, 503) == "the client is closed"
