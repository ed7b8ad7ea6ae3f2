"""`edge.Transport` under httpx and httpx2, sync and async: each gets answers of its own classes; others are told."""

import asyncio
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import requests

import edge
from edge.engine.decoder import Decoder

ASK = {"model": "reka-edge", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 6, "seed": 1}


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_answers_and_streams(library: ModuleType, int8_bundle: Path) -> None:
    transport = edge.Transport(model=int8_bundle, threads=1)
    with library.Client(transport=transport, base_url="http://edge") as client:
        whole = client.post("/v1/chat", json=ASK)
        assert isinstance(whole, library.Response) and whole.status_code == 200
        with client.stream("POST", "/v1/chat", json={**ASK, "stream": True}) as streamed:
            lines = list(streamed.iter_lines())
        assert streamed.headers["content-type"] == "text/event-stream" and lines[0].startswith("data: ")
        assert client.post("/v1/chat", json={**ASK, "top_p": 5}).status_code == 422
        assert client.head("/v1/models").content == b""


def test_async_answers_and_streams(library: ModuleType, int8_bundle: Path) -> None:
    async def asked() -> tuple[str, str]:
        transport = edge.Transport(model=int8_bundle, threads=1)
        async with library.AsyncClient(transport=transport, base_url="http://edge") as client:
            whole = await client.post("/v1/chat", json=ASK)
            async with client.stream("POST", "/v1/chat", json={**ASK, "stream": True}) as streamed:
                lines = [line async for line in streamed.aiter_lines() if line]
        return whole.json()["responses"][0]["message"]["content"], lines[-1]

    content, last = asyncio.run(asked())
    assert json.loads(last.removeprefix("data: "))["responses"][0]["chunk"]["content"] == content


def test_a_stream_that_is_left_early_stops(library: ModuleType, int8_bundle: Path) -> None:
    transport = edge.Transport(model=int8_bundle, threads=1)
    with library.Client(transport=transport, base_url="http://edge") as client:
        with client.stream("POST", "/v1/chat", json={**ASK, "stream": True, "max_tokens": 500}) as streamed:
            next(streamed.iter_lines())
        assert client.post("/v1/chat", json=ASK).status_code == 200


def test_a_stream_that_fails_raises_the_librarys_own_error(
    library: ModuleType, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = Decoder.step, []

    def fail(*arguments: object) -> object:
        taken.append(1)
        if len(taken) == 3:
            raise RuntimeError
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "step", fail)
    transport = edge.Transport(model=int8_bundle, threads=1)
    with library.Client(transport=transport, base_url="http://edge") as client:
        fields = {**ASK, "stream": True, "max_tokens": 50}
        with pytest.raises(library.RemoteProtocolError), client.stream("POST", "/v1/chat", json=fields) as streamed:
            list(streamed.iter_lines())


def test_another_librarys_request_is_a_type_error_that_says_so(int8_bundle: Path) -> None:
    transport = edge.Transport(model=int8_bundle, threads=1)
    request = requests.Request("GET", "http://edge/health")
    said = r"expected a request of httpx or httpx2, got requests\.models\.Request"
    with pytest.raises(TypeError, match=said):
        transport.handle_request(request)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=said):
        asyncio.run(transport.handle_async_request(request))  # type: ignore[arg-type]
    transport.close()


def test_httpx2_is_loaded_by_nobody_but_its_user() -> None:
    program = "import sys, edge; edge.Transport; print('httpx2' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
