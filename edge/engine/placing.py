"""A bundle's graphs, each opened on the first provider that computes there what the CPU does."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.arrays import F32
from edge.engine.available import available_bytes
from edge.engine.built import Built
from edge.engine.packing import Graphs
from edge.engine.providers import DEFAULT, WORDS, Placed, Provider, chain, options_of, placement
from edge.engine.self_test import problem
from edge.engine.session import open_on
from edge.errors import ParameterError, RuntimeFailure

if TYPE_CHECKING:
    import onnxruntime as ort

# Computes a graph's fixed input. The second value: where keys and values are, None for memory of the process.
Probe = Callable[["ort.InferenceSession", str | None], F32]

_DEVICES: Final[dict[Provider, str]] = {"cuda": "cuda"}  # that keep a decoder's keys and values in their own memory
_CPU_SHARE: Final = 2.5  # of a graph's weights: the memory of a session on the CPU
_HELP: Final = "edge doctor says what is there, docs/jetson.md what belongs together"

_LOG = logging.getLogger("edge.providers")


class Placing:
    """Opens graphs where they may run. `where` says on which provider each is that is open.

    providers: that may be used; without the CPU among them, a graph that runs on none is an error.
    """

    def __init__(
        self, graphs: Graphs, manifest: Placed, path: Path, *, threads: int, providers: Sequence[Provider]
    ) -> None:
        self.where: dict[str, Provider] = {}
        self._graphs = graphs
        self._manifest = manifest
        self._path = path
        self._threads = threads
        self._providers = tuple(providers)
        self._built: Built | None = None

    def open(self, graph: str, probe: Probe) -> "ort.InferenceSession":
        """Open a graph; on another provider than the CPU it is computed once, and compared with what the CPU gives.

        Where that fails, one sentence says so, and the next provider is tried, at last the CPU.
        Raises: BundleError, MemoryExhausted; RuntimeFailure and ParameterError where the CPU is none of the providers.
        """
        if self._providers == DEFAULT:
            return self._on_cpu(graph)
        may = placement(graph, self._manifest, self._providers)
        if not may.falls_back and not may.providers:
            raise ParameterError(f"providers: {'; '.join(may.refused)}; or add cpu", field="providers")
        for at, provider in enumerate(may.providers):
            try:
                return self._on(graph, provider, probe)
            except Exception as error:  # onnxruntime's own are of no kind
                last = at + 1 == len(may.providers)
                failed = f"{graph} does not run on {WORDS[provider]}: {_line(error)}"
                if last and not may.falls_back:
                    raise RuntimeFailure(
                        f"{failed}; {_HELP}; with cpu among the providers the CPU computes it"
                    ) from error
                then = "the CPU computes it" if last else f"{WORDS[may.providers[at + 1]]} is tried next"
                _LOG.warning("%s; %s; %s", failed, then, _HELP)
        if not may.providers:
            _LOG.warning("%s runs on the CPU. %s", graph, "; ".join(may.refused))
        return self._on_cpu(graph)

    def device(self, graph: str) -> str | None:
        """Return where the keys and values of a decoder that is open are, None for memory of the process."""
        return _DEVICES.get(self.where[graph])

    def _on_cpu(self, graph: str) -> "ort.InferenceSession":
        session = self._graphs.open(graph)
        self.where[graph] = "cpu"
        return session

    def _on(self, graph: str, provider: Provider, probe: Probe) -> "ort.InferenceSession":
        """Open a graph on a provider. Raises: EdgeError where it cannot be, or computes something else."""
        if self._built is None:
            self._built = Built(self._path)
        wanted = self._expected(graph, probe, self._built)
        engines = None if self._built.folder is None else str(self._built.folder)
        given = chain(provider, self._providers, options_of(graph, self._manifest, engines=engines))
        session = open_on(self._path / graph, threads=self._threads, providers=given)
        found = probe(session, _DEVICES.get(provider))
        wrong = problem(found, found if wanted is None else wanted)
        if wrong is not None:
            raise RuntimeFailure(wrong)
        told = "as the CPU computes it" if wanted is not None else "not compared with the CPU"
        _LOG.info("%s runs on %s, %s", graph, WORDS[provider], told)
        self.where[graph] = provider
        return session

    def _expected(self, graph: str, probe: Probe, built: Built) -> F32 | None:
        """Return what the CPU gives: as it was kept, else computed now, before the memory is wanted elsewhere.

        None where the memory for that is not there.
        """
        found = built.result(graph)
        if found is None:
            n_needed = int(self._manifest.files[f"{graph.removesuffix('.onnx')}.bin"].bytes * _CPU_SHARE)
            if n_needed > available_bytes():
                told = f"{n_needed / 1e6:.0f} MB of memory for that are not available"
                _LOG.warning("%s is not compared with what the CPU computes: %s", graph, told)
                return None
            found = probe(self._graphs.open(graph), None)
            built.keep(graph, found)
        return found


def _line(error: BaseException) -> str:
    """Return an error in one line, without the path of a source file that onnxruntime begins with."""
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
