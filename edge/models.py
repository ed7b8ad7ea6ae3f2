"""Which engine answers to a model name: engines are opened once per bundle, shared, counted, and freed by the last."""

import contextlib
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.bundle import aliases as naming
from edge.bundle import choices, hub, packed, store
from edge.bundle.manifest import MANIFEST
from edge.bundle.store import Kind, Running, Stored
from edge.engine.engine import Engine
from edge.engine.kv import bytes_per_token, parse_kv
from edge.engine.packing import Background, in_background
from edge.engine.providers import Provider, chosen
from edge.errors import BundleError, EdgeError, EngineClosed, ParameterError, UnknownModelError
from edge.speech.speech_to_text import SpeechToText

# An engine's thread does not survive a fork: a child finds none under its own process id, and opens its own.
_Key = tuple[int, Path]  # process id, folder of the bundle

DEFAULT_SPEECH = "whisper-1"  # what OpenAI's clients call their speech-to-text model

_LOG = logging.getLogger("edge")

_SHARED: dict[_Key, "_Shared"] = {}


class _Shared:
    """One bundle's engine and its users; its settings are as asked for, None for the engine's own choice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.threads: int | None = None
        self.context: int | None = None
        self.slots: int | None = None
        self.kv: str | None = None
        self.providers: tuple[Provider, ...] | None = None
        self.users = 0
        self.verify = False
        self._closed = False
        self._verified = False
        self._engine: Engine | None = None
        self._refused: object = None  # the files as they were when they were last found damaged
        self._packing: Background | None = None
        self._opening = threading.Lock()

    def agree(self, wanted: Mapping[str, object]) -> None:
        """Settle the settings among the users, all or none. Raises: ParameterError when one differs."""
        chosen = {name: value for name, value in wanted.items() if value is not None}
        for name, value in chosen.items():
            settled = getattr(self, name)
            if settled is None and self._engine is not None:
                settled = getattr(self._engine, name)
            if settled is not None and value != settled:
                msg = f"{name}: {self.path.name} is open with {settled}; expected the same, got {value}"
                raise ParameterError(msg, field=name)
        for name, value in chosen.items():
            setattr(self, name, value)

    def engine(self) -> Engine:
        """Return the engine, opened by the first who asks. Raises: BundleError, EngineClosed."""
        with self._opening:
            if self._closed:
                raise EngineClosed("the client is closed")
            if self._engine is not None and self._engine.changed() is not None:
                self._drop_changed(self._engine)
            if self.verify and not self._verified:
                store.check(self.path)
                self._verified = True
            if self._engine is None:
                slots = 1 if self.slots is None else self.slots
                self._engine = Engine.open(
                    self.path,
                    threads=self.threads,
                    context=self.context,
                    slots=slots,
                    kv=self.kv,
                    providers=self.providers,
                )
                self._pack(self._engine)
            return self._engine

    def _pack(self, engine: Engine) -> None:
        """Have the weights packed for the next load, where they are not."""
        if self._packing is not None:
            self._packing.close()
        with contextlib.suppress(EdgeError):  # what cannot be packed is loaded as it is
            self._packing = in_background(self.path, kv=engine.kv)

    def changed(self) -> str | None:
        """Return what has changed on disk since the bundle was loaded, None for nothing."""
        engine = self._engine
        return None if engine is None else engine.changed()

    def _drop_changed(self, engine: Engine) -> None:
        """Close an engine whose files are others now, if every byte of them is right: so that they are loaded.

        Raises: BundleChanged; the same files are not read again to find that out.
        """
        files = engine.files_now()
        try:
            if files == self._refused:
                raise BundleError("known")
            store.check(self.path)
        except BundleError as error:
            self._refused = files
            _LOG.error("%s", error)
            engine.check_files()
        engine.close()
        self._engine, self._verified = None, True

    @property
    def loaded(self) -> Engine | None:
        """The engine if it is open already."""
        return self._engine

    def close(self) -> None:
        with self._opening:
            self._closed = True
            if self._packing is not None:
                self._packing.close()
            if self._engine is not None:
                self._engine.close()


class _Lock:
    """Guards the engines and their counts of users, and counts out who leaves.

    A client that is forgotten leaves at any moment, on any thread: in the middle of this lock's own work, too, which
    must neither wait for itself nor find the counts changed under its hands. So whoever leaves is counted out last.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._leaving: deque[dict[_Key, _Shared]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        is_outermost = self._depth == 1
        unused = self._count_out() if is_outermost else []
        self._depth -= 1
        self._lock.release()
        for shared in unused:  # outside the lock, as their workers have to end first
            shared.close()
        if is_outermost and self._leaving:  # between the counting and the release
            with self:
                pass

    def leave(self, held: dict[_Key, _Shared]) -> None:
        """Give up shares; engines without a user are closed."""
        with self:
            self._leaving.append(held)

    def _count_out(self) -> list[_Shared]:
        """Return the engines that nobody uses any more."""
        unused = []
        while self._leaving:
            held = self._leaving.popleft()
            for key, shared in held.items():
                shared.users -= 1
                if shared.users == 0:
                    del _SHARED[key]
                    if key[0] == os.getpid():
                        unused.append(shared)
            held.clear()
        return unused


_LOCK = _Lock()


class Models:
    """The models one client or server can chat with, and its share in the engines they run on.

    model: an id, an alias, or the folder of a bundle; it wins the names it shares with others. None: the default.
    aliases: further names, `{"reka-core": "reka-edge"}`. slots: conversations at a time. speech: an id, or the folder,
    of their speech-to-text model; None: the one that `edge models speech` sets for each.
    verify: read every byte of a bundle before it is loaded. providers: as for `Engine.open`.
    EDGE_ALIAS and `edge models alias` give further names. Raises: UnknownModelError, BundleError; ParameterError when a
    bundle is open with other settings, and for an EDGE_ALIAS that is not one.
    """

    def __init__(
        self,
        *,
        model: str | Path | None,
        aliases: Mapping[str, str],
        threads: int | None,
        context: int | None,
        slots: int | None = None,
        speech: str | Path | None = None,
        verify: bool = False,
        kv: str | None = None,
        providers: Sequence[str] | str | None = None,
    ) -> None:
        parse_kv(kv)
        self._providers = chosen(providers)
        naming.of_environment()  # one that is wrong is told now, and not to every request
        packed.is_on()
        self._aliases = dict(aliases)
        self._speech = None if speech is None else _speech_bundle(speech)
        self._speech_models: dict[Path, SpeechToText] = {}
        self._threads = threads
        self._context = context
        self._slots = slots
        self._kv = kv
        self._verify = verify
        self._closed = False
        self._held: dict[_Key, _Shared] = {}
        self._first = None if model is None else find(model, self._aliases)
        self._release = weakref.finalize(self, _LOCK.leave, self._held)
        default = self._first or next(iter(store.bundles()), None)
        if default is not None:
            self._hold(default)

    def __repr__(self) -> str:
        """What is loaded, else what would be; nothing is opened for it."""
        if self._closed:
            return "closed"
        loaded = [repr(shared.loaded) for shared in list(self._held.values()) if shared.loaded is not None]
        return ", ".join(loaded) or f"model={next(iter(self.ids()), None)!r}, not loaded yet"

    def ids(self) -> list[str]:
        """Return the ids of what is loaded or installed, the default first. Raises: EngineClosed."""
        return [stored.id for stored in self.bundles()]

    def bundles(self) -> list[Stored]:
        """Return what is loaded or installed, the default first. Raises: EngineClosed."""
        if self._closed:
            raise EngineClosed("the client is closed")
        found: dict[str, Stored] = {}
        for stored in [*([self._first] if self._first else []), *store.bundles()]:
            found.setdefault(stored.id, stored)
        return list(found.values())

    def named(self) -> dict[str, Stored]:
        """Return the bundle of every name that answers: ids, the default first, then aliases. Raises: EngineClosed."""
        found = {stored.id: stored for stored in self.bundles()}
        of_bundles = (alias for stored in [*found.values()] for alias in stored.names[1:])
        for name in (*of_bundles, *self._aliases, *naming.of_environment(), *choices.aliases()):
            if name not in found:
                with contextlib.suppress(UnknownModelError, BundleError):  # it stands for what is not here
                    found[name] = self.bundle(name)
        return found

    def bundle(self, name: str) -> Stored:
        """Return the bundle that answers to a name; nothing is opened. Raises: as engine."""
        if self._closed:
            raise EngineClosed("the client is closed")
        return store.resolve(name, aliases=self._aliases, first=self._first)

    def id_of(self, name: str) -> str:
        """Return the id of the bundle that answers to a name; nothing is opened. Raises: as engine."""
        return self.bundle(name).id

    def running(self) -> list[Running]:
        """Return what is loaded, the first that was loaded first."""
        found = []
        for shared in [*self._held.values()]:
            engine = shared.loaded
            if engine is not None:
                cache_bytes = bytes_per_token(engine.manifest.text, engine.kv) * engine.context * engine.slots
                n_bytes = engine.manifest.memory.weights_bytes + cache_bytes
                found.append(Running(Stored(shared.path, engine.manifest, False), engine.context, n_bytes))
        return found

    def engine(self, name: str) -> Engine:
        """Return the engine of the bundle that answers to a name, opened if need be.

        Raises: UnknownModelError with the way out, BundleError, EngineClosed.
        """
        stored = store.resolve(name, aliases=self._aliases, first=self._first)
        return self._hold(stored).engine()

    def speech_model(self, name: str) -> SpeechToText | None:
        """Return the speech-to-text model of a chat bundle, by the bundle's id; None without one."""
        speech_model = None if self._speech else store.speech_model(name)
        stored = self._speech or next((s for s in store.bundles("speech") if s.id == speech_model), None)
        return None if stored is None else self._speech_to_text(stored)

    def speech_to_text(self, name: str) -> SpeechToText:
        """Return the speech-to-text model of a name; it is opened with its first audio.

        name: of a speech bundle; of a chat bundle that has one; or DEFAULT_SPEECH, for that of the default bundle, else
        the first one installed. Raises: UnknownModelError with the way out, BundleError, EngineClosed.
        """
        if self._closed:
            raise EngineClosed("the client is closed")
        try:
            return self._speech_to_text(store.resolve(name, aliases=self._aliases, first=self._speech, kind="speech"))
        except UnknownModelError as error:
            found = self._default_speech() if name == DEFAULT_SPEECH else self._speech_of(name)
            if found is None:
                raise error
            return found

    def _default_speech(self) -> SpeechToText | None:
        chat = self._first or next(iter(store.bundles()), None)
        found = None if chat is None else self.speech_model(chat.id)
        stored = next(iter(store.bundles("speech")), None)
        return found or (None if stored is None else self._speech_to_text(stored))

    def _speech_of(self, name: str) -> SpeechToText | None:
        """Return the speech-to-text model of the chat bundle with this name. Raises: UnknownModelError without one."""
        try:
            chat = store.resolve(name, aliases=self._aliases, first=self._first)
        except UnknownModelError:
            return None
        found = self.speech_model(chat.id)
        if found is None:
            msg = f"{chat.id} has no speech-to-text model: edge models speech {chat.id} SPEECH-BUNDLE"
            raise UnknownModelError(msg, name=name)
        return found

    def _speech_to_text(self, stored: Stored) -> SpeechToText:
        if self._verify and stored.path not in self._speech_models:
            store.check(stored.path)
        with _LOCK:
            made = SpeechToText(stored.path, threads=self._threads, providers=self._providers)
            return self._speech_models.setdefault(stored.path, made)

    def changed(self) -> str | None:
        """Return what has changed on disk of a bundle that is loaded, so that it is not used; None for nothing."""
        return next((reason for shared in [*self._held.values()] if (reason := shared.changed())), None)

    def stalled_s(self) -> float:
        """Return the most seconds in which an engine's work has not moved on, as `Engine.stalled_s`."""
        engines = [shared.loaded for shared in [*self._held.values()]]
        return max((engine.stalled_s() for engine in engines if engine is not None), default=0.0)

    def close(self) -> None:
        """Give up the share in every engine; the last user's leaving closes it."""
        with _LOCK:
            self._closed = True
        self._release()

    def _hold(self, stored: Stored) -> _Shared:
        key = (os.getpid(), stored.path.resolve())
        with _LOCK:
            if self._closed:
                raise EngineClosed("the client is closed")
            if key not in self._held:
                shared = _SHARED.get(key) or _Shared(key[1])
                shared.verify = shared.verify or self._verify
                shared.agree(
                    {
                        "threads": self._threads,
                        "context": self._context,
                        "slots": self._slots,
                        "kv": self._kv,
                        "providers": self._providers,
                    }
                )
                _SHARED[key] = self._held[key] = shared
                shared.users += 1
            return self._held[key]


def _speech_bundle(name: str | Path) -> Stored:
    stored = find(name, {}, kind="speech")
    if stored.kind != "speech":
        raise BundleError(f"{stored.id}: expected a speech bundle, got a chat bundle")
    return stored


def find(model: str | Path, aliases: Mapping[str, str], *, kind: Kind | None = "chat") -> Stored:
    """Return the bundle of a folder, an id, an alias or a hub's repository that it was exported from.

    A plain name is a folder only when nothing else has it, ORG/NAME a repository only when there is no such folder.

    kind: of the bundle that a name stands for, None for either. Raises: UnknownModelError, BundleError.
    """
    if isinstance(model, Path) or (_is_path(model) and (hub.named(model) is None or Path(model).exists())):
        return store.at(Path(model))
    try:
        return store.resolve(model, aliases=aliases, first=None, kind=kind)
    except UnknownModelError:
        # A checkpoint's folder is told from a bundle's there.
        if any((Path(model) / name).is_file() for name in (MANIFEST, "config.json")):
            return store.at(Path(model))
        raise


def _is_path(model: str) -> bool:
    return "/" in model or model.startswith((".", "~"))
