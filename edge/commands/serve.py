"""edge serve: the chat interface over HTTP."""

import contextlib
import faulthandler
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.commands.choosing import tell_unusable
from edge.commands.console import KvOption, MemoryCheck, ModelName, ProvidersOption, Verify, fail
from edge.extras import missing

if TYPE_CHECKING:
    from edge.server.server import Settings, State
    from edge.service.watchdog import Beat


def serve(
    model: ModelName = None,
    verify: Verify = False,
    _memory_check: MemoryCheck = True,
    _providers: ProvidersOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to bind. Beyond loopback: needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port. 0 selects a free one.")] = 8000,
    alias: Annotated[
        list[str] | None, typer.Option("--alias", metavar="NAME=MODEL", help="A further model name. Repeatable.")
    ] = None,
    slots: Annotated[int | None, typer.Option("--slots", min=1, help="Requests decoded at the same time.")] = None,
    context: Annotated[
        int | None, typer.Option("--context", min=1, help="Context length of each slot, in tokens.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. Default: all.")] = None,
    kv: KvOption = None,
    media_folder: Annotated[
        Path | None, typer.Option("--media-folder", help="Folder whose files messages may name.")
    ] = None,
    allow_media: Annotated[
        list[str] | None, typer.Option("--allow-media", help="Host to fetch media from. Repeatable.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option("--allowed-host", help="A host name of this server. Repeatable.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", help="API key. It is visible in the process list.")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="File whose first line is the API key.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Private key, PEM.")] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", metavar="NAME=NUMBER", help="A limit of requests. Repeatable.")
    ] = None,
) -> None:
    """Serve the chat interface over HTTP. The API key is EDGE_API_KEY or --api-key-file."""
    try:
        from edge.server.server import serve as run
    except ModuleNotFoundError as error:
        fail(missing(error.name, need="edge serve"))
    from edge.server.logs import log_to_stderr
    from edge.service import notify
    from edge.service.watchdog import starting

    settings = settings_of(
        model=model, verify=verify, host=host, port=port, alias=alias, slots=slots, context=context, threads=threads,
        kv=kv, media_folder=media_folder, allow_media=allow_media, allowed_host=allowed_host, api_key=api_key,
        api_key_file=api_key_file, tls_cert=tls_cert, tls_key=tls_key, limit=limit,
    )  # fmt: skip
    log_to_stderr()
    faulthandler.enable()  # where a mapped weight file is cut, the process ends (SIGBUS): this says so

    served = _served(model, settings.aliases)
    known_as = f"{served}; {'no key is needed' if settings.key is None else 'a key is needed'}"
    told = _Told(served)
    with contextlib.ExitStack() as start:
        start.enter_context(starting(f"loading: {served}"))

        def ready(address: str, _: object) -> None:
            start.close()
            told.address = address
            _tell(address, known_as)

        run(settings, on_ready=ready, on_tick=told.tick, on_stop=notify.stopping)


class _Told:
    """What systemd is told of a server, where there is one that listens."""

    def __init__(self, served: str) -> None:
        from edge.service.watchdog import Watchdog

        self.address = ""
        self._served = served
        self._watchdog = Watchdog()

    def tick(self, look: "Callable[[], State]") -> None:
        """Say what is due; called by the server's event loop."""
        self._watchdog.beat(lambda: self._beat(look()))

    def _beat(self, state: "State") -> "Beat":
        from edge.service.watchdog import Beat

        asked = f"{state.n_running} running, {state.n_waiting} waiting" if state.n_running else "idle"
        return Beat(state.stalled_s, f"serving {self._served} at {self.address}: {asked}")


def settings_of(
    *,
    model: str | None,
    verify: bool,
    host: str,
    port: int,
    alias: list[str] | None,
    slots: int | None,
    context: int | None,
    threads: int | None,
    kv: str | None,
    media_folder: Path | None,
    allow_media: list[str] | None,
    allowed_host: list[str] | None,
    api_key: str | None,
    api_key_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    limit: list[str] | None,
) -> "Settings":
    """Return what the server is told, from the options of `edge serve`. Ends the command where one is wrong.

    Raises: ParameterError.
    """
    from edge.bundle.aliases import parse
    from edge.limits import Limits
    from edge.server.server import Settings

    if media_folder is not None and not media_folder.is_dir():
        fail(f"--media-folder {media_folder}: no such folder")
    return Settings(
        model=model,
        verify=verify,
        host=host,
        port=port,
        aliases=parse(",".join(alias or ()), field="--alias"),
        slots=slots,
        context=context,
        threads=threads,
        kv=kv,
        media_folder=media_folder,
        media_hosts=tuple(allow_media or ()),
        allowed_hosts=tuple(allowed_host or ()),
        key=_key(api_key, api_key_file),
        tls_cert=tls_cert,
        tls_key=tls_key,
        limits=Limits.of_this_machine().changed(limit or ()),
    )


def _tell(address: str, known_as: str) -> None:
    """Say where the server and its page are; a log on a disk that is full keeps nobody from serving."""
    with contextlib.suppress(OSError):
        print(f"edge: serving at {address} ({known_as}); the page: {address}", file=sys.stderr, flush=True)


def _served(name: str | None, aliases: Mapping[str, str]) -> str:
    """Return what the server answers with unless a request names another model.

    What cannot be used is said. Where it is all that was installed, and only its folder's name is wrong, nothing is
    served: the included bundle would answer in its place.
    """
    from edge.bundle import store
    from edge.models import find

    found, misnamed = store.bundles(), store.misnamed()
    stored = next(iter(found), None) if name is None else find(name, aliases)
    tell_unusable(used=None if stored is None else stored.path)
    if name is None and misnamed and all(each.embedded for each in found):
        fail(f"{misnamed[0].name} is the only bundle that was installed: see above; or name one with --model")
    return "no model is installed: edge models install DIR" if stored is None else f"model {stored.id}"


def _key(given: str | None, file: Path | None) -> str | None:
    """Return the key that the server asks for: the flag's, the file's first line, or EDGE_API_KEY; None without one."""
    if given is not None and file is not None:
        fail("--api-key and --api-key-file: expected one of them")
    key = os.environ.get("EDGE_API_KEY") if given is None else given
    if file is not None:
        try:
            key = file.read_text("utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            fail(f"--api-key-file {file}: {getattr(error, 'strerror', None) or 'not text'}")
    if key is None:
        return None
    if not (key and key.isascii() and key.isprintable()):
        fail("the key: expected printable ASCII characters, at least one")
    return key
