"""Graphs on other providers: opened, tested against the CPU, and given back to it where something is wrong.

This machine has no GPU: sessions of the CPU stand in for those of a provider, with what would go wrong on one.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge.arrays import F32
from edge.client import Reka
from edge.engine import golden, packing, placing, providers, self_test
from edge.engine.built import Built
from edge.engine.engine import Engine
from edge.engine.session import open_session
from edge.errors import BundleError, MemoryExhausted, ParameterError, RuntimeFailure
from edge.speech.transcriber import Speech
from tests.conftest import BundleOf

if TYPE_CHECKING:
    import onnxruntime as ort

PROMPT = [5, 9, 40, 77, 3, 8, 8, 2]


@pytest.fixture(scope="module")
def half(tiny_checkpoint: Path, bundle_of: BundleOf) -> Path:
    return bundle_of(tiny_checkpoint, "fp16")


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where what is kept of a device goes; onnxruntime has every provider, whose device is the CPU's memory."""
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path))
    monkeypatch.setattr(providers, "available", lambda: [*providers.ORT_NAMES.values()])
    monkeypatch.setattr(placing, "_DEVICES", {"cuda": "cpu"})
    return tmp_path / ".engines"


class Wrong:
    """A session whose results are changed on their way out."""

    def __init__(self, session: "ort.InferenceSession", change: Callable[[F32], F32]) -> None:
        self._session = session
        self._change = change

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever a session has)
        return getattr(self._session, name)

    def run(self, *given: object) -> list[F32]:
        return [self._change(each) for each in self._session.run(*given)]


def stands_in(
    monkeypatch: pytest.MonkeyPatch, *, change: Callable[[F32], F32] | None = None, fails: Exception | None = None
) -> list[list[str]]:
    """Have sessions of the CPU opened for providers; returns the names that each was to be opened with."""
    opened: list[list[str]] = []

    def open_on(path: Path, *, threads: int, providers: list[tuple[str, dict[str, str]]]) -> object:
        opened.append([path.name, *(name for name, _ in providers)])
        if fails is not None:
            raise fails
        session = open_session(path, threads=threads)
        return session if change is None else Wrong(session, change)

    monkeypatch.setattr(placing, "open_on", open_on)
    return opened


def answer(engine: Engine) -> list[int]:
    return list(engine.generate(PROMPT, max_tokens=10, stop_ids=()))


