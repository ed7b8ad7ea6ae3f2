"""An engine without a model: it answers with fixed words, in a thread, and remembers what it was asked."""

import threading
from collections.abc import Sequence
from pathlib import Path

from edge.bundle.manifest import Manifest, MemorySpec, PromptSpec, RecipeRecord, Source, TextSpec, VisionSpec
from edge.bundle.store import Running, Stored
from edge.engine.answer import Options
from edge.engine.handle import Handle, Progress
from edge.engine.pieces import Piece
from edge.errors import EdgeError, EngineClosed

CONTROL = (
    "<sep>", "<image>", "</image>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<video>",
    "</video>",
)  # fmt: skip
BUNDLE = Path(__file__).parents[2] / "models" / "reka-edge-tiny"  # for who looks at the files of a bundle
WORDS = ("Three", " red", " circles", ".")


def manifest(bundle_id: str = "a-model", *aliases: str, vision: bool = True) -> Manifest:
    return Manifest(
        format=1,
        id=bundle_id,
        aliases=aliases,
        family="yasa2" if vision else "yasa",
        min_runtime="0.1.0",
        source=Source("Yasa2ForConditionalGeneration", {}, (), ()),
        recipe=RecipeRecord("fp32", {}),
        text=TextSpec(8, 1, 2, 1, 4, 16, 32, 64, 1.0, 10000.0, 1e-5, 1.0, "fp32"),
        vision=VisionSpec(64, 8, 4, 4, "bilinear", (0.5,) * 3, (0.5,) * 3, 0.875, "cells-first", 6) if vision else None,
        audio=None,
        prompt=PromptSpec("yasa", "B", {name: 20 + i for i, name in enumerate(CONTROL)}, (20,), ()),
        memory=MemorySpec(6000, 32),
        files={},
    )


class FakeEngine:
    """Answers with `words`, one a step; after `n_free` of them a step waits for `gate`; `error` comes after a word."""

    opened: "list[FakeEngine]"

    def __init__(self, spec: Manifest, *, words: Sequence[str] = WORDS, error: EdgeError | None = None) -> None:
        self.manifest = spec
        self.words = tuple(words)
        self.error = error
        self.gate = threading.Event()
        self.gate.set()
        self.n_free = 0
        self.threads, self.context, self.kv = 2, 64, "fp32"
        self.providers: tuple[str, ...] = ("cpu",)
        self.asked: list[tuple[list[Piece], Options]] = []
        self.handles: list[Handle] = []
        self.cancelled: list[Handle] = []
        self.closed = False

    def changed(self) -> str | None:
        return None

    def stalled_s(self) -> float:
        return 0.0

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        threads: int | None = None,
        context: int | None = None,
        slots: int = 1,
        kv: str | None = None,
        providers: tuple[str, ...] | None = None,
    ) -> "FakeEngine":
        engine = cls(manifest(path.name))
        engine.providers = providers or ("cpu",)
        engine.threads, engine.context = threads or engine.threads, context or engine.context
        cls.opened.append(engine)
        return engine

    def stream(self, prompt: Sequence[Piece], options: Options) -> Handle:
        if self.closed:
            raise EngineClosed("the engine was closed")
        self.asked.append((list(prompt), options))
        handle = Handle(Progress("", len(prompt), 0, None), self.cancelled.append)
        self.handles.append(handle)
        threading.Thread(target=self._answer, args=(handle, len(prompt), options.max_tokens)).start()
        return handle

    def count(self, prompt: Sequence[Piece]) -> int:
        return len(prompt)

    @property
    def tokenizer(self) -> "FakeEngine":
        return self

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def close(self) -> None:
        self.closed = True
        self.gate.set()
        for handle in self.handles:
            handle.fail(EngineClosed("the engine was closed"))

    def _answer(self, handle: Handle, n_input: int, max_tokens: int) -> None:
        text = ""
        for n_output, word in enumerate(self.words, 1):
            if n_output > self.n_free:
                self.gate.wait(60)
            if handle.cancelled:
                return
            text += word
            cut = n_output == max_tokens < len(self.words)
            last = "stop" if n_output == len(self.words) else "length" if cut else None
            handle.put(Progress(text, n_input, n_output, last))  # type: ignore[arg-type]
            if self.error is not None:
                handle.fail(self.error)
            if last is not None or self.error is not None:
                return


class OneEngine:
    """The models of a chat that has this engine for every name."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def ids(self) -> list[str]:
        return [self._engine.manifest.id]

    def engine(self, name: str) -> FakeEngine:
        return self._engine

    def id_of(self, name: str) -> str:
        return self._engine.manifest.id

    def named(self) -> dict[str, Stored]:
        return {self._engine.manifest.id: self.bundle("")}

    def bundle(self, name: str) -> Stored:
        return Stored(BUNDLE, self._engine.manifest, embedded=False)

    def running(self) -> list[Running]:
        return [Running(self.bundle(""), self._engine.context, 1)]

    def speech_model(self, name: str) -> None:
        return None

    def changed(self) -> None:
        return None

    def stalled_s(self) -> float:
        return self._engine.stalled_s()

    def close(self) -> None:
        self._engine.close()
