"""Ollama's lists of models: what is installed, what is loaded, what one of them is and can do, and what there is not.

Source: Ollama's API, "List Local Models", "Show Model Information", "List Running Models", "Version".
"""

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from edge.bundle.index import digest
from edge.bundle.manifest import MANIFEST, Manifest, TextSpec
from edge.bundle.store import Stored
from edge.chat import Chat
from edge.chat.messages import Problems, shown
from edge.chat.reasoning import reasons
from edge.chat.reply import refused
from edge.chat.request import NUMBERS
from edge.errors import BundleError, UnknownModelError
from edge.server.http import HttpRequest, HttpResponse, json_response
from edge.server.json_body import read_json
from edge.server.ollama import LATEST, OPTIONS, name_of
from edge.server.ollama_writer import LINES, line
from edge.server.route import Backend

Fields = dict[str, object]

VERSION = "0.12.11"  # of Ollama: the one whose API these routes follow, for clients that ask for a minimum
NEVER = "2318-01-01T00:00:00Z"  # when a loaded model is unloaded; Ollama says a year like this for keep_alive -1
# What clients look into for what a model reads; a bundle's prompt is no text, and is made by its own format.
TEMPLATE = "{{ .System }}{{ range .Tools }}{{ . }}{{ end }}{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ end }}"
ABSENT: Mapping[str, str] = {
    "/api/embed": "embeddings are not supported",
    "/api/embeddings": "embeddings are not supported",
    "/api/create": "models are not made over HTTP; edge-export makes one from a checkpoint",
    "/api/copy": "models are not copied; edge models alias set NAME=MODEL gives one a further name",
    "/api/delete": "models are not deleted over HTTP; edge models remove NAME deletes one",
    "/api/push": "models are not uploaded",
    "/api/blobs": "files are not uploaded",
    "/api/web_search": "there is no search offline",
    "/api/web_fetch": "there is no search offline",
    "/api/me": "there are no accounts",
    "/api/signout": "there are no accounts",
}


def is_client(headers: Mapping[str, str]) -> bool:
    """Tell Ollama's own clients, which ask at / whether the server runs, by the name that they give themselves."""
    return headers.get("user-agent", "").lower().startswith("ollama")


def say_running() -> HttpResponse:
    """Answer GET / as Ollama's clients read it."""
    return HttpResponse(200, (("content-type", "text/plain; charset=utf-8"),), b"Ollama is running")


def show_version(_: Backend, __: HttpRequest) -> HttpResponse:
    """Answer GET /api/version."""
    return json_response({"version": VERSION})


def list_models(backend: Backend, _: HttpRequest) -> HttpResponse:
    """Answer GET /api/tags: ids, the default first, then aliases, as Ollama lists copies of a model."""
    models = []
    for name, stored in backend.chat.models.named().items():
        with contextlib.suppress(OSError, BundleError):  # it is removed at this moment
            dated = {"size": stored.n_bytes, "modified_at": _modified_at(stored.path)}
            models.append({**_named(name, stored), **dated})
    return json_response({"models": models})


def list_running(backend: Backend, _: HttpRequest) -> HttpResponse:
    """Answer GET /api/ps."""
    models = []
    for running in backend.chat.models.running():
        held = {"size": running.n_bytes, "size_vram": 0, "context_length": running.context}
        with contextlib.suppress(OSError, BundleError):  # its files were removed: nothing is answered with it any more
            models.append({**_named(running.stored.id, running.stored), **held, "expires_at": NEVER})
    return json_response({"models": models})


def show_model(backend: Backend, request: HttpRequest) -> HttpResponse:
    """Answer POST /api/show. Raises: ApiError, UnknownModelError, as bundle."""
    stored = backend.chat.models.bundle(_read_name(backend.chat, request)[0])
    manifest = _manifest(stored)
    context = next((each.context for each in backend.chat.models.running() if each.stored.id == stored.id), None)
    defaults = {theirs: NUMBERS[ours].default for theirs, ours in OPTIONS.items() if ours in NUMBERS}
    return json_response(
        {
            "modelfile": f"FROM {stored.id}\n",
            "parameters": "\n".join(f"{name:30} {value}" for name, value in defaults.items()),
            "template": TEMPLATE,
            "license": "",
            "modified_at": _modified_at(stored.path),
            "details": _details(manifest),
            "model_info": _model_info(manifest, context),
            "capabilities": _capabilities(manifest),
        }
    )


