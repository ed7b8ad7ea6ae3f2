"""LlamaIndex's `OpenAILike`, over TCP, in an environment of its own: it needs an openai below 3.

EDGE_LLAMA_INDEX names the Python of an environment with llama-index-llms-openai-like.
"""

import os
import subprocess

import pytest

from tests.conformance.conftest import Served
from tests.conformance.test_reka_client import image_url

PYTHON = os.environ.get("EDGE_LLAMA_INDEX")
SCRIPT = '''
import base64, sys
import pydantic
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

url, image = sys.argv[1:]
how = {"model": "reka-edge", "api_base": url, "api_key": "local", "temperature": 0.0, "is_function_calling_model": True}


class Counted(pydantic.BaseModel):
    """How many shapes there are."""
    n: int = pydantic.Field(ge=0, le=9)


def count(shape: str) -> int:
    """Count the shapes of a kind."""
    return len(shape)


llm = OpenAILike(is_chat_model=True, max_tokens=12, **how)
question = ChatMessage(role="user", content="What shapes are there?")
chat = llm.chat([question])
assert chat.message.content and chat.raw.usage.completion_tokens <= 12
assert "".join(part.delta or "" for part in llm.stream_chat([question])) == chat.message.content
assert llm.complete("What shapes are there?").text == chat.message.content
blocks = [TextBlock(text="What shapes are there?"), ImageBlock(image=base64.b64decode(image))]
seen = llm.chat([ChatMessage(role="user", blocks=blocks)])
assert seen.raw.usage.prompt_tokens > chat.raw.usage.prompt_tokens
text = OpenAILike(is_chat_model=False, max_tokens=12, **how).complete("There are three")
assert text.text and text.text != chat.message.content
calling = OpenAILike(is_chat_model=True, max_tokens=200, **how)
tool = FunctionTool.from_defaults(count)
(call,) = calling.get_tool_calls_from_response(calling.chat_with_tools([tool], "Count.", tool_required=True))
assert call.tool_name == "count" and isinstance(call.tool_kwargs["shape"], str)
assert isinstance(calling.as_structured_llm(Counted).complete("Count.").raw, Counted)
print("all of it")
'''


@pytest.mark.skipif(PYTHON is None, reason="EDGE_LLAMA_INDEX names no Python")
def test_openai_like_chats_streams_sees_and_calls(served: Served) -> None:
    image = image_url().partition(",")[2]
    command = [str(PYTHON), "-c", SCRIPT, f"{served.address}/v1", image]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "all of it"), done.stderr
