"""The table of all routes, and the only place that knows which API a path belongs to."""

import functools
from collections.abc import Callable, Mapping

from edge.chat import Chat
from edge.chat.reply import refused
from edge.server import (
    anthropic,
    completions,
    ollama,
    ollama_models,
    openai,
    openapi,
    openapi_speech,
    page,
    reka,
    responses,
    speech,
    tokens,
)
from edge.server import transcriptions as audio
from edge.server.http import HttpRequest, HttpResponse, json_response
from edge.server.multipart import MEDIA_TYPE as FORM
from edge.server.multipart import Form
from edge.server.ollama_writer import ACCEPTED, LINES
from edge.server.ollama_writer import ERRORS as OLLAMA
from edge.server.route import (
    Asked,
    Backend,
    ChatRoute,
    DirectRoute,
    ErrorForm,
    Fields,
    Route,
    RouteRequest,
    SpeechRoute,
    UploadRoute,
)
from edge.types import ApiError


def _show_health(backend: Backend, _: HttpRequest) -> HttpResponse:
    """Say whether answers can be given: not where the files of a loaded bundle changed on disk."""
    reason = backend.chat.models.changed()
    if reason is None:
        return json_response({"status": "ok"})
    return json_response({"status": "failing", "detail": reason}, status=503)


def _show_metrics(backend: Backend, _: HttpRequest) -> HttpResponse:
    headers = (("content-type", "text/plain; version=0.0.4; charset=utf-8"),)
    return HttpResponse(200, headers, backend.metrics.text().encode())


def _show_document(_: Backend, __: HttpRequest) -> HttpResponse:
    return json_response(document())


def _show_page(_: Backend, request: HttpRequest) -> HttpResponse:
    asks_ollama = request.path == "/" and ollama_models.is_client(request.headers)
    return ollama_models.say_running() if asks_ollama else page.answer(request)


Describe = Callable[[ErrorForm], dict[str, object]]


def _ollama(path: str, describe: Describe, read: Callable[[Chat, Fields], RouteRequest | HttpResponse]) -> ChatRoute:
    return ChatRoute(path, "POST", OLLAMA, describe, read, accepts=ACCEPTED, stream_type=LINES)


def _audio(path: str, describe: Describe, read: Callable[[Chat, Form], Asked]) -> UploadRoute:
    return UploadRoute(path, "POST", openai.ERRORS, describe, read, audio.FILES, accepts=(FORM,))


# A path may have several routes: the first whose `clients` fits the request's headers answers.
TABLE: tuple[Route, ...] = (
    ChatRoute("/v1/chat", "POST", reka.ERRORS, openapi.chat, reka.read_chat),
    DirectRoute(
        "/v1/models", "GET", anthropic.ERRORS, openapi.models, anthropic.list_models, clients=anthropic.is_client
    ),
    DirectRoute("/v1/models", "GET", reka.ERRORS, openapi.models, reka.list_models, clients=reka.is_client),
    DirectRoute("/v1/models", "GET", openai.ERRORS, openapi.models, openai.list_models),
    DirectRoute(
        "/v1/models/{model}", "GET", anthropic.ERRORS, openapi.model, anthropic.show_model, clients=anthropic.is_client
    ),
    DirectRoute("/v1/models/{model}", "GET", openai.ERRORS, openapi.model, openai.show_model),
    ChatRoute("/v1/chat/completions", "POST", openai.ERRORS, openapi.completion, openai.read_completion),
    ChatRoute("/v1/completions", "POST", completions.ERRORS, openapi.continuation, completions.read_completion),
    ChatRoute("/v1/responses", "POST", responses.ERRORS, openapi.response, responses.read_response),
    ChatRoute("/v1/messages", "POST", anthropic.ERRORS, openapi.message, anthropic.read_message),
    ChatRoute("/v1/messages/count_tokens", "POST", anthropic.ERRORS, openapi.count, anthropic.read_count),
    _ollama("/api/chat", openapi.ollama_chat, ollama.read_chat),
    _ollama("/api/generate", openapi.ollama_generate, ollama.read_generate),
    DirectRoute("/api/tags", "GET", OLLAMA, openapi.ollama_tags, ollama_models.list_models),
    DirectRoute("/api/ps", "GET", OLLAMA, openapi.ollama_running, ollama_models.list_running),
    DirectRoute("/api/show", "POST", OLLAMA, openapi.ollama_show, ollama_models.show_model, accepts=ACCEPTED),
    DirectRoute("/api/pull", "POST", OLLAMA, openapi.ollama_pull, ollama_models.pull, accepts=ACCEPTED),
    DirectRoute("/api/version", "GET", OLLAMA, openapi.ollama_version, ollama_models.show_version),
    _audio("/v1/audio/transcriptions", openapi.transcription, audio.read_transcription),
    _audio("/v1/audio/translations", openapi.translation, audio.read_translation),
    SpeechRoute("/v1/audio/speech", "POST", openai.ERRORS, openapi_speech.speech, speech.read_speech),
    DirectRoute("/v1/audio/voices", "GET", openai.ERRORS, openapi_speech.voices, speech.list_voices),
    DirectRoute("/v1/audio/models", "GET", openai.ERRORS, openapi_speech.audio_models, speech.list_models),
    DirectRoute("/tokenize", "POST", tokens.ERRORS, openapi.tokens, tokens.tokenize),
    DirectRoute("/detokenize", "POST", tokens.ERRORS, openapi.text_of_tokens, tokens.detokenize),
    ChatRoute("/chat", "POST", reka.ERRORS, openapi.turn, reka.read_turn),
    DirectRoute("/models", "GET", reka.ERRORS, openapi.names, reka.list_names),
    DirectRoute("/health", "GET", reka.ERRORS, openapi.health, _show_health, is_open=True),
    DirectRoute("/metrics", "GET", reka.ERRORS, openapi.metrics, _show_metrics),
    DirectRoute("/openapi.json", "GET", reka.ERRORS, openapi.itself, _show_document),
    DirectRoute("/", "GET", reka.ERRORS, openapi.page, _show_page, is_open=True),
)