def pull(backend: Backend, request: HttpRequest) -> HttpResponse:
    """Answer POST /api/pull: a model that is installed is there already, and none is downloaded. Raises: ApiError."""
    name, fields = _read_name(backend.chat, request)
    problems = Problems()
    stream = fields.get("stream")
    streams = stream is None or problems.flag(("body", "stream"), stream)
    problems.raise_any()
    try:
        backend.chat.models.bundle(name)
    except UnknownModelError as error:
        way = "models are not downloaded over HTTP: edge models pull ORG/NAME"
        raise refused(404, f"pull: model {shown(name)} not found, and {way}") from error
    done = {"status": "success"}
    return HttpResponse(200, (("content-type", LINES),), line(done)) if streams else json_response(done)


def _read_name(chat: Chat, request: HttpRequest) -> tuple[str, Fields]:
    """Return which model a body names, by either of two fields, and the body. Raises: ApiError."""
    fields = read_json(request.body, chat.limits)
    problems = Problems()
    field = "name" if fields.get("model") in (None, "") and fields.get("name") is not None else "model"
    name = fields.get(field)
    if not isinstance(name, str) or not name:
        problems.add(("body", field), f"expected a model's name, got {shown(name)}", "string_type")
    problems.raise_any()
    return name_of(chat, str(name)), fields


def _named(name: str, stored: Stored) -> Fields:
    """Return what both lists say of a bundle. Its digest is one of manifest and certificate."""
    name = name if ":" in name else f"{name}{LATEST}"
    return {"name": name, "model": name, "digest": digest(stored.path), "details": _details(_manifest(stored))}


def _manifest(stored: Stored) -> Manifest:
    """Return the manifest of a bundle that chats. Raises: TypeError for another."""
    if not isinstance(stored.manifest, Manifest):
        raise TypeError(f"{stored.id}: expected a chat bundle")
    return stored.manifest


def _modified_at(path: Path) -> str:
    changed = datetime.fromtimestamp((path / MANIFEST).stat().st_mtime, UTC)
    return changed.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _details(manifest: Manifest) -> Fields:
    return {
        "parent_model": "",
        "format": "onnx",
        "family": manifest.family,
        "families": [manifest.family],
        "parameter_size": _in_short(_n_decoder_weights(manifest.text)),
        "quantization_level": manifest.recipe.name,
    }


def _model_info(manifest: Manifest, context: int | None) -> Fields:
    """Return what a model is. context: positions of its conversations here, None for the model's own number."""
    text, family = manifest.text, manifest.family
    return {
        "general.architecture": family,
        "general.basename": manifest.id,
        f"{family}.context_length": context or text.context,
        f"{family}.embedding_length": text.hidden_size,
        f"{family}.block_count": text.n_layers,
        f"{family}.feed_forward_length": text.intermediate_size,
        f"{family}.attention.head_count": text.n_heads,
        f"{family}.attention.head_count_kv": text.n_kv_heads,
        f"{family}.vocab_size": text.vocab_size,
    }


def _capabilities(manifest: Manifest) -> list[str]:
    there = {"vision": manifest.vision is not None, "audio": manifest.audio is not None, "thinking": reasons(manifest)}
    return ["completion", "tools", *(name for name, is_there in there.items() if is_there)]


def _n_decoder_weights(text: TextSpec) -> int:
    """Return how many weights a decoder has, its table of embeddings once and norms left out."""
    attention = text.hidden_size * text.head_dim * 2 * (text.n_heads + text.n_kv_heads)
    return text.vocab_size * text.hidden_size + text.n_layers * (
        attention + 3 * text.hidden_size * text.intermediate_size
    )


def _in_short(n: int) -> str:
    """Return a number of weights as people say it: 7.1B, 360M, 1.2K."""
    for least, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if n >= least:
            return f"{n / least:.3g}{unit}"
    return str(n)
