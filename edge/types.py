"""The types of Reka's chat API, field for field those of its Python SDK, on pydantic 2.

`Any` stands here exactly where the SDK's own types say it: its enumerations are open, and parameters are any JSON.
"""

import enum
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

import pydantic
import pydantic_core

from edge.errors import EdgeError

ChatRole = Literal["user", "assistant", "system", "tool_output"] | Any
FinishReason = Literal["stop", "length", "context"] | Any
MediaType = Literal["image_url", "video_url", "audio_url", "pdf_url"] | Any
ToolChoice = Literal["auto", "tool", "none"] | Any
ValidationErrorLocItem = str | int

_Fields = dict[str, Any]


class RekaEnvironment(enum.Enum):
    """The service's addresses: accepted by the clients because the SDK's accept them, and never contacted."""

    DEFAULT = "https://api.reka.ai/v1"


class _Type(pydantic.BaseModel):
    """What all types share: frozen, open to further fields, the dict, json and copy of the SDK's pydantic 1 models."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)

    def dict(self, **kwargs: Any) -> _Fields:  # noqa: ANN401
        """Return the fields as plain values: those that were set, and no default that is None."""
        kwargs.setdefault("by_alias", True)
        kwargs.setdefault("warnings", False)
        with_defaults = self.model_dump(**{"exclude_none": True, **kwargs})
        return _merged(self.model_dump(**{"exclude_unset": True, **kwargs}), with_defaults)

    def json(self, **kwargs: Any) -> str:  # noqa: ANN401
        """Return the fields that were set as JSON, non-ASCII characters escaped; further keywords go to json.dumps."""
        names = ("include", "exclude", "by_alias", "exclude_unset", "exclude_defaults", "exclude_none")
        options = {name: kwargs.pop(name) for name in names if name in kwargs}
        encoder = kwargs.pop("encoder", None) or _plain
        kwargs.pop("models_as_dict", None)
        data = self.model_dump(**{"by_alias": True, "exclude_unset": True, "warnings": False, **options})
        return json.dumps(data, default=encoder, **kwargs)

    def copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:  # type: ignore[override]
        """Return a copy, with some fields replaced and not validated."""
        return self.model_copy(update=update, deep=deep)

    @classmethod
    def parse_obj(cls, obj: object) -> Self:
        """Validate a mapping. Raises: pydantic.ValidationError."""
        return cls.model_validate(obj)

    @classmethod
    def parse_raw(cls, b: str | bytes) -> Self:  # type: ignore[override]
        """Validate JSON text. Raises: pydantic.ValidationError."""
        return cls.model_validate_json(b)

    @classmethod
    def construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:  # noqa: ANN401
        """Make one without validation."""
        return cls.model_construct(_fields_set, **values)

    def __eq__(self, other: object) -> bool:
        """Compare by fields: with one of ours, with the SDK's own object, with a dict."""
        return bool(self.dict() == (other.dict() if isinstance(other, _Type) else other))

    def __hash__(self) -> int:
        return hash(type(self)) + hash(tuple(self.__dict__.values()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError(f'"{type(self).__name__}" is immutable and does not support item assignment')


def _merged(source: _Fields, target: _Fields) -> _Fields:
    for key, value in source.items():
        if isinstance(value, dict):
            _merged(value, target.setdefault(key, {}))
        else:
            target[key] = value
    return target


def _plain(value: object) -> object:
    """Return a value that JSON has, for json.dumps. Raises: TypeError, as json.dumps does."""
    try:
        return pydantic_core.to_jsonable_python(value)
    except pydantic_core.PydanticSerializationError as error:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable") from error


class TypedText(_Type):
    """A text part: {"type": "text", "text": …}."""

    text: str
    type: Any = None


class TypedMediaContent(_Type):
    """A media part: {"type": T, T: url}, T one of image_url, video_url, audio_url, pdf_url."""

    audio_url: str | None = None
    image_url: str | None = None
    pdf_url: str | None = None
    type: MediaType = None
    video_url: str | None = None


class ToolOutput(_Type):
    """What a tool answered to the call of this id."""

    output: str
    tool_call_id: str


class ToolCall(_Type):
    """A call of a tool that the model asks for; `parameters` satisfy the tool's schema."""

    id: str
    name: str
    parameters: _Fields


class Tool(_Type):
    """A tool the model may call; `parameters` is the JSON schema of its input."""

    description: str | None = None
    name: str
    parameters: _Fields


ChatMessageChunkContentItem = TypedText | TypedMediaContent
ChatMessageInputContentItem = TypedText | TypedMediaContent
ChatMessageOutputContentItem = TypedText | TypedMediaContent
Content = str | list[ChatMessageChunkContentItem] | list[ToolOutput]


class _Message(_Type):
    """What ChatMessage and ChatMessageChunk share: content, role and calls."""

    content: Content | None = None
    role: ChatRole = None
    tool_calls: list[ToolCall] | None = None

    @pydantic.field_validator("content", mode="before")
    @classmethod
    def _read_content(cls, value: object) -> object:
        return [_read_part(part) for part in value] if isinstance(value, list | tuple) else value

    @pydantic.field_validator("tool_calls", mode="before")
    @classmethod
    def _read_calls(cls, value: object) -> object:
        return [fields_of(call) for call in value] if isinstance(value, list | tuple) else value


class ChatMessage(_Message):
    """One turn of a conversation."""

    if TYPE_CHECKING:
        # What is validated below may be given as dicts; a type checker would ask for what becomes of them.
        def __init__(
            self,
            *,
            content: str | Sequence[object] | None = None,
            role: ChatRole = None,
            tool_calls: Sequence[ToolCall | Mapping[str, object]] | None = None,
            **further: object,
        ) -> None: ...


class ChatMessageChunk(_Message):
    """The turn being answered, in a stream: `content` is the whole text so far."""


class Usage(_Type):
    """Positions fed, media included; tokens sampled, the end of the turn included."""

    input_tokens: int
    output_tokens: int


class MessageResponse(_Type):
    """One answer and why it ended."""

    finish_reason: FinishReason | None = None
    message: ChatMessage


class ChunkMessageResponse(_Type):
    """One answer so far; `finish_reason` only in the last chunk."""

    chunk: ChatMessageChunk
    finish_reason: FinishReason | None = None


class ChatResponse(_Type):
    """What chat.create returns; `model` is the id of the bundle that answered."""

    id: str
    model: str
    responses: list[MessageResponse]
    usage: Usage


class ChunkChatResponse(_Type):
    """What chat.create_stream yields; all chunks of one answer have one id."""

    id: str
    model: str
    responses: list[ChunkMessageResponse]
    usage: Usage


class Model(_Type):
    """A bundle that can answer."""

    id: str


class ValidationError(_Type):
    """One field of a request that is wrong: where, why, and the kind of mistake."""

    loc: list[ValidationErrorLocItem]
    msg: str
    type: str


class HttpValidationError(_Type):
    """The body of a 422."""

    detail: list[ValidationError] | None = None


class ApiError(EdgeError):
    """A request that failed: the status and the body the service would have answered with."""

    status_code: int | None
    body: Any

    def __init__(self, *, status_code: int | None = None, body: Any = None) -> None:  # noqa: ANN401
        self.status_code = status_code
        self.body = body

    def __str__(self) -> str:
        return f"status_code: {self.status_code}, body: {self.body}"


class UnprocessableEntityError(ApiError):
    """A request whose fields have a wrong type or range; the body names each of them."""

    def __init__(self, body: HttpValidationError) -> None:
        super().__init__(status_code=422, body=body)


def fields_of(value: object) -> object:
    """Return the fields of one of ours or of the SDK's own objects as a dict, anything else as it is."""
    to_dict = getattr(value, "dict", None)
    return to_dict() if callable(to_dict) else value


def _read_part(part: object) -> object:
    """Tell a part's kind by its keys, whatever class it came in."""
    fields = fields_of(part)
    if not isinstance(fields, Mapping):
        return fields
    if fields.get("tool_call_id") is not None:
        return ToolOutput.model_validate(fields)
    return (TypedText if fields.get("text") is not None else TypedMediaContent).model_validate(fields)
