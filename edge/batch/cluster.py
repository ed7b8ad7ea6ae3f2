"""The lines of a batch on a Ray cluster: Ray Data schedules, retries and holds back; an engine an actor answers."""

import contextlib
import hashlib
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.batch.asker import Asker, Settings
from edge.batch.lines import LineError, Record, Settled, refused
from edge.batch.sources import Entry, Source
from edge.batch.work import Tell
from edge.bundle.manifest import MANIFEST
from edge.bundle.store import Stored
from edge.errors import BundleError, EdgeError, ParameterError
from edge.models import find
from edge.version import RUNTIME_VERSION

if TYPE_CHECKING:
    from ray.data import Dataset

# Rows by their columns, as Ray Data passes them on.
Columns = Mapping[str, Any]

LOCAL = "local"

_CONNECT_S = 10.0
_N_READERS = 2
_ROWS_OF_A_READER = 16
_UNABLE = -1  # the index of a row that says why a node cannot answer


@dataclass(frozen=True)
class Reading:
    """Reads lines on the node that has the source's files."""

    source: Source

    def __call__(self, rows: Columns) -> Columns:
        """Return rows (index, number, line) for rows (index, and the fields of an entry)."""
        entries = [Entry(**values) for values in _rows(rows, _PLACE)]
        return {"index": rows["index"], "number": rows["number"], "line": [self._read(entry) for entry in entries]}

    def _read(self, entry: Entry) -> bytes:
        try:
            return b"+" + self.source.read(entry)
        except LineError as error:
            return b"-" + json.dumps(error.args).encode("ascii")


class Answering:
    """An engine on a node, in an actor. expected: the digest of its manifest, None for any; version: of the runtime."""

    def __init__(self, settings: Settings, settled: Settled, expected: str | None, version: str) -> None:
        self._unable, self._asker = "", None
        try:
            _check_node(settings, expected, version)
            self._asker = Asker.open(settings, settled)
        except EdgeError as error:
            self._unable = _on_this_node(error)

    def __call__(self, rows: Columns) -> Columns:
        """Return rows (index, and the fields of a record) for rows (index, number, line)."""
        answers = [self._answer(**values) for values in _rows(rows, ("index", "number", "line"))]
        columns: dict[str, list[object]] = {"index": [index for index, _ in answers]}
        return columns | {name: [getattr(record, name) for _, record in answers] for name in _RECORD}

    def _answer(self, index: int, number: int, line: bytes) -> tuple[int, Record]:
        if line[:1] == b"-":
            return index, refused(LineError(*json.loads(line[1:])), number)
        if self._asker is not None:
            try:
                return index, self._asker.record(number, line[1:])
            except EdgeError as error:
                self._unable = _on_this_node(error)
        return _UNABLE, Record("", None, self._unable.encode("utf-8", "replace"), is_answer=False, is_asked=False)


_PLACE = tuple(f.name for f in fields(Entry) if f.name not in ("id", "error"))
_RECORD = tuple(f.name for f in fields(Record))


