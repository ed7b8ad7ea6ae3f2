"""Reka's own routes: v1 as the SDK speaks it, and v0 as the SDK before 2.0 did, which spells everything otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge.chat import Chat
from edge.chat.messages import Loc, Problems, shown
from edge.chat.reply import Reply, refused
from edge.engine.handle import Progress
from edge.media.data_url import first_bytes
from edge.media.sniff import sniff
from edge.server.http import HttpRequest, HttpResponse, event, json_response
from edge.server.openapi_shapes import REKA_ERROR
from edge.server.route import Backend, ErrorForm, RouteRequest, detail_of
from edge.types import ApiError

Fields = dict[str, object]

_SAME = ("temperature", "frequency_penalty", "presence_penalty", "use_search_engine", "detail", "max_tiles")
_RENAMED = {
    "model": "model_name",
    "max_tokens": "request_output_len",
    "seed": "random_seed",
    "top_k": "runtime_top_k",
    "top_p": "runtime_top_p",
    "stop": "stop_words",
    "messages": "conversation_history",
}
_ROLES = {"human": "user", "model": "assistant"}
_SNIFFED_CHARS = 8 << 10


ERRORS = ErrorForm(lambda error: {"detail": detail_of(error)}, REKA_ERROR)


@dataclass(frozen=True)
class ChatWriter:
    """POST /v1/chat: a response, or a stream of chunks without an end mark, which the SDK could not read."""

    streams: bool

    def whole(self, reply: Reply, last: Progress) -> object:
        return reply.response(last).dict()

    def events(self, reply: Reply, progress: Progress) -> bytes:
        return event(reply.chunk(progress).dict())

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        usage = {"input_tokens": newest.input_tokens, "output_tokens": newest.output_tokens}
        fields = {"id": reply.id, "model": reply.model, "responses": [], "usage": usage, "detail": detail_of(error)}
        return event(fields)


@dataclass(frozen=True)
class LegacyWriter:
    """POST /chat: the model's turn alone."""

    streams: bool = False

    def whole(self, reply: Reply, last: Progress) -> object:
        content = reply.response(last).responses[0].message.content
        return {"type": "model", "text": content}

    def events(self, reply: Reply, progress: Progress) -> bytes:
        return event(self.whole(reply, progress))

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        return ERRORS.event(error)


def is_client(headers: Mapping[str, str]) -> bool:
    """Tell Reka's own clients, which read another list of models, by the headers that the SDK sends."""
    return "x-api-key" in headers or headers.get("x-fern-sdk-name", "").lower().startswith("reka")


def read_chat(chat: Chat, body: Mapping[str, object]) -> RouteRequest:
    """Return what POST /v1/chat asks for. Raises: as Chat.read."""
    streams = read_stream(body)
    return RouteRequest(chat.read(body), ChatWriter(streams))


def read_turn(chat: Chat, body: Mapping[str, object]) -> RouteRequest:
    """Return what POST /chat asks for. Raises: as from_legacy and Chat.read."""
    return RouteRequest(chat.read(from_legacy(body), place=legacy_place), LegacyWriter())


def list_models(backend: Backend, _: HttpRequest) -> HttpResponse:
    """Answer GET /v1/models as Reka's clients read it."""
    return json_response([{"id": name} for name in backend.chat.models.ids()])


def list_names(backend: Backend, _: HttpRequest) -> HttpResponse:
    """Answer GET /models, as Reka's SDK before 2.0 reads it."""
    return json_response(backend.chat.models.ids())


def read_stream(body: Mapping[str, object]) -> bool:
    """Return whether a request asks for a stream. Raises: UnprocessableEntityError."""
    problems = Problems()
    is_asked = problems.flag(("body", "stream"), body.get("stream"))
    problems.raise_any()
    return is_asked


def from_legacy(body: Mapping[str, object]) -> Fields:
    """Return a v0 request as a v1 one. Raises: ApiError 400 for what is not there, UnprocessableEntityError."""
    if body.get("retrieval_dataset") is not None:
        raise refused(400, "retrieval_dataset: there is no retrieval offline; expected none")
    stream = body.get("stream")
    if stream is not None and stream is not False:
        raise refused(400, "stream: POST /chat does not stream; expected false, or POST /v1/chat")
    penalty = body.get("length_penalty")
    if penalty is not None and (isinstance(penalty, bool) or penalty != 1):
        raise refused(400, f"length_penalty: expected 1, the only one there is, got {shown(penalty)}")
    fields: Fields = {name: body.get(name) for name in _SAME}
    fields |= {name: body.get(theirs) for name, theirs in _RENAMED.items()}
    fields["messages"] = _legacy_messages(body.get("conversation_history"))
    return fields


def legacy_place(loc: Loc) -> Loc:
    """Return where something stands in a v0 request, whose fields have other names."""
    match loc:
        case ("body", "messages", int(i), "content", int(_), str(key)) if key.endswith("_url"):
            return ("body", _RENAMED["messages"], i, "media_url")
        case ("body", str(field), *rest):
            return ("body", _RENAMED.get(field, field), *rest)
    return loc


def _legacy_messages(history: object) -> object:
    """Return a conversation of humans and models as messages; what is wrong with its turns is named."""
    if not isinstance(history, list):
        return history
    problems = Problems()
    messages: list[Fields] = []
    for i, turn in enumerate(history):
        loc = ("body", "conversation_history", i)
        fields = turn if isinstance(turn, Mapping) else {}
        role, text, url = fields.get("type"), fields.get("text"), fields.get("media_url")
        if not isinstance(role, str) or role not in _ROLES:
            problems.add((*loc, "type"), f"expected 'human' or 'model', got {shown(role)}", "literal_error")
        elif not isinstance(text, str):
            problems.add((*loc, "text"), f"expected a string, got {shown(text)}", "string_type")
        elif url is not None and not isinstance(url, str):
            problems.add((*loc, "media_url"), f"expected a string, got {shown(url)}", "string_type")
        elif url is None:
            messages.append({"role": _ROLES[role], "content": text})
        else:
            kind = _kind(str(url))
            content = [{"type": kind, kind: url}, {"type": "text", "text": text}]
            messages.append({"role": _ROLES[role], "content": content})
    problems.raise_any()
    return messages


def _kind(url: str) -> str:
    """Tell the kind of media by its first bytes: the v0 client calls every file an octet-stream."""
    found = sniff(first_bytes(url, _SNIFFED_CHARS))
    return f"{found.kinds[0]}_url" if found is not None and found.kinds else "image_url"
