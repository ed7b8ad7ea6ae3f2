"""What edge doctor says of GPUs, and --providers."""

from collections.abc import Callable

import pytest

from edge.commands import acceleration
from edge.engine import jetson, providers, session
from edge.engine.jetson import Jetson

Run = Callable[..., tuple[int, str, str]]


def test_doctor_names_the_wheel_and_its_providers() -> None:
    checks = {check.name: check for check in acceleration.hardware()}
    assert "board" not in checks and checks["onnxruntime"].good
    found = acceleration.found_providers()
    assert found.name == "providers" and found.found == "cpu" and found.good


def test_doctor_names_a_jetson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetson, "found", lambda: Jetson("NVIDIA Jetson Orin Nano", "36.4.3"))
    board = next(iter(acceleration.hardware()))
    assert board.name == "board" and board.good
    assert board.found.startswith("NVIDIA Jetson Orin Nano, Jetson Linux 36.4.3, JetPack 6, CUDA 12.6")
    assert "docs/jetson.md" in acceleration.of_board(Jetson("a Jetson", None))


def test_two_wheels_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "wheels", lambda: {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"})
    (check,) = acceleration.hardware()
    assert not check.good and "pip uninstall" in check.found
    monkeypatch.setattr(acceleration, "wheels", dict)
    (check,) = acceleration.hardware()
    assert not check.good and check.found == "not installed"


@pytest.mark.parametrize(("asked", "good"), [("cpu", True), ("cuda,cpu", False)])
def test_a_library_that_is_missing_fails_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, *, asked: str, good: bool
) -> None:
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(session, "available_providers", lambda: names)
    monkeypatch.setattr(session, "missing_library", lambda _: "libcudnn.so.9: cannot open shared object file")
    monkeypatch.setenv(providers.VARIABLE, asked)
    check = acceleration.found_providers()
    assert check.good is good
    assert "cuda (cannot be loaded: libcudnn.so.9: cannot open shared object file)" in check.found


def test_what_computes_is_told_where_it_is_not_the_cpu_alone() -> None:
    assert acceleration.where({"decoder.onnx": "cpu", "vision.onnx": "cpu"}) == ""
    told = acceleration.where({"vision.onnx": "tensorrt", "decoder.onnx": "cuda"})
    assert told == ", decoder.onnx on CUDA, vision.onnx on TensorRT"


@pytest.mark.parametrize("command", ["chat", "serve", "bench", "doctor", "watch", "detect", "transcribe"])
def test_providers_that_are_none_end_a_command_before_anything_is_opened(run: Run, command: str) -> None:
    file = ["x.wav"] if command == "transcribe" else []
    status, _, told = run(command, *file, "--providers", "gpu")
    assert status != 0 and "--providers: expected cpu, cuda, tensorrt, openvino" in told
    status, _, told = run(command, *file, "--providers", "cuda,cpu")
    assert status != 0 and "cuda is not in this onnxruntime" in told and "onnxruntime-gpu" in told
