"""onnxruntime sessions, the threads they may use, and its failures in our words."""

import contextlib
import ctypes
import importlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from edge.bundle import onnx_check
from edge.errors import BundleError, EdgeError, MemoryExhausted, ParameterError, RuntimeFailure

if TYPE_CHECKING:  # onnxruntime is slow to import: whoever only reads manifests should not wait for it
    import onnxruntime as ort

Shape = tuple[int | None, ...]  # None: a dimension that varies

_CPU: tuple[tuple[str, dict[str, str]], ...] = (("CPUExecutionProvider", {}),)
_SILENT = 4
# Most of the speed of spinning at a fifth of its idle CPU.
_SPIN_US = 1000
# The largest that the exporter writes are the scales of a head, made float32: 51 MB for 100 352 rows in blocks of 32.
# A few bytes of another graph may fold to gigabytes.
_MAX_FOLDED_BYTES = 64 << 20
_SHARES_PAST = (1, 31)
_MIN_EXTERNAL_BYTES = 1024  # smaller tensors stay in a graph that is saved
_OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate", "failed to allocate", "bad allocation", "Out of memory")
_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/proc/cpuinfo")


def thread_count(threads: int | None) -> int:
    """Return the threads to compute with: as many as asked for, else one per CPU this process may use.

    Raises: ParameterError.
    """
    if threads is not None and threads < 1:
        raise ParameterError(f"threads: expected an integer >= 1, got {threads!r:.200}", field="threads")
    if threads is not None:
        return threads
    try:
        n_cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        n_cpus = os.cpu_count() or 1
    return max(1, min(n_cpus, _cpu_quota()))


def open_session(path: Path, *, threads: int) -> "ort.InferenceSession":
    """Load a graph and the weights beside it, on the CPU. Raises: BundleError naming the file, MemoryExhausted."""
    onnx_check.check(path)
    return _session(path, _options(threads, clips()))


def open_on(path: Path, *, threads: int, providers: "Sequence[tuple[str, dict[str, str]]]") -> "ort.InferenceSession":
    """Load a graph on other providers than the CPU, by onnxruntime's names, the first of which must be in it.

    Raises: RuntimeFailure where onnxruntime leaves the first one out, with what its library lacks; BundleError,
    MemoryExhausted.
    """
    onnx_check.check(path)
    wanted = providers[0][0]
    lacks = missing_library(wanted)  # onnxruntime would say so in its own log, and go on without
    if lacks is not None:
        raise RuntimeFailure(lacks)
    session = _session(path, _options(threads, clips()), providers)
    found = session.get_providers()
    if wanted not in found:
        raise RuntimeFailure(f"onnxruntime does not start it, and uses {', '.join(found)}")
    return session


def available_providers() -> list[str]:
    """Return the providers that this onnxruntime was built with, by its own names."""
    found: list[str] = _onnxruntime().get_available_providers()
    return found


def open_packed(path: Path, *, threads: int) -> "ort.InferenceSession":
    """Load a graph that `save_packed` wrote, its weights mapped as they are packed. Raises: as open_session.

    It is onnxruntime's own output, which `onnx_check` does not know: the caller knows whose it is. Every weight is
    packed once more, to be compared with what is mapped, and only one that differs stays in memory.
    """
    options = _options(threads, clips())
    options.graph_optimization_level = _onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL  # it was optimized
    return _session(path, options)


def save_packed(path: Path, out: Path, *, threads: int) -> "ort.InferenceSession":
    """Load a graph as `open_session` does, and write it with its weights as they are packed here: OUT.onnx, OUT.bin.

    Raises: as open_session.
    """
    onnx_check.check(path)
    options = _options(threads, clips())
    options.optimized_model_filepath = str(out)
    entries = {
        "session.optimized_model_external_initializers_file_name": out.with_suffix(".bin").name,
        "session.optimized_model_external_initializers_min_size_in_bytes": str(_MIN_EXTERNAL_BYTES),
        "session.save_external_prepacked_constant_initializers": "1",
    }
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return _session(path, options)


def build() -> str:
    """Return the version of onnxruntime and what it was built from."""
    ort = _onnxruntime()
    return f"{ort.__version__} {ort.get_build_info()}"


def clips() -> bool:
    """Return whether the fast sums of 8-bit products are none to rely on here, so that weights are converted."""
    return not _has_vnni()


def _session(
    path: Path, options: "ort.SessionOptions", providers: "Sequence[tuple[str, dict[str, str]]]" = _CPU
) -> "ort.InferenceSession":
    ort = _onnxruntime()
    try:
        # Without its own way back, which prints.
        session = ort.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
    except Exception as error:
        failure = failure_of(error)
        if isinstance(failure, MemoryExhausted):
            raise failure from error
        raise BundleError(f"{path}: onnxruntime {ort.__version__} cannot load it: {str(error)[:300]}") from error
    give_back()
    return session