# Whose clients ask below a path (one that ends with a slash) or at it, where no route is: the first that fits.
APIS: tuple[tuple[str, ErrorForm], ...] = (
    ("/tokenize", tokens.ERRORS),
    ("/detokenize", tokens.ERRORS),
    ("/api/", OLLAMA),
    ("/v1/messages/", anthropic.ERRORS),
    ("/v1/", openai.ERRORS),
    ("/chat", reka.ERRORS),
    ("/models", reka.ERRORS),
)
_ELSEWHERE = reka.ERRORS
# Clients that ask below a path in their own API's words, whoever the path is of.
_GUESTS = (("/v1/", anthropic.is_client, anthropic.ERRORS),)
# Why there is no route at a path where an API has one.
ABSENT: Mapping[str, str] = ollama_models.ABSENT

ROUTES: Mapping[str, str] = {route.path: route.method for route in TABLE}


def path_of(path: str) -> str:
    """Return a path without the slashes at its end, which make no other route of an API. path: as it was sent."""
    bare = path.rstrip("/")
    return path if _api_of(bare) is None else bare


def routes_at(path: str, asked: Mapping[str, str]) -> tuple[Route, ...]:
    """Return the routes of a path, for a client with these headers: one for each method."""
    found: dict[str, Route] = {}
    for route in TABLE:
        if _is_at(route.path, path) and route.clients(asked):
            found.setdefault(route.method, route)
    return tuple(found.values())


def pattern_of(path: str) -> str | None:
    """Return the path of the table that a path belongs to, None where there is no route."""
    return next((route.path for route in TABLE if _is_at(route.path, path)), None)


def errors_of(path: str, asked: Mapping[str, str]) -> ErrorForm:
    """Return the form in which the client of a request reads errors, whether there is such a route or not.

    asked: the request's headers; on /v1/models, and where there is no route, they tell whose client it is.
    """
    path = path_of(path)
    for route in routes_at(path, asked):
        return route.errors
    for place, is_client, form in _GUESTS:
        if path.startswith(place) and is_client(asked):
            return form
    return _api_of(path) or _ELSEWHERE


def find(method: str, path: str, asked: Mapping[str, str]) -> Route | HttpResponse:
    """Return the route of a request, or the 404 or 405 of one that no route supports.

    path: as path_of gives it; asked: the request's headers.
    """
    routes = routes_at(path, asked)
    for route in routes:
        if route.supports(method):
            return route
    form = errors_of(path, asked)
    if not routes:
        return form.response(refused(404, _missing(path)))
    methods = [route.method for route in routes]
    detail = f"{path[:200]}: expected {' or '.join(methods)}, got {method[:20]}"
    allowed = ", ".join("GET, HEAD" if name == "GET" else name for name in methods)
    return form.response(refused(405, detail), (("allow", allowed),))


def _missing(path: str) -> str:
    """Return why there is no route at a path, else which there are."""
    for place, reason in ABSENT.items():
        if path == place or path.startswith(f"{place}/"):
            return f"{place}: {reason}"
    return f"no route {path[:200]!r}; there are {', '.join(ROUTES)}"


def body_without_route(error: ApiError) -> dict[str, object]:
    """Return the body for a request whose path could not be read: what the clients of every API find theirs in."""
    body: dict[str, object] = {}
    for form in (_ELSEWHERE, *(form for _, form in reversed(APIS))):
        fields = form.body(error)
        body = _joined(body, fields) if isinstance(fields, dict) else body
    return body


@functools.cache
def document() -> dict[str, object]:
    """Return the document at /openapi.json; made once."""
    paths: dict[str, dict[str, object]] = {}
    for route in TABLE:
        item = route.describe(route.errors)
        paths.setdefault(route.path, {}).update(item)
    return openapi.document(paths)


def _is_at(pattern: str, path: str) -> bool:
    """Return whether a path belongs to one of the table; the page's own files belong to the page."""
    if pattern == "/":
        return path in page.FILES
    stem, brace, _ = pattern.partition("{")
    return (len(path) > len(stem) and path.startswith(stem)) if brace else path == pattern


def _joined(first: dict[str, object], second: dict[str, object]) -> dict[str, object]:
    """Return what two forms say of one error, the first where they differ."""
    joined = {**second, **first}
    for name, value in second.items():
        other = first.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            joined[name] = {**value, **other}
    return joined


def _api_of(path: str) -> ErrorForm | None:
    for place, form in APIS:
        if path.startswith(place) if place.endswith("/") else path == place:
            return form
    return None