class ClusterWork:
    """Lines asked on a cluster. address: of one that this machine is a node of, or LOCAL for one of this machine alone.

    Raises: ParameterError where there is none, or none of its nodes has the CPUs.
    """

    def __init__(
        self, entries: Sequence[Entry], source: Source, settings: Settings, settled: Settled, *, address: str
    ) -> None:
        self._entries = entries
        self._source = source
        self._settled = settled
        self._closed = False
        self._expected, name = _bundle(settings)
        _connect(address)
        try:
            threads, self._n_actors = _shares(settings.threads)
        except BaseException:
            _disconnect()
            raise
        self._settings = Settings(**{**vars(settings), "threads": threads, "model": name})

    def start(self, tell: Tell) -> None:
        """Begin, on a thread that waits for Ray."""
        threading.Thread(target=self._work, args=(tell,), name="edge-batch-ray", daemon=True).start()

    def finish(self) -> bool:
        """Take no further line; Ray has handed out many, so that they are not waited for."""
        return False

    def close(self) -> None:
        """End the actors, and leave the cluster."""
        self._closed = True
        _disconnect()

    def _work(self, tell: Tell) -> None:
        from ray.exceptions import RayError

        told: set[int] = set()  # what a lost node makes Ray answer again is written once
        try:
            for index, record in self._records():
                if index == _UNABLE:
                    raise BundleError(record.data.decode())
                if index not in told:
                    told.add(index)
                    tell((self._entries[index], record))
            if len(told) < len(self._entries):
                raise EdgeError(f"Ray ended with {len(self._entries) - len(told)} lines left: run it again")
            tell(None)
        except RayError as error:
            tell(EdgeError(f"Ray: {_last_line(error)}"))
        except Exception as error:  # it ends the run, and is raised there
            tell(error)

    def _records(self) -> Iterator[tuple[int, Record]]:
        for rows in self._answers().iter_batches(batch_size=None, prefetch_batches=0):
            for values in _rows(rows, ("index", *_RECORD)):
                yield values.pop("index"), Record(**values)

    def _answers(self) -> "Dataset":
        """Return the rows of all records, which Ray makes as they are asked for."""
        import ray.data
        from ray.data import ActorPoolStrategy, TaskPoolStrategy

        rows = [{"index": i, **{n: getattr(entry, n) for n in _PLACE}} for i, entry in enumerate(self._entries)]
        n_blocks = -(-len(rows) // _ROWS_OF_A_READER)
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        lines = ray.data.from_items(rows, override_num_blocks=n_blocks).map_batches(
            Reading(self._source).__call__,
            batch_size=1,
            compute=TaskPoolStrategy(size=_N_READERS),
            num_cpus=0,
            label_selector=here,
        )
        pool = ActorPoolStrategy(
            min_size=1,
            max_size=self._n_actors,
            initial_size=self._n_actors,
            max_concurrent_calls_per_actor=self._settings.n_slots,
            enable_true_multi_threading=True,
        )
        return lines.map_batches(
            Answering,
            fn_constructor_args=(self._settings, self._settled, self._expected, RUNTIME_VERSION),
            batch_size=1,
            compute=pool,
            num_cpus=self._settings.threads,
        )


def _bundle(settings: Settings) -> tuple[str | None, str | None]:
    """Return the digest of the manifest that each node must have, and the name of the bundle on every node.

    A folder stays one. Of what this machine has not, nothing is known. Raises: BundleError.
    """
    from edge.bundle import store
    from edge.errors import UnknownModelError

    if settings.model is None:
        stored = next(iter(store.bundles()), None)
        return (None if stored is None else _digest(stored), None)
    try:
        stored = find(settings.model, {})
    except UnknownModelError:
        return None, settings.model
    is_folder = stored.path.resolve() == Path(settings.model).expanduser().resolve()
    return _digest(stored), str(stored.path.resolve()) if is_folder else stored.id


def _digest(stored: Stored) -> str:
    return hashlib.sha256((stored.path / MANIFEST).read_bytes()).hexdigest()


def _check_node(settings: Settings, expected: str | None, version: str) -> None:
    """Find out that a node would answer otherwise than this machine. Raises: EdgeError."""
    if version != RUNTIME_VERSION:
        raise BundleError(f"expected version {version} of the runtime, as here, got {RUNTIME_VERSION}")
    found, _ = _bundle(settings)
    if expected is not None and found != expected:
        name = settings.model or "the default bundle"
        raise BundleError(f"{name}: expected the bundle that this machine has, got {'another' if found else 'none'}")


def _on_this_node(error: EdgeError) -> str:
    return f"node {socket.gethostname()}: {error}"


def _rows(columns: Columns, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield rows as Python's own values: Ray Data has numpy's."""
    for values in zip(*(columns[name] for name in names), strict=True):
        plain = (value.item() if hasattr(value, "item") else value for value in values)
        yield dict(zip(names, plain, strict=True))


def _connect(address: str) -> None:
    """Be part of a cluster, quietly. Raises: ParameterError where there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # once it is left, a cluster is not joined again
    import ray
    import ray.data

    _check_address(address)
    options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        raise _no_cluster(address, _last_line(error)) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a row a block: each answer arrives as soon as it is there


def _check_address(address: str) -> None:
    """Find out at once that nobody answers there: Ray takes minutes. Raises: ParameterError."""
    if "://" in address:
        what = f"--ray {address[:200]}: expected the address of a cluster that this machine is a node of, HOST:PORT"
        raise ParameterError(f"{what}, or {LOCAL}", field="ray")
    host, colon, port = address.rpartition(":")
    if not colon:  # LOCAL, or auto
        return
    if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise ParameterError(f"--ray {address[:200]}: expected HOST:PORT, or {LOCAL}", field="ray")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from error


def _no_cluster(address: str, reason: str) -> ParameterError:
    way = "ray start --head on one machine, ray start --address=HOST:PORT on the others"
    return ParameterError(f"--ray {address[:200]}: no cluster answers: {reason}; {way}; or --ray {LOCAL}", field="ray")


def _disconnect() -> None:
    import ray

    with contextlib.suppress(Exception):  # the cluster may be gone
        ray.shutdown()


def _shares(threads: int | None) -> tuple[int, int]:
    """Return the CPUs of an engine, as many as the smallest node has unless given, and how many engines that makes.

    Raises: ParameterError where no node has as many.
    """
    import ray

    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cpus = [n for n in cpus if n > 0]
    if not cpus:
        raise ParameterError("--ray: no node of the cluster has a CPU to give: ray start --num-cpus=N", field="ray")
    wanted = threads or min(cpus)
    n_engines = sum(n // wanted for n in cpus)
    if not n_engines:
        raise ParameterError(f"--threads {wanted}: expected at most the {max(cpus)} CPUs of a node", field="threads")
    return wanted, n_engines


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
