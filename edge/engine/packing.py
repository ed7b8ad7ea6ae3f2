"""Packing a bundle's weights in a process of its own, and loading graphs packed where they are, as they are else."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge.bundle import bundle as bundle_files
from edge.bundle import packed
from edge.bundle.bundle import Bundle, SpeechBundle
from edge.bundle.manifest import Manifest
from edge.bundle.packed import Packed
from edge.bundle.packed_room import VARIABLE
from edge.engine import fit
from edge.engine.available import available_bytes, memory
from edge.engine.kv import GRAPHS, Kv, no_int8_cache
from edge.engine.processor import kernels
from edge.engine.session import build, clips, open_packed, open_session
from edge.errors import BundleError, EdgeError, MemoryExhausted

if TYPE_CHECKING:
    import onnxruntime as ort

Progress = Callable[[int, int], None]  # graphs packed, graphs in all

_KV: Final[Kv] = "fp32"  # of engines that know no other: those of speech bundles, too
_DATA: Final = "decoder.bin"  # the weights of both decoders

# Smaller bundles open in no time as they are: nothing is written for them unless asked.
MIN_BYTES: Final = 64 << 20

# Measured of bundles of a billion weights, in bytes of a graph's own: what packing takes of the disk (2.0 to 2.4), and
# of memory (1.0 to 1.6; 2.2 where weights are converted first).
_DISK_SHARE: Final = 2.5
_MEMORY_SHARE: Final = 1.7
_CONVERTED_SHARE: Final = 2.3
_READ_AHEAD_SHARE: Final = 1.5  # a file is read ahead where memory has room for so many of it
_PATIENCE_S: Final = 0.2  # between two looks whether packing was stopped
_REMOVING_S: Final = 10.0  # at most: what others have the disk do may come first
_OWN_BYTES: Final = 200 << 20  # of the process that packs, apart from weights

_HERE: Final = str(Path(__file__).parents[2])

_LOG = logging.getLogger("edge")


class Graphs:
    """The graphs of an open bundle, loaded packed where they are."""

    def __init__(self, bundle: Bundle | SpeechBundle, *, threads: int, kv: Kv = _KV) -> None:
        self._path = bundle.path
        self._threads = threads
        self.packed = find(bundle.path, kv=kv)

    def open(self, name: str) -> "ort.InferenceSession":
        """Load one of the bundle's graphs. Raises: BundleError naming the file, MemoryExhausted."""
        graph = None if self.packed is None else self.packed.graph(name)
        if self.packed is not None and graph is not None:
            self._read_ahead(self.packed.descriptors[graph.with_suffix(".bin").name])
            try:
                return open_packed(graph, threads=self._threads)
            except BundleError as error:
                _LOG.warning("packed weights are not used: %s", error)
        return open_session(self._path / name, threads=self._threads)

    def _read_ahead(self, descriptor: int) -> None:
        """Have the system read a file that is not in memory: from the disk it is there a quarter sooner."""
        if available_bytes() > _READ_AHEAD_SHARE * os.fstat(descriptor).st_size:
            with contextlib.suppress(OSError, AttributeError):  # not everywhere
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)


def environment(kv: Kv = _KV) -> dict[str, str]:
    """Return what decides how weights are packed, besides the bundle: processor, library, our options, the graph."""
    here = kernels()
    found = {
        "processor": " ".join((here.name, here.architecture, *here.features)),
        "onnxruntime": build(),
        "converted": str(clips()),
    }
    return found if kv == _KV else {**found, packed.KV: kv}


def find(bundle: Path, *, kv: Kv = _KV, is_used: bool = True) -> Packed | None:
    """Return the packed weights of the bundle in a folder that can be used here, None without. The caller closes them.

    kv: of the engine that they are for. is_used: they count as used now.
    Raises: ParameterError for a wrong EDGE_PACKED.
    """
    if not (packed.is_on() and packed.has(bundle)):
        return None
    return packed.find(bundle, environment(kv), is_used=is_used)


