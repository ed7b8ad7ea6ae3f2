"""The errors of the runtime, and the HTTP status each one maps to.

EdgeError
├── BundleError          a bundle is damaged, unknown or not for this runtime
│   └── BundleChanged    its files changed on disk after it was loaded; it is not used any more
├── HubError             a repository of a model hub cannot be read; says what to do
├── UnknownModelError    no bundle answers to this name
├── ParameterError       a request's field has the wrong type or range
├── TextError            a text cannot be encoded (half a surrogate pair, for example)
├── MediaError           an image, video, audio or PDF is not supported, or damaged
├── DeviceError          a camera, microphone or loudspeaker is not there, stopped, or delivers nothing new
├── VoiceError           a voice is not installed, hangs or fails
├── ServiceError         systemd is not there, or does not do what it was asked for
├── SchemaError          a schema that no answer can be held to, or not within the tokens that are left
├── UnsupportedError     a feature the bundle or this version does not have
├── RateLimitError       a client has used up what it may use in some time; says when there is more
├── ContextLengthError   the prompt does not fit; carries both counts
├── NonFiniteError       the model produced NaN or infinity; names the step
├── RuntimeFailure       onnxruntime failed while computing
├── MemoryExhausted      an allocation failed; the engine goes on serving
│   └── MemoryLimitError a model does not fit in the memory there is; carries both numbers, and says what would
├── EngineClosed         the engine was closed while or before the request ran
└── ApiError             what clients raise: status and body, as the SDK's (in edge.types)
    └── UnprocessableEntityError    a 422
"""

from collections.abc import Mapping

_SHOWN_CHARS = 200


class EdgeError(Exception):
    """Anything this package raises on purpose."""


class BundleError(EdgeError):
    """A bundle cannot be used; the message names file, key and value."""


class BundleChanged(BundleError):
    """A bundle's files changed on disk after it was loaded; the message names the file, and no path."""


class HubError(EdgeError):
    """A repository of a model hub, or a file of it, cannot be had; the message names it and says what to do."""


class UnknownModelError(EdgeError):
    """No bundle answers to the name asked for; the message is for programs, what follows for who has another way out.

    found: what is wrong and what is installed, in one sentence; name: what was asked for; target: a name that would do,
    None when nothing is installed.
    """

    def __init__(self, message: str, *, found: str = "", name: str = "", target: str | None = None) -> None:
        super().__init__(message)
        self.found = found or message
        self.name = name
        self.target = target


class ParameterError(EdgeError):
    """A request's field has the wrong type or range; `field` is its name."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class TextError(EdgeError):
    """A text that cannot be encoded."""


class MediaError(EdgeError):
    """A media part that cannot be opened or decoded, or is not supported."""


class DeviceError(EdgeError):
    """A camera, microphone or loudspeaker that is not there or stopped; the message names it and why."""


class VoiceError(EdgeError):
    """A voice that is not installed, hangs or fails; the message says how it is installed."""


class ServiceError(EdgeError):
    """systemd is not there or refuses, or a unit is not to be overwritten; the message says what to do."""


class SchemaError(EdgeError):
    """A schema that no answer can be held to, or not within the tokens there are; the message names the field."""


class UnsupportedError(EdgeError):
    """A feature that the bundle or this version does not have."""


class RateLimitError(EdgeError):
    """A client has used up what it may use in some time; `retry_s`: after how many seconds there is more."""

    def __init__(self, message: str, *, retry_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class ContextLengthError(EdgeError):
    """The prompt does not fit; `needed` and `limit` count positions, `at_least`: the text was too long to count."""

    def __init__(self, needed: int, limit: int, *, at_least: bool = False) -> None:
        super().__init__(f"the prompt needs {'at least ' * at_least}{needed} positions, the context holds {limit}")
        self.needed = needed
        self.limit = limit
        self.at_least = at_least


class NonFiniteError(EdgeError):
    """The model produced NaN or infinity; `step` names where."""

    def __init__(self, step: str) -> None:
        super().__init__(f"the model produced a value that is not finite at {step}")
        self.step = step


class RuntimeFailure(EdgeError):
    """onnxruntime failed while computing."""


class MemoryExhausted(EdgeError):
    """An allocation failed; what the request held is freed and the engine goes on serving."""


class MemoryLimitError(MemoryExhausted):
    """A model does not fit in the memory there is and was not loaded; `needed` and `available` count bytes."""

    def __init__(self, message: str, *, needed: int, available: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


class EngineClosed(EdgeError):
    """The engine was closed before or while the request ran."""


STATUS: Mapping[type[EdgeError], int] = {
    EdgeError: 500,
    BundleError: 500,
    BundleChanged: 503,
    HubError: 502,
    UnknownModelError: 404,
    ParameterError: 422,
    TextError: 400,
    MediaError: 400,
    DeviceError: 503,
    VoiceError: 503,
    ServiceError: 503,
    SchemaError: 400,
    UnsupportedError: 400,
    RateLimitError: 429,
    ContextLengthError: 400,
    NonFiniteError: 500,
    RuntimeFailure: 500,
    MemoryExhausted: 503,
    MemoryLimitError: 503,
    EngineClosed: 503,
}


def shown(value: str) -> str:
    """Return a request's own value for an error message: quoted, escaped, at most 200 characters."""
    text = repr(value[:_SHOWN_CHARS])
    return text if max(len(value), len(text)) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def status_of(error: EdgeError) -> int:
    """Return the HTTP status of an error, its nearest listed ancestor's if it is not listed itself."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def interruption(error: BaseException) -> BaseException | None:
    """Return the KeyboardInterrupt or SystemExit of a signal that came while a library was being loaded.

    A compiled module that is interrupted in its initialization fails with an ImportError, the signal's own exception
    behind it. None for a library that really cannot be loaded, and for any other error.
    """
    behind: BaseException | None = error if isinstance(error, ImportError) else None
    while behind is not None and not isinstance(behind, KeyboardInterrupt | SystemExit):
        behind = behind.__cause__ or behind.__context__
    return behind
