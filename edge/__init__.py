"""Reka's chat interface, offline, on the device: pictures and text in, chat messages out.

Every name is loaded on first use: `import edge` loads no onnxruntime, no pydantic, no picture library.
"""

import importlib
import logging
from typing import TYPE_CHECKING

from edge import bundle

if TYPE_CHECKING:
    from edge import chat as chat
    from edge import models as models
    from edge.client import AsyncReka as AsyncReka
    from edge.client import Reka as Reka
    from edge.engine import Engine as Engine
    from edge.errors import EdgeError as EdgeError
    from edge.transport import Transport as Transport
    from edge.types import ApiError as ApiError
    from edge.types import ChatMessage as ChatMessage
    from edge.types import ChatMessageChunk as ChatMessageChunk
    from edge.types import ChatMessageChunkContentItem as ChatMessageChunkContentItem
    from edge.types import ChatMessageInputContentItem as ChatMessageInputContentItem
    from edge.types import ChatMessageOutputContentItem as ChatMessageOutputContentItem
    from edge.types import ChatResponse as ChatResponse
    from edge.types import ChatRole as ChatRole
    from edge.types import ChunkChatResponse as ChunkChatResponse
    from edge.types import ChunkMessageResponse as ChunkMessageResponse
    from edge.types import Content as Content
    from edge.types import FinishReason as FinishReason
    from edge.types import HttpValidationError as HttpValidationError
    from edge.types import MediaType as MediaType
    from edge.types import MessageResponse as MessageResponse
    from edge.types import Model as Model
    from edge.types import RekaEnvironment as RekaEnvironment
    from edge.types import Tool as Tool
    from edge.types import ToolCall as ToolCall
    from edge.types import ToolChoice as ToolChoice
    from edge.types import ToolOutput as ToolOutput
    from edge.types import TypedMediaContent as TypedMediaContent
    from edge.types import TypedText as TypedText
    from edge.types import UnprocessableEntityError as UnprocessableEntityError
    from edge.types import Usage as Usage
    from edge.types import ValidationError as ValidationError
    from edge.types import ValidationErrorLocItem as ValidationErrorLocItem

__version__ = bundle.RUNTIME_VERSION

# Without a handler of the program's own, Python would write our warnings to stderr: libraries never print.
logging.getLogger("edge").addHandler(logging.NullHandler())

_HOMES = {"AsyncReka": "client", "Reka": "client", "Engine": "engine", "EdgeError": "errors", "Transport": "transport"}
_MODULES = ("chat", "models")

__all__ = [
    "ApiError",
    "AsyncReka",
    "ChatMessage",
    "ChatMessageChunk",
    "ChatMessageChunkContentItem",
    "ChatMessageInputContentItem",
    "ChatMessageOutputContentItem",
    "ChatResponse",
    "ChatRole",
    "ChunkChatResponse",
    "ChunkMessageResponse",
    "Content",
    "EdgeError",
    "Engine",
    "FinishReason",
    "HttpValidationError",
    "MediaType",
    "MessageResponse",
    "Model",
    "Reka",
    "RekaEnvironment",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolOutput",
    "Transport",
    "TypedMediaContent",
    "TypedText",
    "UnprocessableEntityError",
    "Usage",
    "ValidationError",
    "ValidationErrorLocItem",
    "__version__",
    "chat",
    "models",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'edge' has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"edge.{name}")
    return getattr(importlib.import_module(f"edge.{_HOMES.get(name, 'types')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