def missing_library(provider: str) -> str | None:
    """Return what the library of a provider lacks, such as "libcudnn.so.9: cannot open shared object file"."""
    folder = Path(str(_onnxruntime().__file__)).parent / "capi"
    name = provider.removesuffix("ExecutionProvider").lower()
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"))
    except OSError as error:
        return str(error)
    return None


def open_bytes(graph: bytes, *, threads: int) -> "ort.InferenceSession":
    """Load a graph of our own making, weights included, with the options of bundles'."""
    ort = _onnxruntime()
    return ort.InferenceSession(graph, _options(threads, clips()), providers=["CPUExecutionProvider"])


def check_shapes(
    session: "ort.InferenceSession", *, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], file: str
) -> None:
    """Compare a graph's inputs, and some of its outputs, with what the manifest makes of them.

    Raises: BundleError naming the input or output.
    """
    takes = {each.name: each.shape for each in session.get_inputs()}
    gives = {each.name: each.shape for each in session.get_outputs()}
    for name in takes.keys() - inputs.keys():
        raise BundleError(f"{file}: input {name!r:.100} is not known")
    for found, wanted in ((takes, inputs), (gives, outputs)):
        for name, shape in wanted.items():
            got = tuple(size if isinstance(size, int) else None for size in found[name]) if name in found else "nothing"
            if got != shape:
                raise BundleError(f"{file}: {name}: expected the shape {shape} by the manifest, got {got}")


def can_share_past(n_heads: int) -> bool:
    """Tell whether rows of a batch may have the same past: attention writes all their keys and values before it reads.

    Source: gqa_attention_base.h of onnxruntime, ApplyAttentionFlash. With more threads than heads it would add up in
    another order for a row alone.
    """
    ort = _onnxruntime()
    version = tuple(int(number) for number in ort.__version__.split(".")[:2])
    is_off = os.environ.get("ORT_GQA_DISABLE_FLASH_ATTENTION", "0").lower() not in ("", "0", "false")
    return version >= _SHARES_PAST and not is_off and n_heads >= (os.cpu_count() or 1)


def run_options() -> "ort.RunOptions":
    """Return the options of one run; setting their `terminate` ends the run at its next node."""
    ort = _onnxruntime()

    options = ort.RunOptions()
    options.log_severity_level = _SILENT
    return options


def shrink(options: "ort.RunOptions") -> None:
    """Have a run give memory that its activations took back to the system at its end: for the last of several."""
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")


def failure_of(error: BaseException) -> EdgeError:
    """Say in our words what went wrong while computing; errors of ours stay as they are."""
    if isinstance(error, EdgeError):
        return error
    if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        return MemoryExhausted("not enough memory for this request; it was given up and what it held is freed")
    return RuntimeFailure(f"the model could not be run ({type(error).__name__})")


def _options(threads: int, converts: bool) -> "ort.SessionOptions":
    """Return the options of a session. converts: the CPU's fast sums of 8-bit products are none to rely on."""
    options = _onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    # Row counts change from run to run: remembered allocation patterns would pile up and never fit.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
    # Weights are packed by all threads, in half the time; those that are mapped are let go at the end, not one by one.
    options.add_session_config_entry("session.prepack.enable_parallel", "1")
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(_MAX_FOLDED_BYTES))
    if converts:
        # x86 without VNNI adds pairs of products of uint8 and int8 in 16 bits, where they are clipped: 8-bit layers are
        # off by 1 % to 50 %. This has the weights made uint8 as they are loaded, whose sums are exact and about a
        # quarter slower. It would cost CPUs with VNNI their fast sums too, so it is not for all; ARM ignores it.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _has_vnni() -> bool:
    """Tell whether this is an x86 that adds products of 8-bit numbers in 32 bits; not where nobody can say."""
    try:
        lines = _CPUS.read_text("ascii", "replace").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    # Of a CPU with both, onnxruntime takes the sums in 512 bits.
    return ("avx512_vnni" if "avx512f" in flags else "avx_vnni") in flags


def give_back() -> None:
    """Return freed memory to the system: of converted and packed weights, glibc keeps up to as much as the model."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off: it would keep a database in the home folder and send it away."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, when the library is loaded
    ort = importlib.import_module("onnxruntime")
    ort.disable_telemetry_events()  # where the program had loaded it before
    return ort


def _cpu_quota() -> int:
    """Return the CPUs a control group grants, rounded up; many when it sets no limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return 1 << 16
