"""LlamaIndex's `Ollama`, over TCP: completions, chats, streams, images, structured answers, tools."""

import asyncio
import base64
import contextlib
import warnings
from collections.abc import Iterator
from typing import Literal

import ollama
import pydantic
import pytest

from tests.conformance.conftest import Served
from tests.conformance.scripted import call_of, saying
from tests.conformance.test_reka_client import image_url

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it is made of
    from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.ollama import Ollama

ASK = "What shapes are there?"
OPTIONS = {"num_predict": 12, "seed": 3}


class Counted(pydantic.BaseModel):
    """How many shapes there are."""

    shape: Literal["star", "ring"]
    n: int = pydantic.Field(ge=0, le=9)


@pytest.fixture
def llm(served: Served) -> Iterator[Ollama]:
    with ollama.Client(served.address, timeout=60) as client:
        yield Ollama(model="reka-edge", base_url=served.address, client=client, additional_kwargs=OPTIONS)


def test_it_completes_chats_streams_and_sees_images(llm: Ollama) -> None:
    whole = llm.complete(ASK)
    assert whole.text and whole.raw["eval_count"] <= 12
    assert [part.text for part in llm.stream_complete(ASK)][-1] == whole.text
    question = ChatMessage(role="user", content=ASK)
    chat = llm.chat([question])
    assert chat.message.content == whole.text
    assert "".join(part.delta or "" for part in llm.stream_chat([question])) == whole.text
    history = [ChatMessage(role="system", content="Be brief."), question, chat.message, question]
    assert llm.chat(history).raw["prompt_eval_count"] > chat.raw["prompt_eval_count"]
    image = ImageBlock(image=base64.b64decode(image_url().partition(",")[2]))
    seen = llm.chat([ChatMessage(role="user", blocks=[TextBlock(text=ASK), image])])
    assert seen.raw["prompt_eval_count"] > chat.raw["prompt_eval_count"]


def test_its_context_is_the_models(served: Served) -> None:
    with ollama.Client(served.address) as client:
        llm = Ollama(model="reka-edge", base_url=served.address, client=client)
        assert llm.metadata.context_window == client.ps().models[0].context_length


def test_a_structured_answer(served: Served) -> None:
    with ollama.Client(served.address) as client:
        options = {**OPTIONS, "num_predict": 200}
        llm = Ollama(model="reka-edge", base_url=served.address, client=client, additional_kwargs=options)
        assert isinstance(llm.as_structured_llm(Counted).complete("Count.").raw, Counted)


def test_a_tool_runs() -> None:
    def count(shape: str) -> int:
        """Count the shapes of a kind."""
        return len(shape)

    scripts = (call_of("count", '{"shape": "star"}'), ("Four", "."))
    with saying(*scripts) as (served, engine), ollama.Client(served.address) as client:
        llm = Ollama(model="reka-edge", base_url=served.address, client=client)
        tool = FunctionTool.from_defaults(count)
        question = ChatMessage(role="user", content=ASK)
        calling = llm.chat_with_tools([tool], chat_history=[question])
        (call,) = llm.get_tool_calls_from_response(calling)
        assert (call.tool_name, call.tool_kwargs) == ("count", {"shape": "star"})
        result = ChatMessage(role="tool", content="4", additional_kwargs={"tool_call_id": call.tool_id})
        assert llm.chat([question, calling.message, result]).message.content == "Four."
        prompts = [repr(prompt) for prompt, _ in engine.asked]
        assert "Count the shapes of a kind." in prompts[0] and '"shape": "star"' in prompts[1]


def test_async(served: Served) -> None:
    async def asked() -> tuple[str, str, str]:
        async with ollama.AsyncClient(served.address) as client, contextlib.AsyncExitStack() as stack:
            sync = stack.enter_context(ollama.Client(served.address))
            place = {"base_url": served.address, "client": sync, "async_client": client}
            llm = Ollama(model="reka-edge", additional_kwargs=OPTIONS, **place)
            question = [ChatMessage(role="user", content=ASK)]
            whole, chat = await llm.acomplete(ASK), await llm.achat(question)
            streamed = "".join([part.delta or "" async for part in await llm.astream_chat(question)])
            return whole.text, str(chat.message.content), streamed

    assert len(set(asyncio.run(asked()))) == 1
