"""Whose form an error or a list has: OpenAI's below /v1, Reka's on its own routes and for its own clients."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import reka.client

import edge
from tests.conformance.conftest import Served, serving

ASK = {"model": "reka-edge", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
UNKNOWN = [
    "/v1/embeddings",
    "/v1/responses/a",
    "/v1/files/a",
    "/v1/chat/other",
    "/v1/chats",
    "/v1/models/a/b",
    "/v1/x/",
]
KEY = {"X-Api-Key": "local"}
FERN = {"X-Fern-SDK-Name": "reka-api"}


@pytest.fixture(params=["tcp", "transport"])
def client(request: pytest.FixtureRequest, served: Served, int8_bundle: Path) -> Iterator[httpx.Client]:
    transport = None if request.param == "tcp" else edge.Transport(model=int8_bundle, threads=1)
    url = served.address if request.param == "tcp" else "http://edge"
    with httpx.Client(transport=transport, base_url=url, timeout=60) as client:
        yield client


def is_openais(response: httpx.Response) -> bool:
    said = response.json()
    if "error" in said:
        assert set(said) == {"error"} and set(said["error"]) == {"message", "type", "param", "code"}
        assert isinstance(said["error"]["message"], str) and said["error"]["message"]
        return True
    assert set(said) == {"detail"}
    return False


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_routes_below_v1_that_are_not_there_answer_as_openai(client: httpx.Client, path: str, method: str) -> None:
    response = client.request(method, path, json=ASK if method == "POST" else None)
    assert response.status_code in (404, 405) and is_openais(response)


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat/", "/chat", "/models", "/nowhere", "/v2/x"])
def test_rekas_routes_and_foreign_ones_answer_as_reka(client: httpx.Client, path: str) -> None:
    assert not is_openais(client.put(path))


def test_an_sdk_shows_what_an_unknown_route_says(client: httpx.Client) -> None:
    sdk = openai.OpenAI(api_key="k", base_url=client.base_url.join("v1"), http_client=client, max_retries=0)
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.embeddings.create(model="reka-edge", input="a")
    assert "no route '/v1/embeddings'" in caught.value.message


@pytest.mark.parametrize("path", ["/v1/chat/", "/v1/chat//", "/v1/chat/completions/"])
def test_a_slash_at_the_end_is_the_same_route(client: httpx.Client, path: str) -> None:
    assert client.post(path, json=ASK).status_code == 200
    assert client.post(path, json={**ASK, "top_p": 5}).status_code == (400 if "completions" in path else 422)
    assert client.get(path).headers["allow"] == "POST"
    assert client.get("/v1/models/").json() == client.get("/v1/models").json()
    assert client.get("/models/").json() == client.get("/models").json()


def test_the_list_of_models_is_openais_unless_rekas_own_client_asks(client: httpx.Client) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}):
        listed = client.get("/v1/models", headers=headers).json()
        assert listed["object"] == "list" and listed["data"][0]["object"] == "model"
    for headers in (KEY, FERN, {**KEY, "Authorization": "Bearer x"}):
        assert client.get("/v1/models", headers=headers).json() == [{"id": model["id"]} for model in listed["data"]]
    assert is_openais(client.post("/v1/models")) and not is_openais(client.post("/v1/models", headers=KEY))


def test_rekas_sdk_lists_models(client: httpx.Client) -> None:
    sdk = reka.client.Reka(api_key="local", base_url=str(client.base_url.join("v1")), httpx_client=client)
    assert "reka-edge-random" in [model.id for model in sdk.models.get()]


def test_one_model_is_described_under_its_id_and_its_aliases(client: httpx.Client) -> None:
    sdk = openai.OpenAI(api_key="k", base_url=client.base_url.join("v1"), http_client=client, max_retries=0)
    for name in ("reka-edge-random", "reka-edge", "reka-edge-20240208", "reka-edge-2603"):
        model = sdk.models.retrieve(name)
        assert (model.id, model.object) == ("reka-edge-random", "model")
    for name in ("gpt-4o", "a/b", "%", "é"):
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.models.retrieve(name)
        assert caught.value.code == "model_not_found"
    assert client.get("/v1/models/reka%2Dedge").json()["id"] == "reka-edge-random"
    assert client.head("/v1/models/reka-edge").status_code == 200
    assert client.delete("/v1/models/reka-edge").headers["allow"] == "GET, HEAD"


def test_a_prompt_that_does_not_fit_has_the_words_that_clients_look_for(client: httpx.Client) -> None:
    for n_words in (1100, 200_000):  # counted, and too many to count
        messages = [{"role": "user", "content": "word " * n_words}]
        error = client.post("/v1/chat/completions", json={**ASK, "messages": messages}).json()["error"]
        assert "maximum context length is 1024 tokens" in error["message"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


@pytest.fixture(scope="module")
def keyed(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle, key="secret") as served:
        yield served


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/models/a", "/v1/unknown", "/v1/x/"])
def test_who_is_not_let_in_is_told_in_the_form_of_the_route(keyed: Served, path: str) -> None:
    with httpx.Client(base_url=keyed.address) as client:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer secret", "Host": "evil.example"}, 403),
            ({"Authorization": "Bearer secret", "Origin": "http://evil.example"}, 403),
            ({"Authorization": "Bearer secret", "Padding": "x" * 33_000}, 431),
        ):
            for method in ("GET", "POST"):
                response = client.request(method, path, headers=headers)
                assert response.status_code == status and is_openais(response)


@pytest.mark.parametrize(
    ("headers", "size", "status"),
    [("text/plain", 2, 415), ("application/json", 42 << 20, 413)],
)
def test_bodies_that_are_refused_are_told_in_the_form_of_the_route(
    served: Served, headers: str, size: int, status: int
) -> None:
    with httpx.Client(base_url=served.address, timeout=60) as client:
        response = client.post("/v1/chat/completions/", content=b" " * size, headers={"Content-Type": headers})
        assert response.status_code == status and is_openais(response)


def test_what_is_no_request_is_told_in_every_form(served: Served) -> None:
    with socket.create_connection(served.place, timeout=10) as connection:
        connection.sendall(b"GARBAGE\r\n\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    body = httpx.Response(400, content=answer.partition(b"\r\n\r\n")[2]).json()
    assert body["detail"] == body["error"]["message"] and body["type"] == "error"
    assert set(body["error"]) == {"message", "type", "param", "code"}