def is_packed(bundle: Path, *, kv: Kv = _KV) -> bool:
    """Return whether a bundle has packed weights for a kv. Raises: ParameterError for a wrong EDGE_PACKED."""
    found = find(bundle, kv=kv, is_used=False)
    if found is not None:
        found.close()
    return found is not None


def default_kv(bundle: Path) -> Kv:
    """Return how an engine keeps keys and values that is opened now and asked for nothing. Raises: BundleError."""
    manifest = bundle_files.checked(bundle)
    if not isinstance(manifest, Manifest):
        return _KV
    found, _ = fit.choose(
        manifest, kv=None, context=None, slots=1, here=memory(), is_packed=lambda kv: is_packed(bundle, kv=kv)
    )
    return found.kv


def is_worth_it(bundle: Path) -> bool:
    """Return whether a bundle is packed without being asked: it is large enough, and packing is on."""
    return packed.is_on() and not _is_for_gpus(bundle) and sum(_weights(bundle, _KV).values()) >= MIN_BYTES


class Background:
    """Packs a bundle that is loaded as it is, on what others leave of the CPUs, for its next load; ends when closed."""

    def __init__(self, bundle: Path, *, kv: Kv) -> None:
        self._bundle = bundle
        self._kv = kv
        self._stopped = threading.Event()
        self._writes = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-packing", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def close(self) -> None:
        """End it; nothing that is half done is left. Closing twice is fine.

        What is written already is waited for until it is removed: a program may end after this.
        """
        self._stopped.set()
        if self._writes.is_set():
            self._thread.join(_REMOVING_S)

    def _run(self) -> None:
        try:
            pack(
                self._bundle,
                kv=self._kv,
                progress=lambda *_: self._writes.set(),
                stopped=self._stopped,
                when_idle=True,
            )
        except EdgeError as error:
            if not self._stopped.is_set():
                _LOG.warning("the weights are not packed for the next load: %s", error)


def in_background(bundle: Path, *, kv: Kv = _KV) -> Background | None:
    """Begin to pack a bundle for a kv, if that is worth it and not done. Raises: ParameterError, BundleError."""
    if not is_worth_it(bundle) or is_packed(bundle, kv=kv):
        return None
    return Background(bundle, kv=kv)


