"""Reka's chat interface, offline, on the device: pictures and text in, chat messages out.

Every name is loaded on first use: `import edge` loads no onnxruntime, no pydantic, no picture library.
"""

import importlib
import logging
from typing import TYPE_CHECKING

from edge import version

if TYPE_CHECKING:
    from edge import chat as chat
    from edge import models as models
    from edge.chat.boxes import Box as Box
    from edge.chat.boxes import parse_boxes as parse_boxes
    from edge.client import AsyncReka as AsyncReka
    from edge.client import Reka as Reka
    from edge.devices.camera import Camera as Camera
    from edge.devices.microphone import Microphone as Microphone
    from edge.devices.watch import watch as watch
    from edge.engine.engine import Engine as Engine
    from edge.errors import DeviceError as DeviceError
    from edge.errors import EdgeError as EdgeError
    from edge.server.transport import Transport as Transport
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

__version__ = version.RUNTIME_VERSION

# Without a handler of the program's own, Python would write our warnings to stderr: libraries never print.
logging.getLogger("edge").addHandler(logging.NullHandler())

_HOMES = {
    "AsyncReka": "client",
    "Box": "chat.boxes",
    "Camera": "devices.camera",
    "DeviceError": "errors",
    "EdgeError": "errors",
    "Engine": "engine.engine",
    "Microphone": "devices.microphone",
    "Reka": "client",
    "Transport": "server.transport",
    "parse_boxes": "chat.boxes",
    "watch": "devices.watch",
}
_MODULES = ("chat", "models")

__all__ = [
    "ApiError",
    "AsyncReka",
    "Box",
    "Camera",
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
    "DeviceError",
    "EdgeError",
    "Engine",
    "FinishReason",
    "HttpValidationError",
    "MediaType",
    "MessageResponse",
    "Microphone",
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
    "parse_boxes",
    "watch",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'edge' has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"edge.{name}")
    try:
        home = importlib.import_module(f"edge.{_HOMES.get(name, 'types')}")
    except ModuleNotFoundError as error:
        from edge.extras import missing

        raise ModuleNotFoundError(missing(error.name, need=f"edge.{name}"), name=error.name) from error
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
