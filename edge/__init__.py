"""Reka's chat interface, offline, on the device: text, images, audio, video and PDFs in, chat messages out.

    from edge import Reka

    with Reka() as client:
        answer = client.chat.create(model="reka-edge", messages=[{"role": "user", "content": "Who are you?"}])
        print(answer.responses[0].message.content)

Reka, AsyncReka             chat in process, with the signatures of Reka's SDK
Engine                      a loaded bundle: token ids in and out, logits, embeddings
Transport                   the HTTP interface in process, for the clients of other SDKs
tool, Toolset               functions that the model may call
Camera, Microphone, watch   a camera's newest frame; what is said; a question asked over and over
Speaker, Loudspeaker        text as speech, sentence by sentence; where it is played
Assistant                   wakes, listens, looks, answers and speaks
Box, parse_boxes            boxes of things, read from an answer
models                      the bundles on this device
Limits                      what one request may hold
EdgeError                   every error that this package raises: BundleError, MediaError, ...
ChatMessage, ...            the types of the chat API

Every name is loaded on first use: `import edge` loads no onnxruntime, no pydantic, no image library.
The help of a name: help(edge.Reka).
"""

import importlib
import logging
import sys
from typing import TYPE_CHECKING

from edge import version

if TYPE_CHECKING:
    from edge import chat as chat
    from edge import models as models
    from edge.assistant.assistant import Assistant as Assistant
    from edge.chat.boxes import Box as Box
    from edge.chat.boxes import parse_boxes as parse_boxes
    from edge.client import AsyncReka as AsyncReka
    from edge.client import Reka as Reka
    from edge.devices.camera import Camera as Camera
    from edge.devices.loudspeaker import Loudspeaker as Loudspeaker
    from edge.devices.microphone import Microphone as Microphone
    from edge.devices.watch import watch as watch
    from edge.engine.engine import Engine as Engine
    from edge.engine.handle import Reading as Reading
    from edge.errors import BundleChanged as BundleChanged
    from edge.errors import BundleError as BundleError
    from edge.errors import ContextLengthError as ContextLengthError
    from edge.errors import DeviceError as DeviceError
    from edge.errors import EdgeError as EdgeError
    from edge.errors import EngineClosed as EngineClosed
    from edge.errors import HubError as HubError
    from edge.errors import MediaError as MediaError
    from edge.errors import MemoryExhausted as MemoryExhausted
    from edge.errors import MemoryLimitError as MemoryLimitError
    from edge.errors import NonFiniteError as NonFiniteError
    from edge.errors import ParameterError as ParameterError
    from edge.errors import RateLimitError as RateLimitError
    from edge.errors import RuntimeFailure as RuntimeFailure
    from edge.errors import SchemaError as SchemaError
    from edge.errors import ServiceError as ServiceError
    from edge.errors import TextError as TextError
    from edge.errors import UnknownModelError as UnknownModelError
    from edge.errors import UnsupportedError as UnsupportedError
    from edge.errors import VoiceError as VoiceError
    from edge.limits import Limits as Limits
    from edge.server.transport import Transport as Transport
    from edge.speech.speaker import Speaker as Speaker
    from edge.speech.speaker import Spoken as Spoken
    from edge.tools.output import ToolResult as ToolResult
    from edge.tools.rounds import RunResponse as RunResponse
    from edge.tools.rounds import ToolEnded as ToolEnded
    from edge.tools.rounds import ToolStarted as ToolStarted
    from edge.tools.tool import tool as tool
    from edge.tools.toolset import Toolset as Toolset
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

_ERRORS = (
    "BundleChanged",
    "BundleError",
    "ContextLengthError",
    "DeviceError",
    "EdgeError",
    "EngineClosed",
    "HubError",
    "MediaError",
    "MemoryExhausted",
    "MemoryLimitError",
    "NonFiniteError",
    "ParameterError",
    "RateLimitError",
    "RuntimeFailure",
    "SchemaError",
    "ServiceError",
    "TextError",
    "UnknownModelError",
    "UnsupportedError",
    "VoiceError",
)
_HOMES = {
    "Assistant": "assistant.assistant",
    "AsyncReka": "client",
    "Box": "chat.boxes",
    "Camera": "devices.camera",
    "Engine": "engine.engine",
    "Limits": "limits",
    "Loudspeaker": "devices.loudspeaker",
    "Microphone": "devices.microphone",
    "Reading": "engine.handle",
    "Reka": "client",
    "RunResponse": "tools.rounds",
    "Speaker": "speech.speaker",
    "Spoken": "speech.speaker",
    "ToolEnded": "tools.rounds",
    "ToolResult": "tools.output",
    "ToolStarted": "tools.rounds",
    "Toolset": "tools.toolset",
    "Transport": "server.transport",
    "parse_boxes": "chat.boxes",
    "tool": "tools.tool",
    "watch": "devices.watch",
    **dict.fromkeys(_ERRORS, "errors"),
}
_MODULES = ("chat", "models")

__all__ = [
    "ApiError",
    "Assistant",
    "AsyncReka",
    "Box",
    "BundleChanged",
    "BundleError",
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
    "ContextLengthError",
    "DeviceError",
    "EdgeError",
    "Engine",
    "EngineClosed",
    "FinishReason",
    "HttpValidationError",
    "HubError",
    "Limits",
    "Loudspeaker",
    "MediaError",
    "MediaType",
    "MemoryExhausted",
    "MemoryLimitError",
    "MessageResponse",
    "Microphone",
    "Model",
    "NonFiniteError",
    "ParameterError",
    "RateLimitError",
    "Reading",
    "Reka",
    "RekaEnvironment",
    "RunResponse",
    "RuntimeFailure",
    "SchemaError",
    "ServiceError",
    "Speaker",
    "Spoken",
    "TextError",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolEnded",
    "ToolOutput",
    "ToolResult",
    "ToolStarted",
    "Toolset",
    "Transport",
    "TypedMediaContent",
    "TypedText",
    "UnknownModelError",
    "UnprocessableEntityError",
    "UnsupportedError",
    "Usage",
    "ValidationError",
    "ValidationErrorLocItem",
    "VoiceError",
    "__version__",
    "chat",
    "models",
    "parse_boxes",
    "tool",
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
    # help(edge) would write out what pydantic gives to each of the SDK's types, in 9000 lines; help(edge.Model) may.
    return [] if _is_asked_by("pydoc") else sorted(__all__)


def _is_asked_by(module: str) -> bool:
    """Return whether a module called dir(), or had inspect do so."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") == "inspect":
        frame = frame.f_back
    return frame.f_globals.get("__name__") == module