def pack(
    bundle: Path,
    *,
    kv: Kv = _KV,
    progress: Progress | None = None,
    stopped: threading.Event | None = None,
    when_idle: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> bool:
    """Pack the weights of the bundle in a folder for this device, unless they are; return whether they are now.

    They are not where packing gains nothing. kv: of the engines that they are for; towers that are packed for the other
    kv are linked, not packed again. progress: told graphs done, and all. stopped: set, packing ends. when_idle: it
    takes the time that no other process wants. waiting: told before this waits for another process that packs.
    Raises: BundleError saying why they are not: the bundle is damaged, the disk is full or cannot be written,
    EDGE_PACKED is off; MemoryExhausted; ParameterError for a wrong EDGE_PACKED, and for a kv that the bundle has not.
    """
    if not packed.is_on():
        raise BundleError(f"packing is off: {VARIABLE}=off")
    if not sys.executable or getattr(sys, "frozen", False):  # it would be this program that is started again
        raise BundleError("packing needs a Python to run, which this program is not: pack with edge models pack")
    if _is_for_gpus(bundle):
        raise BundleError("its activations are float16, for GPUs: packing is for the CPU's kernels")
    weights = _weights(bundle, kv)
    n_needed = int(sum(weights.values()) * _DISK_SHARE)

    def make(folder: Path) -> list[str]:
        _check_memory(weights)
        linked = _linked(bundle, kv, sorted(weights), folder)
        graphs = sorted(weights.keys() - set(linked))
        return linked + _packed_by_child(bundle, graphs, folder, progress, stopped or threading.Event(), when_idle)

    manifest = bundle_files.checked(bundle)
    return packed.write(bundle, manifest.id, environment(kv), n_needed, make, waiting=waiting)


def _linked(bundle: Path, kv: Kv, graphs: list[str], folder: Path) -> list[str]:
    """Link what both kvs have in common from what was packed for the other; return the names of the files."""
    for other in GRAPHS:
        there = None if other == kv else find(bundle, kv=other, is_used=False)
        if there is not None:
            try:
                return packed.link(there, graphs, folder)
            except OSError:  # no links in this file system: packed again
                for path in folder.iterdir():
                    path.unlink()
            finally:
                there.close()
    return []


def _is_for_gpus(bundle: Path) -> bool:
    """Return whether a bundle computes in float16. Raises: BundleError."""
    manifest = bundle_files.checked(bundle)
    return isinstance(manifest, Manifest) and manifest.recipe.activations == "fp16"


def _weights(bundle: Path, kv: Kv) -> dict[str, int]:
    """Return the graphs of engines of a kv and the bytes of their weights. Raises: BundleError, ParameterError."""
    manifest = bundle_files.checked(bundle)
    files, others = manifest.files, {name for each, name in GRAPHS.items() if each != kv and name != GRAPHS[kv]}
    if kv != _KV and GRAPHS[kv] not in files:
        raise no_int8_cache(manifest.id)
    named = {GRAPHS[kv]: _DATA} | {f"{name.removesuffix('.bin')}.onnx": name for name in files if name.endswith(".bin")}
    return {graph: files[data].bytes for graph, data in named.items() if graph in files and graph not in others}


def _check_memory(weights: Mapping[str, int]) -> None:
    """Raises: MemoryExhausted where packing would take more than there is."""
    share = _CONVERTED_SHARE if clips() else _MEMORY_SHARE
    n_needed, n_free = int(max(weights.values(), default=0) * share) + _OWN_BYTES, available_bytes()
    if n_needed > n_free:
        found = f"packing takes {n_needed / 1e6:.0f} MB of memory, {n_free / 1e6:.0f} MB are available"
        raise MemoryExhausted(found)


def _packed_by_child(
    bundle: Path,
    graphs: list[str],
    folder: Path,
    progress: Progress | None,
    stopped: threading.Event,
    when_idle: bool,
) -> list[str]:
    """Have another process pack graphs into a folder; return the files to keep. Raises: BundleError."""
    path = os.pathsep.join([*(str(Path(entry).resolve()) for entry in sys.path if entry), _HERE])
    process = subprocess.Popen(
        [sys.executable, "-P", "-B", "-m", "edge.engine.packing_child", str(bundle), str(folder), *graphs],
        stdin=subprocess.PIPE,  # it ends with us
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    if when_idle:
        with contextlib.suppress(OSError, AttributeError):  # not everywhere
            os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
    with process:
        threading.Thread(target=_end_when, args=(stopped, process), name="edge-packing-end", daemon=True).start()
        try:
            return _kept(process, graphs, progress or _silent)
        finally:
            process.kill()


def _kept(process: "subprocess.Popen[bytes]", graphs: list[str], progress: Progress) -> list[str]:
    """Read what the process says of each graph; return the files of those that packing gains something for."""
    kept: list[str] = []
    for n_done, name in enumerate(graphs):
        progress(n_done, len(graphs))
        said = _line(process)
        if said.get("graph") != name:
            status = process.wait()
            way = "not enough memory or disk is the usual reason"
            raise BundleError(said.get("error") or f"{name} could not be packed (status {status}); {way}")
        if said["gains"]:
            kept += [name, f"{name.removesuffix('.onnx')}.bin"]
    progress(len(graphs), len(graphs))
    return kept


def _line(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Return what the process says next; nothing once it has ended."""
    line = b"" if process.stdout is None else process.stdout.readline()
    found: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
    return found


def _end_when(stopped: threading.Event, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        if stopped.wait(_PATIENCE_S):
            process.kill()
            return


def _silent(_done: int, _total: int) -> None:
    """Tell nobody."""