def test_each_graph_runs_where_it_may_with_the_cpus_results(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine.open(half, context=128) as engine:
        tokens, embeddings = answer(engine), engine.encode_image(golden.test_image(300, 200))
        assert engine.where == {"decoder.onnx": "cpu", "vision.onnx": "cpu"}
    opened = stands_in(monkeypatch)
    with Engine.open(half, context=128, providers=["cuda", "tensorrt", "cpu"]) as engine:
        assert answer(engine) == tokens
        assert np.array_equal(engine.encode_image(golden.test_image(300, 200)), embeddings)
        assert engine.where == {"decoder.onnx": "cuda", "vision.onnx": "tensorrt"}
        assert engine.providers == ("cuda", "tensorrt", "cpu")
    assert opened == [
        ["decoder.onnx", "CUDAExecutionProvider", "CPUExecutionProvider"],
        ["vision.onnx", "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    ]


def test_nothing_is_tested_for_the_cpu(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> F32:
        raise AssertionError

    monkeypatch.setattr(self_test, "logits", never)
    monkeypatch.setattr(self_test, "tower_output", never)
    with Engine.open(half, context=128) as engine:
        engine.open_towers()
        answer(engine)


def test_several_conversations_run_with_their_keys_on_a_device(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_in(monkeypatch)
    with Engine.open(half, context=128) as engine:
        wanted = answer(engine)
    with Engine.open(half, context=128, slots=3, providers="cuda,cpu") as engine:
        streams = [engine.generate(PROMPT, max_tokens=10, stop_ids=()) for _ in range(3)]
        tokens: list[list[int]] = [[], [], []]
        for _ in range(10):
            for stream, found in zip(streams, tokens, strict=True):
                found.append(next(stream))
        assert tokens == [wanted] * 3
        assert engine.where["decoder.onnx"] == "cuda"


WRONG: list[tuple[Callable[[F32], F32], str]] = [
    (lambda rows: rows * np.float32(1.3), "away from the CPU's"),
    (lambda rows: np.roll(rows, 1, axis=-1), "away from the CPU's"),
    (lambda rows: np.full_like(rows, np.nan), "not finite"),
    (lambda rows: rows[..., :-1], "shape"),
]


@pytest.mark.parametrize(("change", "told"), WRONG)
def test_a_provider_that_computes_something_else_is_left_for_the_next(
    half: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[F32], F32],
    told: str,
) -> None:
    with Engine.open(half, context=128) as engine:
        wanted = engine.encode_image(golden.test_image(300, 200))
    opened = stands_in(monkeypatch, change=change)
    with caplog.at_level(logging.WARNING, "edge"), Engine.open(half, context=128, providers="openvino,cpu") as engine:
        assert np.array_equal(engine.encode_image(golden.test_image(300, 200)), wanted)
        assert engine.where == {"decoder.onnx": "cpu", "vision.onnx": "cpu"}
    assert opened == [["vision.onnx", "OpenVINOExecutionProvider", "CPUExecutionProvider"]]
    (sentence,) = [each for each in caplog.messages if each.startswith("vision.onnx does not run on OpenVINO: ")]
    assert told in sentence and "the CPU computes it" in sentence and "docs/jetson.md" in sentence


def test_results_that_are_rounded_to_float16_are_the_same(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_in(monkeypatch, change=lambda rows: rows.astype(np.float16).astype(np.float32))
    with Engine.open(half, context=128, providers="openvino,cpu") as engine:
        engine.open_towers()
        assert engine.where["vision.onnx"] == "openvino"


class Foreign(Exception):
    """As those of onnxruntime are, of no kind of ours."""


@pytest.mark.parametrize(
    "error", [RuntimeFailure("libcudnn.so.9: cannot open"), MemoryExhausted("out of memory"), Foreign("CUDA failure 2")]
)
def test_what_cannot_be_opened_is_said_once_and_runs_on_the_cpu(
    half: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    opened = stands_in(monkeypatch, fails=error)
    with Engine.open(half, context=128) as engine:
        wanted = answer(engine)
    with (
        caplog.at_level(logging.WARNING, "edge"),
        Engine.open(half, context=128, providers="cuda,tensorrt,cpu") as engine,
    ):
        assert answer(engine) == wanted
        engine.open_towers()
        assert set(engine.where.values()) == {"cpu"}
    assert [graph for graph, *_ in opened] == ["decoder.onnx", "vision.onnx", "vision.onnx"]
    assert [message.partition(": ")[0] for message in caplog.messages] == [
        "decoder.onnx does not run on CUDA",
        "vision.onnx does not run on TensorRT",
        "vision.onnx does not run on CUDA",
    ]
    assert all(str(error) in message for message in caplog.messages)
    assert "CUDA is tried next" in caplog.messages[1] and "the CPU computes it" in caplog.messages[2]


def test_without_the_cpu_a_failure_is_an_error(half: Path, fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_in(monkeypatch, fails=RuntimeFailure("libcudnn.so.9: cannot open"))
    with pytest.raises(RuntimeFailure, match=r"decoder.onnx does not run on CUDA: libcudnn.so.9"):
        Engine.open(half, context=128, providers=["cuda"])
    with pytest.raises(ParameterError, match="no CUDA kernel.*or add cpu"):
        Engine.open(fp32_bundle, context=128, providers=["cuda"])


def test_the_cpus_result_is_computed_once_and_kept(half: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_in(monkeypatch)
    with Engine.open(half, context=128, providers="cuda,cpu"):
        pass
    (folder,) = kept.iterdir()
    file = folder / "decoder.onnx.npy"
    logits = np.load(file)
    assert logits.shape[0] == 3
    assert folder.stat().st_mode & 0o777 == kept.stat().st_mode & 0o777 == 0o700
    np.save(file, logits * np.float32(2))  # the next start compares with what is kept
    with Engine.open(half, context=128, providers="cuda,cpu") as engine:
        assert engine.where["decoder.onnx"] == "cpu"
    file.write_bytes(b"damaged")
    with Engine.open(half, context=128, providers="cuda,cpu") as engine:
        assert engine.where["decoder.onnx"] == "cuda"
    assert np.array_equal(np.load(file), logits)


def test_a_folder_that_others_can_read_is_not_used(
    half: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept.mkdir()
    kept.chmod(0o755)
    stands_in(monkeypatch)
    with caplog.at_level(logging.WARNING, "edge"), Engine.open(half, context=128, providers="cuda,cpu") as engine:
        assert engine.where["decoder.onnx"] == "cuda"
    assert "expected a folder of this user" in caplog.text and not [*kept.iterdir()]
    assert Built(half).folder is None


def test_what_memory_does_not_allow_to_compare_is_said(
    half: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stands_in(monkeypatch)
    monkeypatch.setattr(placing, "available_bytes", lambda: 0)
    with caplog.at_level(logging.WARNING, "edge"), Engine.open(half, context=128, providers="cuda,cpu") as engine:
        assert engine.where["decoder.onnx"] == "cuda"
    assert "decoder.onnx is not compared with what the CPU computes" in caplog.text


def test_the_encoder_of_a_speech_bundle_runs_where_it_may(
    speech_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    samples = np.sin(np.arange(16_000) / 20).astype(np.float32)
    wanted = Speech.open(speech_bundle).transcribe(samples)
    opened = stands_in(monkeypatch)
    assert Speech.open(speech_bundle, providers="tensorrt,cuda,cpu").transcribe(samples) == wanted
    assert [graph for graph, *_ in opened] == ["encoder.onnx"]
    stands_in(monkeypatch, change=lambda rows: rows * np.float32(2))
    with caplog.at_level(logging.WARNING, "edge"):
        assert Speech.open(speech_bundle, providers="cuda,cpu").transcribe(samples) == wanted
    assert "encoder.onnx does not run on CUDA: its result is 1 away from the CPU's" in caplog.text


def test_a_float16_bundle_has_no_other_keys_and_is_not_packed(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_PACKED", raising=False)
    with Engine.open(half, context=128) as engine:
        assert engine.kv == "fp16"
    for kv in ("int8", "fp32"):
        with pytest.raises(ParameterError, match=f"keeps keys and values as fp16, not as {kv}"):
            Engine.open(half, kv=kv)
    with pytest.raises(BundleError, match="packing is for the CPU's kernels"):
        packing.pack(half)
    assert not packing.is_worth_it(half)


def test_keys_in_float16_take_half_the_bytes(half: Path, fp32_bundle: Path) -> None:
    with Engine.open(half, context=128) as small, Engine.open(fp32_bundle, context=128) as large:
        assert 2 * small.stats().cache_bytes == large.stats().cache_bytes


def test_clients_of_one_bundle_agree_on_its_providers(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_in(monkeypatch)
    with Reka(model=half, providers=["cuda", "cpu"]) as client:
        client.chat.create(model="reka-edge", messages=[{"role": "user", "content": "x"}], max_tokens=1)
        with pytest.raises(ParameterError, match="providers: .* is open with"):
            Reka(model=half, providers=["cpu"])
        with Reka(model=half, providers="CUDA,cpu"):
            pass
